"""A few callers whose requests fail wherever they are: they hold no ramp, and freeze none."""

from msgspec.structs import replace

from pointsman.core.gates.baseline import baseline
from pointsman.core.gates.errors import errors
from pointsman.core.ramp_model import Arm, Ramp, Tally, Verdict
from ramps import begun, sight


def of_callers(failing: dict[int, int], ok: int, first: int) -> Arm:
    """An arm of ten callers, some of whom have failed so often."""
    bits = 0x3FF << first
    by_caller = {first + caller: times for caller, times in failing.items()}
    return Arm(ok=ok, failed=sum(failing.values()), callers=bits, callers_failing=bits, failing=by_caller)


BAD = {0: 300, **dict.fromkeys(range(1, 10), 1)}


def of_one_bad_caller(moved: dict[int, int], control: dict[int, int]) -> Ramp:
    ramp = begun()
    arms = {"google": of_callers(moved, 2_000, 0), "bedrock": of_callers(control, 2_000, 20)}
    return replace(ramp, tallies={ramp.stamp: Tally(step=0, arms=arms)})


def test_one_bad_caller_holds_nothing() -> None:
    """A caller whose requests fail wherever it is neither holds the side that it is on, nor freezes the other."""
    few = dict.fromkeys(range(1, 10), 1)

    assert errors(sight(of_one_bad_caller(BAD, few))).verdict is Verdict.PASS
    assert baseline(sight(of_one_bad_caller(few, BAD))).verdict is Verdict.PASS
    assert errors(sight(of_one_bad_caller(dict.fromkeys(range(10), 10), few))).verdict is not Verdict.PASS


def test_what_callers_bring_along_passes() -> None:
    """Where the control's requests fail at 3 % as well, 3 % of the moved side's are no reason to hold."""
    alike = dict.fromkeys(range(10), 6)

    assert errors(sight(of_one_bad_caller(alike, alike))).verdict is Verdict.PASS


def test_what_fails_on_both_sides_does_not_pass() -> None:
    """At 20 % on both sides nothing goes on, also while the control has too few requests to freeze the ramp."""
    ramp = begun()
    arms = {"google": Arm(ok=80, failed=20, callers=0x3FF), "bedrock": Arm(ok=8, failed=2, callers=0x3FF)}

    assert (
        errors(sight(replace(ramp, tallies={ramp.stamp: Tally(step=0, arms=arms)}))).verdict is Verdict.HOLD
    )


def moved_after(before: dict[int, int], moved: dict[int, int]) -> Ramp:
    """Ten callers were on the control and failed so often in 2,000 requests; then they moved, and failed so often."""
    first = begun(step=0)
    others = of_callers({0: 1}, 1_000, 40)
    stays = of_callers(dict.fromkeys(range(10), 1), 1_000, 20)
    came = of_callers(before, 1_000, 0)
    control = Arm(ok=2_000 - sum(before.values()), failed=came.failed + 10, callers=came.callers | stays.callers,
        failing={**came.failing, **stays.failing})  # fmt: skip
    then = begun(first, step=1)
    after = {"google": of_callers(moved, 1_000, 0), "bedrock": stays}
    return replace(then, tallies={
        first.stamp: Tally(step=0, arms={"google": others, "bedrock": control}),
        then.stamp: Tally(step=1, arms=after),
    })  # fmt: skip


MOST = {0: 80, 1: 80, 2: 80, 3: 2}


def test_callers_that_failed_before_they_moved() -> None:
    """Three with bad requests are no evidence against the side that they move to, and do not hold it; new ones are."""
    assert errors(sight(moved_after(MOST, {0: 60, 1: 60, 2: 60}))).verdict is Verdict.PASS
    assert errors(sight(moved_after({9: 1}, {0: 60, 1: 60, 2: 60}))).verdict is Verdict.ABORT
    assert errors(sight(moved_after(MOST, dict.fromkeys(range(10), 30)))).verdict is Verdict.ABORT


def test_callers_that_fail_more_than_before_they_moved() -> None:
    """One is nobody's evidence, and what is typical passes; but its own failures were fewer, so the ramp waits."""
    finding = errors(sight(moved_after({0: 20}, {0: 60})))
    assert finding.verdict is Verdict.HOLD
    assert (
        finding.why == "5.7 % of 1060 requests failed in this step, 46 more than of the same callers before"
    )
