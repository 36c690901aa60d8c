"""How fast a dead target is out of the table that the last proxy serves, and what must not move a weight."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest
from callers import Callers
from installation import Installation, timed_out_of_service

from pointsman.fake.faults import Fault, Kind
from pointsman.fake.provider import FakeProvider
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

TIMEOUTS = {"first_byte_s": 2.0, "idle_s": 1.0, "response_s": 2.0}
COMPLETIONS = {"chat": "/v1/chat/completions", "claude": "/v1/messages"}
CALLERS_FAULTS = (400, 404, 413, 422)


def fail(fake: FakeProvider, mode: str) -> None:
    """Refuse connections, reset them, or answer every completion with this status."""
    if mode.isdigit():
        fake.set_faults(Fault(kind=Kind.STATUS, status=int(mode), paths=("/v1/chat/completions",)))
    else:
        fake.die(mode)


@pytest.mark.parametrize(("mode", "per_s"), [("refuse", 5), ("reset", 5), ("500", 5), ("refuse", 50)])
async def test_a_dead_target_under_traffic_is_out_within_two_seconds(
    folder: Path, mode: str, per_s: int
) -> None:
    """At 5 requests a second to it and more, half of them streams, it is out of every proxy's table within 2 s."""
    # All requests of its route, so that there are as many in every second, and not on average.
    routes = {"chat": {"weights": {"bedrock": 100}, "chain": ["bedrock", "google", "meta"]}}
    async with (
        Installation.running(folder, routes=routes) as installation,
        Callers.of(list(installation.urls.values())) as callers,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: callers.send_many(8 * per_s, per_s=per_s))
        await eventually(lambda: callers.tally.ok >= 5)
        fail(installation.fakes["bedrock"], mode)
        await timed_out_of_service(installation, "bedrock", 10.0)
        out_s = time.monotonic()

    # A refused connection cannot be seen by the provider, but by the caller whom another one served.
    first_s = min(one.sent_s for one in callers.served if one.reason.startswith("fell over: bedrock"))
    assert out_s - first_s <= 2.0
    assert (callers.tally.failed, callers.tally.silent) == ([], 0)


@pytest.mark.parametrize("mode", ["refuse", "reset", "hang", "500"])
async def test_a_dead_target_without_traffic_is_out_within_thirty_seconds(folder: Path, mode: str) -> None:
    """At the default intervals, probes alone find a target that is hard down within 30 s."""
    async with Installation.running(folder) as installation:
        if mode == "500":
            installation.fakes["bedrock"].set_faults(Fault(kind=Kind.STATUS, status=500))
        else:
            installation.fakes["bedrock"].die(mode)
        took_s = await timed_out_of_service(installation, "bedrock", 60.0)

    assert took_s <= 30.0


