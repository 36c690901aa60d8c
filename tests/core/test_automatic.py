"""Failovers that begin by themselves."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.automatic import automatic
from pointsman.core.evidence import Verb
from pointsman.core.model import Overlay, OverlayKind, Phase, Policy, RampPlan
from pointsman.core.ramp_model import RampKind
from ramps import POLICY
from world import CHAT, World, plan_of

RAMPS = RampPlan(canary=POLICY, failover=POLICY, failback=POLICY)
RULES = Policy(failback_window_s=600.0, failback_min_samples=20, failback_min_stay_s=300.0)


def a_world(policy: Policy = RULES, routes: Any = CHAT) -> World:
    made = World(replace(plan_of(routes, policy=policy), ramp=RAMPS))
    made.serve("p1")
    return made


@pytest.fixture
def world() -> World:
    return a_world()


def down(world: World, seconds: float, target: str = "bedrock") -> None:
    """The target fails its probes for so long."""
    for _ in range(round(seconds / 5)):
        world.beat("p1")
        for other in ("bedrock", "google", "meta"):
            world.probe(other, "refused" if other == target else "ok")
        world.tick(5.0)


def well(world: World, seconds: float) -> None:
    for _ in range(round(seconds / 5)):
        world.serve("p1")
        for target in ("bedrock", "google", "meta"):
            world.probe(target, "ok")
            world.moved("p1", target, 50)
        world.tick(5.0)


def away(world: World) -> Overlay | None:
    return next((o for o in world.state.overlays if o.kind is OverlayKind.FAILOVER), None)


# --- failover


def test_a_short_trip(world: World) -> None:
    """Up to two minutes out is no failover: it returns by slow start."""
    world.trip("bedrock")
    down(world, 55)
    well(world, 200)
    assert world.state.overlays == ()

    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}


def test_a_long_trip(world: World) -> None:
    """Out for longer is a failover, which nothing but a failback ends; no share moves for it."""
    world.trip("bedrock")
    tripped_s = world.now_s
    down(world, 115)
    shares = world.shares()
    down(world, 5)
    overlay = away(world)

    assert overlay is not None
    assert overlay == Overlay(
        id=f"failover:chat:{round(world.now_s * 1000)}", kind=OverlayKind.FAILOVER, route="chat",
        shares_bp={"google": 6_000, "meta": 4_000}, owner="pointsman", reason=overlay.reason,
        created_s=world.now_s, not_after_s=0.0, on_expiry=overlay.on_expiry, away=("bedrock",), auto_back=True,
    )  # fmt: skip
    assert world.now_s - tripped_s == pytest.approx(120)
    assert world.told("failover.begun") == [
        (
            "failover on chat: bedrock out for 120 s: trial failed: connection refused; "
            "it returns by failback only, now google 60 %, meta 40 %"
        )
    ]
    assert world.shares() == shares
    well(world, 200)
    assert world.phase("bedrock") == "healthy"
    assert world.shares() == shares


def test_the_setting() -> None:
    """The time is a setting, and 0 is never; without the word auto it stays."""
    never = a_world(replace(RULES, failover_after_s=0.0))
    sooner = a_world(replace(RULES, failover_after_s=30.0, failback_auto=False))
    for made in (never, sooner):
        made.trip("bedrock")
        down(made, 200)

    assert away(never) is None
    assert away(sooner) is not None
    assert away(sooner).auto_back is False  # type: ignore[union-attr]


def test_a_second_target(world: World) -> None:
    """A second target that is lost is left too, in the same failover; both have to come back."""
    world.trip("bedrock")
    world.trip("google")
    down(world, 120)
    first = away(world)
    for _ in range(2):
        world.probe("bedrock", "refused")
        world.tick(0.1)
    overlay = away(world)

    assert first is not None
    assert overlay is not None
    assert set(overlay.away) >= {"bedrock"}
    assert overlay.shares_bp.keys() & set(overlay.away) == set()


def test_who_is_out_for_a_moment(world: World) -> None:
    """Another that is out, or limited, or in a slow start just then keeps its share: it is not what is left."""
    world.trip("bedrock")
    down(world, 115)
    world.live("p1", "google", "429")
    world.tick(1)
    assert world.shares() == {"meta": 100}
    down(world, 5)
    overlay = away(world)

    assert overlay is not None
    assert overlay.shares_bp == {"google": 6_000, "meta": 4_000}
    assert world.shares() == {"meta": 100}


def test_a_spare_of_the_chain() -> None:
    """Where no weighted target is left the chain's first that is well takes it, not one that is out too."""
    world = a_world(routes={"chat": {"bedrock": 100, "google": 0, "meta": 0}})
    world.trip("bedrock")
    world.trip("google")
    down(world, 60, "google")
    state = replace(
        world.state.health["bedrock"], phase=Phase.COOLDOWN, out_since_s=world.now_s - 120, reason="x"
    )
    world.state = replace(
        world.state,
        health={**world.state.health, "bedrock": replace(state, cooldown_until_s=world.now_s + 99)},
    )
    world.beat("p1")
    world.tick(1)
    overlay = away(world)

    assert overlay is not None
    assert overlay.shares_bp == {"meta": 10_000}


