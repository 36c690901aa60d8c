"""New attempts of rollouts, and configurations that come while one runs."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rollouts import CAUSE, HOUR_S, RolloutWorld, apply, go_of, in_phase, refused, rollout_plan, stage

from pointsman.core.evidence import Verb
from pointsman.core.model import Plan
from pointsman.core.rollout_model import RolloutPhase

START, AGAIN, STOP = Verb.ROLLOUT_START, Verb.ROLLOUT_AGAIN, Verb.ROLLOUT_STOP


# --- again


@pytest.mark.parametrize("cause", [None, "", "   ", "fixed it.", "  fixed it.  "])
def test_the_root_cause_is_the_gate(cause: str | None) -> None:
    """Without one, in words, nothing begins again."""
    args = {} if cause is None else {"root_cause": cause}
    text = refused(in_phase("rolled_back"), AGAIN, **args)

    assert text.startswith("a new attempt needs the root cause in words (10 letters at least)")


def test_ten_letters_are_a_cause() -> None:
    """The shortest that is taken."""
    world = in_phase("rolled_back")
    world.word(AGAIN, root_cause=" 0123456789 ")

    assert world.one.root_cause == "0123456789"


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("none", "rollout gateway has not run to an end: pointsman rollout start gateway"),
        ("stopped", "rollout gateway has not run to an end: pointsman rollout start gateway"),
        ("soaking", "rollout gateway still runs: it is soaking"),
    ],
)
def test_what_has_not_been_rolled_back_does_not_begin_again(phase: str, text: str) -> None:
    """The refusal says what does."""
    assert refused(in_phase(phase), AGAIN, root_cause=CAUSE) == text


def test_what_is_go_here_begins_again_after_a_rollback_elsewhere() -> None:
    """The traffic is there already, and is watched for the longer time, against what the old side was then."""
    world = in_phase("go")
    old = world.one
    world.word(AGAIN, root_cause=CAUSE)

    assert world.one.phase is RolloutPhase.SOAKING
    assert (world.one.attempt, world.one.soak_s) == (2, 8 * HOUR_S)
    assert (world.one.before, world.one.before_bp) == (old.before, old.before_bp)
    assert world.one.not_before_s == old.decided_s


def test_another_way_is_compared_with_nothing_of_before() -> None:
    """What the old side was belongs to the targets that it was about."""
    world = in_phase("go")
    plan = rollout_plan()
    turned = replace(plan.rollouts["gateway"], source="google", goal="bedrock")
    apply(world, replace(plan, rollouts={"gateway": turned}, digest="turned"))
    world.word(AGAIN, root_cause=CAUSE)

    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.before_bp == {"google": 10_000}


def test_a_new_canary_is_compared_with_the_old_side_of_now() -> None:
    """What it did before the rollback is months ago, perhaps."""
    world = RolloutWorld()
    world.soaking(ok=30)
    assert world.one.before.ok == 30
    world.word(STOP)
    world.word(AGAIN, root_cause=CAUSE)

    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.before.ok == 0


def test_a_stop_does_not_open_the_gate() -> None:
    """Stopped after a rollback and started anew: the longer times stay, and so does what must be go again."""
    world = RolloutWorld("staging")
    world.word(START)
    world.word(Verb.ROLLOUT_GO, stage="development")
    world.pass_(120.0)
    world.word(STOP)
    rolled_back_s = world.one.decided_s
    world.tick(60.0)
    world.word(AGAIN, root_cause=CAUSE)
    world.word(STOP)
    world.stages = (go_of("development", rolled_back_s),)
    world.word(START)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.WAITING
    assert (world.one.root_cause, world.one.soak_s) == (CAUSE, 8 * HOUR_S)
    assert world.one.hold.startswith("development: development was go before the last rollback")


# --- the configuration


def without(*targets: str, **fields: Any) -> Plan:
    """The plan without these targets in its routes and at all."""
    plan = rollout_plan()
    left = {name: target for name, target in plan.targets.items() if name not in targets}
    routes = {
        name: replace(route, weights_bp={next(iter(left)): 10_000}, chain=tuple(left))
        for name, route in plan.routes.items()
    }
    return replace(plan, targets=left, routes=routes, digest="fewer", **fields)


@pytest.mark.parametrize(("phase", "target"), [("soaking", "bedrock"), ("soaking", "google")])
def test_a_configuration_does_not_take_a_rollout_its_targets(phase: str, target: str) -> None:
    """Neither the new side nor the way back."""
    world = in_phase(phase)
    apply(world, without(target))

    assert world.answer() == (
        "rollout gateway on route chat depends on what the new configuration removes: "
        "end it first (pointsman rollout stop gateway)"
    )


def test_a_configuration_does_not_take_a_rollout_its_old_shares() -> None:
    """What the way back leads to has to be there."""
    world = in_phase("soaking")
    odd = replace(world.one, before_bp={"gone": 10_000})
    world.state = replace(world.state, rollouts={"gateway": odd})
    apply(world, replace(rollout_plan(), digest="second"))

    assert world.answer().startswith("rollout gateway on route chat depends on")


def test_a_rollout_that_is_being_taken_back_keeps_its_targets() -> None:
    """Also when it was go already: the word of the stop came first."""
    world = in_phase("go")
    world.say(STOP, name="gateway")
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(without("bedrock")))
    world.tick()

    assert "end it first" in world.answer()
    assert world.one.phase is RolloutPhase.ROLLED_BACK


@pytest.mark.parametrize("phase", ["go", "rolled_back", "stopped"])
def test_what_is_over_keeps_no_target(phase: str) -> None:
    """It is remembered all the same."""
    world = in_phase(phase)
    apply(world, without("bedrock"))

    assert "is active" in world.answer()
    assert world.one.phase.value == phase


def test_what_is_watched_fits_while_its_old_shares_are_not_known() -> None:
    """One that was never moved needs its targets only."""
    world = RolloutWorld()
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000})
    world.word(START)
    apply(world, replace(rollout_plan(), digest="second"))

    assert "is active" in world.answer()


def test_a_waiting_rollout_needs_its_targets() -> None:
    """Though nothing has moved yet."""
    world = in_phase("waiting", "staging")
    apply(world, replace(without("google"), environment="staging"))

    assert "end it first" in world.answer()


def test_the_rules_of_an_attempt_stay() -> None:
    """A new configuration counts from the next attempt on."""
    world = in_phase("soaking")
    gateway = replace(rollout_plan().rollouts["gateway"], stages=(stage("development", soak_s=60.0),))
    apply(world, replace(rollout_plan(), rollouts={"gateway": gateway}, digest="second"))
    world.pass_(HOUR_S)

    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.soak_s == 4 * HOUR_S
