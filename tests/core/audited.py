"""A world in which every decision about ramps is held against a model of its own, made from the evidence alone."""

import copy
from collections.abc import Mapping
from typing import Any

from pointsman.core.breaker import SERVING
from pointsman.core.evidence import Evidence, Report, Verb, Word
from pointsman.core.model import Decision, Overlay, OverlayKind, Plan, State
from pointsman.core.overlays import desired, winner
from pointsman.core.ramp_model import ENDED, Ramp, RampKind, RampPhase
from pointsman.core.table import FULL_BP, RouteEntry, Table, Version
from pointsman.proxy.settling import key_hash, settle
from world import World

CALLERS = [key_hash(f"caller {number}") for number in range(60)]
BEGINS = {RampKind.CANARY: OverlayKind.CANARY, RampKind.SHIFT: OverlayKind.CANARY}
# Words after which a ramp may go past its gates.
SENDING = {Verb.RAMP_SET, Verb.RAMP_PROMOTE, Verb.RAMP_OVERRULE}
# A failover that a word began or ended moves the route's shares past its ramp.
OVERTAKING = {Verb.FAILOVER, Verb.FAILBACK}


class Audit:
    """What an onlooker knows of ramps who saw every report, and every word."""

    def __init__(self) -> None:
        self.arms: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.heard_s: dict[str, float] = {}
        self.serving: dict[str, Version | None] = {}
        self.first: dict[str, Version] = {}
        self.served: set[str] = set()
        self.watched_s: dict[str, float] = {}
        self.looked_s: float | None = None
        self.sent: set[str] = set()

    def hear(self, reports: tuple[Report, ...], now_s: float) -> None:
        for report in reports:
            key = (report.proxy, report.boot)
            if report.seq <= self.seen.get(key, 0):
                continue
            self.seen[key] = report.seq
            self.heard_s[report.proxy] = now_s
            self.serving[report.proxy] = report.serving
            self.arms[key] = {s: dict(arms) for s, arms in report.ramps.items()}

    def look(self, table: Table | None, now_s: float) -> None:
        """Time is watched between looks that are close, while the share is serving on all that live."""
        gap_s = 0.0 if self.looked_s is None else now_s - self.looked_s
        self.looked_s = now_s
        live = [proxy for proxy, heard_s in self.heard_s.items() if abs(now_s - heard_s) <= 5.0]
        for route in table.routes.values() if table else ():
            if not route.ramp:
                continue
            assert table is not None
            version = self.first.setdefault(route.ramp, table.version)
            if not live or any((self.serving[proxy] or Version(0, 0)) < version for proxy in live):
                continue
            if route.ramp in self.served and 0 < gap_s <= 48:
                self.watched_s[route.ramp] = self.watched_s.get(route.ramp, 0.0) + gap_s
            self.served.add(route.ramp)

    def moved(self, ramp: Ramp, stamps: tuple[str, ...]) -> tuple[int, int]:
        """(good, failed) requests of the moved side under these stamps."""
        ok = failed = 0
        for arms in self.arms.values():
            for stamp in stamps:
                for target in ramp.gainers:
                    counts = arms[stamp][target].counts if target in arms.get(stamp, {}) else {}
                    ok += counts.get("ok", 0)
                    failed += counts.get("outage", 0)
        return ok, failed


