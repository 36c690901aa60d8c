"""Streams: passed on as they come, and ended honestly when they break."""

import json
from typing import Any

import aiohttp
import anyio
import pytest

from pointsman.fake import Fault, Kind
from support import eventually

pytestmark = pytest.mark.anyio

VERSION = {"anthropic-version": "2023-06-01"}
APIS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("openai", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    "responses": ("openai", "/v1/responses", {"input": "hi"}),
    "messages": (
        "anthropic",
        "/v1/messages",
        {"max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]},
    ),
}
LAST = {
    "chat": b"data: [DONE]",
    "responses": b"event: response.completed",
    "messages": b"event: message_stop",
}
BREAKS = {
    "stall": Fault(kind=Kind.STALL, after_events=3),
    "truncate": Fault(kind=Kind.TRUNCATE, after_events=3),
    "truncate under a length": Fault(kind=Kind.TRUNCATE, after_events=3, framing="length"),
    "abort": Fault(kind=Kind.ABORT, after_events=3),
    "break": Fault(kind=Kind.BREAK, after_events=3),
}


async def two(world: Any, api: str, **options: Any) -> tuple[Any, Any, str, dict[str, Any]]:
    """Providers a and b of the API's family, the path and a streaming body."""
    family, path, body = APIS[api]
    first, second = await world.provider("a", family, **options), await world.provider("b", family)
    world.route("r", family, chain="a b")
    await world.publish()
    return first, second, path, {"model": "r", "stream": True, **body}


def events(body: bytes) -> list[dict[str, Any]]:
    """The decoded data of every event, [DONE] left out."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@pytest.mark.parametrize("api", APIS)
async def test_a_stream_arrives_byte_for_byte(world: Any, running_proxy: Any, api: str) -> None:
    """What a direct caller gets, but for ids and times, a caller of the proxy gets."""
    first, _, path, body = await two(world, api)
    async with running_proxy() as caller:
        through = await caller.ask(path, body, VERSION)
        headers = VERSION | {"authorization": "Bearer sk-provider-secret-a"}
        url = first.origin + path
        async with caller.session.post(url, json=body | {"model": "a-model"}, headers=headers) as response:
            direct = await response.read()
    assert through.whole
    assert LAST[api] in through.body
    assert len(through.body) == len(direct)
    assert [event.get("type") for event in events(through.body)] == [
        event.get("type") for event in events(direct)
    ]


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("api", APIS)
async def test_a_broken_stream_never_looks_whole(
    world: Any, running_proxy: Any, api: str, fault: str
) -> None:
    """The family's own error comes last, no terminal event, and the framing does not end; nobody else is asked."""
    first, second, path, body = await two(world, api)
    first.set_faults(BREAKS[fault])
    async with running_proxy(timeouts={"idle_s": 0.5}) as caller:
        answer = await caller.ask(path, body, VERSION)
    assert answer.status == 200
    assert not answer.whole
    assert LAST[api] not in answer.body
    last = events(answer.body)[-1]
    assert "broke off" in (last["error"]["message"] if "error" in last else last["message"])
    if api == "responses":
        assert events(answer.body)[-2]["type"] == "response.failed"
    if api == "messages":
        assert last["type"] == "error"
    assert second.requests.total == 0


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_stream_counts_as_an_outage(world: Any, running_proxy: Any, fault: str) -> None:
    """Streams are judged by how they end."""
    first, _, path, body = await two(world, "messages")
    first.set_faults(BREAKS[fault])
    async with running_proxy(timeouts={"idle_s": 0.5}) as caller:
        await caller.ask(path, body, VERSION)
        lane = await eventually(lambda: stream_lane(world))
    assert lane.streak == 1
    assert lane.detail


async def stream_lane(world: Any) -> Any:
    """The stream lane of a, once the proxy has reported a failure of it."""
    for report in await world.store.reports():
        if "a" in report.targets and report.targets["a"].counts.get("outage", 0) + report.targets[
            "a"
        ].counts.get("overload", 0):
            return report.targets["a"].lanes["stream"]
    return None


@pytest.mark.parametrize("api", APIS)
async def test_the_providers_own_error_event_passes_and_counts(
    world: Any, running_proxy: Any, api: str
) -> None:
    """After the first event there is no falling over: the error reaches the caller as it came."""
    first, second, path, body = await two(world, api)
    first.set_faults(Fault(kind=Kind.ERROR_EVENT, after_events=3, status=503))
    async with running_proxy() as caller:
        answer = await caller.ask(path, body, VERSION)
        lane = await eventually(lambda: stream_lane(world))
    assert LAST[api] not in answer.body
    assert b"broke off" not in answer.body
    assert b'"error"' in answer.body
    assert second.requests.total == 0
    assert lane.streak == 1


async def test_silence_gets_pings(world: Any, running_proxy: Any) -> None:
    """Between two slow events the caller hears a sign of life, in the family's own form."""
    await two(world, "messages", token_delay_ms=250.0, tokens=3)
    _, path, body = APIS["messages"]
    async with running_proxy(ping_after_s=0.1) as caller:
        answer = await caller.ask(path, {"model": "r", "stream": True, **body}, VERSION)
    kinds = [event["type"] for event in events(answer.body)]
    assert answer.whole
    assert kinds.count("ping") >= 3
    assert kinds[-1] == "message_stop"


async def test_events_arrive_as_they_are_made(world: Any, running_proxy: Any) -> None:
    """The first event is there long before the last is made."""
    await two(world, "chat", token_delay_ms=100.0, tokens=20)
    async with (
        running_proxy() as caller,
        caller.post("/v1/chat/completions", {"model": "r", "stream": True, "messages": []}) as response,
    ):
        with anyio.fail_after(1.5):
            assert await response.content.readany()
        assert not response.content.at_eof()


async def test_a_caller_who_hangs_up_is_heard_at_once(world: Any, running_proxy: Any) -> None:
    """The provider's connection is closed, and the target is not blamed."""
    first, second, path, body = await two(world, "chat", token_delay_ms=50.0, tokens=1000)
    async with running_proxy() as caller:
        async with caller.post(path, body) as response:
            await response.content.readany()
        await eventually(lambda: first.requests.by_outcome["abandoned"] == 1, timeout_s=2.0)

        async def told() -> Any:
            report = (await world.store.reports())[0].targets.get("a")
            return report is not None and report.counts

        assert await eventually(told) == {"abandoned": 1}
    assert second.requests.total == 0


async def test_a_caller_who_hangs_up_while_waiting_is_heard_too(world: Any, running_proxy: Any) -> None:
    """Before any byte of the answer; nobody else is asked."""
    first, second, path, body = await two(world, "chat")
    first.set_faults(Fault(kind=Kind.SLOW, delay_ms=60_000.0))
    async with running_proxy() as caller:
        with anyio.move_on_after(0.3):
            async with caller.post(path, body):
                pass
        await eventually(lambda: first.requests.by_outcome["abandoned"] == 1, timeout_s=2.0)
        status = (await caller.admin("GET", "/status")).json
    assert status["in_flight"] == 0
    assert second.requests.total == 0


async def test_a_caller_who_does_not_read_slows_the_provider_down(world: Any, running_proxy: Any) -> None:
    """Backpressure: an endless stream is not drawn into the proxy's memory."""
    first, _, path, body = await two(world, "chat", tokens=2_000_000)
    async with (
        running_proxy() as caller,
        aiohttp.ClientSession(read_bufsize=1024) as slow,
        slow.post(caller.url + path, json=body) as response,
    ):
        await response.content.readexactly(10)
        before = -1
        with anyio.fail_after(30):
            while before != first.requests.last.events:
                before = first.requests.last.events
                await anyio.sleep(0.3)
        assert first.requests.last.outcome == "open"
        assert before < 200_000


async def test_a_long_stream_is_not_cut_by_the_deadline_of_its_first_byte(
    world: Any, running_proxy: Any
) -> None:
    """It takes longer than every timeout, and no event waits for long."""
    await two(world, "chat", token_delay_ms=100.0, tokens=20)
    timeouts = {"first_byte_s": 0.6, "idle_s": 0.6, "response_s": 0.6}
    async with running_proxy(timeouts=timeouts) as caller:
        answer = await caller.chat(model="r", stream=True)
    assert answer.whole
    assert LAST["chat"] in answer.body
