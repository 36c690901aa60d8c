"""What keeps a ramp where it is, for how long, and what becomes of time that nobody watched."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.ramp_model import Calendar, Ramp, RampKind, RampPhase
from ramps import CANARY, GOAL_OUT, OUT, a_ramp, begun, looked, ready, seen
from world import NOON_S

TOLD = "canary on chat (bedrock → google)"


# --- holds


@pytest.mark.parametrize(
    ("fields", "given", "hold"),
    [
        ({"paused": "paused by ann: lunch"}, {}, "paused: paused by ann: lunch"),
        ({}, {"frozen": "ann froze all"}, "frozen: ann froze all"),
        ({}, {"over": "the manual of ann lies over it"}, "overlaid: the manual of ann lies over it"),
        ({}, {"out": GOAL_OUT}, "out: google cooldown until 12:10:00"),
        ({}, {"lagging": ("p1", "p2")}, "serving: not serving yet on p1, p2"),
        ({}, {"published": False}, "serving: the table with this share is not published yet"),
        ({}, {"proxies": 0}, "serving: no proxy is alive, so nothing is known of this share"),
        (
            {},
            {"out": OUT},
            "baseline: the control is out itself (bedrock cooldown until 12:10:00): frozen, nobody is blamed",
        ),
    ],
)
def test_holds(fields: dict[str, Any], given: dict[str, Any], hold: str) -> None:
    """Each thing that may hold a ramp holds it alone, and is told by its name."""
    after, told = looked(ready(**fields), **given)

    assert (after.step, after.hold) == (0, hold)
    assert told == [f"ramp.hold: {TOLD} holds: {hold.partition(': ')[2]}"]


def test_a_hold_is_told_once() -> None:
    """A hold is told when it begins, not at each look, also if its numbers change; and again when it is another."""
    first, told = looked(seen(begun(watched_s=99), (9, 0)))
    second, again = looked(seen(first, (10, 0)))
    third, other = looked(seen(first, (48, 2)))

    assert told == [f"ramp.hold: {TOLD} holds: 9 of 50 requests, about 8 min more"]
    assert (again, second.hold) == ([], "samples: 10 of 50 requests, about 7 min more")
    assert other == [f"ramp.hold: {TOLD} holds: 4.0 % of 50 requests failed in this step, 2.0 % pass"]
    assert third.held_by == ("errors",)


def test_a_young_step_is_not_told() -> None:
    """That a step has just begun is no news; what else holds it is."""
    _, told = looked(begun(), lagging=("p1",))
    _, failing = looked(seen(begun(), (30, 2), (100, 0)))

    assert told == []
    assert failing == [f"ramp.hold: {TOLD} holds: 6.2 % of 32 requests failed in this step, 2.0 % pass"]


def test_what_lies_over_it_is_enough() -> None:
    """That a ramp under a stronger overlay is not served either goes without saying."""
    _, told = looked(ready(), over="the manual of ann lies over it", published=False)

    assert told == [f"ramp.hold: {TOLD} holds: the manual of ann lies over it"]


def test_overruled() -> None:
    """An overruled hold does not hold, and stands in the reason of the step that it let by."""
    after, told = looked(seen(begun(overruled=1, watched_s=2), (9, 0)))

    assert after.step == 1
    assert told[0].endswith("overruled: watched for 2 of 60 s; overruled: 9 of 50 requests, about 9 s more")


def test_overruled_is_that_step_alone() -> None:
    """What was overruled in the step before holds again."""
    assert looked(begun(ready(), 1, overruled=1))[0].step == 1


@pytest.mark.parametrize("given", [{"lagging": ("p1",)}, {"out": GOAL_OUT}, {"frozen": "x"}, {"over": "x"}])
def test_what_nobody_overrules(given: dict[str, Any]) -> None:
    """A share that is not served, or cannot be, is not passed by any word."""
    assert looked(ready(overruled=1), **given)[0].step == 0


def test_overruled_aborts() -> None:
    """An abort is nothing to overrule."""
    assert looked(seen(begun(overruled=1), (50, 50), (100, 0)))[0].phase is RampPhase.ABORTED


# --- patience


def test_a_hold_has_an_end() -> None:
    """What holds for longer than its maximum is rolled back, with what held it."""
    waiting = begun(watched_s=1e4, held_s=599)
    held, _ = looked(waiting)
    after, told = looked(held)

    assert (held.phase, held.held_s) == (RampPhase.OBSERVING, 600)
    assert after.phase is RampPhase.ABORTED
    assert told == [
        (
            f"ramp.aborted: {TOLD} aborted: held for over 600 s: 0 of 50 requests, no traffic to estimate from, "
            "and what is held for 10 min is rolled back"
        )
    ]


def test_a_precheck_has_an_end() -> None:
    """A goal that stays out is not waited for for ever."""
    assert looked(replace(CANARY, held_s=600), out=GOAL_OUT)[0].phase is RampPhase.ABORTED


@pytest.mark.parametrize(
    ("ramp", "given"),
    [
        (begun(), {}),
        (begun(watched_s=1e4, paused="x"), {}),
        (begun(watched_s=1e4), {"frozen": "x"}),
        (begun(a_ramp(calendar=Calendar(days=(0,))), watched_s=1e4), {}),
        (begun(a_ramp(approvals=(5_000,)), watched_s=1e4), {}),
    ],
    ids=["dwell", "paused", "frozen", "calendar", "approval"],
)
def test_patience(ramp: Ramp, given: dict[str, Any]) -> None:
    """While a person, a calendar or the step's own time is waited for, no other hold's time counts."""
    after, _ = looked(replace(ramp, held_s=600), 10, **given)

    assert (after.phase, after.held_s) == (RampPhase.OBSERVING, 600)
    assert "samples" in after.hold


def test_what_is_never_served() -> None:
    """A share that some proxy does not come to serve is rolled back: the dwell that waits for it is no patience."""
    after, _ = looked(begun(held_s=595), 10, lagging=("p2",))

    assert after.ended.startswith("held for over 600 s: not serving yet on p2; watched for 0 of 60 s")


# --- a trouble of both sides


def frozen(ramp: Ramp, control: tuple[int, int]) -> Ramp:
    return seen(ramp, (80, 20), control)


def test_frozen() -> None:
    """While the control fails too the ramp is frozen: nobody is blamed, and no step is taken."""
    after, told = looked(frozen(begun(watched_s=1e4), (800, 200)))

    assert (after.phase, after.trouble) == (RampPhase.OBSERVING, (10_001, 1000, 200))
    assert told[0].startswith(
        f"ramp.hold: {TOLD} holds: 20.0 % of 1000 requests of the control fail too: frozen, nobody is blamed"
    )


def after_a_minute(ramp: Ramp, last: Ramp) -> tuple[Ramp, list[str]]:
    """`ramp`, frozen for 10 s, looked at every 10 s, and the last time with what `last` has seen."""
    for _ in range(4):
        ramp, _ = looked(ramp, 10)
    return looked(replace(ramp, tallies=last.tallies), 10)


def test_frozen_until_it_is_over() -> None:
    """It looks each minute at what the control did since; once that is well the step begins anew."""
    first, _ = looked(frozen(begun(watched_s=1e4), (800, 200)))
    soon, _ = looked(frozen(first, (900, 200)), 10)
    few, _ = after_a_minute(soon, frozen(soon, (819, 200)))
    bad, _ = after_a_minute(soon, frozen(soon, (894, 206)))
    after, told = after_a_minute(soon, frozen(soon, (896, 205)))

    assert soon.trouble == few.trouble == first.trouble
    assert bad.trouble == (10_061, 1100, 206)
    assert (after.phase, after.step, after.entry, after.trouble) == (RampPhase.SPREADING, 0, 2, None)
    assert told[-1] == f"ramp.anew: {TOLD} begins its step anew: the control is well again"
    assert after.tallies[after.stamp].arms == {}


def test_what_was_watched_in_vain_is_a_hold() -> None:
    """Up to the step's dwell, after which the hold counts by itself: a ramp does not begin anew for ever."""
    first, _ = looked(frozen(begun(watched_s=40.0, held_s=100.0), (800, 200)))
    early, _ = looked(replace(frozen(first, (900, 200)), watched_s=101.0))
    young, _ = looked(replace(frozen(first, (900, 200)), trouble=(-30.0, 1000, 200), watched_s=49.0))

    assert (early.entry, early.held_s) == (2, 160.0 + 1.0)
    assert (young.entry, young.held_s) == (2, 150.0)


