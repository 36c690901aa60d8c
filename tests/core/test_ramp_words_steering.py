"""Operators' words to a ramp that runs: what each does, and every refusal."""

from typing import Any

import pytest
from msgspec.structs import replace
from test_ramp_words import start, steer, world
from test_words import said

from pointsman.core.evidence import Verb
from pointsman.core.ramp_model import RampPhase
from world import World

NOBODY = "no ramp has moved chat yet: pointsman canary start chat --from … --to …"
STEERING = [
    Verb.RAMP_PAUSE, Verb.RAMP_RESUME, Verb.RAMP_SET, Verb.RAMP_PROMOTE, Verb.RAMP_APPROVE, Verb.RAMP_OVERRULE,
]  # fmt: skip


__all__ = ["world"]


@pytest.mark.parametrize("verb", STEERING)
def test_nothing_to_steer(world: World, verb: Verb) -> None:
    """Where no ramp has been, or it is over, there is nothing to steer."""
    assert steer(world, verb, percent=10) == (False, NOBODY)
    start(world)
    steer(world, Verb.RAMP_ABORT)

    assert steer(world, verb, percent=10) == (
        False,
        "no ramp moves chat: the canary is over (aborted: ann: a test)",
    )
    assert said(world, verb, route="chta", percent=10) == (
        False,
        "there is no route 'chta'; there are: chat, small",
    )


@pytest.mark.parametrize("verb", STEERING)
def test_what_is_being_taken_back(world: World, verb: Verb) -> None:
    """A ramp that waits to be taken back is steered by nobody any more."""
    start(world)
    world.trip("bedrock")
    steer(world, Verb.RAMP_ABORT)
    assert world.ramp().phase is RampPhase.BLOCKED
    ok, text = steer(world, verb, percent=10)

    assert not ok
    assert text.startswith(
        "the canary on chat is being taken back (ann: a test), and waits for its control (blocked: "
    )


def test_pause_and_resume(world: World) -> None:
    """A paused ramp stays where it is until it is resumed; to resume one that is not paused does nothing."""
    start(world)
    assert steer(world, Verb.RAMP_RESUME) == (True, "canary on chat was not paused")
    assert steer(world, Verb.RAMP_PAUSE, reason="lunch") == (True, "canary on chat paused")
    assert world.ramp().held_by == ("paused",)
    assert world.ramp().hold.startswith("paused: paused by ann: lunch")
    assert steer(world, Verb.RAMP_RESUME) == (True, "canary on chat goes on")
    assert "paused" not in world.ramp().hold


def test_set(world: World) -> None:
    """A ramp is set to any of its steps but the last, by percent."""
    start(world)
    assert steer(world, Verb.RAMP_SET, percent=25) == (True, "canary on chat set to 25 %")
    assert world.shares() == {"bedrock": 37.5, "google": 42.5, "meta": 20}
    assert world.ramp().step == 2
    assert steer(world, Verb.RAMP_SET, percent=5) == (True, "canary on chat set to 5 %")
    assert world.shares() == {"bedrock": 47.5, "google": 32.5, "meta": 20}


@pytest.mark.parametrize(
    ("percent", "text"),
    [
        (100, "the last step is the promotion: pointsman canary promote chat"),
        (20, "there is no step at 20 %; the steps are: 5 %, 10 %, 25 %, 50 %, 75 %, 100 %"),
        ("5", "percent must be a number that is not negative"),
    ],
)
def test_set_refused(world: World, percent: Any, text: str) -> None:
    """Not to a step that is none, nor to the last."""
    start(world)

    assert steer(world, Verb.RAMP_SET, percent=percent) == (False, text)


def test_promote(world: World) -> None:
    """Promoted, a canary bakes; promoted again, the bake is over; it cannot be set back in between."""
    start(world)
    assert steer(world, Verb.RAMP_PROMOTE) == (True, "canary on chat promoted")
    assert world.ramp().phase is RampPhase.BAKING
    assert world.shares() == {"bedrock": 2.5, "google": 77.5, "meta": 20}
    assert steer(world, Verb.RAMP_SET, percent=5) == (
        False,
        "chat is promoted already: it can be aborted, not set back",
    )
    assert steer(world, Verb.RAMP_PROMOTE) == (True, "the bake of chat is ended")
    assert (world.ramp().phase, world.ramp().ended) == (RampPhase.PROMOTED, "ann: a test")
    assert world.shares() == {"google": 80, "meta": 20}


