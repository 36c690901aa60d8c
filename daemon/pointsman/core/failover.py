"""Failover and failback: away from a target that is out, and back again when it has earned it.

A trip that recovers within `failover_after_s` returns by slow start. A longer one, the third within an hour, or an
operator's is a failover: an overlay without the target, which only a failback ends. By itself a failback begins when

    - the overlay asks for it (automatic failovers do, others with `failback --auto`),
    - every target that was left is healthy, and has been left for `failback_min_stay_s` at least,
    - of its probes within `failback_window_s`, `failback_threshold` succeeded, of `failback_min_samples` at least,
    - fewer than `failback_per_hour` failbacks of the route began within the last hour.

It is a ramp (core/ramp.py) from the failover's shares to the baseline's.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from pointsman.core import breaker, overlays
from pointsman.core.checks import RefusedError, checked_shares, covered, desired, known, plan_of, tell, until
from pointsman.core.evidence import Word
from pointsman.core.health import totals
from pointsman.core.model import Health, Note, Overlay, OverlayKind, Phase, Plan, State
from pointsman.core.ramp_model import ENDED, Ramp, RampKind
from pointsman.core.table import percent

OWNER: Final = "pointsman"
HOUR_S: Final = 3600.0
REPEATED: Final = 3
_KINDS: Final = frozenset({OverlayKind.FAILOVER, OverlayKind.EMERGENCY})


# --- operators' words


def failover(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """FAILOVER: route (or all that use it), from, to (or chosen), mode ("immediate", "gradual"), emergency, for_s."""
    plan = plan_of(state)
    source = known("target", str(word.args["from"]), plan.targets)
    goal = str(word.args.get("to") or "")
    only = str(word.args.get("route") or "")
    routes = [known("route", only, plan.routes)] if only else sorted(plan.routes)
    if goal == source:
        raise RefusedError(f"a failover from {source} to itself moves nothing: name another with --to")
    using = [route for route in routes if desired(state, route).get(source, 0)]
    if not using:
        raise RefusedError(f"{source} has no share of {only or 'any route'}: there is nothing to move")
    gradual = word.args.get("mode") == "gradual"
    kind = OverlayKind.EMERGENCY if word.args.get("emergency") else OverlayKind.FAILOVER
    not_after_s = until(now_s, word.args.get("for_s"))
    told: list[str] = []
    for route in using:
        target = goal or choose(state, plan, route, source)
        shares = dict(desired(state, route))
        before = dict(shares)
        shares[target] = shares.get(target, 0) + shares.pop(source)
        shares = checked_shares(plan, route, shares)
        if gradual:
            state = _gradual(state, plan, word, now_s, route=route, source=source, goal=target, to_bp=shares)
            told.append(f"{route}: {source} → {target} step by step from {tell(before)} to {tell(shares)}")
            continue
        overlay = _overlay(kind, route, shares, word, now_s, not_after_s=not_after_s, away=(source,))
        state = replace(state, overlays=overlays.put(state.overlays, overlay))
        told.append(f"{route}: {source} → {target}, now {tell(shares)}{covered(state, route, kind)}")
    return state, f"{kind.value}: " + "; ".join(told)


def _overlay(
    kind: OverlayKind,
    route: str,
    shares: dict[str, int],
    word: Word,
    now_s: float,
    *,
    not_after_s: float,
    away: tuple[str, ...],
) -> Overlay:
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
        away=away,
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
    to_bp: dict[str, int],
) -> State:
    free(state, route)
    ramp = Ramp(
        id=f"failover:{route}:{word.id or round(now_s * 1000)}",
        kind=RampKind.FAILOVER,
        route=route,
        source=source,
        goal=goal,
        from_bp=desired(state, route),
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
            f"a {ramp.kind.value} moves {route} already ({ramp.source} → {ramp.goal}): "
            f"wait for its end, or end it (pointsman canary abort {route})"
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
    if word.args.get("now"):
        ramps = {
            r: one
            for r, one in state.ramps.items()
            if one.kind is not RampKind.FAILBACK or one.phase in ENDED
        }
        after = overlays.without(replace(state, ramps=ramps), ending, now_s)
        told = "; ".join(f"{o.route}: {tell(desired(after, o.route))}" for o in ending)
        return after, f"failback by slow start to {told}"
    for overlay in ending:
        state = returning(
            state, plan, overlay, owner=word.author, reason=word.reason, now_s=now_s, place=word.id
        )
    told = "; ".join(f"{o.route}: {_way(plan)} to {tell(state.ramps[o.route].to_bp)}" for o in ending)
    return state, f"failback step by step: {told}"


def _way(plan: Plan) -> str:
    return " → ".join(percent(step.progress_bp) for step in plan.ramp.failback.steps)


def returning(
    state: State, plan: Plan, overlay: Overlay, *, owner: str, reason: str, now_s: float, place: str = ""
) -> State:
    """The state with a failback ramp from the overlay's shares to those that would be wanted without it."""
    if overlay.kind is OverlayKind.EMERGENCY:
        overlay = replace(overlay, kind=OverlayKind.FAILOVER)
    free(state, overlay.route)
    rest = tuple(
        o for o in state.overlays if (o.route, o.kind) != (overlay.route, overlay.kind) and o.id != overlay.id
    )
    to_bp = overlays.desired(overlay.route, state.baselines[overlay.route], rest).shares_bp
    back = tuple(t for t, share in to_bp.items() if share > overlay.shares_bp.get(t, 0))
    ramp = Ramp(
        id=f"failback:{overlay.route}:{place or round(now_s * 1000)}",
        kind=RampKind.FAILBACK,
        route=overlay.route,
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
    kept = replace(overlay, returns=(*(t for t in overlay.returns if now_s - t < HOUR_S), now_s))
    return replace(state, overlays=(*rest, kept), ramps={**state.ramps, overlay.route: ramp})


# --- by itself


def automatic(
    state: State, plan: Plan, shares: Mapping[str, Mapping[str, int]], now_s: float
) -> tuple[State, list[Note]]:
    """Failovers for what has been out for long, and failbacks that are earned. `shares`: what routes now, by health."""
    if state.freeze is not None:
        return state, []
    notes: list[Note] = []
    if plan.policy.failover_after_s:
        for target in plan.targets:
            why = _lost(state.health.get(target), plan, now_s)
            if why:
                state = _left(state, plan, target, why, shares, now_s, notes)
    for overlay in state.overlays:
        if overlay.kind is OverlayKind.FAILOVER and overlay.auto_back:
            state = _earned(state, plan, overlay, now_s, notes)
    return state, notes


def _lost(health: Health | None, plan: Plan, now_s: float) -> str:
    """Why a target that is out does not come back by slow start any more, or ""."""
    if health is None or health.phase not in {Phase.COOLDOWN, Phase.HALF_OPEN} or not health.out_since_s:
        return ""
    out_s = now_s - health.out_since_s
    if out_s >= plan.policy.failover_after_s:
        return f"out for {out_s:.0f} s: {health.reason}"
    often = [t for t in health.trips if now_s - t < HOUR_S]
    return f"{len(often)} trips within an hour: {health.reason}" if len(often) >= REPEATED else ""


def _left(
    state: State,
    plan: Plan,
    target: str,
    why: str,
    shares: Mapping[str, Mapping[str, int]],
    now_s: float,
    notes: list[Note],
) -> State:
    """A failover of every route that still wants a share for `target`, to what serves it now."""
    for route in plan.routes:
        ramp = state.ramps.get(route)
        moving = ramp is not None and ramp.phase not in ENDED and ramp.kind is not RampKind.CANARY
        over = overlays.winner(route, state.overlays)
        stronger = over is not None and over.kind in {OverlayKind.EMERGENCY, OverlayKind.MANUAL}
        now = dict(shares.get(route, {}))
        if moving or stronger or not _wants(state, route, target) or not now or now.get(target, 0):
            continue
        before = next((o for o in state.overlays if (o.route, o.kind) == (route, OverlayKind.FAILOVER)), None)
        overlay = Overlay(
            id=f"failover:{route}:{round(now_s * 1000)}",
            kind=OverlayKind.FAILOVER,
            route=route,
            shares_bp=now,
            owner=before.owner if before else OWNER,
            reason=f"{target} {why}",
            created_s=now_s,
            not_after_s=before.not_after_s if before else 0.0,
            on_expiry=overlays.ON_EXPIRY[OverlayKind.FAILOVER],
            away=(*(before.away if before else ()), target),
            auto_back=before.auto_back if before else plan.policy.failback_auto,
            returns=before.returns if before else (),
        )
        state = replace(state, overlays=overlays.put(state.overlays, overlay))
        text = f"failover on {route}: {target} {why}; it returns by failback only, now {tell(now)}"
        notes.append(Note(at_s=now_s, kind="failover.begun", subject=route, text=text))
    return state


def _wants(state: State, route: str, target: str) -> bool:
    """Do the shares without a canary's still name the target?"""
    rest = [o for o in state.overlays if o.kind is not OverlayKind.CANARY]
    return bool(overlays.desired(route, state.baselines[route], rest).shares_bp.get(target, 0))


def _earned(state: State, plan: Plan, overlay: Overlay, now_s: float, notes: list[Note]) -> State:
    ramp = state.ramps.get(overlay.route)
    if ramp is not None and ramp.phase not in ENDED:
        return state
    if waits(state, plan, overlay, now_s):
        return state
    text = f"failback on {overlay.route} begins: {', '.join(overlay.away)} held {_held(state, plan, overlay, now_s)}"
    notes.append(Note(at_s=now_s, kind="failback.begun", subject=overlay.route, text=text))
    reason = f"{', '.join(overlay.away)} held {100 * plan.policy.failback_threshold:g} %"
    return returning(state, plan, overlay, owner=OWNER, reason=reason, now_s=now_s)


def waits(state: State, plan: Plan, overlay: Overlay, now_s: float) -> str:
    """Why the failback of this overlay does not begin yet, or ""."""
    policy = plan.policy
    stay_s = policy.failback_min_stay_s - (now_s - overlay.created_s)
    if stay_s > 0:
        return f"it stays away for another {stay_s:.0f} s at least"
    recent = [t for t in overlay.returns if now_s - t < HOUR_S]
    if len(recent) >= policy.failback_per_hour:
        return f"{len(recent)} failbacks began within the last hour"
    for target in overlay.away:
        if target not in plan.targets:
            continue
        health = state.health.get(target, Health())
        if health.phase is not Phase.HEALTHY:
            return f"{target} is {health.phase.value}"
        ok, failed = probed(health, plan, now_s)
        if ok + failed < policy.failback_min_samples:
            return f"{target}: {ok + failed} of {policy.failback_min_samples} probes seen"
        if ok < policy.failback_threshold * (ok + failed):
            return f"{target}: {100 * ok / (ok + failed):.1f} % of its probes succeeded"
    return ""


def probed(health: Health, plan: Plan, now_s: float) -> tuple[int, int]:
    """(good, failed) probes within the failback's window."""
    seen = totals(health.probes, now_s - plan.policy.failback_window_s)
    return seen.get("ok", 0), seen.get("failed", 0)


def _held(state: State, plan: Plan, overlay: Overlay, now_s: float) -> str:
    counts = [probed(state.health[t], plan, now_s) for t in overlay.away if t in state.health]
    good, all_ = sum(ok for ok, _ in counts), sum(ok + failed for ok, failed in counts)
    return f"{good} of {all_} probes good within {plan.policy.failback_window_s / 60:.0f} min"
