"""The machine of ramps: each row of its table, and what it says."""

import pytest
from msgspec.structs import replace

from pointsman.core.ramp_model import (
    CANARY_STEPS,
    ENDED,
    FAILBACK_STEPS,
    FAILOVER_STEPS,
    Calendar,
    ExternalGate,
    ExternalKind,
    GateAnswer,
    Ramp,
    RampKind,
    RampPhase,
    Step,
    Verdict,
)
from ramps import (
    CANARY,
    GOAL_OUT,
    OUT,
    a_ramp,
    begun,
    looked,
    ready,
    seen,
)
from world import NOON_S

TOLD = "canary on chat (bedrock → google)"


# --- precheck


def test_the_steps_of_the_runbooks() -> None:
    """5, 10, 25, 50, 75, 100 % with five minutes first and two then; failbacks and failovers have their own."""
    told = [
        [(step.progress_bp / 100, step.hold_s, step.samples) for step in steps]
        for steps in (CANARY_STEPS, FAILBACK_STEPS, FAILOVER_STEPS)
    ]

    assert told == [
        [(5, 300, 60), (10, 120, 150), (25, 120, 300), (50, 120, 300), (75, 120, 300), (100, 0, 0)],
        [(10, 180, 60), (25, 180, 150), (50, 180, 300), (75, 180, 300), (100, 0, 0)],
        [(50, 60, 20), (75, 60, 20), (100, 0, 0)],
    ]


def test_it_begins() -> None:
    """With the side to move to in service, the first step is taken at the first look."""
    after, told = looked(CANARY)

    assert (after.phase, after.step, after.entry, after.since_s) == (RampPhase.SPREADING, 0, 1, NOON_S + 1)
    assert told == [f"ramp.step: {TOLD} goes to 10 % (step 1 of 3): the side to move to is in service"]


def test_it_waits_for_its_goal() -> None:
    """With the side to move to out, it holds before its first step, and says so once."""
    after, told = looked(CANARY, out=GOAL_OUT)

    assert (after.phase, after.step, after.entry) == (RampPhase.PRECHECK, -1, 0)
    assert told == [f"ramp.hold: {TOLD} holds: google cooldown until 12:10:00"]
    assert looked(after, out=GOAL_OUT)[1] == []


def test_what_is_asked_beforehand() -> None:
    """Before the first step too a person, a calendar and what is outside are asked."""
    never = Calendar(days=(0,))  # it is a Friday
    gate = ExternalGate(name="smoke", kind=ExternalKind.WEBHOOK, url="")
    after, told = looked(a_ramp(approvals=(1_000,), calendar=never, external=(gate,)))

    assert after.phase is RampPhase.PRECHECK
    assert after.held_by == ("approval", "calendar", "external")
    assert "the step to 10 % waits for a person" in told[0]


def test_an_abort_beforehand() -> None:
    """What is outside can end a ramp before it begins."""
    gate = ExternalGate(name="smoke", kind=ExternalKind.WEBHOOK, url="")
    answer = GateAnswer(ramp="r", gate="smoke", verdict=Verdict.ABORT, why="broken", at_s=NOON_S)
    after, told = looked(replace(a_ramp(external=(gate,)), answers={"smoke": answer}))

    assert (after.phase, after.progress_bp) == (RampPhase.ABORTED, 0)
    assert told == [f"ramp.aborted: {TOLD} aborted: smoke: broken"]


def test_an_unwatched_precheck() -> None:
    """What has not begun has nothing to lose: it begins later."""
    after, told = looked(CANARY, 100)

    assert after.phase is RampPhase.PRECHECK
    assert told == [f"ramp.unwatched: {TOLD} was not watched for 100 s"]
    assert looked(after)[0].phase is RampPhase.SPREADING


# --- steps


def test_it_is_observed_once_it_is_served() -> None:
    """While a proxy lags no time counts; when none does, it is observed from then on."""
    spreading, _ = looked(CANARY)
    lagging, told = looked(spreading, 5, lagging=("p2",))
    served, _ = looked(lagging, 5)

    assert (lagging.phase, lagging.watched_s) == (RampPhase.SPREADING, 0)
    assert "serving" in lagging.hold
    assert told == []  # it has only just begun
    assert (served.phase, served.watched_s) == (RampPhase.OBSERVING, 0)
    assert looked(served, 5)[0].watched_s == 5


