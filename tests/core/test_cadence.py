"""When probes are due: a fixed grid without drift, bursts or neglect."""

import itertools

import msgspec
import pytest
from grid import GENERATE, REACH, cadence_of, plan_of, run, starts, with_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.cadence import Attention, Probe, ProbeTiming
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Phase


@given(seed=st.text(max_size=8), start_s=st.floats(0, 1e7), interval_s=st.floats(0.5, 3600))
@settings(max_examples=200)
def test_one_probe_in_every_interval(seed: str, start_s: float, interval_s: float) -> None:
    """Starts of a healthy target's probes lie 0.9 to 1.1 intervals apart, for ever, without drift."""
    timing = ProbeTiming(reach_interval_s=interval_s, generate_interval_s=interval_s)
    cadence = cadence_of(timing=timing, now_s=start_s, seed=seed)
    for probe in (REACH, GENERATE):
        times = starts(cadence, probe, start_s, start_s + 50 * interval_s)
        start_s = times[-1]
        assert 44 <= len(times) <= 51
        gaps = [(later - earlier) / interval_s for earlier, later in itertools.pairwise(times)]
        assert all(0.899 <= gap <= 1.101 for gap in gaps)
        drift = (times[-1] - times[0]) / interval_s
        assert abs(drift - round(drift)) <= 0.11
        cadence = cadence_of(timing=timing, now_s=start_s, seed=seed)


@given(st.floats(0, 1e6))
def test_the_first_probe_comes_within_an_interval(start_s: float) -> None:
    """A new target waits 1.1 intervals at most for its first probe."""
    times = {probe: at_s for at_s, probe in reversed(run(cadence_of(now_s=start_s), start_s, start_s + 33))}
    assert times[REACH] - start_s <= 11
    assert times[GENERATE] - start_s <= 33


@given(stall_s=st.floats(0, 1e5), before_s=st.floats(0, 100), seed=st.text(max_size=4))
@settings(max_examples=200)
def test_a_stall_costs_one_probe_each(stall_s: float, before_s: float, seed: str) -> None:
    """After a stall of any length each probe starts once at most, then keeps half an interval's distance."""
    cadence = cadence_of(plan_of(3, 3), seed=seed)
    run(cadence, 0.0, before_s)
    back_s = before_s + stall_s
    late = cadence.due(back_s)
    assert len(late) == len(set(late)) <= 12
    for probe in late:
        cadence.done(probe, back_s)
    assert cadence.due(back_s) == []
    after = run(cadence, back_s, back_s + 33)
    for probe in late:
        interval_s = ProbeTiming().interval_s(probe.kind)
        times = [back_s, *(at_s for at_s, started in after if started == probe)]
        assert all(later - at_s >= interval_s / 2 for at_s, later in itertools.pairwise(times))
    if stall_s > 33:
        assert len(late) == 12


@given(stall_s=st.floats(0, 1e4), seed=st.text(max_size=4))
def test_the_grid_survives_a_stall(stall_s: float, seed: str) -> None:
    """Long after a stall the probes start exactly when they would have started without it."""
    stalled, smooth = cadence_of(seed=seed), cadence_of(seed=seed)
    for probe in stalled.due(stall_s):
        stalled.done(probe, stall_s)
    run(smooth, 0.0, stall_s + 100)
    run(stalled, stall_s, stall_s + 100)
    window = (stall_s + 100, stall_s + 200)
    assert run(stalled, *window) == run(smooth, *window)


def test_probes_are_spread_over_the_interval() -> None:
    """A thousand targets never start in a bunch: no second of thirty holds twice its share."""
    begun = run(cadence_of(plan_of(10, 100)), 0.0, 29.999)
    seconds = [int(at_s) for at_s, probe in begun if probe.kind is ProbeKind.GENERATE]
    assert max(seconds.count(second) for second in range(30)) < 2 * 1000 / 30


