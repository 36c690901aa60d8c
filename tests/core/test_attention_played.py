"""Decisions and cadence together: who is asked how often, and how soon what is wrong is found."""

from collections.abc import Callable

from msgspec.structs import replace

from pointsman.core.attention import attention
from pointsman.core.cadence import Cadence, Probe, ProbeTiming, detection_bound_s
from pointsman.core.errors import SUCCESS, Fault, Outcome
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Health, Phase
from world import NOON_S, World, outcome, plan_of

GENERATE, REACH = ProbeKind.GENERATE, ProbeKind.REACH
PLAN = plan_of({"chat": {"bedrock": 60, "google": 40}})
SWALLOWED = outcome("connect_timeout")
Answers = Callable[[Probe, float], Outcome]


class Played:
    """A leader and its prober: each probe of bedrock is answered by `answers`, silence after its deadline."""

    def __init__(self, answers: Answers, **health: object) -> None:
        self.world = World(PLAN)
        self.answers = answers
        self.asked: list[tuple[float, ProbeKind]] = []
        self.cadence = Cadence(dict.fromkeys(PLAN.providers, ProbeTiming()))
        self.running: list[tuple[float, Probe, Outcome]] = []
        standing = Health(**{"phase": Phase.HEALTHY, "since_s": NOON_S, **health})  # type: ignore[arg-type]
        well = Health(phase=Phase.HEALTHY, since_s=NOON_S)
        self.world.state = replace(self.world.state, health={"bedrock": standing, "google": well})

    def until(self, after_s: float) -> None:
        """Go on, with a decision every second and at every answer, until so long after noon."""
        world = self.world
        while world.now_s < NOON_S + after_s:
            ends = [over_s for over_s, _, _ in self.running]
            due_s = self.cadence.next_due_s or world.now_s + 1
            world.now_s = max(world.now_s, min([world.now_s + 1, due_s, *ends]))
            for over in [item for item in self.running if item[0] <= world.now_s]:
                self.running.remove(over)
                world.probe(over[1].provider, over[2], over[1].kind)
                self.cadence.done(over[1], world.now_s)
            world.tick()
            self.cadence.attend(attention(world.state, PLAN, {}, world.now_s), world.now_s)
            for probe in self.cadence.due(world.now_s):
                self._begin(probe)

    def _begin(self, probe: Probe) -> None:
        now_s = self.world.now_s
        theirs = probe.provider == "bedrock"
        answer = self.answers(probe, now_s - NOON_S) if theirs else SUCCESS
        takes_s = ProbeTiming().timeout_s(probe.kind) if answer is SWALLOWED else 0.1
        self.running.append((now_s + takes_s, probe, answer))
        if theirs:
            self.asked.append((now_s - NOON_S, probe.kind))

    def generations(self, from_s: float = 0.0) -> int:
        return sum(kind is GENERATE and at_s >= from_s for at_s, kind in self.asked)


def generating(answer: Outcome) -> Answers:
    """Reach is well, generations are answered so."""
    return lambda probe, _: SUCCESS if probe.kind is REACH else answer


LIMIT = Outcome(Fault.RATE_LIMIT, "HTTP 429", 429, 600.0)
SPENT = Outcome(Fault.QUOTA, "insufficient_quota", 429, 600.0)
HALF_OPEN = {"phase": Phase.HALF_OPEN, "grant_s": NOON_S, "failures": 3}


def test_a_throttled_target_is_left_alone() -> None:
    """Told to come back in ten minutes, healthy or half-open, it is asked once, and then not for ten minutes."""
    for health in ({}, HALF_OPEN):
        played = Played(generating(LIMIT), **health)
        played.until(600)

        assert played.generations() == 1


def test_quota_is_left_alone() -> None:
    """Without quota for ten minutes, it is asked twice, and then not for ten minutes; then once for the next ten."""
    for health in ({}, HALF_OPEN):
        played = Played(generating(SPENT), **health)
        played.until(600)
        first = played.generations()
        played.until(1_200)

        assert first == 2
        assert played.generations() == 3
        assert played.world.told("target.unbarred") == []


def test_quota_that_is_back() -> None:
    """When the time is over the first answer frees it, within seconds."""
    played = Played(
        lambda probe, at_s: SPENT if probe.kind is GENERATE and at_s < 600 else SUCCESS, **HALF_OPEN
    )
    played.until(599)
    assert played.world.state.health["bedrock"].barred
    played.until(606)

    assert not played.world.state.health["bedrock"].barred
    assert played.world.told("target.unbarred") == ["bedrock no longer barred: a generate probe succeeded"]


def test_a_refused_key_is_asked_steadily() -> None:
    """A key that is refused is tried at the usual pace, half-open or not, until it is mended."""
    for health in ({}, HALF_OPEN):
        played = Played(generating(outcome("401")), **health)
        played.until(620)

        assert 19 <= played.generations(from_s=20) <= 21


def test_a_key_that_may_not_list_models() -> None:
    """Reach is refused for ever and generations succeed: nothing is barred, and next to nothing is asked for it."""
    played = Played(lambda probe, _: outcome("403") if probe.kind is REACH else SUCCESS)
    played.until(600)

    assert played.world.told("target.barred") == []
    assert played.world.phase("bedrock") == "healthy"
    assert 19 <= played.generations() <= 22


def test_a_revoked_key() -> None:
    """Reach and generation are refused: barred as soon as reach is, without waiting for a generation's turn."""
    played = Played(lambda probe, at_s: SUCCESS if at_s < 60 else outcome("401"))
    played.until(72)

    assert len(played.world.told("target.barred")) == 1


def test_one_that_dies_in_its_slow_start() -> None:
    """A provider that falls silent is found as soon in its slow start as at any other time."""
    for second in range(60, 72, 2):
        played = Played(lambda probe, at_s, dies_s=second: SWALLOWED if at_s >= dies_s else SUCCESS)  # type: ignore[misc]
        played.until(second)
        health = played.world.state.health
        slow = replace(health["bedrock"], phase=Phase.RECOVERING, back_s=played.world.now_s, failures=3)
        played.world.state = replace(played.world.state, health={**health, "bedrock": slow})
        played.until(second + detection_bound_s(ProbeTiming()) + 0.2)

        assert len(played.world.told("target.tripped")) == 1, second
