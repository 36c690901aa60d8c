"""What is counted under a ramp's stamp, and what is not."""

from typing import Any

import pytest

from pointsman.core.errors import ABANDONED, SUCCESS, Outcome, Wire, of_response, of_wire
from pointsman.core.evidence import ArmReport
from pointsman.core.latency import latency_cell
from pointsman.core.table import Trial
from pointsman.fake import Fault, Kind
from pointsman.proxy.arms import STAMPS_KEPT, Arms
from pointsman.proxy.outcomes import Seen
from support import eventually

OUTAGE = of_wire(Wire.RESET)
CALLERS_FAULT = of_response(400, {})
SYNTHETIC = {"x-pointsman-synthetic": "1"}


def seen(outcome: Outcome = SUCCESS, *, stamp: str = "r#1", **more: Any) -> Seen:
    fields: dict[str, Any] = {"target": "b", "streamed": False, "latency_ms": 100.0} | more
    return Seen(outcome=outcome, stamp=stamp, **fields)


def counted(*attempts: Seen) -> ArmReport:
    """The arm of target b under the stamp of all these."""
    arms = Arms()
    arms.began("r#1")
    for attempt in attempts:
        arms.record(attempt)
    return arms.reports()["r#1"]["b"]


def test_outcomes_are_counted_by_class() -> None:
    """What blames nobody is counted, too: the leader says what it means."""
    arm = counted(seen(), seen(), seen(OUTAGE), seen(CALLERS_FAULT), seen(ABANDONED))
    assert arm.counts == {"ok": 2, "outage": 1, "caller": 1, "abandoned": 1}


def test_failures_are_counted_by_caller() -> None:
    """Whose requests fail is known by six bits of the caller's hash; successes and callers' faults are not told."""
    arm = counted(
        seen(OUTAGE, caller=3),
        seen(OUTAGE, caller=64 + 3),
        seen(OUTAGE, caller=9),
        seen(CALLERS_FAULT),
        seen(),
    )
    assert arm.failing == {3: 2, 9: 1}


def test_each_target_has_its_own_arm() -> None:
    """The two sides of a ramp are compared."""
    arms = Arms()
    arms.began("r#1")
    arms.record(seen(target="a"))
    arms.record(seen(OUTAGE, target="b"))
    assert {name: arm.counts for name, arm in arms.reports()["r#1"].items()} == {
        "a": {"ok": 1},
        "b": {"outage": 1},
    }


def test_each_stamp_has_its_own_arms() -> None:
    """What was seen under one share is never mixed with what was seen under another."""
    arms = Arms()
    for stamp in ("r#1", "r#2"):
        arms.began(stamp)
    arms.record(seen(stamp="r#1"))
    arms.record(seen(OUTAGE, stamp="r#2"))
    assert {stamp: arms["b"].counts for stamp, arms in arms.reports().items()} == {
        "r#1": {"ok": 1},
        "r#2": {"outage": 1},
    }


def test_an_attempt_without_a_stamp_is_in_no_arm() -> None:
    """A route without a ramp costs nothing in the report."""
    arms = Arms()
    arms.record(seen(stamp=""))
    assert arms.reports() == {}


def test_a_whole_answer_is_measured_by_its_end() -> None:
    """In the one histogram only."""
    arm = counted(seen(latency_ms=700.0, first_token_ms=30.0))
    assert (arm.latency_ms, arm.first_token_ms) == ({latency_cell(700.0): 1}, {})


def test_a_stream_is_measured_by_its_first_token() -> None:
    """How long it ran is a matter of its text."""
    arm = counted(seen(streamed=True, latency_ms=70_000.0, first_token_ms=300.0))
    assert (arm.latency_ms, arm.first_token_ms) == ({}, {latency_cell(300.0): 1})


def test_how_fast_a_target_fails_is_no_latency() -> None:
    """A refusal within a millisecond must not make the canary look quick."""
    arm = counted(seen(OUTAGE), seen(OUTAGE, streamed=True, first_token_ms=3.0))
    assert (arm.latency_ms, arm.first_token_ms) == ({}, {})


def test_what_a_failure_cost_is_counted() -> None:
    """Tokens of a stream that broke are paid for."""
    assert counted(seen(cost_usd=0.25), seen(OUTAGE, cost_usd=0.5)).cost_usd == 0.75


def test_callers_are_told_apart_and_those_who_fail_from_the_others() -> None:
    """Bits of a map, as in the target's own account; a caller's own fault is no failing."""
    arm = counted(seen(caller=3), seen(caller=3), seen(OUTAGE, caller=64 + 5), seen(CALLERS_FAULT, caller=7))
    assert arm.callers == 1 << 3 | 1 << 5 | 1 << 7
    assert arm.callers_failing == 1 << 5


def test_synthetic_traffic_is_only_in_its_own_counts() -> None:
    """Nothing that is measured of callers holds any of it."""
    arm = counted(
        seen(synthetic=True, caller=3, cost_usd=1.0),
        seen(OUTAGE, synthetic=True, caller=4),
        seen(synthetic=True, streamed=True, first_token_ms=5.0),
    )
    assert arm == ArmReport(synthetic={"ok": 2, "outage": 1})


