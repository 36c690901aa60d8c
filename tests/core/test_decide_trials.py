"""Live trials of half-open targets, and other leaders."""

import pytest
from msgspec.structs import replace

from pointsman.core.evidence import ProbeKind, Verb
from pointsman.core.table import Trial
from world import CHAT, NOON_S, World, plan_of

REACH = ProbeKind.REACH
GRANT = int(NOON_S)  # a stranger begins here


@pytest.fixture
def world() -> World:
    return World(plan_of(CHAT))


def half_open(*proxies: str, free: tuple[str, ...] = ("bedrock",)) -> World:
    """Bedrock, where generation is not allowed, is half-open, and the proxies are live."""
    world = World(plan_of(CHAT, free=free))
    world.trip("bedrock")
    world.tick(59.0)
    for proxy in proxies:
        world.beat(proxy)
    world.tick(1.0)
    assert world.phase("bedrock") == "half_open"
    return world


def trials(world: World) -> tuple[Trial, ...]:
    assert world.table is not None
    return world.table.trials


def test_a_trial_is_granted() -> None:
    """Where generation is not allowed, one proxy gets leave to try."""
    assert trials(half_open("p1", "p2")) == (Trial(target="bedrock", proxy="p2", grant=GRANT + 1),)
    assert trials(half_open("p2", "p1")) == (Trial(target="bedrock", proxy="p2", grant=GRANT + 1),)


def test_the_leader_tries_first() -> None:
    """Where generation is allowed, the leader has 15 s for it before proxies are asked."""
    world = half_open("p1", free=())
    assert trials(world) == ()

    world.tick(10.0)
    world.beat("p1")
    world.tick(4.9)
    assert trials(world) == ()

    world.tick(0.1)
    assert trials(world) == (Trial(target="bedrock", proxy="p1", grant=GRANT + 2),)


def test_nobody_to_ask() -> None:
    """Without a live proxy there is no trial, and a reach probe must do."""
    world = half_open()
    world.probe("bedrock", "ok", REACH)
    world.probe("bedrock", "ok", REACH)
    world.tick(1.0)

    assert trials(world) == ()
    assert world.phase("bedrock") == "recovering"


def test_reach_does_not_do_with_a_proxy() -> None:
    """With a proxy to ask, or with generation allowed, a reach probe does not do."""
    for world in (half_open("p1"), half_open(free=())):
        for _ in range(2):
            world.probe("bedrock", "ok", REACH)
        world.tick(1.0)
        assert world.phase("bedrock") == "half_open"


@pytest.mark.parametrize("trouble", ["drained", "barred", "throttled"])
def test_no_trial_of_the_unfit(trouble: str) -> None:
    """Who is drained, barred or rate limited is not tried."""
    world = half_open("p1")
    if trouble == "drained":
        world.say(Verb.DRAIN, target="bedrock")
    for _ in range(2):
        world.probe("bedrock", {"barred": "401", "throttled": "429", "drained": "ok"}[trouble], REACH)
    world.tick(1.0)

    assert trials(world) == ()
    assert world.phase("bedrock") == "half_open"


def test_unknown_targets_are_not_tried() -> None:
    """A target of which nothing is known is not tried."""
    world = half_open("p1")
    bare = replace(world.state, health={})
    world.state = bare
    world.tick(1.0)

    assert trials(world) == ()


# --- another leader


def test_another_leader_goes_on(world: World) -> None:
    """Everything that a decision needs comes back from the store, to the bit."""
    world.live("p1", "bedrock", "500", 4)
    world.live("p1", "google", "429")
    world.probe("meta", "402")
    world.say(Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)
    world.tick(1.0)
    before = world.state
    world.succeed()

    assert world.state == before
    world.live("p1", "bedrock", "500", 1)
    world.tick(1.0)
    assert world.phase("bedrock") == "cooldown"
    assert str(world.tables[-1].version).startswith("8.")


def test_a_lost_save_is_made_good(world: World) -> None:
    """If a decision could not be saved, the next one from the same state comes to the same."""
    before, table = world.state, world.table
    world.live("p1", "bedrock", "500", 5)
    world.tick(1.0)
    lost = world.state
    world.state, world.table = before, table
    world.tick(0.0)

    assert world.state == lost


def test_a_lost_publication_is_made_good(world: World) -> None:
    """If what was saved could not be published, it is on the next tick."""
    table = world.table
    world.trip("bedrock")
    world.table = table
    world.tick(0.5)

    assert world.shares() == {"google": 60, "meta": 40}
