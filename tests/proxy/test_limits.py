"""Bounds on what a proxy does at once and again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.errors import ABANDONED, CONSEQUENCES, SUCCESS, Fault, Outcome
from pointsman.proxy.limits import Bounds, Limits

FAILED = Outcome(Fault.OUTAGE)
OVERLOADED = Outcome(Fault.OVERLOAD)


def test_a_target_is_full_with_as_many_requests_as_it_may_have() -> None:
    """One that leaves makes room; other targets are not concerned, nor who has no bound."""
    limits = Limits(Bounds())
    limits.enter("a")
    assert not limits.is_full("a", 2)
    limits.enter("a")
    assert limits.is_full("a", 2)
    assert not limits.is_full("b", 2)
    assert not limits.is_full("a", 0)
    limits.leave("a")
    assert not limits.is_full("a", 2)


def test_failures_use_up_the_budget_and_successes_fill_it() -> None:
    """Token by token, and never above the budget."""
    limits = Limits(Bounds(retry_budget=2))
    for _ in range(9):
        limits.ended(SUCCESS)
    limits.ended(FAILED)
    assert limits.may_fall_over
    limits.ended(OVERLOADED)
    assert not limits.may_fall_over
    limits.ended(FAILED)  # no debts
    limits.ended(SUCCESS)
    assert limits.may_fall_over


@pytest.mark.parametrize("fault", list(Fault))
def test_what_takes_a_token_is_what_falls_over(fault: Fault) -> None:
    """A caller's own fault says nothing about how well retries do."""
    limits = Limits(Bounds(retry_budget=1))
    limits.ended(Outcome(fault))
    assert limits.may_fall_over is not CONSEQUENCES[fault].falls_over


def test_without_a_budget_there_is_no_end() -> None:
    """0 turns it off."""
    limits = Limits(Bounds(retry_budget=0))
    for outcome in (FAILED, FAILED, SUCCESS, ABANDONED):
        limits.ended(outcome)
        assert limits.may_fall_over


@pytest.mark.parametrize(("size", "kept"), [(0, True), (10, True), (11, False)])
def test_a_body_is_kept_up_to_its_bound(size: int, kept: bool) -> None:
    """What is not kept is not counted."""
    limits = Limits(Bounds(replay_bytes=10))
    assert limits.keep(size) is kept
    assert limits.kept_bytes == (size if kept else 0)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=40))
def test_what_is_kept_in_all_stays_within_its_bound(bodies: list[tuple[int, bool]]) -> None:
    """Whatever comes and goes: never more than the bound, and refused only what would not fit."""
    limits = Limits(Bounds(replay_bytes=10, replay_bytes_in_all=25))
    kept: list[int] = []
    for size, goes in bodies:
        fits = size <= 10 and sum(kept) + size <= 25
        assert limits.keep(size) is fits
        kept += [size] if fits else []
        if goes and kept:
            limits.release(kept.pop(0))
        assert limits.kept_bytes == sum(kept) <= 25
