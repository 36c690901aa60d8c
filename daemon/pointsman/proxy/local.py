"""This proxy's own reaction to failures, so that it lives without the control plane. Pure: `now_s` is passed in.

Per target and lane (streams, whole answers), on the monotonic clock:

    state     until                        what happens
    in        failures in a row ≥ limit    → out for the cooldown
    in        many overdue, none answering → out for the cooldown (a hang, noticed before its deadlines)
    in        rate limited                 → out for as long as the provider asks, at most the cooldown
    out       the cooldown is over         → on trial: one request at a time
    on trial  it fails / it succeeds       → out again / in

A stream succeeds with its first event as far as trials and hangs go: it may run for minutes after that. Everything
is forgotten when the table says that the target came back into service (`generation` grows), and what was sent
before then says nothing any more; one success of a hanging target brings it back at once. Ejecting locally moves a
target to the end of the order; it never takes the last one away.
"""

import itertools
from enum import StrEnum
from typing import Final

from msgspec import Struct

from pointsman.core.errors import Effect, Outcome
from pointsman.core.evidence import LATENCY_EDGES_MS, latency_cell

# "Far longer than normal": at least this long, and three times the 99th percentile. A whole answer takes as long as
# its text, so that the next ones may well be longer than any before; a stream's first event does not depend on that.
OVERDUE_FLOOR_S: Final = 2.0
OVERDUE_FLOOR_UNARY_S: Final = 30.0
OVERDUE_FACTOR: Final = 3.0
# With fewer answers than this the normal is unknown: streams are given this long, whole answers any time.
NORMAL_MIN_SAMPLES: Final = 20
OVERDUE_UNKNOWN_S: Final = 10.0
# The ticket of a request that is under way by a table from before the target came back.
_STALE: Final = -1
# A rate limit that names no time.
THROTTLE_UNKNOWN_S: Final = 1.0


class Standing(StrEnum):
    """May a request go there now."""

    IN = "in"
    ON_TRIAL = "on trial"
    OUT = "out"


class Lane(Struct):
    """What is remembered of one lane of one target. Times are monotonic seconds.

    `first` is the lowest ticket of the present generation; `waiting`: ticket → when it was sent, of those that are
    unanswered; `answered_ms`: of those that are not over yet.
    """

    generation: int = 0
    first: int = 0
    streak: int = 0
    out_until_s: float = 0.0
    hanging: bool = False
    trial: int = 0
    last_answer_s: float = float("-inf")
    answers: int = 0
    cells: dict[int, int] = {}
    waiting: dict[int, float] = {}
    answered_ms: dict[int, float] = {}


