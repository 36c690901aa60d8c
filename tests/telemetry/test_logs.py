"""Logs: the two forms, and what never gets into either."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from pointsman import logs

PLANTED = "pl4nted/secret+value"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream in place of standard error; the logging of the test run is put back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = (root.handlers[:], root.level, ours.level)
    yield io.StringIO()
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def text_of(stream: io.StringIO, *, fmt: Literal["text", "json"] = "text", level: str = "debug") -> logs.Log:
    logs.setup(fmt, level, stream=stream, secrets=[PLANTED])
    return logs.get("breaker")


def test_text_reads_like_the_runbook(stream: io.StringIO) -> None:
    """A field named in the message stands in the sentence, the others in brackets behind it."""
    text_of(stream).warning("marked {target} failed", target="bedrock", failures=3, cooldown_s=30.0)
    line = stream.getvalue()
    assert line.endswith("Z WARNING [breaker] marked bedrock failed (failures: 3, cooldown_s: 30)\n")


def test_a_sentence_without_fields_has_no_brackets(stream: io.StringIO) -> None:
    """Nothing is put behind a message that says it all."""
    text_of(stream).info("all providers in cooldown, using safety valve: {target}", target="openrouter")
    assert stream.getvalue().endswith(
        " INFO [breaker] all providers in cooldown, using safety valve: openrouter\n"
    )


def test_json_is_one_object_per_line(stream: io.StringIO) -> None:
    """The JSON form has time, level, part, sentence and every field by its own name and type."""
    log = text_of(stream, fmt="json")
    log.info("marked {target} failed", target="bedrock", failures=3, shares={"a": [1, 2]}, none=None)
    log.info("again", level="deep")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "info", "part": "breaker", "message": "marked bedrock failed",
        "target": "bedrock", "failures": 3, "shares": {"a": [1, 2]}, "none": None,
    }  # fmt: skip
    assert (second["level"], second["level_"]) == ("info", "deep")


@pytest.mark.parametrize("message", ["100 % of {nothing}", "{", "{0} %s %d", "{target!r}"])
def test_no_message_breaks_the_log(stream: io.StringIO, message: str) -> None:
    """A message with stray braces or percent signs is written as it stands."""
    text_of(stream).info(message, target="a")
    assert message in stream.getvalue()


def test_the_level_holds_for_us_and_warnings_for_others(stream: io.StringIO) -> None:
    """Below the level nothing is written; other libraries speak from warning on."""
    log = text_of(stream, level="info")
    log.debug("quiet")
    logging.getLogger("apscheduler").info("quiet")
    logging.getLogger("apscheduler").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "WARNING [apscheduler] loud" in stream.getvalue()


def test_setup_again_replaces(stream: io.StringIO) -> None:
    """A second set-up does not write every line twice."""
    text_of(stream)
    text_of(stream, fmt="json").info("once")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("fmt", ["text", "json"])
@pytest.mark.parametrize(
    "leak",
    [
        PLANTED,
        f"in the middle:{PLANTED}.",
        "pl4nted%2Fsecret%2Bvalue",
        "sk-ant-api03-abcdefgh",
        "authorization: Bearer abc.def.ghi",
        "Authorization: Basic dXNlcjpwYXNz",
        "{'x-api-key': 'abcdefgh'}",
        '"api-key": "abcdefgh"',
        "https://host/v1beta/models?key=abcdefgh&alt=sse",
        "redis://user:hunter22@127.0.0.1:6379/0",
        "AIzaSyA-1234567890abcdefghijklmnop",
    ],
)
def test_secrets_stay_out(stream: io.StringIO, fmt: Literal["text", "json"], leak: str) -> None:
    """A known secret or a key's shape is hidden in message, field, nested field and traceback."""
    log = text_of(stream, fmt=fmt)
    message = f"message {leak}"
    log.info(message)
    log.info("field", value=leak, nested={"deep": [leak]}, error=ValueError(leak))
    log.info("in {place}", place=leak)
    try:
        raise ValueError(leak)
    except ValueError:
        log.exception("failed")
    logging.getLogger("other").warning("other's %s", leak)
    written = stream.getvalue()
    for secret in (PLANTED, "pl4nted%2F", "api03", "def.ghi", "dXNlcjpw", "abcdefgh", "hunter22", "AIzaSyA"):
        assert secret not in written
    assert written.count("[secret]") >= 7


def test_words_about_keys_are_not_hidden(stream: io.StringIO) -> None:
    """Ordinary sentences survive the filter."""
    said = "the key of openai is missing, risk-free: https://host/v1/models?limit=5 (tokens: 12)"
    text_of(stream).info(said)
    assert said in stream.getvalue()


@pytest.mark.parametrize(
    "said",
    [
        "env:GEMINI_API_KEY: the variable is not set",
        "GEMINI_API_KEY: is empty",
        "x-api-key: not sent",
        "the api key: missing",
        "authorization: no, thanks",
    ],
)
def test_sentences_about_a_named_key_are_not_hidden(said: str) -> None:
    """What is wrong with a key is told; no key is among the words that begin such a sentence."""
    assert logs.redact(said) == said


@pytest.mark.parametrize(
    "leak",
    [
        "GEMINI_API_KEY: thesecret",
        "GEMINI_API_KEY: the-secret-value",
        "GEMINI_API_KEY=the",
        "GEMINI_API_KEY: hunter is not set",
        "x-api-key:not sent",
        "x-api-key: not_sent",
        "authorization: Bearer the.value",
    ],
)
def test_what_only_begins_like_a_sentence_is_hidden(leak: str) -> None:
    """A word of a sentence stands alone, behind a space."""
    assert "[secret]" in logs.redact(leak)


def test_a_stranger_cannot_forge_a_line(stream: io.StringIO) -> None:
    """Line breaks and terminal codes in a field are written as escapes."""
    text_of(stream).info("answered", detail="x\n2026 INFO [breaker] all is well\x1b[2J\u2028")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\\n2026" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_short_value_is_not_registered(stream: io.StringIO) -> None:
    """A three-letter "secret" would hide half of every line, so it is not one."""
    text_of(stream)
    logs.register_secret("the")
    logs.get("x").info("the line")
    assert "the line" in stream.getvalue()
