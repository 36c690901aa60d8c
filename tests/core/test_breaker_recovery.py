"""The breaker: cooldown, trials, recovery, and what is counted meanwhile."""

import pytest
from msgspec.structs import replace
from steps import BACK, COOLING, HEALTHY, OPEN, REACH, live, probes, stepped

from pointsman.core.evidence import ProbeKind
from pointsman.core.health import Seen
from pointsman.core.model import Bucket, Health, Phase
from world import NOON_S

# --- cooldown


def test_nothing_counts_in_a_cooldown() -> None:
    """Failures in a cooldown, probed or live, count nothing against it but for the failback, and tell nothing."""
    after, told = stepped(COOLING, probes("500", "refused"), live(40, outage=40), now_s=NOON_S + 1)

    assert replace(after, last_failure="", last_failure_s=0, refuses=True, probes=(), window=()) == COOLING
    assert after.probes == (Bucket(NOON_S, {"failed": 2}),)
    assert (after.last_failure, told) == ("connection refused", [])


def test_a_success_in_a_cooldown() -> None:
    """A success does not end a cooldown either; it is remembered."""
    after, _ = stepped(COOLING, probes("ok"), live(0, last_ok_s=NOON_S + 1, ok=9), now_s=NOON_S + 2)

    assert replace(after, window=()) == replace(
        COOLING,
        last_success_s=NOON_S + 1,
        last_live_success_s=NOON_S + 1,
        probes=(Bucket(NOON_S, {"ok": 1}),),
    )


def test_half_open() -> None:
    """At its deadline a cooldown ends half-open, with a new leave for a trial."""
    early, _ = stepped(COOLING, None, now_s=NOON_S + 59.9)
    after, told = stepped(replace(COOLING, trials_ok=1), None, now_s=NOON_S + 60)

    assert early == COOLING
    assert after == replace(
        COOLING,
        phase=Phase.HALF_OPEN,
        since_s=NOON_S + 60,
        grant=4,
        grant_s=NOON_S + 60,
        grant_counted=3,
        trials_ok=0,
    )
    assert told == ["target.half_open: t half-open: cooldown is over, 2 good trials needed"]


# --- half-open


def trial(grant: int, fault: str) -> Seen:
    return Seen(counts={}, probes=[], trials=[(grant, fault)])


def test_two_good_trials() -> None:
    """Two good generations start the slow start, at once or one by one."""
    one, nothing = stepped(OPEN, probes("ok"))
    two, told = stepped(one, probes("ok"), now_s=NOON_S + 3)

    assert (one.phase, one.trials_ok, nothing) == (Phase.HALF_OPEN, 1, [])
    assert (two.phase, two.back_s, two.generation, two.refuses, two.reason) == (
        Phase.RECOVERING, NOON_S + 3, 1, False, "",
    )  # fmt: skip
    assert (two.since_s, two.failures) == (NOON_S + 3, 5)
    assert told == ["target.recovering: t recovering: 2 good trials, slow start over 60 s"]
    assert stepped(OPEN, probes("ok", "ok"))[0].phase is Phase.RECOVERING


def test_recovery_begins_without_a_run() -> None:
    """What ran before the trip, or failed since, is nothing to the recovery."""
    tripped, _ = stepped(HEALTHY, probes("500", "500"), probes("500", "500", kind=REACH), live(5, outage=5))
    later, _ = stepped(tripped, probes("500", kind=REACH), live(7, outage=2), now_s=NOON_S + 1)
    after, _ = stepped(later, probes("ok", "ok"), now_s=NOON_S + 60)

    assert after.phase is Phase.RECOVERING
    assert (after.live_streak, after.reach_streak, after.generate_streak) == (0, 0, 0)


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_a_failed_trial(kind: ProbeKind) -> None:
    """A failed probe of either kind is one failure more, and forgets the good ones."""
    after, told = stepped(replace(OPEN, trials_ok=1), probes("503", kind=kind))

    assert (after.phase, after.failures, after.trials_ok, after.cooldown_until_s) == (
        Phase.COOLDOWN, 6, 0, NOON_S + 60,
    )  # fmt: skip
    assert "trial failed: HTTP 503 (failures: 6" in told[0]


