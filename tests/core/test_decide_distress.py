"""The whole policy in distress: a proxy in trouble, valve, panic, closed routes."""

import pytest

from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import ProbeKind, Verb
from world import CHAT, NOON_S, World, plan_of

REACH = ProbeKind.REACH


@pytest.fixture
def world() -> World:
    return World(plan_of(CHAT))


# --- a proxy in trouble


def test_trouble_is_told_once(world: World) -> None:
    """A proxy in trouble is told when it begins and when it ends; nothing moves by it."""
    for provider in ("bedrock", "google", "meta"):
        world.probe(provider, "ok")
    for _ in range(2):
        world.live("p1", "bedrock", "refused", 30)
        world.live("p1", "google", "refused", 30)
        world.tick(1.0)
    assert world.told("proxy.trouble") == [
        "p1 fails at every provider while they answer others: it is the one in trouble"
    ]
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}

    world.live("p1", "bedrock", "ok")
    world.tick(1.0)
    world.beat("p1")
    world.tick(1.0)
    assert world.told("proxy.trouble")[1:] == ["p1 is out of trouble: what it sees counts again"]
    assert world.phase("google") == "healthy"


# --- distress


def test_valve(world: World) -> None:
    """The last target out leaves the valve open for the one that returns first; it is said once."""
    for target in ("meta", "google", "bedrock"):
        world.trip(target)
    world.tick_for(3)

    assert world.shares() == {"meta": 100}
    assert world.told("route.valve") == ["all targets of chat are out, using safety valve: meta"]


def test_valve_is_not_said_with_every_table() -> None:
    """A table that is published for another reason does not say it again."""
    world = World(plan_of({"chat": {"bedrock": 100}, "small": {"google": 50, "meta": 50}}))
    world.trip("bedrock")
    world.say(Verb.SET_WEIGHTS, route="small", shares_bp={"meta": 10_000})
    world.tick(1.0)

    assert world.shares("small") == {"meta": 100}
    assert len(world.told("route.valve")) == 1


def test_valve_of_another(world: World) -> None:
    """When the valve opens for another, it is said again."""
    for target in ("meta", "google", "bedrock"):
        world.trip(target)
    world.say(Verb.DRAIN, target="meta")
    world.tick()

    assert world.shares() == {"google": 100}
    assert world.told("route.valve")[1:] == ["all targets of chat are out, using safety valve: google"]


def test_valve_from_the_start() -> None:
    """A valve in the first table of all is said too."""
    world = World(plan_of({"chat": {"bedrock": 100}}))
    world.trip("bedrock")
    world.table = None
    world.tick()

    assert len(world.told("route.valve")) == 2


def test_valve_of_a_single_target() -> None:
    """A route with a single target never ejects it: the same shares, but it is said."""
    world = World(plan_of({"chat": {"bedrock": 100}}))
    world.trip("bedrock")

    assert world.shares() == {"bedrock": 100}
    assert len(world.told("route.valve")) == 1


def test_closed() -> None:
    """A route with nobody eligible is closed, says why once, and opens again."""
    world = World(plan_of({"chat": {"bedrock": 100}}))
    for _ in range(2):
        world.probe("bedrock", "401")
        world.tick(1.0)
    world.tick_for(3)
    assert world.shares() == {}
    assert world.table is not None
    assert world.table.routes["chat"].closed == "no target is eligible: bedrock barred: HTTP 401"
    assert world.told("route.closed") == ["chat: no target is eligible: bedrock barred: HTTP 401"]

    world.probe("bedrock", "402")
    world.tick(1.0)
    assert len(world.told("route.closed")) == 1

    world.probe("bedrock", "ok")
    world.tick(1.0)
    assert world.shares() == {"bedrock": 100}


def test_closed_from_the_start() -> None:
    """A closed route in the first table of all is said too."""
    world = World(plan_of({"chat": {"bedrock": 100}}))
    for _ in range(2):
        world.probe("bedrock", "401")
        world.tick(1.0)
    world.table = None
    world.tick()

    assert len(world.told("route.closed")) == 2


def busy(answers: int, after_s: float = 0.0) -> World:
    """Bedrock is out after five requests, and google, which can carry ten a second, has answered the others."""
    world = World(plan_of({"chat": {"bedrock": 80, "google": 20}}, capacities={"google": 10.0}))
    world.trip("bedrock", "500")
    world.live("p1", "google", "ok", answers - 5)
    world.now_s = NOON_S + 10
    world.tick(after_s)
    return world


