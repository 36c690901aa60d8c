"""A timer that is put off by an assignment, on a loop and a clock that the test holds."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy import alarm
from pointsman.proxy.alarm import Alarm
from support import interpreted

pytestmark = interpreted


class Loop:
    """An event loop's timers; `armed` counts those that were ever set."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.armed = 0
        self._timers: list[tuple[float, Callable[[], None], SimpleNamespace]] = []

    def monotonic(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        self.armed += 1
        handle = SimpleNamespace(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self._timers.append((self.now_s + delay_s, call, handle))
        return handle

    @property
    def live(self) -> list[float]:
        """When the timers that are set go off."""
        self._timers = [timer for timer in self._timers if not timer[2].cancelled]
        return sorted(at_s for at_s, _, _ in self._timers)

    def until(self, end_s: float) -> None:
        """Time passes, and every timer goes off when it is due."""
        while self.live and self.live[0] <= end_s:
            first = min(self._timers, key=lambda timer: timer[0])
            self._timers.remove(first)
            self.now_s = max(self.now_s, first[0])
            first[1]()
        self.now_s = end_s


class Bell:
    """An alarm on a loop of its own; `rung`: when it rang."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.loop = Loop()
        self.rung: list[float] = []
        patched.setattr(alarm, "time", self.loop)
        self.alarm = Alarm(self.loop, lambda: self.rung.append(self.loop.now_s))  # type: ignore[arg-type]


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Bell:
    """An alarm that is not set."""
    return Bell(monkeypatch)


def test_it_rings_once_when_it_is_due(bell: Bell) -> None:
    """Not before, and not again."""
    bell.alarm.set(1_010.0)
    bell.loop.until(1_009.9)
    assert bell.rung == []
    bell.loop.until(1_100.0)
    assert bell.rung == [1_010.0]
    assert bell.loop.live == []


def test_putting_it_off_takes_no_new_timer(bell: Bell) -> None:
    """A thousand times later and later: the loop hears of it twice, and it rings at the last word."""
    for number in range(1_000):
        bell.alarm.set(1_010.0 + number / 100)
    assert bell.loop.armed == 1
    bell.loop.until(1_100.0)
    assert bell.rung == [1_010.0 + 9.99]
    assert bell.loop.armed == 2


def test_what_is_due_sooner_rings_sooner(bell: Bell) -> None:
    """The timer that was set gives way: only one is ever alive."""
    bell.alarm.set(1_010.0)
    bell.alarm.set(1_005.0)
    assert bell.loop.live == [1_005.0]
    bell.loop.until(1_100.0)
    assert bell.rung == [1_005.0]


def test_what_is_due_already_rings_from_the_loop(bell: Bell) -> None:
    """Never from within `set`: whoever sets it is in the middle of something."""
    bell.alarm.set(900.0)
    assert bell.rung == []
    bell.loop.until(1_000.0)
    assert bell.rung == [1_000.0]


def test_infinity_never_rings(bell: Bell) -> None:
    """The timer that is under way goes off and is not set again; a later word is heard."""
    bell.alarm.set(1_010.0)
    bell.alarm.set(math.inf)
    bell.loop.until(1_020.0)
    assert (bell.rung, bell.loop.live) == ([], [])
    bell.alarm.set(1_030.0)
    bell.loop.until(1_100.0)
    assert bell.rung == [1_030.0]


def test_a_cancelled_alarm_keeps_nothing_alive(bell: Bell) -> None:
    """A connection that is gone is not held by its timer; who sets it again hears it."""
    bell.alarm.set(1_010.0)
    bell.alarm.cancel()
    assert bell.loop.live == []
    bell.alarm.set(1_020.0)
    bell.loop.until(1_100.0)
    assert bell.rung == [1_020.0]


def test_it_may_be_set_while_it_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stream does that pings and waits again."""
    bell = Bell(monkeypatch)

    def ring() -> None:
        bell.rung.append(bell.loop.now_s)
        bell.alarm.set(bell.loop.now_s + 15.0)

    bell.alarm = Alarm(bell.loop, ring)  # type: ignore[arg-type]
    bell.alarm.set(1_015.0)
    bell.loop.until(1_050.0)
    assert bell.rung == [1_015.0, 1_030.0, 1_045.0]
    assert bell.loop.live == [1_060.0]


words = st.one_of(
    st.tuples(st.just("set"), st.integers(-5, 50)),
    st.tuples(st.just("never"), st.none()),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("pass"), st.integers(0, 30)),
)


@given(st.lists(words, max_size=30))
def test_only_the_latest_word_counts(said: list[tuple[str, Any]]) -> None:
    """Whatever is said to it and whenever: it rings at the latest word's time, once, with one timer at most."""
    with pytest.MonkeyPatch.context() as patched:
        bell = Bell(patched)
        due_s, wanted = math.inf, []
        for what, value in said:
            now_s = bell.loop.now_s
            match what:
                case "set":
                    due_s = now_s + value
                    bell.alarm.set(due_s)
                case "pass":
                    if due_s <= now_s + value:
                        wanted.append(max(due_s, now_s))
                        due_s = math.inf
                    bell.loop.until(now_s + value)
                case "never":
                    due_s = math.inf
                    bell.alarm.set(due_s)
                case _:
                    due_s = math.inf
                    bell.alarm.cancel()
            assert len(bell.loop.live) <= 1
        assert bell.rung == wanted