@pytest.mark.parametrize("route", ["chat", "claude"])
async def test_a_callers_fault_is_tried_once_and_moves_nothing(folder: Path, route: str) -> None:
    """Sixty answers of each kind that are the callers' fault: tried once, told as they are, and no weight moves."""
    async with (
        Installation.running(folder) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        before = await installation.table()
        targets = before.routes[route].shares_bp
        for fake in (installation.fakes[name] for name in targets):
            fake.requests.reset()
        for status in CALLERS_FAULTS:
            for name in targets:
                installation.fakes[name].set_faults(
                    Fault(kind=Kind.STATUS, status=status, paths=(COMPLETIONS[route],))
                )
            await callers.send_many(60, per_s=120, route=route)
        attempts = {
            status: sum(
                seen.outcome == f"http {status}" and not seen.header("user-agent").startswith("pointsman")
                for name in targets
                for seen in installation.fakes[name].requests.seen
            )
            for status in CALLERS_FAULTS
        }
        answered = Counter(answer.status for answer in callers.served)
        # The leader has counted them all, and decided.
        await eventually(lambda: counted(installation, targets, "caller", 240), 10.0)
        after, state = await installation.table(), await installation.store.load_state()
        reports = await installation.reports()

    assert len(callers.tally.failed) == 240
    assert answered == attempts == dict.fromkeys(CALLERS_FAULTS, 60)
    assert after.version == before.version
    assert state is not None
    assert {(h.phase.value, h.failures) for h in state.health.values()} == {("healthy", 0)}
    assert not any(entry.ejected for report in reports for entry in report.targets.values())


async def counted(installation: Installation, targets: Iterable[str], fault: str, count: int) -> bool:
    """Does the leader's state hold at least so many outcomes of this class?"""
    state = await installation.store.load_state()
    assert state is not None
    return (
        sum(bucket.counts.get(fault, 0) for name in targets for bucket in state.health[name].window) >= count
    )


async def test_two_percent_of_noise_ejects_nobody(folder: Path) -> None:
    """2 % of 500s on every provider at once: nobody is ejected, by the leader or a proxy.

    A caller sees one only where no target of its route answered otherwise, which chance brings with two of them.
    """
    async with (
        Installation.running(folder) as installation,
        Callers.of(list(installation.urls.values())) as callers,
        # For as long as the traffic lasts, what every proxy says of itself is looked at.
        anyio.create_task_group() as watching,
    ):
        before = await installation.table()
        ejected: set[str] = set()
        watching.start_soon(note_ejected, installation, ejected)
        for fake in installation.fakes.values():
            fake.set_faults(Fault(kind=Kind.STATUS, status=500, rate=0.02))
        async with anyio.create_task_group() as traffic:
            traffic.start_soon(lambda: callers.send_many(1_000, per_s=100))
            traffic.start_soon(lambda: callers.send_many(500, per_s=50, route="claude"))
        met = sum(fake.requests.by_outcome["http 500"] for fake in installation.fakes.values())
        await eventually(lambda: counted(installation, installation.fakes, "outage", 15), 10.0)
        tripped = await installation.notes("target.tripped")
        after = await installation.table()
        watching.cancel_scope.cancel()

    assert [told for told in callers.tally.failed if told.count("HTTP 500") < 2] == []
    assert len(callers.tally.failed) <= 5
    assert met >= 15
    assert tripped == []
    assert ejected == set()
    assert after.version == before.version


async def note_ejected(installation: Installation, ejected: set[str]) -> None:
    """Add every target that a proxy keeps out by itself, until cancelled."""
    while True:
        for report in await installation.reports():
            ejected |= {f"{report.proxy}: {name}" for name, entry in report.targets.items() if entry.ejected}
        await anyio.sleep(0.1)


@pytest.mark.parametrize(("route", "target"), [("chat", "bedrock"), ("claude", "anthropic")])
@pytest.mark.parametrize("kind", [Kind.STALL, Kind.TRUNCATE, Kind.ERROR_EVENT])
async def test_streams_are_judged_by_how_they_end(folder: Path, kind: Kind, route: str, target: str) -> None:
    """Streams that stall, end without terminator or open with an error: out within 3 s of the fifth one known."""
    after_events = 0 if kind is Kind.ERROR_EVENT else 3
    async with (
        Installation.running(folder, timeouts=TIMEOUTS) as installation,
        Callers.of(list(installation.urls.values())) as callers,
        anyio.create_task_group() as group,
    ):
        fake = installation.fakes[target]
        fake.set_faults(Fault(kind=kind, after_events=after_events, stream=True))
        group.start_soon(lambda: callers.send_many(140, per_s=20, route=route))
        fifth = await eventually(lambda: fifth_known_s(fake, kind), 10.0)
        await eventually(lambda: installation.served_everywhere_without(target, route), 10.0)
        took_s = time.monotonic() - fifth

    assert took_s <= 3.0
    assert (callers.tally.failed, callers.tally.silent) == ([], 0)
    if kind is Kind.ERROR_EVENT:
        assert callers.tally.broken == 0, "an error as the first event must fail over unseen"
    else:
        assert callers.tally.broken >= 5, "what had begun to stream breaks, and says so"


def fifth_known_s(fake: FakeProvider, kind: Kind) -> float | None:
    """When the fifth broken stream's fault was known to the caller's side: a stall is, once the idle time is over."""
    idle_s = TIMEOUTS["idle_s"] if kind is Kind.STALL else 0.0
    broken = [s for s in fake.requests.seen if s.outcome == kind.value]
    known = [seen.at_s + idle_s for seen in broken if seen.at_s + idle_s <= time.monotonic()]
    return sorted(known)[4] if len(known) >= 5 else None


async def test_a_hung_target_costs_one_slow_request_per_trial(folder: Path) -> None:
    """After its first timeouts a hang costs callers nothing: trials are the leader's probes, one at a time."""
    policy = {"cooldown_max_s": 2.0, "slow_start_s": 1.0}
    probe = {"generate_timeout_s": 2.0, "suspect_gap_s": 0.5}
    async with (
        Installation.running(folder, timeouts=TIMEOUTS, policy=policy, probe=probe) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        installation.fakes["bedrock"].die("hang")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: callers.send_many(40, per_s=20))
            await timed_out_of_service(installation, "bedrock", 10.0)
        tripped = len(await installation.notes("target.tripped"))
        hung = installation.fakes["bedrock"].requests.by_outcome["hang"]
        callers.tally.slowest_s = 0.0
        await callers.send_many(200, per_s=20)
        trials = len(await installation.notes("target.tripped")) - tripped
        hung_later = installation.fakes["bedrock"].requests.by_outcome["hang"] - hung

    assert callers.tally.failed == []
    assert trials >= 2, "the cooldown was tried again and again meanwhile"
    assert callers.tally.slowest_s < TIMEOUTS["first_byte_s"]
    assert hung_later <= 3 * trials + 3, "probes only: a reach and a generate probe for each trial"


async def test_a_trial_with_a_hung_target_costs_one_slow_request(folder: Path) -> None:
    """Where only callers' requests can try it, each trial is one request of one proxy, and no other one is slow."""
    policy = {"cooldown_max_s": 2.0, "slow_start_s": 1.0}
    probe = {"generate": False, "suspect_gap_s": 0.5}
    async with (
        Installation.running(folder, timeouts=TIMEOUTS, policy=policy, probe=probe) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        # It goes on answering what is free.
        installation.fakes["bedrock"].set_faults(Fault(kind=Kind.ZOMBIE))
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: callers.send_many(40, per_s=20))
            await timed_out_of_service(installation, "bedrock", 10.0)
        tripped = len(await installation.notes("target.tripped"))
        hung = installation.fakes["bedrock"].requests.by_outcome["hang"]
        callers.served.clear()
        await callers.send_many(240, per_s=20)
        slow = [s for s in callers.served if s.came_s - s.sent_s >= TIMEOUTS["first_byte_s"]]
        hung_later = installation.fakes["bedrock"].requests.by_outcome["hang"] - hung
        trials = len(await installation.notes("target.tripped")) - tripped

    assert callers.tally.failed == []
    assert trials >= 2, "the cooldown was tried again and again meanwhile"
    assert 1 <= len(slow) <= trials + 1, "one for each trial, and one whose verdict is to come"
    assert hung_later <= trials + 1