def test_nobody_is_left() -> None:
    """With nobody to go to there is no failover."""
    world = a_world(routes={"chat": {"bedrock": 100}, "small": {"google": 50, "meta": 50}})
    world.trip("bedrock")
    down(world, 200)

    assert away(world) is None


def test_an_only_target_that_is_drained_away() -> None:
    """Nor where all others are drained, so that nothing could serve the route."""
    world = a_world(routes={"chat": {"bedrock": 50, "google": 50}, "small": {"meta": 100}})
    world.say(Verb.DRAIN, target="google")
    world.tick()
    world.trip("bedrock")
    down(world, 200)

    assert away(world) is None


def test_a_closed_route() -> None:
    """A route that nothing can serve, the lost target included, has no failover either."""
    world = a_world(routes={"chat": {"bedrock": 100}, "small": {"google": 50, "meta": 50}})
    world.trip("bedrock")
    down(world, 200)
    assert world.state.plan is not None
    state, notes = automatic(world.state, world.state.plan, {"chat": {}}, {}, world.now_s)

    assert (state, notes) == (world.state, [])


def test_repeated_trips(world: World) -> None:
    """The third trip within an hour is a failover at once."""
    for _ in range(2):
        world.trip("bedrock")
        well(world, 300)
    world.trip("bedrock")
    assert away(world) is None
    world.tick(1)  # with a table that has no share for it any more
    overlay = away(world)

    assert overlay is not None
    assert overlay.reason == "bedrock 3 trips within an hour: 5 × connection refused"


def test_trips_of_another_hour(world: World) -> None:
    """Trips that are further apart are each for itself."""
    for _ in range(3):
        world.trip("bedrock")
        well(world, 2_000)

    assert away(world) is None


@pytest.mark.parametrize("kind", [OverlayKind.MANUAL, OverlayKind.EMERGENCY])
def test_what_an_operator_said(world: World, kind: OverlayKind) -> None:
    """Under a pin or an emergency nothing is decided over the operator's head."""
    if kind is OverlayKind.MANUAL:
        world.say(Verb.PIN, route="chat", shares_bp={"google": 10_000}, for_s=3_600.0)
    else:
        world.say(Verb.FAILOVER, route="chat", emergency=True, **{"from": "meta", "to": "google"})
    world.tick()
    world.trip("bedrock")
    down(world, 300)

    assert away(world) is None


def test_a_route_that_moves() -> None:
    """While a ramp other than a canary moves the route, it is the ramp's to end."""
    world = a_world()
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000}, over_s=3_000.0)
    world.tick()
    world.trip("bedrock")
    down(world, 300)

    assert away(world) is None


def test_over_a_canary(world: World) -> None:
    """A failover lies over a canary, and has nothing of its shares."""
    world.say(Verb.CANARY, route="chat", **{"from": "google", "to": "meta"}, max_hold_s=1e6)
    world.tick()
    world.trip("bedrock")
    down(world, 125)
    overlay = away(world)

    assert overlay is not None
    assert overlay.shares_bp == {"google": 6_000, "meta": 4_000}
    assert world.ramp().kind is RampKind.CANARY
    assert "overlaid" in world.ramp().held_by


def test_a_freeze(world: World) -> None:
    """While all is frozen none begins; after it, it does."""
    world.say(Verb.FREEZE, for_s=400.0)
    world.tick()
    world.trip("bedrock")
    down(world, 300)
    assert away(world) is None
    down(world, 150)

    assert away(world) is not None


def test_a_target_that_serves(world: World) -> None:
    """Where the target serves although it is out, in distress, it is not left."""
    for target in ("google", "meta", "bedrock"):
        world.trip(target)
    for _ in range(30):
        world.beat("p1")
        world.tick(5)
    served = world.shares()
    overlay = away(world)

    assert len(served) == 1
    assert overlay is None or not served.keys() & set(overlay.away)
