"""The rolling window, and the ratio that trips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.errors import Fault
from pointsman.core.health import (
    EXCESS_TO_TRIP,
    add_counts,
    excess,
    failures_and_answers,
    ratio_trips,
    totals,
)
from pointsman.core.model import Bucket, Policy
from world import NOON_S


def test_buckets() -> None:
    """Counts go into slices of ten seconds; a slice leaves when the window has passed it."""
    first = add_counts((), {"ok": 1}, 1_000.0, 300.0)
    same = add_counts(first, {"ok": 2, "outage": 1}, 1_009.9, 300.0)
    next_ = add_counts(same, {"ok": 4}, 1_010.0, 300.0)

    assert same == (Bucket(1_000.0, {"ok": 3, "outage": 1}),)
    assert next_ == (Bucket(1_000.0, {"ok": 3, "outage": 1}), Bucket(1_010.0, {"ok": 4}))
    assert add_counts(next_, {"ok": 1}, 1_015.0, 300.0) == (same[0], Bucket(1_010.0, {"ok": 5}))
    assert add_counts(next_, {}, 1_309.9, 300.0) == next_
    assert add_counts(next_, {}, 1_310.0, 300.0) == next_[1:]
    assert add_counts((), {}, 1_000.0, 300.0) == ()


def test_totals() -> None:
    """The sum over the slices that reach past the time given."""
    window = (Bucket(1_000.0, {"ok": 3, "outage": 1}), Bucket(1_010.0, {"ok": 4}))

    assert totals(window, 0.0) == {"ok": 7, "outage": 1}
    assert totals(window, 1_009.9) == {"ok": 7, "outage": 1}
    assert totals(window, 1_010.0) == {"ok": 4}
    assert totals(window, 1_020.0) == {}


def test_failures_and_answers() -> None:
    """Outages and overloads are failures; they and successes are answers; nothing else is either."""
    everything = {fault: 1 + position for position, fault in enumerate(Fault)}
    ok, overload, outage = everything[Fault.OK], everything[Fault.OVERLOAD], everything[Fault.OUTAGE]

    assert failures_and_answers(everything) == (overload + outage, overload + outage + ok)
    assert failures_and_answers({}) == (0, 0)


def test_excess_is_a_divergence() -> None:
    """answered × KL(ratio ‖ limit), worked out by hand: 0.5 ln 10 + 0.5 ln(0.5/0.95) per answer at a half."""
    assert excess(10, 20, 0.05) == pytest.approx(20 * (0.5 * 2.302585 - 0.5 * 0.641854), abs=1e-4)
    assert excess(20, 20, 0.05) == pytest.approx(20 * 2.995732, abs=1e-4)


def test_no_excess() -> None:
    """Nothing answered, or no more failed than is allowed, is no excess."""
    assert excess(0, 0, 0.05) == 0.0
    assert excess(5, 100, 0.05) == 0.0
    assert excess(6, 100, 0.05) > 0.0


@given(st.integers(1, 400), st.data())
def test_excess_grows(answered: int, data: st.DataObject) -> None:
    """More failures of as many answers are never less of an excess."""
    failed = data.draw(st.integers(1, answered))

    assert excess(failed, answered, 0.05) >= excess(failed - 1, answered, 0.05) >= 0.0


def ratio(failed: int, answered: int, at_s: float = NOON_S) -> str:
    window = (Bucket(at_s, {"outage": failed, "ok": answered - failed}),)
    return ratio_trips(window, Policy(), NOON_S)


def test_ratio() -> None:
    """The reason names the counts, the ratio and the limit."""
    assert ratio(10, 20) == "10 of 20 requests failed (50 %, limit 5 %)"


def test_small_samples_do_not_trip() -> None:
    """Under 20 answers no ratio trips, whatever it is; at 20 it does from ten failures on."""
    assert ratio(19, 19) == ""
    assert ratio(9, 20) == ""
    assert ratio(10, 20) != ""
    assert excess(9, 20, 0.05) < EXCESS_TO_TRIP < excess(10, 20, 0.05)


def test_noise_does_not_trip() -> None:
    """2 % of noise does not trip, nor 5 % for ever."""
    assert ratio(20, 1_000) == ""
    assert ratio(500, 10_000) == ""


def test_only_the_recent_window() -> None:
    """The ratio looks a minute back, to the end of the slice that this falls into, and no further."""
    assert ratio(20, 20, NOON_S - 60) != ""
    assert ratio(20, 20, NOON_S - 61) == ""


def test_counted_anew() -> None:
    """From a given moment on a slice of its own is filled; it ends as any other, and the ratio looks at it alone."""
    before = add_counts((), {"outage": 30}, 1_001.0, 300.0)
    after = add_counts(before, {"outage": 20}, 1_004.0, 300.0, 1_003.0)
    later = add_counts(after, {"ok": 1}, 1_010.0, 300.0, 1_003.0)

    assert after == (*before, Bucket(1_003.0, {"outage": 20}))
    assert add_counts(after, {"ok": 1}, 1_009.9, 300.0, 1_003.0)[1:] == (
        Bucket(1_003.0, {"outage": 20, "ok": 1}),
    )
    assert later[2:] == (Bucket(1_010.0, {"ok": 1}),)
    assert totals(after, 1_009.9) == {"outage": 50}
    assert totals(after, 1_010.0) == {}
    assert add_counts(after, {}, 1_310.0, 300.0) == ()
    assert ratio_trips(after, Policy(), 1_005.0).startswith("50 of 50")
    assert ratio_trips(after, Policy(), 1_005.0, 1_003.0).startswith("20 of 20")
    assert ratio_trips(after, Policy(), 1_005.0, 1_003.1) == ""
