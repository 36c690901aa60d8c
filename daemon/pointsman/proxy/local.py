"""This proxy's own reaction to failures, so that it lives without the control plane. Pure: `now_s` is passed in.

Per target and lane (streams, whole answers), on the monotonic clock:

    state     until                        what happens
    in        failures in a row ≥ limit    → out for the cooldown (in the lane, or in both without a success in either)
    in        many overdue, none answering → out for the cooldown (a hang, noticed before its deadlines)
    in        rate limited                 → out for as long as the provider asks, at most the cooldown
    out       the cooldown is over         → on trial: one request at a time
    on trial  it fails / it succeeds       → out again / in

A stream succeeds with its first event as far as trials and hangs go: it may run for minutes after that. And so the
good end of one that began before a run of failures does not end the run, unless what was sent since fares better: a
target that is drained lets old streams finish and refuses new ones; noise fails a few, and lets the others in.
Everything is forgotten when the table says that the target came back into service (`generation` grows), and what was
sent before then says nothing any more; one success of a hanging target brings it back at once. Ejecting locally moves
a target to the end of the order; it never takes the last one away.
"""

import itertools
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final

from pointsman.core.errors import Effect, Fault, Outcome
from pointsman.core.latency import LATENCY_EDGES_MS, latency_cell

# "Far longer than normal": at least this long, and three times the 99th percentile. A whole answer takes as long as
# its text, so that the next ones may well be longer than any before; a stream's first event does not depend on that.
OVERDUE_FLOOR_S: Final = 2.0
OVERDUE_FLOOR_UNARY_S: Final = 30.0
OVERDUE_FACTOR: Final = 3.0
# With fewer answers than this the normal is unknown: streams are given this long, whole answers any time.
NORMAL_MIN_SAMPLES: Final = 20
OVERDUE_UNKNOWN_S: Final = 10.0
# What a whole answer is given where the normal is unknown, once its target is out.
PATIENCE_UNKNOWN_S: Final = 60.0
# How often it is looked for a hang, at the most: far more often than one can be noticed.
LOOK_S: Final = 0.05
# The ticket of a request that is under way by a table from before the target came back.
_STALE: Final = -1
# The failures of a run whose beginnings are remembered.
REMEMBERED: Final = 8
# A rate limit that names no time.
THROTTLE_UNKNOWN_S: Final = 1.0


_OK: Final = Fault.OK
_SUCCESS: Final = Effect.SUCCESS
_BREAKER: Final = Effect.BREAKER
_BAR: Final = Effect.BAR
_THROTTLE: Final = Effect.THROTTLE


class Standing(StrEnum):
    """May a request go there now."""

    IN = "in"
    ON_TRIAL = "on trial"
    OUT = "out"


class Lane:
    """What is remembered of one lane of one target. Times are monotonic seconds.

    `first` is the lowest ticket of the present generation; `waiting`: ticket → when it was sent, of those that are
    unanswered; `answered_ms`: of those that are not over yet; `sent`: ticket → when, of both. `common` are the
    failures since the last success in either lane; `limit_s`: from when on an answer is overdue, worked out anew once
    `look_again` answers have come; `failed`: ticket → seconds that it took, of the run's latest.
    """

    __slots__ = (
        "answered_ms",
        "answers",
        "cells",
        "common",
        "failed",
        "first",
        "generation",
        "hanging",
        "last_answer_s",
        "limit_s",
        "look_again",
        "out_until_s",
        "sent",
        "streak",
        "streamed",
        "trial",
        "waiting",
    )

    def __init__(self, generation: int, *, streamed: bool) -> None:
        self.generation = generation
        self.streamed = streamed
        self.first = 0
        self.streak = 0
        self.common = 0
        self.failed: dict[int, float] = {}
        self.out_until_s = 0.0
        self.hanging = False
        self.trial = 0
        self.last_answer_s = float("-inf")
        self.answers = 0
        self.look_again = 0
        self.limit_s = 0.0
        self.cells: dict[int, int] = {}
        self.sent: dict[int, float] = {}
        self.waiting: dict[int, float] = {}
        self.answered_ms: dict[int, float] = {}


# (target, is it the lane of streams, why, seconds) of a lane that goes out for so long; 0 seconds: it is in again.
Tell = Callable[[str, bool, str, float], None]


def _nobody(target: str, streamed: bool, why: str, out_s: float) -> None:
    """Told to whom it is of no interest."""


