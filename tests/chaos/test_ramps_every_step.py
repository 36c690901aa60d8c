"""One canary by the steps of the runbooks, hit in each of them in turn: whatever dies six times over, it goes on."""

from pathlib import Path

import pytest
from ramp_storm import LADDER, RampStorm, ramp_storm, shares_at
from storm import Measured, timed
from test_ramps import Hit, kill_daemon, kill_proxy, kill_store

from pointsman.core.ramp_model import RampPhase

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]

STEPS = (5, 10, 25, 50, 75, 100)
# Bedrock's 80 % go to google; while it bakes, a twentieth of them stays.
RUNGS = (LADDER[0], *(shares_at(80 * percent) for percent in STEPS[:-1]), *LADDER[-2:])
# Long enough that a step is still the same one when it is hit.
KIND = {"steps": list(STEPS), "first_hold_s": 2.0, "hold_s": 2.0, "samples": [2], "bake_s": 2.0}


async def goes_on(run: RampStorm, hit: Hit) -> list[float]:
    """The canary is hit in every step, and promoted; seconds until all were well after each hit."""
    run.ladder = RUNGS
    await run.start()
    took_s = []
    for step in range(len(STEPS)):
        await run.at(step)
        took_s.append(await timed(hit(run)))
    ramp = await run.ended()
    assert ramp.phase is RampPhase.PROMOTED, ramp.ended
    return took_s


async def test_a_daemon_killed_in_every_step(folder: Path, measured: Measured) -> None:
    """kill -9 of the only daemon: no request fails, no share jumps, each step is taken once, and it is promoted."""
    async with ramp_storm(folder, ramp={"canary": KIND}) as run:
        measured("back_s", max(await goes_on(run, kill_daemon)))

    assert run.wrong() == []
    assert list(dict.fromkeys(run.rank.values())) == list(range(len(RUNGS)))


async def test_a_store_killed_in_every_step(folder: Path, measured: Measured) -> None:
    """The same of the store: what it keeps on its disk is all that the ramp needs."""
    async with ramp_storm(folder, ramp={"canary": KIND}) as run:
        measured("back_s", max(await goes_on(run, kill_store)))

    assert run.wrong() == []
    assert list(dict.fromkeys(run.rank.values())) == list(range(len(RUNGS)))


async def test_a_proxy_killed_in_every_step(folder: Path, measured: Measured) -> None:
    """The same of one of two proxies behind a balancer: only the streams that it had open break."""
    async with ramp_storm(folder, balanced=True, ramp={"canary": KIND}) as run:
        measured("back_s", max(await goes_on(run, kill_proxy)))

    assert run.wrong(streams=False) == []
    assert list(dict.fromkeys(run.rank.values())) == list(range(len(RUNGS)))
