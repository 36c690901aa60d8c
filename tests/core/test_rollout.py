"""Staged rollouts: each row of the machine's table, and what it says."""

import pytest
from msgspec.structs import replace
from rollouts import RolloutWorld, go_of

from pointsman.core.evidence import Verb
from pointsman.core.rollout_model import RolloutPhase, StageNews

START, STOP = Verb.ROLLOUT_START, Verb.ROLLOUT_STOP


# --- waiting


def test_the_first_environment_begins_at_once() -> None:
    """Nothing is before development: the canary of its route begins with the word."""
    world = RolloutWorld()
    answer = world.word(START)

    assert answer == (
        "rollout gateway in development, attempt 1: bedrock → google on chat, then watched for 4 h"
    )
    assert world.one.phase is RolloutPhase.RAMPING
    assert world.ramp().id == world.one.ramp
    assert (world.ramp().owner, world.ramp().reason) == ("ann", "rollout gateway: a test")
    assert "begins: canary on chat: bedrock → google by 50 % → 100 %" in world.told("rollout.begun")[0]


@pytest.mark.parametrize(
    ("news", "why"),
    [
        (None, "staging: nothing is known of staging yet"),
        (
            StageNews(rollout="gateway", environment="staging", told="staging has not begun"),
            "staging has not begun; where its store is another one, say pointsman rollout go gateway --stage staging",
        ),
        (go_of("staging", 1.0, phase="soaking"), "staging is soaking"),
        (go_of("staging", 1.0, phase="rolled_back"), "staging is rolled back"),
        (
            go_of("staging", 1.0, moves=("chat", "bedrock", "meta")),
            "in staging it moves chat from bedrock to meta, which is another rollout",
        ),
        (go_of("development", 1.0), "nothing is known of staging yet"),
        (replace(go_of("staging", 1.0), rollout="another"), "nothing is known of staging yet"),
    ],
)
def test_it_waits_for_the_environment_before(news: StageNews | None, why: str) -> None:
    """Nothing moves before that is go, by what its state says; the reason is shown."""
    world = RolloutWorld("production")
    world.stages = (news,) if news else ()
    answer = world.word(START)
    world.pass_(60.0)

    assert answer.endswith(", once staging is go")
    assert world.one.phase is RolloutPhase.WAITING
    assert world.one.hold == f"staging: {why.removeprefix('staging: ')}"
    assert world.state.ramps == {}
    assert len(world.told("rollout.hold")) == (news is not None and news.rollout == "gateway")


def test_the_go_of_the_environment_before_lets_it_begin() -> None:
    """Its state in the same store is enough: nobody has to say anything."""
    world = RolloutWorld("staging")
    world.word(START)
    world.stages = (go_of("development", world.now_s, attempt=2),)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.cleared == "development is go (attempt 2)"
    assert (world.one.hold, world.one.held_by) == ("", ())
    assert world.told("rollout.cleared") == [
        "rollout gateway in staging may begin: development is go (attempt 2)"
    ]


def test_an_absence_while_it_waits_is_nothing_to_tell() -> None:
    """Nothing was to be watched."""
    world = RolloutWorld("staging")
    world.word(START)
    world.tick(3600.0)

    assert world.told("rollout.unwatched") == []


def test_an_operator_says_that_the_environment_before_is_go() -> None:
    """Where its store is another one."""
    world = RolloutWorld("production")
    world.word(START)
    answer = world.word(Verb.ROLLOUT_GO, stage="staging")

    assert answer == "rollout gateway may begin: staging is go"
    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.cleared == "ann says that staging is go: a test"


def test_it_does_not_begin_while_all_movement_is_frozen() -> None:
    """The freeze is the reason, and when it is over, it begins."""
    world = RolloutWorld("staging")
    world.word(START)
    world.say(Verb.FREEZE, for_s=60.0)
    world.stages = (go_of("development", world.now_s),)
    world.tick(1.0)
    assert world.one.hold == "frozen: ann froze all movement: a test"
    assert world.one.awaits == ""
    world.pass_(60.0)

    assert world.one.phase is RolloutPhase.RAMPING


