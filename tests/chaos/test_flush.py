"""The store forgets in mid traffic: what people decided comes back, and no version is ever given out again."""

import shutil
from pathlib import Path

import pytest
import redis.asyncio
from storm import AWAY_REQUESTS, LEASE, Measured, Storm, proxies_went_back, storm, timed

from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

BY_HAND = {"bedrock": 1_000, "google": 4_000, "meta": 5_000}


async def set_by_hand(run: Storm) -> None:
    """An operator sets the baseline, and every proxy serves it."""
    answer = await run.cli("weights", "set", "chat", "bedrock=10,google=40,meta=50", "--reason", "a trial")
    assert answer.code == 0, answer

    async def served() -> bool:
        return (await run.here.table()).routes["chat"].shares_bp == BY_HAND and bool(await run.led())

    await eventually(run.surely(served), 10.0)


async def flush(run: Storm) -> None:
    async with redis.asyncio.Redis.from_url(run.here.valkey.url) as client:
        await client.flushall()


async def as_before(run: Storm) -> None:
    """Until every proxy serves the baseline that was set by hand, and the state says that it was."""

    async def restored() -> bool:
        baseline = (await run.state()).baselines["chat"]
        table = await run.here.table()
        return (
            baseline.shares_bp == BY_HAND
            and baseline.reason == "a trial"
            and table.routes["chat"].shares_bp == BY_HAND
            and all(report.serving == table.version for report in await run.here.reports())
            and len(await run.here.reports()) == len(run.here.proxies)
        )

    await eventually(run.surely(restored), 15.0)


async def test_a_flushed_store_is_filled_again(folder: Path, measured: Measured) -> None:
    """FLUSHALL: no failed request, no older table at any proxy, and the weights set by hand are back by themselves."""
    async with storm(folder, control=LEASE) as run:
        await set_by_hand(run)
        before = (await run.here.table()).version
        await flush(run)
        took_s = await timed(as_before(run))
        await run.callers.more(80)
        after = (await run.here.table()).version
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert after.epoch > before.epoch


async def test_a_store_flushed_while_no_daemon_lives_is_filled_again(
    folder: Path, measured: Measured
) -> None:
    """FLUSHALL while the daemon is dead: it restores the weights set by hand from its own disk when it starts."""
    async with storm(folder, control=LEASE) as run:
        await set_by_hand(run)
        before = (await run.here.table()).version
        run.here.daemons["daemon-1"].kill()
        await flush(run)
        await run.callers.more(AWAY_REQUESTS)
        run.here.daemons["daemon-1"].start()
        took_s = await timed(as_before(run))
        await run.callers.more(80)
        after = (await run.here.table()).version
    measured("took_s", took_s)

    assert run.failed == []
    assert run.went_back == []
    assert after.epoch > before.epoch


async def test_a_store_restored_from_an_older_dump_is_brought_up_to_date(
    folder: Path, measured: Measured
) -> None:
    """A crash, and a backup from before the weights were set: no older table at any proxy, the weights are back."""
    async with storm(folder, control=LEASE) as run:
        shutil.copytree(folder / "appendonlydir", folder / "backup")
        await set_by_hand(run)
        before = (await run.here.table()).version
        run.here.valkey.kill()
        shutil.rmtree(folder / "appendonlydir")
        (folder / "backup").rename(folder / "appendonlydir")
        run.here.valkey.start()
        old = (await run.here.table()).version
        took_s = await timed(as_before(run))
        await run.callers.more(80)
        after = (await run.here.table()).version
    measured("took_s", took_s)

    assert old < before
    assert run.failed == []
    assert proxies_went_back(run.callers) == []
    assert after.epoch > before.epoch
