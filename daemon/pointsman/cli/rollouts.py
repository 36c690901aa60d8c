"""What `rollout status` and `rollout report` show: plain values, and how they are drawn."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pointsman.cli.common import age
from pointsman.cli.ramps import MARKS
from pointsman.core.model import Plan, State
from pointsman.core.ramp_model import Arm, Finding
from pointsman.core.rollout_model import RUNNING, Rollout, RolloutPlan, RolloutReport
from pointsman.core.rollout_reports import title
from pointsman.core.rollout_seen import span
from pointsman.core.stats import quantile_ms

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

BAR_CELLS: Final = 40
_STYLES: Final = {"go": "green", "rolled_back": "red", "blocked": "red", "stopped": "dim", "not begun": "dim"}


def pictures(state: State, now_s: float, name: str = "") -> list[dict[str, Any]]:
    """Every rollout, or the one of that name, at `now_s`; those that are only configured too."""
    plan = state.plan
    planned = plan.rollouts if plan else {}
    names = [one for one in sorted({*planned, *state.rollouts}) if not name or one == name]
    return [
        _picture(state.rollouts[one], planned.get(one), now_s)
        if one in state.rollouts
        else _unbegun(one, planned[one], plan)
        for one in names
    ]


def _unbegun(name: str, planned: RolloutPlan, plan: Plan | None) -> dict[str, Any]:
    environment = plan.environment if plan else ""
    return {
        "name": name,
        "environment": environment,
        "route": planned.route,
        "source": planned.source,
        "goal": planned.goal,
        "phase": "not begun",
        "stages": _stages(planned),
        "running": False,
    }


def _stages(planned: RolloutPlan | None) -> list[dict[str, Any]]:
    stages = planned.stages if planned else ()
    return [
        {
            "environment": s.environment,
            "soak_s": s.soak_s,
            "again_soak_s": s.again_soak_s,
            "approval": s.approval,
        }
        for s in stages
    ]


def _picture(one: Rollout, planned: RolloutPlan | None, now_s: float) -> dict[str, Any]:
    """Times in seconds, ages from now."""
    return {
        "name": one.name,
        "environment": one.environment,
        "route": one.route,
        "source": one.source,
        "goal": one.goal,
        "owner": one.owner,
        "reason": one.reason,
        "phase": one.phase.value,
        "running": one.phase in RUNNING,
        "attempt": one.attempt,
        "root_cause": one.root_cause,
        "previous": one.previous,
        "cleared": one.cleared,
        "why": one.hold or one.ended,
        "age_s": round(now_s - one.created_s, 1),
        "phase_age_s": round(now_s - one.since_s, 1),
        "watched_s": round(one.watched_s, 1),
        "soak_s": one.soak_s,
        "ramp": one.ramp,
        "new": _seen(one.total.new),
        "old": _seen(one.before),
        "criteria": [_finding(finding) for finding in one.findings],
        "overruled": one.overruled,
        "approved": one.approved,
        "stages": _stages(planned),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "criterion": finding.gate,
        "verdict": finding.verdict.value,
        "why": finding.why,
        "data": finding.data,
    }


def _seen(arm: Arm) -> dict[str, Any]:
    return {
        "requests": arm.requests,
        "failed": arm.failed,
        "first_token_ms_p95": quantile_ms(arm.first_token_ms, 0.95),
        "latency_ms_p95": quantile_ms(arm.latency_ms, 0.95),
        "cost_usd": round(arm.cost_usd, 6),
        "priced": arm.priced,
    }


def rendered(rollouts: list[dict[str, Any]]) -> "RenderableType":
    """For people, at 80 columns."""
    from rich.console import Group  # noqa: PLC0415

    if not rollouts:
        return "no rollout is configured: write one under rollouts: in the file"
    parts: list[RenderableType] = []
    for rollout in rollouts:
        parts += ["", *_one(rollout)] if parts else _one(rollout)
    return Group(*parts)


def _one(rollout: dict[str, Any]) -> "list[RenderableType]":
    from rich.text import Text  # noqa: PLC0415

    phase = rollout["phase"]
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{rollout['name']} in {rollout['environment']}", "bold"),
            f"  {rollout['source']} → {rollout['goal']} on {rollout['route']}  ",
            (phase.replace("_", " "), _STYLES.get(phase, "yellow")),
        )
    ]
    if rollout["stages"]:
        parts.append(Text(f"  {_way(rollout)}", style="dim"))
    if phase == "not begun":
        return [*parts, Text(f"  pointsman rollout start {rollout['name']}", style="dim")]
    attempt = f", attempt {rollout['attempt']}" if rollout["attempt"] > 1 else ""
    parts.append(Text(f"  by {rollout['owner']}, {rollout['reason']}{attempt}", style="dim"))
    if rollout["root_cause"]:
        parts.append(Text(f"  root cause {rollout['root_cause']}", style="dim"))
    if phase in {"soaking", "approving", "blocked"}:
        parts.append(_bar(rollout))
    if rollout["why"]:
        running = rollout["running"]
        text = f"  {'holds:' if running else 'because'} {rollout['why']}"
        parts.append(Text(text, style="yellow" if running else "dim"))
    for what, side in (("new", rollout["new"]), ("old", rollout["old"])):
        if side["requests"]:
            parts.append(Text(f"  {what:<4} {_counts(side)}"))
    return parts + [_criterion(found, rollout["overruled"]) for found in rollout["criteria"]]


def _way(rollout: dict[str, Any]) -> str:
    careful = bool(rollout.get("root_cause"))
    return " → ".join(
        f"{stage['environment']} {span(stage['again_soak_s' if careful else 'soak_s'])}"
        + (", approval" if stage["approval"] else "")
        for stage in rollout["stages"]
    )


def _bar(rollout: dict[str, Any]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    watched_s, soak_s = rollout["watched_s"], rollout["soak_s"]
    filled = round(min(1.0, watched_s / soak_s if soak_s else 1.0) * BAR_CELLS)
    bar = "█" * filled + "·" * (BAR_CELLS - filled)
    return Text.assemble("  ", (bar, "cyan"), f"  watched {age(watched_s)} of {span(soak_s)}")


def _counts(side: dict[str, Any]) -> str:
    text = f"{side['requests']} requests, {side['failed']} failed"
    text += f" ({100 * side['failed'] / side['requests']:.1f} %)"
    for kind, what in (("first_token_ms_p95", "first token"), ("latency_ms_p95", "answer")):
        if side[kind] is not None:
            text += f", p95 {what} {side[kind]:.0f} ms"
    return text + (f", {side['cost_usd']:.4f} USD" if side["cost_usd"] else "")


def _criterion(found: dict[str, Any], overruled: dict[str, str]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    name = found["criterion"]
    mark, style = MARKS[found["verdict"]]
    why = found["why"] + (f", overruled by {overruled[name]}" if name in overruled else "")
    return Text.assemble("  ", (mark, style), f" {name:<10} ", (why, "dim"))


# --- reports


def report_picture(report: RolloutReport) -> dict[str, Any]:
    """A report as a plain value; what has no evidence is null."""
    names = (name for name in report.__struct_fields__ if name != "findings")
    picture = {name: getattr(report, name) for name in names}
    return picture | {
        "savings_usd": report.savings_usd,
        "criteria": [_finding(finding) for finding in report.findings],
    }


def markdown(report: RolloutReport) -> str:
    """A report as Markdown, in the shape that the runbooks' weekly report has."""
    heading = title(report)
    lines = [f"# {heading[0].upper()}{heading[1:]}", ""]
    lines += [
        f"- Deployment: {_when(report.began_s)}, attempt {report.attempt}",
        f"- Period: {_when(report.since_s)} to {_when(report.at_s)}",
        f"- Environment: {report.environment}",
        f"- Moved: {report.route}, from {report.source} to {report.goal}",
        f"- State: {report.phase.value.replace('_', ' ')}, watched {span(report.watched_s)} of {span(report.soak_s)}",
    ]
    if report.root_cause:
        lines.append(f"- Root cause of the last rollback: {report.root_cause}")
    lines += ["", "## Metrics", "", *_metrics(report), "", "## Cost savings", "", *_costs(report)]
    if report.findings:
        lines += ["", "## Criteria", ""]
        lines += [
            f"- {f.gate.replace('_', ' ')}: {_VERDICTS[f.verdict.value]}, {f.why}" for f in report.findings
        ]
    lines += ["", "## Issues", "", *([f"- {issue}" for issue in report.issues] or ["- none"])]
    lines += ["", "## Recommendation", "", f"- {report.recommendation}", ""]
    return "\n".join(lines)


