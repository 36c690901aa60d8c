"""The small parts of the loop: inbox, clock, memory."""

import time
from pathlib import Path

import anyio
import pytest

from pointsman.control.clock import Clock
from pointsman.control.inbox import Inbox
from pointsman.control.memory import NOTHING, Memory
from pointsman.core.errors import SUCCESS, Wire, of_wire
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.model import Drain, Phase, State
from pointsman.core.table import Version

pytestmark = pytest.mark.anyio


def result(number: float, *, ok: bool = True, target: str = "a") -> ProbeResult:
    outcome = SUCCESS if ok else of_wire(Wire.RESET)
    return ProbeResult(
        provider="p", target=target, kind=ProbeKind.GENERATE, outcome=outcome, at_s=number, vantage="test"
    )


class Bell:
    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


def test_a_full_inbox_drops_the_oldest_and_counts() -> None:
    """Bounded: what is newest is what counts."""
    inbox = Inbox(Bell(), capacity=3)
    for number in range(5):
        inbox.emit(result(number))

    assert [one.at_s for one in inbox.drain()] == [2, 3, 4]
    assert inbox.dropped == 2
    assert inbox.drain() == ()


def test_what_is_given_back_comes_first() -> None:
    """Results of a decision that was not saved stand before newer ones, in their order."""
    inbox = Inbox(Bell())
    for number in range(2):
        inbox.emit(result(number))
    drained = inbox.drain()
    inbox.emit(result(2))
    inbox.give_back(drained)

    assert [one.at_s for one in inbox.drain()] == [0, 1, 2]


def test_only_what_matters_at_once_wakes() -> None:
    """A failure wakes, a half-open target's trial wakes, a healthy target's success does not."""
    bell = Bell()
    inbox = Inbox(bell)
    inbox.watch({"b": Phase.HALF_OPEN})
    inbox.emit(result(0))
    assert bell.rung == 0
    inbox.emit(result(1, ok=False))
    assert bell.rung == 1
    inbox.emit(result(2, target="b"))
    assert bell.rung == 2


async def test_the_cadence_is_fixed() -> None:
    """Ticks that take time do not make the clock drift."""
    clock = Clock(0.05)
    await clock.next()
    began = time.monotonic()
    for _ in range(4):
        await clock.next()
        time.sleep(0.02)  # noqa: ASYNC251  this is a tick that works

    assert 0.2 - 0.02 < time.monotonic() - began < 0.2 + 0.04


async def test_a_stall_is_followed_by_no_burst(caplog: pytest.LogCaptureFixture) -> None:
    """After an overrun one tick comes at once, the next an interval later, and a warning says it."""
    clock = Clock(0.1)
    await clock.next()
    time.sleep(0.45)  # noqa: ASYNC251  this is the stall
    with caplog.at_level("WARNING", "pointsman"):
        await clock.next()
    began = time.monotonic()
    await clock.next()

    assert time.monotonic() - began > 0.08
    assert "late" in caplog.text


async def test_wakes_that_come_together_are_one_tick() -> None:
    """Several wakes within the debounce give one tick; one that comes later gives another."""
    clock = Clock(60.0)
    await clock.next()
    clock.wake()
    clock.wake()
    began = time.monotonic()
    await clock.next()
    assert 0.015 < time.monotonic() - began < 1.0
    assert not clock.is_woken
    clock.wake()
    assert clock.is_woken


async def test_wakes_that_have_time_are_one_tick() -> None:
    """However many come within their time, the tick comes when the first of them has run out of it."""
    clock = Clock(60.0)
    await clock.next()
    began = time.monotonic()

    async def wake_often() -> None:
        for _ in range(20):
            clock.wake(0.3)
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wake_often)
        await clock.next()
    assert 0.29 < time.monotonic() - began < 1.0
    assert not clock.is_woken


async def test_a_wake_without_time_does_not_wait_for_one_that_has_it() -> None:
    """A run of failures comes in while a lone one waits."""
    clock = Clock(60.0)
    await clock.next()
    clock.wake(30.0)
    began = time.monotonic()

    async def hurry() -> None:
        await anyio.sleep(0.05)
        clock.wake()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hurry)
        await clock.next()
    assert time.monotonic() - began < 1.0


def test_memory_tells_a_store_that_went_back(tmp_path: Path) -> None:
    """First the table's version counts, then the state's revision."""
    memory = Memory(tmp_path / "control.json")
    memory.remember(State(revision=7), Version(5, 3), 5, ours=True)

    assert memory.is_newer_than(NOTHING, 0)
    assert memory.is_newer_than(Version(5, 2), 900)
    assert memory.is_newer_than(Version(5, 3), 6)
    assert not memory.is_newer_than(Version(5, 3), 7)
    assert not memory.is_newer_than(Version(6, 1), 1)


def test_a_standby_does_not_forget_with_the_store(tmp_path: Path) -> None:
    """What a standby reads of a store that went back does not replace what it remembers."""
    memory = Memory(tmp_path / "control.json")
    drained = State(revision=7, drains={"a": Drain(owner="ann", reason="r", at_s=1.0)})
    memory.remember(drained, Version(5, 3), 5, ours=False)
    memory.remember(State(revision=1), NOTHING, 0, ours=False)

    assert memory.restore(None, now_s=100.0).drains == drained.drains


def test_a_restored_state_continues_at_the_stores_revision(tmp_path: Path) -> None:
    """So that saving it is a compare-and-set on what is really there; the cursor never lies in the future."""
    memory = Memory(tmp_path / "control.json")
    memory.remember(State(revision=7, words_cursor="900000-1"), Version(5, 3), 5, ours=True)
    restored = memory.restore(State(revision=4), now_s=100.0)

    assert restored.revision == 4
    assert restored.words_cursor == "100000-0"


def test_only_what_lasts_is_written(tmp_path: Path) -> None:
    """A tick that moves nothing but counters does not touch the disk."""
    memory = Memory(tmp_path / "control.json")
    assert memory.remember(State(revision=1), Version(5, 3), 5, ours=True)
    assert not memory.remember(State(revision=2, words_cursor="5-0"), Version(5, 3), 5, ours=True)
    assert memory.remember(State(revision=3), Version(5, 4), 5, ours=True)


def test_a_disk_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on without its backup."""
    memory = Memory(tmp_path / "gone" / "control.json")
    memory.write()
    memory.write()

    assert caplog.text.count("cannot write") == 1