class AuditedWorld(World):
    """Every decision is audited; `audit` is what the auditor knows."""

    def __init__(self, plan: Plan) -> None:
        self.audit = Audit()
        super().__init__(plan)

    def snapshot(self) -> tuple[Any, ...]:
        """What is saved, and what the auditor knows of it."""
        return self.state, self.table, self.published_s, list(self.tables), copy.deepcopy(self.audit)

    def go_back(self, saved: tuple[Any, ...]) -> None:
        """Nothing since then was saved; reports and words that were read are read again or lost."""
        self.state, self.table, self.published_s, self.tables, audit = saved
        self.audit = copy.deepcopy(audit)

    def decide(self, evidence: Evidence) -> Decision:
        before, audit = self.state, self.audit
        decision = super().decide(evidence)
        audit.hear(evidence.reports, self.now_s)
        audit.look(self.table, self.now_s)
        obeyed = [
            w for w, a in zip(evidence.words, decision.answers[: len(evidence.words)], strict=True) if a.ok
        ]
        whole_shares(decision)
        told(before, decision)
        for route, after in decision.state.ramps.items():
            was = before.ramps.get(route)
            if was is not None and was.id != after.id:
                was = None
            words = [w for w in obeyed if w.args.get("route") in {route, "", None}]
            self._ramp(was, after, before, decision, words)
        overlays_of_ramps(decision.state, self.now_s)
        for word in obeyed:
            left(word, decision.state)
        if decision.table is not None:
            callers_stay(self.table, decision.table, before, decision)
        return decision

    def _ramp(
        self, was: Ramp | None, after: Ramp, before: State, decision: Decision, words: list[Word]
    ) -> None:
        verbs = {word.verb for word in words}
        if verbs & SENDING:
            self.audit.sent.add(after.id)
        gap_s = self.now_s - was.looked_s if was else 0.0
        if was is not None and was.phase in ENDED:
            assert after == was, "an ended ramp changed"
            return
        if after.phase is RampPhase.ABORTED and not (verbs & OVERTAKING):
            back_where_it_came_from(was, after, decision.state)
        if after.phase is RampPhase.BLOCKED:
            assert out_of(after.losers, decision.state, self.now_s), "blocked, and the control is in service"
            assert after.hold
        if Verb.RAMP_ABORT in verbs and was is not None:
            assert after.phase in {RampPhase.ABORTED, RampPhase.BLOCKED}, "an abort did not act"
        if was is not None and gap_s > was.policy.unwatched_s and was.kind in BEGINS:
            watched = was.phase in {RampPhase.PRECHECK, RampPhase.BLOCKED}
            assert watched or after.phase in {RampPhase.ABORTED, RampPhase.BLOCKED}, "unwatched, it goes on"
        went_on = after.step > (was.step if was else -1) or (
            after.phase is RampPhase.PROMOTED and was is not None and was.phase is RampPhase.BAKING
        )
        if went_on and not verbs & SENDING:
            self._on(was, after, decision, resumed=Verb.RAMP_RESUME in verbs)
        elif was is not None and after.step < was.step:
            assert Verb.RAMP_SET in verbs, "a step back without a word"

    def _on(self, was: Ramp | None, after: Ramp, decision: Decision, *, resumed: bool) -> None:
        """What must have been so for a ramp to go on by itself."""
        state = decision.state
        assert state.freeze is None, "it went on in a freeze"
        # A failover that begins by itself in the same decision comes after it.
        over = winner(after.route, [o for o in state.overlays if not begun(o, self.now_s)])
        own = BEGINS.get(after.kind, OverlayKind.FAILOVER)
        order = list(OverlayKind)
        assert over is None or order.index(over.kind) >= order.index(own), (
            "it went on under a stronger overlay"
        )
        assert not any(out(target, state, self.now_s) for target in after.gainers), (
            "it went on to a dead target"
        )
        if was is None or was.phase is RampPhase.PRECHECK:
            return
        assert resumed or not was.paused, "it went on although it was paused"
        overruled = was.entry in {was.overruled, after.overruled}
        step = was.policy.steps[was.step]
        hold_s = was.policy.bake_s if was.phase is RampPhase.BAKING else step.hold_s
        samples = 0 if was.phase is RampPhase.BAKING else step.samples
        assert was.stamp in self.audit.served, "it went on before it was served"
        if overruled:
            return
        assert self.audit.watched_s.get(was.stamp, 0.0) >= hold_s, "it went on before its time"
        ok, failed = self.audit.moved(was, (was.stamp,))
        assert ok + failed >= samples, "it went on without its samples"
        assert failed <= was.policy.pass_ratio * (ok + failed), "it went on with errors"
        if (
            after.id not in self.audit.sent
            and after.phase in {RampPhase.BAKING, RampPhase.PROMOTED}
            and samples
        ):
            assert sum(self.audit.moved(was, tuple(was.tallies))) > 0, "promoted on no data"


