"""Several proxies, several targets of a provider: whose failure is it, and whom does it concern."""

import msgspec
import pytest
from msgspec.structs import replace

from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import STREAM, ProbeKind, Verb
from pointsman.core.model import Target
from world import CHAT, NOON_S, World, plan_of

WRONG_KEY = Outcome(Fault.CREDENTIAL, "HTTP 401", 401)


@pytest.fixture
def world() -> World:
    return World(plan_of(CHAT))


def test_one_proxys_wrong_key_bars_nobody(world: World) -> None:
    """One proxy's key is refused again and again while another's is accepted: nothing moves."""
    for _ in range(20):
        world.live("p1", "bedrock", WRONG_KEY, 5)
        world.live("p2", "bedrock", "ok")
        world.tick(1.0)

    assert world.told("target.barred") == []
    assert len(world.tables) == 1


def test_a_key_that_nobody_is_let_in_with_bars(world: World) -> None:
    """Once the last success is 5 s old, refusals count."""
    world.live("p2", "bedrock", "ok")
    world.tick(1.0)
    world.live("p1", "bedrock", WRONG_KEY, 5)
    world.tick(3.9)
    assert world.shares()["bedrock"] == 50

    world.live("p1", "bedrock", WRONG_KEY, 5)
    world.tick(0.2)

    assert "bedrock" not in world.shares()


def test_an_old_success_in_another_lane_does_not_hide_a_proxys_trouble(world: World) -> None:
    """A proxy that lost its network is the one in trouble, whatever its streams did an hour ago."""
    world.live("p1", "meta", "ok", lane=STREAM)
    world.tick(3_600.0)
    for name in ("bedrock", "google", "meta"):
        world.probe(name, "ok", ProbeKind.REACH)
    for name in ("bedrock", "google", "meta"):
        world.live("p1", name, "refused", 9)
    world.tick(0.5)

    assert world.told("target.tripped") == []
    assert len(world.told("proxy.trouble")) == 1


def test_failures_after_a_late_success_elsewhere_make_a_run(world: World) -> None:
    """A success of another proxy after the first failure does not hide the five that follow it."""
    world.live("p1", "bedrock", "500")
    report = world.reports["p1"]
    world.now_s += 0.1
    world.live("p2", "bedrock", "ok")
    entry = report.targets["bedrock"]
    lane = entry.lanes["unary"]
    entry.lanes = {"unary": replace(lane, streak=6, times=tuple(world.now_s + n / 10 for n in range(5)))}
    world.tick(0.6)

    assert world.phase("bedrock") == "cooldown"


def test_a_refusing_provider_takes_its_other_targets_along() -> None:
    """What refuses connections to one model refuses them to all: an idle sister is out as well."""
    plan = plan_of(CHAT)
    sister = Target(name="sister", provider="bedrock", model="bedrock-2")
    world = World(replace(plan, targets={**plan.targets, "sister": sister}))
    world.live("p1", "bedrock", "refused", 5)
    world.tick(0.2)

    assert (world.phase("bedrock"), world.phase("sister")) == ("cooldown", "cooldown")


def test_half_of_the_traffic_is_streamed(world: World) -> None:
    """A target that is dead for streams and whole answers alike is out with the fifth failure of all."""
    world.live("p1", "bedrock", "reset", 2, lane=STREAM)
    world.live("p1", "bedrock", "reset", 2)
    world.tick(0.2)
    assert world.phase("bedrock") == "suspect"

    world.live("p2", "bedrock", "reset", 1, lane=STREAM)
    world.tick(0.2)

    assert world.phase("bedrock") == "cooldown"


def test_a_minute_of_failures_that_is_long_over(world: World) -> None:
    """Eight minutes without a daemon, failures in the midst of them and all well since: nobody is ejected."""
    world.live("p1", "bedrock", "ok")
    world.tick(1.0)
    world.live("p1", "bedrock", "500", 300)
    world.live("p1", "bedrock", "ok", 100)
    world.tick(480.0)

    assert world.told("target.tripped") == []


