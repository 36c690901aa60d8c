"""What is seen of a rollout, and the reports that write themselves."""

import pytest
from msgspec.structs import replace
from rollouts import HOUR_S, RolloutWorld
from test_criteria import arm, one, priced

from pointsman.core.evidence import Verb
from pointsman.core.model import Note, State
from pointsman.core.ramp_model import Arm, Finding, Verdict
from pointsman.core.rollout_model import ReportKind, Rollout, RolloutPhase, Seen
from pointsman.core.rollout_reports import REPORTS_KEPT, due, filed, report_of, title
from pointsman.core.rollout_seen import ISSUES_KEPT, coarse, noted, span
from world import NOON_S

DAY_S = 86_400.0
NINE_S = NOON_S - 3 * HOUR_S  # 09:00 UTC, the hour of reports


# --- what is seen


def test_requests_of_the_canary_and_of_the_soak_are_counted() -> None:
    """The new side from its first request on; the old one while the canary ran, to compare with."""
    world = RolloutWorld()
    world.word(Verb.ROLLOUT_START)
    world.pass_(30.0)
    world.traffic("google", ok=99, failed=1)
    world.traffic("bedrock", ok=20, at_ms=500, usd=0.002)
    world.pass_(90.0)
    assert world.one.phase is RolloutPhase.SOAKING
    world.traffic("google", ok=5, at_ms=400, usd=0.001)
    world.traffic("bedrock", ok=3)
    world.tick(1.0)
    world.tick(1.0)

    for seen in (world.one.total, world.one.week, world.one.day):
        assert (seen.new.ok, seen.new.failed, seen.old.ok) == (104, 1, 23)
    assert (world.one.hour.new.ok, world.one.hour.old.ok) == (5, 3)
    assert (world.one.before.ok, world.one.before.priced) == (20, 20)
    assert world.one.before.cost_usd == pytest.approx(0.04)
    assert sum(world.one.total.new.latency_ms.values()) == 5


def test_a_report_read_twice_counts_once() -> None:
    """Also by the next leader."""
    world = RolloutWorld()
    world.soaking()
    world.traffic("google", ok=5)
    for _ in range(3):
        world.tick(1.0)
    world.succeed()
    world.tick(1.0)

    assert world.one.total.new.ok == 5


def test_a_proxy_that_was_away_for_long_counts_once() -> None:
    """What is known of it is kept for as long as its part in the rollout is."""
    world = RolloutWorld()
    world.soaking()
    world.traffic("google", ok=5)
    world.tick(1.0)
    away = world.reports.pop("p1")
    world.beat("p2")
    for _ in range(80):
        world.beat("p2")
        world.tick(10.0)
    world.reports["p1"] = replace(away, seq=away.seq + 1)
    world.tick(1.0)

    assert world.one.total.new.ok == 5


def test_what_is_none_of_its_traffic_does_not_count() -> None:
    """Another route, another attempt."""
    world = RolloutWorld()
    world.soaking()
    report = world.reports["p1"]
    ramps = {"rollout:gateway#2": {}, "canary:chat:1#1": {}, "rollout:other#1": {}}
    world.traffic("google", ok=1)
    arms = world.reports["p1"].ramps["rollout:gateway#1"]
    world.reports["p1"] = replace(world.reports["p1"], ramps=dict.fromkeys(ramps, arms), seq=report.seq + 9)
    world.tick(1.0)

    assert world.one.total.new.ok == 0


def test_the_hour_begins_anew() -> None:
    """Every hour, and when the clock goes back."""
    world = RolloutWorld()
    world.soaking()
    world.traffic("google", ok=5)
    world.tick(1.0)
    began_s = world.one.hour.since_s
    while world.now_s + 10.0 - began_s < HOUR_S:
        world.pass_(10.0)
    assert world.one.hour.new.ok == 5
    world.pass_(10.0)
    assert world.one.hour.new.ok == 0
    assert world.one.total.new.ok == 5
    world.tick(-7200.0)

    assert world.one.hour.since_s == world.now_s