def test_a_step() -> None:
    """With every gate passed the next step is taken, with the evidence as the reason, and nothing seen yet."""
    after, told = looked(ready(overruled=1, approved=(5_000,), tripped_s=NOON_S, trouble=(1.0, 2, 3)))

    assert (after.phase, after.step, after.entry, after.progress_bp) == (RampPhase.SPREADING, 1, 2, 5_000)
    assert told == [
        (
            f"ramp.step: {TOLD} goes to 50 % (step 2 of 3): serving on 1 live proxy; watched for 10000 s; "
            "100 requests; 0.0 % of 100 requests failed"
        )
    ]
    assert (after.watched_s, after.held_s, after.spread, after.hold, after.findings) == (0, 0, None, "", ())
    assert (after.tripped_s, after.trouble, after.held_by, after.since_s) == (0, None, (), NOON_S + 1)
    assert after.tallies[after.stamp].arms == {}
    assert after.tallies["r#1"].arms["google"].ok == 100


def test_the_data_of_a_step() -> None:
    """A step is told in data too."""
    from pointsman.core import ramp as machine
    from ramps import facts

    _, notes = machine.step(ready(), facts(NOON_S + 1))

    assert notes[0].data == {"step": 1, "progress_bp": 5_000}


@pytest.mark.parametrize("kind", [RampKind.SHIFT, RampKind.FAILOVER, RampKind.FAILBACK])
def test_the_last_step(kind: RampKind) -> None:
    """The step that goes all the way is the promotion."""
    after, told = looked(ready(a_ramp(kind, bake_s=600.0), 1))

    assert (after.phase, after.step, after.progress_bp) == (RampPhase.PROMOTED, 2, 10_000)
    assert after.before == {"bedrock": 10_000}
    assert told[0].startswith(f"ramp.promoted: {kind.value} on chat (bedrock → google) promoted: serving")
    assert after.ended_s == NOON_S + 1


def test_a_canary_without_a_bake() -> None:
    """A canary that is not to bake is promoted at once."""
    assert looked(ready(CANARY, 1))[0].phase is RampPhase.PROMOTED


def test_an_only_step() -> None:
    """A ramp of one step goes all the way at once."""
    one = (Step(progress_bp=10_000, hold_s=0, samples=0),)

    assert looked(a_ramp(RampKind.FAILOVER, steps=one))[0].phase is RampPhase.PROMOTED


def test_what_is_over_stays_over() -> None:
    """An ended ramp is not looked at any more."""
    for phase in ENDED:
        over = replace(CANARY, phase=phase, wanted=1, aborting="x")
        assert looked(over, 1e6) == (over, [])


def test_the_way_in_words() -> None:
    """Who is left and who is gone to stand beside the kind; with neither it is the shares that move."""
    assert looked(a_ramp(goal=""))[1][0].startswith("ramp.step: canary on chat (bedrock) goes")
    assert looked(a_ramp(source=""))[1][0].startswith("ramp.step: canary on chat (google) goes")
    assert looked(a_ramp(source="", goal=""))[1][0].startswith("ramp.step: canary on chat (shares) goes")


# --- baking


def baked(**fields: object) -> Ramp:
    """A canary that has just been promoted, served everywhere."""
    baking, _ = looked(ready(a_ramp(bake_s=600.0), 1))
    return replace(baking, **fields)


def test_a_canary_bakes() -> None:
    """A promoted canary keeps a small control, and is compared for its bake time."""
    baking, told = looked(ready(a_ramp(bake_s=600.0), 1))

    assert (baking.phase, baking.progress_bp, baking.entry) == (RampPhase.BAKING, 9_500, 2)
    assert baking.before == {"bedrock": 10_000}
    assert baking.tallies[baking.stamp].arms == {}
    assert told[0].startswith(
        f"ramp.baking: {TOLD} is promoted; 5 % stay for comparison for 600 s: serving on 1 live proxy"
    )


