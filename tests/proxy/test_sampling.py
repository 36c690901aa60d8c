"""Which requests are traced: as their callers say, and else by lot. What is not traced costs next to nothing."""

import random
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import pytest
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from pointsman import _otlp, telemetry
from pointsman.proxy.spans import Sampled

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = f"00-{TRACE}-b7ad6b7169203331"
ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def drawing(ratio: float) -> tuple[Tracer, InMemorySpanExporter]:
    """A tracer as `telemetry.setup` makes it, but for where its spans go."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=_otlp._ByPlane(ratio), id_generator=_otlp._DrawnIds(ratio))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


class Untouched(Tracer):
    """A tracer that fails the test when a span is begun; it draws as `drawing` does at the ratio 0."""

    def __init__(self) -> None:
        self.id_generator = _otlp._DrawnIds(0.0)

    def start_span(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a span is begun")

    start_as_current_span = start_span


def test_who_has_no_parent_is_sampled_by_lot() -> None:
    """By the ratio, and each in a trace of its own whose id is one that the ratio samples, here as anywhere."""
    random.seed(1)
    tracer, _ = drawing(0.25)
    sampled = Sampled(tracer)
    found = [span for _ in range(1_000) if (span := sampled.span({}))]
    ids = {span.get_span_context().trace_id for span in found}
    assert 200 < len(found) == len(ids) < 300
    assert max(trace & (1 << 64) - 1 for trace in ids) < 1 << 62


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
def test_who_is_traced_by_its_caller_is_traced_here(flags: str) -> None:
    """In the caller's trace, though the ratio would sample nobody."""
    tracer, exporter = drawing(0.0)
    span = Sampled(tracer).span({"traceparent": f"{PARENT}-{flags}".encode()})
    assert span is not None
    span.end()
    (told,) = exporter.get_finished_spans()
    assert (format(told.context.trace_id, "032x"), told.parent and told.parent.is_remote) == (TRACE, True)


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_who_is_not_traced_by_its_caller_is_not_traced_here(flags: str) -> None:
    """Though the ratio would sample everybody."""
    tracer, _ = drawing(1.0)
    assert Sampled(tracer).span({"traceparent": f"{PARENT}-{flags}".encode()}) is None


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize(
    "parent",
    [
        f"00-{'0' * 32}-b7ad6b7169203331-00",
        f"00-{TRACE}-{'0' * 16}-00",
        f"ff-{TRACE}-b7ad6b7169203331-00",
        f"{PARENT}-00-more",
        f"{PARENT}-0",
        f"{PARENT}-00".upper(),
        "",
        "\xe9",
    ],
    ids=["no-trace", "no-span", "version-ff", "longer", "shorter", "capitals", "empty", "odd"],
)
def test_what_is_no_parent_leaves_it_to_the_lot(parent: str, ratio: float) -> None:
    """As the propagator reads it: only what is sound decides."""
    tracer, _ = drawing(ratio)
    span = Sampled(tracer).span({"traceparent": parent.encode("latin-1")})
    assert (span is not None) == (ratio == 1.0)


@pytest.mark.parametrize(
    "parent", [f" {PARENT}-00 ", f"01-{TRACE}-b7ad6b7169203331-00-more"], ids=["blanks", "later-version"]
)
def test_a_sound_parent_in_another_form_still_decides(parent: str) -> None:
    """With blanks around it, or of a version to come."""
    tracer, _ = drawing(1.0)
    assert Sampled(tracer).span({"traceparent": parent.encode()}) is None


@pytest.mark.parametrize("headers", [{}, {"traceparent": f"{PARENT}-00".encode()}], ids=["lot", "parent"])
def test_nothing_is_begun_for_who_is_not_sampled(headers: dict[str, bytes]) -> None:
    """The tracer is not even asked."""
    assert Sampled(Untouched()).span(headers) is None


def test_the_lots_of_requests_leave_the_control_planes_spans_alone() -> None:
    """They are kept whatever was drawn before them, each in a trace of its own."""
    tracer, exporter = drawing(0.0)
    for _ in range(9):
        assert Sampled(tracer).span({}) is None
        tracer.start_span(telemetry.CONTROL_DECIDE).end()
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 9


def test_a_lot_decides_for_nobody_else() -> None:
    """What was drawn for a request that is not sampled is gone: the next one is, as often as any."""
    random.seed(1)
    sampled = Sampled(drawing(0.5)[0])
    after = [sampled.span({"traceparent": b""}) for _ in range(400) if sampled.span({}) is None]
    assert 0.4 < len([span for span in after if span]) / len(after) < 0.6


def test_a_tracer_that_cannot_draw_is_asked() -> None:
    """What it does not sample is no span here, so that there are none of its attempts either."""
    assert Sampled(TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")).span({}) is None
    assert Sampled(TracerProvider().get_tracer("test")).span({}) is not None


class OwnHeader(TextMapPropagator):
    """Says in a header of its own that the caller traces the request."""

    fields = frozenset({"x-trace"})

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        span = SpanContext(int(carrier["x-trace"], 16), 7, is_remote=True, trace_flags=TraceFlags(1))
        return set_span_in_context(NonRecordingSpan(span), context)

    def inject(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError


@pytest.fixture
def own_header() -> Iterator[None]:
    """The operator has chosen another propagator (OTEL_PROPAGATORS)."""
    before = get_global_textmap()
    set_global_textmap(OwnHeader())
    yield
    set_global_textmap(before)


@pytest.mark.usefixtures("own_header")
def test_another_propagator_is_asked_for_the_parent() -> None:
    """What it reads, from whatever headers, decides."""
    span = Sampled(drawing(0.0)[0]).span({"x-trace": TRACE.encode()})
    assert span is not None
    assert format(span.get_span_context().trace_id, "032x") == TRACE


@pytest.mark.anyio
async def test_who_is_not_sampled_travels_with_the_callers_trace(world: Any, running_proxy: Any) -> None:
    """No span is begun, for the request or its attempts; the provider gets the caller's headers as they came."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(ANSWER)

    first = await world.scripted("a", script)
    world.route("chat", chain="a")
    await world.publish()
    trace = {"traceparent": f"{PARENT}-00", "tracestate": "vendor=1"}
    async with running_proxy(tracer=Untouched()) as caller:
        assert (await caller.chat(headers=trace)).status == 200
    (request,) = first.requests
    assert f"traceparent: {PARENT}-00\r\n".encode() in request
    assert b"tracestate: vendor=1\r\n" in request
