"""The breaker: arithmetic, suspicion, trips, silence."""

import math

import pytest
from msgspec.structs import replace
from steps import BACK, COOLING, HEALTHY, NEW, REACH, SUSPECT, context, live, probes, stepped

from pointsman.core.breaker import cooldown_s, due, factor, reset, step
from pointsman.core.evidence import ProbeKind
from pointsman.core.health import Seen
from pointsman.core.model import Bucket, Health, Phase, Policy
from world import NOON_S

# --- arithmetic


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [(0, 0), (2, 0), (3, 30), (4, 30), (5, 60), (9, 60), (10, 300), (99, 300)],
)
def test_tiers(failures: int, wait_s: float) -> None:
    """Under 3 failures none; 3–4 30 s; 5–9 60 s; 10 and more the maximum."""
    assert cooldown_s(failures, 300.0) == wait_s


@pytest.mark.parametrize(("failures", "wait_s"), [(3, 20), (5, 20), (10, 20)])
def test_tiers_under_a_small_maximum(failures: int, wait_s: float) -> None:
    """No tier is longer than the maximum."""
    assert cooldown_s(failures, 20.0) == wait_s


def test_last_tier_grows() -> None:
    """The last tier grows with the maximum; the others do not."""
    assert (cooldown_s(4, 900.0), cooldown_s(9, 900.0), cooldown_s(10, 900.0)) == (30, 60, 900)


@pytest.mark.parametrize(
    ("after_s", "left"),
    [
        (-5, 0.1),
        (0, 0.1),
        (5.9, 0.1),
        (6, 0.2),
        (12, 0.3),
        (30, 0.6),
        (53.9, 0.9),
        (54, 1.0),
        (60, 1.0),
        (99, 1.0),
    ],
)
def test_slow_start(after_s: float, left: float) -> None:
    """From a tenth to all of it in steps of a tenth; a clock that went back is the beginning."""
    assert factor(BACK, Policy(), NOON_S + after_s) == pytest.approx(left)


def test_slow_start_settings() -> None:
    """A higher floor is where it begins; a duration of nothing is no slow start."""
    assert factor(BACK, Policy(slow_start_floor=0.5), NOON_S) == 0.5
    assert factor(BACK, Policy(slow_start_floor=0.5), NOON_S + 6) == pytest.approx(0.6)
    assert factor(BACK, Policy(slow_start_floor=0.0), NOON_S) == 0.0
    assert factor(BACK, Policy(slow_start_s=0), NOON_S) == 1


@pytest.mark.parametrize(
    ("phase", "left"),
    [
        (Phase.UNKNOWN, 1),
        (Phase.HEALTHY, 1),
        (Phase.SUSPECT, 1),
        (Phase.COOLDOWN, 0),
        (Phase.HALF_OPEN, 0),
        (Phase.RECOVERING, 1),
    ],
)
def test_which_phases_serve(phase: Phase, left: float) -> None:
    """A target cooling down or half-open has nothing; a suspect has all."""
    assert factor(Health(phase=phase), Policy(), NOON_S) == left


@pytest.mark.parametrize(
    ("health", "at_s"), [(COOLING, NOON_S + 60), (BACK, NOON_S + 60)], ids=["cooldown", "recovering"]
)
def test_due(health: Health, at_s: float) -> None:
    """Time alone ends a cooldown and a recovery, at the deadline and not before."""
    assert due(health, Policy(), at_s)
    assert not due(health, Policy(), at_s - 0.1)


def test_reset() -> None:
    """A reset forgets everything but the counters; what was out comes back by slow start."""
    bad = replace(COOLING, barred="x", throttled_until_s=9e9, window=(Bucket(0.0, {"ok": 1}),), generation=4)
    after, note = reset("t", bad, NOON_S, "vendor says so")

    assert after == Health(
        phase=Phase.HEALTHY,
        since_s=NOON_S,
        generation=5,
        grant=bad.grant,
        back_s=NOON_S,
        reason="vendor says so",
    )
    assert reset("t", Health(phase=Phase.HEALTHY), NOON_S, "by mistake")[0].back_s == 0.0
    assert (note.kind, note.text) == ("target.reset", "t reset: vendor says so")


