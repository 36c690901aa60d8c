"""Is the canary worse, and is it the canary or its callers?"""

import math

import pytest

from pointsman.core.ramp_model import CANARY_STEPS, Arm, RampPolicy
from pointsman.core.stats import Counts, distinct, evidence, typical_ratio, weighted, worse

POLICY = RampPolicy(steps=CANARY_STEPS)
MANY = (1 << 64) - 1
# One caller on both sides: every failure counts for itself.
ONE = 0b1
# A canary with 10 of 100 failed at a share of 5 %, of a control with 1 %: bad beyond doubt.
BAD = Arm(ok=90, failed=10, callers=MANY, callers_failing=0b11_1111_1111)
WELL = Arm(ok=1881, failed=19, callers=MANY, callers_failing=0b111)


def arm(failed: int, requests: int, callers: int = MANY) -> Arm:
    """An arm of these callers, each of which failed if any did."""
    return Arm(ok=requests - failed, failed=failed, callers=callers, callers_failing=callers if failed else 0)


class TestWorse:
    """What the gate of errors asks."""

    def test_a_bad_canary(self) -> None:
        """10 % against 1 %, ten callers: worse, and the numbers are those of the arms."""
        seen = worse([(BAD, WELL)], POLICY)
        assert seen.worse
        assert seen.evidence >= 100
        assert (seen.canary_ratio, seen.control_ratio) == (0.1, 0.01)
        assert (seen.canary_requests, seen.control_requests, seen.share) == (100, 1900, 0.05)
        assert seen.failing_callers == pytest.approx(64 * math.log(64 / 54))

    def test_nothing_seen(self) -> None:
        """No stamp, or nothing under it, is no verdict and divides by nothing."""
        for stamps in ([], [(Arm(), Arm())]):
            seen = worse(stamps, POLICY)
            assert not seen.worse
            assert (seen.evidence, seen.canary_ratio, seen.share) == (pytest.approx(1.0), 0.0, 0.0)

    def test_an_equal_canary(self) -> None:
        """The same ratio on both sides is no abort, however much was seen."""
        assert not worse([(arm(500, 50_000, ONE), arm(9500, 950_000, ONE))], POLICY).worse

    def test_evidence_is_needed(self) -> None:
        """Three failures of twenty with few to compare them with are above every limit, and not enough."""
        seen = worse([(arm(3, 20), arm(1, 60))], POLICY)
        assert seen.canary_ratio > POLICY.abort_ratio
        assert not seen.worse

    def test_the_threshold_is_a_setting(self) -> None:
        """`abort_evidence` is inclusive: at the very factor it aborts, above it it does not."""
        factor = worse([(BAD, WELL)], POLICY).evidence
        assert worse([(BAD, WELL)], RampPolicy(steps=CANARY_STEPS, abort_evidence=factor)).worse
        assert not worse([(BAD, WELL)], RampPolicy(steps=CANARY_STEPS, abort_evidence=factor * 1.001)).worse

    def test_worse_and_still_good(self) -> None:
        """Ten times as many failures beyond doubt, yet 2 %: that holds a ramp, and does not abort it."""
        seen = worse([(arm(600, 30_000, ONE), arm(60, 30_000, ONE))], POLICY)
        assert seen.evidence > 1e6
        assert not seen.worse

    @pytest.mark.parametrize(("failed", "is_worse"), [(460, False), (520, True)])
    def test_absolute_limit(self, failed: int, is_worse: bool) -> None:
        """Beyond doubt worse, and below or above 5 %: only above it aborts."""
        assert worse([(arm(failed, 10_000, ONE), arm(100, 10_000, ONE))], POLICY).worse is is_worse

    @pytest.mark.parametrize(("failed", "is_worse"), [(7500, False), (8600, True)])
    def test_limit_over_the_control(self, failed: int, is_worse: bool) -> None:
        """With a limit of its own far away, five points over the control's 3 % are what counts."""
        lenient = RampPolicy(steps=CANARY_STEPS, abort_ratio=0.5)
        assert worse([(arm(failed, 100_000, ONE), arm(3000, 100_000, ONE))], lenient).worse is is_worse

    def test_give_or_take(self) -> None:
        """4.5 % of 200 is within its standard error of the limit, and aborts on evidence; 4.5 % of 20,000 is not."""
        assert worse([(arm(9, 200, ONE), arm(20, 4000, ONE))], POLICY).worse
        assert not worse([(arm(900, 20_000, ONE), arm(2000, 400_000, ONE))], POLICY).worse

    @pytest.mark.parametrize(("limit", "is_worse"), [(0.44, True), (0.46, False)])
    def test_standard_error(self, limit: float, is_worse: bool) -> None:
        """40 % of 100 are 40 ± 4.9 %."""
        policy = RampPolicy(steps=CANARY_STEPS, abort_ratio=limit, abort_excess=1.0)
        assert worse([(arm(40, 100, ONE), arm(20, 2000, ONE))], policy).worse is is_worse

    def test_no_outage(self) -> None:
        """While the control fails to no more than 5 %, it need not be twice as much."""
        assert worse([(arm(7000, 100_000, ONE), arm(4000, 100_000, ONE))], POLICY).worse

    @pytest.mark.parametrize(("failed", "is_worse"), [(7000, False), (8500, True)])
    def test_in_an_outage(self, failed: int, is_worse: bool) -> None:
        """While the control fails to 40 % itself, a canary is to blame from twice that on."""
        stamps = [(arm(failed, 10_000, ONE), arm(4000, 10_000, ONE))]
        assert worse(stamps, POLICY).evidence > 100
        assert worse(stamps, POLICY).worse is is_worse

    def test_since_it_is_worse(self) -> None:
        """The limits are compared with what was seen since the trouble began, not with the good time before."""
        good, bad = (arm(20, 5000), arm(50, 5000)), (arm(30, 300), arm(3, 300))
        seen = worse([good, bad], POLICY)
        assert seen.canary_ratio < 0.01
        assert seen.worse

    @pytest.mark.parametrize(("failing", "is_worse"), [(0b11, False), (0b111, True)])
    def test_several_callers(self, failing: int, is_worse: bool) -> None:
        """Fewer than three failing callers of many never abort."""
        canary = Arm(ok=10, failed=40, callers=MANY, callers_failing=failing)
        assert worse([(canary, arm(2, 5000))], POLICY).worse is is_worse

    def test_busy_callers_count_once(self) -> None:
        """Three callers that failed thousands of times are little more than four failures, which are nothing."""
        canary = Arm(ok=6000, failed=4000, callers=0xFF << 32, callers_failing=0b111 << 32)
        assert worse([(canary, arm(1000, 90_000, callers=0xFFFF_FFFF))], POLICY).evidence < 1

    def test_different_callers(self) -> None:
        """Without failures by caller, evidence is of as many as linear counting finds, and one; ratios are of all."""
        canary = Arm(ok=900, failed=100, callers=MANY, callers_failing=0b11_1111)
        seen = worse([(canary, arm(8, 19_000))], POLICY)
        counted = Counts(1000, 1 + distinct(0b11_1111), 19_000, 8)
        assert seen.evidence == pytest.approx(evidence((counted,))[0])
        assert seen.worse is (seen.evidence >= 100)
        assert seen.worse

    def test_nobody_failing(self) -> None:
        """Failures that no caller is known of are no caller's."""
        canary = Arm(ok=50, failed=50, callers=0b1, callers_failing=0)
        assert not worse([(canary, arm(10, 1900, callers=0b1))], POLICY).worse

    def test_one_caller(self) -> None:
        """With one caller on both sides nobody could be told from anybody: all its failures count."""
        canary = Arm(ok=50, failed=50, callers=0b1, callers_failing=0b1)
        assert worse([(canary, arm(10, 1900, callers=0b1))], POLICY).worse

    def test_few_callers_of_both_sides(self) -> None:
        """Four callers that are on both sides at once are not sticky: one of them is enough."""
        canary = Arm(ok=50, failed=50, callers=0b111, callers_failing=0b1)
        assert worse([(canary, arm(10, 1900, callers=0b1111))], POLICY).worse
        apart = Arm(ok=50, failed=50, callers=0b1_0111, callers_failing=0b1)
        assert not worse([(apart, arm(10, 1900, callers=0b1111))], POLICY).worse

    def test_many_callers_of_both_sides(self) -> None:
        """Full maps overlap whoever is in them, and say nothing about stickiness."""
        canary = Arm(ok=50, failed=50, callers=0b1, callers_failing=0b1)
        assert worse([(canary, arm(10, 1900, callers=(1 << 24) - 1))], POLICY).worse
        assert not worse([(canary, arm(10, 1900, callers=(1 << 25) - 1))], POLICY).worse

    def test_callers_are_unknown(self) -> None:
        """Without any map of callers the failures stand for themselves."""
        assert worse([(arm(10, 100, 0), arm(19, 1900, 0))], POLICY).worse

    def test_two_sticky_callers(self) -> None:
        """Where there are only two callers, both have to fail."""
        policy = RampPolicy(steps=CANARY_STEPS, abort_evidence=5.0)
        control = arm(1, 1000, callers=0b1)
        one = Arm(ok=1, failed=9, callers=0b110, callers_failing=0b10)
        two = Arm(ok=1, failed=9, callers=0b10, callers_failing=0b10)
        both = Arm(ok=1, failed=9, callers=0b11, callers_failing=0b11)
        assert not worse([(one, control)], policy).worse
        assert not worse([(two, control)], policy).worse
        assert worse([(both, Arm(ok=999, failed=1, callers=0b1, callers_failing=0b1))], policy).worse


