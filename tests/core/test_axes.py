"""Barred, and what all axes have in common."""

import pytest
from msgspec.structs import replace
from steps import GENERATE, HEALTHY, REACH, asked, context, live, probes, stepped

from pointsman.core.axes import back, clock, note
from pointsman.core.breaker import due, factor
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import ProbeKind
from pointsman.core.health import Seen
from pointsman.core.model import Bucket, Health, Phase, Policy
from world import NOON_S


def test_clock() -> None:
    """A time of day in UTC."""
    assert clock(NOON_S + 3_725) == "13:02:05"


def test_note() -> None:
    """A note carries its numbers as data."""
    told = note(NOON_S, "kind", "bedrock", "text", wait_s=3.0)

    assert (told.at_s, told.kind, told.subject, told.text, told.data) == (
        NOON_S, "kind", "bedrock", "text", {"wait_s": 3.0},
    )  # fmt: skip


def test_back() -> None:
    """Coming back is a slow start, and a new generation."""
    assert back(Health(generation=4), NOON_S) == Health(generation=5, back_s=NOON_S)


def test_two_probes_bar() -> None:
    """One 401 may be an accident; two in a row bar, with what to look at."""
    once, silence = stepped(HEALTHY, probes("401"))
    twice, told = stepped(once, probes("401"))

    assert (once.barred, once.bar_streak, silence) == ("", 1, [])
    assert (twice.barred, twice.barred_by, twice.barred_until_s) == ("HTTP 401", "generate", NOON_S + 300)
    assert told == ["target.barred: t barred: HTTP 401. Check its credential, account and limits"]
    assert factor(twice, Policy(), NOON_S) == 0
    assert (twice.phase, twice.failures, twice.generate_streak) == (Phase.HEALTHY, 0, 0)


def test_a_good_probe_in_between() -> None:
    """A generation that succeeds ends the run."""
    assert stepped(HEALTHY, probes("401", "ok", "401"))[0].barred == ""


def test_a_reach_probe_in_between() -> None:
    """A free probe does not end a run of refused generations, or quota would never be seen without traffic."""
    after, _ = stepped(HEALTHY, probes("402"), probes("ok", kind=REACH), probes("402"))

    assert after.barred == "HTTP 402"


def test_a_reach_probe_ends_its_own() -> None:
    """A run of reach probes alone is ended by a reach probe."""
    after, _ = stepped(HEALTHY, probes("401", "ok", "401", kind=REACH))

    assert (after.barred, after.bar_streak, after.barred_by) == ("", 1, "reach")


def test_a_run_that_ended_leaves_no_blame() -> None:
    """After a run of generations has ended, a run of reach probes is reach's own."""
    barred, _ = stepped(HEALTHY, probes("401", "ok"), probes("401", "401", kind=REACH))

    assert barred.barred_by == "reach"
    assert stepped(barred, probes("ok", kind=REACH))[0].barred == ""


def test_an_outage_in_between() -> None:
    """A failure of another kind neither ends a run nor adds to it."""
    assert stepped(HEALTHY, probes("401"), probes("500", "429"), probes("401"))[0].barred == "HTTP 401"


def test_quota_says_when() -> None:
    """With its own word of when to come back, that long; a second word never shortens it."""
    said = Outcome(Fault.QUOTA, "HTTP 429", 429, 3_600.0)
    after, _ = stepped(HEALTHY, asked(said), asked(said))
    again, told = stepped(after, probes("402"), now_s=NOON_S + 1)

    assert after.barred_until_s == NOON_S + 3_600
    assert again.barred_until_s == NOON_S + 3_600
    assert (again.barred, told) == ("HTTP 402", [])


def test_barred_longer() -> None:
    """While it is barred each further probe that is refused lengthens it."""
    after, _ = stepped(HEALTHY, probes("401", "401"))
    again, _ = stepped(after, probes("401"), now_s=NOON_S + 60)

    assert again.barred_until_s == NOON_S + 360


