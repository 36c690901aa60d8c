"""Whole answers that will not come: given up before their deadline, where the target is out and another is in."""

import gc
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from pointsman.core.errors import SUCCESS
from pointsman.fake import Fault, Kind
from pointsman.proxy import attempt, local
from pointsman.proxy.job import Job
from support import eventually, interpreted

pytestmark = [pytest.mark.anyio, interpreted]

OVERDUE_S = 0.3


@pytest.fixture(autouse=True)
def soon_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths: what is overdue, and how often that is looked at."""
    monkeypatch.setattr(local, "OVERDUE_FLOOR_UNARY_S", OVERDUE_S)
    monkeypatch.setattr(local, "OVERDUE_FACTOR", 0.0)
    monkeypatch.setattr(local, "PATIENCE_UNKNOWN_S", OVERDUE_S)
    monkeypatch.setattr(attempt, "LOOK_S", 0.02)


async def two(world: Any, **route: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", **route)
    await world.publish()
    return first, second


class Asked:
    """Whole answers that are asked for at once; `answers` are those that came."""

    def __init__(self, caller: Any, tasks: Any, count: int, **more: Any) -> None:
        self.answers: list[Any] = []
        self._caller = caller
        self._more = more
        for _ in range(count):
            tasks.start_soon(self._ask)

    async def _ask(self) -> None:
        self.answers.append(await self._caller.chat(**self._more))


def hanging(fake: Any, count: int) -> Callable[[], bool]:
    """Do so many requests hang there."""
    return lambda: bool(fake.requests.by_outcome[Kind.HANG] >= count)


async def test_a_table_that_takes_the_target_out_frees_who_waits_there(
    world: Any, running_proxy: Any
) -> None:
    """At the default deadline of ten minutes: another answers as soon as the table says that this one is out."""
    first, _ = await two(world)
    first.set_faults(Fault(kind=Kind.HANG))
    async with running_proxy() as caller, anyio.create_task_group() as tasks:
        asked = Asked(caller, tasks, 1)
        await eventually(hanging(first, 1))
        world.route("chat", chain="b a", last_resort=1)
        await world.publish()
        await eventually(lambda: asked.answers)
    [answer] = asked.answers
    assert (answer.status, answer.target) == (200, "b")
    assert answer.headers["x-pointsman-reason"] == "fell over: a response timeout"


async def test_a_hang_that_the_proxy_notices_frees_who_waits_there(world: Any, running_proxy: Any) -> None:
    """Once there are enough of them; without any new request, table or deadline."""
    first, _ = await two(world)
    async with (
        running_proxy(local_failures=3, local_cooldown_s=60.0) as caller,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(local.NORMAL_MIN_SAMPLES):
            await caller.chat()
        first.set_faults(Fault(kind=Kind.HANG))
        asked = Asked(caller, tasks, 3)
        await eventually(lambda: len(asked.answers) == 3)
    assert {(answer.status, answer.target) for answer in asked.answers} == {(200, "b")}


async def test_failures_free_who_waits_there(world: Any, running_proxy: Any) -> None:
    """The target is out for failing: what hangs there since is not waited for."""
    first, _ = await two(world)
    async with (
        running_proxy(local_failures=3, local_cooldown_s=60.0) as caller,
        anyio.create_task_group() as tasks,
    ):
        first.set_faults(Fault(kind=Kind.HANG))
        asked = Asked(caller, tasks, 1)
        await eventually(hanging(first, 1))
        first.set_faults(Fault(kind=Kind.STATUS, status=500))
        for _ in range(3):
            await caller.chat()
        await eventually(lambda: asked.answers)
    assert asked.answers[0].target == "b"


SLOW = {"x-fake-tokens": "2", "x-fake-token-delay-ms": str(round(OVERDUE_S * 1500))}


async def test_a_slow_answer_of_a_target_that_is_in_is_waited_for(world: Any, running_proxy: Any) -> None:
    """Long overdue, and fewer of them than a hang has."""
    await two(world)
    async with running_proxy() as caller:
        answer = await caller.chat(headers=SLOW)
    assert (answer.status, answer.target) == (200, "a")


async def test_a_rate_limit_frees_nobody(world: Any, running_proxy: Any) -> None:
    """It refuses what is new; what it has taken on, it answers."""
    first, _ = await two(world)
    async with running_proxy(local_cooldown_s=60.0) as caller, anyio.create_task_group() as tasks:
        asked = Asked(caller, tasks, 1, headers=SLOW)
        await eventually(lambda: first.requests.open == 1)
        first.set_faults(Fault(kind=Kind.STATUS, status=429, retry_after_s=30.0))
        assert (await caller.chat()).target == "b"
        assert (await caller.admin("GET", "/status")).json["ejected"] == ["a"]
        await eventually(lambda: asked.answers)
    assert asked.answers[0].target == "a"


@pytest.mark.parametrize(
    "route", [{"chain": "a b", "last_resort": 0}, {"chain": "a", "last_resort": 0}], ids=["all out", "alone"]
)
async def test_the_last_that_could_answer_is_waited_for(
    world: Any, running_proxy: Any, route: dict[str, Any]
) -> None:
    """Nobody who is in remains: a slow answer is better than none."""
    first, _ = await two(world)
    async with running_proxy() as caller, anyio.create_task_group() as tasks:
        asked = Asked(caller, tasks, 1, headers=SLOW)
        await eventually(lambda: first.requests.open == 1)
        world.route("chat", **route)
        await caller.until_table(await world.publish())
        await eventually(lambda: asked.answers)
    assert (asked.answers[0].status, asked.answers[0].target) == (200, "a")


async def test_an_answer_that_has_begun_to_come_is_waited_for(world: Any, running_proxy: Any) -> None:
    """Its first byte is a sign of life."""

    async def slowly(made: Any, reader: Any, writer: Any) -> None:
        await made.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{")
        await anyio.sleep(3 * OVERDUE_S)
        writer.write(b"}")

    first = await world.scripted("a", slowly)
    await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    async with running_proxy() as caller, anyio.create_task_group() as tasks:
        asked = Asked(caller, tasks, 1)
        await eventually(lambda: first.requests)
        world.route("chat", chain="b a", last_resort=1)
        await world.publish()
        await eventually(lambda: asked.answers)
    assert (asked.answers[0].status, asked.answers[0].target) == (200, "a")


async def test_an_answered_request_is_kept_by_nothing(world: Any, running_proxy: Any) -> None:
    """Bodies are large: what watched over the answer lets go of the request, without a collector of garbage."""
    await two(world)
    async with running_proxy() as caller:
        gc.collect()
        gc.disable()
        try:
            await caller.chat()
            await eventually(lambda: not [found for found in gc.get_objects() if isinstance(found, Job)])
        finally:
            gc.enable()


@pytest.mark.parametrize(("took_s", "known"), [(1.0, False), (1.0, True), (40.0, True)])
def test_what_is_overdue(monkeypatch: pytest.MonkeyPatch, took_s: float, known: bool) -> None:
    """Three times what nearly all take, half a minute at least; twice that where too few have been seen."""
    monkeypatch.undo()  # the real seconds
    breaker = local.LocalBreaker(5, 10.0)
    for number in range(local.NORMAL_MIN_SAMPLES if known else 3):
        ticket = breaker.began("a", 0, 100.0 * number, streamed=False)
        breaker.answered("a", ticket, 100.0 * number + took_s, streamed=False)
        breaker.ended("a", ticket, SUCCESS, 100.0 * number + took_s, streamed=False)
    least_s = max(30.0, 3 * took_s) if known else 60.0
    assert least_s <= breaker.patience_s("a") <= 2 * least_s
    assert breaker.patience_s("b") == 60.0