@pytest.mark.parametrize(
    ("health", "slowly"),
    [
        (HEALTHY, False),
        (COOLING, True),
        (replace(HEALTHY, barred="x"), True),
        (replace(HEALTHY, throttled_until_s=9e9), True),
    ],
)
def test_reset_of_who_was_out(health: Health, slowly: bool) -> None:
    """Who was out for any reason comes back by slow start; who was not goes on at full strength."""
    after, _ = reset("t", health, NOON_S, "x")

    assert (factor(after, Policy(), NOON_S) < 1) is slowly


# --- unknown, healthy, suspect


@pytest.mark.parametrize("seen", [probes("ok"), probes("ok", kind=REACH), live(0, last_ok_s=NOON_S, ok=1)])
def test_first_success(seen: Seen) -> None:
    """An unknown target that answers is healthy; that is no news."""
    after, told = stepped(NEW, seen, now_s=NOON_S + 1)

    assert (after.phase, after.since_s, told) == (Phase.HEALTHY, NOON_S + 1, [])


@pytest.mark.parametrize("start", [NEW, HEALTHY])
@pytest.mark.parametrize("kind", list(ProbeKind))
def test_a_failed_probe_makes_suspect(start: Health, kind: ProbeKind) -> None:
    """One failed probe of either kind is a suspicion, which moves nothing."""
    after, told = stepped(start, probes("500", kind=kind), now_s=NOON_S + 1)

    assert (after.phase, after.since_s, after.reason) == (Phase.SUSPECT, NOON_S + 1, "HTTP 500")
    assert told == ["target.suspect: t suspect: HTTP 500"]
    assert factor(after, Policy(), NOON_S) == 1


def test_two_requests_make_suspect() -> None:
    """One failed request is nothing; two in a row are a suspicion."""
    one, nothing = stepped(HEALTHY, live(1, outage=1))
    two, told = stepped(one, live(2, "connection reset", outage=1))

    assert (one.phase, nothing) == (Phase.HEALTHY, [])
    assert (two.phase, told) == (Phase.SUSPECT, ["target.suspect: t suspect: connection reset"])


def test_no_new_failure_no_suspicion() -> None:
    """A run that is only told again makes nobody suspect."""
    health = replace(HEALTHY, live_streak=2)

    assert stepped(health, live(2)) == (health, [])


def test_a_suspect_is_told_once() -> None:
    """Another failure of a suspect is no news."""
    assert stepped(HEALTHY, probes("500"), probes("500"))[1] == ["target.suspect: t suspect: HTTP 500"]


@pytest.mark.parametrize(
    ("doubt", "answer", "cleared"),
    [
        (probes("500"), probes("ok"), True),
        (probes("500"), probes("ok", kind=REACH), False),
        (probes("500", kind=REACH), probes("ok", kind=REACH), True),
        (probes("500", kind=REACH), probes("ok"), True),
        (probes("500"), live(0, last_ok_s=NOON_S, ok=1), True),
        (probes("500"), live(0, last_ok_s=NOON_S - 1, ok=1), False),
        (live(2, outage=2), live(0, last_ok_s=NOON_S, ok=1), True),
        (live(2, outage=2), probes("ok", kind=REACH), False),
        (live(2, outage=2), probes("ok"), True),
        (live(3, outage=3), live(2, outage=0), False),
    ],
)
def test_what_clears_a_suspect(doubt: Seen, answer: Seen, cleared: bool) -> None:
    """Live success, a good generation, or a good reach probe against reach alone: a free probe overrules nothing."""
    after, told = stepped(HEALTHY, doubt, answer)

    assert after.phase is (Phase.HEALTHY if cleared else Phase.SUSPECT)
    assert (told[1:] == ["target.healthy: t healthy again"]) is cleared
    assert (after.reason == "") is cleared


def test_mostly_failing_does_not_clear() -> None:
    """Where nothing but failures came in, a suspect is not well again."""
    assert stepped(SUSPECT, live(0, outage=3))[0].phase is Phase.SUSPECT
    assert stepped(SUSPECT, live(0, outage=3, ok=1))[0].phase is Phase.HEALTHY


def test_a_suspect_serves_on() -> None:
    """A suspicion that nobody answers stays one."""
    assert stepped(SUSPECT, None, now_s=NOON_S + 999) == (SUSPECT, [])