def test_a_clock_that_went_back_does_not_silence_reports() -> None:
    """What began later than now began now."""
    world = RolloutWorld()
    world.soaking()
    world.tick(-10 * DAY_S)

    assert world.one.day.since_s == world.one.week.since_s == world.one.total.since_s == world.now_s


def test_nothing_new_is_nothing_to_save() -> None:
    """A report without requests leaves the counts the same object."""
    world = RolloutWorld()
    world.soaking()
    world.pass_(10.0)
    before = world.one
    world.serve("p1")
    world.tick(1.0)

    assert world.one is before


def test_latencies_without_counts_count() -> None:
    """A late report of either kind is one."""
    for field in ("latency_ms", "first_token_ms"):
        world = RolloutWorld()
        world.soaking()
        world.traffic("google")
        report = world.reports["p1"]
        arm_report = replace(report.ramps["rollout:gateway#1"]["google"], **{field: {3: 1}})
        world.reports["p1"] = replace(report, ramps={"rollout:gateway#1": {"google": arm_report}})
        world.tick(1.0)

        assert getattr(world.one.total.new, field) == {3: 1}


def test_issues_are_kept_in_number() -> None:
    """The newest, with their time."""
    rollout = one()
    for number in range(ISSUES_KEPT + 5):
        rollout = noted(rollout, f"issue {number}", NOON_S)

    assert len(rollout.total.issues) == ISSUES_KEPT
    assert rollout.day.issues[-1] == rollout.week.issues[-1] == f"12:00:00 issue {ISSUES_KEPT + 4}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0.2 s"),
        (9.0, "9 s"),
        (90.0, "90 s"),
        (119.6, "120 s"),
        (120.0, "2 min"),
        (150.0, "2.5 min"),
        (7200.0, "2 h"),
        (86_400.0, "24 h"),
        (172_800.0, "48 h"),
        (259_200.0, "3 days"),
        (604_800.0, "7 days"),
        (1_209_600.0, "14 days"),
    ],
)
def test_spans_in_words(seconds: float, text: str) -> None:
    """As the runbooks say them."""
    assert span(seconds) == text


def test_what_a_backup_compares() -> None:
    """A minute of traffic and of time is not worth a disk, an hour is, and so is whatever happened."""
    rollout = one(arm(5))
    later = replace(
        one(arm(9), arm(3), lately=arm(4)), watched_s=3_599.0, looked_s=NOON_S + 60, out_s=9.0, hold="x"
    )

    assert coarse(rollout) == coarse(later)
    for changed in (
        replace(rollout, watched_s=3_600.0),
        replace(rollout, phase=RolloutPhase.GO),
        replace(rollout, approved="ann"),
        replace(rollout, hour=Seen(since_s=NOON_S + HOUR_S)),
    ):
        assert coarse(changed) != coarse(rollout)


# --- when


def running(began_s: float, phase: RolloutPhase = RolloutPhase.SOAKING) -> Rollout:
    seen = Seen(since_s=began_s)
    return replace(one(), phase=phase, total=seen, day=seen, week=seen, hour=seen)


@pytest.mark.parametrize(
    ("began_s", "now_s", "kinds"),
    [
        (NOON_S, NOON_S + 1, ()),
        (NOON_S, NINE_S + DAY_S - 1, ()),
        (NOON_S, NINE_S + DAY_S, ("daily",)),
        (NOON_S, NINE_S + 6 * DAY_S + 1, ("daily",)),
        (NOON_S, NINE_S + 7 * DAY_S - 1, ("daily",)),
        (NOON_S, NINE_S + 7 * DAY_S, ("daily", "weekly")),
        (NOON_S, NOON_S + 90 * DAY_S, ("daily", "weekly")),
        (NINE_S - 60, NINE_S, ("daily",)),
        (NINE_S, NINE_S + 60, ()),
        (NOON_S, NOON_S - 9 * DAY_S, ()),
    ],
)
def test_when_reports_are_due(began_s: float, now_s: float, kinds: tuple[str, ...]) -> None:
    """At nine o'clock, UTC, once a day, and with every seventh a week."""
    assert tuple(kind.value for kind in due(running(began_s), now_s)) == kinds


