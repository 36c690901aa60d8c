"""`make soak`: everything goes wrong in turn under traffic, and nobody gets a wrong answer, nor is anything kept.

Real processes: a store, a daemon, two proxies (one of two workers) and providers that echo. One provider of each route
is always well, so that every request can be served, save the streams that a provider had begun when it died, and what
a worker was at when it was killed. Exit code 1 when anything was wrong.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from bench.soak_callers import Callers
from bench.soak_parts import Held, Installation, until
from pointsman.core.evidence import Verb
from pointsman.store.errors import StoreError

# By how much what a process holds may grow from the end of the warm-up to the end.
# Connections that are kept come on top: a caller's, and one to a provider.
FILES_MORE = 16
TASKS_MORE = 8
RSS_MORE_MIB = 16.0
TARGETS = ("a", "d", "b")
ABORT = {"kind": "abort", "after_events": 3}

FaultOf = Callable[[Installation, Callers, str], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(here: Installation, _: Callers, target: str) -> AsyncIterator[None]:
    """The provider's process is gone, and comes back."""
    here.providers[target].kill()
    yield
    here.providers[target].start()


@asynccontextmanager
async def hung(here: Installation, _: Callers, target: str) -> AsyncIterator[None]:
    """The provider reads and says nothing."""
    await here.control(target, "POST", "/die", {"mode": "hang"})
    yield
    await here.control(target, "POST", "/revive")


@asynccontextmanager
async def resetting(here: Installation, _: Callers, target: str) -> AsyncIterator[None]:
    """The provider resets every connection."""
    await here.control(target, "POST", "/die", {"mode": "reset"})
    yield
    await here.control(target, "POST", "/revive")


@asynccontextmanager
async def half_closing(here: Installation, _: Callers, target: str) -> AsyncIterator[None]:
    """The provider closes in the middle of what it says."""
    await here.control(target, "PUT", "/faults", [ABORT | {"stream": True}, ABORT | {"stream": False}])
    yield
    await here.control(target, "DELETE", "/faults")


@asynccontextmanager
async def republished(here: Installation, *_: object) -> AsyncIterator[None]:
    """A new table as often as the daemon takes an order."""

    async def order() -> None:
        async with here.connected() as store:
            for turn in itertools.count():
                shares = {"a": 4000 + turn % 2 * 1000, "b": 4000 - turn % 2 * 1000, "c": 2000}
                word = await store.say(
                    Verb.SET_WEIGHTS, "soak", "soak", {"route": "chat", "shares_bp": shares, "over_s": None}
                )
                answer = await store.answer(word, 1.0)
                here.orders += answer is not None and answer.ok

    async with _beside(order):
        yield


@asynccontextmanager
async def storeless(here: Installation, *_: object) -> AsyncIterator[None]:
    """The store is killed, and comes back."""
    here.store.kill()
    yield
    here.store.start()


@asynccontextmanager
async def worker_killed(here: Installation, callers: Callers, _: str) -> AsyncIterator[None]:
    """One of two workers is killed."""
    callers.killing = True
    here.kill_worker()
    yield
    callers.killing = False


@asynccontextmanager
async def _beside(run: Callable[[], object]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(run())  # type: ignore[call-overload]
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoreError):
            await task


FAULTS: tuple[FaultOf, ...] = (
    killed,
    hung,
    resetting,
    half_closing,
    republished,
    storeless,
    worker_killed,
)


async def held_at_rest(here: Installation, callers: Callers) -> dict[str, Held]:
    """What the proxies hold while nobody asks anything."""
    await callers.pause()
    found: dict[str, Held] = await until(here.all_held, "all workers to be up")
    callers.go_on()
    return found


def grown(before: dict[str, Held], after: dict[str, Held], callers: int) -> list[str]:
    """What grew beyond its bound. The memory of a process that is new since then says nothing."""
    found = []
    for name, now in after.items():
        was = before[name]
        if now.files > was.files + FILES_MORE + 2 * callers:
            found.append(f"{name}: {was.files} → {now.files} open files")
        if now.tasks > was.tasks + TASKS_MORE:
            found.append(f"{name}: {was.tasks} → {now.tasks} tasks")
        if now.pid == was.pid and now.rss_mib > was.rss_mib + RSS_MORE_MIB:
            found.append(f"{name}: {was.rss_mib:.1f} → {now.rss_mib:.1f} MiB")
    return found


async def soak(folder: Path, minutes: float, hold_s: float, count: int) -> int:
    """The exit code."""
    here = Installation(folder)
    try:
        await here.start()
        callers = Callers(list(here.urls.values()), count)
        async with _beside(callers.run):
            return await _played(here, callers, minutes * 60, hold_s)
    finally:
        here.end()


async def _played(here: Installation, callers: Callers, for_s: float, hold_s: float) -> int:
    began_s = told_s = time.monotonic()
    await asyncio.sleep(min(30.0, for_s / 10))
    before = await held_at_rest(here, callers)
    turn = 0
    while time.monotonic() - began_s < for_s or turn < len(FAULTS):
        fault, target = FAULTS[turn % len(FAULTS)], TARGETS[turn % len(TARGETS)]
        callers.fault = fault.__name__
        async with fault(here, callers, target):
            await asyncio.sleep(hold_s)
        await asyncio.sleep(hold_s)
        turn += 1
        if time.monotonic() - told_s >= 60:
            told_s = time.monotonic()
            _tell(f"{told_s - began_s:.0f} s, {turn} faults", here, callers, await here.held())
    callers.fault = ""
    after = await held_at_rest(here, callers)
    tally = callers.tally
    problems = [*tally.wrong, *tally.failed, *grown(before, after, callers.count)]
    _tell(f"{time.monotonic() - began_s:.0f} s, {turn} faults, at the end", here, callers, after)
    if not tally.ok or not here.orders:
        problems.append(f"{tally.ok} requests were served, {here.orders} orders were taken")
    for problem in problems[:20]:
        print(f"  {problem}")
    if problems:
        print(here.logs())
    print(f"soak: {len(problems)} problem(s)")
    return int(bool(problems))


def _tell(when: str, here: Installation, callers: Callers, held: dict[str, Held]) -> None:
    tally = callers.tally
    told = ", ".join(
        f"{name} {one.files} files {one.tasks} tasks {one.rss_mib:.0f} MiB" for name, one in held.items()
    )
    ended = f"{tally.ok} ok, {tally.cut} cut, {len(tally.failed)} failed, {len(tally.wrong)} wrong"
    ended += f", {here.orders} tables ordered"
    print(f"{when}: {ended}; {told}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long (default: 10)")
    parser.add_argument(
        "--hold-s", type=float, default=4.0, help="how long a fault lasts, and the rest after"
    )
    parser.add_argument("--callers", type=int, default=12, help="how many ask at once")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        return asyncio.run(soak(Path(folder), chosen.minutes, chosen.hold_s, chosen.callers))


if __name__ == "__main__":
    sys.exit(main())
