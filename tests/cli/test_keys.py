"""`pointsman keys new`: a key for a caller, and the line that lets it in."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pointsman.cli import app
from pointsman.cli.common import CommandError
from pointsman.config.caller_keys import hashed
from pointsman.config.sources import load

BAD = Path(__file__).parents[2] / "config/pointsman.example.yaml"


def new(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["keys", "new", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_key_is_printed_with_its_line(tmp_path: Path) -> None:
    """The first line is the key; what follows for the file is its hash, and the file with it is valid."""
    printed = new("app-one")
    key = printed.splitlines()[0]
    start = printed.index("proxy:")
    section = yaml.safe_load(printed[start : printed.index("\n\n", start)])

    assert section == {"proxy": {"keys": {"app-one": hashed(key)}}}
    assert printed.count(key) == 1
    path = tmp_path / "pointsman.yaml"
    document = yaml.safe_load(BAD.read_text()) | section
    path.write_text(yaml.safe_dump({name: value for name, value in document.items() if value is not None}))
    assert load(path, {}).proxy.keys == {"app-one": hashed(key)}


def test_keys_are_long_and_never_the_same() -> None:
    """pm- and 32 random bytes."""
    keys = {json.loads(new("a", "--output", "json"))["key"] for _ in range(3)}
    assert len(keys) == 3
    assert all(key.startswith("pm-") and len(key) == 3 + 43 for key in keys)


def test_for_scripts() -> None:
    """Name, key, hash and line."""
    made = json.loads(new("app-one", "--output", "json"))
    assert made == {
        "name": "app-one",
        "key": made["key"],
        "hash": hashed(made["key"]),
        "line": f"app-one: {hashed(made['key'])}",
    }


def test_a_name_has_to_be_one() -> None:
    """As the configuration would say, before there is a key."""
    with pytest.raises(CommandError, match="that is no name"):
        new("App One")
