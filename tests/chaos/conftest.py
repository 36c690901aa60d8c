"""Chaos: whole installations of real processes that are killed, stopped, flushed and lied to under traffic."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="pm-chaos-") as made:
        yield Path(made)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """`measured("took_s", 1.234)`: a figure for the report (`pytest --junitxml=… -o junit_family=xunit1`)."""
    return lambda name, seconds: record_property(name, round(seconds, 2))
