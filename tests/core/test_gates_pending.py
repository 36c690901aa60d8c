"""Requests that hang are no failures yet, and must not pass for answers."""

import pytest

from pointsman.core.gates.pending import pending
from pointsman.core.ramp_model import Verdict
from ramps import begun, seen, sight

RAMP = seen(begun(), (40, 0), (360, 0))


@pytest.mark.parametrize(
    ("overdue", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"bedrock": 9}, Verdict.PASS),
        ({"google": 1}, Verdict.HOLD),
        ({"google": 1, "bedrock": 9}, Verdict.HOLD),
        ({"google": 1, "bedrock": 10}, Verdict.PASS),
    ],
)
def test_pending(overdue: dict[str, int], verdict: Verdict) -> None:
    """Hold while the moved side has overdue requests, unless the control has more of them for its traffic."""
    assert pending(sight(RAMP, overdue=overdue)).verdict is verdict


def test_a_side_without_answers_counts_as_one() -> None:
    """Nothing can be divided by no answers: the control is compared as if the moved side had one."""
    assert (
        pending(sight(seen(begun(), (0, 0), (10, 0)), overdue={"google": 1, "bedrock": 9})).verdict
        is Verdict.HOLD
    )
    assert (
        pending(sight(seen(begun(), (0, 0), (8, 0)), overdue={"google": 1, "bedrock": 9})).verdict
        is Verdict.PASS
    )


def test_pending_with_no_answer_yet() -> None:
    """A side that has answered nothing at all and hangs is held."""
    found = pending(sight(begun(), overdue={"google": 3}))

    assert (found.verdict, found.data) == (Verdict.HOLD, {"moved_overdue": 3.0, "control_overdue": 0.0})
    assert found.why.startswith("3 requests of the moved side have waited far longer than is usual")
