"""How soon the leader hears of what a proxy saw: of what may change a verdict at once, of the rest with others."""

from typing import Any

import anyio
import pytest

from pointsman.core.errors import SUCCESS, Fault, Outcome
from pointsman.fake import Fault as Misbehave
from pointsman.fake import Kind
from pointsman.proxy.outcomes import AT_ONCE_S, LONE_S, Ledger, Seen
from pointsman.store.client import LONE
from support import eventually

pytestmark = pytest.mark.anyio
GOOD = SUCCESS
BAD, LIMIT, SOFT, BAR, CALLER = (
    Outcome(fault=fault, detail="it did", retry_after_s=after_s)
    for fault, after_s in (
        (Fault.OVERLOAD, None),
        (Fault.RATE_LIMIT, 10.0),
        (Fault.CAPACITY, 10.0),
        (Fault.CREDENTIAL, None),
        (Fault.CALLER, None),
    )
)


def told(*outcomes: tuple[float, Outcome], **fields: Any) -> list[float | None]:
    """How soon each of these is to be told, by (second, outcome)."""
    ledger = Ledger(throttle_default_s=5.0, soften_s=5.0)
    return [
        ledger.record(Seen(target="a", outcome=one, streamed=False, latency_ms=1.0, **fields), at_s)
        for at_s, one in outcomes
    ]


@pytest.mark.parametrize(
    ("outcomes", "soon"),
    [
        ([(1, GOOD), (2, CALLER)], [None, None]),
        ([(1, BAD), (2, GOOD), (3, BAD)], [LONE_S, None, LONE_S]),
        ([(1, BAD), (2, BAD), (3, BAD)], [LONE_S, AT_ONCE_S, AT_ONCE_S]),
        ([(1, LIMIT), (2, LIMIT), (13, LIMIT)], [AT_ONCE_S, None, AT_ONCE_S]),
        ([(1, SOFT), (2, SOFT), (13, SOFT)], [AT_ONCE_S, None, AT_ONCE_S]),
        ([(1, BAR), (2, BAR), (3, GOOD), (4, BAR)], [AT_ONCE_S, None, None, AT_ONCE_S]),
    ],
)
def test_what_may_change_a_verdict_is_told_at_once(
    outcomes: list[tuple[float, Outcome]], soon: list[float | None]
) -> None:
    """A run, a new limit, a bar; not the failure between two successes, nor a limit that is known."""
    assert told(*outcomes) == soon


def test_the_end_of_a_trial_is_told_at_once() -> None:
    """Good or bad, and of synthetic traffic too; but not one that told nothing."""
    assert told((1, GOOD), grant=3) == [AT_ONCE_S]
    assert told((1, BAD), grant=3) == [AT_ONCE_S]
    assert told((1, GOOD), grant=3, synthetic=True) == [AT_ONCE_S]
    assert told((1, CALLER), grant=3) == [None]


def test_what_synthetic_traffic_meets_is_not_told_at_once() -> None:
    """It decides nothing."""
    assert told((1, BAD), (2, BAD), synthetic=True) == [None, None]


async def two(world: Any) -> Any:
    """Providers a and b on the route "chat", a first; gives a."""
    first = await world.provider("a")
    await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    return first


async def test_failures_that_stand_alone_share_reports(world: Any, running_proxy: Any) -> None:
    """Every second request fails at a: two seconds of that are no more than four reports a second, each a lone wake."""
    first = await two(world)
    async with running_proxy(report_interval_s=60.0, local_failures=1000) as caller:
        await caller.chat()
        messages: list[str] = []
        async with anyio.create_task_group() as tasks:
            await tasks.start(listen, world, messages)
            with anyio.move_on_after(2.0):
                while True:
                    first.set_faults(Misbehave(kind=Kind.STATUS, status=503))
                    await caller.chat()
                    first.clear()
                    await caller.chat()
                    await anyio.sleep(0.01)
            await eventually(lambda: messages)
            tasks.cancel_scope.cancel()
        [report] = await world.store.reports()
    assert report.targets["a"].counts["overload"] > 20
    assert 1 <= len(messages) <= 9
    assert set(messages) == {f"{LONE}p1"}


async def test_a_run_does_not_wait_for_the_lone_failure_before_it(world: Any, running_proxy: Any) -> None:
    """The second failure in a row is told at once, and not as one that has time."""
    first = await two(world)
    first.set_faults(Misbehave(kind=Kind.STATUS, status=503))
    async with running_proxy(report_interval_s=60.0, local_failures=1000) as caller:
        messages: list[str] = []
        async with anyio.create_task_group() as tasks:
            await tasks.start(listen, world, messages)
            await caller.chat()
            await caller.chat()
            await eventually(lambda: messages)
            tasks.cancel_scope.cancel()
        [report] = await world.store.reports()
    assert messages[0] == "p1"
    assert report.targets["a"].lanes["unary"].streak == 2


async def listen(world: Any, messages: list[str], *, task_status: Any) -> None:
    """Collect what wakes the leader."""
    async for message in world.store.wakes():
        if message == "":
            task_status.started()
        else:
            messages.append(message)
