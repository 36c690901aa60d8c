"""Falling along the chain: what the caller never notices, and what he is told when nothing is left."""

import time
from typing import Any

import anyio
import pytest

from pointsman.core.table import Trial
from pointsman.fake import Fault, Kind
from support import eventually

pytestmark = pytest.mark.anyio

FAULTS = {
    "refuse": Fault(kind=Kind.REFUSE),
    "reset": Fault(kind=Kind.RESET),
    "hang": Fault(kind=Kind.HANG),
    "500": Fault(kind=Kind.STATUS, status=500),
    "503": Fault(kind=Kind.STATUS, status=503),
    "529": Fault(kind=Kind.STATUS, status=529),
    "401": Fault(kind=Kind.STATUS, status=401),
    "429": Fault(kind=Kind.STATUS, status=429, retry_after_s=30.0),
    "garbage": Fault(kind=Kind.GARBAGE),
    "error body": Fault(kind=Kind.ERROR_EVENT, stream=False),
    "half a body, ended": Fault(kind=Kind.TRUNCATE, stream=False),
    "half a body, cut": Fault(kind=Kind.ABORT, stream=False),
    "error first": Fault(kind=Kind.ERROR_EVENT, stream=True),
    "nothing in the stream": Fault(kind=Kind.TRUNCATE, stream=True),
    "reset after the head": Fault(kind=Kind.BREAK, stream=True),
    "silence after the head": Fault(kind=Kind.STALL, stream=True),
}
QUICK = {"timeouts": {"first_byte_s": 0.7, "idle_s": 0.7, "response_s": 0.7, "connect_s": 0.7}}


VERSION = {"anthropic-version": "2023-06-01"}


async def two(world: Any, family: str = "openai", **route: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a", family), await world.provider("b", family)
    world.route("chat", family, chain="a b", **route)
    await world.publish()
    return first, second


REQUESTS = {
    "openai": ("/v1/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}),
    "anthropic": (
        "/v1/messages",
        {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    ),
}


@pytest.mark.parametrize("family", REQUESTS)
@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        (name, stream)
        for name, fault in FAULTS.items()
        for stream in (False, True)
        if fault.stream in {None, stream}
    ],
)
async def test_the_caller_never_notices(
    world: Any, running_proxy: Any, fault: str, stream: bool, family: str
) -> None:
    """Whatever happens before the first byte has reached the caller, the second target answers."""
    first, second = await two(world, family)
    first.set_faults(FAULTS[fault])
    path, body = REQUESTS[family]
    async with running_proxy(**QUICK) as caller:
        answer = await caller.ask(path, body | {"stream": stream}, VERSION)
    assert (answer.status, answer.target, answer.whole) == (200, "b", True)
    assert answer.headers["x-pointsman-attempt"] == "2"
    assert answer.headers["x-pointsman-reason"].startswith("fell over: a ")
    assert second.requests.by_outcome["ok"] == 1


async def test_nobody_answering_is_a_502_that_names_each_target(world: Any, running_proxy: Any) -> None:
    """fallback_exhausted, in the family's shape, not to be retried, without any secret."""
    first, second = await two(world, "anthropic")
    first.die()
    second.set_faults(Fault(kind=Kind.STATUS, status=529))
    path, body = REQUESTS["anthropic"]
    async with running_proxy() as caller:
        answer = await caller.ask(path, body, VERSION)
    assert answer.status == 502
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "fallback_exhausted"
    assert "a: connection refused" in answer.json["error"]["message"]
    assert "b: HTTP 529" in answer.json["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert b"secret" not in answer.body


async def test_all_throttled_says_when_to_come_again(world: Any, running_proxy: Any) -> None:
    """The first of them to be back."""
    first, second = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=429, retry_after_s=30.0))
    second.set_faults(Fault(kind=Kind.STATUS, status=429, retry_after_s=7.0))
    async with running_proxy() as caller:
        answer = await caller.chat()
    assert (answer.status, answer.headers["retry-after"]) == (502, "7")


async def test_a_closed_route_says_why(world: Any, running_proxy: Any) -> None:
    """No shares: the table's reason reaches the caller, and nobody is bothered."""
    first, _ = await two(world)
    world.route("chat", chain="a b", shares_bp={}, closed="no target is eligible: a drained")
    await world.publish()
    async with running_proxy() as caller:
        answer = await caller.chat()
    assert answer.status == 502
    assert "a drained" in answer.json["error"]["message"]
    assert first.requests.total == 0


async def test_a_dead_target_is_not_asked_again_and_again(world: Any, running_proxy: Any) -> None:
    """After five failures in a row the proxy leaves it alone by itself, without any daemon."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))
    async with running_proxy(local_failures=5, local_cooldown_s=60.0) as caller:
        targets = [(await caller.chat()).target for _ in range(12)]
        status = (await caller.admin("GET", "/status")).json
    assert targets == ["b"] * 12
    assert first.requests.total == 5
    assert status["ejected"] == ["a"]


async def test_an_ejected_target_is_the_last_resort(world: Any, running_proxy: Any) -> None:
    """It has recovered, the other has died: it serves."""
    first, second = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))
    async with running_proxy(local_failures=3, local_cooldown_s=60.0) as caller:
        for _ in range(4):
            await caller.chat()
        first.clear()
        second.die()
        answer = await caller.chat()
    assert (answer.status, answer.target) == (200, "a")


async def test_an_ejected_target_comes_back_by_a_single_trial(world: Any, running_proxy: Any) -> None:
    """After the cooldown one request tries it, and then all go there."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))
    async with running_proxy(local_failures=3, local_cooldown_s=0.3) as caller:
        for _ in range(4):
            await caller.chat()
        first.clear()

        async def back() -> bool:
            return bool((await caller.chat()).target == "a")

        await eventually(back)
        assert {(await caller.chat()).target for _ in range(4)} == {"a"}


