"""`monitor` and `validate` as commands: what they refuse, and what they say where there is nothing to see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_processes import Command, document_of, write

from pointsman.cli.common import CommandError
from pointsman.cli.watching import ratio_of
from pointsman.store.keys import Keys

Cli = Callable[..., Any]


@pytest.fixture
def config(store_url: str, keys: Keys, tmp_path: Path) -> Path:
    """Two routes that share a target."""
    routes = {
        "chat": {"weights": {"bedrock": 60, "google": 40}},
        "batch": {"weights": {"google": 50, "meta": 50}},
    }
    return write(tmp_path / "pointsman.yaml", document_of(store_url, keys, tmp_path / "state", routes=routes))


@pytest.mark.parametrize(
    ("text", "ratio"), [("98%", 0.98), ("98", 0.98), (" 99.5 % ", 0.995), ("100%", 1.0), ("0.5%", 0.005)]
)
def test_thresholds(text: str, ratio: float) -> None:
    """In percent, with or without the sign."""
    assert ratio_of("--success-threshold", text) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["0.98", "1", "0%", "101%", "-5%", "high", ""])
def test_what_is_no_threshold(text: str) -> None:
    """Least of all a ratio: as a percentage nearly everything would be above it."""
    with pytest.raises(CommandError, match="write a percentage"):
        ratio_of("--success-threshold", text)


def test_no_proxy_is_no_success(daemon: Command, cli: Cli) -> None:
    """Nothing was seen, and the text says why; a target of another route is named."""
    result = cli("monitor", "chat", "--for", "0.2s")

    assert result.code == 1, result
    assert "google also serves batch" in result.out
    assert "failed: no traffic seen: no proxy reports" in result.out


def test_json_has_a_document_a_line_and_a_final_one(daemon: Command, cli: Cli) -> None:
    """A script reads the last line, or the exit code."""
    result = cli("monitor", "--for", "1s", "--every", "0.4s", "--output", "json")
    *parts, last = map(json.loads, result.out.splitlines())

    assert result.code == 1
    assert len(parts) >= 2
    assert not any(part["final"] for part in parts)
    assert (last["final"], last["pass"], last["success"]) == (True, False, None)
    assert last["routes"] == ["batch", "chat"]


def test_validate_without_proxies(daemon: Command, cli: Cli) -> None:
    """It fails with what is missing; requests cannot be made through nobody."""
    result = cli("validate", "chat", "--timeout", "0.2s")

    assert result.code == 1, result
    assert "✗ samples  0 of 100 requests" in result.out
    assert "✗ serving  no proxy reports" in result.out
    assert "– success  no evidence: no request was seen" in result.out
    assert result.out.splitlines()[-1].startswith("failed: samples")
    made = cli("validate", "chat", "--synthetic")
    assert (made.code, "no proxy reports where it listens" in made.err) == (1, True), made


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("monitor", "nowhere"), 1, "there are: batch, chat"),
        (("monitor", "chat", "--target", "meta"), 1, "there are: bedrock, google"),
        (("validate", "nowhere"), 1, "there are: batch, chat"),
        (("monitor", "--for", "0s"), 2, "longer than nothing"),
        (("validate", "--timeout", "0s"), 2, "longer than nothing"),
        (("monitor", "--success-threshold", "0.98"), 2, "as 98%"),
    ],
)
def test_what_is_refused(daemon: Command, cli: Cli, arguments: tuple[str, ...], code: int, text: str) -> None:
    """With what there is, or how to write it."""
    result = cli(*arguments)

    assert result.code == code, result
    assert text in result.err
