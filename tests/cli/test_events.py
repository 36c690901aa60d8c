"""`events`: narrowing down what happened."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_processes import Command

from pointsman.cli.events import _latest
from pointsman.core.model import Decision, Note, State
from pointsman.store.client import Store

Cli = Callable[..., Any]


@pytest.fixture
def told(daemon: Command, cli: Cli) -> Cli:
    """`told("--kind", "word")`: the events of a daemon that was given three words, as (kind, subject)."""
    cli("weights", "set", "chat", "bedrock=100", "--reason", "the first")
    cli("provider", "drain", "meta", "--reason", "the second, for repair")
    cli("weights", "set", "chat", "google=100", "--reason", "The Third")

    def run(*options: str) -> list[tuple[str, str]]:
        result = cli("events", "--output", "json", *options)
        assert result.code == 0, result
        events = [json.loads(line) for line in result.out.splitlines()]
        return [(event["kind"], event["text"]) for event in events]

    return run


def kinds(events: list[tuple[str, str]]) -> list[str]:
    return [kind for kind, _ in events]


def test_by_kind(told: Cli) -> None:
    """A whole kind or its beginning; two mean either."""
    assert kinds(told("--kind", "word.set_weights")) == ["word.set_weights"] * 2
    assert kinds(told("--kind", "word")) == [
        "word.apply_plan",
        "word.set_weights",
        "word.drain",
        "word.set_weights",
    ]
    assert kinds(told("--kind", "word.drain", "-k", "word.apply"))[:2] == ["word.apply_plan", "word.drain"]
    assert told("--kind", "ramp.nothing") == []


def test_by_subject(told: Cli) -> None:
    """Exactly that subject."""
    first = next(text for kind, text in told("--kind", "word.drain"))
    author = first.partition(":")[0]

    assert set(kinds(told("--subject", author))) == {"word.set_weights", "word.drain"}
    assert set(kinds(told("--subject", "file", "-s", author))) > {"word.apply_plan", "word.drain"}
    assert told("--subject", author[:-1]) == []


def test_by_text(told: Cli) -> None:
    """Anywhere in the sentence, in small or large letters; all options must fit."""
    assert kinds(told("--grep", "the third")) == ["word.set_weights"]
    assert kinds(told("--grep", "THE ", "--kind", "word.drain")) == ["word.drain"]
    assert told("--grep", "the third", "--kind", "word.drain") == []


def test_by_route(told: Cli, cli: Cli) -> None:
    """What names the route, or is about one of its targets; a name that only contains it is another one."""
    events = told("--route", "chat")

    assert {"table.published", "word.set_weights"} <= set(kinds(events))
    assert "word.apply_plan" not in kinds(events)
    assert told("--route", "chat", "--grep", "the third") == told("--grep", "the third")
    part = cli("events", "--route", "cha")
    assert (part.code, part.out) == (0, "")
    assert "there is no route 'cha' now" in part.err


def test_between_two_moments(told: Cli) -> None:
    """--since and --until take spans and times; the count is of those that fit."""
    everything = told()
    assert told("--since", "1h", "--until", "now") == everything
    assert told("--until", "1h") == []
    assert told("--since", "2000-01-01 12:00", "--kind", "word", "-n", "1") == told("--kind", "word")[-1:]
    assert told("--until", "2000-01-01") == []


def test_the_count_is_of_what_fits(told: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others there are in between, and however many are read at once."""
    words = told("--kind", "word")
    monkeypatch.setattr("pointsman.cli.events._PAGE", 2)

    assert told("--kind", "word", "-n", "4") == words
    assert told("--kind", "word", "-n", "2") == words[-2:]
    assert told("--kind", "word", "-n", "50") == words


def test_until_and_follow_contradict_each_other(cli: Cli) -> None:
    """Exit code 2."""
    result = cli("events", "--until", "1m", "--follow")

    assert result.code == 2
    assert "--until looks back" in result.err


def test_following_is_narrowed_down_too(daemon: Command, cli: Cli, config: Path) -> None:
    """What does not fit is not shown when it happens either."""
    cli("weights", "set", "chat", "meta=100", "--reason", "wanted 0")
    command = [sys.executable, "-m", "pointsman", "events", "--follow", "--grep", "wanted"]
    with subprocess.Popen(
        [*command, "--config", str(config)], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert "wanted 0" in following.stdout.readline()
        cli("weights", "set", "chat", "google=100", "--reason", "another")
        cli("weights", "set", "chat", "meta=100", "--reason", "wanted 1")
        assert "wanted 1" in following.stdout.readline()
        following.send_signal(2)
        assert following.wait(10) == 130


@pytest.mark.anyio
async def test_following_begins_where_looking_ended(store: Store) -> None:
    """Also when nothing of before fits: the place of the newest that was looked at."""
    lease = await store.acquire("daemon-a", 60.0, 0)
    assert lease is not None
    notes = tuple(Note(at_s=1.0, kind="x", subject="y", text=str(number)) for number in range(3))
    await store.save(lease, None, Decision(state=State(), table=None, reasons={}, notes=notes))
    newest = (await store.events())[-1][0]

    assert await _latest(store, lambda _: False, 10, "-", "+") == ([], newest)
    assert (await _latest(store, None, 2, "-", "+"))[1] == newest
    assert await _latest(store, None, 2, newest, "+") == ([], "")
