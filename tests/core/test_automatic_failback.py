"""Failbacks that begin by themselves."""

from typing import Any

import pytest
from msgspec.structs import replace
from test_automatic import a_world, away, down, well

from pointsman.core.automatic import probed, waits
from pointsman.core.evidence import Verb
from pointsman.core.model import Bucket, Health, OnExpiry, Overlay, OverlayKind, Phase
from pointsman.core.ramp_model import RampKind, RampPhase
from world import NOON_S, World


@pytest.fixture
def world() -> World:
    return a_world()


def left(world: World, **fields: Any) -> Overlay:
    """Bedrock was left at noon, and is well."""
    overlay = Overlay(
        id="f", kind=OverlayKind.FAILOVER, route="chat", shares_bp={"google": 6_000, "meta": 4_000},
        owner="pointsman", reason="x", created_s=NOON_S, not_after_s=0.0, on_expiry=OnExpiry.KEEP,
        away=("bedrock",), auto_back=True,
    )  # fmt: skip
    overlay = replace(overlay, **fields)
    health = Health(phase=Phase.HEALTHY, probes=(Bucket(NOON_S + 900, {"ok": 99, "failed": 1}),))
    world.state = replace(world.state, overlays=(overlay,), health={**world.state.health, "bedrock": health})
    return overlay


def waiting(world: World, overlay: Overlay, now_s: float = NOON_S + 1_000, **health: Any) -> str:
    changed = replace(world.state.health["bedrock"], **health)
    state = replace(world.state, health={**world.state.health, "bedrock": changed})
    assert state.plan is not None
    return waits(state, state.plan, overlay, now_s)


def test_earned(world: World) -> None:
    """Healthy, long enough away, and 99 % of enough probes good: it is earned."""
    assert waiting(world, left(world)) == ""


@pytest.mark.parametrize(
    ("health", "why"),
    [
        ({"phase": Phase.SUSPECT}, "bedrock is suspect"),
        ({"phase": Phase.UNKNOWN}, "bedrock is unknown"),
        ({"probes": (Bucket(NOON_S + 900, {"ok": 19}),)}, "bedrock: 19 of 20 probes seen"),
        ({"probes": (Bucket(NOON_S + 900, {"ok": 20}),)}, ""),
        (
            {"probes": (Bucket(NOON_S + 900, {"ok": 98, "failed": 2}),)},
            "bedrock: 98.0 % of its probes succeeded",
        ),
        ({"probes": (Bucket(NOON_S + 300, {"ok": 99}),)}, "bedrock: 0 of 20 probes seen"),
    ],
)
def test_not_earned(world: World, health: dict[str, Any], why: str) -> None:
    """What is missing is said."""
    assert waiting(world, left(world), **health) == why


def test_the_minimum_stay(world: World) -> None:
    """It stays away for five minutes at least, however well it does."""
    overlay = left(world, created_s=NOON_S + 750)

    assert waiting(world, overlay) == "it stays away for another 50 s at least"
    assert waiting(world, overlay, NOON_S + 1_050) == ""


def test_the_budget(world: World) -> None:
    """No more than two failbacks of a route begin within an hour."""
    overlay = left(world, returns=(NOON_S - 2_600, NOON_S))

    assert waiting(world, overlay, NOON_S + 999) == "2 failbacks began within the last hour"
    assert waiting(world, overlay, NOON_S + 1_000) == ""


def test_under_a_stronger_one(world: World) -> None:
    """Under a pin it waits for its end."""
    overlay = left(world)
    pin = replace(overlay, kind=OverlayKind.MANUAL, owner="ann")
    world.state = replace(world.state, overlays=(overlay, pin))

    assert waiting(world, overlay) == "the manual of ann lies over it"


def test_all_that_were_left(world: World) -> None:
    """Each target that was left must be well; one that is gone from the configuration need not."""
    both = left(world, away=("bedrock", "google", "gone"))
    unknown = replace(world.state.health["google"], phase=Phase.UNKNOWN)
    world.state = replace(world.state, health={**world.state.health, "google": unknown})

    assert waiting(world, both) == "google is unknown"
    assert waiting(world, left(world, away=("bedrock", "gone"))) == ""


def test_a_stranger(world: World) -> None:
    """A target of which nothing is known is not well."""
    overlay = left(world)
    state = replace(world.state, health={})
    assert state.plan is not None

    assert waits(state, state.plan, overlay, NOON_S + 1_000) == "bedrock is unknown"


def test_probed(world: World) -> None:
    """Probes that say how it answers are counted for the window; a caller's fault and a refused key are not."""
    for text in ("ok", "ok", "500", "400", "401"):
        world.probe("meta", text)
    world.tick(1)
    assert world.state.plan is not None

    assert probed(world.state.health["meta"], world.state.plan, world.now_s) == (2, 1)
    assert probed(world.state.health["meta"], world.state.plan, world.now_s + 700) == (0, 0)


def test_it_begins(world: World) -> None:
    """An earned failback begins by itself, with what earned it, as a ramp of its own."""
    left(world)
    world.now_s = NOON_S + 1_000
    world.serve("p1")
    world.tick()

    assert world.told("failback.begun") == [
        "failback on chat begins: bedrock held 99 of 100 probes good within 10 min"
    ]
    ramp = world.ramp()
    assert (ramp.kind, ramp.phase, ramp.owner, ramp.reason) == (
        RampKind.FAILBACK,
        RampPhase.PRECHECK,
        "pointsman",
        "bedrock held 99 %",
    )
    overlay = away(world)
    assert overlay is not None
    assert overlay.returns == (world.now_s,)
    world.tick(1)
    assert len(world.told("failback.begun")) == 1


@pytest.mark.parametrize("case", ["not auto", "an emergency", "a ramp", "frozen", "not earned"])
def test_it_does_not_begin(world: World, case: str) -> None:
    """Not without the word auto, of an emergency, while something moves, in a freeze, or unearned."""
    left(
        world,
        auto_back=case != "not auto",
        kind=OverlayKind.EMERGENCY if case == "an emergency" else OverlayKind.FAILOVER,
        created_s=NOON_S + (999 if case == "not earned" else 0),
    )
    world.now_s = NOON_S + 1_000
    if case == "a ramp":
        world.say(Verb.CANARY, route="chat", **{"from": "google", "to": "meta"})
    if case == "frozen":
        world.say(Verb.FREEZE)
    world.tick()

    assert world.told("failback.begun") == []


def test_there_and_back() -> None:
    """Out for long, left, well again, back by itself: at its end all is as it was."""
    world = a_world()
    world.trip("bedrock")
    down(world, 150)
    well(world, 1_200)

    assert world.ramp().phase is RampPhase.PROMOTED
    assert world.state.overlays == ()
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}