def test_good_and_bad_trials() -> None:
    """A bad trial between two good ones is a bad one."""
    assert stepped(OPEN, probes("ok", "500", "ok"))[0].phase is Phase.COOLDOWN


@pytest.mark.parametrize("text", ["400", "429", "401", "402", "slow_down"])
def test_trials_without_a_verdict(text: str) -> None:
    """A rate limit, a refused key or a caller's fault is no verdict on a trial: those have axes of their own."""
    after, _ = stepped(OPEN, probes(text))

    assert (after.phase, after.failures, after.trials_ok) == (Phase.HALF_OPEN, 5, 0)


def test_reach_is_no_trial() -> None:
    """A good reach probe is a trial only where nothing else can try."""
    assert stepped(OPEN, probes("ok", "ok", kind=REACH))[0].trials_ok == 0
    assert stepped(OPEN, probes("ok", "ok", kind=REACH), reach_is_trial=True)[0].phase is Phase.RECOVERING


def test_live_trials() -> None:
    """A granted request that succeeds is a good trial, and makes place for the next."""
    one, _ = stepped(OPEN, trial(4, "ok"), now_s=NOON_S + 1)
    two, _ = stepped(one, trial(5, "ok"))

    assert (one.trials_ok, one.grant, one.grant_s) == (1, 5, NOON_S + 1)
    assert two.phase is Phase.RECOVERING


@pytest.mark.parametrize("fault", ["outage", "overload"])
def test_a_failed_live_trial(fault: str) -> None:
    """A granted request that fails is a failed trial."""
    after, told = stepped(OPEN, trial(4, fault))

    assert (after.phase, after.failures) == (Phase.COOLDOWN, 6)
    assert f"trial failed: live request: {fault}" in told[0]


@pytest.mark.parametrize(
    "fault", ["caller", "content_filter", "abandoned", "rate_limit", "capacity", "quota", "new"]
)
def test_a_live_trial_without_a_verdict(fault: str) -> None:
    """What says nothing about the target makes place for another trial; so does a class of a later version."""
    after, _ = stepped(OPEN, trial(4, fault))

    assert (after.phase, after.trials_ok, after.grant) == (Phase.HALF_OPEN, 0, 5)


@pytest.mark.parametrize("grant", [3, 5])
def test_another_trial(grant: int) -> None:
    """A trial that was counted before, or never granted, is nobody's."""
    counted = replace(OPEN, grant_counted=3)

    assert stepped(counted, trial(grant, "outage")) == (counted, [])


def test_a_long_trial() -> None:
    """A trial that lasts longer than the patience after which another is granted still counts, once."""
    waiting = replace(OPEN, grant=7, grant_counted=3)
    after, _ = stepped(waiting, trial(4, "ok"))
    again, _ = stepped(after, trial(4, "ok"))

    assert (after.trials_ok, after.grant, after.grant_counted) == (1, 8, 4)
    assert again.trials_ok == 1


def test_trials_are_of_half_open_only() -> None:
    """What is said of a trial when none is granted changes nothing."""
    assert stepped(COOLING, trial(3, "ok")) == (COOLING, [])


def test_patience() -> None:
    """A leave that nobody used within 15 s goes to the next."""
    assert stepped(OPEN, None, now_s=NOON_S + 14.9)[0] == OPEN
    assert stepped(OPEN, None, now_s=NOON_S + 15)[0] == replace(OPEN, grant=5, grant_s=NOON_S + 15)


def test_half_open_traffic_does_not_count() -> None:
    """Traffic through the safety valve is no trial, and makes no run."""
    after, _ = stepped(OPEN, live(9, outage=9), live(0, last_ok_s=NOON_S + 1, ok=9))

    assert (after.phase, after.trials_ok, after.live_streak) == (Phase.HALF_OPEN, 0, 0)


# --- recovering


