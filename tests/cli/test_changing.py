"""The verbs that change something: they act once, ask for a reason, and can be tried dry."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_processes import Command, read, write

Cli = Callable[..., Any]
WHY = ("--reason", "a test")


def shares(cli: Cli, route: str = "chat") -> dict[str, float]:
    table = cli("table", "show", "--output", "json").json
    return {target: share / 100 for target, share in table["routes"][route]["shares_bp"].items()}


def soon(cli: Cli, expected: Callable[[dict[str, float]], bool]) -> bool:
    """Do the published shares come to be as expected? A word is answered when it is saved, a moment before."""
    deadline = time.monotonic() + 5.0
    while not expected(shares(cli)):
        if time.monotonic() > deadline:
            return False
    return True


def remembered(cli: Cli) -> list[Any]:
    """What people decided: the words that acted, weights, overlays, drains, and the shares that came of them."""
    events = map(json.loads, cli("events", "--output", "json").out.splitlines())
    words = [event for event in events if event["kind"].startswith("word.")]
    drained = [
        target["drained"]
        for entry in cli("provider", "list", "-o", "json").json.values()
        for target in entry["targets"]
    ]
    return [words, cli("weights", "show", "--output", "json").json, drained, shares(cli)]


def test_weights_are_set_and_shown(daemon: Command, cli: Cli) -> None:
    """What is set is answered, published, and told with author and reason."""
    result = cli("weights", "set", "chat", "bedrock=20,google=33.25,meta=46.75", *WHY)

    assert result.code == 0, result
    assert "bedrock 20 %, google 33.25 %, meta 46.75 %" in result.out
    assert soon(cli, lambda now: now == {"bedrock": 20, "google": 33.25, "meta": 46.75})
    shown = cli("weights").out
    assert "bedrock 20.00 %, google 33.25 %, meta 46.75 %" in shown
    assert f"by ann@{socket.gethostname()}: a test" in shown
    assert "the file says bedrock 50.00 %" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("weights", "set", "chat", "meta=100"),
        ("failover", "chat", "--from", "bedrock", "--to", "meta"),
        ("pin", "chat", "meta=100", "--for", "10m"),
        ("provider", "drain", "bedrock", "--over", "0s"),
    ],
)
def test_a_dry_run_shows_the_change_and_writes_nothing(
    daemon: Command, cli: Cli, words: tuple[str, ...]
) -> None:
    """The table's difference is printed, and state, table and events stay as they were."""
    before = remembered(cli)
    result = cli(*words, "--dry-run")

    assert result.code == 0, result
    assert re.search(r"route chat: bedrock 50 % → 0 %", result.out), result
    assert "nothing was changed" in result.out
    assert remembered(cli) == before


def test_a_dry_run_of_what_would_be_refused_fails(daemon: Command, cli: Cli) -> None:
    """Exit code 1 and the same sentence that the daemon would answer."""
    result = cli("failover", "chat", "--from", "nobody", "--dry-run")

    assert result.code == 1
    assert "would be refused: there is no target 'nobody'" in result.err


def test_a_reason_is_asked_for(daemon: Command, cli: Cli) -> None:
    """Without one nothing is said, and the error names the option."""
    result = cli("failover", "chat", "--from", "bedrock")

    assert result.code == 2
    assert "--reason" in result.err
    assert soon(cli, lambda now: now.get("bedrock") == 50)


def test_a_refused_word_fails_and_says_why(daemon: Command, cli: Cli) -> None:
    """Exit code 1 in text and in JSON."""
    text = cli("weights", "set", "nowhere", "meta=100", *WHY)
    as_json = cli("weights", "set", "nowhere", "meta=100", *WHY, "--output", "json")

    assert text.code == as_json.code == 1
    assert "refused: there is no route 'nowhere'; there are: chat" in text.err
    assert as_json.json["ok"] is False


def test_failover_and_failback(daemon: Command, cli: Cli) -> None:
    """There and back again."""
    assert cli("failover", "chat", "--from", "bedrock", "--to", "meta", *WHY).code == 0
    assert soon(cli, lambda now: now == {"google": 30, "meta": 70})
    status = cli("status").out
    assert f"failover by ann@{socket.gethostname()}: a test" in status
    assert cli("failback", "chat", *WHY).code == 0
    assert soon(cli, lambda now: "bedrock" in now)


