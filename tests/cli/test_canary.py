"""The verbs of ramps and freezes, against a real daemon with no proxy: nothing moves by itself, everything answers."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from control_processes import Command

Cli = Callable[..., Any]
WHY = ("--reason", "a test")
START = ("canary", "start", "chat", "--from", "bedrock", "--to", "google", *WHY)


def ramp(cli: Cli) -> dict[str, Any]:
    (found,) = cli("canary", "status", "chat", "--output", "json").json
    return dict(found)


def ramp_when(cli: Cli, expected: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The ramp as soon as it is as expected: a word is answered when it is saved, and acts with the next look."""
    deadline = time.monotonic() + 10.0
    while not expected(seen := ramp(cli)):
        assert time.monotonic() < deadline, seen
    return seen


def test_a_canary_begins_and_says_what_it_waits_for(daemon: Command, cli: Cli) -> None:
    """It takes its first step, and holds there: no proxy lives, so nothing is known of the share."""
    answer = cli(*START, "--steps", "20,100", "--samples", "5")
    seen = ramp_when(cli, lambda now: bool(now["gates"]))
    shown = cli("canary", "status").out

    assert "canary on chat: bedrock → google by 20 % → 100 % of its 50 %" in answer.out
    assert (seen["steps"], seen["to"]) == ([20.0, 100.0], {"google": 80.0, "meta": 20.0})
    assert "no proxy is alive" in seen["why"]
    assert "canary on chat bedrock → google" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "canary on chat bedrock → google" in cli("status").out


def test_a_canary_can_be_paused_resumed_and_aborted(daemon: Command, cli: Cli) -> None:
    """Each word acts and is told; an abort puts the weights back, and once more is no error."""
    cli(*START)
    assert cli("canary", "pause", "chat", "--reason", "lunch").code == 0
    assert "lunch" in ramp_when(cli, lambda now: bool(now["paused"]))["paused"]
    assert cli("canary", "resume", "chat", *WHY).code == 0
    assert not ramp_when(cli, lambda now: not now["paused"])["paused"]
    assert cli("canary", "abort", "chat", "--reason", "enough").code == 0
    ended = ramp_when(cli, lambda now: now["ended"])

    assert (ended["phase"], "enough" in ended["why"]) == ("aborted", True)
    assert cli("weights", "show", "--output", "json").json["overlays"] == []
    assert "nothing to abort" in cli("canary", "abort", "chat", *WHY).out


def test_a_canary_can_be_set_and_promoted(daemon: Command, cli: Cli) -> None:
    """An operator may go past the gates; the new weights are the baseline, and it bakes."""
    cli(*START)
    assert "set to 25 %" in cli("canary", "set", "chat", "25", *WHY).out
    assert ramp_when(cli, lambda now: now["progress"] == 25)["step"] == 3
    assert cli("canary", "promote", "chat", *WHY).code == 0
    assert ramp_when(cli, lambda now: now["phase"] == "baking")["progress"] == 95

    baseline = cli("weights", "show", "--output", "json").json["baselines"]["chat"]
    assert baseline["shares_bp"] == {"google": 8000, "meta": 2000}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("canary", "start", "chat", "--from", "meta", "--to", "meta"), "to itself moves nothing"),
        (("canary", "start", "chat", "--from", "bedrock", "--to", "nobody"), "there is no target 'nobody'"),
        (
            ("canary", "start", "nowhere", "--from", "bedrock", "--to", "google"),
            "there is no route 'nowhere'",
        ),
        ((*START[:-2], "--steps", "50,20"), "steps must grow"),
        (("canary", "pause", "chat"), "no ramp has moved chat yet"),
        (("canary", "set", "chat", "25"), "pointsman canary start chat"),
    ],
)
def test_refusals_say_why(daemon: Command, cli: Cli, words: tuple[str, ...], told: str) -> None:
    """Exit code 1, the reason, and what to do; nothing is left behind."""
    result = cli(*words, *WHY)

    assert result.code == 1, result
    assert told in result.err
    assert cli("canary", "status", "--output", "json").json == []


def test_wrong_numbers_are_wrong_usage(cli: Cli) -> None:
    """What is no list of numbers is told before anybody is asked."""
    result = cli(*START, "--steps", "5,ten")

    assert (result.code, "write numbers with commas" in result.err) == (2, True)


def test_a_dry_run_starts_nothing(daemon: Command, cli: Cli) -> None:
    """It says what would be, and no ramp is there afterwards."""
    result = cli(*START, "--dry-run")

    assert "would: canary on chat" in result.out
    assert cli("canary", "status", "--output", "json").json == []


def test_a_freeze_refuses_what_moves(daemon: Command, cli: Cli) -> None:
    """Movement is refused with the cure, an emergency is not, and after the thaw things move again."""
    assert cli("freeze", "--for", "10m", "--reason", "release day").code == 0
    refused = cli("weights", "set", "chat", "meta=100", *WHY)
    emergency = cli("failover", "chat", "--from", "bedrock", "--emergency", *WHY)

    assert (refused.code, "pointsman unfreeze first" in refused.err) == (1, True)
    assert "release day" in cli("status").out
    assert emergency.code == 0
    assert cli("unfreeze", *WHY).code == 0
    assert cli(*START[:4], "meta", "--to", "google", *WHY).code == 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("failover", "chat", "--from", "bedrock", "--to", "google", "--mode", "gradual"), "failover"),
        (("failover", "chat", "--from", "bedrock", "--to", "google", "--mode", "canary"), "canary"),
        (("weights", "set", "chat", "bedrock=10,google=70,meta=20", "--over", "5m"), "shift"),
    ],
)
def test_other_verbs_that_move_step_by_step(
    daemon: Command, cli: Cli, words: tuple[str, ...], kind: str
) -> None:
    """A gradual failover, a failover as a canary, weights over a while: each is a ramp, shown and ended as one."""
    assert cli(*words, *WHY).code == 0
    assert ramp(cli)["kind"] == kind
    assert "wait for its end, or end it" in cli(*START).err
    assert cli("canary", "abort", "chat", *WHY).code == 0


def test_a_failback_is_a_ramp_or_waits_until_it_is_earned(daemon: Command, cli: Cli) -> None:
    """After a failover: --auto lets it begin by itself, without it begins now, and --now ends it at once."""
    cli("failover", "chat", "--from", "bedrock", "--to", "google", *WHY)
    assert "will begin by itself" in cli("failback", "chat", "--auto", *WHY).out
    assert "step by step" in cli("failback", "chat", *WHY).out
    assert ramp(cli)["kind"] == "failback"
    assert cli("failback", "chat", "--now", *WHY).code == 0
    assert cli("weights", "show", "--output", "json").json["overlays"] == []
    assert cli("failback", "chat", "--now", "--auto", *WHY).code == 2
