"""The demo from curtain to curtain."""

import signal
from collections.abc import Iterator
from contextlib import nullcontext

import anyio
import msgspec
from anyio.abc import TaskStatus
from rich.console import Console

from pointsman.demo.stage import Stage, StageError
from pointsman.demo.story import Story
from pointsman.demo.summary import Summary
from pointsman.demo.traffic import Traffic
from pointsman.demo.view import View


async def run(duration_s: float, *, json: bool) -> int:
    """Play the story. 0: no request failed; 1: some did; 2: it could not be set up; 130: interrupted.

    With `json` the summary is the only thing on standard output, and everything else goes to standard error.
    """
    out = Console(highlight=False)
    view = View(Console(stderr=True, highlight=False) if json else out)
    summary: Summary | None = None
    scope = anyio.CancelScope()
    try:
        async with anyio.create_task_group() as listening:
            await listening.start(_obey, scope)
            with scope:
                view.intro()
                summary = await _play(duration_s, view)
            listening.cancel_scope.cancel()
    except* (StageError, TimeoutError) as errors:
        for error in _leaves(errors):
            why = str(error) or f"nothing happened for too long ({type(error).__name__})"
            view.console.print(f"the demo could not go on: {why}", style="red", markup=False, soft_wrap=True)
    if scope.cancel_called:
        return 130
    if summary is None:
        return 2
    view.end(summary)
    if json:
        out.print(msgspec.json.encode(summary).decode(), soft_wrap=True, markup=False, highlight=False)
    return 1 if summary.failed else 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors themselves: task groups within task groups wrap them once each."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _obey(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """The first signal ends the play. Later ones change nothing: the processes are being ended, and must be.

    A terminal that is closed sends SIGHUP, which `nohup` has ignored.
    """
    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*ending) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


async def _play(duration_s: float, view: View) -> Summary:
    async with Stage.set_up() as stage, Traffic.session() as session:
        traffic = Traffic(stage.proxies, session)
        story = Story(stage, traffic, duration_s, view.tell)
        with view.live or nullcontext():
            async with anyio.create_task_group() as watching:
                watching.start_soon(story.watch_table)
                watching.start_soon(story.watch_events)
                watching.start_soon(_show, view, story, traffic)
                # Requests are in a group of their own, so that every one that was begun is waited for.
                async with anyio.create_task_group() as requests, anyio.create_task_group() as sending:
                    sending.start_soon(traffic.run, requests)
                    await story.play()
                    sending.cancel_scope.cancel()
                watching.cancel_scope.cancel()
        return story.summary()


async def _show(view: View, story: Story, traffic: Traffic) -> None:
    while True:
        view.show(story.table, traffic.tally, story.store_away)
        await anyio.sleep(0.125)