def test_the_same_seed_gives_the_same_times() -> None:
    """The cadence draws nothing: equal seeds agree to the last bit, others do not."""
    assert run(cadence_of(seed="a"), 0, 100) == run(cadence_of(seed="a"), 0, 100)
    assert run(cadence_of(seed="a"), 0, 100) != run(cadence_of(seed="b"), 0, 100)


def test_suspect_is_probed_again_after_the_gap() -> None:
    """A suspect target and its provider are probed every two seconds; of the others only a witness, for free."""
    plan = plan_of(3, 2)
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.SUSPECT), 100.0)
    begun = run(cadence, 100.0, 109.0)
    for probe in (REACH, GENERATE):
        times = [at_s for at_s, started in begun if started == probe]
        assert times == [100.0, 102.0, 104.0, 106.0, 108.0]
    witness = [at_s for at_s, started in begun if started == Probe(ProbeKind.REACH, "p1")]
    assert witness == [100.0, 102.0, 104.0, 106.0, 108.0]
    for neighbour in (Probe(ProbeKind.REACH, "p2"), Probe(ProbeKind.GENERATE, "p0", "p0-1")):
        assert len([started for _, started in begun if started == neighbour]) <= 2


def test_the_witness_is_let_go() -> None:
    """Once nobody is suspect any more, the witness is back on its grid."""
    plan = plan_of(2, 1)
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.SUSPECT), 100.0)
    run(cadence, 100.0, 103.0)
    cadence.attend(Attention(plan=plan), 103.0)
    begun = run(cadence, 103.0, 123.0)

    assert len([started for _, started in begun if started == Probe(ProbeKind.REACH, "p1")]) in {1, 2}


def test_a_lone_suspect_has_no_witness() -> None:
    """With one provider there is nobody to ask."""
    cadence = cadence_of(plan_of(1, 1))
    cadence.attend(with_phase(plan_of(1, 1), Phase.SUSPECT), 100.0)
    assert {started.provider for _, started in run(cadence, 100.0, 105.0)} == {"p0"}


def test_suspect_waits_the_gap_after_a_fresh_start() -> None:
    """The gap counts from the start of the probe that failed."""
    plan = plan_of()
    cadence = cadence_of(plan)
    (first,) = starts(cadence, GENERATE, 0.0, 30.0)[:1]
    cadence = cadence_of(plan)
    run(cadence, 0.0, first)
    cadence.attend(with_phase(plan, Phase.SUSPECT), first + 0.1)
    assert starts(cadence, GENERATE, first + 0.1, first + 2.1) == [first + 2.0]


def test_close_probes_never_overlap() -> None:
    """A probe that runs longer than the gap is followed at its end, not overtaken."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.SUSPECT), 100.0)
    assert starts(cadence, GENERATE, 100.0, 131.0, takes_s=10.0) == [100.0, 110.0, 120.0, 130.0]


def test_half_open_is_probed_at_once() -> None:
    """The end of a cooldown is a probe now, then one per gap; the provider's reach probe keeps its pace."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.COOLDOWN), 50.0)
    assert starts(cadence, GENERATE, 50.0, 200.0) == []
    cadence.attend(with_phase(plan, Phase.HALF_OPEN), 200.5)
    begun = run(cadence, 200.5, 205.0)
    assert [at_s for at_s, probe in begun if probe == GENERATE] == [200.5, 202.5, 204.5]
    assert len([probe for _, probe in begun if probe == REACH]) <= 1


def test_half_open_does_not_overtake_a_running_probe() -> None:
    """A probe that is still under way when its target half-opens is not doubled."""
    plan = plan_of()
    cadence = cadence_of(plan)
    assert GENERATE in cadence.due(40.0)
    cadence.attend(with_phase(plan, Phase.COOLDOWN), 41.0)
    cadence.attend(with_phase(plan, Phase.HALF_OPEN), 42.0)
    assert GENERATE not in cadence.due(49.0)
    cadence.done(GENERATE, 50.0)
    assert GENERATE in cadence.due(50.0)