def begun(overlay: Overlay, now_s: float) -> bool:
    """Is it a failover that began by itself just now?"""
    return overlay.kind is OverlayKind.FAILOVER and overlay.created_s == now_s


def out(target: str, state: State, now_s: float) -> bool:
    """Does health leave it nothing?"""
    health = state.health[target]
    drain = state.drains.get(target)
    return (
        health.phase not in SERVING
        or bool(health.barred)
        or now_s < health.throttled_until_s
        or (drain is not None and (not drain.over_s or now_s >= drain.at_s + 0.9 * drain.over_s))
    )


def out_of(targets: tuple[str, ...], state: State, now_s: float) -> bool:
    return all(out(target, state, now_s) for target in targets)


def whole_shares(decision: Decision) -> None:
    """Shares sum to the whole, wherever they stand."""
    state = decision.state
    every = [o.shares_bp for o in state.overlays] + [b.shares_bp for b in state.baselines.values()]
    for route in decision.table.routes.values() if decision.table else ():
        every += [route.shares_bp] if not route.closed else []
        every += [stage.shares_bp for stage in route.later if stage.shares_bp]
    for shares in every:
        assert sum(shares.values()) == FULL_BP, shares
        assert min(shares.values()) >= 0


def wanted(state: State, route: str) -> Mapping[str, int]:
    shares = desired(route, state.baselines[route], state.overlays).shares_bp
    return {target: share for target, share in shares.items() if share}


def told(before: State, decision: Decision) -> None:
    """Nothing moves, and no ramp changes its phase, without a note that says why."""
    after = decision.state
    if before.plan is None or after.plan is not before.plan:
        return
    notes = [note for note in decision.notes if note.kind != "table.published"]
    assert all(note.text.strip() for note in notes)
    for route in after.plan.routes:
        about = [
            n for n in notes
            if n.kind.startswith("word.") or (n.subject == route and n.kind.split(".")[0] in MOVERS)
        ]  # fmt: skip
        assert wanted(before, route) == wanted(after, route) or about, f"{route} moved without a word"
        was, ramp = before.ramps.get(route), after.ramps.get(route)
        if ramp is None or (was is not None and (was.id, was.phase) == (ramp.id, ramp.phase)):
            continue
        quiet = ramp.phase is RampPhase.OBSERVING or (was is None and ramp.phase is RampPhase.PRECHECK)
        assert quiet or about, f"{route}: {was and was.phase} → {ramp.phase} without a word"


MOVERS = {"ramp", "failover", "failback", "overlay"}


def back_where_it_came_from(was: Ramp | None, after: Ramp, state: State) -> None:
    """An aborted ramp has put back what it moved, and had something to put it back to."""
    route = after.route
    own = [
        o for o in state.overlays if o.route == route and o.kind in {OverlayKind.CANARY, OverlayKind.FAILOVER}
    ]
    if after.kind in BEGINS:
        assert not any(o.kind is OverlayKind.CANARY for o in own), "aborted, and its overlay is there"
        assert same(state.baselines[route].shares_bp, after.from_bp), "aborted, and the baseline is another"
    else:
        failovers = [o for o in own if o.kind is OverlayKind.FAILOVER]
        kept = failovers[0].shares_bp if failovers else state.baselines[route].shares_bp
        anew = any(begun(overlay, after.looked_s) for overlay in failovers)
        assert anew or same(kept, after.from_bp), "aborted, and the shares are others"
    assert after.ended
    if was is not None and was.progress_bp:
        now_s = after.looked_s
        assert not out_of(after.losers, state, now_s), "aborted to a control that is dead"


