"""What this proxy saw of each target since it started: cumulative, so that no report is needed to read another.

Counts only grow; runs of failures, rate limits and bars are present facts, and are forgotten when the table
says that the target came back into service (`generation`). Times are by the store's clock.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from pointsman.core.errors import Effect, Fault, Outcome
from pointsman.core.evidence import LANE_TIMES, STREAM, UNARY, Lane, RateLimit, TargetReport
from pointsman.core.health import silent
from pointsman.core.latency import latency_cell

CALLER_MINUTE_S: Final = 60.0
# How soon the leader is to hear of what may change a verdict, and of a failure that stands alone: there are some at
# all times, and the next one seldom is far when something is wrong.
AT_ONCE_S: Final = 0.05
LONE_S: Final = 0.25
# Effects of failures that callers are counted by.
FAILING: Final = frozenset({Effect.BREAKER, Effect.BAR, Effect.THROTTLE, Effect.SOFTEN})

# A trial that ended like this may be made again: the target was not put to the test.
TELLS_NOTHING: Final = frozenset({Fault.ABANDONED, Fault.CALLER, Fault.CONTENT_FILTER})


_OK: Final = Fault.OK
_SUCCESS: Final = Effect.SUCCESS
_BREAKER: Final = Effect.BREAKER
_THROTTLE: Final = Effect.THROTTLE
_SOFTEN: Final = Effect.SOFTEN
_BAR: Final = Effect.BAR


class Seen:
    """One finished attempt. `caller` is 64 bits of the caller's identity; `latency_ms` until the end of the answer.

    `ok`: it is a success, and `cell` that of its latency, else -1; `failing`: its caller counts among those that fail.
    `grant` is the trial that the attempt was, 0 if none; `generation` the target's when the attempt began; `stamp` the
    ramp's that it counts under, "" if none; `late`: a success that says nothing of now, because it began before the
    failures that others meet (see proxy/local.py).
    """

    __slots__ = (
        "caller",
        "cell",
        "cost_usd",
        "failing",
        "first_token_ms",
        "generation",
        "grant",
        "late",
        "latency_ms",
        "ok",
        "outcome",
        "rate_limit",
        "stamp",
        "streamed",
        "synthetic",
        "target",
        "tokens_in",
        "tokens_out",
    )

    def __init__(
        self,
        *,
        target: str,
        outcome: Outcome,
        streamed: bool,
        latency_ms: float,
        first_token_ms: float | None = None,
        tokens_in: int = 0,
        tokens_out: int = 0,
        cost_usd: float = 0.0,
        caller: int = 0,
        rate_limit: RateLimit | None = None,
        generation: int = 0,
        grant: int = 0,
        synthetic: bool = False,
        stamp: str = "",
        late: bool = False,
    ) -> None:
        self.target = target
        self.outcome = outcome
        self.ok = outcome.fault is _OK
        self.cell = latency_cell(latency_ms) if self.ok else -1
        self.failing = not self.ok and outcome.effect in FAILING
        self.streamed = streamed
        self.latency_ms = latency_ms
        self.first_token_ms = first_token_ms
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out
        self.cost_usd = cost_usd
        self.caller = caller
        self.rate_limit = rate_limit
        self.generation = generation
        self.grant = grant
        self.synthetic = synthetic
        self.stamp = stamp
        self.late = late


class Callers:
    """Distinct callers of the present minute as a 64-bit map (linear counting: maps of several proxies are or-ed).

    The minute before is kept beside it, so that the map is not empty when a minute begins.
    """

    def __init__(self) -> None:
        self._minute = -1
        self._now = 0
        self._before = 0

    def add(self, caller: int, at_s: float) -> None:
        """A caller was seen at `at_s` (seconds since 1970)."""
        self._turn(at_s)
        self._now |= 1 << (caller & 63)

    def bits(self, at_s: float) -> int:
        """The map at `at_s`."""
        self._turn(at_s)
        return self._now | self._before

    def _turn(self, at_s: float) -> None:
        minute = int(at_s // CALLER_MINUTE_S)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else 0
            self._now, self._minute = 0, minute


class Tally:
    """One target's account: what every attempt adds to. `report` has what is rarely touched; `told` is all of it."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.counts: dict[str, int] = {}
        self.stale: dict[str, int] = {}
        self.synthetic: dict[str, int] = {}
        self.latency_ms: dict[int, int] = {}
        self.first_token_ms: dict[int, int] = {}
        self.tokens_in = 0
        self.tokens_out = 0
        self.cost_usd = 0.0
        self.barred = ""
        self.lanes: dict[str, Lane] = {}
        self.callers = Callers()
        self.callers_failing = Callers()
        self.report = TargetReport()

    def forget(self, generation: int) -> None:
        """The target came back into service: what was so before is so no more."""
        self.generation = generation
        self.lanes = {}
        self.barred = ""
        report = self.report
        report.throttled, report.throttled_until_s, report.softened_until_s = "", 0.0, 0.0

    def told(self, now_s: float) -> TargetReport:
        """A copy of it, as it stands."""
        return replace(
            self.report,
            generation=self.generation,
            counts=dict(self.counts),
            stale=dict(self.stale),
            synthetic=dict(self.synthetic),
            latency_ms=dict(self.latency_ms),
            first_token_ms=dict(self.first_token_ms),
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            cost_usd=self.cost_usd,
            barred=self.barred,
            lanes={name: replace(lane) for name, lane in self.lanes.items()},
            callers=self.callers.bits(now_s),
            callers_failing=self.callers_failing.bits(now_s),
        )