def test_a_bake_ends() -> None:
    """With its time watched and every gate passed it is over; without traffic too, for it is promoted already."""
    served, _ = looked(baked(watched_s=599.0), 20)
    on, told = looked(served)
    after, _ = looked(on)

    assert served.watched_s == 599  # it may not have been served before
    assert (on.phase, told, on.watched_s) == (RampPhase.BAKING, [], 600)
    assert after.phase is RampPhase.PROMOTED
    assert after.before == {"bedrock": 10_000}


def test_a_bake_that_is_not_served() -> None:
    """Its time too counts only while it is served everywhere."""
    after, _ = looked(baked(), 5, lagging=("p1",))

    assert (after.phase, after.watched_s) == (RampPhase.BAKING, 0)


def test_an_abort_while_baking() -> None:
    """Evidence that comes late takes it back, and what the baseline was is not forgotten."""
    after, told = looked(seen(baked(), (50, 50), (100, 0)))

    assert (after.phase, after.before) == (RampPhase.ABORTED, {"bedrock": 10_000})
    assert told[0].startswith(f"ramp.aborted: {TOLD} aborted: 25.0 % of 200 requests failed")


# --- aborts


def test_an_abort_by_evidence() -> None:
    """A gate that says abort ends it, whatever else holds, with its reason and its numbers."""
    from pointsman.core import ramp as machine
    from ramps import facts

    failing = seen(begun(paused="paused by ann: x"), (50, 50), (200, 0))
    after, notes = machine.step(failing, facts(NOON_S + 1, frozen="ann"))

    assert (after.phase, after.progress_bp, after.hold, after.paused) == (RampPhase.ABORTED, 0, "", "")
    assert after.ended.startswith("50.0 % of 100 requests failed, 0.0 % of 200 of the control: worse")
    assert after.ended_s == NOON_S + 1
    assert notes[0].data == {
        "moved_requests": 100,
        "moved_failed": 50,
        "control_requests": 200,
        "control_failed": 0,
    }


@pytest.mark.parametrize(
    "ramp", [CANARY, begun(), ready(wanted=1), begun(phase=RampPhase.SPREADING), baked()]
)
def test_an_operators_abort(ramp: Ramp) -> None:
    """An operator's abort acts at the next look, before anything else, in every phase."""
    after, told = looked(replace(ramp, aborting="ann: enough"))

    assert (after.phase, after.ended) == (RampPhase.ABORTED, "ann: enough")
    assert told == [f"ramp.aborted: {TOLD} aborted: ann: enough"]


def test_a_trip_has_its_grace() -> None:
    """The moved side out while the control answers is an abort, after the grace and not before."""
    tripped, told = looked(begun(), out=GOAL_OUT)
    assert told == [f"ramp.hold: {TOLD} holds: google cooldown until 12:10:00"]
    assert tripped.tripped_s == NOON_S + 1

    for _ in range(4):
        tripped, _ = looked(tripped, 14.9, out=GOAL_OUT, answered_s={"bedrock": NOON_S + 9})
    assert tripped.phase is RampPhase.OBSERVING

    after, told = looked(tripped, 0.5, out=GOAL_OUT, answered_s={"bedrock": NOON_S + 9})
    assert after.phase is RampPhase.ABORTED
    assert told == [f"ramp.aborted: {TOLD} aborted: google cooldown until 12:10:00, while bedrock answers"]


def test_a_trip_that_is_over() -> None:
    """A moved side that comes back in time is forgiven."""
    after, _ = looked(begun(tripped_s=NOON_S - 59), 10)

    assert (after.phase, after.tripped_s) == (RampPhase.OBSERVING, 0)


def test_a_trip_before_the_clock() -> None:
    """A clock that went back before the trip begins the grace anew."""
    after, _ = looked(begun(tripped_s=NOON_S + 500), out=GOAL_OUT, answered_s={"bedrock": NOON_S + 501})

    assert (after.phase, after.tripped_s) == (RampPhase.OBSERVING, NOON_S + 1)