def test_cooldown_keeps_reaching_and_does_not_generate() -> None:
    """A target that cools down costs no tokens, while its provider's edge is watched as ever."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.COOLDOWN), 0.0)
    begun = run(cadence, 0.0, 120.0)
    assert {probe for _, probe in begun} == {REACH}
    assert 10 <= len(begun) <= 13


def test_recovery_returns_to_the_grid() -> None:
    """A target that is healthy again is probed on its old slots."""
    plan = plan_of()
    troubled, calm = cadence_of(plan), cadence_of(plan)
    troubled.attend(with_phase(plan, Phase.SUSPECT), 50.0)
    run(troubled, 50.0, 70.0)
    troubled.attend(Attention(plan=plan), 70.0)
    run(troubled, 70.0, 200.0)
    run(calm, 0.0, 200.0)
    assert run(troubled, 200.0, 400.0) == run(calm, 200.0, 400.0)


@pytest.mark.parametrize("phase", [Phase.RECOVERING, Phase.UNKNOWN])
def test_unproven_targets_are_probed_in_spite_of_traffic(phase: Phase) -> None:
    """Live success spares a healthy target's probes, not those of one that is still to prove itself."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, phases={"p0-0": phase}, fresh=frozenset({"p0-0"})), 0.0)
    assert len(starts(cadence, GENERATE, 0.0, 100.0)) >= 3


def test_fresh_traffic_spares_tokens_only() -> None:
    """A target that live traffic vouches for is reached and not generated; once traffic is stale it is again."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, fresh=frozenset({"p0-0"})), 0.0)
    assert {probe for _, probe in run(cadence, 0.0, 100.0)} == {REACH}
    cadence.attend(Attention(plan=plan), 100.0)
    assert starts(cadence, GENERATE, 100.0, 133.0)


def test_a_spared_probe_is_made_good() -> None:
    """When traffic no longer vouches for a target whose slot was spared, it is asked at once, not at its next slot."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, fresh=frozenset({"p0-0", "gone"})), 0.0)
    run(cadence, 0.0, 100.0)
    cadence.attend(Attention(plan=plan), 100.0)
    assert starts(cadence, GENERATE, 100.0, 101.0) == [100.0]
    cadence.attend(Attention(plan=plan, fresh=frozenset({"p0-0"})), 102.0)
    cadence.attend(Attention(plan=plan), 103.0)
    assert starts(cadence, GENERATE, 103.0, 112.0) == []


def test_nothing_is_made_good_twice() -> None:
    """A probe that runs, or ran within half an interval, or is close anyway, is not asked for once more."""
    plan = plan_of()
    fresh = Attention(plan=plan, fresh=frozenset({"p0-0"}))
    (first, second) = starts(cadence_of(plan), GENERATE, 0.0, 66.0)[:2]
    cadence = cadence_of(plan)
    run(cadence, 0.0, first)
    cadence.attend(fresh, first)
    run(cadence, first, second)
    begun = cadence.begin_round(second)
    cadence.attend(Attention(plan=plan), second + 1)
    assert GENERATE in begun
    assert cadence.due(second + 1) == []
    for probe in begun:
        cadence.done(probe, second + 2)
    assert starts(cadence, GENERATE, second + 2, second + 16) == []

    cadence = cadence_of(plan)
    cadence.attend(fresh, 0.0)
    run(cadence, 0.0, 100.0)
    cadence.attend(with_phase(plan, Phase.HALF_OPEN), 100.0)
    assert starts(cadence, GENERATE, 100.0, 105.0) == [100.0, 102.0, 104.0]


def test_a_round_of_everything_forgets_sparing() -> None:
    """A complete round starts all that is not off, once, and what already runs is not doubled."""
    plan = plan_of(2, 2)
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, phases={"p0-1": Phase.COOLDOWN}, fresh=frozenset({"p0-0"})), 1.0)
    begun = cadence.begin_round(1.0)
    assert sorted(probe.target for probe in begun) == ["", "", "p0-0", "p1-0", "p1-1"]
    assert cadence.begin_round(1.0) == cadence.due(1000.0) == []
    for probe in begun:
        cadence.done(probe, 2.0)
    assert GENERATE not in cadence.due(2.0)


