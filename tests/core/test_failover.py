"""Failover and failback by an operator's word, beyond their shares."""

from typing import Any

import pytest
from msgspec.structs import replace
from test_words import said

from pointsman.core.evidence import Verb
from pointsman.core.model import Overlay, OverlayKind, RampPlan
from pointsman.core.ramp_model import Ramp, RampKind, RampPhase
from ramps import POLICY
from world import NOON_S, World, plan_of

RAMPS = RampPlan(canary=POLICY, failover=POLICY, failback=POLICY)
ROUTES = {"chat": {"bedrock": 50, "google": 30, "meta": 20}, "small": {"meta": 60, "google": 40}}


@pytest.fixture
def world() -> World:
    made = World(replace(plan_of(ROUTES), ramp=RAMPS))
    made.serve("p1")
    return made


def left(source: str, goal: str, route: str = "chat", **args: Any) -> dict[str, Any]:
    return {"route": route, "from": source, "to": goal, **args}


def overlay(world: World, route: str = "chat") -> Overlay:
    return next(o for o in world.state.overlays if o.route == route)


# --- gradual


def test_gradual(world: World) -> None:
    """A gradual failover is a ramp, on every route that uses the target."""
    ok, text = said(world, Verb.FAILOVER, **{"from": "google", "to": "meta", "mode": "gradual"})

    assert ok
    assert text == (
        "failover: chat: google → meta step by step from bedrock 50 %, google 30 %, meta 20 % to bedrock 50 %, "
        "meta 50 %; small: google → meta step by step from meta 60 %, google 40 % to meta 100 %"
    )
    ramp = world.ramp()
    assert (ramp.id, ramp.kind, ramp.source, ramp.goal) == (
        "failover:chat:2-0",
        RampKind.FAILOVER,
        "google",
        "meta",
    )
    assert ramp.from_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert ramp.to_bp == {"bedrock": 5_000, "meta": 5_000}
    assert (ramp.owner, ramp.reason, ramp.created_s) == ("ann", "a test", NOON_S + 1)
    assert world.ramp("small").to_bp == {"meta": 10_000}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"mode": "canary"}, "there is no mode 'canary'; there are: gradual, immediate"),
        (
            {"mode": "gradual", "emergency": True},
            "an emergency does not wait: leave out --emergency, or --mode gradual",
        ),
        (
            {"mode": "gradual", "for_s": 60.0},
            "a gradual failover ends by failback, not by a time: leave out --for",
        ),
    ],
)
def test_wrong_modes(world: World, args: dict[str, Any], text: str) -> None:
    """A mode that is none, or does not go with the rest, is refused."""
    assert said(world, Verb.FAILOVER, **left("bedrock", "google", **args)) == (False, text)


@pytest.mark.parametrize(
    "args", [{"mode": "immediate", "for_s": 60.0}, {"mode": "", "emergency": True}, {"mode": None}]
)
def test_immediate(world: World, args: dict[str, Any]) -> None:
    """Without a word about it, it is immediate."""
    assert said(world, Verb.FAILOVER, **left("bedrock", "google", **args))[0]
    assert world.shares() == {"google": 80, "meta": 20}


def test_gradual_where_something_moves(world: World) -> None:
    """While a ramp moves a route no other may."""
    said(world, Verb.CANARY, **left("bedrock", "google"))

    assert said(world, Verb.FAILOVER, **left("bedrock", "google", mode="gradual")) == (
        False,
        (
            "canary on chat (bedrock → google) is under way: wait for its end, or end it "
            "(pointsman canary abort chat)"
        ),
    )


def test_gradual_under_a_pin(world: World) -> None:
    """It begins from what the pin lies over, not from the pin's shares, and waits for its end."""
    said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)
    assert said(world, Verb.FAILOVER, **left("meta", "google", mode="gradual"))[0]

    assert world.ramp().from_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert world.ramp().hold.startswith("overlaid: ")
    assert world.shares() == {"meta": 100}


def test_gradual_of_nothing(world: World) -> None:
    """What has no share beneath the pin cannot be moved step by step."""
    said(world, Verb.PIN, route="small", shares_bp={"bedrock": 10_000}, for_s=60.0)

    assert said(world, Verb.FAILOVER, **left("bedrock", "google", "small", mode="gradual")) == (
        False,
        "bedrock has no share of small: there is nothing to move",
    )


# --- what was left


def test_left_twice(world: World) -> None:
    """A failover over another leaves the targets of both, and keeps what failbacks began lately."""
    said(world, Verb.FAILOVER, **left("bedrock", "google"))
    overlays = tuple(replace(o, returns=(NOON_S,)) for o in world.state.overlays)
    world.state = replace(world.state, overlays=overlays)
    said(world, Verb.FAILOVER, **left("google", "meta"))

    assert overlay(world).away == ("bedrock", "google")
    assert overlay(world).returns == (NOON_S,)


@pytest.mark.parametrize("gradual", [True, False])
def test_a_failover_overtakes(world: World, gradual: bool) -> None:
    """A failover at once ends a ramp that moves the failover's own overlay, and its shares stay."""
    if gradual:
        said(world, Verb.FAILOVER, **left("bedrock", "google", mode="gradual"))
    else:
        said(world, Verb.FAILOVER, **left("bedrock", "google"))
        said(world, Verb.FAILBACK, route="chat")
    _, text = said(world, Verb.FAILOVER, **left("google", "meta"))
    kind = "failover" if gradual else "failback"
    world.tick_for(3)

    assert text.endswith(f"; the {kind} under way is over")
    assert (world.ramp().phase, world.ramp().ended) == (RampPhase.ABORTED, "overtaken by a failover of ann")
    assert "google" not in world.shares()
    assert overlay(world).created_s > NOON_S + 1


