"""Secrets come by reference, and appear nowhere."""

import copy
import json
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.config.errors import ConfigError
from pointsman.config.secrets import Secret, SecretError, resolve
from pointsman.config.sources import load

PLANTED = "sk-ant-api03-Zm9vYmFy0123456789abcdefQUJD"
EXAMPLE = Path(__file__).parents[2] / "config/pointsman.example.yaml"


def test_a_secret_of_the_environment() -> None:
    """env:NAME is the variable's value."""
    assert resolve("env:KEY", {"KEY": "abc"}).reveal() == "abc"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_of_a_file(tmp_path: Path, ending: str) -> None:
    """file:/PATH is the file's content without one line break at its end."""
    (tmp_path / "key").write_bytes(f"abc{ending}".encode())
    assert resolve(f"file:{tmp_path}/key", {}).reveal() == "abc"


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    """credential:NAME is a file in $CREDENTIALS_DIRECTORY."""
    (tmp_path / "anthropic").write_text("abc\n")
    assert resolve("credential:anthropic", {"CREDENTIALS_DIRECTORY": str(tmp_path)}).reveal() == "abc"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("  ", "empty"),
        ("abc\n\n", "line break inside"),
        ("ab\nc", "line break inside"),
        ("ab\rc", "line break inside"),
        (" abc", "a space at an end"),
        ("ab\x00c", "control character"),
        ("abcé", "outside ASCII"),
    ],
)
def test_a_secret_that_no_header_can_carry_is_refused(text: str, why: str) -> None:
    """The error says why, and does not hold the text."""
    with pytest.raises(SecretError, match=why) as caught:
        resolve("env:KEY", {"KEY": text})
    assert not text.strip() or text.strip() not in str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        ("env:NOT_SET", "not set"),
        ("file:/nowhere/key", "No such file"),
        ("file:/", "Is a directory"),
        ("credential:x", "CREDENTIALS_DIRECTORY is not set"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(ref: str, why: str) -> None:
    """The error names the reference, why, and a cure."""
    with pytest.raises(SecretError, match=why) as caught:
        resolve(ref, {})
    assert caught.value.ref == ref
    assert str(caught.value) == f"{ref}: {caught.value.why}. Cure: {caught.value.cure}."


def test_what_is_no_reference_is_not_repeated() -> None:
    """A secret in a reference's place does not appear in the error."""
    with pytest.raises(SecretError) as caught:
        resolve(PLANTED, {})
    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize("size", [65_537, 1_000_000])
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, size: int) -> None:
    """A file larger than any secret is not read to its end."""
    (tmp_path / "key").write_bytes(b"a" * size)
    with pytest.raises(SecretError, match="larger"):
        resolve(f"file:{tmp_path}/key", {})


def test_a_secret_hides_itself() -> None:
    """No way of printing, formatting, pickling or encoding gives its text."""
    secret = Secret(PLANTED)
    assert PLANTED not in f"{secret} {secret!r} {secret!s} {[secret]} {secret:>10}" + "%s" % secret  # noqa: UP031
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_by_their_text() -> None:
    """Equal texts are equal secrets; a text is not a secret."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


# --- a secret pasted somewhere into the file


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in the file."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


PLACES = list(places(yaml.safe_load(EXAMPLE.read_text())))


def report(path: Path, env: dict[str, str] | None = None) -> str:
    """Everything that is said about the file, with tracebacks; "" if it is valid."""
    try:
        load(path, env or {})
    except ConfigError as error:
        return "".join(traceback.format_exception(error)) + repr(error) + repr(error.problems)
    return ""


def leaks(said: str, secret: str) -> bool:
    """Is the secret, or a piece of it as long as eight letters, in what was said?"""
    size = min(8, len(secret))
    return any(secret[at : at + size] in said for at in range(len(secret) - size + 1))


@pytest.mark.parametrize("secret", [PLANTED, "hunter2 #é", "Hunter2"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_secret_as_a_value_is_not_printed(tmp_path: Path, place: tuple[Any, ...], secret: str) -> None:
    """Wherever a secret of any shape stands as a value, no message repeats it."""
    data = yaml.safe_load(EXAMPLE.read_text())
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = secret
    path = tmp_path / "pointsman.yaml"
    path.write_text(yaml.safe_dump(data))
    assert not leaks(report(path), secret)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_secret_as_a_key_is_not_printed(tmp_path: Path, place: tuple[Any, ...]) -> None:
    """Wherever something that looks like a key's text stands as a key, no message repeats it."""
    data = yaml.safe_load(EXAMPLE.read_text())
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = {PLANTED: "x"}
    path = tmp_path / "pointsman.yaml"
    path.write_text(yaml.safe_dump(data))
    said = report(path)
    assert said
    assert not leaks(said, PLANTED)


@pytest.mark.parametrize(
    "text",
    [
        f"fleet: [{PLANTED}",
        f"fleet: *{PLANTED}",
        f"fleet: !{PLANTED} x",
        f"fleet: '{PLANTED}",
        f"  fleet: a\n{PLANTED}: b\n",
        f"fleet: %{PLANTED}\n",
        f"%{PLANTED}\n---\nfleet: a",
    ],
)
def test_a_secret_in_broken_yaml_is_not_printed(tmp_path: Path, text: str) -> None:
    """What the parser says of a line does not quote the line."""
    path = tmp_path / "pointsman.yaml"
    path.write_text(text)
    said = report(path)
    assert said
    assert not leaks(said, PLANTED)


@pytest.mark.parametrize(
    "variable",
    [
        "STORE__PASSWORD",
        "STORE__URL",
        "STORE",
        "PROVIDERS__BEDROCK__CREDENTIALS",
        "POLICY__WINDOW_S",
        "TELEMETRY__LOG_LEVEL",
    ],
)
def test_a_secret_in_a_variable_is_not_printed(variable: str) -> None:
    """A variable's wrong value is not repeated either."""
    said = report(EXAMPLE, {f"POINTSMAN_{variable}": PLANTED})
    assert said
    assert not leaks(said, PLANTED)