def test_standby_probes_nothing() -> None:
    """Without the lead nothing is due; with it again, the grid goes on without a burst."""
    plan = plan_of(3, 3)
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, active=False), 5.0)
    assert cadence.next_due_s is None
    assert cadence.due(1e6) == []
    assert cadence.begin_round(1e6) == []
    cadence.attend(Attention(plan=plan), 1e6)
    assert cadence.due(1e6) == []
    assert len(run(cadence, 1e6, 1e6 + 33)) >= 3 * 3 + 9


@pytest.mark.parametrize("where", ["timing", "plan"])
def test_generate_can_be_forbidden(where: str) -> None:
    """`generate: false` spares every token, also of a suspect target."""
    plan = plan_of()
    if where == "plan":
        provider = msgspec.structs.replace(plan.providers["p0"], generate=False)
        plan = msgspec.structs.replace(plan, providers={"p0": provider})
    cadence = cadence_of(plan, timing=ProbeTiming(generate=where != "timing"))
    cadence.attend(with_phase(plan, Phase.SUSPECT), 50.0)
    begun = run(cadence, 50.0, 60.0)
    assert {probe for _, probe in begun} == {REACH}
    assert len(begun) == 6


def test_a_new_plan_keeps_the_grid_of_what_stays() -> None:
    """Adding a target moves nobody; what is removed is no longer due, even if it was running."""
    small, large = plan_of(1, 1), plan_of(2, 3)
    cadence = cadence_of(small)
    undisturbed = run(cadence_of(small), 0.0, 300.0)
    begun = run(cadence, 0.0, 100.0)
    cadence.attend(Attention(plan=large), 100.0)
    begun += [item for item in run(cadence, 100.0, 200.0) if item[1] in {REACH, GENERATE}]
    (running, *_) = cadence.due(245.0)
    cadence.attend(Attention(plan=msgspec.structs.replace(large, providers={}, targets={})), 246.0)
    cadence.done(running, 247.0)
    assert begun == [item for item in undisturbed if item[0] <= 200.0]
    assert cadence.next_due_s is None


def test_an_equal_plan_is_no_news() -> None:
    """A plan decoded again is recognised; an overdue probe is not put off by any attention."""
    cadence = cadence_of(plan_of())
    cadence.attend(Attention(plan=plan_of()), 500.0)
    cadence.attend(with_phase(plan_of(), Phase.RECOVERING), 500.0)
    cadence.attend(Attention(plan=plan_of(2)), 500.0)
    assert set(cadence.due(500.0)) >= {REACH, GENERATE}


def test_phases_of_unknown_targets_are_ignored() -> None:
    """Health of a target that left the plan disturbs nobody."""
    plan = plan_of()
    cadence = cadence_of(plan)
    cadence.attend(with_phase(plan, Phase.SUSPECT, "gone"), 1.0)
    assert run(cadence, 1.0, 100.0) == run(cadence_of(plan), 1.0, 100.0)


def test_other_timings_hold_at_once() -> None:
    """A shorter interval is in force within that interval; an unknown provider gets the defaults."""
    cadence = cadence_of(plan_of())
    cadence.retime({"p0": ProbeTiming(reach_interval_s=1.0)}, 100.0)
    assert len(starts(cadence, REACH, 100.0, 110.0)) >= 9
    assert cadence.timing("p0").interval_s(ProbeKind.GENERATE) == 30.0
    assert cadence.timing("unheard-of") == ProbeTiming()


def test_ten_thousand_targets_are_cheap() -> None:
    """A day's worth of starts for many targets touches only what is due: the queue does not grow."""
    plan = plan_of(100, 100)
    cadence = cadence_of(plan)
    begun = run(cadence, 0.0, 60.0)
    assert 19_000 <= len([probe for _, probe in begun if probe.kind is ProbeKind.GENERATE]) <= 21_000
    assert len(cadence._heap) <= 10_100
