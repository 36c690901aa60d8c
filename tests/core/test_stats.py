"""What two sides' counts and histograms say: evidence, percentiles, estimates."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.latency import LATENCY_EDGES_MS, latency_cell
from pointsman.core.ramp_model import Arm
from pointsman.core.stats import (
    Counts,
    distinct,
    evidence,
    exceeds,
    merged,
    quantile_at_most_ms,
    quantile_ms,
    ratio,
    slower,
    wait_s,
)

MANY = (1 << 64) - 1


class TestEvidence:
    """The factor by which failures fell on the canary likelier if it is worse."""

    def test_nothing(self) -> None:
        """No stamp, no failure or no request is no evidence: exactly 1."""
        assert evidence(()) == (1.0, 0)
        assert evidence((Counts(0, 0, 0, 0),))[0] == pytest.approx(1.0)
        assert evidence((Counts(50, 0, 950, 0), Counts(100, 0, 900, 0)))[0] == pytest.approx(1.0)

    def test_by_hand(self) -> None:
        """Two failures of the canary and one of the control at a share of 1/10, worked out one by one."""
        risks = (1.5, 2, 3, 4.5, 6.5, 10, 20, 50)
        mean = sum((10 * r / (r + 9)) ** 2 * (10 / (r + 9)) for r in risks) / 8
        # ρq/(ρq+1−q) over q, twice, and (1−q)/(ρq+1−q) over 1−q, once; half of the weight is on the first stamp.
        assert evidence((Counts(10, 2, 90, 1),)) == (pytest.approx(0.5 + 0.5 * mean), 0)

    def test_share_alone_is_none(self) -> None:
        """Everybody failing alike, at whatever share, speaks for the canary, not against it."""
        for share in (0.05, 0.5, 0.95):
            assert (
                evidence((Counts(1000 * share, 800 * share, 1000 * (1 - share), 800 * (1 - share)),))[0] < 1
            )

    def test_no_control_is_none(self) -> None:
        """Where everything goes to the canary there is nobody to compare it with."""
        assert evidence((Counts(100, 100, 0, 0),))[0] == pytest.approx(1.0)

    def test_growing_share(self) -> None:
        """An hour in which a tenth of everything fails, at another share: no paradox though the sums look like one."""
        stamps = (Counts(50, 0, 950, 0), Counts(750, 75, 250, 25))
        summed = Counts(800, 75, 1200, 25)
        assert evidence((summed,))[0] > 1e6
        assert evidence(stamps)[0] < 1

    def test_composes(self) -> None:
        """The same stamp in two halves is stronger than one half, and nearly as strong as the whole."""
        half, whole = Counts(50, 5, 950, 9), Counts(100, 10, 1900, 18)
        both = evidence((half, half))[0]
        assert evidence((half,))[0] < both
        assert evidence((whole,))[0] / 1.01 < both < 1.5 * evidence((whole,))[0]

    def test_late_trouble(self) -> None:
        """A canary that was better for long and is worse since the last stamp is found by that one, and it is named."""
        good, bad = Counts(5000, 5, 5000, 50), Counts(300, 30, 300, 3)
        factor, since = evidence((good, good, bad))
        assert since == 2
        assert factor > 100
        assert evidence((Counts(10_300, 40, 10_300, 103),))[0] < 1

    def test_first_stamp_of_equals(self) -> None:
        """Evidence that was there from the beginning is since the first stamp."""
        assert evidence((Counts(100, 20, 1900, 19),) * 3)[1] == 0

    def test_huge(self) -> None:
        """Overwhelming evidence is a large number, not an overflow."""
        assert 1e100 < evidence((Counts(50_000, 40_000, 950_000, 10),))[0] < math.inf

    def test_mean_is_at_most_one(self) -> None:
        """Over every way in which six failures can fall at a share of 0.3, the mean is 1."""
        total = 0.0
        for of_canary in range(7):
            chance = math.comb(6, of_canary) * 0.3**of_canary * 0.7 ** (6 - of_canary)
            total += chance * evidence((Counts(30, of_canary, 70, 6 - of_canary),))[0]
        assert total == pytest.approx(1.0)

    def test_looking_often(self) -> None:
        """Of 400 equal canaries looked at after each failure, far fewer than 1 in 20 ever reach 20."""
        rng, crossed = random.Random(7), 0
        for _ in range(400):
            canary = control = 0
            for _ in range(60):
                if rng.random() < 0.1:
                    canary += 1
                else:
                    control += 1
                if evidence((Counts(600, canary, 5400, control),))[0] >= 20:
                    crossed += 1
                    break
        assert crossed <= 16

    @given(
        st.lists(st.tuples(*[st.integers(0, 300)] * 4), min_size=1, max_size=6),
        st.integers(0, 5),
    )
    def test_more_failures_of_the_canary(self, rows: list[tuple[int, int, int, int]], where: int) -> None:
        """One request of the canary that fails instead of being answered never weakens the evidence."""
        stamps = [Counts(ok + failed + 1, failed, rest + more, more) for ok, failed, rest, more in rows]
        place = where % len(stamps)
        s = stamps[place]
        worsened = stamps.copy()
        worsened[place] = Counts(s.canary_requests, s.canary_failed + 1, s.control_requests, s.control_failed)
        assert evidence(worsened)[0] >= evidence(stamps)[0] * (1 - 1e-9)


class TestExceeds:
    """Evidence against a fixed ratio."""

    def test_nothing(self) -> None:
        """Nothing seen is exactly 1; nothing but misses speaks for the ratio."""
        assert exceeds(0, 0, 0.05) == pytest.approx(1.0)
        assert exceeds(0, 100, 0.05) < 1

    def test_mean_is_one(self) -> None:
        """Over every outcome of eight requests that fail to just what is allowed, the mean is 1."""
        total = sum(math.comb(8, k) * 0.2**k * 0.8 ** (8 - k) * exceeds(k, 8, 0.2) for k in range(9))
        assert total == pytest.approx(1.0)

    def test_far_above(self) -> None:
        """Nine of ten where a twentieth is allowed is beyond doubt, and ten thousand do not overflow."""
        assert exceeds(9, 10, 0.05) > 1e5
        assert 1e100 < exceeds(10_000, 10_000, 0.05) < math.inf

    def test_at_the_limit(self) -> None:
        """Exactly what is allowed never convinces."""
        assert exceeds(500, 10_000, 0.05) < 1


class TestLatency:
    """Percentiles of histograms."""

    def test_quantile(self) -> None:
        """The upper edge of the nearest rank's cell."""
        histogram = {latency_cell(100): 95, latency_cell(3000): 5}
        assert quantile_ms(histogram, 0.95) == 100.0
        assert quantile_ms(histogram, 0.951) == 3000.0
        assert quantile_ms({latency_cell(450): 1}, 0.5) == 500.0

    def test_order_of_cells(self) -> None:
        """Cells come in whatever order they were first hit."""
        assert quantile_ms({30: 1, 2: 98, 10: 1}, 0.95) == float(LATENCY_EDGES_MS[2])

    def test_ends(self) -> None:
        """Nothing has no quantile; what is above the last edge is infinite; a quantile of 0 is the smallest."""
        assert quantile_ms({}, 0.95) is None
        assert quantile_ms({len(LATENCY_EDGES_MS): 1}, 0.5) == math.inf
        assert quantile_ms({3: 1, 7: 5}, 0.0) == float(LATENCY_EDGES_MS[3])

    @given(st.lists(st.floats(0.5, 500_000), min_size=1, max_size=60), st.floats(0.01, 1.0))
    def test_quantile_is_an_upper_edge(self, values: list[float], quantile: float) -> None:
        """It is the edge above the sample's own nearest-rank quantile."""
        histogram: dict[int, int] = {}
        for value in values:
            histogram[latency_cell(value)] = histogram.get(latency_cell(value), 0) + 1
        exact = sorted(values)[math.ceil(len(values) * quantile) - 1]
        assert quantile_ms(histogram, quantile) == float(LATENCY_EDGES_MS[latency_cell(exact)])

    def test_at_most(self) -> None:
        """The order statistic two deviations up: of 100, the 95 + 4.36 → hundredth; of 50 there is none."""
        histogram = {latency_cell(100): 99, latency_cell(3000): 1}
        assert quantile_at_most_ms(histogram, 0.95) == 3000.0
        assert quantile_at_most_ms({latency_cell(100): 50}, 0.95) == math.inf
        assert quantile_at_most_ms({latency_cell(100): 1000, 40: 30}, 0.95) == 100.0
        assert quantile_at_most_ms({}, 0.95) == math.inf
        # Of 100, the sixtieth for a median; of one, that one for the first tenth.
        assert quantile_at_most_ms({3: 60, 7: 40}, 0.5) == float(LATENCY_EDGES_MS[3])
        assert quantile_at_most_ms({3: 59, 7: 41}, 0.5) == float(LATENCY_EDGES_MS[7])
        assert quantile_at_most_ms({3: 1}, 0.1) == float(LATENCY_EDGES_MS[3])

    def test_slower(self) -> None:
        """A tenth above the bound is more than a twentieth, when there is enough of it; a thirtieth is not."""
        below, above = latency_cell(1000), latency_cell(4000)
        assert slower({below: 900, above: 100}, 2000) > 100
        assert slower({below: 90, above: 10}, 2000) < 100
        assert slower({below: 970, above: 30}, 2000) < 1

    def test_the_bounds_own_cell(self) -> None:
        """What lies in the cell of the bound may be below it, and does not count."""
        assert slower({latency_cell(1001): 1000}, 1100) < 1
        assert slower({latency_cell(1251): 1000}, 1100) > 100

    def test_another_quantile(self) -> None:
        """A tenth above the bound is no more than a median allows."""
        assert slower({latency_cell(1000): 900, latency_cell(4000): 100}, 2000, 0.5) < 1


