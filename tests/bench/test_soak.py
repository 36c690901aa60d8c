"""The soak in miniature: every fault once. How long is long enough, no test says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read as Linux has it")
@pytest.mark.xdist_group("bench")
def test_soak() -> None:
    """Every fault under traffic: nothing wrong, crossed or failed that could have been served, and nothing kept."""
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0.1", "--hold-s", "1", "--callers", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 faults, at the end" in done.stdout
