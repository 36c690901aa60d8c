"""Is a route well, after a failover or at any time? Checks, each with pass, fail or no evidence, and why.

    check      passes when
    samples    as many requests as asked for were seen
    success    as many of them were answered well as asked for
    targets    every target with a share is in service, and answered its last probe
    latency    p95 is not over `latency_limit_ms`, nor over `latency_factor` × that of the time before. It fails for
               the latter only where that is no chance: if p95 is over, and might be by luck, there is no evidence
    impact     no more than 2 % of callers had an attempt fail
    serving    every live proxy routes by the published table

No data is neither success nor failure: such a check says "no evidence" and decides nothing, save that the samples
must have been seen.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from pointsman.core import traffic
from pointsman.core.evidence import Report
from pointsman.core.model import Health, Plan, State
from pointsman.core.ramp_model import Arm, RampPolicy
from pointsman.core.standing import standings_of
from pointsman.core.stats import quantile_at_most_ms, quantile_ms, slower
from pointsman.core.table import Table
from pointsman.core.traffic import Seen, Watch

IMPACT_MAX: Final = 0.02
# A 95th percentile is spoken of from so many answers on.
LATENCY_FLOOR: Final = 20
_KINDS: Final = {"first_token_ms": "first token", "latency_ms": "answer"}


class Result(StrEnum):
    """What came of a check."""

    PASS = "pass"  # noqa: S105 – no password
    FAIL = "fail"
    NO_EVIDENCE = "no evidence"


class Check(Struct, frozen=True, kw_only=True):
    """A check's result, why in words, and the numbers that it rests on."""

    check: str
    result: Result
    why: str
    data: dict[str, float] = {}


class Made(Struct, frozen=True, kw_only=True):
    """One synthetic request, as its caller saw it; `attempts` over 1: it fell over."""

    ok: bool
    attempts: int
    latency_ms: float
    why: str = ""


def valid(checks: Iterable[Check]) -> bool:
    """Is everything well? Nothing failed, and the samples were seen."""
    found = list(checks)
    return all(one.result is not Result.FAIL for one in found) and any(
        one.check == "samples" and one.result is Result.PASS for one in found
    )


def percent(ratio: float) -> str:
    """A ratio as people read it, never rounded up: 0.97996 → "97.99 %"."""
    return f"{math.floor(ratio * 10_000 + 1e-6) / 100:.2f}".rstrip("0").rstrip(".") + " %"


def samples(seen: int, needed: int, over_s: float, hint: str) -> Check:
    """Were there as many requests as asked for? `hint`: how to come by more."""
    why = f"{seen} of {needed} requests in {over_s:.0f} s"
    data = {"seen": float(seen), "needed": float(needed)}
    if seen >= needed:
        return Check(check="samples", result=Result.PASS, why=why, data=data)
    return Check(check="samples", result=Result.FAIL, why=f"{why}: {hint}", data=data)


def success(ok: int, requests: int, threshold: float, remark: str = "") -> Check:
    """Were enough of them answered well? `threshold` 0 to 1; `remark` is told as well."""
    if not requests:
        return Check(check="success", result=Result.NO_EVIDENCE, why="no request was seen")
    ratio = ok / requests
    why = f"{percent(ratio)} of {requests} answered well, {percent(threshold)} asked for{remark}"
    result = Result.PASS if ratio >= threshold else Result.FAIL
    return Check(check="success", result=result, why=why, data={"success": ratio, "threshold": threshold})


def made_success(made: list[Made], threshold: float) -> Check:
    """The same of synthetic requests: as their caller saw them, wherever they fell over to."""
    over = sum(one.ok and one.attempts > 1 for one in made)
    whys = list(dict.fromkeys(one.why for one in made if not one.ok))
    remark = f" ({over} fell over)" if over else ""
    if whys:
        remark += f"; failed: {', '.join(whys[:3])}"
    return success(sum(one.ok for one in made), len(made), threshold, remark)


