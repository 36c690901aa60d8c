"""What callers bring along: a caller is compared with itself on the control, where that is known."""

import pytest

from pointsman.core.brought import Brought, beyond, bits_of, brought, more_than_brought
from pointsman.core.ramp_model import CANARY_STEPS, Arm, RampPolicy

POLICY = RampPolicy(steps=CANARY_STEPS)
BAD, GOOD, OTHER = 7, 8, 9
KEPT = {20: 2, 21: 2, 22: 2}
NOTHING = Brought(expected={}, variance={}, known=0)


def arm(requests: int, failing: dict[int, int], *callers: int) -> Arm:
    """So many requests of these callers, and of those that failed."""
    bits = sum(1 << bit for bit in {*callers, *failing})
    failed = sum(failing.values())
    return Arm(ok=requests - failed, failed=failed, callers=bits, failing=failing)


# The bad caller fails 30 times, the good one never; one is on the moved side from the beginning.
FIRST = (arm(100, {OTHER: 1}), arm(900, {BAD: 30, **KEPT}, GOOD))


def after(first: tuple[Arm, Arm], moved: Arm, control: Arm) -> Brought:
    return brought([first, (moved, control)], POLICY)[-1]


def test_a_caller_that_moved_is_expected_to_fail_as_before() -> None:
    """As often for as many requests of both sides together, and as uncertain as two counts are."""
    own = after(FIRST, arm(300, {BAD: 40}), arm(1_700, KEPT))
    assert own.expected == {BAD: pytest.approx(60.0)}
    assert own.variance == {BAD: pytest.approx(60.0 * 3)}


def test_only_who_moved_is_known() -> None:
    """With or without failures before; who was on the moved side from the beginning is not."""
    own = after(FIRST, arm(300, {BAD: 40, OTHER: 5}, GOOD), arm(1_700, KEPT))
    assert set(bits_of(own.known)) == {BAD, GOOD}


def test_what_the_control_still_fails_with_was_not_brought() -> None:
    """Another caller of the same bit stayed: its failures are taken off, and never below nothing."""
    assert after(FIRST, arm(300, {BAD: 4}), arm(1_700, {BAD: 45})).expected == {BAD: pytest.approx(15.0)}
    assert after(FIRST, arm(300, {BAD: 4}), arm(1_700, {BAD: 90})).expected == {BAD: 0.0}


def test_callers_that_keep_to_no_side_bring_nothing() -> None:
    """They were on both from the beginning."""
    both = dict.fromkeys(range(64), 3)
    own = after((arm(6_000, both), arm(6_000, both)), arm(6_000, both), arm(6_000, both))
    assert own == NOTHING


def test_a_trouble_of_the_control_tells_nothing_of_a_caller() -> None:
    """What everybody failed with is nobody's own."""
    outage = (arm(100, {}, OTHER), arm(900, dict.fromkeys((*KEPT, BAD), 200)))
    assert after(outage, arm(300, {BAD: 40}), arm(1_700, KEPT)) == NOTHING


def test_one_bad_caller_is_no_trouble_of_the_control() -> None:
    """Although it alone lifts the control over the limit."""
    first = (arm(100, {OTHER: 1}), arm(900, {BAD: 300, **KEPT}, GOOD))
    assert after(first, arm(300, {BAD: 40}), arm(1_700, KEPT)).expected == {BAD: pytest.approx(600.0)}


def test_every_stamp_before_the_move_counts() -> None:
    """And none after it, so that a step that begins anew expects as much as it did."""
    steps = [FIRST, FIRST, (arm(300, {BAD: 40}), arm(700, KEPT)), (arm(300, {BAD: 90}), arm(700, KEPT))]
    assert [own.expected for own in brought(steps, POLICY)] == [{}, {}, {BAD: 30.0}, {BAD: 30.0}]


def test_what_is_beyond() -> None:
    """More than expected, give or take its standard deviation; who brought nothing counts in full."""
    own = Brought(expected={1: 60.0, 2: 60.0}, variance={1: 100.0, 2: 100.0}, known=0b110)
    moved = arm(1_000, {1: 90, 2: 75, 3: 5})
    assert beyond(moved, own) == {1: 30.0, 2: 15.0, 3: 5.0}
    assert beyond(moved, own, 2.0) == {1: 10.0, 3: 5.0}


def test_more_than_was_brought() -> None:
    """Of known callers alone, and with those that failed less than they should have."""
    own = Brought(expected={1: 60.0, 2: 60.0}, variance={1: 1.0, 2: 1.0}, known=0b10110)
    assert more_than_brought(arm(1_000, {1: 90, 2: 40, 3: 50, 4: 7}), own) == pytest.approx(17.0)
