"""Libraries that put SDKs of several providers behind one face: litellm, and LangChain's chat models."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
DRIVERS = Path(__file__).parent / "drivers"
# Their packages are locked in requirements/clients.txt, in an environment of their own.
PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"


@pytest.mark.parametrize("driver", ["litellm_client.py", "langchain_models.py"])
async def test_libraries(both: Any, driver: str) -> None:
    """Chat and streams are the same as without a proxy: bodies to the byte, headers but for those that are listed."""
    assert PYTHON.exists(), "not installed: make test-clients"
    printed = await both.drive(str(PYTHON), str(DRIVERS / driver))
    assert both.compare() == len(printed)
