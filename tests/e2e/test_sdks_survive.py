"""Official SDK clients do not notice that a provider died, in whatever way it dies."""

import ssl
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from callers import Callers
from installation import Installation
from msgspec import Struct

from pointsman.fake.faults import Fault, Kind
from pointsman.fake.ledger import Seen
from pointsman.fake.provider import FakeProvider
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

# Shortened so that seven deaths fit into a test; thresholds and everything else are the defaults.
TIMEOUTS = {"connect_s": 2.0, "first_byte_s": 2.0, "idle_s": 3.0, "response_s": 2.0}
# Seven deaths within minutes: by itself the third would be a failover, which comes back step by step.
POLICY = {"cooldown_max_s": 1.0, "slow_start_s": 1.0, "failover_after_s": 0.0}
PROBE = {"reach_interval_s": 1.0, "generate_interval_s": 1.5, "suspect_gap_s": 0.5}


PRIMARIES = ("bedrock", "anthropic")


def status(code: int, **more: Any) -> tuple[Fault, ...]:
    return (Fault(kind=Kind.STATUS, status=code, **more),)


class Death(Struct, frozen=True):
    """How a provider dies; a request that meets it has this `outcome` there. "": it cuts the streams that are open."""

    how: str | tuple[Fault, ...]
    outcome: str = ""


DEATHS = {
    "refused connections": Death("refuse"),
    "resets": Death("reset"),
    "hangs": Death("hang"),
    "500": Death(status(500), "http 500"),
    "529": Death(status(529), "http 529"),
    "429": Death(status(429, retry_after_s=1.0), "http 429"),
    "streams that break before the first event": Death((Fault(kind=Kind.BREAK, after_events=0),), "break"),
}


def begun(fake: FakeProvider) -> list[Seen]:
    """The callers' streams that are open there and have begun: what they got first has had the time to arrive."""
    return [s for s in fake.requests.seen if s.outcome == "open" and s.events >= 3 and by_a_caller(s)]


def by_a_caller(seen: Seen) -> bool:
    return not seen.header("user-agent").startswith("pointsman")


async def kill(installation: Installation, death: Death) -> int:
    """Kill both primaries while callers' streams of both have begun; how many were open then."""
    fakes = [installation.fakes[name] for name in PRIMARIES]
    await eventually(lambda: all(begun(fake) for fake in fakes), 10.0)
    was_open = sum(s.outcome == "open" and s.stream for fake in fakes for s in fake.requests.seen)
    for fake in fakes:
        if isinstance(death.how, str):
            fake.die(death.how)
        else:
            fake.set_faults(*death.how)
    return was_open


def met(installation: Installation, callers: Callers, death: Death, since_s: float) -> dict[str, int]:
    """Primary → how many requests sent since then met its death there and were served by another."""
    fell = [s.reason for s in callers.served if s.sent_s >= since_s and s.status == 200]
    count = {name: sum(reason.startswith(f"fell over: {name}") for reason in fell) for name in PRIMARIES}
    for name in PRIMARIES:
        seen = [s for s in installation.fakes[name].requests.seen if s.at_s >= since_s and by_a_caller(s)]
        count[name] = min(count[name], sum(s.outcome == death.outcome for s in seen))
    return count


def revive(installation: Installation) -> None:
    for fake in installation.fakes.values():
        fake.clear()
        fake.revive()


def tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return context, folder / "ca.pem"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_request_fails_while_the_primary_dies_in_seven_ways(folder: Path, scheme: str) -> None:
    """2,100 requests, half of them streams, over seven deaths: none fails that had not begun to stream.

    Each death comes in the middle of traffic. What it cuts raises in the SDK, and nothing else breaks.
    """
    async with (
        Installation.running(
            folder,
            fake={"token_delay_ms": 25},
            timeouts=TIMEOUTS,
            policy=POLICY,
            probe=PROBE,
            tls=tls(folder) if scheme == "https" else None,
        ) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        tally = callers.tally
        for name, death in DEATHS.items():
            await installation.settled()
            broken = tally.broken
            async with anyio.create_task_group() as traffic:
                traffic.start_soon(lambda: callers.send_many(160, per_s=45))
                traffic.start_soon(lambda: callers.send_many(140, per_s=40, route="claude"))
                await callers.more(80)
                was_open = await kill(installation, death)
                died_s = time.monotonic()
            found = met(installation, callers, death, died_s)
            revive(installation)
            assert (tally.failed, tally.silent) == ([], 0), name
            if death.outcome:
                assert min(found.values()) >= 1, f"{name}: nobody met it: {found}"
                assert tally.broken == broken, name
            else:  # the streams that it cut may have sent every proxy elsewhere before the next request came
                assert 1 <= tally.broken - broken <= was_open, name

    assert tally.requests == 2_100
    assert tally.streams == 1_050


@pytest.mark.parametrize("route", ["chat", "claude"])
@pytest.mark.parametrize("kind", [Kind.STALL, Kind.TRUNCATE, Kind.ABORT, Kind.ERROR_EVENT, Kind.BREAK])
async def test_a_stream_that_dies_in_the_middle_raises_in_the_sdk(
    folder: Path, kind: Kind, route: str
) -> None:
    """Broken after three events: the SDK raises, it never sees a silent end."""
    async with (
        Installation.running(folder, proxies=1, timeouts={"idle_s": 0.5}) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        for fake in installation.fakes.values():
            fake.set_faults(Fault(kind=kind, after_events=3, stream=True))
        for number in range(3):
            await callers.send(number, route=route, stream=True)

    assert (callers.tally.broken, callers.tally.silent, callers.tally.failed) == (3, 0, [])