@pytest.mark.parametrize(
    ("by", "lifted_by", "free"),
    [(GENERATE, REACH, False), (GENERATE, GENERATE, True), (REACH, REACH, True), (REACH, GENERATE, True)],
)
def test_which_probe_lifts(by: ProbeKind, lifted_by: ProbeKind, free: bool) -> None:
    """A reach probe lifts only what reach barred; a generation lifts all."""
    barred, _ = stepped(HEALTHY, probes("401", "401", kind=by))
    after, told = stepped(barred, probes("ok", kind=lifted_by))

    assert (after.barred == "") is free
    assert told == (
        [f"target.unbarred: t no longer barred: a {lifted_by.value} probe succeeded"] if free else []
    )


def test_reach_alone_bars_nobody_who_generates() -> None:
    """A key without leave to list models is no bad key: reach alone adds to a generation's verdict, and no more."""
    after, told = stepped(HEALTHY, *[probes("403", kind=REACH)] * 9, generates=True)
    answered, silence = stepped(after, probes("ok"), generates=True)
    later, _ = stepped(answered, *[probes("403", kind=REACH)] * 9, generates=True)

    assert (after.barred, after.bar_streak, after.barred_by, told) == ("", 2, "reach", [])
    assert (answered.bar_streak, answered.barred_by, answered.reach_refused, silence) == (0, "", True, [])
    assert later == answered


@pytest.mark.parametrize("known", [False, True])
def test_reach_and_generation_bar_together(known: bool) -> None:
    """One refused generation is enough with a refused reach probe, before it or after it, whatever was known."""
    health = replace(HEALTHY, reach_refused=known)
    before, _ = stepped(health, probes("401", kind=REACH), probes("401"), generates=True)
    after, _ = stepped(health, probes("401"), probes("401", kind=REACH), generates=True)

    assert (before.barred, before.barred_by) == (("", "generate") if known else ("HTTP 401", "generate"))
    assert (after.barred, after.barred_by) == ("HTTP 401", "generate")


def test_reach_counts_little_for_requests() -> None:
    """However often reach was refused, three requests must be refused too."""
    doubted, _ = stepped(HEALTHY, *[probes("403", kind=REACH)] * 9, generates=True)

    assert stepped(doubted, refused(credential=2), generates=True)[0].barred == ""
    assert stepped(doubted, refused(credential=3), generates=True)[0].barred == "HTTP 403"


def test_reach_is_let_in_again() -> None:
    """A reach probe that is let in ends what is known of its refusals, and its own run."""
    known = replace(HEALTHY, reach_refused=True)
    after, _ = stepped(known, probes("ok", kind=REACH), generates=True)
    doubted, _ = stepped(HEALTHY, probes("403", "ok", kind=REACH), generates=True)

    assert after.reach_refused is False
    assert (doubted.bar_streak, doubted.reach_refused) == (0, False)


def test_refused_reach_counts_again_without_generation() -> None:
    """Where generation is forbidden later on, refused reach probes bar, whatever was known."""
    known = replace(HEALTHY, reach_refused=True)

    assert stepped(known, probes("401", "401", kind=REACH))[0].barred == "HTTP 401"


@pytest.mark.parametrize("order", [(GENERATE, GENERATE, REACH), (GENERATE, REACH), (REACH, GENERATE)])
def test_reach_does_not_lift_what_both_barred(order: tuple[ProbeKind, ...]) -> None:
    """Where a generation was refused too, whichever was first, reach alone lifts nothing."""
    barred, _ = stepped(HEALTHY, *(probes("401", kind=kind) for kind in order))
    after, _ = stepped(barred, probes("ok", kind=REACH))

    assert barred.barred_by == "generate"
    assert after.barred == "HTTP 401"


def test_unbarred() -> None:
    """Lifted, nothing of it is left but a slow start, and what a failback goes by."""
    barred, _ = stepped(HEALTHY, probes("401", "401"))
    after, _ = stepped(barred, probes("ok"), now_s=NOON_S + 5)

    seen = (Bucket(NOON_S, {"ok": 1}),)
    assert after == replace(HEALTHY, back_s=NOON_S + 5, generation=1, last_success_s=NOON_S, probes=seen)


def test_looked_at_again() -> None:
    """With no word about it, it is tried again after five minutes."""
    barred, _ = stepped(HEALTHY, probes("401", "401"))
    after, told = stepped(barred, None, now_s=NOON_S + 300)

    assert stepped(barred, None, now_s=NOON_S + 299.9) == (barred, [])
    assert (after.barred, after.bar_streak, after.back_s) == ("", 0, NOON_S + 300)
    assert told == ["target.unbarred: t no longer barred: looked at again after its time"]