def test_it_does_not_begin_while_another_ramp_moves_its_route() -> None:
    """It waits for that one's end, and says so."""
    world = RolloutWorld()
    world.say(Verb.CANARY, route="chat", **{"from": "bedrock", "to": "google"})
    world.word(START)

    assert world.one.phase is RolloutPhase.WAITING
    assert world.one.hold.startswith("canary: canary on chat (bedrock → google) is under way")
    world.say(Verb.RAMP_ABORT, route="chat")
    world.tick(1.0)
    assert world.one.phase is RolloutPhase.RAMPING


def test_a_share_that_is_there_already_is_only_watched() -> None:
    """After a rollback elsewhere the traffic of this environment need not be moved again."""
    world = RolloutWorld()
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000})
    world.word(START)

    assert world.one.phase is RolloutPhase.SOAKING
    assert world.told("rollout.soaking")[-1].endswith("soaks for 4 h: google has the share already")
    assert world.table is not None
    assert world.table.routes["chat"].ramp == "rollout:gateway#1"


# --- ramping


def test_it_soaks_when_the_canary_is_promoted() -> None:
    """The share is there, the requests of the route are counted under a stamp of its own."""
    world = RolloutWorld()
    world.soaking()

    assert world.one.watched_s < 120.0
    assert world.shares() == {"google": 100.0}
    assert (world.one.before_bp, world.one.after_bp) == ({"bedrock": 10_000}, {"google": 10_000})
    assert world.table is not None
    assert world.table.routes["chat"].ramp == "rollout:gateway#1"
    assert world.table.routes["other"].ramp == ""


def test_the_canarys_bake_is_waited_for() -> None:
    """Half an hour of the cutover rule is the canary's; the soak begins after it."""
    world = RolloutWorld(bake_s=600.0)
    world.word(START)
    world.pass_(300.0)
    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.hold.startswith("the canary: dwell: watched for")
    world.pass_(500.0)

    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.after_bp == {"google": 10_000}


def test_an_aborted_canary_is_a_rollback() -> None:
    """Its reason is the stage's, and it is reported."""
    world = RolloutWorld()
    world.word(START)
    world.pass_(30.0)
    world.say(Verb.RAMP_ABORT, route="chat", reason="users complain")
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.one.ended == "the canary is aborted: ann: users complain"
    assert world.shares() == {"bedrock": 100.0}
    assert [report.kind.value for report in world.filed] == ["stage"]
    assert "ann: users complain" in world.filed[0].recommendation


def lost(world: RolloutWorld) -> None:
    """The store was lost, and with it every ramp."""
    world.state = replace(world.state, ramps={})


def test_a_lost_canary_begins_anew() -> None:
    """What a backup does not hold is no rollback; the go of the environment before still counts."""
    world = RolloutWorld("staging")
    world.word(START)
    world.word(Verb.ROLLOUT_GO, stage="development")
    world.pass_(30.0)
    lost(world)
    world.tick(1.0)
    assert world.one.phase is RolloutPhase.WAITING
    assert world.told("rollout.lost") == ["rollout gateway in staging has lost its canary, and begins anew"]
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.ramp == world.ramp().id
    assert world.one.cleared.startswith("ann says")


def test_a_lost_canary_of_the_first_environment_begins_anew() -> None:
    """Also where nobody had to say go."""
    world = RolloutWorld()
    world.word(START)
    world.pass_(30.0)
    lost(world)
    world.tick(1.0)
    assert world.one.cleared == "begun before"
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.RAMPING


def test_another_canary_in_its_place_is_a_lost_one() -> None:
    """Only the canary with the id that was remembered is ours."""
    world = RolloutWorld()
    world.word(START)
    world.state = replace(world.state, ramps={"chat": replace(world.ramp(), id="another")})
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.WAITING


def test_a_lost_canary_that_was_promoted_soaks() -> None:
    """The baseline says that it was."""
    world = RolloutWorld(bake_s=600.0)
    world.word(START)
    world.pass_(120.0)
    assert world.one.phase is RolloutPhase.RAMPING
    lost(world)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.SOAKING
    assert "its canary was promoted and is lost" in world.told("rollout.soaking")[-1]
