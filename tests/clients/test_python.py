"""The Python packages `openai` and `anthropic`, unchanged but for the base URL."""

import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
DRIVER = Path(__file__).parent / "drivers" / "sdks.py"
ERRORS = {"an error", "another error"}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_sdks(both: Any, kind: str) -> None:
    """Every call gives the same as without a proxy: bodies to the byte, headers but for those that are listed."""
    printed = await both.drive(sys.executable, str(DRIVER), kind)
    assert {one["call"] for one in printed if "failed" in one} == ERRORS
    assert both.compare() == len(printed)