def test_a_probe_is_asked_first() -> None:
    """Where generation is allowed, a bar whose time is over waits a while for the probe's answer."""
    barred, _ = stepped(HEALTHY, probes("402", "402"))
    waiting, silence = stepped(barred, None, now_s=NOON_S + 314.9, generates=True)
    after, _ = stepped(barred, None, now_s=NOON_S + 315, generates=True)

    assert (waiting, silence, after.barred) == (barred, [], "")


@pytest.mark.parametrize(("text", "fault"), [("401", "credential"), ("402", "quota")])
def test_what_bars(text: str, fault: str) -> None:
    """A bar remembers what it is for, by probe and by request; the last word counts, and freedom forgets it."""
    probed, _ = stepped(HEALTHY, probes("403"), probes(text))
    lived, _ = stepped(HEALTHY, refused(**{fault: 5}))

    assert (probed.barred_for, lived.barred_for) == (fault, fault)
    assert stepped(probed, probes("ok"))[0].barred_for == ""


def refused(**counts: int) -> Seen:
    return Seen(counts=counts, barred="HTTP 403", probes=[], trials=[])


def test_five_requests_bar() -> None:
    """Five refused requests in a row bar, over several reports and both classes; four do not."""
    four, _ = stepped(HEALTHY, refused(credential=3), refused(quota=1))
    five, told = stepped(four, refused(credential=1))

    assert (four.barred, four.bar_streak) == ("", 4)
    assert (five.barred, five.barred_by, five.barred_until_s) == ("HTTP 403", "live", NOON_S + 300)
    assert len(told) == 1


def test_stragglers_of_the_barred() -> None:
    """What comes in late from before it was barred does not bar it longer."""
    barred, _ = stepped(HEALTHY, refused(credential=5))
    after, told = stepped(barred, refused(credential=9), now_s=NOON_S + 60)

    assert (after.barred_until_s, told) == (NOON_S + 300, [])


def test_a_success_ends_it() -> None:
    """A request that succeeds ends the run; once barred, what still succeeds had begun before, and lifts nothing."""
    four, _ = stepped(HEALTHY, refused(credential=4), live(ok=1), refused(credential=4))
    barred, _ = stepped(four, refused(credential=1))
    after, told = stepped(barred, live(ok=1))

    assert (four.barred, four.bar_streak) == ("", 4)
    assert (after.barred, after.barred_by, after.generation) == (barred.barred, "live", barred.generation)
    assert told == []


def test_a_success_of_the_free() -> None:
    """A success where nothing was refused changes nothing on this axis."""
    after, told = stepped(HEALTHY, live(ok=1))

    assert (after.bar_streak, after.generation, told) == (0, 0, [])


def test_callers_do_not_bar() -> None:
    """Callers' faults add nothing to a run of refusals."""
    after, _ = stepped(HEALTHY, refused(credential=4), refused(caller=99, content_filter=9, abandoned=9))

    assert (after.barred, after.bar_streak) == ("", 4)


@pytest.mark.parametrize(
    "health",
    [
        replace(HEALTHY, throttled_until_s=NOON_S),
        replace(HEALTHY, softened_until_s=NOON_S),
        replace(HEALTHY, barred="x", barred_until_s=NOON_S),
    ],
)
def test_due(health: Health) -> None:
    """Time alone ends each axis, at its deadline and not before."""
    assert due(health, Policy(), NOON_S)
    assert not due(health, Policy(), NOON_S - 0.1)


def test_nothing_is_due() -> None:
    """A target with nothing against it waits for nothing."""
    assert not due(HEALTHY, Policy(), NOON_S + 1e9)


def test_context_defaults() -> None:
    """A leader that knows nothing believes nothing: no path proven, others to compare, generation tries it."""
    plain = type(context())(now_s=NOON_S, policy=Policy())

    assert (plain.path_proven_s, plain.alone, plain.reach_is_trial, plain.generates) == (
        0.0,
        False,
        False,
        False,
    )
