"""The daemon, the store, both, and a proxy die by kill -9 in mid traffic."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from callers import Callers
from installation import Installation
from storm import AWAY_REQUESTS, LEASE, PER_S, Measured, Storm, storm, timed

from pointsman.core.model import Phase
from pointsman.fake.faults import Fault, Kind
from support import ValkeyServer, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

DEAD = Fault(kind=Kind.STATUS, status=500)
# Two proxies with two lanes each (streams, whole answers) eject after 5 failures in a row; some are under way then.
LOCALLY_AT_MOST = 2 * 2 * 5 + 10


async def test_a_killed_daemon_is_not_noticed(folder: Path, measured: Measured) -> None:
    """kill -9 of the daemon and a restart after 3 s: no failed request, no older table, the same cooldown deadline."""
    async with storm(folder, control=LEASE) as run:
        daemon = run.here.daemons["daemon-1"]
        run.here.fakes["bedrock"].set_faults(DEAD)
        before = await run.tripped("bedrock")
        epoch = await run.led()
        daemon.kill()
        await run.callers.more(AWAY_REQUESTS)
        daemon.start()
        took_s = await timed(run.led(above=epoch))
        await run.callers.more(40)
        after = await run.health("bedrock")
        shares = [(await run.here.share_bp("bedrock"))]
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert (after.phase, after.cooldown_until_s) == (Phase.COOLDOWN, before.cooldown_until_s)
    assert after.failures >= before.failures >= 5
    assert shares == [0]


async def test_a_killed_daemon_counts_every_request_once(folder: Path) -> None:
    """What the proxies saw while no daemon lived is counted afterwards, and nothing is counted twice."""
    async with storm(folder, control=LEASE) as run:
        epoch = await run.led()
        run.here.daemons["daemon-1"].kill()
        await run.callers.more(AWAY_REQUESTS)
        run.here.daemons["daemon-1"].start()
        await run.led(above=epoch)
        await run.callers.more(40)
        await run.callers.pause()
        counted = await eventually(lambda: counted_as_reported(run))

    assert run.failed == []
    assert sum(counted.values()) == run.callers.tally.ok


async def counted_as_reported(run: Storm) -> dict[str, int]:
    """Successes in each target's window, once they are as many as the proxies report in all; until then {}."""
    state, reports = await run.state(), await run.here.reports()
    window = {
        name: sum(bucket.counts.get("ok", 0) for bucket in health.window)
        for name, health in state.health.items()
    }
    reported = {
        name: sum(r.targets[name].counts.get("ok", 0) for r in reports if name in r.targets)
        for name in window
    }
    done = sum(reported.values()) == run.callers.tally.ok
    return window if window == reported and done else {}


async def test_a_killed_store_is_not_noticed(folder: Path, measured: Measured) -> None:
    """kill -9 of the store and a restart after 3 s: no failed request, no older table, the same leader leads on."""
    async with storm(folder) as run:
        epoch = await run.led()
        run.here.valkey.kill()
        await run.callers.more(AWAY_REQUESTS)
        run.here.valkey.start()
        took_s = await timed(run.recovered())
        await run.callers.more(40)
        leader = await run.here.store.leader()
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert leader is not None
    assert leader.epoch == epoch


async def provider_dies_unwatched(run: Storm) -> int:
    """With nobody to decide, a provider dies; how many attempts it took the proxies to leave it alone."""
    fake = run.here.fakes["bedrock"]
    before = fake.requests.by_outcome["http 500"]
    fake.set_faults(DEAD)
    await run.callers.more(AWAY_REQUESTS)
    statuses = [await run.local_status(name) for name in run.here.proxies]
    assert all("bedrock" in status["ejected"] for status in statuses), statuses
    return fake.requests.by_outcome["http 500"] - before


@contextmanager
def killed(store: ValkeyServer) -> Iterator[None]:
    """The store is dead inside the block."""
    store.kill()
    yield
    store.start()


@pytest.mark.parametrize("away", [killed, ValkeyServer.frozen], ids=["dead", "frozen"])
async def test_proxies_react_by_themselves_while_the_store_is(
    folder: Path, measured: Measured, away: Callable[[ValkeyServer], AbstractContextManager[None]]
) -> None:
    """A provider dies while the store is away: the proxies leave it alone, and later the control plane agrees."""
    async with storm(folder) as run:
        with away(run.here.valkey):
            attempts = await provider_dies_unwatched(run)
        took_s = await timed(run.tripped("bedrock"))
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert attempts <= LOCALLY_AT_MOST


async def test_proxies_live_without_store_and_daemon(folder: Path, measured: Measured) -> None:
    """Store and daemon are killed, then a provider dies: no failed request, and all is well after their restart."""
    async with storm(folder, control=LEASE) as run:
        epoch = await run.led()
        run.here.valkey.kill()
        run.here.daemons["daemon-1"].kill()
        attempts = await provider_dies_unwatched(run)
        run.here.valkey.start()
        run.here.daemons["daemon-1"].start()
        took_s = await timed(run.tripped("bedrock"))
        await run.led(above=epoch)
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert attempts <= LOCALLY_AT_MOST


async def test_a_killed_proxy_starts_from_its_disk(folder: Path, measured: Measured) -> None:
    """With store and daemon dead, a killed proxy serves its last table within 3 s of its start."""
    async with Installation.running(folder) as here:
        proxy, url = here.proxies["proxy-1"], here.urls["proxy-1"]
        version = (await here.table()).version
        here.valkey.kill()
        here.daemons["daemon-1"].kill()
        proxy.kill()
        proxy.start()
        began = time.monotonic()
        await eventually(lambda: serves(url), 20.0)
        took_s = time.monotonic() - began
        async with Callers.of([url]) as callers:
            await callers.send_many(40, per_s=PER_S, route="chat")
    measured("took_s", took_s)

    assert callers.tally.failed == []
    assert {answer.table for answer in callers.served} == {(version.epoch, version.revision)}
    assert took_s < 3.0


async def serves(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