def test_a_report_is_a_copy() -> None:
    """What is counted later does not change what was told."""
    arms = Arms()
    arms.began("r#1")
    arms.record(seen())
    told = arms.reports()["r#1"]["b"]
    for later in (seen(), seen(streamed=True, first_token_ms=5.0), seen(synthetic=True)):
        arms.record(later)
    assert told == ArmReport(counts={"ok": 1}, latency_ms={latency_cell(100.0): 1}, callers=1)


def test_a_late_ending_counts_under_the_stamp_it_began_with() -> None:
    """The table has gone on to the next share, and the stream ends under the last one."""
    arms = Arms()
    arms.began("r#1")
    arms.keep({"r#2"})
    arms.record(seen(OUTAGE))
    assert arms.reports()["r#1"]["b"].counts == {"outage": 1}


def stamped(number: int) -> Arms:
    """Arms of so many stamps: r#0, r#1, …"""
    arms = Arms()
    for entry in range(number):
        arms.began(f"r#{entry}")
        arms.record(seen(stamp=f"r#{entry}"))
    return arms


def test_of_stamps_that_left_the_table_the_newest_are_kept() -> None:
    """The oldest go first."""
    arms = stamped(STAMPS_KEPT + 2)
    arms.keep(())
    assert list(arms.reports()) == [f"r#{entry}" for entry in range(2, STAMPS_KEPT + 2)]


def test_the_tables_own_stamps_are_kept_however_many_there_are() -> None:
    """Hundreds of routes may move at the same time."""
    arms = stamped(3 * STAMPS_KEPT)
    arms.keep({f"r#{entry}" for entry in range(2 * STAMPS_KEPT)})
    assert len(arms.reports()) == 3 * STAMPS_KEPT


def test_a_dropped_stamp_does_not_begin_again() -> None:
    """Counts only grow: a stream that ends after all that time is not counted."""
    arms = stamped(STAMPS_KEPT + 1)
    arms.keep(())
    arms.record(seen(stamp="r#0"))
    assert "r#0" not in arms.reports()


# --- through a proxy


