"""Monte Carlo of the ramp machine itself: how often it aborts for nothing, and how soon it aborts for something.

Every ramp is `core.ramp.step` with all its gates and the default canary policy (5, 10, 25, 50, 75 %, then a bake
of 30 minutes at 95 %), fed with what proxies would have counted. One request in a hundred fails on the control;
bench/ramp_traffic.py says who the callers are. Providers are not modelled, so no breaker trips: what ends a ramp is
the evidence of its gates, or that one step was held for four hours.

The machine looks once a second or once for each request of the canary, whichever is rarer, later whenever another
8 % of the step's time are over, and when a dwell ends: an e-value gains nothing by being looked at oftener.
`unwatched_s` is infinite, for those looks are further apart than a daemon's. Every run has a seed of its own, so the
figures are the same on any number of cores.

How a ramp ends:
  aborted       on evidence. Of an equal canary that is a false abort
  held          rolled back because one step was held for four hours: with too few requests, or for another reason
  promoted      after its bake
  endless       went neither on nor back in a day
"""

import math
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.progress import Progress

from bench.machine import CORES, percentile
from bench.ramp_traffic import BASE_RATIO, FROM_BP, NEW, OLD, Caller, Crowd, Side, crowd_of, split
from bench.sheet import Sheet, Value
from bench.world import NOON_S
from pointsman.core.arms import with_news
from pointsman.core.gates.sight import Facts
from pointsman.core.ramp import step
from pointsman.core.ramp_model import CANARY_STEPS, ENDED, Ramp, RampKind, RampPhase, RampPolicy, Verdict

RATES: Final = (0.2, 1.0, 5.0, 50.0)
RUNS: Final = 2000
GROWTH: Final = 0.08
POLICY: Final = RampPolicy(steps=CANARY_STEPS, unwatched_s=float("inf"))
BATCH: Final = 25
# Simulated time after which a ramp that goes neither on nor back is left alone.
LIMIT_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`harm`: the part of its requests that the canary fails more, from the step with the index `harm_from` on.

    `outage`: all providers fail for a while. `silent`: nobody sends a request. `slower`: how many times as long the
    canary's answers take, and 0 where no latency is measured.
    """

    crowd: Crowd
    rate: float
    harm: float = 0.0
    harm_from: int = 0
    outage: bool = False
    silent: bool = False
    slower: float = 0.0

    def batches(self, count: int) -> "list[tuple[Scenario, int, int]]":
        """(this scenario, first seed, how many) of what one process plays at a time."""
        return [(self, first, min(BATCH, count - first)) for first in range(0, count, BATCH)]


class End(StrEnum):
    """How a ramp ended."""

    ABORTED = "aborted"
    HELD = "held"
    PROMOTED = "promoted"
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`gates` ended or held it; `requests` of the canary, where it is worse those since then.

    `waited`: a step was held by the latency gate although its dwell was over.
    """

    end: End
    gates: tuple[str, ...]
    step: int
    requests: int
    took_s: float
    waited: bool


