"""Operators' words about ramps and freezes.

Abort is never refused, always wins, and is idempotent; it acts in the same decision, before any step is taken.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pointsman.core.arms import FAILING
from pointsman.core.checks import RefusedError, checked_shares, covered, known, plan_of, tell, until
from pointsman.core.errors import Fault
from pointsman.core.evidence import Word
from pointsman.core.failover import free
from pointsman.core.gates import REQUIRABLE
from pointsman.core.health import totals
from pointsman.core.model import Freeze, Health, OverlayKind, Plan, State
from pointsman.core.ramp_model import ENDED, ExternalGate, Ramp, RampKind, RampPhase, RampPolicy, Step
from pointsman.core.stats import span
from pointsman.core.table import FULL_BP, percent


def canary(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """CANARY: route, from, to, and what differs from the policy under `ramp.canary` (see `_policy`)."""
    plan = plan_of(state)
    route = known("route", str(word.args["route"]), plan.routes)
    free(state, route)
    source = known("target", str(word.args["from"]), plan.targets)
    goal = known("target", str(word.args["to"]), plan.targets)
    # Not from what a failover or a pin makes of it for now: that lies over the canary until it ends.
    from_bp = state.baselines[route].shares_bp
    if goal == source:
        raise RefusedError(f"a canary from {source} to itself moves nothing")
    if not from_bp.get(source, 0):
        raise RefusedError(f"{source} has no share of {route}: there is nothing to move ({tell(from_bp)})")
    to_bp = dict(from_bp)
    to_bp[goal] = to_bp.get(goal, 0) + to_bp.pop(source)
    to_bp = checked_shares(plan, route, to_bp)
    policy = _policy(plan, word.args)
    ramp = _ramp(RampKind.CANARY, route, from_bp, to_bp, policy, word, now_s, source=source, goal=goal)
    way = " → ".join(percent(step.progress_bp) for step in policy.steps)
    text = f"canary on {route}: {source} → {goal} by {way} of its {percent(from_bp[source])}"
    text += foretold(state, ramp, now_s) + covered(state, route, OverlayKind.CANARY)
    return replace(state, ramps={**state.ramps, route: ramp}), text


def shift(
    state: State, word: Word, now_s: float, route: str, shares: dict[str, int], over_s: float
) -> tuple[State, str]:
    """SET_WEIGHTS with `over_s`: to `shares` in ten equal steps within `over_s`."""
    free(state, route)
    from_bp = state.baselines[route].shares_bp
    if from_bp == shares:
        raise RefusedError(f"{route} has these shares already: {tell(shares)}")
    steps = tuple(
        Step(progress_bp=tenth * FULL_BP // 10, hold_s=over_s / 10, samples=0) for tenth in range(1, 11)
    )
    policy = replace(
        plan_of(state).ramp.canary, steps=steps, bake_s=0.0, approvals=(), external=(), require=()
    )
    ramp = _ramp(RampKind.SHIFT, route, from_bp, shares, policy, word, now_s)
    return (
        replace(state, ramps={**state.ramps, route: ramp}),
        f"{route}: step by step within {over_s:.0f} s to {tell(shares)}{covered(state, route, OverlayKind.CANARY)}",
    )


def foretold(state: State, ramp: Ramp, now_s: float) -> str:
    """How long its samples will take at the traffic that its source has now, and whether that is too long."""
    policy = ramp.policy
    if policy.synthetic or not any(step.samples for step in policy.steps):
        return ""
    over_s = plan_of(state).policy.window_s
    counts = totals(state.health.get(ramp.source, Health()).window, now_s - over_s)
    seen = sum(count for fault, count in counts.items() if fault == Fault.OK or fault in FAILING)
    back = f"what is held for {span(policy.max_hold_s)} is rolled back"
    if not seen:
        return f"; {ramp.source} has no traffic now, and {back}"
    rate = seen / over_s
    takes = [(step.samples * FULL_BP / (rate * step.progress_bp), step) for step in policy.steps]
    text = f"; at the {rate:.2g} requests/s of {ramp.source} now its samples take about "
    text += span(sum(took_s for took_s, _ in takes))
    late = [step for took_s, step in takes if took_s > step.hold_s + policy.max_hold_s]
    if late:
        text += f", too long at {percent(late[0].progress_bp)}: {back}"
    return text


def _ramp(
    kind: RampKind,
    route: str,
    from_bp: dict[str, int],
    to_bp: dict[str, int],
    policy: RampPolicy,
    word: Word,
    now_s: float,
    *,
    source: str = "",
    goal: str = "",
) -> Ramp:
    return Ramp(
        id=f"{kind.value}:{route}:{word.id or round(now_s * 1000)}",
        kind=kind,
        route=route,
        source=source,
        goal=goal,
        from_bp=from_bp,
        to_bp=to_bp,
        policy=policy,
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        looked_s=now_s,
    )


def _policy(plan: Plan, args: dict[str, Any]) -> RampPolicy:
    """The policy under `ramp.canary` with what the word says otherwise.

    steps [percent], hold_s, first_hold_s, samples [requests, one per step or one for all], max_hold_s, bake_s,
    require [gate], approve [percent], gates [external gate], budget_usd, synthetic.
    """
    policy = plan.ramp.canary
    steps = _steps(policy, args)
    changes: dict[str, Any] = {"steps": steps}
    for name in ("max_hold_s", "bake_s", "budget_usd"):
        if args.get(name) is not None:
            changes[name] = _number(name, args[name])
    if args.get("synthetic") is not None:
        changes["synthetic"] = bool(args["synthetic"])
    if args.get("require"):
        required = _listed("require", args["require"])
        changes["require"] = tuple(known("gate to require", str(g), REQUIRABLE) for g in required)
    if args.get("approve"):
        asked = tuple(round(_number("approve", p) * 100) for p in _listed("approve", args["approve"]))
        changes["approvals"] = tuple(_step_at(steps, p) for p in asked)
    if args.get("gates") is not None:
        configured: dict[str, ExternalGate] = {gate.name: gate for gate in policy.external}
        named = _listed("gates", args["gates"])
        changes["external"] = tuple(configured[known("external gate", str(g), configured)] for g in named)
    return replace(policy, **changes)


def _listed(name: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise RefusedError(f"{name} must be a list")
    return list(value)


def _steps(policy: RampPolicy, args: dict[str, Any]) -> tuple[Step, ...]:
    steps = policy.steps
    if args.get("steps"):
        asked = [round(_number("steps", p) * 100) for p in _listed("steps", args["steps"])]
        if asked != sorted(set(asked)) or not all(0 < p <= FULL_BP for p in asked):
            raise RefusedError("steps must grow from above 0 to 100: --steps 5,10,25,50,75,100")
        if asked[-1] != FULL_BP:
            asked.append(FULL_BP)
        if asked == [FULL_BP]:
            raise RefusedError("a canary needs a step before 100 %: use weights set to move all at once")
        steps = tuple(_like(policy, p) for p in asked)
    floors = _listed("samples", args.get("samples") or [])
    changed: list[Step] = []
    for place, step in enumerate(steps):
        name = "first_hold_s" if not place and args.get("first_hold_s") is not None else "hold_s"
        hold = args.get(name)
        floor = floors[min(place, len(floors) - 1)] if floors else None
        last = step.progress_bp == FULL_BP
        changed.append(
            replace(
                step,
                hold_s=step.hold_s if hold is None or last else _number(name, hold),
                samples=step.samples if floor is None or last else int(_number("samples", floor)),
            )
        )
    return tuple(changed)


def _like(policy: RampPolicy, progress_bp: int) -> Step:
    """A step as far as the policy's own that is not less far."""
    likely = next((s for s in policy.steps if s.progress_bp >= progress_bp), policy.steps[-1])
    return replace(likely, progress_bp=progress_bp)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise RefusedError(f"{name} must be a number that is not negative")
    return float(value)


