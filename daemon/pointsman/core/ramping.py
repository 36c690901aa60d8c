"""All ramps of a decision: what was seen is added, each takes its step, and its shares become overlay or baseline.

kind       while it runs                              when promoted                          when aborted
canary     a canary overlay, dropped by proxies       the baseline; baking, it is still      no overlay; the old
           themselves when nobody renews it           compared with a small control          baseline, if promoted
shift      the same                                   the baseline                           no overlay
failover   a failover overlay, kept by proxies        that overlay, until a failback         no overlay
failback   the failover's overlay, share by share     no overlay                             the failover's shares
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from pointsman.core import arms, overlays, ramp
from pointsman.core.evidence import Evidence
from pointsman.core.gates.sight import Facts
from pointsman.core.model import Baseline, Note, OnExpiry, Overlay, OverlayKind, State, Vantage
from pointsman.core.ramp_model import ENDED, Arm, Ramp, RampKind, RampPhase
from pointsman.core.table import FULL_BP, Table, Version

NEVER: Final = Version(0, 0)
OVERLAY: Final = {
    RampKind.CANARY: OverlayKind.CANARY,
    RampKind.SHIFT: OverlayKind.CANARY,
    RampKind.FAILOVER: OverlayKind.FAILOVER,
    RampKind.FAILBACK: OverlayKind.FAILOVER,
}


def running(state: State) -> list[Ramp]:
    """The ramps that are not over."""
    return [one for one in state.ramps.values() if one.phase not in ENDED]


def advance(
    state: State,
    known: Mapping[str, Vantage],
    evidence: Evidence,
    live: list[str],
    out: Mapping[str, str],
    published: Table | None,
    now_s: float,
) -> tuple[State, list[Note]]:
    """Every ramp one look further.

    `known`: the vantages of the last decision; `live`: the proxies that were heard of lately; `out`: target → why it
    is not in service.
    """
    notes: list[Note] = []
    moving = running(state)
    if not moving:
        return state, notes
    seen = fresh(known, state.vantages)
    for before in moving:
        counted = _with_answers(arms.with_news(before, seen), evidence)
        counted = _spread(counted, published)
        facts = _facts(counted, state, evidence, live, out, published, now_s)
        after, told = ramp.step(counted, facts)
        notes += told
        state = settled(state, before, after, now_s)
    return state, notes


def fresh(known: Mapping[str, Vantage], now: Mapping[str, Vantage]) -> dict[str, dict[str, Arm]]:
    """What proxies saw of ramps since they were last counted: stamp → target → its arm."""
    told: dict[str, dict[str, list[arms.Told]]] = {}
    for name, vantage in now.items():
        before = known.get(name)
        if vantage is before or vantage.troubled:
            continue
        counted = before.arms if before is not None and before.boot == vantage.boot else {}
        for stamp, targets in vantage.arms.items():
            of_stamp, before_it = told.setdefault(stamp, {}), counted.get(stamp, {})
            for target, report in targets.items():
                of_stamp.setdefault(target, []).append((report, before_it.get(target)))
    return {stamp: {t: arms.news(of_target) for t, of_target in own.items()} for stamp, own in told.items()}


def _with_answers(one: Ramp, evidence: Evidence) -> Ramp:
    answers = {answer.gate: answer for answer in evidence.gates if answer.ramp == one.id}
    return replace(one, answers={**one.answers, **answers}) if answers else one


def _spread(one: Ramp, published: Table | None) -> Ramp:
    """Take note of the first table that carries the present share."""
    entry = published.routes.get(one.route) if published else None
    if (
        published is None
        or entry is None
        or one.spread is not None
        or entry.ramp != one.stamp
        or not one.stamp
    ):
        return one
    return replace(one, spread=published.version)


def _facts(
    one: Ramp,
    state: State,
    evidence: Evidence,
    live: list[str],
    out: Mapping[str, str],
    published: Table | None,
    now_s: float,
) -> Facts:
    entry = published.routes.get(one.route) if published else None
    spread = one.spread
    lagging = [n for n in live if spread is None or (state.vantages[n].serving or NEVER) < spread]
    freeze = state.freeze
    members = {*one.from_bp, *one.to_bp}
    return Facts(
        now_s=now_s,
        published=spread is not None and entry is not None and entry.ramp == one.stamp,
        lagging=tuple(lagging),
        proxies=len(live),
        out={target: why for target, why in out.items() if target in members},
        answered_s={t: state.health[t].last_success_s for t in members if t in state.health},
        overdue=_overdue(members, evidence, live),
        over=_over(one, state),
        frozen=f"{freeze.owner} froze all movement: {freeze.reason}" if freeze else "",
    )


def _overdue(members: Iterable[str], evidence: Evidence, live: list[str]) -> dict[str, int]:
    heard = [report.targets for report in evidence.reports if report.proxy in live]
    return {t: sum(targets[t].outstanding for targets in heard if t in targets) for t in members}


def _over(one: Ramp, state: State) -> str:
    """The stronger overlay that lies over the ramp's own, in words."""
    over = overlays.winner(one.route, state.overlays)
    rank = overlays.PRECEDENCE.index(OVERLAY[one.kind])
    if over is None or overlays.PRECEDENCE.index(over.kind) >= rank:
        return ""
    return f"the {over.kind.value} of {over.owner} lies over it ({over.reason})"


# --- what becomes of its shares