def test_an_emergency_lies_over(world: World) -> None:
    """An emergency ends no ramp: it lies over it."""
    said(world, Verb.FAILOVER, **left("bedrock", "google", mode="gradual"))
    said(world, Verb.FAILOVER, **left("google", "meta", emergency=True))

    assert world.ramp().phase not in {RampPhase.ABORTED, RampPhase.PROMOTED}
    assert world.ramp().held_by == ("overlaid",)


def test_a_canary_is_not_overtaken(world: World) -> None:
    """A canary waits under a failover."""
    said(world, Verb.CANARY, **left("bedrock", "google"))
    said(world, Verb.FAILOVER, **left("google", "meta"))

    assert world.ramp().held_by == ("overlaid",)


# --- failback


def test_failback(world: World) -> None:
    """A failback is a ramp from the failover's shares to the baseline's, and the failover has no deadline any more."""
    said(world, Verb.FAILOVER, **left("bedrock", "google", for_s=600.0))
    ok, text = said(world, Verb.FAILBACK, route="chat")
    ramp = world.ramp()

    assert (ok, text) == (
        True,
        "failback step by step: chat: 10 % → 50 % → 100 % to bedrock 50 %, google 30 %, meta 20 %",
    )
    assert (ramp.id, ramp.kind, ramp.source, ramp.goal) == (
        "failback:chat:3-0",
        RampKind.FAILBACK,
        "",
        "bedrock",
    )
    assert ramp.from_bp == {"google": 8_000, "meta": 2_000}
    assert ramp.to_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert (overlay(world).not_after_s, overlay(world).returns) == (0.0, (NOON_S + 2,))
    world.tick_for(700, 10)
    assert world.ramp() is not None
    assert world.told("overlay.expired") == []


def test_failback_of_every_route(world: World) -> None:
    """Without a route all failovers go back, each by a ramp of its own."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "meta"})
    said(world, Verb.FAILBACK)

    assert {name: ramp.kind for name, ramp in world.state.ramps.items()} == {
        "chat": RampKind.FAILBACK,
        "small": RampKind.FAILBACK,
    }


def test_failback_of_both(world: World) -> None:
    """An emergency over a failover goes back in one, from the emergency's shares."""
    said(world, Verb.FAILOVER, **left("bedrock", "google"))
    said(world, Verb.FAILOVER, **left("google", "meta", emergency=True))
    assert said(world, Verb.FAILBACK, route="chat")[0]

    assert [o.kind for o in world.state.overlays] == [OverlayKind.FAILOVER]
    assert world.ramp().from_bp == {"meta": 10_000}
    assert world.ramp().to_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}


def test_failback_under_a_pin(world: World) -> None:
    """It goes to the baseline, not to a pin's shares, and waits for the pin's end."""
    said(world, Verb.FAILOVER, **left("bedrock", "google"))
    said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)
    said(world, Verb.FAILBACK, route="chat")

    assert world.ramp().to_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert world.ramp().held_by == ("overlaid",)


def test_failback_to_the_same(world: World) -> None:
    """Where the baseline has become what the failover made of it there is no way to go: it is over."""
    said(world, Verb.FAILOVER, **left("bedrock", "google"))
    said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 8_000, "meta": 2_000})
    assert said(world, Verb.FAILBACK, route="chat")[0]

    assert world.state.overlays == ()
    assert "chat" not in world.state.ramps


def test_failback_twice(world: World) -> None:
    """While one is under way a second one is refused, and one that does not wait ends it."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "meta"})
    said(world, Verb.FAILBACK)
    assert said(world, Verb.FAILBACK, route="chat") == (
        False,
        "failback on chat (google) is under way: wait for its end, or end it (pointsman canary abort chat)",
    )
    assert said(world, Verb.FAILBACK, route="chat", now=True)[0]
    world.tick_for(3)

    assert (world.ramp().phase, world.ramp().ended) == (RampPhase.ABORTED, "overtaken by a failback of ann")
    assert [o.route for o in world.state.overlays] == ["small"]
    assert world.ramp("small").phase is RampPhase.SPREADING


def test_failback_auto(world: World) -> None:
    """With the word auto it begins by itself, once it is earned."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "meta"})
    assert said(world, Verb.FAILBACK, route="chat", auto=True) == (
        True,
        "failback of chat will begin by itself once it is earned",
    )

    assert {o.route: o.auto_back for o in world.state.overlays} == {"chat": True, "small": False}
    assert world.state.ramps == {}


def test_old_returns_are_forgotten(world: World) -> None:
    """Failbacks of more than an hour ago do not count against the budget."""
    said(world, Verb.FAILOVER, **left("bedrock", "google"))
    old = (NOON_S - 3_600, NOON_S + 1.9 - 3_599.5)
    world.state = replace(world.state, overlays=tuple(replace(o, returns=old) for o in world.state.overlays))
    said(world, Verb.FAILBACK, route="chat")

    assert overlay(world).returns == (old[1], NOON_S + 2)


def test_names_without_a_word(world: World) -> None:
    """A word that is only tried has no place: its ramp is named by the time."""
    from pointsman.core.evidence import Word
    from pointsman.core.words import obey

    word = Word(
        id="", verb=Verb.FAILOVER, author="a", reason="r", args=left("bedrock", "google", mode="gradual")
    )
    state, _, _ = obey(world.state, [word], 12.3456)
    ramp: Ramp = state.ramps["chat"]

    assert ramp.id == "failover:chat:12346"
