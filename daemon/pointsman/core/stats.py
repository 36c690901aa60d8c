"""What counts and histograms of two sides say, without a clock: evidence, percentiles, and how long for more.

The moved side of a ramp is the canary here, the side that it leaves is the control. Evidence is a factor, an e-value:
by how much the data are likelier if something is wrong, averaged over how wrong it may be. While nothing is wrong its
mean stays at most 1 however often one looks, so that it ever reaches 100 has a probability of at most 1 in 100
(Ville's inequality). It is computed anew from the counts at each look and remembers nothing.

**Errors.** Under one stamp a share q of the requests (as observed, not as wished) went to the canary. If it is no
worse, each failure of that stamp is the canary's with probability q; if its requests fail ρ times as often, with
ρq/(ρq+1−q). The likelihood ratio is summed in logs over stamps, then averaged over ρ > 1 and over the stamp at which
the trouble may have begun. (The test of counts given their sum is that of Lindon and Malek, "Anytime-Valid Inference
for Multinomial Count Data", arXiv 2011.03567, with a grid of one-sided alternatives for its Dirichlet mixture.) As each
stamp has its own q, neither a growing share nor an hour in which everybody failed makes a paradox: an outage of both
sides leaves their proportion alone. Where everything goes to one side there is no evidence either way. Ville's bound
is exact for a share that is known; with the observed one it is nearly so (`make bench-ramps` counts).

**Callers.** That test takes failures for independent, and callers that stay on one side are not: one of them with bad
requests fails again and again wherever it is. So none of the canary's callers counts for more than one failure above
the median of those that fail, or above the n-th worst where these are few (n = `failing_callers`); with fewer than n
there is next to no evidence. Where failures are not known by caller, different callers are counted instead. What a
caller is known to bring along from the control is taken off before (core/brought.py).
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import Final

from msgspec import Struct

from pointsman.core.latency import LATENCY_EDGES_MS, latency_cell
from pointsman.core.ramp_model import Arm, RampPolicy

# Relative risks, and odds ratios, that evidence is averaged over.
RISKS: Final = (1.5, 2.0, 3.0, 4.5, 6.5, 10.0, 20.0, 50.0)
_LOGS: Final = tuple((risk - 1, math.log(risk)) for risk in RISKS)
MAP_BITS: Final = 64
# Up to so many bits, two maps of different callers hardly ever overlap altogether.
FEW_BITS: Final = 24
# When the control itself fails above `abort_ratio`, only a canary that fails so many times as often is to blame.
OUTAGE_FACTOR: Final = 2.0
# e^300: what is beyond does not fit into a float, and convinces nobody more.
LOG_MAX: Final = 300.0
# Failures by caller: {lowest six bits of the caller's hash: failures}, of one side under one stamp.
Failing = Mapping[int, float]


class Counts(Struct, frozen=True):
    """What both sides did under one stamp. Failures may be fractions where callers were weighted."""

    canary_requests: float
    canary_failed: float
    control_requests: float
    control_failed: float


class Judgement(Struct, frozen=True, kw_only=True):
    """How the canary's errors compare. Ratios are failed / requests of the whole ramp, 0 of nothing.

    `worse`: all that an abort asks for is there. `evidence`: see above. `share`: the canary's part of the requests.
    `failing_callers`: how many callers failed on the canary, an estimate that is never below the number of
    different bits seen.
    """

    worse: bool
    evidence: float
    canary_ratio: float
    control_ratio: float
    canary_requests: int
    control_requests: int
    share: float
    failing_callers: float


def worse(
    stamps: Sequence[tuple[Arm, Arm]], policy: RampPolicy, failing: Sequence[Failing] | None = None
) -> Judgement:
    """Compare the canary's errors with the control's: one (canary, control) pair for each stamp, oldest first.

    Worse is a canary with all of these: evidence of at least `abort_evidence`; since the stamp where that evidence is
    strongest, an error ratio above `abort_ratio`, or more than `abort_excess` above the control's, give or take
    its standard error (and twice the control's where that is itself above `abort_ratio`); failures of at least
    `failing_callers` callers (of all there are, if those are fewer; of one, where callers do not keep to a side).

    `failing`: the canary's failures by caller under each of the stamps. Without it only different callers count, one
    failure for each and stamp: callers that are many and independent lose nothing by that, but few and busy ones
    will all have failed once on either side, and then only a hold keeps a bad canary from going on.
    """
    needed = _needed(stamps, policy)
    failures = _failures(stamps, needed, failing, policy)
    factor, since = evidence(_counts(stamps, failures))
    # Different callers are only a floor of the failures, and no measure of their ratio.
    measured = failures if failing is not None else [canary.failed for canary, _ in stamps]
    much = _much(_counts(stamps, measured)[since:], policy)
    bits = _callers_failing(stamps, failing)
    canary_requests = sum(canary.requests for canary, _ in stamps)
    control_requests = sum(control.requests for _, control in stamps)
    return Judgement(
        worse=factor >= policy.abort_evidence and much and bits.bit_count() >= needed,
        evidence=factor,
        canary_ratio=ratio(sum(canary.failed for canary, _ in stamps), canary_requests),
        control_ratio=ratio(sum(control.failed for _, control in stamps), control_requests),
        canary_requests=canary_requests,
        control_requests=control_requests,
        share=ratio(canary_requests, canary_requests + control_requests),
        failing_callers=distinct(bits),
    )


def _callers_failing(stamps: Sequence[tuple[Arm, Arm]], failing: Sequence[Failing] | None) -> int:
    """The map of the canary's callers with failures that are evidence."""
    if failing is None:
        return reduce(or_, (canary.callers_failing for canary, _ in stamps), 0)
    return reduce(or_, (1 << caller for of_stamp in failing for caller in of_stamp), 0)


def _needed(stamps: Sequence[tuple[Arm, Arm]], policy: RampPolicy) -> int:
    """Of how many callers failures are needed: `failing_callers`, or all that there are.

    One will do if the few that there are all have the control too: they do not stay on a side, so that what is bad
    about a caller is bad on both. Of many, maps overlap by chance, and say nothing of that.
    """
    moved = reduce(or_, (canary.callers for canary, _ in stamps), 0)
    kept = reduce(or_, (control.callers for _, control in stamps), 0)
    if kept.bit_count() <= FEW_BITS and not moved & ~kept:
        return min(1, kept.bit_count())
    return min(policy.failing_callers, (moved | kept).bit_count())


def _much(counts: Sequence[Counts], policy: RampPolicy) -> bool:
    """Is the canary's ratio above what may be, give or take its standard error?"""
    requests = sum(c.canary_requests for c in counts)
    canary = ratio(sum(c.canary_failed for c in counts), requests)
    control = ratio(sum(c.control_failed for c in counts), sum(c.control_requests for c in counts))
    if control > policy.abort_ratio and canary < OUTAGE_FACTOR * control:
        return False
    upper = canary + math.sqrt(ratio(canary * (1 - canary), requests))
    return upper > policy.abort_ratio or upper - control > policy.abort_excess


def _counts(stamps: Sequence[tuple[Arm, Arm]], failures: Sequence[float]) -> list[Counts]:
    """The counts of the arms, with these failures of the canary."""
    return [
        Counts(canary.requests, failed, control.requests, control.failed)
        for (canary, control), failed in zip(stamps, failures, strict=True)
    ]


def _failures(
    stamps: Sequence[tuple[Arm, Arm]], needed: int, failing: Sequence[Failing] | None, policy: RampPolicy
) -> Sequence[float]:
    """The canary's failures under each stamp, as far as they are evidence."""
    if needed <= 1:
        return [canary.failed for canary, _ in stamps]
    if failing is None:
        return [min(canary.failed, 1 + distinct(canary.callers_failing)) for canary, _ in stamps]
    calm = [typical_ratio(control, policy) <= policy.abort_ratio for _, control in stamps]
    return weighted(failing, needed, calm)


def weighted(failing: Sequence[Failing], needed: int, calm: Sequence[bool]) -> list[float]:
    """The failures of each stamp, where over the calm ones no caller counts for more than one above the middle.

    The middle is the median of the callers that failed, or the n-th worst if that is further down (n is `needed`).

    Everybody is as bad as anybody in an outage, so how bad a caller is by itself is measured under the stamps that
    are `calm` (under all, if none is); its failures are scaled down alike under all of them.
    """
    measured = [of_stamp for of_stamp, is_calm in zip(failing, calm, strict=True) if is_calm] or failing
    totals: dict[int, float] = {}
    for of_stamp in measured:
        for caller, failed in of_stamp.items():
            totals[caller] = totals.get(caller, 0) + failed
    ordered = sorted(totals.values(), reverse=True)
    rank = max(needed, math.ceil(len(ordered) / 2))
    most = 1 + (ordered[rank - 1] if len(ordered) >= rank else 0)
    weights = {caller: min(1.0, most / total) for caller, total in totals.items()}
    return [
        sum(failed * weights.get(caller, 1.0) for caller, failed in of_stamp.items()) for of_stamp in failing
    ]


def typical_failures(arm: Arm, policy: RampPolicy) -> float:
    """The failures of one side, `weighted` by caller.

    Of a side with fewer than `failing_callers`, or whose failures are not known by caller, all of them count in full:
    there is nobody to compare them with.
    """
    if not arm.failing or arm.callers.bit_count() < policy.failing_callers:
        return float(arm.failed)
    return weighted([arm.failing], policy.failing_callers, [True])[0]


def typical_ratio(arm: Arm, policy: RampPolicy) -> float:
    """Typical failures / requests of one side."""
    return ratio(typical_failures(arm, policy), arm.requests)


def evidence(stamps: Sequence[Counts]) -> tuple[float, int]:
    """(the factor by which failures fell on the canary likelier if it is worse; since which stamp it is strongest).

    That the trouble begins with the s-th stamp has the weight 1/(s(s+1)); what is left of 1 is for stamps to come.
    """
    logs = [0.0] * len(RISKS)
    factor, since, strongest = 1 / (len(stamps) + 1), 0, -1.0
    for place in range(len(stamps) - 1, -1, -1):
        _add_logs(logs, stamps[place])
        mean = sum(math.exp(min(log, LOG_MAX)) for log in logs) / len(logs)
        part = mean / ((place + 1) * (place + 2))
        factor += part
        if part > strongest:
            since, strongest = place, part
    return factor, since


def _add_logs(logs: list[float], stamp: Counts) -> None:
    """Add the stamp's log-likelihood ratio under each of RISKS."""
    failed = stamp.canary_failed + stamp.control_failed
    if not failed:
        return
    share = stamp.canary_requests / (stamp.canary_requests + stamp.control_requests)
    for place, (more, log) in enumerate(_LOGS):
        logs[place] += stamp.canary_failed * log - failed * math.log1p(more * share)


def exceeds(hits: int, total: int, allowed: float) -> float:
    """Evidence that more than `allowed` (0 to 1, both excluded) of all are hits, when `hits` of `total` were so far.

    It takes the hits for independent of each other. Needs no control, and so cannot tell whose fault they are.
    """
    odds = allowed / (1 - allowed)
    mean = 0.0
    for risk in RISKS:
        # (p/allowed)^hits × ((1−p)/(1−allowed))^misses at odds of risk × those allowed.
        log = hits * math.log(risk) - total * math.log((1 + risk * odds) * (1 - allowed))
        mean += math.exp(min(log, LOG_MAX)) / len(RISKS)
    return mean


def slower(histogram: Mapping[int, int], bound_ms: float, quantile: float = 0.95) -> float:
    """Evidence that the quantile of latencies is above `bound_ms`: that more than 1 − quantile of them are.

    Only what is above the edge of the bound's own cell counts, so the bound is rounded up, by at most a third.
    Slow answers come in bouts and from callers with long prompts, so that this is rather more easily
    convinced than Ville's inequality allows; compare with a bound well apart.
    """
    cell = latency_cell(bound_ms)
    above = sum(count for place, count in histogram.items() if place > cell)
    return exceeds(above, sum(histogram.values()), 1 - quantile)


def quantile_ms(histogram: Mapping[int, int], quantile: float) -> float | None:
    """The upper edge in ms of the cell of the quantile (nearest rank); None of nothing, inf above the last edge."""
    total = sum(histogram.values())
    if not total:
        return None
    return _edge_ms(histogram, math.ceil(total * quantile))


def quantile_at_most_ms(histogram: Mapping[int, int], quantile: float) -> float:
    """What the quantile is below with about 97.5 % confidence; inf of too few (under about 80 for a p95).

    The order statistic two standard deviations of the binomial rank above (Conover 1999, section 3.2).
    """
    total = sum(histogram.values())
    rank = math.ceil(total * quantile + 2 * math.sqrt(total * quantile * (1 - quantile)))
    return _edge_ms(histogram, rank) if 0 < rank <= total else math.inf


def _edge_ms(histogram: Mapping[int, int], rank: int) -> float:
    """The upper edge of the cell of the rank-th smallest; `rank` is at most how many there are."""
    cells = sorted(histogram)
    cell = cells[bisect_left(list(accumulate(histogram[cell] for cell in cells)), rank)]
    return float(LATENCY_EDGES_MS[cell]) if cell < len(LATENCY_EDGES_MS) else math.inf


def distinct(bits: int) -> float:
    """How many callers set these bits of a 64-bit map: 64 ln(64/zeros), linear counting (Whang and others, 1990).

    A full map counts as half a zero, which makes 310.
    """
    zeros = MAP_BITS - bits.bit_count()
    return MAP_BITS * math.log(MAP_BITS / max(zeros, 0.5))


def ratio(part: float, whole: float) -> float:
    """part / whole, 0 of nothing."""
    return part / whole if whole else 0.0


def wait_s(samples: int, seen: int, over_s: float) -> float | None:
    """About how many seconds until `samples` are there, after `seen` within `over_s`; None if there is no rate."""
    if seen >= samples:
        return 0.0
    return (samples - seen) * over_s / seen if seen and over_s > 0 else None


def span(seconds: float) -> str:
    """A time as people estimate it: 90 s, 90 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


def merged(arms: Iterable[Arm]) -> Arm:
    """Several arms as one: counts and histograms summed, maps of callers or-ed."""
    arms = tuple(arms)
    if len(arms) == 1:
        return arms[0]
    ok = failed = priced = callers = callers_failing = synthetic_ok = synthetic_failed = 0
    cost_usd = 0.0
    latency_ms: dict[int, int] = {}
    first_token_ms: dict[int, int] = {}
    failing: dict[int, int] = {}
    for arm in arms:
        ok += arm.ok
        failed += arm.failed
        priced += arm.priced
        cost_usd += arm.cost_usd
        callers |= arm.callers
        callers_failing |= arm.callers_failing
        synthetic_ok += arm.synthetic_ok
        synthetic_failed += arm.synthetic_failed
        told = (latency_ms, arm.latency_ms), (first_token_ms, arm.first_token_ms), (failing, arm.failing)
        for cells, more in told:
            for cell, count in more.items():
                cells[cell] = cells.get(cell, 0) + count
    return Arm(
        ok=ok,
        failed=failed,
        latency_ms=latency_ms,
        first_token_ms=first_token_ms,
        cost_usd=cost_usd,
        priced=priced,
        callers=callers,
        callers_failing=callers_failing,
        failing=failing,
        synthetic_ok=synthetic_ok,
        synthetic_failed=synthetic_failed,
    )