class LocalBreaker:
    """All lanes of all targets. `failures` in a row eject for `cooldown_s` seconds; `tell` hears of each change."""

    def __init__(self, failures: int, cooldown_s: float, tell: Tell = _nobody) -> None:
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._tell = tell
        self._lanes: dict[tuple[str, bool], Lane] = {}
        self._tickets = itertools.count(1)
        self._out: set[str] = set()
        self._look_s = 0.0

    def troubled(self, now_s: float) -> AbstractSet[str]:
        """The targets that may not be simply in: of all others `standing` says so. Looks for hangs now and then."""
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._out = {
                target
                for (target, streamed), lane in self._lanes.items()
                if lane.out_until_s or len(self._overdue(lane, now_s, streamed=streamed)) >= self._failures
            }
        return self._out

    def standing(self, target: str, generation: int, now_s: float, *, streamed: bool) -> Standing:
        """Where the lane stands; notices a hang on the way."""
        lane = self._lanes.get((target, streamed))
        if lane is None:
            return Standing.IN
        if generation > lane.generation:
            self._forget(target, lane, generation)
        if lane.out_until_s == 0.0:
            overdue = len(self._overdue(lane, now_s, streamed=streamed))
            if overdue >= self._failures:
                lane.hanging = True
                why = f"{overdue} requests are overdue and none is answered"
                self._put_out(target, lane, self._cooldown_s, now_s, why)
        if lane.out_until_s == 0.0:
            return Standing.IN
        if now_s < lane.out_until_s or lane.trial:
            return Standing.OUT
        return Standing.ON_TRIAL

    def began(self, target: str, generation: int, now_s: float, *, streamed: bool) -> int:
        """A request goes out; the ticket names it in `answered` and `ended`."""
        lane = self._lanes.get((target, streamed))
        if lane is None:
            lane = self._lanes[target, streamed] = Lane(generation, streamed=streamed)
        elif generation > lane.generation:
            self._forget(target, lane, generation)
        elif generation < lane.generation:
            return _STALE
        ticket = next(self._tickets)
        lane.sent[ticket] = lane.waiting[ticket] = now_s
        if lane.out_until_s and now_s >= lane.out_until_s and not lane.trial:
            lane.trial = ticket
        return ticket

    def answered(self, target: str, ticket: int, now_s: float, *, streamed: bool) -> None:
        """The first that counts of an answer has come: a stream's first event, or enough of one too long to hold."""
        lane = self._lanes[target, streamed]
        began_s = lane.waiting.pop(ticket, None)
        if began_s is None:
            return
        lane.answered_ms[ticket] = (now_s - began_s) * 1000
        if streamed:
            lane.last_answer_s = now_s
            if lane.hanging or lane.trial == ticket:
                self._let_in(target, lane, "it answers")

    def ended(self, target: str, ticket: int, outcome: Outcome, now_s: float, *, streamed: bool) -> bool:
        """The request is over, as `outcome` says; True: it is a success that began too early to say anything of now."""
        lane = self._lanes[target, streamed]
        if ticket < lane.first:
            return False
        waited = lane.waiting.pop(ticket, None) is not None
        sent_s = lane.sent.pop(ticket)
        answered_ms = None if waited else lane.answered_ms.pop(ticket, None)
        was_trial = lane.trial == ticket
        if was_trial:
            lane.trial = 0
        late = False
        effect = _SUCCESS if outcome.fault is _OK else outcome.effect
        if effect is _SUCCESS:
            if lane.common or lane.streak or lane.failed or self._fails_beside(target, lane, streamed):
                both = self._both(target, lane.generation)
                late = _late(both, ticket, now_s)
                if not late:
                    _succeeded(lane, both)
            if not streamed:
                lane.last_answer_s = now_s
                answered_ms = (now_s - sent_s) * 1000 if answered_ms is None else answered_ms
            if answered_ms is not None:
                _learn(lane, answered_ms)
            if was_trial or (lane.hanging and not streamed):
                self._let_in(target, lane, "it answers")
        elif effect is _BREAKER or effect is _BAR:
            _failed(lane, ticket, now_s - sent_s)
            run = sum(one.common for one in self._both(target, lane.generation))
            why = f"{max(run, lane.streak)} in a row, the last: {outcome.detail}"
            for out in [lane] if was_trial else self._spent(target, lane):
                self._put_out(target, out, self._cooldown_s, now_s, why)
        elif effect is _THROTTLE:
            rest_s = min(outcome.retry_after_s or THROTTLE_UNKNOWN_S, self._cooldown_s)
            self._put_out(target, lane, rest_s, now_s, outcome.detail)
        return late

    def overdue(self, target: str, now_s: float) -> int:
        """How many requests to the target are out for far longer than is normal there, with none answering since."""
        return sum(
            len(self._overdue(lane, now_s, streamed=streamed))
            for streamed in (False, True)
            if (lane := self._lanes.get((target, streamed))) is not None
        )

    def patience_s(self, target: str) -> float:
        """How long a whole answer of `target` may take before it is overdue."""
        lane = self._lanes.get((target, False))
        return (self._limit_s(lane, streamed=False) if lane else None) or PATIENCE_UNKNOWN_S

    def broken_down(self, target: str) -> bool:
        """Has its lane of whole answers gone out by failing or hanging (not by a rate limit), with no success since?"""
        lane = self._lanes.get((target, False))
        return lane is not None and (lane.hanging or bool(self._spent(target, lane)))

    def ejected(self, target: str, now_s: float) -> bool:
        """Is either lane out."""
        lanes = (self._lanes.get((target, streamed)) for streamed in (False, True))
        return any(lane is not None and now_s < lane.out_until_s for lane in lanes)

    def _fails_beside(self, target: str, lane: Lane, streamed: bool) -> bool:
        """Has the other lane failures since a success in either."""
        other = self._lanes.get((target, not streamed))
        return (
            other is not None and other.generation == lane.generation and bool(other.common or other.failed)
        )

    def _both(self, target: str, generation: int) -> list[Lane]:
        """The lanes of the target that are of this generation."""
        lanes = (self._lanes.get((target, streamed)) for streamed in (False, True))
        return [lane for lane in lanes if lane is not None and lane.generation == generation]

    def _spent(self, target: str, lane: Lane) -> list[Lane]:
        """The lanes that a failure in `lane` puts out: it alone, or all that failed since a success in either."""
        failed = [one for one in self._both(target, lane.generation) if one.common]
        if sum(one.common for one in failed) >= self._failures:
            return failed
        return [lane] if lane.streak >= self._failures else []

    def _put_out(self, target: str, lane: Lane, out_s: float, now_s: float, why: str) -> None:
        if lane.out_until_s <= now_s and out_s > 0:
            self._tell(target, lane.streamed, why, out_s)
        self._out.add(target)
        lane.out_until_s = max(lane.out_until_s, now_s + out_s)

    def _let_in(self, target: str, lane: Lane, why: str) -> None:
        if lane.out_until_s:
            self._tell(target, lane.streamed, why, 0.0)
        lane.out_until_s, lane.hanging, lane.trial = 0.0, False, 0

    def _forget(self, target: str, lane: Lane, generation: int) -> None:
        self._let_in(target, lane, "the table brought it back")
        lane.generation, lane.first = generation, next(self._tickets)
        lane.streak, lane.common = 0, 0
        lane.failed.clear()
        # Those still waiting were sent before the target came back, and say nothing about it now.
        lane.sent.clear()
        lane.waiting.clear()
        lane.answered_ms.clear()

    def _overdue(self, lane: Lane, now_s: float, *, streamed: bool) -> list[float]:
        waiting = lane.waiting
        if len(waiting) < self._failures:
            return []
        floor_s = OVERDUE_FLOOR_S if streamed else OVERDUE_FLOOR_UNARY_S
        if now_s - next(iter(waiting.values())) <= floor_s:
            return []  # not even the oldest, and no limit is shorter
        limit_s = self._limit_s(lane, streamed=streamed)
        if limit_s is None:
            return []
        return [s for s in waiting.values() if now_s - s > limit_s and s >= lane.last_answer_s]

    @staticmethod
    def _limit_s(lane: Lane, *, streamed: bool) -> float | None:
        if lane.answers < NORMAL_MIN_SAMPLES:
            return OVERDUE_UNKNOWN_S if streamed else None
        if lane.answers >= lane.look_again:
            floor_s = OVERDUE_FLOOR_S if streamed else OVERDUE_FLOOR_UNARY_S
            lane.limit_s = max(OVERDUE_FACTOR * _p99_s(lane.cells, lane.answers), floor_s)
            lane.look_again = lane.answers + 1 + lane.answers // 16
        return lane.limit_s


def _failed(lane: Lane, ticket: int, took_s: float) -> None:
    lane.streak += 1
    lane.common += 1
    lane.failed[ticket] = took_s
    if len(lane.failed) > REMEMBERED:
        del lane.failed[next(iter(lane.failed))]


def _succeeded(lane: Lane, both: list[Lane]) -> None:
    lane.streak = 0
    lane.failed.clear()
    for either in both:
        either.common = 0


def _late(both: list[Lane], ticket: int, now_s: float) -> bool:
    """Did the success begin before all failures of the runs, and what was sent since fares no better than they did?

    Better is who has been answered, or is out for longer than it took the others to fail. It takes half as many
    of them as have failed: where answers are slow, noise would make runs otherwise.
    """
    failed = {failure: took_s for lane in both for failure, took_s in lane.failed.items()}
    first = min(failed, default=0)
    if ticket >= first:
        return False
    slowest_s = max(failed.values())
    better = sum(
        other > first and (other in lane.answered_ms or now_s - sent_s > slowest_s)
        for lane in both
        for other, sent_s in lane.sent.items()
    )
    return 2 * better <= len(failed)


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