async def test_what_a_proxy_does_by_itself_is_in_its_log(
    world: Any, running_proxy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whom it keeps out, why and for how long, and who is back: nobody else may be there to tell."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "pointsman.proxy.breaker"]

    with caplog.at_level("INFO", "pointsman.proxy.breaker"):
        async with running_proxy(local_failures=3, local_cooldown_s=0.3) as caller:
            for _ in range(4):
                await caller.chat()
            [out] = caplog.records[-1:]
            first.clear()

            async def back() -> bool:
                return bool((await caller.chat()).target == "a")

            await eventually(back)
    assert told() == ["marked {target} failed on this proxy: {why}", "reset failures of {target}: {why}"]
    assert out.fields == {
        "target": "a",
        "why": "3 in a row, the last: HTTP 500 server_error",
        "lane": "whole answers",
        "cooldown_s": 0.3,
    }


async def test_each_failed_attempt_is_in_the_log_for_who_asks_for_it(
    world: Any, running_proxy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Which target failed which request, and why; at the level debug, for there may be many."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=429, retry_after_s=1.0))
    with caplog.at_level("DEBUG", "pointsman.proxy"):
        async with running_proxy() as caller:
            answer = await caller.chat()
    [told] = [record for record in caplog.records if record.levelname == "DEBUG"]
    assert told.getMessage() == "{target} failed: {why}"
    assert told.fields == {
        "target": "a",
        "why": "HTTP 429 rate_limit_exceeded",
        "fault": "rate_limit",
        "route": "chat",
        "request": answer.headers["x-pointsman-request-id"],
    }


async def test_a_new_generation_brings_it_back_at_once(world: Any, running_proxy: Any) -> None:
    """The daemon knows better: the proxy forgets its own ejection."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))
    async with running_proxy(local_failures=3, local_cooldown_s=60.0) as caller:
        for _ in range(4):
            await caller.chat()
        first.clear()
        await caller.until_table(await world.publish(generations={"a": 1}))
        assert (await caller.chat()).target == "a"


async def test_a_hang_does_not_make_those_behind_wait(world: Any, running_proxy: Any) -> None:
    """Once a few are out for far longer than normal, the others go elsewhere before any deadline."""
    first, _ = await two(world)
    async with running_proxy(local_failures=3) as caller:
        for _ in range(24):
            await caller.chat(stream=True)
        first.set_faults(Fault(kind=Kind.ZOMBIE))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(lambda: caller.chat(stream=True))
            await eventually(lambda: first.requests.by_outcome[Kind.ZOMBIE] == 3)
            began = time.monotonic()

            async def ejected() -> Any:
                report = (await world.store.reports())[0].targets.get("a")
                return report is not None and report.outstanding >= 3

            await eventually(ejected)
            answer = await caller.chat(stream=True)
            assert answer.target == "b"
            assert time.monotonic() - began < 10.0
            tasks.cancel_scope.cancel()


async def test_a_stale_pooled_connection_is_nobodys_failure(world: Any, running_proxy: Any) -> None:
    """The provider closed idle connections: the request goes out again on a fresh one, to the same target."""
    first, second = await two(world)
    async with running_proxy() as caller:
        await caller.chat()
        first.die("reset")
        first.revive()
        answer = await caller.chat()

        async def counted() -> Any:
            report = (await world.store.reports())[0].targets.get("a")
            return report is not None and report.counts

        assert await eventually(counted) == {"ok": 2}
    assert (answer.target, answer.headers["x-pointsman-attempt"]) == ("a", "1")
    assert second.requests.total == 0


async def test_the_second_credential_is_tried_when_the_first_is_refused(
    world: Any, running_proxy: Any
) -> None:
    """Two may be valid at once: a rotation loses no request."""
    first, _ = await two(world)
    old = world.folder / "old.key"
    old.write_text("sk-revoked")
    world.overrides["a"] = {"credentials": (f"file:{old}", f"file:{world.secret_file('a')}")}
    async with running_proxy() as caller:
        targets = [(await caller.chat()).target for _ in range(3)]
    assert targets == ["a"] * 3
    assert first.requests.by_outcome["http 401"] == 1


async def test_a_grant_is_used_by_exactly_one_request(world: Any, running_proxy: Any) -> None:
    """The half-open target gets one live request per grant, and the outcome is reported."""
    _, second = await two(world)
    await world.publish(trials=(Trial(target="b", proxy="p1", grant=7),))
    async with running_proxy() as caller:
        answers = [await caller.chat() for _ in range(5)]

        async def told() -> bool:
            report = (await world.store.reports())[0].targets.get("b")
            return report is not None and (report.grant, report.grant_outcome) == (7, "ok")

        await eventually(told)
        await caller.until_table(await world.publish(trials=(Trial(target="b", proxy="p1", grant=8),)))
        await caller.chat()
    assert [answer.headers["x-pointsman-reason"] for answer in answers].count("trial") == 1
    assert answers[0].target == "b"
    assert second.requests.total == 2


async def test_another_proxys_grant_is_not_ours(world: Any, running_proxy: Any) -> None:
    """Only the proxy that it names may use it."""
    _, second = await two(world)
    await world.publish(trials=(Trial(target="b", proxy="p2", grant=7),))
    async with running_proxy() as caller:
        await caller.chat()
    assert second.requests.total == 0


async def test_attempts_end_where_the_route_says(world: Any, running_proxy: Any) -> None:
    """max_attempts 1: the second target is not tried."""
    first, second = await two(world, max_attempts=1)
    first.die()
    async with running_proxy() as caller:
        answer = await caller.chat()
    assert answer.status == 502
    assert second.requests.total == 0