class LocalBreaker:
    """All lanes of all targets. `failures` in a row eject for `cooldown_s` seconds."""

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._lanes: dict[tuple[str, bool], Lane] = {}
        self._tickets = itertools.count(1)

    def standing(self, target: str, generation: int, now_s: float, *, streamed: bool) -> Standing:
        """Where the lane stands; notices a hang on the way."""
        lane = self._lanes.get((target, streamed))
        if lane is None:
            return Standing.IN
        if generation > lane.generation:
            self._forget(lane, generation)
        if lane.out_until_s == 0.0 and len(self._overdue(lane, now_s, streamed=streamed)) >= self._failures:
            lane.out_until_s, lane.hanging = now_s + self._cooldown_s, True
        if lane.out_until_s == 0.0:
            return Standing.IN
        if now_s < lane.out_until_s or lane.trial:
            return Standing.OUT
        return Standing.ON_TRIAL

    def began(self, target: str, generation: int, now_s: float, *, streamed: bool) -> int:
        """A request goes out; the ticket names it in `answered` and `ended`."""
        lane = self._lanes.get((target, streamed))
        if lane is None:
            lane = self._lanes[target, streamed] = Lane(generation=generation)
        elif generation > lane.generation:
            self._forget(lane, generation)
        elif generation < lane.generation:
            return _STALE
        ticket = next(self._tickets)
        lane.waiting[ticket] = now_s
        if lane.out_until_s and now_s >= lane.out_until_s and not lane.trial:
            lane.trial = ticket
        return ticket

    def answered(self, target: str, ticket: int, now_s: float, *, streamed: bool) -> None:
        """The first that counts of an answer has come: a stream's first event, the end of a whole one."""
        lane = self._lanes[target, streamed]
        began_s = lane.waiting.pop(ticket, None)
        if began_s is None:
            return
        lane.answered_ms[ticket] = (now_s - began_s) * 1000
        if streamed:
            lane.last_answer_s = now_s
            if lane.hanging or lane.trial == ticket:
                _let_in(lane)

    def ended(self, target: str, ticket: int, outcome: Outcome, now_s: float, *, streamed: bool) -> None:
        """The request is over, as `outcome` says."""
        lane = self._lanes[target, streamed]
        if ticket < lane.first:
            return
        lane.waiting.pop(ticket, None)
        answered_ms = lane.answered_ms.pop(ticket, None)
        was_trial = lane.trial == ticket
        if was_trial:
            lane.trial = 0
        match outcome.effect:
            case Effect.SUCCESS:
                lane.streak = 0
                if answered_ms is not None:
                    _learn(lane, answered_ms)
                if not streamed:
                    lane.last_answer_s = now_s
                if was_trial or (lane.hanging and not streamed):
                    _let_in(lane)
            case Effect.BREAKER | Effect.BAR:
                lane.streak += 1
                if was_trial or lane.streak >= self._failures:
                    lane.out_until_s = max(lane.out_until_s, now_s + self._cooldown_s)
            case Effect.THROTTLE:
                rest_s = min(outcome.retry_after_s or THROTTLE_UNKNOWN_S, self._cooldown_s)
                lane.out_until_s = max(lane.out_until_s, now_s + rest_s)
            case _:
                pass

    def overdue(self, target: str, now_s: float) -> int:
        """How many requests to the target are out for far longer than is normal there, with none answering since."""
        return sum(
            len(self._overdue(lane, now_s, streamed=streamed))
            for streamed in (False, True)
            if (lane := self._lanes.get((target, streamed))) is not None
        )

    def ejected(self, target: str, now_s: float) -> bool:
        """Is either lane out."""
        lanes = (self._lanes.get((target, streamed)) for streamed in (False, True))
        return any(lane is not None and now_s < lane.out_until_s for lane in lanes)

    def _forget(self, lane: Lane, generation: int) -> None:
        lane.generation, lane.first = generation, next(self._tickets)
        lane.streak, lane.out_until_s, lane.hanging, lane.trial = 0, 0.0, False, 0
        # Those still waiting were sent before the target came back, and say nothing about it now.
        lane.waiting.clear()
        lane.answered_ms.clear()

    def _overdue(self, lane: Lane, now_s: float, *, streamed: bool) -> list[float]:
        if len(lane.waiting) < self._failures:
            return []
        limit_s = self._limit_s(lane, streamed=streamed)
        if limit_s is None:
            return []
        return [s for s in lane.waiting.values() if now_s - s > limit_s and s >= lane.last_answer_s]

    @staticmethod
    def _limit_s(lane: Lane, *, streamed: bool) -> float | None:
        if lane.answers < NORMAL_MIN_SAMPLES:
            return OVERDUE_UNKNOWN_S if streamed else None
        floor_s = OVERDUE_FLOOR_S if streamed else OVERDUE_FLOOR_UNARY_S
        return max(OVERDUE_FACTOR * _p99_s(lane.cells, lane.answers), floor_s)


def _let_in(lane: Lane) -> None:
    lane.out_until_s, lane.hanging, lane.trial = 0.0, False, 0


def _learn(lane: Lane, answered_ms: float) -> None:
    """Successes only: how fast a target refuses says nothing about how long it takes to answer."""
    cell = latency_cell(answered_ms)
    lane.cells[cell] = lane.cells.get(cell, 0) + 1
    lane.answers += 1


def _p99_s(cells: dict[int, int], total: int) -> float:
    """The upper edge of the cell that holds the 99th percentile, in seconds."""
    beyond = total * 0.01
    for cell in sorted(cells, reverse=True):
        beyond -= cells[cell]
        if beyond < 0:
            return LATENCY_EDGES_MS[min(cell, len(LATENCY_EDGES_MS) - 1)] / 1000
    return OVERDUE_UNKNOWN_S
