"""What `canary status` shows of a ramp: one plain value, and how it is drawn."""

from typing import TYPE_CHECKING, Any, Final

from pointsman.cli.common import age
from pointsman.core.arms import pairs, sides
from pointsman.core.ramp_model import ENDED, Arm, Ramp, RampPhase
from pointsman.core.stats import quantile_ms

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

BAR_CELLS: Final = 28
MARKS: Final = {
    "pass": ("✓", "green"),
    "hold": ("‖", "yellow"),
    "abort": ("✗", "red"),
    "absent": ("–", "dim"),
}
_PHASES: Final = {"promoted": "green", "aborted": "red", "blocked": "red", "baking": "cyan"}


def ramp_picture(ramp: Ramp, now_s: float) -> dict[str, Any]:
    """A ramp at `now_s`; shares and progress in percent, times in seconds, ages from now."""
    present = sides(pairs(ramp, (ramp.stamp,)))
    total = sides(pairs(ramp, ramp.tallies))
    over = ramp.phase in ENDED
    return {
        "id": ramp.id,
        "kind": ramp.kind.value,
        "route": ramp.route,
        "source": ramp.source,
        "goal": ramp.goal,
        "owner": ramp.owner,
        "reason": ramp.reason,
        "phase": ramp.phase.value,
        "ended": over,
        "why": ramp.ended or ramp.hold,
        "paused": ramp.paused,
        "step": ramp.step + 1,
        "steps": [step.progress_bp / 100 for step in ramp.policy.steps],
        "progress": 100.0 if ramp.phase is RampPhase.PROMOTED else ramp.progress_bp / 100,
        "age_s": round(now_s - ramp.created_s, 1),
        "step_age_s": round(now_s - ramp.since_s, 1) if ramp.since_s else None,
        "watched_s": round(ramp.watched_s, 1),
        "held_s": round(ramp.held_s, 1),
        "max_hold_s": ramp.policy.max_hold_s,
        "from": {t: bp / 100 for t, bp in ramp.from_bp.items()},
        "to": {t: bp / 100 for t, bp in ramp.to_bp.items()},
        "moved": {"step": _seen(present.moved), "total": _seen(total.moved)},
        "control": {"step": _seen(present.control), "total": _seen(total.control)},
        "gates": [
            {"gate": f.gate, "verdict": f.verdict.value, "why": f.why, "data": f.data} for f in ramp.findings
        ],
    }


def _seen(arm: Arm) -> dict[str, Any]:
    return {
        "requests": arm.requests,
        "failed": arm.failed,
        "first_token_ms_p95": quantile_ms(arm.first_token_ms, 0.95),
        "latency_ms_p95": quantile_ms(arm.latency_ms, 0.95),
        "cost_usd": round(arm.cost_usd, 6),
        "synthetic": arm.synthetic_ok + arm.synthetic_failed,
        "synthetic_failed": arm.synthetic_failed,
    }


def rendered(ramps: list[dict[str, Any]]) -> "RenderableType":
    """For people, at 80 columns."""
    from rich.console import Group  # noqa: PLC0415

    if not ramps:
        return "no ramp has run yet: pointsman canary start ROUTE --from … --to …"
    parts: list[RenderableType] = []
    for ramp in ramps:
        parts += ["", *_one(ramp)] if parts else _one(ramp)
    return Group(*parts)


def headline(ramp: dict[str, Any]) -> "Text":
    """One line: what moves, how far, and what keeps it."""
    from rich.text import Text  # noqa: PLC0415

    way = f" {ramp['source']} → {ramp['goal']}" if ramp["source"] else f" back to {ramp['goal']}"
    text = Text.assemble((f"{ramp['kind']} on {ramp['route']}", "bold"), way if ramp["goal"] else "", "  ")
    text.append(ramp["phase"], style=_PHASES.get(ramp["phase"], "yellow"))
    if not ramp["ended"]:
        text.append(f", {ramp['progress']:g} %")
    return text


def _one(ramp: dict[str, Any]) -> "list[RenderableType]":
    from rich.text import Text  # noqa: PLC0415

    parts: list[RenderableType] = [
        headline(ramp),
        Text(f"  by {ramp['owner']}, {ramp['reason']}", style="dim"),
    ]
    parts.append(_bar(ramp))
    if ramp["why"]:
        style = "dim" if ramp["ended"] else "yellow"
        parts.append(Text(f"  {'because' if ramp['ended'] else 'holds:'} {ramp['why']}", style=style))
    for name, side in (("moved", ramp["moved"]), ("control", ramp["control"])):
        parts.append(Text(f"  {name:<8} {_counts(side)}"))
    if not ramp["ended"]:
        parts += [_gate(gate) for gate in ramp["gates"]]
    return parts


def _bar(ramp: dict[str, Any]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    filled = round(ramp["progress"] / 100 * BAR_CELLS)
    way = " ".join(f"{'›' if i + 1 == ramp['step'] else ''}{p:g}" for i, p in enumerate(ramp["steps"]))
    since = (
        f", step for {age(ramp['step_age_s'])}"
        if ramp["step_age_s"] is not None and not ramp["ended"]
        else ""
    )
    return Text.assemble("  ", ("█" * filled + "·" * (BAR_CELLS - filled), "cyan"), f"  {way} %{since}")


def _counts(side: dict[str, Any]) -> str:
    total = side["total"]
    text = f"{total['requests']} requests, {total['failed']} failed"
    if total["requests"]:
        text += f" ({100 * total['failed'] / total['requests']:.1f} %)"
    for kind, what in (("first_token_ms_p95", "first token"), ("latency_ms_p95", "answer")):
        if side["step"][kind] is not None:
            text += f", p95 {what} {side['step'][kind]:.0f} ms"
    if total["cost_usd"]:
        text += f", {total['cost_usd']:.4f} USD"
    if total["synthetic"]:
        text += f", {total['synthetic']} synthetic"
        text += f" ({total['synthetic_failed']} failed)" if total["synthetic_failed"] else ""
    return text


def _gate(gate: dict[str, Any]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    mark, style = MARKS[gate["verdict"]]
    return Text.assemble("  ", (mark, style), f" {gate['gate']:<10} ", (gate["why"], "dim"))