def same(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return {t: s for t, s in one.items() if s} == {t: s for t, s in other.items() if s}


def overlays_of_ramps(state: State, now_s: float) -> None:
    """No canary's overlay without its ramp, none that outlives its watch, and one of a kind at most."""
    kinds = [(overlay.route, overlay.kind) for overlay in state.overlays]
    assert len(kinds) == len(set(kinds))
    for overlay in state.overlays:
        if overlay.kind is OverlayKind.CANARY:
            ramp = state.ramps[overlay.route]
            assert ramp.phase not in ENDED
            assert overlay.not_after_s <= now_s + ramp.policy.unwatched_s
            assert ramp.phase is RampPhase.BLOCKED or overlay.not_after_s > now_s


def left(word: Word, state: State) -> None:
    """What a failover left at once is left, whatever else moves the route."""
    gradual = word.args.get("mode") == "gradual"
    if word.verb is not Verb.FAILOVER or gradual or word.args.get("emergency") or not word.args.get("route"):
        return
    overlay = next(
        o for o in state.overlays if (o.route, o.kind) == (word.args["route"], OverlayKind.FAILOVER)
    )
    assert not overlay.shares_bp.get(str(word.args["from"])), "a failover's source has its share again"


# --- callers


def settled(name: str, route: RouteEntry) -> list[str]:
    among = [target for target, share in route.shares_bp.items() if share]
    return [settle(key, name, route.anchor_bp, route.shares_bp, among, route.wanted_bp) for key in CALLERS]


def parts(route: RouteEntry, target: str) -> tuple[int, int, float]:
    """What the target has of the route, what is wanted for it, and how much of that health leaves it."""
    share, wished = route.shares_bp.get(target, 0), route.wanted_bp.get(target, 0)
    return share, wished, round(share / wished, 3) if wished else float(bool(share))


def callers_stay(old: Table | None, new: Table, before: State, decision: Decision) -> None:
    """A caller goes only from who has less now to somebody, or from somebody to who has more.

    Where all is well and a canary moves, it goes from its losers to its gainers or, at an abort, the other way.
    """
    for name, route in new.routes.items():
        was = old.routes.get(name) if old else None
        if was is None or before.plan is not decision.state.plan:
            continue
        assert was.anchor_bp == route.anchor_bp, "the anchor drags"
        if was.closed or route.closed:
            continue
        pairs = set(zip(settled(name, was), settled(name, route), strict=True))
        moves = {(one, other) for one, other in pairs if one != other}
        for one, other in moves:
            grew = any(new > old for old, new in zip(parts(was, other), parts(route, other), strict=True))
            shrank = any(new < old for old, new in zip(parts(was, one), parts(route, one), strict=True))
            assert grew or shrank, f"a caller went from {one} to {other}: {was} → {route}"
        ramp = decision.state.ramps.get(name)
        if (
            ramp is None
            or ramp.kind is not RampKind.CANARY
            or ramp.id not in {r.id for r in before.ramps.values()}
        ):
            continue
        well = same(was.shares_bp, was.wanted_bp) and same(route.shares_bp, route.wanted_bp)
        if not (well and same(ramp.from_bp, route.anchor_bp) and only_the_canary(before, decision, name)):
            continue
        sides = {(one, other) for one in ramp.losers for other in ramp.gainers}
        sides |= {(other, one) for one, other in sides}
        assert moves <= sides, f"the canary moved {moves - sides}"


def only_the_canary(before: State, decision: Decision, route: str) -> bool:
    """Was it the canary alone that moved the route, and in force before and after?"""
    overlays = [winner(route, state.overlays) for state in (before, decision.state)]
    words = {note.kind for note in decision.notes if note.kind.startswith("word.")}
    return (
        all(overlay is None or overlay.kind is OverlayKind.CANARY for overlay in overlays)
        and any(note.kind.startswith("ramp.") and note.subject == route for note in decision.notes)
        and all(kind == "word.canary" or kind.startswith("word.ramp_") for kind in words)
    )