class TestCallers:
    """Evidence where failures are known by caller."""

    def test_weighted(self) -> None:
        """Nobody counts for more than one above the third worst, over all stamps together and alike in each."""
        assert weighted([{1: 30, 2: 2, 3: 2}, {1: 10}], 3, [True, True]) == [
            pytest.approx(30 * 3 / 40 + 4),
            pytest.approx(10 * 3 / 40),
        ]

    def test_more_bad_callers(self) -> None:
        """Of eight or seven failing callers the fourth worst is the measure, if that is more than are needed."""
        eight = {1: 50, 2: 40, 3: 30, 4: 3, 5: 1, 6: 1, 7: 1, 8: 1}
        assert weighted([eight], 3, [True]) == [pytest.approx(4 * 3 + 3 + 4)]
        assert weighted([eight], 5, [True]) == [pytest.approx(2 * 4 + 4)]
        seven = {1: 50, 2: 40, 3: 30, 4: 3, 5: 1, 6: 1, 7: 1}
        assert weighted([seven], 3, [True]) == [pytest.approx(4 * 3 + 3 + 3)]

    def test_fewer_than_needed(self) -> None:
        """With two failing callers where three are needed, each counts once."""
        assert weighted([{1: 30, 2: 2}], 3, [True]) == [pytest.approx(2.0)]

    def test_an_outage_excuses_nobody(self) -> None:
        """How bad a caller is shows in calm times; in an outage it weighs as little as in them."""
        calm, outage = {1: 40, 2: 1, 3: 1}, {1: 100, 2: 100, 3: 100, 4: 100}
        assert weighted([calm, outage], 3, [True, False])[1] == pytest.approx(100 * 2 / 40 + 300)
        assert weighted([{1: 100, 2: 10, 3: 10}], 3, [False]) == [pytest.approx(31.0)]

    def test_many_busy_callers(self) -> None:
        """A bad canary with twenty busy callers is seen by their failures, where different callers alone hide it."""
        callers = 0xF_FFFF
        canary = Arm(ok=9000, failed=1000, callers=callers << 20, callers_failing=callers << 20)
        control = arm(900, 90_000, callers=callers)
        by_caller = [dict.fromkeys(range(20, 40), 50)]
        assert not worse([(canary, control)], POLICY).worse
        assert worse([(canary, control)], POLICY, by_caller).worse

    def test_three_bad_apples(self) -> None:
        """Two callers with nearly all of the failures are not evidence that the canary is worse."""
        canary = Arm(ok=9000, failed=1000, callers=0xFF << 20, callers_failing=0xF << 20)
        control = arm(900, 90_000, callers=0xF_FFFF)
        assert not worse([(canary, control)], POLICY, [{20: 600, 21: 396, 22: 2, 23: 2}]).worse

    def test_callers_of_both_sides(self) -> None:
        """Callers that are on both sides count in full."""
        canary = Arm(ok=50, failed=50, callers=0b11, callers_failing=0b1)
        assert worse([(canary, arm(10, 1900, callers=0b11))], POLICY, [{0: 50}]).worse

    def test_outage_under_an_older_stamp(self) -> None:
        """A bad caller is known by the stamps under which the control was well."""
        calm = (Arm(ok=900, failed=102, callers=0xF << 8, callers_failing=0b111 << 8), arm(10, 1000, 0xFF))
        outage = (Arm(ok=0, failed=400, callers=0xF << 8, callers_failing=0xF << 8), arm(400, 500, 0xFF))
        by_caller = [{8: 100, 9: 1, 10: 1}, {8: 250, 9: 50, 10: 50, 11: 50}]
        expected = (Counts(1002, 4, 1000, 10), Counts(400, 155, 500, 400))
        assert worse([calm, outage], POLICY, by_caller).evidence == pytest.approx(evidence(expected)[0])

    def test_at_the_limit_of_calm(self) -> None:
        """A control with exactly 5 % is calm."""
        canary = Arm(ok=900, failed=102, callers=0xF << 8, callers_failing=0b111 << 8)
        by_caller = [{8: 100, 9: 1, 10: 1}, {8: 100, 9: 100, 10: 100}]
        stamps = [(canary, arm(50, 1000, 0xFF)), (canary, arm(51, 1000, 0xFF))]
        expected = (Counts(1002, 4, 1000, 50), Counts(1002, 202, 1000, 51))
        assert worse(stamps, POLICY, by_caller).evidence == pytest.approx(evidence(expected)[0])

    def test_one_bad_caller_of_the_control(self) -> None:
        """It does not make the control's stamps an outage, in which nobody's own failures could be measured."""
        canary = Arm(ok=900, failed=102, callers=0xF << 8, callers_failing=0b111 << 8)
        control = Arm(ok=9_400, failed=600, callers=0xFF, failing={0: 594, **dict.fromkeys(range(1, 7), 1)})
        young = (Arm(ok=1, callers=0xF << 8), arm(0, 30, 0xFF))
        seen = worse([(canary, control), young], POLICY, [{8: 100, 9: 1, 10: 1}, {}])
        assert not seen.worse
        assert seen.evidence < 1

    def test_ratios_are_weighted_too(self) -> None:
        """A caller with most of the failures does not lift the ratio over the limit either."""
        callers = 0xFFFF << 40
        canary = Arm(ok=99_000, failed=6000, callers=callers, callers_failing=callers)
        by_caller = [{40: 4500, **dict.fromkeys(range(41, 56), 100)}]
        seen = worse([(canary, arm(100, 100_000, 0xFFFF))], POLICY, by_caller)
        assert seen.canary_ratio > POLICY.abort_ratio
        assert seen.evidence > 1e6
        assert not seen.worse

    def test_typical_ratio(self) -> None:
        """One caller with 30 of 40 failures counts like the third worst and one; of two callers, all count."""
        many = Arm(ok=60, failed=40, callers=0b1111, failing={0: 30, 1: 4, 2: 3, 3: 3})
        assert typical_ratio(many, POLICY) == pytest.approx(0.14)
        few = Arm(ok=60, failed=40, callers=0b11, failing={0: 36, 1: 4})
        assert typical_ratio(few, POLICY) == pytest.approx(0.4)
        three = Arm(ok=60, failed=40, callers=0b111, failing={0: 36, 1: 4})
        assert typical_ratio(three, POLICY) == pytest.approx(0.02)
        unknown = Arm(ok=60, failed=40, callers=0b1111)
        assert typical_ratio(unknown, POLICY) == pytest.approx(0.4)