def targets(
    plan: Plan, state: State, table: Table | None, routes: Iterable[str], now_s: float, *, led: bool
) -> Check:
    """Is every target with a share in service, and did it answer its last probe? `led`: a daemon leads."""
    if table is None:
        return Check(check="targets", result=Result.FAIL, why="no table is published")
    if not led:
        why = "no daemon leads: nothing is probed (pointsman control)"
        return Check(check="targets", result=Result.FAIL, why=why)
    entries = {name: table.routes[name] for name in routes if name in table.routes}
    bad = [f"{name} is closed: {entry.closed}" for name, entry in entries.items() if entry.closed]
    sharing = [t for entry in entries.values() for t, share in entry.shares_bp.items() if share > 0]
    sharing = [target for target in dict.fromkeys(sharing) if target in plan.targets]
    standings = standings_of(state, plan, now_s)
    unasked: list[str] = []
    for target in sharing:
        health, standing = state.health.get(target, Health()), standings[target]
        silent = _unanswered(target, health, plan, state)
        if standing.factor <= 0:
            bad.append(f"{target} is out of service: {standing.why or health.last_failure}")
        elif silent:
            bad.append(f"{target}: {silent}")
        elif plan.targets[target].provider not in state.paths:
            unasked.append(target)
    if bad:
        return Check(check="targets", result=Result.FAIL, why="; ".join(bad))
    if unasked or not sharing:
        why = f"not probed yet: {', '.join(unasked)}" if unasked else "no target has a share"
        return Check(check="targets", result=Result.NO_EVIDENCE, why=why)
    why = f"{', '.join(sharing)} in service{_others(plan, state, entries, set(sharing))}"
    return Check(check="targets", result=Result.PASS, why=why)


def _unanswered(target: str, health: Health, plan: Plan, state: State) -> str:
    """Why its last probe is no good answer, or ""."""
    if health.reach_streak or health.generate_streak:
        return f"its last probe failed: {health.last_failure}"
    path = state.paths.get(plan.targets[target].provider)
    if path is not None and path.silent_s > path.answered_s:
        return f"{plan.targets[target].provider} did not answer its last probe: {path.detail}"
    return ""


def _others(plan: Plan, state: State, entries: Iterable[str], sharing: set[str]) -> str:
    """A remark on targets without a share that do not answer: what was failed over from need not be back."""
    others = [t for t in traffic.targets_of(plan, entries) if t not in sharing]
    silent = [t for t in others if _unanswered(t, state.health.get(t, Health()), plan, state)]
    return f" ({', '.join(silent)} without a share, and not answering)" if silent else ""


def latency(now: Arm, before: Arm | None, policy: RampPolicy, why_none: str = "") -> Check:
    """Is p95 about what it was? `before` None: nothing is known of the time before, because of `why_none`.

    The p95 of forty answers rests on the slowest three, so that over `latency_factor` × of before is only held against
    a route when the evidence is `abort_evidence` : 1, compared with what p95 surely was at most. Who has to act on it
    is told of the p95 in any case.
    """
    told, bad = [], []
    data: dict[str, float] = {}
    compared, doubtful = False, ""
    for kind, what in _KINDS.items():
        cells, cells_before = getattr(now, kind), getattr(before, kind) if before is not None else {}
        if sum(cells.values()) < LATENCY_FLOOR:
            continue
        p95 = quantile_ms(cells, 0.95) or 0.0
        data[f"{kind}_p95"] = p95
        told.append(f"p95 {what} {p95:.0f} ms")
        if p95 > policy.latency_limit_ms:
            bad.append(f"over {policy.latency_limit_ms:.0f} ms")
        if sum(cells_before.values()) < LATENCY_FLOOR:
            continue
        compared = True
        was = quantile_ms(cells_before, 0.95) or 0.0
        data[f"before_{kind}_p95"] = was
        told[-1] += f", before {was:.0f} ms"
        if p95 > policy.latency_factor * was:
            over = f"{what} over {policy.latency_factor:g} × of before"
            data[f"{kind}_evidence"] = _slower_than_before(cells, cells_before, policy)
            if data[f"{kind}_evidence"] >= policy.abort_evidence:
                bad.append(over)
            else:
                doubtful = f"{over}, which may be chance: more --samples tell"
    why = "; ".join(told) or f"fewer than {LATENCY_FLOOR} answers of callers"
    if bad:
        return Check(check="latency", result=Result.FAIL, why=f"{why}: {', '.join(bad)}", data=data)
    if doubtful or not compared:
        why += f"; {doubtful or why_none or 'too few answers in the time before'}" if told else ""
        return Check(check="latency", result=Result.NO_EVIDENCE, why=why, data=data)
    return Check(check="latency", result=Result.PASS, why=why, data=data)


