"""Paces that are not the phase's: left alone, not hurried, asked at once, doubted."""

import pytest
from grid import GENERATE, REACH, cadence_of, plan_of, run, starts

from pointsman.core.cadence import Attention, Mode, Probe
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Phase

EVERY_GAP = [100.0, 102.0, 104.0, 106.0, 108.0]


def begun(probe: Probe, until_s: float = 109.0, **attention: object) -> list[float]:
    """When it starts from second 100 on, with this attention."""
    plan = plan_of(2, 1)
    cadence = cadence_of(plan)
    cadence.attend(Attention(plan=plan, **attention), 100.0)  # type: ignore[arg-type]
    return starts(cadence, probe, 100.0, until_s)


@pytest.mark.parametrize("phase", [Phase.HEALTHY, Phase.SUSPECT, Phase.HALF_OPEN, Phase.RECOVERING])
def test_left_alone(phase: Phase) -> None:
    """A target whose pace is off gets no generate probe in any phase; its provider is reached as ever."""
    attention = {"phases": {"p0-0": phase}, "paces": {"p0-0": Mode.OFF}}

    assert begun(GENERATE, 700.0, **attention) == []
    assert len(begun(REACH, 700.0, **attention)) in {59, 60, 61}


@pytest.mark.parametrize("phase", [Phase.SUSPECT, Phase.HALF_OPEN])
def test_not_hurried(phase: Phase) -> None:
    """A target whose pace is steady is not probed closely in any phase."""
    assert len(begun(GENERATE, 700.0, phases={"p0-0": phase}, paces={"p0-0": Mode.STEADY})) in {19, 20, 21}


def test_asked_at_once() -> None:
    """A healthy target whose pace is close is generated with at once, and nobody else is troubled."""
    paces = {"p0-0": Mode.CLOSE}

    assert begun(GENERATE, paces=paces) == EVERY_GAP
    assert len(begun(REACH, paces=paces)) <= 2


def test_a_cooldown_overrules_every_pace() -> None:
    """A target that cools down costs no tokens, whatever its pace."""
    assert begun(GENERATE, 700.0, phases={"p0-0": Phase.COOLDOWN}, paces={"p0-0": Mode.CLOSE}) == []


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.STEADY])
def test_a_suspect_without_a_share_hurries_nobody(mode: Mode) -> None:
    """A suspect that is left alone does not have its provider and a witness probed closely."""
    attention = {"phases": {"p0-0": Phase.SUSPECT}, "paces": {"p0-0": mode}}

    assert len(begun(REACH, **attention)) <= 2
    assert len(begun(Probe(ProbeKind.REACH, "p1"), **attention)) <= 2


def test_doubted() -> None:
    """A recovering target that fails is probed as closely as a suspect, with its provider and a witness."""
    attention = {"phases": {"p0-0": Phase.RECOVERING}, "doubted": frozenset({"p0-0", "gone"})}

    assert begun(GENERATE, **attention) == EVERY_GAP
    assert begun(REACH, **attention) == EVERY_GAP
    assert begun(Probe(ProbeKind.REACH, "p1"), **attention) == EVERY_GAP


def test_doubted_and_left_alone() -> None:
    """Doubt of a provider is followed up for free while its target is left alone."""
    attention = {"paces": {"p0-0": Mode.OFF}, "doubted": frozenset({"p0-0"})}

    assert begun(GENERATE, **attention) == []
    assert begun(REACH, **attention) == EVERY_GAP


def test_the_end_of_a_pace() -> None:
    """Left alone no longer, a half-open target is probed at once; a doubt that is over is forgotten."""
    plan = plan_of()
    cadence = cadence_of(plan)
    half_open = {"p0-0": Phase.HALF_OPEN}
    cadence.attend(Attention(plan=plan, phases=half_open, paces={"p0-0": Mode.OFF}), 50.0)
    assert starts(cadence, GENERATE, 50.0, 100.0) == []
    cadence.attend(Attention(plan=plan, phases=half_open), 100.0)
    assert starts(cadence, GENERATE, 100.0, 103.0) == [100.0, 102.0]
    cadence.attend(Attention(plan=plan, doubted=frozenset({"p0-0"})), 104.0)
    run(cadence, 104.0, 109.0)
    cadence.attend(Attention(plan=plan), 109.0)
    assert len(run(cadence, 109.0, 118.0)) <= 2