def test_distinct() -> None:
    """Linear counting: nobody is 0, one bit a little over 1, half of the map 44, all of it 310."""
    assert distinct(0) == 0.0
    assert distinct(0b100) == pytest.approx(64 * math.log(64 / 63))
    assert distinct((1 << 32) - 1) == pytest.approx(64 * math.log(2))
    assert distinct(MANY) == pytest.approx(64 * math.log(128))


def test_ratio() -> None:
    """A part of nothing is 0."""
    assert ratio(1, 4) == 0.25
    assert ratio(0, 0) == 0.0


def test_wait() -> None:
    """What is missing, at the rate so far; none without a rate, nothing when all is there."""
    assert wait_s(60, 20, 100.0) == 200.0
    assert wait_s(60, 60, 100.0) == 0.0
    assert wait_s(0, 0, 0.0) == 0.0
    assert wait_s(60, 0, 100.0) is None
    assert wait_s(60, 20, 0.0) is None
    assert wait_s(60, 1, 0.5) == 29.5


def test_merged() -> None:
    """Counts and histograms are summed, maps or-ed, none is empty, and one is itself."""
    one = Arm(
        ok=1,
        failed=2,
        latency_ms={3: 1},
        first_token_ms={4: 1},
        cost_usd=0.5,
        priced=1,
        callers=0b1,
        callers_failing=0b1,
        synthetic_ok=5,
        synthetic_failed=6,
    )
    other = Arm(
        ok=10,
        failed=20,
        latency_ms={3: 10, 5: 1},
        first_token_ms={6: 1},
        cost_usd=1.0,
        priced=10,
        callers=0b11,
        callers_failing=0b10,
        synthetic_ok=50,
        synthetic_failed=60,
    )
    assert merged((one, other)) == Arm(
        ok=11,
        failed=22,
        latency_ms={3: 11, 5: 1},
        first_token_ms={4: 1, 6: 1},
        cost_usd=1.5,
        priced=11,
        callers=0b11,
        callers_failing=0b11,
        synthetic_ok=55,
        synthetic_failed=66,
    )
    assert one.latency_ms == {3: 1}
    assert merged(()) == Arm()
    assert merged(iter([one])) is one