def test_recovered() -> None:
    """When the slow start is over the target is healthy, and its failures are forgotten."""
    early, _ = stepped(BACK, None, now_s=NOON_S + 59.9)
    after, told = stepped(BACK, None, now_s=NOON_S + 60)

    assert early == BACK
    assert after == Health(phase=Phase.HEALTHY, since_s=NOON_S + 60)
    assert told == ["target.healthy: t healthy: slow start is over"]


def test_no_suspicion_in_recovery() -> None:
    """A recovering target is not made suspect; it trips or it recovers. Its run is what has it probed closely."""
    failed, _ = stepped(BACK, probes("500"))

    assert (failed.phase, failed.generate_streak) == (Phase.RECOVERING, 1)
    assert stepped(BACK, probes("ok"))[0].phase is Phase.RECOVERING
    assert stepped(failed, probes("500"), probes("500"))[0].phase is Phase.COOLDOWN


def test_a_slow_start_of_another_axis() -> None:
    """A slow start after a rate limit ends too, without news."""
    health = replace(HEALTHY, back_s=NOON_S)

    assert stepped(health, None, now_s=NOON_S + 59.9) == (health, [])
    assert stepped(health, None, now_s=NOON_S + 60) == (HEALTHY, [])


# --- counts


@pytest.mark.parametrize("health", [HEALTHY, COOLING, OPEN, BACK])
def test_the_window_fills(health: Health) -> None:
    """Whatever the phase, what came of requests is counted by class."""
    after, _ = stepped(health, live(0, ok=3), live(0, caller=1))

    assert after.window == (Bucket(NOON_S, {"ok": 3, "caller": 1}),)


@pytest.mark.parametrize("after_s", [0.0, 0.4, 7.0])
def test_a_trip_is_not_counted_twice(after_s: float) -> None:
    """What led to a trip, or was seen while it was out, does not trip it again when it is back."""
    since_s = NOON_S + after_s
    cooling, _ = stepped(HEALTHY, live(5, outage=40), now_s=since_s)
    opened, _ = stepped(cooling, live(9, outage=50), None, now_s=since_s + 60)
    back_, _ = stepped(
        opened, Seen(counts={"outage": 60}, probes=probes("ok", "ok").probes), now_s=since_s + 70
    )
    serving, told = stepped(back_, live(0, ok=2, outage=1), now_s=since_s + 70)
    again, _ = stepped(serving, live(1, outage=19), now_s=since_s + 71)

    assert back_.phase is serving.phase is Phase.RECOVERING
    assert (sum(bucket.counts.get("outage", 0) for bucket in serving.window), told) == (151, [])
    assert (again.phase, again.reason) == (Phase.COOLDOWN, "20 of 22 requests failed (91 %, limit 5 %)")


def test_times_of_success() -> None:
    """The last success is the later of the probed and the live one; neither goes back."""
    probed, _ = stepped(HEALTHY, probes("ok", at_s=5.0))
    lived, _ = stepped(probed, live(0, last_ok_s=4.0))
    later, _ = stepped(lived, live(0, last_ok_s=6.0), live(0, last_ok_s=3.0), probes("ok", at_s=2.0))

    assert (lived.last_success_s, lived.last_live_success_s) == (5.0, 4.0)
    assert (later.last_success_s, later.last_live_success_s) == (6.0, 6.0)


def test_the_last_failure() -> None:
    """The last failure is told with its time, and whether a connection came about."""
    refused = Seen(
        counts={}, streak=2, streak_detail="connection refused", refuses=True, probes=[], trials=[]
    )
    lived, _ = stepped(HEALTHY, refused, now_s=NOON_S + 2)
    probed, _ = stepped(lived, probes("500", at_s=NOON_S + 3))
    ended, _ = stepped(lived, live(0))

    assert (lived.last_failure, lived.last_failure_s, lived.refuses) == (
        "connection refused",
        NOON_S + 2,
        True,
    )
    assert (probed.last_failure, probed.last_failure_s, probed.refuses) == ("HTTP 500", NOON_S + 3, False)
    assert (ended.live_streak, ended.last_failure) == (0, "connection refused")


def test_no_live_evidence() -> None:
    """Where nothing live came in, the run stays what it was."""
    assert stepped(replace(HEALTHY, live_streak=1), probes("ok"))[0].live_streak == 1
