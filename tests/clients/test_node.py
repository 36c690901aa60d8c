"""The Node packages `openai` and `@anthropic-ai/sdk`, unchanged but for the base URL."""

import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine"),
]

ERRORS = {"an error", "another error"}


async def test_node(both: Any) -> None:
    """Every call gives the same as without a proxy: bodies to the byte, headers but for those that are listed."""
    driver = Path(__file__).parent / "node" / "driver.mjs"
    assert (driver.parent / "node_modules").is_dir(), "not installed: make test-clients"
    printed = await both.drive("node", str(driver))
    assert {one["call"] for one in printed if "failed" in one["got"]} == ERRORS
    assert both.compare() == len(printed)
