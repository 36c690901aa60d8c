"""Anything may happen to ramps, in any order: the auditor of audited.py looks at every decision."""

from typing import Any

from audited import AuditedWorld
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec.structs import replace

from pointsman.core.evidence import Verb
from pointsman.core.model import Policy, RampPlan
from pointsman.core.ramp_model import ENDED, RampPhase, RampPolicy, Step
from world import plan_of

STEPS = (
    Step(progress_bp=1_000, hold_s=10.0, samples=20),
    Step(progress_bp=5_000, hold_s=10.0, samples=20),
    Step(progress_bp=10_000, hold_s=0.0, samples=0),
)
RULES = RampPolicy(steps=STEPS, bake_s=20.0, max_hold_s=200.0)
BACK = RampPolicy(steps=STEPS, bake_s=0.0, max_hold_s=200.0)
POLICY = Policy(
    failover_after_s=70.0, failback_window_s=120.0, failback_min_samples=5, failback_min_stay_s=20.0
)
ROUTES = {"chat": {"bedrock": 60, "google": 30, "meta": 10}, "small": {"meta": 100, "google": 0}}
NAMES = ("bedrock", "google", "meta")
TARGETS = st.sampled_from(NAMES)
ROUTE = st.sampled_from(["chat", "chat", "small"])
SHARES = st.sampled_from(
    [{"bedrock": 10_000}, {"google": 3_333, "meta": 6_667}, {"bedrock": 1, "google": 9_998, "meta": 1}]
)
STEER = [
    Verb.RAMP_PAUSE, Verb.RAMP_RESUME, Verb.RAMP_PROMOTE, Verb.RAMP_ABORT, Verb.RAMP_OVERRULE, Verb.RAMP_APPROVE,
]  # fmt: skip


