"""The gate that asks for enough requests, and for how long it will wait for them."""

import pytest

from pointsman.core.gates.samples import samples
from pointsman.core.ramp_model import RampPhase, Verdict
from ramps import a_ramp, begun, seen, sight

PASS, HOLD = Verdict.PASS, Verdict.HOLD


def test_samples() -> None:
    """Fewer requests than the floor hold, with the time that is left; the control's do not count."""
    assert samples(sight(seen(begun(), (40, 10), (9, 9)))).verdict is PASS
    assert samples(sight(seen(begun(), (40, 9), (99, 9)))).verdict is HOLD


@pytest.mark.parametrize(
    ("watched_s", "left"),
    [
        (0.0, ", no traffic to estimate from"),
        (22.0, ", about 88 s more"),
        (60.0, ", about 4 min more"),
        (1349.0, ", about 90 min more"),
        (1350.0, ", about 1.5 h more"),
    ],
)
def test_the_time_that_is_left(watched_s: float, left: str) -> None:
    """The estimate goes by the traffic so far, in a unit that people read."""
    patient = begun(a_ramp(max_hold_s=1e5), watched_s=watched_s)
    assert samples(sight(seen(patient, (10, 0)))).why == f"10 of 50 requests{left}"


@pytest.mark.parametrize(
    ("watched_s", "held_s", "requests", "told_so"),
    [
        (165.0, 0.0, 10, False),
        (166.0, 0.0, 10, True),
        (20.0, 0.0, 1, True),
        (20.0, 0.0, 2, False),
        (100.0, 200.0, 10, False),
        (100.0, 300.0, 10, True),
        (59.0, 0.0, 0, False),
        (60.0, 0.0, 0, True),
    ],
)
def test_samples_that_come_too_late(watched_s: float, held_s: float, requests: int, told_so: bool) -> None:
    """It says so when they will take longer than what is left of the dwell and of the longest hold."""
    waiting = begun(a_ramp(max_hold_s=660.0), watched_s=watched_s, held_s=held_s)
    why = samples(sight(seen(waiting, (requests, 0)))).why
    assert why.endswith(", and what is held for 11 min is rolled back") is told_so


def test_synthetic_samples() -> None:
    """Synthetic requests count where the ramp asked for them, and say so."""
    made = {"synthetic_ok": 8, "synthetic_failed": 2}

    asked = sight(seen(begun(a_ramp(synthetic=True)), (40, 0), **made))
    assert samples(asked).why == "50 requests (10 of them synthetic)"
    assert samples(asked).verdict is PASS
    assert samples(sight(seen(begun(), (40, 0), **made))).verdict is HOLD


def test_a_bake_asks_for_none() -> None:
    """It is over by its time."""
    baking = begun(a_ramp(bake_s=700.0), 2, phase=RampPhase.BAKING)
    assert samples(sight(baking)).verdict is PASS
