"""The trace of a request."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

pytestmark = pytest.mark.anyio

MESSAGE = b'{"model":"claude","max_tokens":9,"messages":[]}'


async def test_a_request_is_a_span_with_its_attempts_below(world: Any, running_proxy: Any) -> None:
    """By the GenAI conventions, in the caller's own trace, without any secret."""
    first, _ = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    first.die()
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with running_proxy(tracer=provider.get_tracer("test")) as caller:
        await caller.chat(headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    failed, served, request = exporter.get_finished_spans()
    assert [span.name for span in (failed, served, request)] == [
        "proxy.attempt",
        "proxy.attempt",
        "proxy.request",
    ]
    assert format(request.context.trace_id, "032x") == trace
    assert served.parent.span_id == request.context.span_id
    assert request.attributes["gen_ai.operation.name"] == "chat"
    assert request.attributes["http.response.status_code"] == 200
    assert (failed.kind, served.kind, request.kind) == (SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.SERVER)
    assert served.attributes["gen_ai.operation.name"] == "chat"
    assert served.attributes["gen_ai.provider.name"] == "openai"
    assert served.attributes["pointsman.provider"] == "b"
    assert failed.attributes["pointsman.fault"] == failed.attributes["error.type"] == "outage"
    assert "gen_ai.usage.output_tokens" not in failed.attributes
    assert "error.type" not in served.attributes
    assert served.attributes["gen_ai.request.model"] == "b-model"
    assert served.attributes["gen_ai.usage.output_tokens"] > 0
    assert "secret" not in "".join(span.to_json() for span in (failed, served, request))


async def test_a_request_that_nobody_served_is_an_error(world: Any, running_proxy: Any) -> None:
    """So is a message called by its name in the conventions: chat."""
    fake = await world.provider("a", "anthropic")
    world.route("claude", chain="a", family="anthropic")
    await world.publish()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    fake.die()
    async with running_proxy(tracer=provider.get_tracer("test")) as caller:
        assert (await caller.ask("/v1/messages", MESSAGE)).status == 502
    attempt, request = exporter.get_finished_spans()
    assert (request.status.status_code, request.attributes["error.type"]) == (StatusCode.ERROR, "502")
    assert (
        request.attributes["gen_ai.operation.name"] == attempt.attributes["gen_ai.operation.name"] == "chat"
    )
    assert attempt.attributes["gen_ai.provider.name"] == "anthropic"


async def test_synthetic_traffic_is_marked_in_its_spans(world: Any, running_proxy: Any) -> None:
    """The request and its attempts, so that dashboards can leave them out; a caller's are not."""
    await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with running_proxy(tracer=provider.get_tracer("test")) as caller:
        await caller.chat(headers={"x-pointsman-synthetic": "1"})
        await caller.chat()
    marks = [span.attributes.get("pointsman.synthetic") for span in exporter.get_finished_spans()]
    assert marks == [True, True, None, None]
