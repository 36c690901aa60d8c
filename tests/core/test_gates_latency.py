"""The latency gate where the control has too little to compare with."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.gates.latency import latency
from pointsman.core.latency import latency_cell
from pointsman.core.ramp_model import Finding, Verdict
from ramps import a_ramp, begun, seen, sight


def compared(control: int, **rules: Any) -> Finding:
    """What is said of 100 answers of 1,000 ms beside so many of 300 ms."""
    ramp = begun(a_ramp(**rules))
    tally = seen(ramp, (100, 0), (control, 0)).tallies[ramp.stamp]
    timed = {"google": {latency_cell(1_000): 100}, "bedrock": {latency_cell(300): control}}
    arms = {target: replace(arm, latency_ms=timed[target]) for target, arm in tally.arms.items()}
    return latency(sight(replace(ramp, tallies={ramp.stamp: replace(tally, arms=arms)})))


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        (0, Verdict.PASS),
        (1, Verdict.ABSENT),
        (19, Verdict.ABSENT),
        (20, Verdict.HOLD),
        (40, Verdict.HOLD),
        (100, Verdict.ABORT),
    ],
)
def test_a_control_of_few_answers(control: int, verdict: Verdict) -> None:
    """Too few answers of the control are no evidence, few no certainty; with no request at all, the limit decides."""
    assert compared(control).verdict is verdict


def test_insisting_on_a_comparison() -> None:
    """A ramp that insists on latencies waits until there are enough of both sides."""
    finding = compared(19, require=("latency",))

    assert finding.verdict is Verdict.HOLD
    assert "fewer than 20 answers of the control" in finding.why
