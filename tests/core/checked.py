"""A world in which every decision is held against what must hold of all of them."""

from itertools import pairwise

import msgspec
from msgspec.structs import replace

from pointsman.core.breaker import SERVING
from pointsman.core.decide import decide
from pointsman.core.evidence import Evidence, Verb
from pointsman.core.model import Decision, Health, Phase, State
from pointsman.core.overlays import winner
from pointsman.core.ramping import running
from pointsman.core.table import FULL_BP, Table, decode, encode, validate
from world import POLICY, World

# Changes of phase that are no news.
SILENT = {(Phase.UNKNOWN, Phase.HEALTHY)}


class CheckedWorld(World):
    """Every decision is made twice, derived again, and checked."""

    def decide(self, evidence: Evidence) -> Decision:
        before = self.state
        decision = super().decide(evidence)
        assert super().decide(evidence) == decision, "the same is not the same"
        after = decision.state
        assert self.state is before
        assert msgspec.json.decode(msgspec.json.encode(after), type=State) == after
        assert len(decision.answers) == len(evidence.words)
        if after.plan is not None:
            self._again(evidence, decision)
            self._routes(self.derived(after), after)
            self._moves(before, decision)
        if before.plan is not None and after.plan is before.plan:
            words = {word.verb for word in evidence.words}
            for target in after.plan.targets:
                self._target(target, before, decision, reset=Verb.RESET in words)
        if decision.table is not None:
            published = decode(encode(decision.table))
            assert self.table is None or published.version > self.table.version
        return decision

    def derived(self, state: State) -> Table:
        """The table that follows from `state` alone, published or not."""
        decision = decide(state, Evidence(), now_s=self.now_s, epoch=1, published=None, published_s=0.0)
        assert decision.table is not None
        return decision.table

    def _again(self, evidence: Evidence, decision: Decision) -> None:
        """Reading the same reports again, or older ones, in the same moment changes nothing and tells nothing."""
        for reports in (evidence.reports, tuple({**self.reports, **self.older}.values())):
            again = decide(
                decision.state,
                Evidence(reports=reports),
                now_s=self.now_s,
                epoch=self.epoch,
                published=decision.table or self.table,
                published_s=self.now_s if decision.table else self.published_s,
            )
            # A ramp that was waiting for its table sees that it is published now; nothing else is news.
            assert replace(again.state, ramps={}) == replace(decision.state, ramps={})
            assert again.table is None
            assert again.notes == () or running(decision.state)

    def _routes(self, table: Table, state: State) -> None:
        assert state.plan is not None
        assert validate(table) == []
        for name, route in table.routes.items():
            assert sum(route.shares_bp.values()) == (0 if route.closed else FULL_BP)
            assert bool(route.closed) == (not route.chain)
            for target in (*route.shares_bp, *route.chain):
                assert not state.health[target].barred
                assert target not in state.drains
            over = winner(name, state.overlays)
            panics = any(target.capacity_rps for target in state.plan.targets.values())
            valve = route.last_resort == 0
            if not (panics or valve or (over and over.force)):
                assert all(self._serves(state.health[target]) for target in route.shares_bp)
            if valve and route.chain and not (panics or (over and over.force)):
                assert len(route.shares_bp) == 1

    def _serves(self, health: Health) -> bool:
        return health.phase in SERVING and self.now_s >= health.throttled_until_s

    def _target(self, target: str, before: State, decision: Decision, *, reset: bool) -> None:
        was, is_ = before.health.get(target), decision.state.health[target]
        if was is None or reset:
            return
        told = {note.kind for note in decision.notes if note.subject == target}
        if was.phase is not is_.phase and (was.phase, is_.phase) not in SILENT:
            assert told, f"{target}: {was.phase} → {is_.phase} without a word"
        if bool(was.barred) is not bool(is_.barred):
            assert {"target.barred", "target.unbarred"} & told
        assert is_.generation >= was.generation
        assert is_.grant >= was.grant
        if is_.phase is Phase.COOLDOWN:
            assert is_.cooldown_until_s >= was.cooldown_until_s
            assert was.phase is not Phase.COOLDOWN or is_.failures == was.failures
        if is_.phase is Phase.COOLDOWN and was.phase is not Phase.COOLDOWN:
            assert is_.failures > was.failures
            assert is_.cooldown_until_s > self.now_s
        for axis in ("throttled_until_s", "softened_until_s"):
            was_s = getattr(was, axis)
            assert getattr(is_, axis) >= was_s or self.now_s >= was_s, f"{target}: a deadline became shorter"
        if was.barred and is_.barred:
            assert is_.barred_until_s >= was.barred_until_s or self.now_s >= was.barred_until_s

    def _moves(self, before: State, decision: Decision) -> None:
        """Nothing moves without a note, a slow start, or a proxy's own troubles."""
        if before.plan is not decision.state.plan or before.plan is None:
            return
        excused = (
            [note for note in decision.notes if note.kind != "table.published"]
            or [
                health
                for state in (before, decision.state)
                for health in state.health.values()
                if health.back_s
            ]
            or [
                vantage
                for state in (before, decision.state)
                for vantage in state.vantages.values()
                if vantage.missing
            ]
            or [target for target in before.plan.targets.values() if target.capacity_rps]
        )
        if not excused and before.health.keys() == before.plan.targets.keys():
            was, is_ = self.derived(before), self.derived(decision.state)
            for name, route in is_.routes.items():
                # The valve looks at deadlines, and those lengthen without a word.
                valve = was.routes[name].last_resort == route.last_resort == 0
                assert valve or was.routes[name].shares_bp == route.shares_bp

    def check_versions(self) -> None:
        """Versions only rise."""
        versions = [table.version for table in self.tables]
        assert all(older < newer for older, newer in pairwise(versions))

    def standing(self, target: str) -> Health:
        """The target's health without what callers may change: counts, and a slow start that is over."""
        health = self.state.health[target]
        starting = self.now_s < health.back_s + POLICY.slow_start_s
        return replace(health, window=(), back_s=health.back_s if starting else 0.0)


def shares(table: Table) -> dict[str, dict[str, int]]:
    return {name: dict(route.shares_bp) for name, route in table.routes.items()}
