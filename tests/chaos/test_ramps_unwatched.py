"""Ramps that nobody watches: canaries end by themselves, failovers stay, whoever returns says so."""

from pathlib import Path

import pytest
from ramp_storm import BACK, BASELINE, KIND, LADDER, RampStorm, ramp_storm
from storm import Measured, timed

from pointsman.core.evidence import Verb
from pointsman.core.ramp_model import RampPhase
from pointsman.core.table import percent
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

UNWATCHED_S = 10.0  # the least that a configuration may say
RAMP = {kind: {**KIND, "unwatched_s": UNWATCHED_S} for kind in ("canary", "failback")}
IN_A_ROW = 20
SECOND = LADDER[2]


def everywhere(run: RampStorm, shares: dict[str, int], since: int) -> bool:
    """Have all proxies placed their last answers, of those from the index `since` on, by these shares?"""
    for url in run.here.urls.values():
        answers = [a for a in run.callers.served[since:] if a.proxy == url.removeprefix("http://")]
        placed = [a for a in answers if a.reason.startswith("share ")][-IN_A_ROW:]
        right = [a for a in placed if a.reason == f"share {percent(shares.get(a.target, 0))}"]
        if len(right) < IN_A_ROW or all(a.target != "bedrock" for a in right):
            return False
    return True


async def abandoned(run: RampStorm) -> int:
    """A canary is in its second step, everywhere, when its daemon dies; gives the index of the next answer."""
    run.may_drop = True
    await run.callers.more(100)  # every session is known at home
    await run.start()
    await run.at(1)
    await run.served(lambda table: table.routes["chat"].shares_bp == SECOND)
    run.here.daemons["daemon-1"].kill()
    await run.remember()
    return len(run.callers.served)


async def dropped(run: RampStorm, since: int, measured: Measured) -> int:
    """Until every proxy is back at the baseline, by itself; gives the index of the next answer."""
    await eventually(lambda: everywhere(run, BASELINE, since), 30.0)
    answers = run.callers.served[since:]
    measured("dropped_s", max(a.sent_s for a in answers if a.target == "google") - answers[0].came_s)
    return len(run.callers.served)


async def test_a_canary_that_nobody_watches_ends(folder: Path, measured: Measured) -> None:
    """With no daemon for `unwatched_s` all proxies go back to the baseline, and a returning daemon leaves it there."""
    async with ramp_storm(folder, ramp=RAMP) as run:
        place = await dropped(run, await abandoned(run), measured)
        run.here.daemons["daemon-1"].start()
        measured("aborted_s", await timed(run.until(lambda ramp: ramp.phase is RampPhase.ABORTED)))
        await run.ended()
        told = [note.text for note in await run.told("ramp.aborted")]

    assert run.wrong() == []
    assert [text for text in told if "aborted: unwatched: nobody looked at it for" in text] == told != []
    assert {answer.target for answer in run.callers.served[place:]} == {"bedrock", "meta"}


async def test_a_restarted_proxy_knows_when_to_drop_a_canary(folder: Path, measured: Measured) -> None:
    """Killed and started again with store and daemon dead, a proxy still drops the canary when its time is over."""
    async with ramp_storm(folder, ramp=RAMP, balanced=True) as run:
        since = await abandoned(run)
        run.here.valkey.kill()
        run.here.proxies["proxy-1"].kill()
        await run.callers.more(20)
        run.here.proxies["proxy-1"].start()
        place = await dropped(run, since, measured)
        await run.callers.more(100)

    assert run.wrong(streams=False) == []
    assert {answer.target for answer in run.callers.served[place:]} == {"bedrock", "meta"}


async def test_a_failback_outlives_its_daemon(folder: Path, measured: Measured) -> None:
    """With no daemon for `unwatched_s`, a failback stays where it is; then its step is observed anew, and it ends."""
    async with ramp_storm(folder, ramp=RAMP, policy={"failback_auto": False}) as run:
        await run.start(Verb.FAILOVER)
        run.ladder = BACK
        await run.served(lambda table: table.routes["chat"].shares_bp == BACK[0])
        await run.start(Verb.FAILBACK)
        before = await run.at(1)
        await run.served(lambda table: table.routes["chat"].shares_bp == BACK[2])
        run.here.daemons["daemon-1"].kill()
        await run.remember()
        since = len(run.callers.served)
        await eventually(lambda: served_s(run, since) > 0.9 * UNWATCHED_S, 30.0)
        still = everywhere(run, BACK[2], since)
        run.here.daemons["daemon-1"].start()
        after = await run.until(lambda ramp: ramp.entry > before.entry)
        ramp = await run.ended()
        told = await run.told("ramp.unwatched")

    assert run.wrong() == []
    assert still
    assert [note.text.endswith("its step begins anew") for note in told] == [True]
    assert (after.step, ramp.phase) == (before.step, RampPhase.PROMOTED)


def served_s(run: RampStorm, since: int) -> float:
    """For how long answers have come since the one with this index."""
    answers = run.callers.served[since:]
    return answers[-1].came_s - answers[0].came_s if answers else 0.0