def test_failover_without_a_route_moves_every_route(daemon: Command, cli: Cli) -> None:
    """At 3 a.m. the target is known, not the routes that use it."""
    assert cli("failover", "--from", "bedrock", "--to", "google", *WHY).code == 0
    assert soon(cli, lambda now: now == {"google": 80, "meta": 20})


def test_pin_and_unpin(daemon: Command, cli: Cli) -> None:
    """A pin shows its remaining time, and unpin ends it."""
    assert cli("pin", "chat", "meta=100", "--for", "10m", *WHY).code == 0
    assert soon(cli, lambda now: now == {"meta": 100})
    overlay = cli("status", "--output", "json").json["routes"]["chat"]["overlay"]
    assert 590 < overlay["left_s"] <= 600
    assert cli("unpin", "chat", *WHY).code == 0
    assert soon(cli, lambda now: now.get("bedrock") == 50)


def test_rollback_pins_an_older_table(daemon: Command, cli: Cli) -> None:
    """`table rollback` publishes the shares of a revision as a new version."""
    first = cli("table", "show", "--output", "json").json["version"]
    assert cli("weights", "set", "chat", "meta=100", *WHY).code == 0
    result = cli("table", "rollback", str(first[1]), *WHY)

    assert result.code == 0, result
    assert soon(cli, lambda now: now == {"bedrock": 50, "google": 30, "meta": 20})
    assert cli("table", "show", "--output", "json").json["version"] > first
    assert cli("table", "rollback", "4711", *WHY).code == 1


def test_drain_and_undrain(daemon: Command, cli: Cli) -> None:
    """A drained target gets nothing and says by whom; the last one of a route is not drained."""
    assert cli("provider", "drain", "bedrock", "--over", "0s", *WHY).code == 0
    assert soon(cli, lambda now: "bedrock" not in now)
    assert "drained by ann@" in cli("provider", "list").out
    assert cli("provider", "drain", "google", "--over", "0s", *WHY).code == 0
    assert "the last target of chat" in cli("provider", "drain", "meta", *WHY).err
    assert cli("provider", "undrain", "bedrock", *WHY).code == 0


def test_reset_forgets_failures(daemon: Command, cli: Cli) -> None:
    """A reset is answered with what was forgotten."""
    result = cli("provider", "reset", "bedrock", *WHY)

    assert result.code == 0, result
    assert "bedrock reset" in result.out


def test_config_apply_makes_the_file_active(daemon: Command, cli: Cli, config: Path) -> None:
    """Drift is a warning in status until the file is applied."""
    document = read(config)
    document["routes"]["chat"]["weights"] = {"bedrock": 10, "google": 10, "meta": 80}
    write(config, document)
    drift = cli("status").out
    dry = cli("config", "apply", "--dry-run")
    early = cli("config", "export")
    applied = cli("config", "apply", *WHY)

    assert "the file differs from the active configuration" in drift
    assert "meta 20 % → 80 %" in dry.out
    assert applied.code == 0, applied
    assert soon(cli, lambda now: now == {"bedrock": 10, "google": 10, "meta": 80})
    assert "the file differs" not in cli("status").out
    assert "The file differs from the active configuration" in early.err
    assert cli("config", "export").err == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("weights", "set", "chat", "bedrock=50,google=30"), "sum to 80 %"),
        (("weights", "set", "chat", "bedrock=33.333,google=66.667"), "two decimals"),
        (("weights", "set", "chat", "bedrock=50,bedrock=50"), "named twice"),
        (("weights", "set", "chat", "bedrock=-10,google=110"), "not a share"),
        (("weights", "set", "chat", "bedrock=nan,google=50"), "not a share"),
        (("weights", "set", "chat", "half"), "not a share"),
        (("pin", "chat", "meta=100", "--for", "soon"), "not a duration"),
        (("failover", "chat"), "--from"),
        (("table", "diff", "last"), "no revision"),
        (("explain",), "name a route"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(cli: Cli, arguments: tuple[str, ...], text: str) -> None:
    """What cannot be meant is refused before the store is asked."""
    result = cli(*arguments)

    assert result.code == 2
    assert text in result.err
    assert "Traceback" not in result.err
