"""The public listener: finds the API, the route and the caller of a request, and hands it to the forwarder."""

import secrets
import time
from collections.abc import Callable
from urllib.parse import unquote

import anyio
from aiohttp import web
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, Tracer

from pointsman import logs
from pointsman import telemetry as t
from pointsman.core.model import Family
from pointsman.proxy.api import (
    FAMILY_OF,
    Api,
    api_of,
    error_response,
    looks_anthropic,
    model_body,
    models_body,
)
from pointsman.proxy.body import BodyError
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.job import Job
from pointsman.proxy.requests import Record, Ring
from pointsman.proxy.view import View

log = logs.get("proxy")


class TooLargeError(Exception):
    """The body is larger than the proxy takes."""


class Front:
    """Answers every request that comes in at the public address."""

    def __init__(
        self,
        forwarder: Forwarder,
        view: Callable[[], View | None],
        stale_s: Callable[[], float | None],
        ring: Ring,
        tracer: Tracer,
        *,
        body_bytes_max: int,
    ) -> None:
        self._forwarder = forwarder
        self._view = view
        self._stale_s = stale_s
        self._ring = ring
        self._tracer = tracer
        self._body_bytes_max = body_bytes_max
        self.in_flight = 0
        self._idle = anyio.Event()

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        while self.in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        self.in_flight += 1
        try:
            reply = await self._dispatch(request)
        except ConnectionError:
            _cut(request)
            reply = web.Response(status=499)  # the caller is gone; nobody reads this
        except Exception:  # the border of a request: a bug must not end the proxy
            log.exception("a request failed for a reason of our own", path=request.rel_url.raw_path)
            _cut(request)
            reply = error_response(
                _family(request), 500, "the proxy failed on this request; its log says why"
            )
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
        return reply

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        method, path = request.method, request.rel_url.raw_path
        if path in {"/", "/-/health"} and method in {"GET", "HEAD"}:
            return web.Response(text="" if method == "HEAD" else "pointsman\n")
        view = self._view()
        if path == "/-/ready" and method in {"GET", "HEAD"}:
            return self._ready(view)
        family = _family(request)
        if view is None:
            message = "this proxy has no routing table yet: it waits for the daemon's first one"
            return error_response(family, 503, message, headers={"retry-after": "1"})
        if method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")):
            return _models(family, view, unquote(path.removeprefix("/v1/models").removeprefix("/")))
        api = api_of(method, path)
        if api is None:
            return error_response(family, 404, f"nothing is served at {method} {path[:100]}")
        return await self._serve(request, Api(api), FAMILY_OF.get(api, family), view)

    def _ready(self, view: View | None) -> web.Response:
        """Is there a table to route by, which, and for how many seconds has the store not confirmed it?"""
        stale_s = self._stale_s()
        known = "never" if stale_s is None else f"{stale_s:.1f}"
        if view is None:
            return web.Response(status=503, text=f"no table yet\nstale_s: {known}\n")
        return web.Response(text=f"ready\ntable: {view.version}\nstale_s: {known}\n")

    async def _serve(
        self, request: web.BaseRequest, api: Api, family: Family, view: View
    ) -> web.StreamResponse:
        job = Job(
            id=secrets.token_hex(12),
            api=api,
            family=family,
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            headers=list(request.headers.items()),
            low={name.lower(): value for name, value in request.headers.items()},
            body=b"",
            view=view,
        )
        try:
            job.body = await _read(request, self._body_bytes_max)
            if api is Api.ACCOUNT:
                job.route = _account_route(job)
            else:
                job.read_head(self._body_bytes_max)
        except TooLargeError as error:
            return error_response(family, 413, str(error), headers=job.own_headers)
        except BodyError as error:
            return error_response(family, 400, str(error), headers=job.own_headers)
        route = view.table.routes.get(job.route)
        if route is None or route.family != family:
            return _unknown_route(job)
        job.identify(route.sticky_by, request.remote or "")
        return await self._traced(request, job)

    async def _traced(self, request: web.BaseRequest, job: Job) -> web.StreamResponse:
        job.record = Record(
            id=job.id,
            at_s=time.time(),
            route=job.route,
            api=job.api.value,
            key="" if job.key is None else f"{job.key:016x}",
            table=job.view.version,
            attempts=[],
        )
        self._ring.add(job.record)
        span = self._tracer.start_span(
            t.PROXY_REQUEST, context=extract(request.headers), kind=SpanKind.SERVER
        )
        try:
            reply = await self._forwarder.forward(request, job, span)
            job.record.status = reply.status
            return reply
        finally:
            if span.is_recording():
                span.set_attribute(t.GEN_AI_OPERATION_NAME, job.api.value)
                span.set_attribute(t.GEN_AI_REQUEST_MODEL, job.route)
                span.set_attribute(t.ROUTE, job.route)
                span.set_attribute(t.REQUEST_ID, job.id)
                span.set_attribute(t.TABLE_VERSION, job.view.version)
                span.set_attribute(t.HTTP_STATUS, job.record.status)
                if job.synthetic:
                    span.set_attribute(t.SYNTHETIC, True)
            span.end()


def _cut(request: web.BaseRequest) -> None:
    """Where an answer has begun, a second one would stand in the middle of it: end the connection instead."""
    if request.writer.output_size and request.transport is not None:
        request.transport.close()


def _family(request: web.BaseRequest) -> Family:
    """Whose shape to answer in, before the API is known."""
    path = request.rel_url.raw_path
    return (
        Family.ANTHROPIC if looks_anthropic(path, "anthropic-version" in request.headers) else Family.OPENAI
    )


def _routes(view: View, family: Family) -> list[str]:
    return sorted(name for name, route in view.table.routes.items() if route.family == family)


def _models(family: Family, view: View, name: str) -> web.Response:
    routes = _routes(view, family)
    if not name:
        return web.Response(body=models_body(family, routes), content_type="application/json")
    if name in routes:
        return web.Response(body=model_body(family, name), content_type="application/json")
    return error_response(
        family, 404, f"there is no route {name[:130]}; there are {', '.join(routes) or 'none'}"
    )


def _unknown_route(job: Job) -> web.Response:
    known = ", ".join(_routes(job.view, job.family)) or "none"
    message = f"no {job.family.value} route is called {job.route[:130]!r}; the routes are {known}"
    return error_response(job.family, 404, message, headers=job.own_headers, code="model_not_found")


def _account_route(job: Job) -> str:
    """Files, batches and stored responses name no model: a header names the route, unless there is only one."""
    routes = _routes(job.view, job.family)
    named = job.low.get("x-pointsman-route", "")
    if not named and len(routes) != 1:
        raise BodyError(
            "say whose account is meant: set the header x-pointsman-route to one of " + ", ".join(routes)
        )
    return named or routes[0]


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    """The body as it came. Raises TooLargeError as soon as it is known to be larger than `limit`."""
    message = f"the body is larger than {limit >> 20} MiB (proxy.max_body_mb)"
    if (request.content_length or 0) > limit:
        raise TooLargeError(message)
    if request.headers.get("expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    parts: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLargeError(message)
    return b"".join(parts)