@pytest.mark.parametrize("phase", list(RolloutPhase))
def test_who_reports(phase: RolloutPhase) -> None:
    """Whatever has moved traffic and still runs; what has ended now is told as a stage, once."""
    rollout = running(NOON_S, phase)
    moved = phase.value in {"ramping", "soaking", "approving", "blocked"}
    assert due(rollout, NOON_S + DAY_S) == ((ReportKind.DAILY,) if moved else ())
    ended = replace(rollout, decided_s=NOON_S + DAY_S)
    if phase.value in {"go", "rolled_back"}:
        assert due(ended, NOON_S + DAY_S) == (ReportKind.STAGE,)
        assert due(ended, NOON_S + DAY_S + 1) == ()


@pytest.mark.parametrize(("hour", "written"), [(9, 0), (13, 1), (12, 0)])
def test_the_hour_is_a_setting(hour: int, written: int) -> None:
    """It begins at noon; two hours later a report is due where the hour lies between."""
    rollout = replace(running(NOON_S), report_hour=hour)

    assert len(due(rollout, NOON_S + 2 * HOUR_S)) == written


def test_a_week_of_reports() -> None:
    """Seven days and one week, each of its own period, then the stage; nobody asks for any of them."""
    world = RolloutWorld(soak_s=7 * DAY_S)
    world.soaking(ok=30, usd=0.002, at_ms=500)
    for _ in range(7):
        world.traffic("google", ok=100, failed=1, usd=0.001, at_ms=400)
        world.pass_(DAY_S, 60.0)
    world.pass_(120.0, 60.0)

    reports = world.filed
    assert [report.kind.value for report in reports] == ["daily"] * 7 + ["weekly", "stage"]
    assert [report.number for report in reports] == [1, 2, 3, 4, 5, 6, 7, 1, 0]
    assert [report.requests for report in reports] == [101] * 7 + [707, 707]
    week = reports[-2]
    assert (week.failed, week.p95_ms, week.p95_before_ms) == (7, 400.0, 500.0)
    assert week.cost_usd == pytest.approx(0.7)
    assert week.cost_before_usd == pytest.approx(1.4)
    assert week.savings_usd == pytest.approx(0.7)
    assert len(world.told("rollout.report")) == 9
    assert reports[0].at_s - NINE_S < DAY_S + 60.0
    assert reports[1].since_s == reports[0].at_s


def test_a_report_is_told_in_words_and_in_numbers() -> None:
    """The note has what a notification needs."""
    rollout = replace(
        one(replace(priced(0.001), latency_ms={20: 100}), replace(priced(0.002), latency_ms={22: 100})),
        findings=(Finding(gate="requests", verdict=Verdict.PASS, why="100 requests"),),
    )
    notes: list[Note] = []
    _, after = filed(State(), rollout, ReportKind.DAILY, NOON_S + DAY_S, notes)

    assert notes[0].kind == "rollout.report"
    assert notes[0].subject == "gateway"
    assert notes[0].text == (
        "rollout gateway, development: day 1: 100 requests, 0 failed, p95 answer 315 ms (500 ms before), "
        "0.10 USD saved, no issues. Continue monitoring: every criterion is go so far."
    )
    assert notes[0].data == pytest.approx(
        {
            "report": "daily", "environment": "development", "attempt": 1, "number": 1, "requests": 100, "failed": 0,
            "p95_ms": 315.0, "p95_before_ms": 500.0, "cost_usd": 0.1, "cost_before_usd": 0.2, "savings_usd": 0.1,
        }
    )  # fmt: skip
    assert after.day == Seen(since_s=NOON_S + DAY_S)
    assert after.week == rollout.week


def test_what_costs_more_is_said_so() -> None:
    """Savings may be negative."""
    notes: list[Note] = []
    filed(State(), one(priced(0.003), priced(0.002)), ReportKind.DAILY, NOON_S + DAY_S, notes)

    assert "0.10 USD more than before" in notes[0].text