def test_twenty_tell() -> None:
    """From twenty requests on the control is believed to be well."""
    first, _ = looked(frozen(begun(watched_s=1e4), (800, 200)))

    assert looked(replace(frozen(first, (820, 200)), watched_s=1.1e4))[0].entry == 2


# --- time


def test_a_leap_forward() -> None:
    """After a time that nobody watched a canary is not continued."""
    after, told = looked(ready(), 49)

    assert (after.phase, after.step) == (RampPhase.ABORTED, 0)
    assert told == [f"ramp.aborted: {TOLD} aborted: unwatched: nobody looked at it for 49 s"]


def test_looks_may_be_some_time_apart() -> None:
    """Up to four fifths of what the proxies keep it for it goes on, but a look tells of a sixth before it only."""
    after, _ = looked(begun(), 48)

    assert (after.phase, after.watched_s) == (RampPhase.OBSERVING, 10)


def test_a_leap_back() -> None:
    """A clock that goes back counts nothing and ends nothing; from there on time goes on."""
    after, told = looked(begun(watched_s=5, held_s=5), -1e6)

    assert (after.phase, after.watched_s, after.held_s, told) == (RampPhase.OBSERVING, 5, 5, [])
    assert after.looked_s == NOON_S - 1e6
    assert looked(after, 10)[0].watched_s == 15


def test_an_unwatched_shift() -> None:
    """Weights on their way stay where they were."""
    assert looked(ready(a_ramp(RampKind.SHIFT)), 100)[0].phase is RampPhase.ABORTED


@pytest.mark.parametrize("kind", [RampKind.FAILOVER, RampKind.FAILBACK])
def test_an_unwatched_failover(kind: RampKind) -> None:
    """What proxies keep by themselves is continued: with the same step anew, and never with the next."""
    after, told = looked(ready(a_ramp(kind), 1), 100)

    assert (after.phase, after.step, after.entry, after.watched_s) == (RampPhase.SPREADING, 1, 2, 0)
    assert told == [
        f"ramp.unwatched: {kind.value} on chat (bedrock → google) was not watched for 100 s: its step begins anew"
    ]


def test_an_unwatched_abort() -> None:
    """An operator's abort is one however late it is read."""
    failover = begun(a_ramp(RampKind.FAILOVER), aborting="ann: stop")

    assert looked(failover, 100)[0].ended == "ann: stop"


def test_an_unwatched_canary_over_a_dead_control() -> None:
    """With nothing to go back to it is blocked."""
    assert looked(ready(), 100, out=OUT)[0].phase is RampPhase.BLOCKED
