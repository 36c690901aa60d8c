"""Any number of things happen to requests in any order: what holds whatever it is."""

import random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from transiting import (
    DONE,
    EVENT,
    EVENTS,
    GOOD,
    PING,
    TIMEOUTS,
    Ride,
    Road,
    ScriptedLine,
    answered,
    error_event,
)

from pointsman.core.errors import Wire
from pointsman.proxy.judging import Head
from pointsman.proxy.limits import Bounds
from pointsman.proxy.transit import State

HTML: Final = (b"Content-Type", b"text/html")
# What a provider may answer: its head, its body, and is the body a whole answer.
ANSWERS: Final[list[tuple[Head, bytes]]] = [
    (answered(), GOOD),
    (answered(), GOOD[:-1]),
    (answered(200, HTML), b"<html></html>"),
    (answered(400), b'{"error": {"type": "invalid_request_error"}}'),
    (answered(401), b'{"error": {"code": "invalid_api_key"}}'),
    (answered(429), b"{}"),
    (answered(503), b"{}"),
    (answered(200, EVENTS), b": processing\n\n" + EVENT * 3 + DONE),
    (answered(200, EVENTS), EVENT * 2),
    (answered(200, EVENTS), EVENT + DONE + b": late\n\n"),
    (answered(200, EVENTS), error_event("overloaded_error")),
    (answered(200, EVENTS), error_event("invalid_request_error")),
    (answered(200, EVENTS), EVENT + error_event("overloaded_error")),
]
SERVED: Final = [ANSWERS[0], *ANSWERS[7:9], ANSWERS[-1]]
WHOLE_STREAM: Final = (DONE, error_event("overloaded_error"), error_event("invalid_request_error"))

# What may happen, and how likely it is: were answers not the likeliest, most requests would never have one.
LIKELY: Final = {
    "answer": 40, "more": 30, "all": 12, "break": 5, "ring": 10, "wait": 5, "pause": 5, "lose": 2, "fill": 2,
    "gone": 1, "cut off": 1,
}  # fmt: skip


def road_of(dice: random.Random) -> Road:
    """A proxy, mostly without bounds that anything could meet."""
    credentials = dice.randint(1, 2)
    if dice.random() < 0.7:
        return Road(credentials=credentials)
    bounds = Bounds(
        retry_budget=dice.choice((100, 1, 0)),
        replay_bytes=dice.choice((1 << 20, 0)),
        replay_bytes_in_all=dice.choice((1 << 20, 60)),
    )
    return Road(
        credentials=credentials,
        max_in_flight=dice.randint(0, 2),
        max_connections=dice.randint(0, 1),
        bounds=bounds,
    )


def happening(dice: random.Random) -> tuple[str, Any]:
    """What happens next, and how."""
    (what,) = dice.choices(list(LIKELY), LIKELY.values())
    match what:
        case "answer":
            return what, dice.choice(ANSWERS + SERVED * 3)
        case "more":
            return what, dice.randint(1, 99)
        case "all" | "pause":
            return what, dice.random() < 0.5
        case "break":
            return what, (dice.choice(list(Wire)), dice.random() < 0.5)
        case "wait":
            return what, dice.uniform(0, 20)
        case "lose" | "fill":
            return what, dice.choice("abc")
        case _:
            return what, None