@pytest.mark.parametrize(
    ("out", "answered_s"),
    [({**OUT, **GOAL_OUT}, {"bedrock": NOON_S}), (GOAL_OUT, {"bedrock": NOON_S - 101}), (GOAL_OUT, {})],
)
def test_both_sides_out(out: dict[str, str], answered_s: dict[str, float]) -> None:
    """With the control out too, or silent since then, nobody is blamed: it holds."""
    after, _ = looked(begun(tripped_s=NOON_S - 100), out=out, answered_s=answered_s)

    assert after.phase is RampPhase.OBSERVING


def test_a_failover_never_trips() -> None:
    """A failover whose goal is out holds; it does not run back to what it leaves."""
    moving = begun(a_ramp(RampKind.FAILOVER), tripped_s=NOON_S - 100)
    after, _ = looked(moving, out=GOAL_OUT, answered_s={"bedrock": NOON_S})

    assert after.phase is RampPhase.OBSERVING
    assert after.hold.startswith("out: google cooldown")


# --- blocked


def test_blocked() -> None:
    """With the control dead an abort keeps what was moved, and says so, once."""
    aborting = begun(aborting="ann: enough")
    after, told = looked(aborting, out=OUT)

    assert (after.phase, after.progress_bp) == (RampPhase.BLOCKED, 1_000)
    assert after.hold == "blocked: bedrock cooldown until 12:10:00"
    assert told == [
        (
            f"ramp.blocked: {TOLD} should go back (ann: enough) and cannot: bedrock cooldown until 12:10:00; "
            "what was moved stays"
        )
    ]
    assert looked(after, out=OUT)[1] == []
    assert looked(after, 1e4, out=OUT)[0].phase is RampPhase.BLOCKED


def test_blocked_no_more() -> None:
    """Once the control is back the abort is done, for the reason that it had."""
    blocked, _ = looked(begun(aborting="ann: enough"), out=OUT)
    after, told = looked(blocked)

    assert (after.phase, after.hold, after.progress_bp) == (RampPhase.ABORTED, "", 0)
    assert told == [f"ramp.aborted: {TOLD} aborted: ann: enough"]


def test_a_control_half_dead() -> None:
    """One target of the control that serves is enough to go back to."""
    both = a_ramp(from_bp={"bedrock": 5_000, "meta": 5_000})
    after, _ = looked(begun(both, aborting="x"), out=OUT)

    assert after.phase is RampPhase.ABORTED


def test_nothing_was_moved() -> None:
    """A ramp that has not begun has nothing to keep."""
    assert looked(replace(CANARY, aborting="x"), out=OUT)[0].phase is RampPhase.ABORTED


# --- words


def test_sent_to_a_step() -> None:
    """An operator's step is taken past the gates, up or down, with the word as the reason, once."""
    up, told = looked(begun(wanted=1, wanted_why="ann: hurry"))
    down, _ = looked(begun(CANARY, 1, wanted=0, wanted_why="ann: easy"))

    assert told == [f"ramp.step: {TOLD} goes to 50 % (step 2 of 3): ann: hurry"]
    assert (up.step, up.wanted, up.wanted_why, up.phase) == (1, -1, "", RampPhase.SPREADING)
    assert (down.step, down.progress_bp) == (0, 1_000)


def test_sent_before_it_has_begun() -> None:
    """It need not have begun."""
    assert looked(replace(CANARY, wanted=1, wanted_why="x"), out=GOAL_OUT)[0].step == 1


def test_sent_all_the_way() -> None:
    """Sent to the last step it is promoted, a canary to its bake; sent beyond, the bake is over."""
    promoted, told = looked(begun(wanted=2, wanted_why="ann: go"))
    baking, _ = looked(begun(a_ramp(bake_s=60.0), wanted=2, wanted_why="ann: go"))
    done, _ = looked(replace(baking, wanted=3, wanted_why="ann: done"))

    assert (promoted.phase, told) == (RampPhase.PROMOTED, [f"ramp.promoted: {TOLD} promoted: ann: go"])
    assert baking.phase is RampPhase.BAKING
    assert (done.phase, done.ended) == (RampPhase.PROMOTED, "ann: done")


def test_promoted_without_a_word() -> None:
    """Without any evidence and any word, what there is to say is that every gate passed."""
    assert looked(begun(wanted=2))[0].ended == "every gate passed"
