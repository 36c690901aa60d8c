"""Official SDK clients do not notice that a provider died, in whatever way it dies."""

import ssl
from pathlib import Path

import pytest
import trustme
from callers import Callers
from installation import Installation

from pointsman.fake.faults import Fault, Kind

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

# Shortened so that seven deaths fit into a test; thresholds and everything else are the defaults.
TIMEOUTS = {"connect_s": 2.0, "first_byte_s": 2.0, "idle_s": 3.0, "response_s": 2.0}
# Seven deaths within minutes: by itself the third would be a failover, which comes back step by step.
POLICY = {"cooldown_max_s": 1.0, "slow_start_s": 1.0, "failover_after_s": 0.0}
PROBE = {"reach_interval_s": 2.0, "generate_interval_s": 3.0, "suspect_gap_s": 0.5}


def status(code: int) -> tuple[Fault, ...]:
    return (Fault(kind=Kind.STATUS, status=code),)


DEATHS: dict[str, str | tuple[Fault, ...]] = {
    "refused connections": "refuse",
    "resets": "reset",
    "hangs": "hang",
    "500": status(500),
    "529": status(529),
    "429": (Fault(kind=Kind.STATUS, status=429, retry_after_s=1.0),),
    "streams that break before the first event": (Fault(kind=Kind.BREAK, after_events=0),),
}


def kill(installation: Installation, how: str | tuple[Fault, ...]) -> None:
    for name in ("bedrock", "anthropic"):
        if isinstance(how, str):
            installation.fakes[name].die(how)
        else:
            installation.fakes[name].set_faults(*how)


def met_fault(installation: Installation) -> dict[str, int]:
    """How often each misfortune befell a request of the two primaries, counted by themselves."""
    met: dict[str, int] = {}
    for name in ("bedrock", "anthropic"):
        for outcome, count in installation.fakes[name].requests.by_outcome.items():
            if outcome not in {"ok", "open", "abandoned"}:
                met[outcome] = met.get(outcome, 0) + count
    return met


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
    """2,100 requests, half of them streams, over seven deaths: none fails that had not begun to stream."""
    async with (
        Installation.running(
            folder,
            timeouts=TIMEOUTS,
            policy=POLICY,
            probe=PROBE,
            tls=tls(folder) if scheme == "https" else None,
        ) as installation,
        Callers.of(list(installation.urls.values())) as callers,
    ):
        for name, how in DEATHS.items():
            await installation.settled()
            met = sum(met_fault(installation).values())
            await callers.send_many(40, per_s=80)
            await callers.send_many(40, per_s=80, route="claude")
            kill(installation, how)
            await callers.send_many(120, per_s=80)
            await callers.send_many(100, per_s=80, route="claude")
            met_more = sum(met_fault(installation).values()) - met
            revive(installation)
            assert callers.tally.failed == [], name
            assert met_more >= 5 or how == "refuse", (
                f"{name}: nobody met the fault: {met_fault(installation)}"
            )
        tally = callers.tally

    assert tally.requests >= 2_000
    assert tally.failed == []
    assert tally.silent == 0


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