async def canary(world: Any, **route: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat" under the stamp r#1, everything to a."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", ramp="r#1", **route)
    await world.publish()
    return first, second


async def told(world: Any, **counts: int) -> Any:
    """The proxy's report, once a and b have served so many callers, whatever they count under."""

    async def there() -> Any:
        for report in await world.store.reports():
            if {name: sum(target.counts.values()) for name, target in report.targets.items()} == counts:
                return report
        return None

    return await eventually(there)


def arms_of(report: Any) -> Any:
    """(stamp, target) → counts by class."""
    return {
        (stamp, target): arm.counts for stamp, arms in report.ramps.items() for target, arm in arms.items()
    }


@pytest.mark.anyio
async def test_first_attempts_count_and_fallbacks_do_not(world: Any, running_proxy: Any) -> None:
    """The caller whom a failed is served by b; the failure is in a's arm, and b has none."""
    first, _ = await canary(world)
    async with running_proxy() as caller:
        await caller.chat()
        first.set_faults(Fault(kind=Kind.STATUS, status=503))
        assert (await caller.chat()).target == "b"
        report = await told(world, a=2, b=1)
    assert arms_of(report) == {("r#1", "a"): {"ok": 1, "overload": 1}}


@pytest.mark.anyio
async def test_an_arm_has_what_the_gates_ask_for(world: Any, running_proxy: Any) -> None:
    """Latency of the whole answer, the stream's first token, cost, and the caller, who failed once."""
    first, _ = await canary(world)
    async with running_proxy() as caller:
        await caller.chat()
        await caller.chat(stream=True, stream_options={"include_usage": True})
        first.set_faults(Fault(kind=Kind.STATUS, status=503))
        await caller.chat()
        report = await told(world, a=3, b=1)
    arm = report.ramps["r#1"]["a"]
    assert sum(arm.latency_ms.values()) == sum(arm.first_token_ms.values()) == 1
    assert arm.cost_usd == report.targets["a"].cost_usd > 0
    assert arm.callers.bit_count() == arm.callers_failing.bit_count() == 1


@pytest.mark.anyio
async def test_a_trial_counts_in_no_arm(world: Any, running_proxy: Any) -> None:
    """The half-open target was not chosen by the ramp's share."""
    await canary(world)
    await world.publish(trials=(Trial(target="b", proxy="p1", grant=1),))
    async with running_proxy() as caller:
        assert (await caller.chat()).headers["x-pointsman-reason"] == "trial"
        report = await told(world, b=1)
    assert report.ramps == {}


@pytest.mark.anyio
async def test_what_cannot_move_counts_in_no_arm(world: Any, running_proxy: Any) -> None:
    """A conversation is where it is kept, whatever the share."""
    await canary(world)
    async with running_proxy() as caller:
        await caller.ask("/v1/responses", {"model": "chat", "input": "x", "conversation": "conv_1"})
        report = await told(world, a=1)
    assert report.ramps == {}


@pytest.mark.anyio
async def test_what_is_no_evidence_counts_in_no_arm(world: Any, running_proxy: Any) -> None:
    """Counting tokens says nothing about the model."""
    await canary(world)
    async with running_proxy() as caller:
        await caller.ask("/v1/responses/input_tokens", {"model": "chat", "input": "x"})
        await caller.chat()
        report = await told(world, a=1)
    assert arms_of(report) == {("r#1", "a"): {"ok": 1}}


@pytest.mark.anyio
async def test_a_stream_counts_under_the_stamp_it_began_with(world: Any, running_proxy: Any) -> None:
    """It ends while the proxy already serves the next share."""
    await world.provider("a", token_delay_ms=40.0, tokens=20)
    world.route("chat", chain="a", ramp="r#1")
    await world.publish()
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with running_proxy() as caller:
        async with caller.post("/v1/chat/completions", body) as response:
            await response.content.readany()
            world.route("chat", chain="a", ramp="r#2")
            await caller.until_table(await world.publish())
            await response.read()
        report = await told(world, a=1)
    assert arms_of(report) == {("r#1", "a"): {"ok": 1}}


@pytest.mark.anyio
async def test_the_report_does_not_grow_with_every_stamp_there_was(world: Any, running_proxy: Any) -> None:
    """Of two more stamps than are kept, the oldest two are gone soon after they left the table."""
    await world.provider("a")
    names = [f"chat-{number}" for number in range(STAMPS_KEPT + 2)]
    for name in names:
        world.route(name, chain="a", ramp=f"{name}#1")
    await world.publish()
    async with running_proxy() as caller:
        for name in names:
            await caller.chat(model=name)
        assert len((await told(world, a=len(names))).ramps) == len(names)
        for name in names:
            world.route(name, chain="a")
        await world.publish()

        async def kept() -> Any:
            [report] = await world.store.reports()
            return list(report.ramps) if len(report.ramps) < len(names) else None

        assert await eventually(kept) == [f"{name}#1" for name in names[2:]]


@pytest.mark.anyio
async def test_synthetic_traffic_is_counted_apart_in_its_arm(world: Any, running_proxy: Any) -> None:
    """Placed by the shares like a caller's, and in no count of callers."""
    await canary(world)
    async with running_proxy() as caller:
        await caller.chat(headers=SYNTHETIC)
        await caller.chat()
        report = await told(world, a=1)
    arm = report.ramps["r#1"]["a"]
    assert (arm.counts, arm.synthetic) == ({"ok": 1}, {"ok": 1})


@pytest.mark.anyio
async def test_synthetic_traffic_names_its_target(world: Any, running_proxy: Any) -> None:
    """b has no share: it is tried first, said so, counted in b's arm, and a trial is left to callers."""
    await canary(world)
    await world.publish(trials=(Trial(target="b", proxy="p1", grant=1),))
    async with running_proxy() as caller:
        answer = await caller.chat(headers=SYNTHETIC | {"x-pointsman-arm": "b"})
        assert (answer.target, answer.headers["x-pointsman-reason"]) == ("b", "synthetic")

        async def told_of_it() -> Any:
            [report] = await world.store.reports()
            return report.ramps.get("r#1")

        assert await eventually(told_of_it) == {"b": ArmReport(synthetic={"ok": 1})}


@pytest.mark.anyio
async def test_a_synthetic_request_that_falls_over_counts_for_the_first_alone(
    world: Any, running_proxy: Any
) -> None:
    """The target that was asked for failed, and who served in its place was not measured."""
    _, second = await canary(world)
    second.set_faults(Fault(kind=Kind.STATUS, status=503))
    async with running_proxy() as caller:
        answer = await caller.chat(headers=SYNTHETIC | {"x-pointsman-arm": "b"})
        assert (answer.target, answer.headers["x-pointsman-attempt"]) == ("a", "2")
        await caller.chat()
        report = await told(world, a=1, b=0)
    assert report.ramps["r#1"]["b"] == ArmReport(synthetic={"overload": 1})
    assert report.ramps["r#1"]["a"].synthetic == {}


@pytest.mark.anyio
async def test_callers_cannot_name_a_target(world: Any, running_proxy: Any) -> None:
    """Without the mark of synthetic traffic the wish is none."""
    await canary(world)
    async with running_proxy() as caller:
        answer = await caller.chat(headers={"x-pointsman-arm": "b"})
    assert (answer.target, answer.headers["x-pointsman-reason"]) == ("a", "share 100 %")


@pytest.mark.anyio
async def test_nothing_of_ours_is_sent_to_providers(world: Any, running_proxy: Any) -> None:
    """A provider cannot tell synthetic traffic from a caller's."""
    _, second = await canary(world)
    async with running_proxy() as caller:
        await caller.chat(headers=SYNTHETIC | {"x-pointsman-arm": "b"})
    assert not [name for name, _ in second.requests.last.headers if name.startswith("x-pointsman")]
