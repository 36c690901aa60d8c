"""The Monte Carlo of ramps runs, and a few simulated ramps end as they must."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.ramp_traffic import Caller, Crowd, crowd_of, split
from bench.ramps import End, Play, Scenario

ROOT = Path(__file__).parents[2]


@pytest.mark.xdist_group("bench")
def test_ramps(tmp_path: Path) -> None:
    """Every question has its sheet, the ends of each row are all of its runs, and silence promotes nothing."""
    command = [sys.executable, "-m", "bench", "ramps", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sheets: list[dict[str, Any]] = json.loads((tmp_path / "ramps.json").read_text())["sheets"]
    assert len(sheets) == 6
    ends = ("aborted (%)", "held: few (%)", "held: other (%)", "endless (%)", "promoted (%)")
    for row in (row for sheet in sheets for row in sheet["rows"]):
        assert sum(row[end] for end in ends) == pytest.approx(100)
    [silent] = next(sheet["rows"] for sheet in sheets if "no request" in sheet["title"])
    assert silent["promoted (%)"] == 0
    assert silent["aborted (%)"] == 0


def test_seeds() -> None:
    """The same seed is the same ramp, and another one another."""
    scenario = Scenario(Crowd.ZIPF, 5.0, harm=0.2)
    assert Play(scenario, 1).end() == Play(scenario, 1).end()
    assert len({Play(scenario, seed).end().took_s for seed in range(4)}) > 1


def test_a_dead_canary() -> None:
    """A canary that fails every request of independent callers is aborted within its first ten."""
    outcome = Play(Scenario(Crowd.INDEPENDENT, 1.0, harm=0.99), 1).end()
    assert (outcome.end, outcome.gates, outcome.step) == (End.ABORTED, ("errors",), 0)
    assert outcome.requests <= 10


def test_crowds() -> None:
    """Every crowd sends what was asked for; three of the sticky ones' callers send bad requests."""
    rng = random.Random(1)
    for kind in Crowd:
        callers = crowd_of(kind, 7.0, rng)
        assert sum(caller.rate for caller in callers) == pytest.approx(7.0)
        bad = sum(caller.failing > 0.1 for caller in callers)
        assert bad == (0 if kind is Crowd.INDEPENDENT else 3)


def test_sticky_callers_stay() -> None:
    """Whoever is on the canary at 5 % is there at 50 %, and independent traffic is split by the share."""
    sticky = [Caller(1.0, 0.0, key & 63, key * 7919 << 20) for key in range(1, 200)]
    early, late = split(sticky, 500)[0], split(sticky, 5000)[0]
    assert set(early) < set(late)
    assert 0 < len(early) < 30
    moved, kept = split([Caller(1.0, 0.0, 0, None)], 500)
    assert (moved[0].rate, kept[0].rate) == (pytest.approx(0.05), pytest.approx(0.95))