class Ledger:
    """All targets' accounts. The defaults in seconds are for rate limits that name no time."""

    def __init__(self, *, throttle_default_s: float, soften_s: float) -> None:
        self._throttle_default_s = throttle_default_s
        self._soften_s = soften_s
        self._tallies: dict[str, Tally] = {}
        self._generations: Mapping[str, int] = {}

    def record(self, seen: Seen, now_s: float) -> float | None:
        """Count one attempt; within how many seconds the leader is to hear of it, None: with the next report."""
        tally = self._tallies.get(seen.target)
        if tally is None:
            known = self._generations.get(seen.target, seen.generation)
            tally = self._tallies[seen.target] = Tally(max(known, seen.generation))
        if seen.generation > tally.generation:
            tally.forget(seen.generation)
        fault = seen.outcome.fault._value_
        ended_trial = seen.grant > 0 and seen.outcome.fault not in TELLS_NOTHING
        if ended_trial:
            tally.report.grant, tally.report.grant_outcome = seen.grant, fault
        if seen.synthetic:
            tally.synthetic[fault] = tally.synthetic.get(fault, 0) + 1
            return AT_ONCE_S if ended_trial else None
        counts = tally.counts if seen.generation == tally.generation else tally.stale
        counts[fault] = counts.get(fault, 0) + 1
        _measure(tally, seen)
        tally.callers.add(seen.caller, now_s)
        if seen.failing:
            tally.callers_failing.add(seen.caller, now_s)
        within_s = self._stand(tally, seen, now_s) if seen.generation == tally.generation else None
        return AT_ONCE_S if ended_trial else within_s

    def _stand(self, tally: Tally, seen: Seen, now_s: float) -> float | None:
        """What the outcome says about the target as it is now, and how soon that is to be told."""
        outcome, report = seen.outcome, tally.report
        effect = _SUCCESS if seen.ok else outcome.effect
        name = STREAM if seen.streamed else UNARY
        lane = tally.lanes.get(name)
        if lane is None:
            lane = tally.lanes[name] = Lane()
        if effect is _SUCCESS:
            if seen.late:
                return None
            tally.barred = ""
            if lane.streak:
                tally.lanes[name] = Lane(last_ok_s=now_s)
            else:
                lane.last_ok_s = now_s
        elif effect is _BREAKER:
            _failed(lane, outcome, now_s)
            return AT_ONCE_S if lane.streak > 1 else LONE_S
        elif effect is _THROTTLE:
            rest_s = outcome.retry_after_s or self._throttle_default_s
            report.throttled = outcome.detail
            new = report.throttled_until_s <= now_s
            report.throttled_until_s = max(report.throttled_until_s, now_s + rest_s)
            return AT_ONCE_S if new else None
        elif effect is _SOFTEN:
            rest_s = outcome.retry_after_s or self._soften_s
            new = report.softened_until_s <= now_s
            report.softened_until_s = max(report.softened_until_s, now_s + rest_s)
            return AT_ONCE_S if new else None
        elif effect is _BAR:
            new = not tally.barred
            tally.barred = outcome.detail
            return AT_ONCE_S if new else None
        return None

    def generations(self, generations: Mapping[str, int]) -> None:
        """A table came in: forget what was so before a target came back into service."""
        self._generations = generations
        for target, generation in generations.items():
            tally = self._tallies.get(target)
            if tally is not None and generation > tally.generation:
                tally.forget(generation)

    def reports(self, now_s: float) -> dict[str, TargetReport]:
        """A copy of every account, as it stands."""
        return {target: tally.told(now_s) for target, tally in self._tallies.items()}


def _failed(lane: Lane, outcome: Outcome, now_s: float) -> None:
    lane.since_s = lane.since_s if lane.streak else now_s
    lane.streak += 1
    lane.times = (*lane.times, now_s)[-LANE_TIMES:]
    lane.detail, lane.refuses, lane.silent = outcome.detail, outcome.refuses, silent(outcome)
    if outcome.retry_after_s:
        lane.retry_at_s = max(lane.retry_at_s, now_s + outcome.retry_after_s)


def _measure(tally: Tally, seen: Seen) -> None:
    """Latencies are those of answers, not of failures; tokens are paid for in either case."""
    if seen.ok:
        tally.latency_ms[seen.cell] = tally.latency_ms.get(seen.cell, 0) + 1
        if seen.first_token_ms is not None:
            cell = latency_cell(seen.first_token_ms)
            tally.first_token_ms[cell] = tally.first_token_ms.get(cell, 0) + 1
    tally.tokens_in += seen.tokens_in
    tally.tokens_out += seen.tokens_out
    tally.cost_usd += seen.cost_usd
    if seen.rate_limit is not None:
        tally.report.rate_limit = seen.rate_limit
