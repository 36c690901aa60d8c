"""How fast a dead target is out of the table that the last proxy serves, and what must not move a weight."""

import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from callers import Callers
from installation import Installation, timed_out_of_service

from pointsman.fake.faults import Fault, Kind
from pointsman.fake.provider import FakeProvider
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

TIMEOUTS = {"first_byte_s": 2.0, "idle_s": 1.0, "response_s": 2.0}


async def first_failure_s(installation: Installation, name: str) -> float:
    """When the first request met the provider's fault, by the monotonic clock."""
    seen = installation.fakes[name].requests.seen

    def failed() -> list[float]:
        return [s.at_s for s in seen if s.outcome not in {"ok", "open"} and s.path != "/v1/models"]

    return min(await eventually(failed, 10.0))


def fail(fake: FakeProvider, mode: str) -> None:
    """Refuse connections, reset them, or answer every completion with this status."""
    if mode.isdigit():
        fake.set_faults(Fault(kind=Kind.STATUS, status=int(mode), paths=("/v1/chat/completions",)))
    else:
        fake.die(mode)


@pytest.mark.parametrize("mode", ["refuse", "reset", "500"])
async def test_a_dead_target_under_traffic_is_out_within_two_seconds(folder: Path, mode: str) -> None:
    """At 5 requests a second to it, half of them streams, a dead target is out of every proxy's table within 2 s."""
    # All requests of its route, so that there are five in every second, and not on average.
    routes = {"chat": {"weights": {"bedrock": 100}, "chain": ["bedrock", "google", "meta"]}}
    async with (
        Installation.running(folder, routes=routes) as installation,
        Callers.of(list(installation.urls.values())) as callers,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: callers.send_many(60, per_s=5))
        await eventually(lambda: callers.tally.ok >= 5)
        fail(installation.fakes["bedrock"], mode)
        await timed_out_of_service(installation, "bedrock", 10.0)
        out_s = time.monotonic()

    # A refused connection cannot be seen by the provider, but by the caller whom another one served.
    first_s = min(one.sent_s for one in callers.served if one.reason.startswith("fell over: bedrock"))
    assert out_s - first_s <= 2.0
    assert (callers.tally.failed, callers.tally.silent) == ([], 0)


@pytest.mark.parametrize("mode", ["refuse", "reset", "hang"])
async def test_a_dead_target_without_traffic_is_out_within_thirty_seconds(folder: Path, mode: str) -> None:
    """At the default intervals, probes alone find a target that is hard down within 30 s."""
    async with Installation.running(folder) as installation:
        installation.fakes["bedrock"].die(mode)
        took_s = await timed_out_of_service(installation, "bedrock", 60.0)

    assert took_s <= 30.0


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_callers_fault_is_tried_once_and_moves_nothing(folder: Path, status: int) -> None:
    """Sixty answers that are the callers' fault: sixty attempts, the same table, the status passed on."""
    async with (
        Installation.running(folder) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        before = await installation.table()
        for name in ("bedrock", "google", "meta"):
            installation.fakes[name].set_faults(
                Fault(kind=Kind.STATUS, status=status, paths=("/v1/chat/completions",))
            )
            installation.fakes[name].requests.reset()
        await callers.send_many(60, per_s=60, stream=False)
        attempts = sum(
            seen.outcome == f"http {status}" and not seen.header("user-agent").startswith("pointsman")
            for name in ("bedrock", "google", "meta")
            for seen in installation.fakes[name].requests.seen
        )
        after = await installation.table()

    assert len(callers.tally.failed) == 60
    assert all(str(status) in told for told in callers.tally.failed)
    assert attempts == 60
    assert after.version == before.version


async def test_two_percent_of_noise_ejects_nobody(folder: Path) -> None:
    """2 % of 500s on every provider at once: nobody is ejected, and no caller sees one."""
    async with (
        Installation.running(folder) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        for fake in installation.fakes.values():
            fake.set_faults(Fault(kind=Kind.STATUS, status=500, rate=0.02))
        await callers.send_many(1_000, per_s=100)
        tripped = await installation.notes("target.tripped")
        shares = (await installation.table()).routes["chat"].shares_bp

    assert callers.tally.failed == []
    assert tripped == []
    assert shares == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.TRUNCATE, Kind.ERROR_EVENT])
async def test_streams_are_judged_by_how_they_end(folder: Path, kind: Kind) -> None:
    """Streams that stall, end without terminator or open with an error: out within 3 s of the fifth one known."""
    after_events = 0 if kind is Kind.ERROR_EVENT else 3
    async with (
        Installation.running(folder, timeouts=TIMEOUTS) as installation,
        Callers.of(list(installation.urls.values())) as callers,
        anyio.create_task_group() as group,
    ):
        installation.fakes["bedrock"].set_faults(Fault(kind=kind, after_events=after_events, stream=True))
        group.start_soon(lambda: callers.send_many(240, per_s=20))
        fifth = await eventually(lambda: fifth_known_s(installation, kind), 10.0)
        await eventually(lambda: installation.served_everywhere_without("bedrock"), 10.0)
        took_s = time.monotonic() - fifth

    assert took_s <= 3.0
    assert (callers.tally.failed, callers.tally.silent) == ([], 0)
    if kind is Kind.ERROR_EVENT:
        assert callers.tally.broken == 0, "an error as the first event must fail over unseen"


def fifth_known_s(installation: Installation, kind: Kind) -> float | None:
    """When the fifth broken stream's fault was known to the caller's side: a stall is, once the idle time is over."""
    idle_s = TIMEOUTS["idle_s"] if kind is Kind.STALL else 0.0
    broken = [s for s in installation.fakes["bedrock"].requests.seen if s.outcome == kind.value]
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
