"""What becomes of canaries with real evidence: good ones, bad ones, slow ones, and outages that are nobody's fault."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ramp_storm import BASELINE, KIND, LADDER, PROMOTED, SHORT, RampStorm, ramp_storm
from storm import Measured, timed

from pointsman.core.ramp_model import ENDED, RampPhase
from pointsman.fake.faults import Fault, Kind

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

SECOND = LADDER[2]
TIMEOUTS = {"first_byte_s": 2.0, "idle_s": 2.0}


async def test_a_good_canary_is_promoted(folder: Path, measured: Measured) -> None:
    """Two providers that are as good as each other: step by step to the promotion, and no request notices."""
    async with ramp_storm(folder) as run:
        await run.start()
        measured("promoted_s", await timed(run.until(lambda ramp: ramp.phase is RampPhase.PROMOTED)))
        await run.ended()
        shares = (await run.state()).baselines["chat"].shares_bp

    assert run.wrong() == []
    assert list(dict.fromkeys(run.rank.values())) == list(range(len(LADDER)))
    assert shares == PROMOTED


# --- a bad one


async def given_up(run: RampStorm, *faults: Fault, **args: Any) -> str:
    """A canary to a provider with these faults is aborted, and its share is gone; why, as its events say."""
    run.here.fakes["google"].set_faults(*faults)
    await run.start(**args)
    ramp = await run.until(lambda ramp: ramp.phase in ENDED, 60.0)
    assert ramp.phase is RampPhase.ABORTED, ramp.ended
    await run.served(lambda table: table.routes["chat"].shares_bp == BASELINE)
    await run.callers.more(40)
    return (await run.told("ramp.aborted"))[-1].text


@pytest.mark.parametrize("rate", [0.2, 0.4])
async def test_a_canary_that_fails_is_aborted(folder: Path, measured: Measured, rate: float) -> None:
    """A part of its answers are 500s: no caller sees one, and the canary is aborted for its errors."""
    async with ramp_storm(folder) as run:
        why = await given_up(run, Fault(kind=Kind.STATUS, status=500, rate=rate))
        measured("failed", run.here.fakes["google"].requests.by_outcome["http 500"])

    assert run.failed == []
    assert "requests failed" in why


# Silence is a failure when it has lasted: a step has to be longer than that takes.
PATIENT_STEPS = {"first_hold_s": 4.0, "hold_s": 4.0, "samples": [20]}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=Kind.STALL, rate=0.5, after_events=0),
        Fault(kind=Kind.STALL, rate=0.5, after_events=3),
        Fault(kind=Kind.TRUNCATE, rate=0.5, after_events=3),
    ],
    ids=["stall-first", "stall-later", "truncate"],
)
async def test_a_canary_that_breaks_streams_is_aborted(folder: Path, fault: Fault) -> None:
    """Its streams stall or end too early: no request fails, no stream looks whole that is not, it is aborted."""
    async with ramp_storm(folder, timeouts=TIMEOUTS) as run:
        why = await given_up(run, fault, **PATIENT_STEPS)

    assert run.failed == []
    assert "requests failed" in why


async def test_a_canary_that_is_slow_is_given_up(folder: Path) -> None:
    """Nothing fails, but it takes three times as long: the latency gate aborts, or holds until the ramp goes back."""
    async with ramp_storm(folder, fake={"latency_ms": 800.0, "token_delay_ms": 0.0}) as run:
        run.ladder = SHORT
        args = {"steps": [50, 100], "samples": [60], "require": ["latency"], "max_hold_s": 12.0}
        why = await given_up(run, Fault(kind=Kind.SLOW, multiply=3.0), **args)

    assert run.wrong() == []
    assert re.search(r"p95 .* ms|answers of the control", why), why


# --- nobody's fault


async def refuse(run: RampStorm, name: str) -> None:
    run.here.fakes[name].die("refuse")


async def answer_500(run: RampStorm, name: str) -> None:
    run.here.fakes[name].set_faults(Fault(kind=Kind.STATUS, status=500))


@pytest.mark.parametrize("ail", [refuse, answer_500])
async def test_an_outage_of_both_sides_blames_nobody(
    folder: Path, measured: Measured, ail: Callable[[RampStorm, str], Awaitable[None]]
) -> None:
    """Both sides fail in mid-ramp and come back: no request fails, the step freezes, says so, and is served again."""
    async with ramp_storm(folder) as run:
        await run.start(hold_s=2.0)
        await run.at(1)
        await run.served(lambda table: table.routes["chat"].shares_bp == SECOND)
        for name in ("bedrock", "google"):
            await ail(run, name)
        held = await run.until(lambda ramp: "nobody is blamed" in ramp.hold)
        await run.served(lambda table: table.routes["chat"].shares_bp == {"meta": 10_000})
        await run.callers.more(80)
        for name in ("bedrock", "google"):
            run.here.fakes[name].revive()
            run.here.fakes[name].clear()
        measured("back_s", await timed(run.served(lambda t: t.routes["chat"].shares_bp == SECOND, 45.0)))
        ramp = await run.ramp()
        told = await run.told("ramp.hold")

    assert run.failed == []
    assert (ramp.step, ramp.entry) == (held.step, held.entry) == (1, 2)
    assert "nobody is blamed" in " ".join(note.text for note in told)
    assert ramp.phase is RampPhase.OBSERVING


# --- who else is asked


@asynccontextmanager
async def judge(verdicts: list[str]) -> AsyncIterator[str]:
    """A webhook at the URL given that answers with the last of `verdicts`."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"verdict": verdicts[-1], "reason": "the judge says so"})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_webhook_aborts(folder: Path, measured: Measured) -> None:
    """A gate outside that lets the first step pass, and then says abort, ends the canary with its reason."""
    verdicts = ["pass"]
    async with judge(verdicts) as url:
        gate = {"name": "judge", "kind": "webhook", "url": url, "interval_s": 0.3}
        async with ramp_storm(folder, ramp={"canary": {**KIND, "hold_s": 60.0, "gates": [gate]}}) as run:
            await run.start()
            await run.at(1)
            verdicts.append("abort")
            measured("aborted_s", await timed(run.until(lambda ramp: ramp.phase is RampPhase.ABORTED)))
            ramp = await run.ended()

    assert run.wrong() == []
    assert ramp.ended == "judge: the judge says so"


async def test_an_approval_is_waited_for(folder: Path) -> None:
    """A step that a person must approve is not taken by itself, and is by `pointsman canary approve`."""
    async with ramp_storm(folder) as run:
        await run.start(approve=[50])
        held = await run.until(lambda ramp: ramp.hold.startswith("approval: "))
        await run.callers.more(120)
        waited = await run.ramp()
        answer = await run.cli("canary", "approve", "chat", "--reason", "it looks good")
        ramp = await run.ended()

    assert run.wrong() == []
    assert answer.code == 0, answer
    assert (held.step, waited.step, waited.entry) == (0, 0, held.entry)
    assert ramp.phase is RampPhase.PROMOTED
