"""What a proxy tells the leader."""

import contextlib
import time
from typing import Any

import aiohttp
import anyio
import pytest

from pointsman.fake import Fault, Kind
from support import eventually

pytestmark = pytest.mark.anyio


async def two(world: Any, **options: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a", **options), await world.provider("b", **options)
    world.route("chat", chain="a b")
    await world.publish()
    return first, second


async def target_report(world: Any, target: str = "a") -> Any:
    """What the proxy last reported of a target."""
    for report in await world.store.reports():
        if target in report.targets:
            return report.targets[target]
    return None


async def reported(world: Any, target: str = "a", **counts: int) -> Any:
    """The target's report, once its counts are these."""

    async def there() -> Any:
        report = await target_report(world, target)
        return report if report is not None and report.counts == counts else None

    return await eventually(there)


async def test_outcomes_are_counted_by_class(world: Any, running_proxy: Any) -> None:
    """Successes, failures and callers' faults, each in its own place."""
    first, _ = await two(world)
    async with running_proxy() as caller:
        await caller.chat()
        first.set_faults(Fault(kind=Kind.STATUS, status=503))
        await caller.chat()
        first.set_faults(Fault(kind=Kind.STATUS, status=400))
        await caller.chat()
        report = await reported(world, ok=1, overload=1, caller=1)
    assert report.lanes["unary"].streak == 1
    assert report.lanes["unary"].detail.startswith("HTTP 503")
    assert sum(report.latency_ms.values()) == 1


async def test_tokens_and_cost_are_counted(world: Any, running_proxy: Any) -> None:
    """From the provider's own usage, at the configured prices ($1 and $2 per million)."""
    await two(world)
    async with running_proxy() as caller:
        answer = await caller.chat()
        await caller.chat(stream=True, stream_options={"include_usage": True})
        report = await reported(world, ok=2)
    usage = answer.json["usage"]
    assert report.tokens_in == 2 * usage["prompt_tokens"]
    assert report.tokens_out == 2 * usage["completion_tokens"]
    assert report.cost_usd == pytest.approx((report.tokens_in + 2 * report.tokens_out) / 1e6)
    assert sum(report.first_token_ms.values()) == 1


async def test_a_failure_is_told_at_once(world: Any, running_proxy: Any) -> None:
    """With a report every minute the leader still hears of it, and is woken."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=503))
    async with running_proxy(report_interval_s=60.0) as caller:
        woken = anyio.Event()

        async def listen(*, task_status: Any) -> None:
            async for message in world.store.wakes():
                if message == "":
                    task_status.started()
                else:
                    woken.set()

        async with anyio.create_task_group() as tasks:
            await tasks.start(listen)
            began = time.monotonic()
            await caller.chat()
            with anyio.fail_after(2):
                await woken.wait()
            assert time.monotonic() - began < 1.0
            await reported(world, overload=1)
            tasks.cancel_scope.cancel()


async def test_a_rate_limit_is_a_time_not_a_failure(world: Any, running_proxy: Any) -> None:
    """The provider's word as a time by the store's clock; the breaker's lanes stay clean."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=429, retry_after_s=40.0))
    async with running_proxy() as caller:
        await caller.chat()
        report = await reported(world, rate_limit=1)
    assert report.throttled_until_s == pytest.approx(await world.store.now_s() + 40.0, abs=5.0)
    assert report.throttled
    assert all(lane.streak == 0 for lane in report.lanes.values())


async def test_a_refused_credential_is_told(world: Any, running_proxy: Any) -> None:
    """Barred, until it works again."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=401))
    async with running_proxy(local_failures=100) as caller:
        await caller.chat()
        assert (await reported(world, credential=1)).barred
        first.clear()
        await caller.chat()
        assert not (await reported(world, credential=1, ok=1)).barred


async def test_rate_limit_headers_are_told(world: Any, running_proxy: Any) -> None:
    """What is left before the 429 comes."""
    await two(world, rpm=4)
    async with running_proxy() as caller:
        await caller.chat()
        await caller.chat()
        report = await reported(world, ok=2)
    assert report.rate_limit is not None
    assert report.rate_limit.remaining_ratio <= 0.75


async def test_synthetic_traffic_is_counted_apart(world: Any, running_proxy: Any) -> None:
    """It is in no count that a decision is made by."""
    await two(world)
    async with running_proxy() as caller:
        await caller.chat(headers={"x-pointsman-synthetic": "1"})
        await caller.chat()
        report = await reported(world, ok=1)
    assert report.synthetic == {"ok": 1}


async def test_distinct_callers_are_counted(world: Any, running_proxy: Any) -> None:
    """One caller is one bit, however often he calls; those who fail are counted apart."""
    first, _ = await two(world)
    async with running_proxy() as caller:
        for _ in range(5):
            await caller.chat(headers={"authorization": "Bearer one"})
        report = await reported(world, ok=5)
        assert report.callers.bit_count() == 1
        for number in range(20):
            await caller.chat(headers={"authorization": f"Bearer {number}"})
        report = await reported(world, ok=25)
        assert report.callers.bit_count() >= 10
        first.set_faults(Fault(kind=Kind.STATUS, status=503))
        await caller.chat(headers={"authorization": "Bearer one"})
        report = await reported(world, ok=25, overload=1)
    assert report.callers_failing.bit_count() == 1


async def test_counting_tokens_is_no_evidence(world: Any, running_proxy: Any) -> None:
    """A zombie answers count_tokens: it must not look alive for it."""
    await world.provider("a", "anthropic")
    world.route("claude", "anthropic", chain="a")
    await world.publish()
    body = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/messages/count_tokens", body, {"anthropic-version": "2023-06-01"})
        await caller.ask("/v1/messages", body | {"max_tokens": 5}, {"anthropic-version": "2023-06-01"})
        await reported(world, ok=1)
    assert answer.json["input_tokens"] > 0


async def test_a_new_generation_clears_what_was(world: Any, running_proxy: Any) -> None:
    """Counts stay, for they are history; the run of failures and the rate limit do not."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=503))
    async with running_proxy() as caller:
        await caller.chat()
        assert (await reported(world, overload=1)).lanes["unary"].streak == 1
        await caller.until_table(await world.publish(generations={"a": 3}))

        async def cleared() -> bool:
            report = await target_report(world)
            return (report.generation, report.lanes, report.counts) == (3, {}, {"overload": 1})

        await eventually(cleared)


async def test_an_old_stream_that_ends_well_ends_no_run(world: Any, running_proxy: Any) -> None:
    """A target that is drained: what it had begun it finishes, and takes nothing new."""
    first, _ = await two(world, token_delay_ms=100.0, tokens=8)
    async with running_proxy() as caller:
        body = {"model": "chat", "stream": True, "messages": []}
        async with caller.post("/v1/chat/completions", body) as old:
            await old.content.readany()
            first.set_faults(Fault(kind=Kind.STATUS, status=503, retry_after_s=600.0))
            for _ in range(3):
                await caller.chat(stream=True)
            await old.read()
        report = await reported(world, ok=1, overload=3)
    lane = report.lanes["stream"]
    assert (lane.streak, lane.last_ok_s) == (3, 0.0)
    assert lane.retry_at_s == pytest.approx(await world.store.now_s() + 600.0, abs=5.0)


async def test_what_was_sent_before_the_return_is_counted_apart(world: Any, running_proxy: Any) -> None:
    """A request that began before the target came back and fails after is in no count that decides."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.STALL, after_events=1, stream=True))
    async with running_proxy(timeouts={"idle_s": 1.0}) as caller:
        body = {"model": "chat", "stream": True, "messages": []}
        async with caller.post("/v1/chat/completions", body) as old:
            await old.content.readany()
            await caller.until_table(await world.publish(generations={"a": 3}))
            with contextlib.suppress(aiohttp.ClientError):
                await old.read()

        async def told() -> Any:
            report = await target_report(world)
            return report if report is not None and report.stale else None

        report = await eventually(told)
    assert (report.stale, report.counts, report.lanes) == ({"outage": 1}, {}, {})
