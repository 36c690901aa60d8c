"""Failovers and failbacks that begin by themselves.

A trip that recovers within `failover_after_s` returns by slow start. A longer one, or the third within an hour, is a
failover: an overlay without the target, which only a failback ends. By itself a failback begins when

    - the overlay asks for it (automatic failovers do, others with `failback --auto`), and no stronger one lies over it,
    - every target that was left is healthy, and has been left for `failback_min_stay_s` at least,
    - of its probes within `failback_window_s`, `failback_threshold` succeeded, of `failback_min_samples` at least,
    - fewer than `failback_per_hour` failbacks of the route began within the last hour.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from pointsman.core import overlays
from pointsman.core.checks import tell
from pointsman.core.failover import HOUR_S, beneath, returning
from pointsman.core.health import totals
from pointsman.core.model import Health, Note, Overlay, OverlayKind, Phase, Plan, State
from pointsman.core.ramp_model import ENDED, RampKind
from pointsman.core.weights import Standing, weigh

OWNER: Final = "pointsman"
REPEATED: Final = 3


def automatic(
    state: State, plan: Plan, shares: Mapping[str, Mapping[str, int]], out: Mapping[str, str], now_s: float
) -> tuple[State, list[Note]]:
    """Failovers for what has been out for long, and failbacks that are earned.

    `shares`: what routes now, by health; `out`: target → why it is not in service.
    """
    if state.freeze is not None:
        return state, []
    notes: list[Note] = []
    if plan.policy.failover_after_s:
        for target in plan.targets:
            why = _lost(state.health.get(target), plan, now_s)
            if why:
                state = _left(state, plan, target, why, shares, out, now_s, notes)
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
    out: Mapping[str, str],
    now_s: float,
    notes: list[Note],
) -> State:
    """A failover of every route that still wants a share for `target`, to those that have taken it over."""
    for route in plan.routes:
        ramp = state.ramps.get(route)
        moving = ramp is not None and ramp.phase not in ENDED and ramp.kind is not RampKind.CANARY
        over = overlays.winner(route, state.overlays)
        stronger = over is not None and over.kind in {OverlayKind.EMERGENCY, OverlayKind.MANUAL}
        if (
            moving
            or stronger
            or not beneath(state, route).get(target, 0)
            or shares.get(route, {}).get(target, 0)
        ):
            continue
        before = next((o for o in state.overlays if (o.route, o.kind) == (route, OverlayKind.FAILOVER)), None)
        away = (*(before.away if before else ()), target)
        now = without(state, plan, route, away, out)
        if not now:
            continue
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
            away=away,
            auto_back=before.auto_back if before else plan.policy.failback_auto,
            returns=before.returns if before else (),
        )
        state = replace(state, overlays=overlays.put(state.overlays, overlay))
        text = f"failover on {route}: {target} {why}; it returns by failback only, now {tell(now)}"
        notes.append(Note(at_s=now_s, kind="failover.begun", subject=route, text=text))
    return state


def without(
    state: State, plan: Plan, route: str, away: Collection[str], out: Mapping[str, str]
) -> dict[str, int]:
    """A route's shares without the targets that are left, or nothing if none remains.

    As health would have them if all others were well: who is out or in a slow start only now is not left for that.
    """
    wanted = beneath(state, route)
    standings = {
        target: Standing(eligible=target not in away and (target not in out or bool(wanted.get(target, 0))))
        for target in (*plan.routes[route].chain, *wanted)
    }
    return weigh(wanted, plan.routes[route].chain, standings).shares_bp


def _earned(state: State, plan: Plan, overlay: Overlay, now_s: float, notes: list[Note]) -> State:
    ramp = state.ramps.get(overlay.route)
    if ramp is not None and ramp.phase not in ENDED:
        return state
    if waits(state, plan, overlay, now_s):
        return state
    text = f"failback on {overlay.route} begins: {', '.join(overlay.away)} held {_held(state, plan, overlay, now_s)}"
    notes.append(Note(at_s=now_s, kind="failback.begun", subject=overlay.route, text=text))
    reason = f"{', '.join(overlay.away)} held {100 * plan.policy.failback_threshold:g} %"
    return returning(state, overlay, OWNER, reason, now_s)


def waits(state: State, plan: Plan, overlay: Overlay, now_s: float) -> str:
    """Why the failback of this overlay does not begin yet, or ""."""
    policy = plan.policy
    over = overlays.winner(overlay.route, state.overlays)
    if over is not None and over.kind is not OverlayKind.FAILOVER:
        return f"the {over.kind.value} of {over.owner} lies over it"
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
