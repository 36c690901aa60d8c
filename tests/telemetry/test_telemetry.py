"""Spans: what arrives at a real OTLP/HTTP receiver, and what never leaves."""

import contextlib
import gzip
import socket
from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import StatusCode

from pointsman import logs, telemetry
from pointsman.config.models import TelemetrySettings

pytestmark = pytest.mark.anyio
PLANTED = "otlp-pl4nted-secret"


class Receiver:
    """An OTLP/HTTP receiver on loopback; `spans` by name, `raw` all bytes."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[ExportTraceServiceRequest] = []
        self.raw = b""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw += body
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response()

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def attributes(self, name: str) -> dict[str, str | int]:
        (span,) = [span for span in self.spans if span.name == name]
        return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@contextlib.asynccontextmanager
async def telemetry_to(endpoint: str, *, ratio: float = 1.0) -> AsyncIterator[telemetry.Telemetry]:
    settings = TelemetrySettings(otlp_endpoint=endpoint, sample_ratio=ratio)
    async with telemetry.setup(settings, service="pointsman-control", instance="a") as made:
        yield made


async def test_spans_arrive_with_their_resource(receiver: Receiver) -> None:
    """A span is sent with its parent, its attributes and the process's name."""
    async with telemetry_to(receiver.endpoint) as made:
        with (
            made.tracer.start_as_current_span(telemetry.PROBE_ROUND),
            made.tracer.start_as_current_span(telemetry.PROBE) as span,
        ):
            span.set_attribute(telemetry.GEN_AI_REQUEST_MODEL, "claude-haiku-4-5")
        assert await made.force_flush()
        assert receiver.attributes("probe") == {"gen_ai.request.model": "claude-haiku-4-5"}
    probe, probes = receiver.spans
    assert probe.parent_span_id == probes.span_id
    resource = receiver.requests[0].resource_spans[0].resource
    said = {pair.key: pair.value.string_value for pair in resource.attributes}
    assert said["service.name"] == "pointsman-control"
    assert said["service.instance.id"] == "a"


async def test_shutdown_sends_what_is_waiting(receiver: Receiver) -> None:
    """Ending telemetry loses no span."""
    async with telemetry_to(receiver.endpoint) as made:
        made.tracer.start_span(telemetry.CONTROL_DECIDE).end()
    assert [span.name for span in receiver.spans] == ["control.decide"]


async def test_requests_are_sampled_and_control_is_not(receiver: Receiver) -> None:
    """At ratio 0 no request is traced, and none of its children, while every decision is."""
    async with telemetry_to(receiver.endpoint, ratio=0.0) as made:
        for _ in range(20):
            with made.tracer.start_as_current_span(telemetry.PROXY_REQUEST):
                made.tracer.start_span(telemetry.PROXY_ATTEMPT).end()
            made.tracer.start_span(telemetry.CONTROL_DECIDE).end()
    assert [span.name for span in receiver.spans] == ["control.decide"] * 20


async def test_children_of_a_sampled_request_are_sampled(receiver: Receiver) -> None:
    """A traced request is traced whole."""
    async with telemetry_to(receiver.endpoint, ratio=1.0) as made:
        with made.tracer.start_as_current_span(telemetry.PROXY_REQUEST):
            made.tracer.start_span(telemetry.PROXY_ATTEMPT).end()
    assert {span.name for span in receiver.spans} == {"proxy.request", "proxy.attempt"}


async def test_no_secret_leaves(receiver: Receiver) -> None:
    """Attributes, events, exceptions, statuses and names go out without keys, queries and headers."""
    logs.register_secret(PLANTED)
    async with telemetry_to(receiver.endpoint) as made:
        span = made.tracer.start_span("probe")
        span.set_attribute("url.full", "https://host.example/v1/models?key=abcdefgh&alt=sse")
        span.set_attribute("url.path", "/v1/models?token=abcdefgh")
        span.set_attribute("http.request.header.x-api-key", "abcdefgh")
        span.set_attribute("http.response.header.set-cookie", ["abcdefgh"])
        span.set_attribute("list", [f"a {PLANTED}", "sk-ant-abcdefgh"])
        span.set_attribute(telemetry.DETAIL, f"Bearer {PLANTED}")
        span.set_attribute(telemetry.HTTP_STATUS, 503)
        span.add_event(f"event {PLANTED}", {"why": PLANTED})
        span.record_exception(ValueError(f"cannot reach https://u:{PLANTED}@host.example/?sig=abcdefgh"))
        span.set_status(StatusCode.ERROR, f"said {PLANTED}")
        span.end()
        made.tracer.start_span(f"name {PLANTED}").end()
    assert len(receiver.spans) == 2
    assert PLANTED.encode() not in receiver.raw
    assert b"abcdefgh" not in receiver.raw
    left = receiver.attributes("probe")
    assert left["url.full"] == "https://host.example/v1/models"
    assert left["url.path"] == "/v1/models"
    assert left[telemetry.HTTP_STATUS] == 503
    assert not [name for name in left if "header" in name]


async def test_without_an_endpoint_nothing_happens() -> None:
    """No endpoint: spans are not recorded, and flushing and ending are immediate."""
    async with telemetry.setup(TelemetrySettings(), service="pointsman-proxy", instance="b") as made:
        assert not made.enabled
        with made.tracer.start_as_current_span(telemetry.PROXY_REQUEST) as span:
            assert not span.is_recording()
        assert await made.force_flush()


async def test_a_dead_receiver_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending takes at most the flush time-out when nobody takes the spans."""
    monkeypatch.setattr(telemetry, "FLUSH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with anyio.fail_after(telemetry.FLUSH_TIMEOUT_S + 2):
            async with telemetry_to(f"http://127.0.0.1:{port}") as made:
                made.tracer.start_span(telemetry.PROBE).end()
