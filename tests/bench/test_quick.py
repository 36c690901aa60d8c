"""The benches run and say something sane; how fast anything is, no test says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m bench …`, as `make bench` runs it."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def rows(kept_in: Path) -> list[dict[str, Any]]:
    """The rows of the first sheet that a bench kept."""
    kept = json.loads(kept_in.read_text())
    assert kept["quick"]
    return list(kept["sheets"][0]["rows"])


@pytest.mark.skipif(sys.platform != "linux", reason="processes are pinned and measured as Linux has it")
@pytest.mark.xdist_group("bench")
class TestQuick:
    """One group: two benches at once would measure each other."""

    def test_decide(self, tmp_path: Path) -> None:
        """Every kind of tick takes some time, and a busy one more than an idle one."""
        done = bench("decide", "--quick", "--out", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "p50 (CPU ms)" in done.stdout
        took = {
            (row["tick"], row["targets (number)"]): row["p50 (CPU ms)"]
            for row in rows(tmp_path / "decide.json")
        }
        assert len(took) == 8
        assert all(0 < took["idle", size] < took["busy", size] for size in (100, 1000))

    def test_feeds(self, tmp_path: Path) -> None:
        """All fifty feeds take every table, the last of them after the first."""
        done = bench("feeds", "--quick", "--out", str(tmp_path))
        assert done.returncode == 0, done.stderr
        one, fifty = rows(tmp_path / "feeds.json")
        assert 0 < one["last swapped p50 (ms)"] <= fifty["last swapped p50 (ms)"]

    def test_records(self, tmp_path: Path) -> None:
        """Both kinds of decision are recorded in less than they say, and are replayed."""
        done = bench("records", "--quick", "--out", str(tmp_path))
        assert done.returncode == 0, done.stderr
        measured = rows(tmp_path / "records.json")
        assert [row["decision"] for row in measured] == ["quiet", "trip"]
        assert all(row["replayed p50 (CPU ms)"] > 0 for row in measured)
        assert all(0 < row["stored (bytes)"] < row["JSON (bytes)"] for row in measured)

    def test_a_name_that_is_none(self) -> None:
        """A bench that does not exist is refused with the names of those that do."""
        done = bench("decided")
        assert done.returncode == 2
        assert "there is no bench decided" in done.stderr
