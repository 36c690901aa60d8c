"""Who may serve at all: the verdicts that hold whatever the distress.

A target that is drained, barred, or rejected by every proxy gets nothing, not even by the safety valve. All others
may be used, if only as a last resort.
"""

from collections.abc import Iterable, Mapping

from pointsman.core.health import live_proxies
from pointsman.core.model import Health, Plan, State


def unfit(target: str, health: Health, state: State, rejected: Mapping[str, str], now_s: float) -> str:
    """Why the target may not serve whatever the distress, or "". One that is being drained gently still may."""
    drain = state.drains.get(target)
    if drain is not None and (not drain.over_s or now_s >= drain.at_s + drain.over_s):
        return f"drained by {drain.owner}: {drain.reason}"
    if health.barred:
        return f"barred: {health.barred}"
    if target in rejected:
        return f"rejected by every proxy: {rejected[target]}"
    return ""


def rejected_by_all(state: State, plan: Plan, now_s: float) -> dict[str, str]:
    """The targets that no live proxy can serve, with the reason that one of them gives."""
    live = [state.vantages[name].missing for name in live_proxies(state.vantages, plan.policy, now_s)]
    first = live[0] if live else {}
    return {target: why for target, why in first.items() if all(target in missing for missing in live)}


def way_out(targets: Iterable[str], state: State, plan: Plan, now_s: float) -> str:
    """What must be done so that one of these may serve; "" if one may."""
    rejected = rejected_by_all(state, plan, now_s)
    cures: list[str] = []
    for target in sorted(targets):
        why = unfit(target, state.health.get(target, Health()), state, rejected, now_s)
        if not why and target not in state.drains:
            return ""
        cures.append(
            f"{'undrain' if target in state.drains else 'mend'} {target} ({why or 'it is being drained'})"
        )
    return " or ".join(cures) or "add another"