def _step_at(steps: tuple[Step, ...], progress_bp: int) -> int:
    known_steps = [step.progress_bp for step in steps]
    if progress_bp not in known_steps:
        told = ", ".join(percent(p) for p in known_steps)
        raise RefusedError(f"there is no step at {percent(progress_bp)}; the steps are: {told}")
    return progress_bp


# --- a ramp that runs


def _running(state: State, word: Word) -> Ramp:
    route = known("route", str(word.args["route"]), plan_of(state).routes)
    ramp = state.ramps.get(route)
    if ramp is None:
        raise RefusedError(f"no ramp has moved {route} yet: pointsman canary start {route} --from … --to …")
    if ramp.phase in ENDED:
        raise RefusedError(
            f"no ramp moves {route}: the {ramp.kind.value} is over ({ramp.phase.value}: {ramp.ended})"
        )
    if ramp.phase is RampPhase.BLOCKED:
        raise RefusedError(
            f"the {ramp.kind.value} on {route} is being taken back ({ramp.aborting}), and waits for its control "
            f"({ramp.hold}): it can only be overlaid (pointsman pin, pointsman failover)"
        )
    return ramp


def _with(state: State, ramp: Ramp) -> State:
    return replace(state, ramps={**state.ramps, ramp.route: ramp})


