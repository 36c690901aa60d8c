"""What a freeze keeps from happening, and what it does not."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from test_words import said

from pointsman.core.evidence import Verb, Word
from pointsman.core.model import Freeze, RampPlan
from pointsman.core.ramp_model import RampPhase
from pointsman.core.words import obey
from ramps import POLICY
from world import NOON_S, World, plan_of

ROUTES = {"chat": {"bedrock": 50, "google": 30, "meta": 20}, "small": {"meta": 60, "google": 40}}
PLAN = replace(plan_of(ROUTES), ramp=RampPlan(canary=POLICY, failover=POLICY, failback=POLICY))
FROZEN = (
    "all movement is frozen until 14:00:02 by bob (launch): pointsman unfreeze first, or make it an emergency"
)
MOVING: dict[Verb, dict[str, Any]] = {
    Verb.APPLY_PLAN: {"plan": msgspec.to_builtins(plan_of(ROUTES, digest="other"))},
    Verb.SET_WEIGHTS: {"route": "chat", "shares_bp": {"google": 10_000}},
    Verb.FAILOVER: {"from": "bedrock", "to": "google"},
    Verb.FAILBACK: {},
    Verb.ROLLBACK: {"version": "7.1", "routes": {"chat": {"google": 10_000}}},
    Verb.PIN: {"route": "chat", "shares_bp": {"google": 10_000}, "for_s": 60.0},
    Verb.UNPIN: {"route": "chat"},
    Verb.DRAIN: {"target": "meta"},
    Verb.UNDRAIN: {"target": "meta"},
    Verb.CANARY: {"route": "chat", "from": "bedrock", "to": "google"},
    Verb.RAMP_SET: {"route": "small", "percent": 50},
    Verb.RAMP_PROMOTE: {"route": "small"},
}


@pytest.fixture
def world() -> World:
    """Frozen, with a canary under way on the small route."""
    made = World(PLAN)
    made.serve("p1")
    said(made, Verb.CANARY, **{"route": "small", "from": "meta", "to": "google"})
    said(made, Verb.FREEZE, author="bob", reason="launch")
    return made


def test_freeze() -> None:
    """Everything is frozen for two hours, or as long as is said, and free again by a word or by itself."""
    world = World(PLAN)
    assert said(world, Verb.FREEZE, reason="launch") == (
        True,
        "all movement is frozen for 7200 s; aborts and emergencies still act",
    )
    assert world.state.freeze == Freeze(owner="ann", reason="launch", until_s=NOON_S + 7_201)
    assert said(world, Verb.UNFREEZE) == (True, "movement is free again")
    assert said(world, Verb.UNFREEZE) == (True, "nothing was frozen")
    said(world, Verb.FREEZE, for_s=10.0)
    world.tick(9.9)
    assert world.state.freeze is not None
    world.tick(0.2)
    assert world.state.freeze is None
    assert world.told("freeze.over") == ["the freeze of ann is over: movement is free again"]


@pytest.mark.parametrize("for_s", [0, -1, "2h", True])
def test_how_long_a_freeze_lasts(world: World, for_s: Any) -> None:
    """A duration that is none is refused, 0 too."""
    assert said(world, Verb.FREEZE, for_s=for_s)[0] is False


@pytest.mark.parametrize("verb", MOVING)
def test_refused(world: World, verb: Verb) -> None:
    """A word that moves traffic, or lets something move it, is refused, with who froze it, why, and what to do."""
    before = world.shares()

    assert said(world, verb, **MOVING[verb]) == (False, FROZEN)
    assert world.shares() == before


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        (Verb.RAMP_PAUSE, {"route": "small"}),
        (Verb.RAMP_RESUME, {"route": "small"}),
        (Verb.RAMP_APPROVE, {"route": "small"}),
        (Verb.RAMP_OVERRULE, {"route": "small"}),
        (Verb.RAMP_ABORT, {"route": "small"}),
        (Verb.RESET, {"target": "meta"}),
        (Verb.FREEZE, {"for_s": 60.0}),
        (Verb.UNFREEZE, {}),
        (Verb.FAILOVER, {"from": "bedrock", "to": "google", "emergency": True}),
    ],
)
def test_obeyed(world: World, verb: Verb, args: dict[str, Any]) -> None:
    """Words that move nothing, aborts and emergencies are obeyed."""
    assert said(world, verb, **args)[0]


def test_a_frozen_ramp(world: World) -> None:
    """A ramp stays where it is, whatever its gates say, and goes on when the freeze is over."""
    for _ in range(100):
        world.serve("p1")
        for target in ("meta", "google"):
            world.moved("p1", target, 100, route="small")
        world.tick(1)
    assert world.ramp("small").step == 0
    assert world.ramp("small").hold == "frozen: bob froze all movement: launch"
    said(world, Verb.UNFREEZE)

    assert world.ramp("small").step == 1


def test_a_frozen_ramp_aborts(world: World) -> None:
    """An abort acts in a freeze too."""
    for _ in range(10):
        world.serve("p1")
        world.moved("p1", "google", 50, 50, route="small")
        world.moved("p1", "meta", 100, route="small")
        world.tick(1)

    assert world.ramp("small").phase is RampPhase.ABORTED
    assert world.shares("small") == {"meta": 60, "google": 40}


def test_a_daemons_own_word(world: World) -> None:
    """What a daemon that takes over says by itself has no place in the stream, and is not an operator's."""
    word = Word(id="", verb=Verb.APPLY_PLAN, author="file", reason="start", args=MOVING[Verb.APPLY_PLAN])

    assert obey(world.state, [word], NOON_S)[1][0].text != FROZEN