def shares_at(one: Ramp, progress_bp: int) -> dict[str, int]:
    """The shares so far on the way: what the losing targets gave goes to the gaining ones in proportion.

    The further, the less has each loser and the more each gainer: no rounding moves a caller back.
    """
    gains = {t: one.to_bp[t] - one.from_bp.get(t, 0) for t in one.gainers}
    shares = dict(one.from_bp)
    given = 0
    for target in one.losers:
        part = round((one.from_bp[target] - one.to_bp.get(target, 0)) * progress_bp / FULL_BP)
        shares[target] -= part
        given += part
    for target, part in _apportioned(given, gains).items():
        shares[target] = shares.get(target, 0) + part
    return {target: share for target, share in shares.items() if share}


def _apportioned(given: int, gains: Mapping[str, int]) -> dict[str, int]:
    """`given` in whole parts in proportion to `gains`, so that more to give takes from nobody (Webster's method)."""
    total = sum(gains.values())
    parts = {target: max(0, given * gain // total - len(gains)) for target, gain in gains.items()}
    for _ in range(given - sum(parts.values())):
        following = max(gains, key=lambda target: gains[target] / (2 * parts[target] + 1))
        parts[following] += 1
    return parts


def settled(state: State, before: Ramp, after: Ramp, now_s: float) -> State:
    """The state with the ramp as it is now, and its shares where they belong."""
    state = replace(state, ramps={**state.ramps, after.route: after})
    if after.before is not None and before.before is None and after.kind is not RampKind.FAILBACK:
        state = _promoted(state, after, now_s)
    if after.phase in ENDED:
        return _after_end(state, after, now_s)
    if not after.progress_bp:
        return state
    return _overlaid(state, after, now_s)


def _promoted(state: State, one: Ramp, now_s: float) -> State:
    if one.kind is RampKind.FAILOVER:
        return state
    return _rebased(state, one, one.to_bp, f"{one.kind.value} promoted: {one.reason}", now_s)


def _rebased(state: State, one: Ramp, shares_bp: dict[str, int], reason: str, now_s: float) -> State:
    old = state.baselines[one.route]
    baseline: Baseline = replace(
        old, shares_bp=shares_bp, author=one.owner, reason=reason, at_s=now_s, revision=old.revision + 1
    )
    return replace(state, baselines={**state.baselines, one.route: baseline})


def _after_end(state: State, one: Ramp, now_s: float) -> State:
    kind = OVERLAY[one.kind]
    without = tuple(o for o in state.overlays if (o.route, o.kind) != (one.route, kind))
    aborted = one.phase is RampPhase.ABORTED
    if one.kind is RampKind.FAILOVER and not aborted:
        return _left(_overlaid(state, one, now_s, shares_bp=one.to_bp), one)
    # One that began from another failover goes back to that.
    over_another = one.kind is RampKind.FAILOVER and one.from_bp != state.baselines[one.route].shares_bp
    if aborted and (one.kind is RampKind.FAILBACK or over_another):
        return _overlaid(state, one, now_s, shares_bp=one.from_bp)
    if aborted and one.before is not None:
        state = _rebased(state, one, one.before, f"rolled back: {one.ended}", now_s)
    return replace(state, overlays=without)


def _left(state: State, one: Ramp) -> State:
    """The failover is where it was to go: its overlay names what it left, so that a failback can be earned."""
    done = tuple(
        replace(o, away=tuple(dict.fromkeys((*o.away, one.source))))
        if (o.route, o.kind) == (one.route, OverlayKind.FAILOVER)
        else o
        for o in state.overlays
    )
    return replace(state, overlays=done)


def _overlaid(state: State, one: Ramp, now_s: float, shares_bp: dict[str, int] | None = None) -> State:
    """The ramp's shares as an overlay; its deadline is renewed when a fifth of it is gone."""
    kind = OVERLAY[one.kind]
    old = next((o for o in state.overlays if (o.route, o.kind) == (one.route, kind)), None)
    shares = shares_at(one, one.progress_bp) if shares_bp is None else shares_bp
    drops = overlays.ON_EXPIRY[kind] is OnExpiry.DROP
    until_s = now_s + one.policy.unwatched_s if drops else (old.not_after_s if old else 0.0)
    if old is not None and old.shares_bp == shares:
        left_s = old.not_after_s - now_s
        if not drops or ramp.WATCHED * one.policy.unwatched_s < left_s <= one.policy.unwatched_s:
            return state
        return replace(state, overlays=overlays.put(state.overlays, replace(old, not_after_s=until_s)))
    if old is None:
        old = Overlay(
            id=one.id,
            kind=kind,
            route=one.route,
            shares_bp=shares,
            owner=one.owner,
            reason=one.reason,
            created_s=now_s,
            not_after_s=until_s,
            on_expiry=overlays.ON_EXPIRY[kind],
        )
    new = replace(old, shares_bp=shares, not_after_s=until_s)
    return replace(state, overlays=overlays.put(state.overlays, new))


def stamp_of(route: str, state: State) -> str:
    """The stamp that the route's first attempts are counted under: of the ramp whose shares are in force, or of the
    rollout that is watched after its ramp.
    """
    one = state.ramps.get(route)
    if one is None or one.phase in ENDED:
        return next((r.stamp for r in state.rollouts.values() if r.route == route and r.stamp), "")
    if _over(one, state):
        return ""
    return one.stamp