_VERDICTS: Final = {"pass": "go", "hold": "not go", "abort": "no-go", "absent": "not asked"}


def _metrics(report: RolloutReport) -> list[str]:
    hits = "no evidence" if report.cache_hit_ratio is None else f"{100 * report.cache_hit_ratio:.1f} %"
    return [
        f"- Total requests: {report.requests}",
        f"- Cache hit rate: {hits}",
        f"- API calls: {report.requests}",
        f"- Error rate: {_ratio(report.failed, report.requests)}",
        f"- P95 response time: {_p95(report.p95_ms, report.p95_before_ms)}",
        f"- P95 first token: {_p95(report.first_token_p95_ms, report.first_token_p95_before_ms)}",
        f"- Requests of the old side meanwhile: {report.old_requests}"
        + (f", error rate {_ratio(report.old_failed, report.old_requests)}" if report.old_requests else ""),
    ]


def _costs(report: RolloutReport) -> list[str]:
    saved, was = report.savings_usd, report.cost_before_usd
    share = f" ({100 * saved / was:.1f} %)" if saved is not None and was else ""
    lines = [
        f"- Costs before: {_usd(was)}",
        f"- Costs after: {_usd(report.cost_usd)}",
        f"- Savings: {_usd(saved)}{share}",
    ]
    days = (report.at_s - report.since_s) / 86_400
    if saved is not None and days >= 1:
        lines.append(f"- Projected savings in 30 days at this rate: {_usd(saved / days * 30)}")
    return lines


def _ratio(failed: int, requests: int) -> str:
    return f"{100 * failed / requests:.2f} % ({failed} failed)" if requests else "no evidence"


def _p95(now: float | None, before: float | None) -> str:
    if now is None:
        return "no evidence"
    return f"{now:.0f} ms" + (f" ({before:.0f} ms before)" if before is not None else "")


def _usd(amount: float | None) -> str:
    return "no evidence" if amount is None else f"{amount:.2f} USD"


def _when(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"
