"""How long a failure can stay unseen, as stated and as played."""

import math

import pytest
from grid import GENERATE, REACH, cadence_of, plan_of, run, with_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.cadence import (
    CONCURRENT_MAX,
    Attention,
    ProbeTiming,
    detection_bound_s,
    zombie_bound_s,
)
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Phase


@given(
    interval_s=st.floats(1, 60),
    timeout_s=st.floats(0.1, 20),
    gap_s=st.floats(0.1, 10),
    failures=st.integers(1, 10),
    down_s=st.floats(0, 1000),
    kind=st.sampled_from(ProbeKind),
)
@settings(max_examples=200)
def test_detection_keeps_its_bound(
    interval_s: float, timeout_s: float, gap_s: float, failures: int, down_s: float, kind: ProbeKind
) -> None:
    """However it fails, the last of `failures` probes is over within the bound that is stated."""
    timing = ProbeTiming(
        reach_interval_s=interval_s, generate_interval_s=interval_s, reach_timeout_s=timeout_s,
        generate_timeout_s=timeout_s, suspect_gap_s=gap_s,
    )  # fmt: skip
    plan = plan_of()
    cadence = cadence_of(plan, timing=timing)
    probe = REACH if kind is ProbeKind.REACH else GENERATE
    run(cadence, 0.0, down_s)
    now_s, failed = down_s, 0
    while failed < failures:
        now_s = max(now_s, cadence.next_due_s or math.inf)
        if probe not in (begun := cadence.due(now_s)):
            for other in begun:
                cadence.done(other, now_s)
            continue
        now_s += timeout_s
        failed += 1
        for started in begun:
            cadence.done(started, now_s)
        cadence.attend(with_phase(plan, Phase.SUSPECT), now_s)
    bound = detection_bound_s if kind is ProbeKind.REACH else zombie_bound_s
    assert now_s - down_s <= bound(timing, failures=failures) + 1e-6


def test_the_defaults_detect_within_thirty_seconds() -> None:
    """With the defaults a hard-down provider is found in under 30 s, and a zombie in a stated time."""
    assert detection_bound_s(ProbeTiming()) == pytest.approx(23.0)
    assert zombie_bound_s(ProbeTiming()) == pytest.approx(63.0)
    assert zombie_bound_s(ProbeTiming(generate=False)) == math.inf


def test_the_bound_of_many() -> None:
    """Targets that wait for each other are found later: one deadline more per probe for every 64."""
    assert zombie_bound_s(ProbeTiming(), targets=64) == pytest.approx(63.0)
    assert zombie_bound_s(ProbeTiming(), targets=65) == pytest.approx(93.0)
    assert zombie_bound_s(ProbeTiming(), targets=300) == pytest.approx(33.0 + 3 * 5 * 10)


@given(down_s=st.floats(0, 1000), interval_s=st.floats(1, 60), seed=st.text(max_size=4))
@settings(max_examples=200)
def test_traffic_that_ends_keeps_the_bound(down_s: float, interval_s: float, seed: str) -> None:
    """A target that becomes a zombie as its traffic ends, and so is vouched for a little longer, is found in time."""
    timing = ProbeTiming(generate_interval_s=interval_s)
    plan = plan_of()
    cadence = cadence_of(plan, timing=timing, seed=seed)
    cadence.attend(Attention(plan=plan, fresh=frozenset({"p0-0"})), 0.0)
    stale_s = down_s + interval_s
    run(cadence, 0.0, down_s)
    run(cadence, down_s, stale_s)
    cadence.attend(Attention(plan=plan), stale_s)
    first_s = next(
        at_s for at_s, probe in run(cadence, stale_s, stale_s + 3 * interval_s) if probe == GENERATE
    )

    assert first_s - down_s <= 1.1 * interval_s + 1e-6


@pytest.mark.parametrize("targets", [64, 65, 200])
@pytest.mark.parametrize("down_s", [50.0, 63.3, 71.7])
def test_targets_that_wait_keep_the_bound(targets: int, down_s: float) -> None:
    """All targets of a provider hang from `down_s` on and wait in one line: the last is found within the bound."""
    timing = ProbeTiming()
    plan = plan_of(1, targets)
    cadence = cadence_of(plan, timing=timing)
    now_s, line, running = 0.0, [], []
    failed: dict[str, list[float]] = {name: [] for name in plan.targets}
    while min(len(times) for times in failed.values()) < 3:
        ends = [over_s for over_s, _ in running]
        now_s = max(now_s, min([cadence.next_due_s or math.inf, *ends]))
        for over_s, probe in [item for item in running if item[0] <= now_s]:
            running.remove((over_s, probe))
            cadence.done(probe, now_s)
            if over_s > down_s + timing.generate_timeout_s - 1e-9:
                failed[probe.target].append(now_s)
        suspect = {name: Phase.SUSPECT for name, times in failed.items() if times}
        cadence.attend(Attention(plan=plan, phases=suspect), now_s)
        for probe in cadence.due(now_s):
            if probe.kind is ProbeKind.REACH:
                cadence.done(probe, now_s)
            else:
                line.append(probe)
        while line and len(running) < CONCURRENT_MAX:
            running.append((now_s + (timing.generate_timeout_s if now_s >= down_s else 0.0), line.pop(0)))

    found_s = max(times[2] for times in failed.values())
    assert found_s - down_s <= zombie_bound_s(timing, targets=targets) + 1e-6
