"""How each target stands in a decision: what of its share it may have, with the sentence that `explain` shows."""

from collections.abc import Mapping

from pointsman.core import breaker
from pointsman.core.axes import clock
from pointsman.core.fitness import rejected_by_all, unfit
from pointsman.core.model import Drain, Health, Phase, Plan, State
from pointsman.core.weights import Standing


def standing(target: str, state: State, plan: Plan, now_s: float) -> Standing:
    """One target as weighing sees it."""
    return _standing(target, state, plan, now_s, rejected_by_all(state, plan, now_s))


def standings_of(state: State, plan: Plan, now_s: float) -> dict[str, Standing]:
    """Every target of the plan as weighing sees it."""
    rejected = rejected_by_all(state, plan, now_s)
    return {target: _standing(target, state, plan, now_s, rejected) for target in plan.targets}


def _standing(target: str, state: State, plan: Plan, now_s: float, rejected: Mapping[str, str]) -> Standing:
    health = state.health.get(target, Health())
    capacity_rps = plan.targets[target].capacity_rps
    why = unfit(target, health, state, rejected, now_s)
    if why:
        return Standing(factor=0.0, eligible=False, why=why, capacity_rps=capacity_rps)
    draining = _draining(state.drains.get(target), now_s)
    factor = breaker.factor(health, plan.policy, now_s) * (1 - draining)
    returns_s = now_s if health.phase is Phase.HALF_OPEN else health.cooldown_until_s
    return Standing(
        factor=factor,
        refuses=health.refuses,
        returns_s=max(returns_s, health.throttled_until_s),
        capacity_rps=capacity_rps,
        throttled=health.phase in breaker.SERVING and now_s < health.throttled_until_s,
        why=f"being drained, {100 * draining:.0f} % done" if draining else _why(health, factor, now_s),
    )


def _draining(drain: Drain | None, now_s: float) -> float:
    """How far a gentle drain has come, in steps of a tenth; 0 if there is none."""
    if drain is None or not drain.over_s:
        return 0.0
    return max(1, min(10, int(10 * (now_s - drain.at_s) / drain.over_s) + 1)) / 10


def _why(health: Health, factor: float, now_s: float) -> str:
    if health.phase is Phase.COOLDOWN:
        return f"cooldown until {clock(health.cooldown_until_s)} after {health.reason}"
    if health.phase is Phase.HALF_OPEN:
        return f"half-open since {clock(health.since_s)}, {health.trials_ok} good trials; {health.reason}"
    if now_s < health.throttled_until_s:
        return f"rate limited until {clock(health.throttled_until_s)} ({health.throttled})"
    if now_s < health.softened_until_s:
        return f"half weight until {clock(health.softened_until_s)}: the provider asks to go slower"
    if factor < 1:
        return f"slow start at {factor * 100:.0f} % since {clock(health.back_s)}"
    return ""