def test_what_has_no_evidence_is_left_out() -> None:
    """No number is made up."""
    notes: list[Note] = []
    rollout = one(replace(arm(30), first_token_ms={20: 30}))
    _, after = filed(State(), rollout, ReportKind.WEEKLY, NOON_S + 8 * DAY_S, notes)
    report = report_of(rollout, ReportKind.WEEKLY, NOON_S + 8 * DAY_S)

    assert "30 requests, 0 failed, p95 first token 315 ms, no issues." in notes[0].text
    assert notes[0].text.startswith("rollout gateway, development: week 1")
    assert (report.cost_usd, report.cost_before_usd, report.savings_usd) == (None, None, None)
    assert (report.p95_ms, report.cache_hit_ratio) == (None, None)
    assert after.week == Seen(since_s=NOON_S + 8 * DAY_S)
    assert after.day == rollout.day


@pytest.mark.parametrize(("count", "words"), [(0, "no issues"), (1, "1 issue"), (2, "2 issues")])
def test_issues_are_counted(count: int, words: str) -> None:
    """In words, however few."""
    notes: list[Note] = []
    rollout = one()
    for _ in range(count):
        rollout = noted(rollout, "something", NOON_S)
    filed(State(), rollout, ReportKind.STAGE, NOON_S, notes)

    assert f", {words}. " in notes[0].text


@pytest.mark.parametrize(("new", "old"), [(priced(1.0), arm(5)), (arm(5), priced(1.0))])
def test_savings_need_two_prices(new: Arm, old: Arm) -> None:
    """What is known of one side is told, and no difference."""
    report = report_of(one(new, old), ReportKind.STAGE, NOON_S)

    assert report.savings_usd is None
    assert (report.cost_usd is None) is (new.priced == 0)
    assert report.cost_before_usd is None


def test_thirty_reports_are_kept() -> None:
    """The newest."""
    state, rollout = State(), one()
    for number in range(REPORTS_KEPT + 3):
        state, rollout = filed(state, rollout, ReportKind.DAILY, NOON_S + number, [])

    kept = state.reports["gateway"]
    assert (REPORTS_KEPT, len(kept), kept[-1].at_s) == (30, 30, NOON_S + REPORTS_KEPT + 2)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (RolloutPhase.GO, "Go on: development is go."),
        (
            RolloutPhase.ROLLED_BACK,
            'Find the root cause (why), then: pointsman rollout again gateway --root-cause "…"',
        ),
        (RolloutPhase.APPROVING, "Approve it (pointsman rollout approve gateway), or stop it."),
        (RolloutPhase.BLOCKED, "Look at the old side: it is no-go and cannot go back (bedrock is out)."),
        (RolloutPhase.RAMPING, "Continue monitoring: the canary runs."),
        (
            RolloutPhase.SOAKING,
            "Continue monitoring, and look at what is not go yet: cache hits (no evidence: no response cache reports)",
        ),
    ],
)
def test_recommendations(phase: RolloutPhase, words: str) -> None:
    """What a person would do next."""
    found = tuple(
        Finding(gate=gate, verdict=verdict, why="no evidence: no response cache reports")
        for gate, verdict in (
            ("requests", Verdict.PASS),
            ("cost", Verdict.HOLD),
            ("cache_hits", Verdict.HOLD),
        )
    )
    rollout = replace(
        one(), phase=phase, ended="why", hold="bedrock is out", findings=found, overruled={"cost": "ann: yes"}
    )

    assert report_of(rollout, ReportKind.STAGE, NOON_S).recommendation == words


def test_titles() -> None:
    """By the period that they close."""
    rollout = replace(one(), phase=RolloutPhase.ROLLED_BACK)
    told = [title(report_of(rollout, kind, NOON_S + 14 * DAY_S)) for kind in ReportKind]

    assert told == [
        "rollout gateway, development: the stage is rolled back",
        "rollout gateway, development: day 14",
        "rollout gateway, development: week 2",
    ]