def _slower_than_before(cells: Mapping[int, int], before: Mapping[int, int], policy: RampPolicy) -> float:
    """Evidence (a factor) that p95 is over `latency_factor` × what it surely was at most before."""
    return slower(cells, policy.latency_factor * quantile_at_most_ms(before, 0.95))


def impact(seen: Seen) -> Check:
    """Did more than 2 % of callers have an attempt fail, more than one of them?"""
    if not seen.arm.requests:
        return Check(check="impact", result=Result.NO_EVIDENCE, why="no caller was seen")
    found = traffic.callers(seen)
    low, high = round(found.failing_low), round(found.failing_high)
    data = {"callers": found.all_low, "failing": found.failing_low}
    about = f"{low}" if low == high else f"{low} to {high}"
    why = f"an attempt failed of {about} of about {found.all_low:.0f} callers, {percent(IMPACT_MAX)} alert"
    if found.failing_high <= IMPACT_MAX * found.all_low:
        return Check(check="impact", result=Result.PASS, why=why, data=data)
    if high < 2:
        why += "; one alone says nothing of the others"
        return Check(check="impact", result=Result.NO_EVIDENCE, why=why, data=data)
    if low >= 2 and found.failing_low > IMPACT_MAX * max(found.all_high, found.failing_low):
        return Check(check="impact", result=Result.FAIL, why=why, data=data)
    why += "; some may have failed before only" if low < high else "; too many to tell apart"
    return Check(check="impact", result=Result.NO_EVIDENCE, why=why, data=data)


def serving(table: Table | None, watch: Watch, reports: Mapping[str, Report], now_s: float) -> Check:
    """Does every proxy that was heard of lately route by the published table?"""
    silent = traffic.silent(watch, now_s)
    heard = sorted(set(watch.proxies).difference(silent))
    remark = f" (silent, and not counted: {', '.join(silent)})" if silent else ""
    if table is None or not heard:
        why = "no table is published" if table is None else f"no proxy reports{remark}"
        return Check(check="serving", result=Result.FAIL, why=why)
    behind = [name for name in heard if name in reports and not serves(reports[name], table)]
    if behind:
        told = [
            f"{name} serves {reports[name].serving or 'no table'}{_why(reports[name])}" for name in behind
        ]
        why = f"{'; '.join(told)}, not {table.version}{remark}"
        return Check(check="serving", result=Result.FAIL, why=why)
    why = f"table {table.version} on {len(heard)} of {len(heard)} live proxies{remark}"
    return Check(check="serving", result=Result.PASS, why=why, data={"proxies": float(len(heard))})


def serves(report: Report, table: Table) -> bool:
    """Does the proxy route by this table, or a newer one?"""
    return report.serving is not None and report.serving >= table.version and not report.rejected


def _why(report: Report) -> str:
    return f" (rejected: {report.rejected})" if report.rejected else ""


def spread(shares_bp: Mapping[str, int], count: int) -> list[str]:
    """`count` targets in proportion to their shares, as evenly as can be; none if no share is above zero."""
    shares = {target: share for target, share in shares_bp.items() if share > 0}
    given = dict.fromkeys(shares, 0)
    found: list[str] = []
    for _ in range(count if shares else 0):
        following = min(shares, key=lambda target: (given[target] + 1) / shares[target])
        given[following] += 1
        found.append(following)
    return found
