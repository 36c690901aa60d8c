"""Callers and their requests for simulated ramps: Poisson traffic, drawn in slices instead of one by one.

`INDEPENDENT`: every request is another caller's, and the share decides where it goes. The sticky crowds have fifty
callers that the product's own hash settles on a side; their sizes are by Zipf's law (the largest sends 22 %, the
smallest 0.4 %) or log-normal (σ = 1.2), and three of them, whichever, send requests of which 20 to 30 % fail on either
side. Where latencies are drawn, an answer takes 800 ms in the middle, and log-normally more or less (σ = 0.6, so that
the p95 is 2.1 s).
"""

import math
import random
from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from pointsman.core.latency import latency_cell
from pointsman.core.ramp_model import Arm
from pointsman.core.stats import MAP_BITS
from pointsman.proxy.settling import settle

CALLERS: Final = 50
BAD_CALLERS: Final = 3
BASE_RATIO: Final = 0.01
ANSWER_MS: Final = 800.0
ANSWER_SIGMA: Final = 0.6
OLD: Final = "old"
NEW: Final = "new"
FROM_BP: Final = {OLD: 10_000}


class Crowd(StrEnum):
    """Who sends requests."""

    INDEPENDENT = "independent"
    ZIPF = "sticky, Zipf"
    LOGNORMAL = "sticky, log-normal"


@dataclass(frozen=True, slots=True)
class Caller:
    """`rate` in requests/s; `failing`: the part of them that fails anywhere; `key` is None where the share decides."""

    rate: float
    failing: float
    bit: int
    key: int | None


def crowd_of(kind: Crowd, rate: float, rng: random.Random) -> list[Caller]:
    """A crowd that sends `rate` requests/s together. Independent callers come as one for each bit of the map."""
    if kind is Crowd.INDEPENDENT:
        return [Caller(rate / MAP_BITS, BASE_RATIO, bit, None) for bit in range(MAP_BITS)]
    if kind is Crowd.ZIPF:
        sizes = [1 / (place + 1) for place in range(CALLERS)]
    else:
        sizes = [rng.lognormvariate(0.0, 1.2) for _ in range(CALLERS)]
    bad = set(rng.sample(range(CALLERS), BAD_CALLERS))
    callers = []
    for place, size in enumerate(sizes):
        key = rng.getrandbits(64)
        failing = rng.uniform(0.2, 0.3) if place in bad else BASE_RATIO
        callers.append(Caller(rate * size / sum(sizes), failing, key & (MAP_BITS - 1), key))
    return callers


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson number; a rounded normal one where the mean is over 50."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count


class Side:
    """One side of a ramp while one share is in force; `harm` is the part of its requests that it fails by itself.

    `slower`: how many times as long its answers take; 0 where they are not measured.
    """

    def __init__(
        self, callers: list[Caller], harm: float, rng: random.Random, *, slower: float = 0.0
    ) -> None:
        self._rng = rng
        self._callers = callers
        self._harm = harm
        self._middle = math.log(slower * ANSWER_MS) if slower else None
        self.rate = sum(caller.rate for caller in callers)
        self._failing = self._failing_rates(harm)
        self._first = sorted((rng.expovariate(caller.rate), caller.bit) for caller in callers)
        self._elapsed_s = 0.0
        self._callers_seen = 0

    def _failing_rates(self, harm: float) -> list[float]:
        """Cumulated over callers. A request fails by its caller's fault or by the side's, whichever comes first."""
        return list(accumulate(c.rate * (1 - (1 - c.failing) * (1 - harm)) for c in self._callers))

    def draw(self, dt_s: float, outage: float = 0.0) -> Arm:
        """The next `dt_s` seconds. `outage` is the part of all requests that fails in them whatever they are."""
        self._elapsed_s += dt_s
        if not self._callers:
            return Arm()
        failing = self._failing
        if outage:
            failing = self._failing_rates(1 - (1 - self._harm) * (1 - outage))
        failed = poisson(self._rng, failing[-1] * dt_s)
        ok = poisson(self._rng, max(0.0, self.rate - failing[-1]) * dt_s)
        bits, by_caller = 0, dict[int, int]()
        for _ in range(failed):
            bit = self._callers[bisect(failing, self._rng.random() * failing[-1])].bit
            bits |= 1 << bit
            by_caller[bit] = by_caller.get(bit, 0) + 1
        while ok and self._first and self._first[0][0] <= self._elapsed_s:
            self._callers_seen |= 1 << self._first.pop(0)[1]
        return Arm(
            ok=ok,
            failed=failed,
            callers=self._callers_seen | bits,
            callers_failing=bits,
            failing=by_caller,
            latency_ms=self._latencies(ok),
        )

    def _latencies(self, answers: int) -> dict[int, int]:
        if self._middle is None:
            return {}
        cells = [latency_cell(self._rng.lognormvariate(self._middle, ANSWER_SIGMA)) for _ in range(answers)]
        return dict(Counter(cells))


def split(callers: list[Caller], progress_bp: int) -> tuple[list[Caller], list[Caller]]:
    """(canary's, control's) when so much of the traffic has moved."""
    shares = {OLD: 10_000 - progress_bp, NEW: progress_bp}
    moved: list[Caller] = []
    kept: list[Caller] = []
    for caller in callers:
        if caller.key is None:
            part = progress_bp / 10_000
            moved.append(Caller(caller.rate * part, caller.failing, caller.bit, None))
            kept.append(Caller(caller.rate * (1 - part), caller.failing, caller.bit, None))
        elif settle(caller.key, "route", FROM_BP, shares) == NEW:
            moved.append(caller)
        else:
            kept.append(caller)
    return moved, kept