class Play:
    """One ramp under one crowd's traffic."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._rng = random.Random(f"{scenario}:{seed}")
        self._callers: list[Caller] = (
            [] if scenario.silent else crowd_of(scenario.crowd, scenario.rate, self._rng)
        )
        self._began_s = self._now_s = NOON_S
        self._outage = self._drawn_outage()
        self._outage_from_s: float | None = None
        self._ramp = Ramp(
            id="r1",
            kind=RampKind.CANARY,
            route="route",
            source=OLD,
            goal=NEW,
            from_bp=FROM_BP,
            to_bp={NEW: 10_000},
            policy=POLICY,
            owner="bench",
            reason="simulated",
            created_s=self._now_s,
            looked_s=self._now_s,
        )
        self._requests = 0
        self._waited = False

    def _drawn_outage(self) -> tuple[int, float, float, float]:
        """(the step in which it begins, s after the step's beginning, s that it lasts, the part that fails)."""
        rng = self._rng
        return rng.randrange(5), rng.uniform(0.0, 300.0), rng.uniform(60.0, 900.0), rng.uniform(0.5, 1.0)

    def end(self) -> Outcome:
        """Play it to its end."""
        self._look()
        while self._ramp.phase not in ENDED and self._now_s - self._began_s < LIMIT_S:
            self._play_step()
        ramp = self._ramp
        gates = tuple(f.gate for f in ramp.findings if f.verdict is Verdict.ABORT)
        end = End.ABORTED if gates else End.HELD
        if ramp.phase not in ENDED:
            end = End.ENDLESS
        elif ramp.phase is RampPhase.PROMOTED:
            end = End.PROMOTED
        if not gates:
            gates = tuple(f.gate for f in ramp.findings if f.verdict is Verdict.HOLD)
        return Outcome(end, gates, ramp.step, self._requests, self._now_s - self._began_s, self._waited)

    def _look(self) -> None:
        self._ramp, _ = step(self._ramp, Facts(now_s=self._now_s))
        held = {f.gate for f in self._ramp.findings if f.verdict is Verdict.HOLD}
        self._waited = self._waited or ("latency" in held and "dwell" not in held)

    def _play_step(self) -> None:
        """Until the ramp goes to another step, or ends."""
        scenario, at = self._scenario, self._ramp.entry
        index, stamp = self._ramp.step, self._ramp.stamp
        harmful = scenario.harm > 0 and index >= scenario.harm_from
        moved, kept = split(self._callers, self._ramp.progress_bp)
        harm = scenario.harm / (1 - BASE_RATIO) if harmful else 0.0
        canary = Side(moved, harm, self._rng, slower=scenario.slower)
        control = Side(kept, 0.0, self._rng, slower=min(1.0, scenario.slower))
        hold_s = POLICY.bake_s if self._ramp.phase is RampPhase.BAKING else POLICY.steps[index].hold_s
        elapsed_s = 0.0
        while self._ramp.entry == at and self._ramp.phase not in ENDED and elapsed_s < LIMIT_S:
            dt_s = max(1.0, min(60.0, 1.0 / canary.rate if canary.rate else 60.0), GROWTH * elapsed_s)
            if elapsed_s < hold_s < elapsed_s + dt_s:
                dt_s = hold_s - elapsed_s
            outage = self._outage_at(index)
            seen = {NEW: canary.draw(dt_s, outage), OLD: control.draw(dt_s, outage)}
            self._ramp = with_news(self._ramp, {stamp: seen})
            elapsed_s += dt_s
            self._now_s += dt_s
            if harmful or not scenario.harm:
                self._requests += seen[NEW].requests
            self._look()

    def _outage_at(self, index: int) -> float:
        """The part of all requests that fails now."""
        at, after_s, lasts_s, part = self._outage
        if index == at and self._outage_from_s is None:
            self._outage_from_s = self._now_s + after_s
        if not self._scenario.outage or self._outage_from_s is None:
            return 0.0
        return part if 0 <= self._now_s - self._outage_from_s < lasts_s else 0.0


def _batch(job: tuple[Scenario, int, int]) -> tuple[Scenario, list[Outcome]]:
    scenario, first, count = job
    return scenario, [Play(scenario, seed).end() for seed in range(first, first + count)]


def run(*, quick: bool) -> list[Sheet]:
    """One sheet for each question."""
    runs, rates = (8, (5.0,)) if quick else (RUNS, RATES)
    grid = [(crowd, rate) for crowd in (Crowd.INDEPENDENT, Crowd.ZIPF) for rate in rates]
    equal = [Scenario(crowd, rate) for crowd, rate in grid]
    equal += [Scenario(Crowd.LOGNORMAL, rate) for rate in rates]
    worse = [Scenario(crowd, rate, harm=harm) for harm in (0.05, 0.2) for crowd, rate in grid]
    later = [Scenario(Crowd.INDEPENDENT, rate, harm=0.05, harm_from=3) for rate in rates]
    outage = [Scenario(crowd, rate, outage=True) for crowd, rate in grid]
    silent = [Scenario(Crowd.INDEPENDENT, 0.0, silent=True)]
    # What 50 requests/s would add is time: every answer of these is drawn.
    slow = [Scenario(Crowd.INDEPENDENT, rate, slower=s) for s in (1.0, 3.0) for rate in rates if rate <= 5]
    ends = _played([*equal, *worse, *later, *outage, *silent, *slow], runs)
    return [
        _sheet(f"ramps: an equal canary, {runs:,} runs each", equal, ends, _promotion),
        _sheet(f"ramps: a worse canary, {runs:,} runs each", worse, ends, _detection),
        _sheet(f"ramps: a canary that turns worse at 50 %, {runs:,} runs each", later, ends, _detection),
        _sheet(
            f"ramps: an equal canary, and an outage of all providers (50 to 100 % fail, 1 to 15 min), {runs:,} runs",
            outage,
            ends,
            _promotion,
        ),
        _sheet(f"ramps: no request at all, {runs:,} runs", silent, ends, _promotion),
        _sheet(
            f"ramps: answers that take as long, or three times, {runs:,} runs each", slow, ends, _slowness
        ),
    ]


def _played(scenarios: list[Scenario], runs: int) -> dict[Scenario, list[Outcome]]:
    """All runs of all scenarios, on all cores, with a bar that tells how far it is."""
    ends: dict[Scenario, list[Outcome]] = {scenario: [] for scenario in scenarios}
    jobs = [job for scenario in scenarios for job in scenario.batches(runs)]
    with ProcessPoolExecutor(len(CORES)) as pool, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("ramps", total=len(jobs))
        for scenario, outcomes in pool.map(_batch, jobs):
            ends[scenario] += outcomes
            progress.advance(bar)
    return ends


def _sheet(
    title: str,
    scenarios: list[Scenario],
    ends: dict[Scenario, list[Outcome]],
    figures: Callable[[list[Outcome]], dict[str, Value]],
) -> Sheet:
    sheet = Sheet(title)
    for scenario in scenarios:
        row: dict[str, Value] = {"callers": scenario.crowd.value, "requests/s": scenario.rate}
        if scenario.harm:
            row["worse by (points)"] = round(100 * scenario.harm)
        if scenario.slower:
            row["times as slow"] = scenario.slower
        sheet.rows.append(row | _shares(ends[scenario]) | figures(ends[scenario]))
    return sheet


def _shares(ends: list[Outcome]) -> dict[str, Value]:
    """In per cent of all runs, how they ended."""

    def share(which: Callable[[Outcome], bool]) -> float:
        return 100 * sum(which(end) for end in ends) / len(ends)

    return {
        "aborted (%)": share(lambda end: end.end is End.ABORTED),
        "held: few (%)": share(lambda end: end.end is End.HELD and "samples" in end.gates),
        "held: other (%)": share(lambda end: end.end is End.HELD and "samples" not in end.gates),
        "endless (%)": share(lambda end: end.end is End.ENDLESS),
        "promoted (%)": share(lambda end: end.end is End.PROMOTED),
    }


def _promotion(ends: list[Outcome]) -> dict[str, Value]:
    took = [end.took_s / 60 for end in ends if end.end is End.PROMOTED]
    return {
        "promoted p50 (min)": percentile(took, 50) if took else None,
        "promoted p90 (min)": percentile(took, 90) if took else None,
    }


def _slowness(ends: list[Outcome]) -> dict[str, Value]:
    """By the latency gate alone, and what it cost."""
    aborted = [end for end in ends if end.end is End.ABORTED and "latency" in end.gates]
    waited = {"waited for latency (%)": 100 * sum(end.waited for end in ends) / len(ends)}
    return {"aborted: slow (%)": 100 * len(aborted) / len(ends), **waited} | _detection(ends)


def _detection(ends: list[Outcome]) -> dict[str, Value]:
    """In requests of the canary since it was worse, of all runs: who was never aborted comes after all that were."""
    until = [end.requests if end.end is End.ABORTED else math.inf for end in ends]
    back = [end.requests if end.end in {End.ABORTED, End.HELD} else math.inf for end in ends]
    p50, p90, back_p90 = percentile(until, 50), percentile(until, 90), percentile(back, 90)
    return {
        "abort p50 (requests)": p50 if p50 < math.inf else None,
        "abort p90 (requests)": p90 if p90 < math.inf else None,
        "abort or held p90 (requests)": back_p90 if back_p90 < math.inf else None,
    }