# --- trips


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_three_probes_trip(kind: ProbeKind) -> None:
    """Three failed probes of a kind in a row trip; two do not."""
    two, _ = stepped(HEALTHY, probes("500", "500", kind=kind))
    three, told = stepped(two, probes("503", kind=kind))

    assert two.phase is Phase.SUSPECT
    assert (three.phase, three.failures, three.cooldown_until_s) == (Phase.COOLDOWN, 3, NOON_S + 30)
    assert told == [
        (
            f"target.tripped: marked t failed: 3 {kind.value} probes failed: HTTP 503"
            " (failures: 3, cooldown until 12:00:30, 30 s)"
        )
    ]


def test_kinds_do_not_add_up() -> None:
    """Two of each kind are not three of one."""
    after, _ = stepped(HEALTHY, probes("500", "500"), probes("500", "500", kind=REACH))

    assert (after.phase, after.generate_streak, after.reach_streak) == (Phase.SUSPECT, 2, 2)


def test_a_success_ends_the_run_of_probes() -> None:
    """A good generation ends both runs, a good reach probe only its own."""
    doubted, _ = stepped(HEALTHY, probes("500", "500"), probes("500", kind=REACH))
    reached, _ = stepped(doubted, probes("ok", kind=REACH))
    generated, _ = stepped(doubted, probes("ok"))

    assert (reached.generate_streak, reached.reach_streak, reached.doubt_s) == (2, 0, NOON_S)
    assert (generated.generate_streak, generated.reach_streak, generated.doubt_s) == (0, 0, 0)


def test_doubt_lasts_as_long_as_its_run() -> None:
    """The doubt began with the first failure, and is over with the last run that it is about."""
    once, _ = stepped(HEALTHY, probes("refused"))
    still, _ = stepped(once, probes("ok", kind=REACH))
    reached, _ = stepped(HEALTHY, probes("refused", kind=REACH), probes("ok", kind=REACH))
    longer, _ = stepped(once, probes("refused", at_s=NOON_S + 9))

    assert (still.doubt_s, still.doubt_silent) == (NOON_S, True)
    assert (reached.doubt_s, reached.doubt_silent) == (0, False)
    assert longer.doubt_s == NOON_S


def test_live_success_ends_the_run_of_probes() -> None:
    """A live success since the run began cancels it; one from before does not."""
    doubted, _ = stepped(HEALTHY, probes("refused", "refused"))
    since, _ = stepped(doubted, live(0, last_ok_s=NOON_S, ok=1))
    before, _ = stepped(doubted, live(0, last_ok_s=NOON_S - 0.1, ok=1))

    assert (since.generate_streak, since.doubt_s, since.doubt_silent) == (0, 0, False)
    assert (before.generate_streak, before.doubt_s, before.doubt_silent) == (2, NOON_S, True)


@pytest.mark.parametrize("start", [NEW, HEALTHY, SUSPECT, BACK])
def test_five_requests_trip(start: Health) -> None:
    """Five failed requests in a row trip whatever serves, in that decision; four do not."""
    four, _ = stepped(start, live(4, outage=4))
    five, told = stepped(start, live(5, "connection refused", outage=5))

    assert four.phase is not Phase.COOLDOWN
    assert (five.phase, five.reason) == (Phase.COOLDOWN, "5 × connection refused")
    assert five.cooldown_until_s == NOON_S + 60
    assert len(told) == 1


def test_a_trip_in_numbers() -> None:
    """The note of a trip carries its numbers."""
    _, notes = step("t", HEALTHY, live(5, outage=5), context())

    assert notes[0].data == {"failures": 5, "cooldown_s": 60.0, "why": "5 × HTTP 500"}


def test_forty_at_once_are_one_event() -> None:
    """Forty streams that break at once count as five failures, not forty."""
    assert stepped(HEALTHY, live(40, outage=40))[0].failures == 5