def test_panic() -> None:
    """More than the survivors can carry over half a minute is a panic, said once."""
    world = busy(301)
    world.live("p1", "google", "ok", 10)
    world.tick(1.0)

    assert world.shares() == {"bedrock": 80, "google": 20}
    assert world.told("route.panic") == ["chat: the survivors cannot carry the demand, cooldowns are ignored"]


def test_a_panic_does_not_come_and_go_at_its_edge() -> None:
    """Demand just under what the survivors can carry begins none, and ends none; a tenth to spare does."""

    def steady(world: World, for_s: int, first: int, second: int) -> dict[str, float]:
        for second_s in range(for_s):
            world.live("p1", "google", "ok", second if second_s % 2 else first)
            world.tick(1.0)
        return world.shares()

    calm, panicking = busy(95), busy(301)
    assert steady(calm, 28, 10, 9) == {"google": 100}
    assert steady(panicking, 44, 10, 9) == {"bedrock": 80, "google": 20}
    assert len(panicking.told("route.panic")) == 1
    assert steady(panicking, 44, 8, 9) == {"google": 100}


def test_no_panic() -> None:
    """As much as they can carry is none, and neither is more of it in a longer time."""
    assert busy(300).told("route.panic") == []
    assert busy(399, after_s=9.9).told("route.panic") == []
    assert busy(400, after_s=9.9).told("route.panic") != []


def test_demand_is_the_recent() -> None:
    """Demand is what was answered in the last half minute, failures and all, callers' faults not."""
    world = busy(301)
    world.tick(39.9)
    assert world.shares() == {"google": 100}

    failing = busy(290)
    failing.live("p1", "google", "500", 4)
    failing.live("p1", "google", "ok", 7)
    failing.tick()
    assert failing.shares() == {"bedrock": 80, "google": 20}

    calling = busy(290)
    calling.live("p1", "google", "400", 400)
    calling.tick()
    assert calling.shares() == {"google": 100}


@pytest.mark.parametrize("text", ["429", "slow_down"])
def test_what_is_turned_away_is_demand(text: str) -> None:
    """Requests that the survivor turns away are asked of it all the same; it has survived, and is overrun."""
    world = busy(200)
    world.live("p1", "google", text, 100)
    world.tick()
    assert world.told("route.panic") == []

    world.live("p1", "google", text, 11)
    world.tick(1.0)
    assert world.shares() == {"bedrock": 80, "google": 20}
    assert len(world.told("route.panic")) == 1


def test_an_overrun_survivor_is_told_once() -> None:
    """It turns requests away every second for a minute: panic all the while, told once, its limit twice."""
    world = busy(301)
    limit = Outcome(Fault.RATE_LIMIT, "HTTP 429", 429, 1.0)
    shares = []
    for _ in range(45):
        world.now_s += 1.0
        world.live("p1", "google", "ok", 10)
        world.live("p1", "google", limit, 5)
        world.live("p1", "bedrock", "ok", 5)
        world.tick()
        shares.append(world.shares())

    assert shares == [{"bedrock": 80, "google": 20}] * 45
    assert len(world.told("route.panic")) == 1
    assert len(world.told("target.throttled")) == 2
    assert len(world.told("target.unthrottled")) == 1


def test_demand_goes_on_in_a_panic() -> None:
    """What a target answers in spite of its cooldown is demand: a panic does not end because it helps."""
    world = busy(301)
    for _ in range(45):
        world.live("p1", "bedrock", "ok", 12)
        world.live("p1", "google", "ok", 3)
        world.tick(1.0)

    assert world.shares() == {"bedrock": 80, "google": 20}
    assert len(world.told("route.panic")) == 1


def test_demand_is_the_routes() -> None:
    """What is answered on targets of other routes is no demand of this one."""
    routes = {"chat": {"bedrock": 80, "google": 20}, "small": {"meta": 100}}
    world = World(plan_of(routes, capacities={"google": 10.0}))
    world.trip("bedrock", "500")
    world.live("p1", "meta", "ok", 9_000)
    world.tick(1.0)

    assert world.shares() == {"google": 100}
