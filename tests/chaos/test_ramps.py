"""A canary goes on, step by step, whatever dies by kill -9 or is paused in whichever step: daemon, store or proxy."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from installation import Process
from ramp_storm import STEPS, RampStorm, ramp_storm
from storm import Measured, timed

from pointsman.core.ramp_model import RampPhase
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

each_step = pytest.mark.parametrize(
    "step", range(len(STEPS)), ids=[*(f"at-{percent}" for percent in STEPS[:-1]), "baking"]
)
Hit = Callable[[RampStorm], Awaitable[None]]


async def goes_on(run: RampStorm, step: int, hit: Hit) -> float:
    """A canary is hit in `step`, and goes on to its promotion; seconds until all were well after the hit."""
    await run.start()
    await run.at(step)
    took_s = await timed(hit(run))
    ramp = await run.ended()
    assert ramp.phase is RampPhase.PROMOTED, ramp.ended
    return took_s


async def leading(run: RampStorm) -> tuple[Process, int]:
    """The daemon that leads, and its epoch."""
    leader = await run.here.store.leader()
    assert leader is not None
    pid = int(leader.owner.split("/")[1])
    return next(daemon for daemon in run.here.daemons.values() if daemon.pid == pid), leader.epoch


async def kill_daemon(run: RampStorm) -> None:
    daemon, epoch = await leading(run)
    daemon.kill()
    await run.callers.more(20)
    daemon.start()
    await run.led(above=epoch)


async def kill_leader(run: RampStorm) -> None:
    daemon, epoch = await leading(run)
    daemon.kill()
    await run.led(above=epoch)


async def pause_leader(run: RampStorm) -> None:
    """SIGSTOP until another one leads, which is when the lease is over; then it goes on as if it led."""
    daemon, epoch = await leading(run)
    daemon.signal(signal.SIGSTOP)
    await run.led(above=epoch)
    daemon.signal(signal.SIGCONT)
    await eventually(lambda: f"no longer leading with epoch {epoch}" in daemon.told(), 10.0)


async def kill_store(run: RampStorm) -> None:
    looked_s = (await run.ramp()).looked_s
    run.here.valkey.kill()
    await run.callers.more(20)
    run.here.valkey.start()
    await run.until(lambda ramp: ramp.looked_s > looked_s)


async def kill_proxy(run: RampStorm) -> None:
    before = next(r.boot for r in await run.here.reports() if r.proxy == "proxy-1")
    proxy = run.here.proxies["proxy-1"]
    proxy.kill()
    await run.callers.more(20)
    proxy.start()

    async def reports() -> bool:
        return any(r.proxy == "proxy-1" and r.boot != before and r.serving for r in await run.here.reports())

    await eventually(run.surely(reports), 15.0)


@each_step
async def test_a_killed_daemon_goes_on_with_the_ramp(folder: Path, measured: Measured, step: int) -> None:
    """kill -9 of the only daemon in any step, and a restart: no request notices, and the ramp is promoted."""
    async with ramp_storm(folder) as run:
        measured("back_s", await goes_on(run, step, kill_daemon))

    assert run.wrong() == []


@each_step
async def test_a_standby_goes_on_with_the_ramp(folder: Path, measured: Measured, step: int) -> None:
    """kill -9 of the leader in any step: no request notices, and the standby brings the ramp to its promotion."""
    async with ramp_storm(folder, daemons=2) as run:
        measured("takeover_s", await goes_on(run, step, kill_leader))

    assert run.wrong() == []


@each_step
async def test_a_paused_leader_moves_nothing(folder: Path, measured: Measured, step: int) -> None:
    """SIGSTOP of the leader past its ttl in any step: the standby brings the ramp to its end, the other is refused."""
    async with ramp_storm(folder, daemons=2) as run:
        measured("takeover_s", await goes_on(run, step, pause_leader))

    assert run.wrong() == []


@each_step
async def test_a_killed_store_goes_on_with_the_ramp(folder: Path, measured: Measured, step: int) -> None:
    """kill -9 of the store in any step, and a restart: no request notices, and the ramp is promoted."""
    async with ramp_storm(folder) as run:
        measured("back_s", await goes_on(run, step, kill_store))

    assert run.wrong() == []


@each_step
async def test_a_killed_proxy_goes_on_with_the_ramp(folder: Path, measured: Measured, step: int) -> None:
    """kill -9 of a proxy in any step, and a restart: only its open streams break, and the ramp is promoted."""
    async with ramp_storm(folder, balanced=True) as run:
        measured("back_s", await goes_on(run, step, kill_proxy))

    assert run.wrong(streams=False) == []
