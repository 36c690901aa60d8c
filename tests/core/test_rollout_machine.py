"""A rollout in any order of evidence, words, leaps of time and losses: what must never be the case."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from rollouts import CAUSE, RolloutWorld, go_of

from pointsman.core.evidence import Verb
from pointsman.core.model import State
from pointsman.core.rollout_model import MOVED, RUNNING, Bounds, Rollout, RolloutPhase
from pointsman.core.rollout_shares import nonzero
from pointsman.core.table import FULL_BP

P = RolloutPhase
# The table at the head of core/rollout.py, in steps of one decision, which may be more than one of the machine.
BY_ITSELF = {
    (P.WAITING, P.RAMPING), (P.WAITING, P.SOAKING), (P.RAMPING, P.WAITING), (P.RAMPING, P.SOAKING),
    (P.RAMPING, P.ROLLED_BACK), (P.RAMPING, P.BLOCKED), (P.SOAKING, P.APPROVING), (P.SOAKING, P.GO),
    (P.SOAKING, P.ROLLED_BACK),
    (P.SOAKING, P.BLOCKED), (P.APPROVING, P.SOAKING), (P.APPROVING, P.ROLLED_BACK), (P.APPROVING, P.BLOCKED),
    (P.BLOCKED, P.ROLLED_BACK),
}  # fmt: skip
WORDS = {
    Verb.ROLLOUT_START: {(P.STOPPED, P.WAITING), (P.STOPPED, P.RAMPING), (P.STOPPED, P.SOAKING)},
    Verb.ROLLOUT_AGAIN: {(old, new) for old in (P.GO, P.ROLLED_BACK) for new in (P.WAITING, P.RAMPING, P.SOAKING)},
    Verb.ROLLOUT_APPROVE: {(P.APPROVING, P.GO)},
    Verb.ROLLOUT_STOP: {(old, P.STOPPED) for old in (*RUNNING, P.GO)}
    | {(P.GO, P.ROLLED_BACK), (P.GO, P.BLOCKED)},
}  # fmt: skip
BOUNDS = {"go": Bounds(error_ratio=0.02), "no_go": Bounds(error_ratio=0.05)}
TARGETS = st.sampled_from(["bedrock", "google"])


class AnyRollout(RuleBasedStateMachine):
    """One rollout of a stage with a stage before it, a proxy that may be silent, a clock that may leap."""

    @initialize(
        approval=st.booleans(),
        requests=st.sampled_from([0, 30]),
        stands=st.sampled_from(["soaking", "soaking", "soaking", "ramping", "waiting", "not begun"]),
    )
    def begin(self, approval: bool, requests: int, stands: str) -> None:
        self.world = RolloutWorld(
            "staging", approval=approval, min_requests=requests, soak_s=120.0, again_soak_s=240.0, **BOUNDS
        )
        self.said: list[Verb] = []
        self.watchable_s = 0.0
        self.decide()
        if stands == "not begun":
            return
        self.word(Verb.ROLLOUT_START, keep=False)
        if stands == "waiting":
            return
        self.word(Verb.ROLLOUT_GO, keep=False)
        if stands == "soaking":
            self.all_is_well(9)
            assert self.world.one.phase is P.SOAKING

    def decide(self, after_s: float = 0.0) -> None:
        before, told = self.world.state, len(self.world.notes)
        old = before.rollouts.get("gateway")
        self.world.tick(after_s)
        new = self.world.state.rollouts.get("gateway")
        said, self.said = set(self.said), []
        if new is None:
            return
        if old is None or old.attempt != new.attempt or new.phase is P.RAMPING:
            self.watchable_s = 0.0
        elif 0 < after_s <= 60.0:
            self.watchable_s += after_s
        self._moved(old, new, said, [note.kind for note in self.world.notes[told:]])
        self._ended(before, new, old)

    def _moved(self, old: Rollout | None, new: Rollout, said: set[Verb], kinds: list[str]) -> None:
        """Every transition stands in the table, and is told."""
        if old is None or old.phase is new.phase:
            return
        moves = BY_ITSELF.union(*(WORDS.get(verb, set()) for verb in said))
        if len(said) < 2:
            assert (old.phase, new.phase) in moves, (old.phase, new.phase, said)
        assert any(kind.startswith(("rollout.", "word.rollout_")) for kind in kinds)

    def _ended(self, before: State, new: Rollout, old: Rollout | None) -> None:
        """Go is earned, and a rollback puts back what it took."""
        decided = new.decided_s == self.world.now_s and (old is None or old.phase is not new.phase)
        if new.phase is P.GO and decided:
            assert new.watched_s >= new.soak_s or "soak" in new.overruled
            assert new.approved or not new.stage.approval
            assert new.total.new.requests >= new.stage.min_requests or "requests" in new.overruled
        if new.phase is P.ROLLED_BACK and decided:
            assert new.ended
            shares = nonzero(self.world.state.baselines["chat"].shares_bp)
            was = nonzero(before.baselines["chat"].shares_bp)
            assert shares != new.after_bp or was != new.after_bp, "it took nothing back"

    @rule(
        after_s=st.sampled_from([0.5, 1.0, 10.0, 30.0, 60.0, 61.0, 3600.0, 200_000.0, -5.0, -4000.0]),
        alive=st.booleans(),
    )
    def time_passes(self, after_s: float, alive: bool) -> None:
        if alive:
            self.world.watched()
        self.decide(after_s)

    @rule(times=st.sampled_from([3, 8, 15, 31]))
    def all_is_well(self, times: int) -> None:
        for _ in range(times):
            self.world.watched()
            self.decide(10.0)

    @rule(times=st.sampled_from([4, 7, 13]))
    def a_good_while(self, times: int) -> None:
        """With traffic that is well, as on most days."""
        for _ in range(times):
            self.world.watched()
            self.world.traffic("google", ok=20)
            self.decide(10.0)

    @rule()
    def a_good_night(self) -> None:
        self.all_is_well(26)

    @rule()
    def a_person_says_yes(self) -> None:
        self.word(Verb.ROLLOUT_APPROVE, keep=False)

    @rule(who=TARGETS, ok=st.sampled_from([0, 20, 200]), failed=st.sampled_from([0, 0, 0, 1, 30]))
    def traffic(self, who: str, ok: int, failed: int) -> None:
        self.world.watched()
        self.world.traffic(who, ok=ok, failed=failed)
        self.decide(1.0)

    @rule(who=TARGETS)
    def trips(self, who: str) -> None:
        self.world.live("p1", who, "refused", 5)
        self.decide(0.2)

    @rule(
        verb=st.sampled_from([*WORDS, Verb.ROLLOUT_AGAIN, Verb.ROLLOUT_OVERRULE, Verb.ROLLOUT_GO]),
        keep=st.booleans(),
    )
    def word(self, verb: Verb, keep: bool) -> None:
        args = {"stage": "development", "root_cause": CAUSE, "keep": keep}
        self.world.say(verb, name="gateway", **args)
        self.said.append(verb)
        self.decide()

    @rule(
        verb=st.sampled_from([Verb.RAMP_ABORT, Verb.RAMP_PROMOTE, Verb.RAMP_PAUSE, Verb.RAMP_RESUME]),
    )
    def of_the_canary(self, verb: Verb) -> None:
        self.world.say(verb, route="chat")
        self.decide()

    @rule(google=st.sampled_from([FULL_BP, FULL_BP, 0, 5_000]))
    def weights(self, google: int) -> None:
        self.world.say(
            Verb.SET_WEIGHTS, route="chat", shares_bp={"google": google, "bedrock": FULL_BP - google}
        )
        self.decide()

    @rule(on=st.booleans())
    def pinned(self, on: bool) -> None:
        if on:
            self.world.say(Verb.PIN, route="chat", shares_bp={"bedrock": FULL_BP}, for_s=300.0)
        else:
            self.world.say(Verb.UNPIN, route="chat")
        self.decide()

    @rule(phase=st.sampled_from(["go", "soaking", "rolled_back"]))
    def news(self, phase: str) -> None:
        self.world.stages = (go_of("development", self.world.now_s, phase=phase),)
        self.decide()

    @rule()
    def another_leader(self) -> None:
        self.world.succeed()
        self.decide()

    @rule()
    def the_store_is_lost(self) -> None:
        """Ramps and health are gone; what people decided is restored."""
        self.world.state = replace(self.world.state, ramps={}, health={}, vantages={})
        self.decide()

    @invariant()
    def watched_time_is_time_that_passed(self) -> None:
        """No leap, no absence, no silence counts."""
        one = self._one()
        if one is not None and one.phase not in {P.WAITING, P.RAMPING}:
            assert one.watched_s <= self.watchable_s + 1e-6

    @invariant()
    def nothing_moves_without_the_go_of_the_environment_before(self) -> None:
        one = self._one()
        if one is not None and one.phase in MOVED:
            assert one.cleared

    @invariant()
    def it_is_written_and_read_alike(self) -> None:
        one = self._one()
        if one is not None:
            assert msgspec.json.decode(msgspec.json.encode(one), type=Rollout) == one
            assert len(msgspec.json.encode(one)) < 40_000

    @invariant()
    def reports_are_kept_in_order(self) -> None:
        if hasattr(self, "world"):
            assert len(self.world.filed) <= 30

    @invariant()
    def why_it_does_not_go_on_is_said(self) -> None:
        one = self._one()
        if one is not None and one.phase in {P.SOAKING, P.APPROVING, P.BLOCKED}:
            assert one.hold

    def _one(self) -> Rollout | None:
        return self.world.state.rollouts.get("gateway") if hasattr(self, "world") else None


TestAnyRollout = AnyRollout.TestCase
TestAnyRollout.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=50)
