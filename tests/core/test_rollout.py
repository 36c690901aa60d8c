"""Staged rollouts: each row of the machine's table, and what it says."""

from typing import Any

import pytest
from msgspec.structs import replace
from rollouts import CAUSE, HOUR_S, LIMIT, MOVES, RolloutWorld, go_of

from pointsman.core.evidence import Verb
from pointsman.core.ramp_model import ENDED, RampPhase
from pointsman.core.rollout_model import Rollout, RolloutPhase, StageNews

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
    assert world.told("rollout.cleared") == [
        "rollout gateway in staging may begin: development is go (attempt 2)"
    ]


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


# --- soaking


def test_it_is_go_after_its_time() -> None:
    """Four watched hours, not less; then the stage is go, and says what that rests on."""
    world = RolloutWorld()
    world.soaking()
    left_s = 4 * HOUR_S - world.one.watched_s
    world.pass_(left_s - 10.0)
    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.hold == "soak: 4 h must be watched"
    world.pass_(10.0)

    assert world.one.phase is RolloutPhase.GO
    assert world.told("rollout.go") == ["rollout gateway in development is go: watched for 4 h; 0 requests"]
    assert world.filed[-1].recommendation == "Go on: development is go."
    assert world.table is not None
    world.tick(61.0)
    assert world.table.routes["chat"].ramp == ""
    assert world.shares() == {"google": 100.0}


@pytest.mark.parametrize("leap_s", [61.0, HOUR_S, 30 * 86_400.0, -7.0, -86_400.0])
def test_no_leap_of_the_clock_ends_a_soak(leap_s: float) -> None:
    """Nor does an absence of the daemon: only what was looked at counts."""
    world = RolloutWorld()
    world.soaking()
    before_s = world.one.watched_s
    world.watched()
    world.tick(leap_s)

    assert world.one.watched_s == before_s
    assert world.one.phase is RolloutPhase.SOAKING
    assert bool(world.told("rollout.unwatched")) is (leap_s > 60.0)


def test_an_absence_is_told() -> None:
    """It stands in the next report."""
    world = RolloutWorld()
    world.soaking()
    world.watched()
    world.tick(7200.0)

    text = "was not watched for 2 h, which does not count"
    assert world.told("rollout.unwatched") == [f"rollout gateway in development {text}"]
    assert any(text in issue for issue in world.one.total.issues)


def test_a_minute_between_looks_is_still_watched() -> None:
    """The longest gap that counts."""
    world = RolloutWorld()
    world.soaking()
    before_s = world.one.watched_s
    world.watched()
    world.tick(60.0)

    assert world.one.watched_s == before_s + 60.0


def overlaid(world: RolloutWorld) -> None:
    world.say(Verb.PIN, route="chat", shares_bp={"bedrock": 10_000}, for_s=3600.0)


def rebased(world: RolloutWorld) -> None:
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 9_000, "bedrock": 1_000})


def deserted(world: RolloutWorld) -> None:
    world.reports.clear()
    world.state = replace(world.state, vantages={})


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (overlaid, "overlaid: the manual of ann lies over it (a test)"),
        (rebased, "shares: the baseline is not the promoted one any more: google 90 %, bedrock 10 % by ann"),
        (deserted, "serving: no proxy is alive, so nothing is known of the traffic"),
    ],
)
def test_time_counts_only_while_the_traffic_is_where_it_belongs(what: Any, why: str) -> None:
    """Pinned, set otherwise, unseen: it holds, with the reason, told once."""
    world = RolloutWorld()
    world.soaking()
    what(world)
    world.tick(1.0)
    before_s = world.one.watched_s
    for _ in range(3):
        for proxy in list(world.reports):
            world.beat(proxy)
        world.tick(10.0)

    assert world.one.hold.startswith(why)
    assert world.one.watched_s == before_s
    assert len(world.told("rollout.hold")) == 1


def test_a_young_soak_is_nothing_to_tell() -> None:
    """That the time is not over is no news."""
    world = RolloutWorld(min_requests=10)
    world.soaking()
    world.pass_(600.0)

    assert world.one.hold == "soak: 4 h must be watched; requests: 0 of 10 requests seen"
    assert world.told("rollout.hold") == []


def test_what_keeps_it_after_its_time_is_told() -> None:
    """And it holds for as long as that is so."""
    world = RolloutWorld(min_requests=10)
    world.soaking()
    world.pass_(5 * HOUR_S)
    assert world.told("rollout.hold") == ["rollout gateway in development holds: 0 of 10 requests seen"]
    assert world.one.phase is RolloutPhase.SOAKING
    world.traffic(ok=10)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.GO
    assert (world.one.hold, world.one.held_by) == ("", ())


def test_a_quiet_soak_is_seldom_saved() -> None:
    """A look without news changes no state; every ten seconds the time does."""
    world = RolloutWorld()
    world.soaking()
    world.watched()
    world.tick(10.0)
    seen: list[Rollout] = []
    for _ in range(20):
        world.tick(1.0)
        seen.append(world.one)
        world.serve("p1")

    assert len({id(one) for one in seen}) == 3
    assert seen[-1].watched_s - seen[0].watched_s == 20.0


def test_a_short_soak_is_looked_at_closely() -> None:
    """A twentieth of its time at most goes by between two looks that are saved."""
    world = RolloutWorld(soak_s=100.0)
    world.soaking()
    world.tick(10.0)
    world.tick(4.0)
    assert world.one.looked_s == world.now_s - 4.0
    world.tick(1.0)

    assert world.one.looked_s == world.now_s


# --- approval


def approving(**fields: Any) -> RolloutWorld:
    """One whose time is over, waiting for a person."""
    world = RolloutWorld(approval=True, **fields)
    world.soaking()
    world.pass_(4 * HOUR_S)
    assert world.one.phase is RolloutPhase.APPROVING
    return world


def test_a_person_is_asked() -> None:
    """Every criterion is go, and still nobody but a person makes the stage go."""
    world = approving()
    assert world.told("rollout.approval") == [
        "rollout gateway in development waits for a person: every criterion is go (watched for 4 h; 0 requests)"
    ]
    world.pass_(HOUR_S)
    assert world.one.phase is RolloutPhase.APPROVING
    assert world.one.hold == "a person must approve it: pointsman rollout approve gateway"
    assert len(world.told("rollout.approval")) == 1
    assert world.word(Verb.ROLLOUT_APPROVE) == "rollout gateway in development is approved"

    assert world.one.phase is RolloutPhase.GO
    assert world.one.ended.endswith("; 0 requests; approved by ann: a test")


def test_what_is_not_go_any_more_is_not_asked_for() -> None:
    """A person is asked anew when it is go again, and an approval of before does not count."""
    world = approving()
    overlaid(world)
    world.word(Verb.ROLLOUT_APPROVE)
    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.approved == ""
    world.say(Verb.UNPIN, route="chat")
    world.pass_(10.0)

    assert world.one.phase is RolloutPhase.APPROVING
    assert len(world.told("rollout.approval")) == 2


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
    assert baseline.author == "ann"
    assert baseline.reason.startswith("rollout gateway rolled back: errors: 100.0 % of 40 requests failed")
    told = world.told("rollout.rolled_back")[0]
    assert told.endswith("; chat: bedrock 100 % again")
    assert world.filed[-1].phase is RolloutPhase.ROLLED_BACK
    assert world.filed[-1].findings[1].gate == "errors"


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
