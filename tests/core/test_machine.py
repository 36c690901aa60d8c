"""Anything may happen, in any order: what must never be the case, and what must."""

from checked import CheckedWorld, shares
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from pointsman.core.breaker import SERVING
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import ProbeKind, Verb
from pointsman.core.model import Phase, Policy
from world import CHAT, STREAM, UNARY, outcome, plan_of

TARGETS = st.sampled_from(["bedrock", "google", "meta"])
PROXIES = st.sampled_from(["p1", "p2"])
FAULTS = st.sampled_from(
    ["ok", "ok", "ok", "500", "503", "refused", "stall", "401", "402", "429", "slow_down", "400", "404"]
)
SHARES = st.sampled_from(
    [
        {"bedrock": 10_000},
        {"google": 10_000},
        {"bedrock": 5_000, "google": 5_000},
        {"bedrock": 9_950, "meta": 50},
        {"bedrock": 3_333, "google": 3_333, "meta": 3_334},
    ]
)
# What is out for long is left for good otherwise (test_ramp_machine.py): here everything is to come back by itself.
STAYS = Policy(failover_after_s=0.0)
CHAIN = {"chat": {"bedrock": 100, "google": 0, "meta": 0}, "small": {"meta": 60, "google": 40}}
PLANS = {
    "plain": plan_of(CHAT, policy=STAYS),
    "chain": plan_of(CHAIN, policy=STAYS),
    "no generation": plan_of(CHAT, policy=STAYS, free=("bedrock", "meta")),
    "small capacities": plan_of(CHAT, policy=STAYS, capacities={"bedrock": 9.0, "google": 1.0, "meta": 0.5}),
}


