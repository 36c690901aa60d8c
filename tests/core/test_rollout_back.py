"""Rollouts that are taken back, and what it takes to begin again."""

from typing import Any

from msgspec.structs import replace
from rollouts import (
    CAUSE,
    HOUR_S,
    LIMIT,
    MOVES,
    RolloutWorld,
    go_of,
    rebased,
)

from pointsman.core.evidence import Verb
from pointsman.core.ramp_model import ENDED, RampPhase
from pointsman.core.rollout_model import RolloutPhase

START, STOP = Verb.ROLLOUT_START, Verb.ROLLOUT_STOP


# --- back


def test_a_no_go_restores_the_old_baseline() -> None:
    """At once: the table goes out in the same decision, with the reason."""
    world = RolloutWorld(no_go=LIMIT)
    world.soaking()
    world.traffic(failed=40)
    world.tick(0.1)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"bedrock": 100.0}
    baseline = world.state.baselines["chat"]
    assert (baseline.author, baseline.revision) == ("ann", 3)
    assert baseline.reason.startswith("rollout gateway rolled back: errors: 100.0 % of 40 requests failed")
    told = world.told("rollout.rolled_back")[0]
    assert told.endswith("; chat: bedrock 100 % again")
    assert world.filed[-1].phase is RolloutPhase.ROLLED_BACK
    assert world.filed[-1].findings[1].gate == "errors"


def test_a_rollback_does_not_wait_for_its_turn() -> None:
    """However young the present table is, the one without the new side goes out."""
    world = RolloutWorld(no_go=LIMIT)
    world.soaking()
    world.say(Verb.SET_WEIGHTS, route="other", shares_bp={"bedrock": 10_000})
    world.tick(0.1)
    world.traffic(failed=40)
    world.tick(0.1)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"bedrock": 100.0}


def tripped(world: RolloutWorld, *targets: str) -> None:
    for target in targets:
        world.live("p1", target, "refused", 5)
    world.tick(0.2)


def test_a_new_side_that_is_out_goes_back_after_a_minute() -> None:
    """While the old one answers; health keeps the traffic off it in the meantime."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "google")
    assert world.one.hold.startswith("out: google")
    for _ in range(5):
        world.probe("bedrock", "ok")
        world.probe("google", "refused")
        world.tick(10.0)
    assert world.one.phase is RolloutPhase.SOAKING
    world.probe("bedrock", "ok")
    world.probe("google", "refused")
    world.tick(10.0)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.one.ended.startswith("google cooldown until")
    assert world.one.ended.endswith(", while bedrock answers")


def test_a_new_side_that_comes_back_in_time_is_forgiven() -> None:
    """And the next outage has its minute again."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "google")
    assert world.one.out_s
    world.tick(50.0)
    world.say(Verb.RESET, target="google")
    world.pass_(30.0)

    assert world.one.out_s == 0.0
    assert world.one.phase is RolloutPhase.SOAKING


def test_a_clock_that_goes_back_does_not_shorten_the_minute() -> None:
    """The outage begins anew, by the clock of now."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "google")
    world.tick(-30.0)

    assert world.one.out_s == world.now_s


def test_an_old_side_that_does_not_answer_is_not_gone_back_to() -> None:
    """Both out is nobody's fault: it holds."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "google", "bedrock")
    for _ in range(9):
        world.probe("bedrock", "refused")
        world.probe("google", "refused")
        world.tick(10.0)

    assert world.one.phase is RolloutPhase.SOAKING