class Played:
    """A ride whose provider follows a script; what must always hold is checked after whatever happens."""

    def __init__(self, road: Road, *, stream: bool, paused: bool) -> None:
        self.road = road
        self.ride = Ride(road, stream=stream)
        self.left: bytes | None = None  # of the present answer; None: it has not begun
        self.script = b""
        self.line: ScriptedLine | None = None
        self.silenced = False  # the caller hung up
        self.ride.caller.paused = paused  # it still reads the answer before
        self.ride.begin()
        self.check()

    def happens(self, what: str, value: Any) -> None:
        """One thing, if it can happen now."""
        ride = self.ride
        if ride.over:
            return
        if ride.line is not self.line:
            self.line, self.left = ride.line, None
        match what:
            case "ring":
                self.rings()
            case "wait":
                ride.now_s = min(ride.now_s + value, ride.caller.due_s)
            case "pause":
                ride.caller.paused = value
                ride.transit.hold(held=value)
            case "lose":
                self.road.lose(value)
            case "fill":
                ride.providers.full ^= {value}
            case "gone":
                self.silenced = True
                ride.transit.gone()
            case "cut off":
                ride.transit.cut_off()
            case _:
                self.provider(what, value)
        self.check()

    def provider(self, what: str, value: Any) -> None:
        """The provider says something, or its connection breaks."""
        ride, left = self.ride, self.left
        if what == "break":
            ride.breaks(value[0], stale=value[1] and left is None)
        elif what == "answer" and left is None:
            head, self.script = value
            self.left = self.script[1:]
            ride.hears(head, self.script[:1])
        elif what == "more" and left is not None:
            self.left = left[value:]
            ride.hears(None, left[:value])
        elif what == "all" and left is not None:
            self.left = b""
            ride.hears(None, left, ended=value)
            if not ride.over and ride.line is self.line and not ride.line.over:
                ride.hears(None, ended=True)

    def rings(self) -> None:
        """The alarm, when it is due; it is not due at once again for the same thing."""
        ride = self.ride
        before = len(ride.providers.lines)
        ride.rings()
        if not ride.over and len(ride.providers.lines) == before:
            assert ride.caller.due_s > ride.now_s

    def check(self) -> None:
        """As long as a request is not over it has a deadline and one line; then it has neither, and one answer."""
        ride, caller = self.ride, self.ride.caller
        lines = ride.providers.lines
        under_way = [line for line in lines if not line.over]
        if not ride.over:
            assert under_way == lines[-1:]
            assert ride.now_s <= caller.due_s < ride.now_s + TIMEOUTS.response_s + 1
            assert not caller.end
            if ride.transit.state is State.PASSING:
                assert lines[-1].held is caller.paused
            return
        assert not under_way
        assert caller.due_s == float("inf")
        assert bool(caller.end) != self.silenced
        assert len(ride.job.record.attempts) == self.accounts
        assert ride.job.body == b""
        self.check_answer()

    @property
    def accounts(self) -> int:
        """Targets that were asked: to be asked again with another credential or connection is the same attempt."""
        return len({line.target for line in self.ride.providers.lines})

    def check_answer(self) -> None:
        """What looks whole is whole, byte for byte; what is not ends in an error and a cut."""
        ride, caller = self.ride, self.ride.caller
        body = caller.body.replace(PING, b"")
        if caller.end == "whole":
            assert any(line.over and line.fed == caller.body for line in ride.providers.lines)
            assert ride.faults[-1] in {"ok", "caller"}
        elif caller.end == "finish":
            assert ride.line.fed.startswith(body)
            assert any(last in body for last in WHOLE_STREAM)
            if not ride.line.dropped and not self.line_broke:
                assert body == self.script
        elif caller.end == "cut":
            passed, _, words = body.partition(b'\n\ndata: {"error":{"message":"the answer of ')
            assert words
            assert ride.line.fed.startswith(passed)

    @property
    def line_broke(self) -> bool:
        """The connection broke before all of the answer had come."""
        return self.ride.line.fed != self.script

    def to_the_end(self) -> None:
        """Nothing happens any more but time: sooner or later it is over."""
        self.ride.caller.paused = False
        self.ride.transit.hold(held=False)
        for _ in range(5_000):
            if self.ride.over:
                return
            self.happens("ring", None)
        raise AssertionError("it never ends")


@settings(max_examples=600)
@given(st.integers(0, 1 << 32))
def test_every_request_gets_one_answer_and_leaves_nothing(seed: int) -> None:
    """Requests that share a proxy, and everything that can happen to them, in any order and any pieces."""
    dice = random.Random(seed)
    road = road_of(dice)
    played = [
        Played(road, stream=dice.random() < 0.7, paused=dice.random() < 0.1)
        for _ in range(dice.randint(1, 3))
    ]
    for _ in range(dice.randint(0, 60)):
        what, value = happening(dice)
        dice.choice(played).happens(what, value)
    for one in played:
        one.to_the_end()
    road.check_nothing_is_left()
    assert sum(road.counted().values()) == sum(one.accounts for one in played)
