"""What went through the proxies while somebody watched: differences of their cumulative reports, by target.

A watch begins with what proxies had counted by then. Of a proxy that boots meanwhile everything counts, of one that
is first heard of later only what it counts from then on, unless it booted since the watch began. A report that is
read again, or is older than the last one, counts nothing.

Counted are attempts at targets, by their outcome: a request that fell over counts as a failed one and a good one.
Callers' own faults, and callers that hung up, are neither.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core.arms import news
from pointsman.core.errors import Fault
from pointsman.core.evidence import ArmReport, Report, TargetReport
from pointsman.core.model import Plan
from pointsman.core.ramp_model import Arm
from pointsman.core.stats import distinct, merged, quantile_ms

# Maps of callers hold the present minute and the one before; a report may be so much older than its reading.
MINUTE_S: Final = 60.0
REPORT_AGE_S: Final = 5.0
SILENT_S: Final = 10.0
# From so many bits of a map's 64 on, how many callers set them is anybody's guess.
CROWDED_BITS: Final = 60


class Known(Struct, frozen=True, kw_only=True):
    """What was counted of a proxy. `heard_s`: when its last new report was read, None before the first.

    `failing`: target → its map of failing callers at `since_s`, which holds for a while what was before.
    """

    boot: str
    seq: int
    started_s: float
    since_s: float
    heard_s: float | None = None
    targets: Mapping[str, ArmReport] = {}
    failing: Mapping[str, int] = {}


class Watch(Struct, frozen=True, kw_only=True):
    """Since when, by the store's clock, and what was counted of each proxy so far."""

    since_s: float
    proxies: Mapping[str, Known] = {}


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen of a target, or of several. `doubtful`: failing callers that may have failed before only."""

    arm: Arm = Arm()
    doubtful: int = 0

    @property
    def success(self) -> float | None:
        """The share of attempts that were answered well, 0 to 1; None of nothing."""
        return self.arm.ok / self.arm.requests if self.arm.requests else None


class Callers(Struct, frozen=True, kw_only=True):
    """How many callers there were, and how many had an attempt fail: what it is at least and at most."""

    all_low: float
    all_high: float
    failing_low: float
    failing_high: float


def begun(reports: Iterable[Report], now_s: float) -> Watch:
    """A watch that begins with these reports."""
    return Watch(since_s=now_s, proxies={report.proxy: _past(report, now_s) for report in reports})


def looked(watch: Watch, reports: Iterable[Report], now_s: float) -> tuple[Watch, dict[str, Seen]]:
    """The watch one look later, and what is new by target."""
    proxies = dict(watch.proxies)
    seen: dict[str, Seen] = {}
    for report in reports:
        already = _already(report, proxies.get(report.proxy), watch, now_s)
        if already is None:
            continue
        if now_s - REPORT_AGE_S >= (already.since_s // MINUTE_S + 2) * MINUTE_S:
            already = replace(already, failing={})  # the maps have turned over since
        for target, entry in report.targets.items():
            new = _new(entry, already.targets.get(target), already.failing.get(target, 0))
            seen[target] = together((seen[target], new)) if target in seen else new
        proxies[report.proxy] = replace(already, seq=report.seq, heard_s=now_s, targets=_counts(report))
    return replace(watch, proxies=proxies), seen


def _already(report: Report, before: Known | None, watch: Watch, now_s: float) -> Known | None:
    """What of the report was counted already; None if it says nothing new."""
    if before is None:
        return _born(report, now_s) if report.started_s >= watch.since_s else _past(report, now_s)
    if before.boot != report.boot:
        # One that began earlier is of an earlier life, or of a namesake.
        return _born(report, now_s) if report.started_s >= before.started_s else None
    return before if report.seq > before.seq else None


def _born(report: Report, now_s: float) -> Known:
    return Known(boot=report.boot, seq=report.seq, started_s=report.started_s, since_s=now_s)


def _past(report: Report, now_s: float) -> Known:
    """All that the report says is from before."""
    failing = {target: entry.callers_failing for target, entry in report.targets.items()}
    return replace(_born(report, now_s), targets=_counts(report), failing=failing)


def _counts(report: Report) -> dict[str, ArmReport]:
    return {target: _as_arm(entry) for target, entry in report.targets.items()}


def _as_arm(entry: TargetReport) -> ArmReport:
    return ArmReport(
        counts=entry.counts,
        synthetic=entry.synthetic,
        latency_ms=entry.latency_ms,
        first_token_ms=entry.first_token_ms,
        cost_usd=entry.cost_usd,
        callers=entry.callers,
        callers_failing=entry.callers_failing,
    )


def _new(entry: TargetReport, counted: ArmReport | None, failing_before: int) -> Seen:
    """What is new of a target. Maps of a minute in which nothing new was counted are of before."""
    arm = news([(_as_arm(entry), counted)])
    failing = entry.callers_failing if arm.failed else 0
    arm = replace(
        arm, callers=entry.callers if arm.requests else 0, callers_failing=failing & ~failing_before
    )
    return Seen(arm=arm, doubtful=failing & failing_before)


def together(several: Iterable[Seen]) -> Seen:
    """Several as one."""
    arms, doubtful = [], 0
    for one in several:
        arms.append(one.arm)
        doubtful |= one.doubtful
    return Seen(arm=merged(arms), doubtful=doubtful)


def added(total: Mapping[str, Seen], more: Mapping[str, Seen]) -> dict[str, Seen]:
    """Two looks as one, by target."""
    return {t: together(part[t] for part in (total, more) if t in part) for t in {**total, **more}}


def callers(seen: Seen) -> Callers:
    """How many callers there were, as far as maps tell: no more than requests, failing ones no more than failures."""
    arm = seen.arm
    known = min(distinct(arm.callers), arm.requests)
    crowded = arm.callers.bit_count() >= CROWDED_BITS
    return Callers(
        all_low=known,
        all_high=arm.requests if crowded else known,
        failing_low=min(distinct(arm.callers_failing), arm.failed),
        failing_high=min(distinct(arm.callers_failing | seen.doubtful), arm.failed),
    )


def p95_ms(seen: Seen) -> tuple[float | None, float | None]:
    """(p95 of first tokens, p95 of whole answers) in ms, None where there were none."""
    return quantile_ms(seen.arm.first_token_ms, 0.95), quantile_ms(seen.arm.latency_ms, 0.95)


def measured(reports: Iterable[Report]) -> bool:
    """Do these reports hold latencies? Records of large fleets leave them out."""
    return all(
        entry.latency_ms
        for report in reports
        for entry in report.targets.values()
        if entry.counts.get(Fault.OK.value)
    )


def silent(watch: Watch, now_s: float) -> list[str]:
    """The proxies from which nothing new has come since the watch began, or for `SILENT_S`."""
    return sorted(
        name
        for name, known in watch.proxies.items()
        if known.heard_s is None or now_s - known.heard_s > SILENT_S
    )


# --- what is watched


def targets_of(plan: Plan, routes: Iterable[str]) -> list[str]:
    """The targets of these routes, in the order of their chains."""
    found = [(*plan.routes[name].chain, *plan.routes[name].weights_bp) for name in routes]
    return list(dict.fromkeys(target for targets in found for target in targets))


def shared(plan: Plan, routes: Iterable[str], targets: Iterable[str]) -> dict[str, list[str]]:
    """target → the other routes that it serves: reports are by target, and hold what came over those as well."""
    own = set(routes)
    others = {name: set(targets_of(plan, [name])) for name in plan.routes if name not in own}
    found = {t: sorted(name for name, members in others.items() if t in members) for t in targets}
    return {target: names for target, names in found.items() if names}