def test_an_old_side_that_nobody_asked_is_not_gone_back_to() -> None:
    """That it was well before the outage says nothing of now."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "google")
    for _ in range(9):
        world.tick(10.0)

    assert world.one.phase is RolloutPhase.SOAKING


def test_a_stop_takes_back() -> None:
    """One word; it is answered, and acts in the same decision."""
    world = RolloutWorld()
    world.soaking()
    answer = world.word(STOP, reason="users complain")

    assert answer == "rollout gateway stopped: chat goes back to bedrock"
    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.one.ended == "stopped by ann: users complain"
    assert world.shares() == {"bedrock": 100.0}


def test_a_stop_after_the_go_takes_back_too() -> None:
    """The way back is always open."""
    world = RolloutWorld()
    world.soaking()
    world.pass_(4 * HOUR_S)
    assert world.one.phase is RolloutPhase.GO
    world.word(STOP)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"bedrock": 100.0}


def test_a_dead_old_side_is_not_gone_back_to() -> None:
    """What was moved stays until the old side is back, then it goes."""
    world = RolloutWorld()
    world.soaking()
    tripped(world, "bedrock")
    world.word(STOP)
    assert world.one.phase is RolloutPhase.BLOCKED
    assert world.shares() == {"google": 100.0}
    assert len(world.told("rollout.blocked")) == 1
    assert (
        "is no-go (stopped by ann: a test) and cannot go back yet: bedrock cooldown until"
        in (world.told("rollout.blocked")[0])
    )
    world.tick(1.0)
    assert len(world.told("rollout.blocked")) == 1
    assert world.word(STOP) == "rollout gateway stopped: chat goes back to bedrock"
    for _ in range(60):
        world.probe("bedrock", "ok")
        world.tick(1.0)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.one.ended == "stopped by ann: a test"
    assert world.state.baselines["chat"].shares_bp == {"bedrock": 10_000}


def test_a_no_go_that_waits_for_the_old_side_keeps_its_reason() -> None:
    """It is what is told when it has gone back at last."""
    world = RolloutWorld(no_go=LIMIT)
    world.soaking()
    tripped(world, "bedrock")
    world.traffic(failed=40)
    world.tick(0.1)
    assert world.one.phase is RolloutPhase.BLOCKED
    for _ in range(120):
        world.probe("bedrock", "ok")
        world.tick(1.0)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.one.ended.startswith("errors: 100.0 % of 40 requests failed")


def test_another_canary_is_taken_back_first() -> None:
    """It moves from the shares that are to go: it is aborted, and then the old baseline is back."""
    world = RolloutWorld()
    world.soaking()
    world.say(Verb.CANARY, route="chat", **{"from": "google", "to": "bedrock"})
    world.pass_(10.0)
    assert world.one.hold.startswith("overlaid: the canary of ann")
    world.word(STOP)
    assert world.one.phase is RolloutPhase.BLOCKED
    assert world.one.hold == "the canary on chat must be taken back first"
    world.tick(0.1)

    assert world.ramp().phase in ENDED
    assert world.ramp().ended == "rollout gateway: stopped by ann: a test"
    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"bedrock": 100.0}


def test_a_canary_that_is_being_taken_back_is_waited_for() -> None:
    """Its own reason stays, and so does what it holds, until it is over."""
    world = RolloutWorld()
    world.soaking()
    world.say(Verb.CANARY, route="chat", **{"from": "google", "to": "bedrock"})
    world.pass_(10.0)
    tripped(world, "google")
    world.say(Verb.RAMP_ABORT, route="chat", reason="its own")
    world.tick()
    world.word(STOP)
    world.tick(1.0)

    assert world.ramp().phase is RampPhase.BLOCKED
    assert world.ramp().aborting == "ann: its own"
    assert world.one.phase is RolloutPhase.BLOCKED


def test_weights_that_somebody_set_meanwhile_stay() -> None:
    """They are not ours to take back."""
    world = RolloutWorld()
    world.soaking()
    rebased(world)
    world.tick(1.0)
    world.word(STOP)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"google": 90.0, "bedrock": 10.0}
    assert world.told("rollout.rolled_back")[0].endswith(
        "; the weights of ann stay: google 90 %, bedrock 10 %"
    )


def test_a_share_that_was_never_moved_goes_back_to_the_source() -> None:
    """Where the old baseline is not known, the new side's share is the source's."""
    world = RolloutWorld()
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000})
    world.word(START)
    world.word(STOP)

    assert world.shares() == {"bedrock": 100.0}


def test_shares_that_do_not_fit_any_more_stay() -> None:
    """A rollback never makes a table that cannot be."""
    world = RolloutWorld()
    world.soaking()
    odd = replace(world.one, before_bp={"gone": 10_000})
    world.state = replace(world.state, rollouts={"gateway": odd})
    world.word(STOP)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert (
        "the shares of before do not fit any more (there is no target 'gone'"
        in (world.told("rollout.rolled_back")[0])
    )
    assert world.shares() == {"google": 100.0}


# --- again


def rolled_back(environment: str = "development", **fields: Any) -> RolloutWorld:
    world = RolloutWorld(environment, **fields)
    world.word(START)
    if environment != "development":
        world.word(Verb.ROLLOUT_GO, stage=world.one.previous)
    world.pass_(120.0)
    world.word(STOP)
    assert world.one.phase is RolloutPhase.ROLLED_BACK
    return world


def test_after_a_rollback_it_is_watched_for_longer() -> None:
    """With the root cause, which stands in every report of the new attempt."""
    world = rolled_back()
    answer = world.word(Verb.ROLLOUT_AGAIN, root_cause=CAUSE)

    assert answer == (
        f"rollout gateway in development, attempt 2 after a rollback ({CAUSE}): bedrock → google on chat, "
        "then watched for 8 h"
    )
    world.pass_(6 * HOUR_S)
    assert world.one.phase is RolloutPhase.SOAKING
    assert world.table is not None
    assert world.table.routes["chat"].ramp == "rollout:gateway#2"
    world.pass_(3 * HOUR_S)
    assert world.one.phase is RolloutPhase.GO
    assert world.filed[-1].root_cause == CAUSE


def test_after_a_rollback_the_environment_before_must_be_go_again() -> None:
    """What it decided before our rollback was about something else."""
    world = rolled_back("staging")
    rolled_back_s = world.now_s
    world.tick(60.0)
    world.stages = (go_of("development", rolled_back_s),)
    world.word(Verb.ROLLOUT_AGAIN, root_cause=CAUSE)
    assert world.one.phase is RolloutPhase.WAITING
    assert world.one.hold == "development: development was go before the last rollback: it must be go again"
    world.stages = (go_of("development", rolled_back_s + 1.0, attempt=2),)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.RAMPING
    assert (world.one.route, world.one.source, world.one.goal) == MOVES