def test_a_failing_model_leaves_its_sister_alone() -> None:
    """A model that answers 500 says nothing about another of its provider."""
    plan = plan_of(CHAT)
    sister = Target(name="sister", provider="bedrock", model="bedrock-2")
    world = World(replace(plan, targets={**plan.targets, "sister": sister}))
    world.live("p1", "bedrock", "500", 5)
    world.tick(0.2)

    assert (world.phase("bedrock"), world.phase("sister")) == ("cooldown", "unknown")


def test_of_two_namesakes_the_younger_counts(world: World) -> None:
    """Two proxies of one name: the older one's reports are left out, once said, and nothing counts twice."""
    world.live("web", "bedrock", "ok", 10)
    older = replace(world.reports["web"], boot="b0", seq=99, started_s=NOON_S - 100)
    world.tick(1.0)
    for _ in range(3):
        world.reports["web"] = older
        world.tick(1.0)

    assert len(world.told("proxy.twin")) == 1
    assert world.state.vantages["web"].boot == "b1"


def test_a_lone_witness_is_none(world: World) -> None:
    """If only one provider was ever heard of, its silence needs no witness."""
    for _ in range(3):
        world.probe("bedrock", "refused", ProbeKind.REACH)
        world.tick(2.0)

    assert world.phase("bedrock") == "cooldown"


def test_proxies_success_does_not_prove_the_leaders_way(world: World) -> None:
    """The leader's way out is dead, traffic flows: an idle target is not ejected by the leader's silence."""
    for name in ("bedrock", "google", "meta"):
        world.probe(name, "ok", ProbeKind.REACH)
    for _ in range(4):
        world.live("p1", "google", "ok")
        for name in ("bedrock", "google", "meta"):
            world.probe(name, "unreachable", ProbeKind.REACH)
        world.tick(2.0)

    assert world.told("target.tripped") == []
    assert world.decision is not None
    assert world.decision.yields


def test_the_leaders_own_trouble_fails_no_trial(world: World) -> None:
    """While the leader's way out is in doubt, a silent trial is nobody's failure."""
    world.trip("bedrock")
    for name in ("google", "meta", "bedrock"):
        world.probe(name, "unreachable", ProbeKind.REACH)
    world.tick(60.0)
    world.probe("bedrock", "unreachable")
    world.tick(0.5)

    assert (world.phase("bedrock"), world.state.health["bedrock"].failures) == ("half_open", 5)


def test_a_failover_that_runs_out_comes_back_slowly(world: World) -> None:
    """The end of --for is a failback: by slow start."""
    world.say(Verb.FAILOVER, **{"from": "bedrock", "to": "google", "for_s": 60.0})
    world.tick()
    world.tick(60.0)

    assert world.shares()["bedrock"] == 5


def test_a_lone_primary_recovers_slowly_over_its_chain() -> None:
    """The only weighted target comes back by slow start too: its chain carries the rest."""
    world = World(plan_of({"chat": {"bedrock": 100, "google": 0}}))
    world.trip("bedrock")
    world.tick(60.0)
    world.probe("bedrock", "ok")
    world.probe("bedrock", "ok")
    world.tick(0.5)

    assert world.shares() == {"bedrock": 10, "google": 90}


def test_a_configuration_of_another_fleet_is_refused(world: World) -> None:
    """A state that was moved, or a file that was: neither takes the other's place."""
    plan = replace(plan_of(CHAT), environment="staging", digest="second")
    word = world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan))
    decision = world.tick()

    assert [(a.word, a.ok) for a in decision.answers] == [(word, False)]
    assert "is for staging/default, and this is production/default" in decision.answers[0].text


def test_a_baseline_that_no_longer_fits_gives_way(world: World) -> None:
    """Weights that were set, over a target that now speaks another family: the file's take their place."""
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"bedrock": 4_000, "meta": 6_000})
    world.tick()
    plan = plan_of(
        {"chat": {"bedrock": 50, "google": 50}, "claude": {"meta": 100}},
        families={"meta": "anthropic"},
        digest="second",
    )
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan))
    world.tick()

    assert world.shares() == {"bedrock": 50, "google": 50}
