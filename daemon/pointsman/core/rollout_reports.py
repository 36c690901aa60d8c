"""Reports of rollouts write themselves: at the end of a stage, and while it runs daily and every seventh day.

They are due at an hour of the day, UTC, by the store's clock alone: a report is missing if a day has begun at that
hour since the last one. However far a clock leaps, one is written, not one for each day.
"""

from typing import Final

from msgspec.structs import replace

from pointsman.core.criteria import each_usd, p95
from pointsman.core.model import Note, State
from pointsman.core.ramp_model import Finding, Verdict
from pointsman.core.rollout_model import (
    MOVED,
    ReportKind,
    Rollout,
    RolloutPhase,
    RolloutReport,
    Seen,
)

DAY_S: Final = 86_400.0
WEEK_DAYS: Final = 7
REPORTS_KEPT: Final = 30
_DECIDED: Final = frozenset({RolloutPhase.GO, RolloutPhase.ROLLED_BACK})


def due(one: Rollout, now_s: float) -> tuple[ReportKind, ...]:
    """What is to be reported at `now_s`. What ended now is told as a stage, and is neither a day nor a week."""
    if one.phase in _DECIDED:
        return (ReportKind.STAGE,) if one.decided_s == now_s else ()
    if one.phase not in MOVED:
        return ()
    today = _day(one, now_s)
    kinds: list[ReportKind] = []
    if today > _day(one, one.day.since_s):
        kinds.append(ReportKind.DAILY)
        if today - _day(one, one.week.since_s) >= WEEK_DAYS:
            kinds.append(ReportKind.WEEKLY)
    return tuple(kinds)


def _day(one: Rollout, at_s: float) -> int:
    """Which day it is, when days begin at the hour of reports."""
    return int((at_s - one.report_hour * 3600) // DAY_S)


def filed(
    state: State, one: Rollout, kind: ReportKind, now_s: float, notes: list[Note]
) -> tuple[State, Rollout]:
    """The state with the report among those kept, the rollout with its next day or week begun; a note is added."""
    report = report_of(one, kind, now_s)
    kept = (*state.reports.get(one.name, ()), report)[-REPORTS_KEPT:]
    notes.append(
        Note(at_s=now_s, kind="rollout.report", subject=one.name, text=_text(report), data=_data(report))
    )
    if kind is ReportKind.DAILY:
        one = replace(one, day=Seen(since_s=now_s))
    elif kind is ReportKind.WEEKLY:
        one = replace(one, week=Seen(since_s=now_s))
    return replace(state, reports={**state.reports, one.name: kept}), one


def report_of(one: Rollout, kind: ReportKind, now_s: float) -> RolloutReport:
    """What the rollout did in the period that `kind` closes."""
    seen = {ReportKind.DAILY: one.day, ReportKind.WEEKLY: one.week, ReportKind.STAGE: one.total}[kind]
    days = _day(one, now_s) - _day(one, one.total.since_s)
    each, was = each_usd(seen.new), each_usd(one.before)
    return RolloutReport(
        rollout=one.name,
        kind=kind,
        environment=one.environment,
        route=one.route,
        source=one.source,
        goal=one.goal,
        attempt=one.attempt,
        phase=one.phase,
        began_s=one.total.since_s,
        since_s=seen.since_s,
        at_s=now_s,
        number={ReportKind.DAILY: days, ReportKind.WEEKLY: days // WEEK_DAYS}.get(kind, 0),
        watched_s=one.watched_s,
        soak_s=one.soak_s,
        requests=seen.new.requests,
        failed=seen.new.failed,
        old_requests=seen.old.requests,
        old_failed=seen.old.failed,
        p95_ms=p95(seen.new.latency_ms),
        p95_before_ms=p95(one.before.latency_ms),
        first_token_p95_ms=p95(seen.new.first_token_ms),
        first_token_p95_before_ms=p95(one.before.first_token_ms),
        cost_usd=None if each is None else seen.new.cost_usd,
        cost_before_usd=None if each is None or was is None else was * seen.new.priced,
        root_cause=one.root_cause,
        findings=one.findings,
        issues=seen.issues,
        recommendation=_recommendation(one),
    )


def _recommendation(one: Rollout) -> str:
    match one.phase:
        case RolloutPhase.GO:
            return f"Go on: {one.environment} is go."
        case RolloutPhase.ROLLED_BACK:
            again = f'pointsman rollout again {one.name} --root-cause "…"'
            return f"Find the root cause ({one.ended}), then: {again}"
        case RolloutPhase.APPROVING:
            return f"Approve it (pointsman rollout approve {one.name}), or stop it."
        case RolloutPhase.BLOCKED:
            return f"Look at the old side: it is no-go and cannot go back ({one.hold})."
        case RolloutPhase.RAMPING:
            return "Continue monitoring: the canary runs."
    held = [f for f in one.findings if f.verdict is Verdict.HOLD and f.gate not in one.overruled]
    if held:
        return f"Continue monitoring, and look at what is not go yet: {'; '.join(map(_hold, held))}"
    return "Continue monitoring: every criterion is go so far."


def _hold(finding: Finding) -> str:
    return f"{finding.gate.replace('_', ' ')} ({finding.why})"


def title(report: RolloutReport) -> str:
    """What the report is called: "rollout gateway, production: week 1"."""
    period = {
        ReportKind.DAILY: f"day {report.number}",
        ReportKind.WEEKLY: f"week {report.number}",
        ReportKind.STAGE: f"the stage is {report.phase.value.replace('_', ' ')}",
    }[report.kind]
    return f"rollout {report.rollout}, {report.environment}: {period}"


def _text(report: RolloutReport) -> str:
    parts = [f"{report.requests} requests, {report.failed} failed"]
    for what, now, was in (
        ("first token", report.first_token_p95_ms, report.first_token_p95_before_ms),
        ("answer", report.p95_ms, report.p95_before_ms),
    ):
        if now is not None:
            parts.append(f"p95 {what} {now:.0f} ms" + (f" ({was:.0f} ms before)" if was is not None else ""))
    saved = report.savings_usd
    if saved is not None:
        parts.append(f"{saved:.2f} USD saved" if saved >= 0 else f"{-saved:.2f} USD more than before")
    issues = len(report.issues)
    parts.append("no issues" if not issues else "1 issue" if issues == 1 else f"{issues} issues")
    return f"{title(report)}: {', '.join(parts)}. {report.recommendation}"


def _data(report: RolloutReport) -> dict[str, str | int | float]:
    data: dict[str, str | int | float] = {
        "report": report.kind.value,
        "environment": report.environment,
        "attempt": report.attempt,
        "number": report.number,
        "requests": report.requests,
        "failed": report.failed,
    }
    numbers = {
        "p95_ms": report.p95_ms,
        "p95_before_ms": report.p95_before_ms,
        "first_token_p95_ms": report.first_token_p95_ms,
        "first_token_p95_before_ms": report.first_token_p95_before_ms,
        "cost_usd": report.cost_usd,
        "cost_before_usd": report.cost_before_usd,
        "savings_usd": report.savings_usd,
    }
    return data | {name: number for name, number in numbers.items() if number is not None}
