"""Failover and failback by an operator's word: away from a target that is out, and back again.

A failover is an overlay without the target, at once or by a ramp (core/ramp.py), which only a failback ends. A
failback is a ramp from the failover's shares to the baseline's: while it runs, and if it is aborted, the failover has
no end of its own any more. What begins by itself is in core/automatic.py.
"""

from typing import Final

from msgspec.structs import replace

from pointsman.core import breaker, overlays
from pointsman.core.checks import RefusedError, checked_shares, covered, desired, known, plan_of, tell, until
from pointsman.core.evidence import Word
from pointsman.core.model import Health, Overlay, OverlayKind, Plan, State
from pointsman.core.ramp import told
from pointsman.core.ramp_model import ENDED, Ramp, RampKind, RampPhase
from pointsman.core.table import percent

HOUR_S: Final = 3600.0
_KINDS: Final = frozenset({OverlayKind.FAILOVER, OverlayKind.EMERGENCY})


def failover(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """FAILOVER: route (or all that use it), from, to (or chosen), mode ("immediate", "gradual"), emergency, for_s."""
    plan = plan_of(state)
    source = known("target", str(word.args["from"]), plan.targets)
    goal = str(word.args.get("to") or "")
    only = str(word.args.get("route") or "")
    routes = [known("route", only, plan.routes)] if only else sorted(plan.routes)
    if goal == source:
        raise RefusedError(f"a failover from {source} to itself moves nothing: name another with --to")
    gradual = _gradually(word)
    wanted = beneath if gradual else desired
    using = [route for route in routes if wanted(state, route).get(source, 0)]
    if not using:
        raise RefusedError(f"{source} has no share of {only or 'any route'}: there is nothing to move")
    kind = OverlayKind.EMERGENCY if word.args.get("emergency") else OverlayKind.FAILOVER
    not_after_s = until(now_s, word.args.get("for_s"))
    told: list[str] = []
    for route in using:
        target = goal or choose(state, plan, route, source)
        before = wanted(state, route)
        shares = {name: share for name, share in before.items() if name != source}
        shares[target] = shares.get(target, 0) + before[source]
        shares = checked_shares(plan, route, shares)
        if gradual:
            state = _gradual(
                state,
                plan,
                word,
                now_s,
                route=route,
                source=source,
                goal=target,
                from_bp=before,
                to_bp=shares,
            )
            told.append(f"{route}: {source} → {target} step by step from {tell(before)} to {tell(shares)}")
            continue
        overtaken = ""
        if kind is OverlayKind.FAILOVER:
            state, overtaken = _overtaken(state, route, f"overtaken by a failover of {word.author}", now_s)
        overlay = _overlay(state, kind, route, shares, word, now_s, source=source, not_after_s=not_after_s)
        state = replace(state, overlays=overlays.put(state.overlays, overlay))
        told.append(
            f"{route}: {source} → {target}, now {tell(shares)}{overtaken}{covered(state, route, kind)}"
        )
    return state, f"{kind.value}: " + "; ".join(told)


def _gradually(word: Word) -> bool:
    mode = str(word.args.get("mode") or "immediate")
    if mode not in {"immediate", "gradual"}:
        raise RefusedError(f"there is no mode {mode!r}; there are: gradual, immediate")
    if mode == "gradual" and word.args.get("emergency"):
        raise RefusedError("an emergency does not wait: leave out --emergency, or --mode gradual")
    if mode == "gradual" and word.args.get("for_s") is not None:
        raise RefusedError("a gradual failover ends by failback, not by a time: leave out --for")
    return mode == "gradual"


def beneath(state: State, route: str) -> dict[str, int]:
    """What is wanted of a route by its baseline and a failover alone: what a ramp over them begins with."""
    failovers = [o for o in state.overlays if o.kind is OverlayKind.FAILOVER]
    return overlays.desired(route, state.baselines[route], failovers).shares_bp


def _overtaken(state: State, route: str, why: str, now_s: float) -> tuple[State, str]:
    """The state with an end to a ramp whose overlay is about to be another's, and what to add to the answer."""
    ramp = state.ramps.get(route)
    if ramp is None or ramp.phase in ENDED or ramp.kind not in {RampKind.FAILOVER, RampKind.FAILBACK}:
        return state, ""
    over = replace(ramp, phase=RampPhase.ABORTED, ended=why, ended_s=now_s, hold="", paused="")
    return replace(state, ramps={**state.ramps, route: over}), f"; the {ramp.kind.value} under way is over"


def _overlay(
    state: State,
    kind: OverlayKind,
    route: str,
    shares: dict[str, int],
    word: Word,
    now_s: float,
    *,
    source: str,
    not_after_s: float,
) -> Overlay:
    before = next((o for o in state.overlays if (o.route, o.kind) == (route, kind)), None)
    return Overlay(
        id=f"{kind.value}:{route}:{word.id or round(now_s * 1000)}",
        kind=kind,
        route=route,
        shares_bp=shares,
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        not_after_s=not_after_s,
        on_expiry=overlays.ON_EXPIRY[kind],
        away=tuple(dict.fromkeys((*before.away, source))) if before else (source,),
        returns=before.returns if before else (),
    )


def _gradual(
    state: State,
    plan: Plan,
    word: Word,
    now_s: float,
    *,
    route: str,
    source: str,
    goal: str,
    from_bp: dict[str, int],
    to_bp: dict[str, int],
) -> State:
    free(state, route)
    ramp = Ramp(
        id=f"failover:{route}:{word.id or round(now_s * 1000)}",
        kind=RampKind.FAILOVER,
        route=route,
        source=source,
        goal=goal,
        from_bp=from_bp,
        to_bp=to_bp,
        policy=plan.ramp.failover,
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        looked_s=now_s,
    )
    return replace(state, ramps={**state.ramps, route: ramp})


def free(state: State, route: str) -> None:
    """Refuse where a ramp is moving the route already."""
    ramp = state.ramps.get(route)
    if ramp is not None and ramp.phase not in ENDED:
        raise RefusedError(
            f"{told(ramp)} is under way: wait for its end, or end it (pointsman canary abort {route})"
        )


def choose(state: State, plan: Plan, route: str, source: str) -> str:
    """The first healthy target of the chain; one that does not share the source's fate before one that does."""
    fate = _fate(plan, source)
    fit: list[str] = []
    for target in plan.routes[route].chain:
        health = state.health.get(target, Health())
        out = target in state.drains or breaker.factor(health, plan.policy, health.since_s) < 1
        if target != source and not out:
            fit.append(target)
    apart = [target for target in fit if not fate or _fate(plan, target) != fate]
    if not fit:
        raise RefusedError(f"no other target of {route} is healthy: name one with --to if it must be")
    return (apart or fit)[0]


def _fate(plan: Plan, target: str) -> str:
    return plan.providers[plan.targets[target].provider].shared_fate


def failback(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """FAILBACK: route, target. A ramp begins; `now`: it ends at once by slow start; `auto`: it begins by itself."""
    plan = plan_of(state)
    route, target = str(word.args.get("route") or ""), str(word.args.get("target") or "")
    if route:
        known("route", route, plan.routes)
    ending = [
        overlay
        for overlay in state.overlays
        if overlay.kind in _KINDS
        and (not route or overlay.route == route)
        and (not target or state.baselines[overlay.route].shares_bp.get(target, 0))
    ]
    if not ending:
        raise RefusedError(f"there is no failover on {route or 'any route'} to come back from")
    if word.args.get("auto"):
        others = tuple(replace(o, auto_back=True) if o in ending else o for o in state.overlays)
        told = ", ".join(o.route for o in ending)
        return replace(state, overlays=others), f"failback of {told} will begin by itself once it is earned"
    routes = list(dict.fromkeys(overlay.route for overlay in ending))
    if word.args.get("now"):
        for name in routes:
            state, _ = _overtaken(state, name, f"overtaken by a failback of {word.author}", now_s)
        after = overlays.without(state, ending, now_s)
        told = "; ".join(f"{name}: {tell(desired(after, name))}" for name in routes)
        return after, f"failback by slow start to {told}"
    for name in routes:
        strongest = min(
            (o for o in ending if o.route == name), key=lambda o: overlays.PRECEDENCE.index(o.kind)
        )
        state = returning(state, strongest, word.author, word.reason, now_s, place=word.id)
    told = "; ".join(f"{name}: {_way(plan)} to {tell(state.baselines[name].shares_bp)}" for name in routes)
    return state, f"failback step by step: {told}"


def _way(plan: Plan) -> str:
    return " → ".join(percent(step.progress_bp) for step in plan.ramp.failback.steps)


def returning(
    state: State, overlay: Overlay, owner: str, reason: str, now_s: float, *, place: str = ""
) -> State:
    """The state with a failback ramp from the overlay's shares to the baseline's.

    It moves a failover that takes the place of every failover and emergency of the route, and has no deadline.
    """
    plan, route = plan_of(state), overlay.route
    free(state, route)
    rest = tuple(o for o in state.overlays if o.route != route or o.kind not in _KINDS)
    to_bp = state.baselines[route].shares_bp
    back = tuple(t for t, share in to_bp.items() if share > overlay.shares_bp.get(t, 0))
    ramp = Ramp(
        id=f"failback:{route}:{place or round(now_s * 1000)}",
        kind=RampKind.FAILBACK,
        route=route,
        source="",
        goal=", ".join(back),
        from_bp=overlay.shares_bp,
        to_bp=to_bp,
        policy=plan.ramp.failback,
        owner=owner,
        reason=reason,
        created_s=now_s,
        looked_s=now_s,
    )
    if not back:
        return replace(state, overlays=rest)  # it differs from the baseline in nothing: there is no way to go
    returns = (*(t for t in overlay.returns if now_s - t < HOUR_S), now_s)
    kept = replace(overlay, kind=OverlayKind.FAILOVER, not_after_s=0.0, returns=returns)
    return replace(state, overlays=(*rest, kept), ramps={**state.ramps, route: ramp})