def test_abort(world: World) -> None:
    """An abort acts at once, with its reason, is never refused, and does nothing twice."""
    assert steer(world, Verb.RAMP_ABORT) == (True, "no ramp moves chat: nothing to abort")
    start(world)
    assert steer(world, Verb.RAMP_ABORT, reason="enough") == (True, "canary on chat aborted")
    assert (world.ramp().phase, world.ramp().ended) == (RampPhase.ABORTED, "ann: enough")
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}
    assert steer(world, Verb.RAMP_ABORT) == (True, "no ramp moves chat: nothing to abort")


@pytest.mark.parametrize("verb", [Verb.RAMP_SET, Verb.RAMP_PROMOTE, Verb.RAMP_PAUSE, Verb.RAMP_OVERRULE])
@pytest.mark.parametrize("first", [True, False])
def test_abort_wins(world: World, verb: Verb, first: bool) -> None:
    """Among words that are read together the abort wins, in whichever order."""
    start(world)
    for said_now in (Verb.RAMP_ABORT, verb) if first else (verb, Verb.RAMP_ABORT):
        world.say(said_now, route="chat", percent=50)
    world.tick(1)

    assert world.ramp().phase is RampPhase.ABORTED
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}


def test_approve(world: World) -> None:
    """The next step is approved, or the one that is named, once."""
    start(world, approve=[10, 50])
    assert steer(world, Verb.RAMP_APPROVE) == (True, "the step of chat to 10 % is approved")
    assert steer(world, Verb.RAMP_APPROVE) == (True, "the step to 10 % is approved already")
    assert steer(world, Verb.RAMP_APPROVE, percent=50) == (True, "the step of chat to 50 % is approved")
    assert steer(world, Verb.RAMP_APPROVE, percent=20)[0] is False
    assert world.ramp().approved == (1_000, 5_000)


def test_approve_beforehand(world: World) -> None:
    """Before it has begun the first step is the next; in its bake the last is."""
    start(world, approve=[5])
    assert world.ramp().phase is RampPhase.PRECHECK
    assert steer(world, Verb.RAMP_APPROVE) == (True, "the step of chat to 5 % is approved")
    assert world.ramp().phase is RampPhase.SPREADING
    steer(world, Verb.RAMP_PROMOTE)
    assert steer(world, Verb.RAMP_APPROVE) == (True, "the step of chat to 100 % is approved")


def test_overrule(world: World) -> None:
    """The holds of the present step are overruled, and named."""
    start(world)
    world.serve("p1")
    world.tick(1)
    ok, text = steer(world, Verb.RAMP_OVERRULE)

    assert ok
    assert text == (
        "canary on chat: the holds of this step are overruled (dwell: watched for 0 of 300 s; samples: 0 of 60 "
        "requests, no traffic to estimate from)"
    )
    assert world.ramp().step == 1


def test_overrule_nothing(world: World) -> None:
    """Where nothing has held yet it says that; before it has begun it is refused with what holds it."""
    start(world)
    assert steer(world, Verb.RAMP_OVERRULE)[1].endswith("overruled (nothing holds it)")
    world.trip("google")
    steer(world, Verb.RAMP_ABORT)
    start(world)
    assert steer(world, Verb.RAMP_OVERRULE) == (
        False,
        "canary on chat has not begun: out: google cooldown until 12:01:02 after 5 × connection refused",
    )
    start(world, "meta", "google", route="small")
    state = replace(world.state, ramps={"chat": replace(world.ramp(), hold="")})
    world.state = state
    assert steer(world, Verb.RAMP_OVERRULE)[1] == (
        "canary on chat has not begun: it begins with the next look"
    )
