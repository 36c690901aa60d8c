# One image for the daemon and the proxies: docker run IMAGE control|proxy --config /etc/pointsman/pointsman.yaml
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv /opt/pointsman \
    && /opt/pointsman/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY daemon daemon
RUN PATH="/opt/pointsman/bin:$PATH" pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/pointsman/bin/pip uninstall --yes uv_build

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/pointsman --create-home pointsman
COPY --from=build /opt/pointsman /opt/pointsman
ENV PATH="/opt/pointsman/bin:$PATH" \
    STATE_DIRECTORY=/var/lib/pointsman \
    PYTHONUNBUFFERED=1
USER pointsman
VOLUME /var/lib/pointsman
ENTRYPOINT ["pointsman"]
CMD ["--help"]