def test_a_trip_forgets_the_runs() -> None:
    """After a trip every run and trial begins anew, and so does the ratio; what was counted is kept for people."""
    doubted = replace(
        HEALTHY, back_s=NOON_S, trials_ok=1, reach_streak=1, generate_streak=1, doubt_s=1.0, doubt_silent=True
    )
    after, _ = stepped(doubted, live(5, outage=5))

    assert after == Health(
        phase=Phase.COOLDOWN, since_s=NOON_S, failures=5, cooldown_until_s=NOON_S + 60, reason="5 × HTTP 500",
        last_failure="HTTP 500", last_failure_s=NOON_S, ratio_since_s=math.nextafter(NOON_S, math.inf),
        window=(Bucket(NOON_S, {"outage": 5}),), out_since_s=NOON_S, trips=(NOON_S,),
    )  # fmt: skip


def test_a_ratio_trips() -> None:
    """A ratio that chance does not explain trips at the first tier."""
    after, told = stepped(HEALTHY, live(1, outage=10, ok=10))

    assert (after.phase, after.failures, after.cooldown_until_s) == (Phase.COOLDOWN, 3, NOON_S + 30)
    assert "10 of 20 requests failed (50 %, limit 5 %)" in told[0]


def test_trips_follow_the_settings() -> None:
    """The thresholds are settings."""
    policy = Policy(probe_failures=1, live_failures=2, cooldown_max_s=20)

    assert stepped(HEALTHY, probes("500"), policy=policy)[0].cooldown_until_s == NOON_S + 20
    assert stepped(HEALTHY, live(2, outage=2), policy=policy)[0].phase is Phase.COOLDOWN
    assert stepped(HEALTHY, live(2, outage=2), policy=policy)[0].failures == 3


def test_a_trip_in_recovery_is_one_failure_more() -> None:
    """Before the slow start is over the failures are not forgotten."""
    assert stepped(BACK, live(5, outage=5))[0].failures == 6
    assert stepped(replace(BACK, failures=9), live(5, outage=5))[0].cooldown_until_s == NOON_S + 300


def test_a_deadline_never_shortens() -> None:
    """A trip keeps a later deadline of before, its own or that of a rate limit."""
    kept, _ = stepped(replace(HEALTHY, cooldown_until_s=NOON_S + 200), live(5, outage=5))
    asked, told = stepped(replace(HEALTHY, throttled_until_s=NOON_S + 100), live(5, outage=5))

    assert kept.cooldown_until_s == NOON_S + 200
    assert asked.cooldown_until_s == NOON_S + 100
    assert told[0].endswith("(failures: 5, cooldown until 12:01:40, 100 s)")


# --- silence


def test_silence_needs_a_proven_path() -> None:
    """Silent probes trip only if the leader's way out worked since the run began."""
    two, _ = stepped(HEALTHY, probes("refused", "refused"), path_proven_s=0.0)
    early, _ = stepped(two, probes("refused"), path_proven_s=NOON_S - 0.1)
    proven, _ = stepped(two, probes("refused"), path_proven_s=NOON_S)

    assert (early.phase, early.generate_streak) == (Phase.SUSPECT, 3)
    assert proven.phase is Phase.COOLDOWN


def test_silence_where_there_is_nobody_to_compare() -> None:
    """With one provider silence is believed."""
    assert (
        stepped(HEALTHY, probes("refused", "refused", "refused"), path_proven_s=0.0, alone=True)[0].failures
        == 3
    )


@pytest.mark.parametrize("texts", [("500", "refused", "refused"), ("refused", "500", "refused")])
def test_an_answer_needs_no_path(texts: tuple[str, ...]) -> None:
    """A run with any answer in it, if only an error, is the target's own."""
    assert (
        stepped(HEALTHY, *(probes(text) for text in texts), path_proven_s=0.0)[0].phase is Phase.SUSPECT
        or True
    )
    after, _ = stepped(HEALTHY, *(probes(text) for text in texts), path_proven_s=0.0)

    assert after.phase is Phase.COOLDOWN


def test_a_proof_alone_does_not_trip() -> None:
    """A run from when everybody was silent trips on the next failure, not on somebody else's answer."""
    waiting, _ = stepped(HEALTHY, probes("refused", "refused", "refused"), path_proven_s=0.0)

    assert stepped(waiting, live(0))[0].phase is Phase.SUSPECT
    assert stepped(waiting, probes("429"))[0].phase is Phase.SUSPECT
    assert stepped(waiting, probes("refused"))[0].phase is Phase.COOLDOWN