class Anything(RuleBasedStateMachine):
    """One installation, three providers, two proxies, a clock that may jump."""

    world: CheckedWorld

    @initialize(plan=st.sampled_from(sorted(PLANS)))
    def start(self, plan: str) -> None:
        self.world = CheckedWorld(PLANS[plan])

    # time

    @rule(after_s=st.sampled_from([0.0, 0.2, 1.0, 5.0, 6.0, 15.0, 31.0, 61.0, 301.0]))
    def time_passes(self, after_s: float) -> None:
        self.world.tick(after_s)

    @rule(back_s=st.sampled_from([0.5, 7.0, 120.0]))
    def the_clock_goes_back(self, back_s: float) -> None:
        self.world.tick(-back_s)

    # evidence

    @rule(who=TARGETS, text=FAULTS, kind=st.sampled_from(list(ProbeKind)), times=st.integers(1, 3))
    def probes(self, who: str, text: str, kind: ProbeKind, times: int) -> None:
        for _ in range(times):
            self.world.probe(who, text, kind)
        self.world.tick(0.1)

    @rule(text=st.sampled_from(["refused", "unreachable", "ok"]))
    def probes_of_all(self, text: str) -> None:
        for target in ("bedrock", "google", "meta"):
            self.world.probe(target, text, ProbeKind.REACH)
        self.world.tick(0.1)

    @rule(
        proxy=PROXIES, who=TARGETS, text=FAULTS, times=st.sampled_from([1, 2, 4, 40]),
        lane=st.sampled_from([UNARY, STREAM]), after_s=st.sampled_from([0.0, 0.3]),
    )  # fmt: skip
    def traffic(self, proxy: str, who: str, text: str, times: int, lane: str, after_s: float) -> None:
        self.world.live(proxy, who, text, times, lane)
        self.world.tick(after_s)

    @rule(proxy=PROXIES, who=TARGETS, wait_s=st.sampled_from([1.0, 30.0, 90.0]))
    def rate_limits(self, proxy: str, who: str, wait_s: float) -> None:
        self.world.live(proxy, who, Outcome(Fault.RATE_LIMIT, "HTTP 429", 429, wait_s))
        self.world.tick()

    @rule(proxy=PROXIES, missing=st.dictionaries(TARGETS, st.just("no secret"), max_size=1))
    def heartbeat(self, proxy: str, missing: dict[str, str]) -> None:
        self.world.beat(proxy, missing=missing)
        self.world.tick(0.5)

    @rule(proxy=PROXIES, after_s=st.sampled_from([0.0, 2.0]))
    def reboot(self, proxy: str, after_s: float) -> None:
        if proxy in self.world.reports:
            self.world.reboot(proxy)
        self.world.tick(after_s)

    @precondition(lambda self: self.world.table and self.world.table.trials)
    @rule(text=FAULTS)
    def trial(self, text: str) -> None:
        assert self.world.table is not None
        granted = self.world.table.trials[0]
        self.world.trial(granted.proxy, granted.target, text)
        self.world.tick(0.2)

    # words

    @rule(verb=st.sampled_from([Verb.DRAIN, Verb.UNDRAIN, Verb.RESET]), who=TARGETS)
    def word_of_a_target(self, verb: Verb, who: str) -> None:
        self.world.say(verb, target=who)
        self.world.tick()

    @rule(source=TARGETS, goal=st.none() | TARGETS, emergency=st.booleans(), for_s=st.none() | st.just(30.0))
    def failover(self, source: str, goal: str | None, emergency: bool, for_s: float | None) -> None:
        self.world.say(Verb.FAILOVER, **{"from": source, "to": goal, "emergency": emergency, "for_s": for_s})
        self.world.tick()

    @rule(verb=st.sampled_from([Verb.FAILBACK, Verb.UNPIN]), now=st.booleans())
    def way_back(self, verb: Verb, now: bool) -> None:
        self.world.say(verb, route="chat", now=now)
        self.world.tick()

    @rule(shares_bp=SHARES, force=st.booleans())
    def pin(self, shares_bp: dict[str, int], force: bool) -> None:
        self.world.say(Verb.PIN, route="chat", shares_bp=shares_bp, for_s=20.0, force=force)
        self.world.tick()

    @rule(shares_bp=SHARES)
    def weights(self, shares_bp: dict[str, int]) -> None:
        self.world.say(Verb.SET_WEIGHTS, route="chat", shares_bp=shares_bp)
        self.world.tick()

    # faults of the installation

    @rule()
    def another_leader(self) -> None:
        self.world.succeed()
        self.world.tick(0.1)

    @rule(proxy=PROXIES, who=TARGETS, text=FAULTS, times=st.integers(1, 6))
    def a_save_is_lost(self, proxy: str, who: str, text: str, times: int) -> None:
        """The decision is thrown away; from the state of before, the reports lead to the same."""
        world = self.world
        world.tick()
        state, table, published_s, tables = world.state, world.table, world.published_s, list(world.tables)
        world.live(proxy, who, text, times)
        world.tick()
        lost = world.state
        world.state, world.table, world.published_s, world.tables = state, table, published_s, tables
        world.tick()

        assert world.state == lost

    # what must never be

    @rule(
        proxy=PROXIES,
        who=TARGETS,
        times=st.sampled_from([1, 50, 5_000]),
        text=st.sampled_from(["400", "404", "413"]),
    )
    def callers_faults_move_nothing(self, proxy: str, who: str, times: int, text: str) -> None:
        self.world.tick()
        self.world.beat(proxy)
        self.world.tick()
        before = {name: self.world.standing(name) for name in self.world.state.health}
        table = self.world.derived(self.world.state)
        self.world.live(proxy, who, text, times)
        self.world.tick()

        assert {name: self.world.standing(name) for name in self.world.state.health} == before
        assert self.world.derived(self.world.state).hash == table.hash

    # what must be

    @rule(who=TARGETS, lane=st.sampled_from([UNARY, STREAM]))
    def five_failures_are_out(self, who: str, lane: str) -> None:
        """A third proxy that is new, and a target that has not answered anybody since."""
        world = self.world
        world.reports.pop("p3", None)
        world.state = replace(
            world.state, vantages={n: v for n, v in world.state.vantages.items() if n != "p3"}
        )
        world.tick(0.01)
        world.reports.values()
        answered_s = [
            r.targets[who].lanes[lane].last_ok_s for r in world.reports.values() if lane in lanes(r, who)
        ]
        known = (
            world.table is not None
            and world.table.targets[who].generation == world.state.health[who].generation
        )
        served = world.state.health[who].phase in SERVING
        world.live("p3", who, "500", 5, lane)
        world.tick()

        if known and served and max(answered_s, default=0.0) <= world.now_s:
            assert world.state.health[who].phase is Phase.COOLDOWN
        del world.reports["p3"]

    @rule(who=TARGETS)
    def two_good_trials_are_enough(self, who: str) -> None:
        half_open = self.world.state.health[who].phase is Phase.HALF_OPEN
        for _ in range(2):
            self.world.probe(who, "ok")
        self.world.tick()

        if half_open:
            assert self.world.state.health[who].phase is Phase.RECOVERING

    @invariant()
    def versions_rise(self) -> None:
        if hasattr(self, "world"):
            self.world.check_versions()

    def teardown(self) -> None:
        """Whatever was: with every overlay and drain gone and good answers, all comes back to the baseline."""
        if not hasattr(self, "world"):
            return
        world = self.world
        assert world.state.plan is not None
        for target in world.state.drains:
            world.say(Verb.UNDRAIN, target=target)
        for route in world.state.plan.routes:
            world.say(Verb.UNPIN, route=route)
            world.say(Verb.RAMP_ABORT, route=route)
            world.say(Verb.FAILBACK, route=route, now=True)
        for _ in range(50):
            for target in world.state.plan.targets:
                world.probe(target, "ok")
            world.tick(20.0)

        assert {health.phase for health in world.state.health.values()} == {Phase.HEALTHY}
        assert world.table is not None
        assert shares(world.table) == {
            name: {target: share for target, share in baseline.shares_bp.items() if share}
            for name, baseline in world.state.baselines.items()
        }


def lanes(report: object, who: str) -> dict[str, object]:
    entry = report.targets.get(who)  # type: ignore[attr-defined]
    return entry.lanes if entry else {}


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=max(5, settings().max_examples // 2), stateful_step_count=25)

__all__ = ["TestAnything", "outcome"]