class Ramps(RuleBasedStateMachine):
    """One installation, three providers, two routes, two proxies, a clock that leaps."""

    world: AuditedWorld
    serving: tuple[str, ...] = ("p1",)

    @initialize()
    def start(self) -> None:
        plan = replace(
            plan_of(ROUTES, policy=POLICY), ramp=RampPlan(canary=RULES, failover=BACK, failback=BACK)
        )
        self.world = AuditedWorld(plan)
        for target in NAMES:
            self.world.probe(target, "ok")
        self.world.serve("p1")
        self.world.tick(1)

    # time and traffic

    @rule(
        looks=st.integers(1, 8),
        apart_s=st.sampled_from([1.0, 4.0]),
        failing=st.sampled_from([0, 0, 0, 1, 20]),
        control_failing=st.sampled_from([0, 0, 0, 20]),
        each=st.sampled_from([40, 40, 3]),
    )
    def traffic(self, looks: int, apart_s: float, failing: int, control_failing: int, each: int = 40) -> None:
        """All proxies serve, and see so many requests of each side."""
        for _ in range(looks):
            self.world.serve(*self.serving)
            for name in ROUTES:
                ramp = self.world.state.ramps.get(name)
                for target in NAMES:
                    bad = failing if ramp and target in ramp.gainers else control_failing
                    bad = min(bad, each)
                    self.world.moved("p1", target, each - bad, bad, route=name)
            for target in NAMES:
                if self.world.state.health[target].phase.value in {"healthy", "recovering"}:
                    self.world.probe(target, "ok")
            self.world.tick(apart_s)

    @rule(seconds=st.sampled_from([10, 30]))
    def all_goes_well(self, seconds: int) -> None:
        self.traffic(seconds // 4 + 1, 4.0, 0, 0)

    @rule(after_s=st.sampled_from([0.0, 0.3, 3.0, 20.0, 47.0, 50.0, 70.0, 4_000.0]))
    def time_passes(self, after_s: float) -> None:
        """Nobody reports."""
        self.world.tick(after_s)

    @rule(looks=st.integers(1, 6))
    def beats_without_traffic(self, looks: int) -> None:
        for _ in range(looks):
            self.world.serve(*self.serving)
            self.world.tick(4.0)

    @rule(back_s=st.sampled_from([0.5, 30.0, 1_000.0]), heard=st.booleans())
    def the_clock_goes_back(self, back_s: float, heard: bool) -> None:
        if heard:
            self.world.serve(*self.serving)
        self.world.tick(-back_s)

    @rule()
    def a_proxy_lags(self) -> None:
        """A second one lives, and routes by what it had."""
        self.world.beat("p2")
        self.world.tick(1)

    @rule(both=st.booleans())
    def who_serves(self, both: bool) -> None:
        self.serving = ("p1", "p2") if both else ("p1",)

    @rule()
    def reboot(self) -> None:
        self.world.reboot("p1")
        self.world.tick(0.5)

    # health

    @rule(who=TARGETS)
    def goes_down(self, who: str) -> None:
        for target in NAMES:
            if target != who:
                self.world.probe(target, "ok")
        for _ in range(3):
            self.world.probe(who, "refused")
        self.world.tick(0.1)

    @rule(who=TARGETS)
    def comes_back(self, who: str) -> None:
        for _ in range(2):
            self.world.tick(61)
            self.world.probe(who, "ok")
            self.world.probe(who, "ok")
        self.world.tick(0.1)

    @rule(
        who=TARGETS,
        verb=st.sampled_from([Verb.DRAIN, Verb.UNDRAIN, Verb.RESET]),
        over_s=st.sampled_from([None, 30.0]),
    )
    def word_of_a_target(self, who: str, verb: Verb, over_s: float | None) -> None:
        self.world.say(verb, target=who, over_s=over_s)
        self.world.tick()

    # words

    @rule(route=ROUTE, source=TARGETS, goal=TARGETS, bake_s=st.sampled_from([None, 0]))
    def canary(self, route: str, source: str, goal: str, bake_s: float | None) -> None:
        self.world.say(Verb.CANARY, route=route, bake_s=bake_s, **{"from": source, "to": goal})
        self.world.tick()

    @rule(route=ROUTE, verb=st.sampled_from(STEER))
    def steer(self, route: str, verb: Verb) -> None:
        self.world.say(verb, route=route)
        self.world.tick()

    @rule(route=ROUTE, percent=st.sampled_from([10, 50]))
    def set_step(self, route: str, percent: float) -> None:
        self.world.say(Verb.RAMP_SET, route=route, percent=percent)
        self.world.tick()

    @rule(route=ROUTE, shares_bp=SHARES, over_s=st.sampled_from([None, 60.0]))
    def weights(self, route: str, shares_bp: dict[str, int], over_s: float | None) -> None:
        self.world.say(Verb.SET_WEIGHTS, route=route, shares_bp=shares_bp, over_s=over_s)
        self.world.tick()

    @rule(
        route=ROUTE,
        source=TARGETS,
        goal=TARGETS,
        args=st.sampled_from([{}, {"mode": "gradual"}, {"emergency": True}, {"for_s": 40.0}]),
    )
    def failover(self, route: str, source: str, goal: str, args: dict[str, Any]) -> None:
        self.world.say(Verb.FAILOVER, route=route, **{"from": source, "to": goal}, **args)
        self.world.tick()

    @rule(route=ROUTE, args=st.sampled_from([{}, {}, {"now": True}, {"auto": True}]))
    def failback(self, route: str, args: dict[str, Any]) -> None:
        self.world.say(Verb.FAILBACK, route=route, **args)
        self.world.tick()

    @rule(route=ROUTE, shares_bp=SHARES, force=st.booleans())
    def pin(self, route: str, shares_bp: dict[str, int], force: bool) -> None:
        self.world.say(Verb.PIN, route=route, shares_bp=shares_bp, for_s=20.0, force=force)
        self.world.tick()

    @rule(route=ROUTE)
    def unpin(self, route: str) -> None:
        self.world.say(Verb.UNPIN, route=route)
        self.world.tick()

    @rule(verb=st.sampled_from([Verb.FREEZE, Verb.UNFREEZE, Verb.UNFREEZE]))
    def freeze(self, verb: Verb) -> None:
        self.world.say(verb, for_s=30.0)
        self.world.tick()

    @rule(route=ROUTE, first=st.booleans(), verb=st.sampled_from(STEER))
    def two_words_at_once(self, route: str, first: bool, verb: Verb) -> None:
        """Whatever is said together with an abort, the abort wins."""
        for said in (Verb.RAMP_ABORT, verb) if first else (verb, Verb.RAMP_ABORT):
            self.world.say(said, route=route)
        self.world.tick(1)

    @rule(route=ROUTE)
    def a_pause(self, route: str) -> None:
        """Whatever its evidence."""
        self.world.say(Verb.RAMP_PAUSE, route=route)
        self.traffic(8, 4.0, 0, 0)

    @rule(route=ROUTE, source=TARGETS, goal=TARGETS, looks=st.sampled_from([1, 12]))
    def there_and_back(self, route: str, source: str, goal: str, looks: int) -> None:
        """A failover, and on the way back from it an abort."""
        self.failover(route, source, goal, {})
        self.failback(route, {})
        self.traffic(looks, 2.0, 0, 0)
        self.steer(route, Verb.RAMP_ABORT)

    @rule(route=ROUTE, way=st.permutations(NAMES), looks=st.sampled_from([1, 12]))
    def failover_over_failover(self, route: str, way: list[str], looks: int) -> None:
        """The second one step by step, and not to its end."""
        self.failover(route, way[0], way[1], {})
        self.failover(route, way[1], way[2], {"mode": "gradual"})
        self.traffic(looks, 2.0, 0, 0)
        self.steer(route, Verb.RAMP_ABORT)

    # faults of the installation

    @rule()
    def another_leader(self) -> None:
        self.world.succeed()
        self.world.tick(0.1)

    @rule(looks=st.integers(1, 4))
    def saves_are_lost(self, looks: int) -> None:
        """What was decided since is neither saved nor published; the proxies remember what they saw."""
        saved, seen = self.world.snapshot(), self.world.now_s
        self.traffic(looks, 1.0, 0, 0)
        self.world.go_back(saved)
        for report in self.world.reports.values():
            if self.world.table is not None and report.serving and report.serving > self.world.table.version:
                report.serving = report.accepted = self.world.table.version
        self.world.now_s = max(seen, self.world.now_s)
        self.world.tick(0.2)

    @rule()
    def a_publication_is_lost(self) -> None:
        """A crash between saving and publishing: the next decision finds the older table."""
        table, published_s, tables = self.world.table, self.world.published_s, list(self.world.tables)
        self.world.tick(1)
        self.world.table, self.world.published_s, self.world.tables = table, published_s, tables
        self.world.tick(0.6)

    # what must be

    @precondition(lambda self: any(r.phase not in ENDED for r in self.world.state.ramps.values()))
    @rule()
    def good_evidence_ends_it(self) -> None:
        """With everything out of its way and good evidence a ramp ends well, or is taken back to a live control."""
        world = self.world
        for target in NAMES:
            world.say(Verb.UNDRAIN, target=target)
            world.say(Verb.RESET, target=target)
        world.say(Verb.UNFREEZE)
        for route in ROUTES:
            world.say(Verb.UNPIN, route=route)
            world.say(Verb.RAMP_RESUME, route=route)
        world.tick()
        self.serving = ("p1",)
        for _ in range(30):
            self.traffic(8, 4.0, 0, 0)
            if all(ramp.phase in ENDED for ramp in world.state.ramps.values()):
                break

        assert {r.phase for r in world.state.ramps.values()} <= {RampPhase.PROMOTED, RampPhase.ABORTED}


TestRamps = Ramps.TestCase
TestRamps.settings = settings(max_examples=max(5, settings().max_examples // 2), stateful_step_count=25)