def pause(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_PAUSE: route. It stays where it is; an abort still acts."""
    ramp = _running(state, word)
    why = f"paused by {word.author}: {word.reason}"
    return _with(state, replace(ramp, paused=why)), f"{ramp.kind.value} on {ramp.route} paused"


def resume(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_RESUME: route."""
    ramp = _running(state, word)
    if not ramp.paused:
        return state, f"{ramp.kind.value} on {ramp.route} was not paused"
    return _with(state, replace(ramp, paused="")), f"{ramp.kind.value} on {ramp.route} goes on"


def set_step(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_SET: route, percent. To that step, up or down; what its gates say is asked anew there."""
    ramp = _running(state, word)
    goal = _step_at(ramp.policy.steps, round(_number("percent", word.args["percent"]) * 100))
    if goal == FULL_BP:
        raise RefusedError(f"the last step is the promotion: pointsman canary promote {ramp.route}")
    if ramp.before is not None:
        raise RefusedError(f"{ramp.route} is promoted already: it can be aborted, not set back")
    place = [step.progress_bp for step in ramp.policy.steps].index(goal)
    return _with(
        state, replace(ramp, wanted=place, wanted_why=_said(word))
    ), f"{ramp.kind.value} on {ramp.route} set to {percent(goal)}"


def promote(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_PROMOTE: route. All the way now, past the gates; a canary is still compared for its bake time."""
    ramp = _running(state, word)
    if ramp.before is not None:
        return _with(
            state, replace(ramp, wanted=len(ramp.policy.steps), wanted_why=_said(word))
        ), f"the bake of {ramp.route} is ended"
    last = len(ramp.policy.steps) - 1
    return _with(
        state, replace(ramp, wanted=last, wanted_why=_said(word))
    ), f"{ramp.kind.value} on {ramp.route} promoted"


def abort(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_ABORT: route. Back at once; for a ramp that is over already nothing is left to do."""
    route = known("route", str(word.args["route"]), plan_of(state).routes)
    ramp = state.ramps.get(route)
    if ramp is None or ramp.phase in ENDED:
        return state, f"no ramp moves {route}: nothing to abort"
    return _with(state, replace(ramp, aborting=_said(word))), f"{ramp.kind.value} on {route} aborted"


def approve(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_APPROVE: route, percent (the step; left out: the next one)."""
    ramp = _running(state, word)
    following = min(ramp.step + 1, len(ramp.policy.steps) - 1)
    asked = word.args.get("percent")
    goal = ramp.policy.steps[following].progress_bp
    if asked is not None:
        goal = _step_at(ramp.policy.steps, round(_number("percent", asked) * 100))
    if goal in ramp.approved:
        return state, f"the step to {percent(goal)} is approved already"
    return _with(
        state, replace(ramp, approved=(*ramp.approved, goal))
    ), f"the step of {ramp.route} to {percent(goal)} is approved"


def overrule(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """RAMP_OVERRULE: route. The holds of the present step do not count any more; its aborts do."""
    ramp = _running(state, word)
    if not ramp.entry:
        raise RefusedError(
            f"{ramp.kind.value} on {ramp.route} has not begun: {ramp.hold or 'it begins with the next look'}"
        )
    held = ramp.hold or "nothing holds it"
    return _with(
        state, replace(ramp, overruled=ramp.entry)
    ), f"{ramp.kind.value} on {ramp.route}: the holds of this step are overruled ({held})"


def _said(word: Word) -> str:
    return f"{word.author}: {word.reason}"


# --- freezes


FREEZE_S: Final = 7200.0


def freeze(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """FREEZE: for_s. Nothing moves that is not an abort or an emergency."""
    plan_of(state)
    for_s = word.args.get("for_s")
    until_s = until(now_s, FREEZE_S if for_s is None else for_s)
    after = replace(state, freeze=Freeze(owner=word.author, reason=word.reason, until_s=until_s))
    return after, f"all movement is frozen for {until_s - now_s:.0f} s; aborts and emergencies still act"


def unfreeze(state: State, _word: Word, _now_s: float) -> tuple[State, str]:
    """UNFREEZE."""
    plan_of(state)
    if state.freeze is None:
        return state, "nothing was frozen"
    return replace(state, freeze=None), "movement is free again"


def fits(plan: Plan, ramp: Ramp) -> bool:
    """Does everything that the ramp moves between exist in `plan`?"""
    try:
        checked_shares(plan, ramp.route, ramp.from_bp)
        checked_shares(plan, ramp.route, ramp.to_bp)
    except (RefusedError, msgspec.ValidationError):
        return False
    return True
