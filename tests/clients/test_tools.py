"""The official SDKs have tools called: whole, streamed, and with what the tools gave."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HERE = Path(__file__).parent
NODE = HERE / "node"
APIS = {"chat": "o", "responses": "o", "messages": "a"}
node_needed = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")


def check(both: Any, printed: list[Any]) -> None:
    """The same on either way, and it is calls with the arguments that were to come, then a text without any."""
    assert both.compare() == len(printed) == 24
    used = {one["call"]: one["used"] for one in printed if not one["call"].endswith("streamed")}
    for api, provider in APIS.items():
        arguments = {"station": provider, "platform": 1}
        for choice, names in (("any", ["departures", "delays"]), ("one", ["delays"])):
            called = [[name, arguments] for name in names]
            assert used[f"{api}, {choice}"] == used[f"{api}, {choice}, grown"] == called
            assert used[f"{api}, {choice}, after"] == []


async def test_python(both: Any) -> None:
    """In Python: calls, whole and in pieces, are the same as without a proxy, to the byte."""
    check(both, await both.drive(sys.executable, str(HERE / "drivers" / "tool_calls.py")))


@node_needed
async def test_node(both: Any) -> None:
    """In Node: calls, whole and in pieces, are the same as without a proxy, to the byte."""
    assert (NODE / "node_modules").is_dir(), "not installed: make test-clients"
    check(both, await both.drive("node", str(NODE / "tool_calls.mjs")))
