"""`pointsman rollout` against a real daemon: what it says, what it shows at 80 columns, and its exit codes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_processes import Command, document_of, read, write

from pointsman.cli.rollouts import markdown, report_picture
from pointsman.core.ramp_model import Finding, Verdict
from pointsman.core.rollout_model import ReportKind, RolloutPhase, RolloutReport
from pointsman.store.keys import Keys

Cli = Callable[..., Any]
WHY = ("--reason", "a test")
CAUSE = ("--root-cause", "the gateway had no pool; it has one now")
STAGES = [
    {"environment": "development", "soak_s": 3600, "min_requests": 10, "approval": True},
    {"environment": "staging"},
]


@pytest.fixture
def config(store_url: str, keys: Keys, tmp_path: Path) -> Path:
    """A configuration with a rollout whose share is there already, so that it is watched at once."""
    routes = {"chat": {"weights": {"google": 80, "meta": 20}}}
    rollouts = {
        "gateway": {"route": "chat", "from": "bedrock", "to": "google", "stages": STAGES},
        "later": {"route": "chat", "from": "meta", "to": "google", "stages": [{"environment": "staging"}]},
    }
    document = document_of(store_url, keys, tmp_path / "state", routes=routes, rollouts=rollouts)
    return write(tmp_path / "pointsman.yaml", document)


def shown(cli: Cli) -> dict[str, Any]:
    picture: dict[str, Any] = cli("rollout", "status", "gateway", "--output", "json").json[0]
    return picture


def comes_to(cli: Cli, phase: str) -> dict[str, Any]:
    deadline = time.monotonic() + 5.0
    while (picture := shown(cli))["phase"] != phase:
        assert time.monotonic() < deadline, picture
    return picture


def shares_come_to(cli: Cli, shares_bp: dict[str, int]) -> bool:
    """A word is answered when it is saved, a moment before its table is out."""
    deadline = time.monotonic() + 5.0
    while cli("table", "show", "--output", "json").json["routes"]["chat"]["shares_bp"] != shares_bp:
        if time.monotonic() > deadline:
            return False
    return True


def test_a_rollout_that_has_not_begun_is_shown(daemon: Command, cli: Cli) -> None:
    """With its stages and times, and the word that begins it."""
    result = cli("rollout", "status")

    assert result.code == 0, result
    assert "gateway in development  bedrock → google on chat  not begun" in result.out
    assert "development 60 min, approval → staging 48 h" in result.out
    assert "pointsman rollout start gateway" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_it_starts_is_shown_and_is_taken_back(daemon: Command, cli: Cli) -> None:
    """A word, its answer, how far it is, why it does not go on; a stop is one word."""
    result = cli("rollout", "start", "gateway", *WHY)
    assert result.code == 0, result
    assert "rollout gateway in development, attempt 1: bedrock → google on chat" in result.out
    picture = comes_to(cli, "soaking")
    assert picture["soak_s"] == 3600.0
    assert picture["reason"] == "a test"
    assert [stage["environment"] for stage in picture["stages"]] == ["development", "staging"]
    text = cli("rollout", "status", "gateway")
    assert " s of 60 min" in text.out
    assert "‖ requests" in text.out
    assert max(map(len, text.out.splitlines())) <= 80
    stopped = cli("rollout", "stop", "gateway", *WHY)
    assert stopped.code == 0, stopped
    picture = comes_to(cli, "rolled_back")

    assert picture["why"].startswith("stopped by ann@")
    assert shares_come_to(cli, {"bedrock": 8_000, "meta": 2_000})


def test_after_a_rollback_the_root_cause_is_asked_for(daemon: Command, cli: Cli) -> None:
    """A start is refused, an attempt without a cause is refused, one with it begins."""
    cli("rollout", "start", "gateway", *WHY)
    comes_to(cli, "soaking")
    cli("rollout", "stop", "gateway", *WHY)
    comes_to(cli, "rolled_back")
    start = cli("rollout", "start", "gateway", *WHY)
    assert start.code == 1
    assert 'then pointsman rollout again gateway --root-cause "…"' in start.err
    again = cli("rollout", "again", "gateway", *WHY)
    assert again.code == 1
    assert "needs the root cause in words" in again.err
    result = cli("rollout", "again", "gateway", *CAUSE, *WHY, "--output", "json")
    assert result.code == 0, result
    assert result.json["ok"]
    picture = shown(cli)

    assert (picture["attempt"], picture["soak_s"]) == (2, 86_400.0)
    assert "root cause the gateway had no pool" in cli("rollout", "status", "gateway").out


def test_what_holds_is_overruled_and_approved(daemon: Command, cli: Cli) -> None:
    """Each with its reason; then the stage is go, and its report is there."""
    cli("rollout", "start", "gateway", *WHY)
    comes_to(cli, "soaking")
    none = cli("rollout", "report", "gateway")
    assert none.code == 1
    assert "no report of gateway has been written yet" in none.err
    early = cli("rollout", "approve", "gateway", *WHY)
    assert early.code == 1
    assert "nothing to approve yet" in early.err
    deadline = time.monotonic() + 5.0
    while "no proxy is alive" not in shown(cli)["why"]:
        assert time.monotonic() < deadline
    assert cli("rollout", "overrule", "gateway", *WHY).code == 0
    overruled = cli("rollout", "overrule", "gateway", "--criterion", "soak", *WHY, "--output", "json")
    assert overruled.json == {
        "ok": True, "text": "rollout gateway: soak overruled", "word": overruled.json["word"],
    }  # fmt: skip
    text = cli("rollout", "status", "gateway").out

    assert "overruled by" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_stop_that_keeps(daemon: Command, cli: Cli) -> None:
    """What was moved stays."""
    cli("rollout", "start", "gateway", *WHY)
    comes_to(cli, "soaking")
    assert cli("rollout", "stop", "gateway", "--keep", *WHY).code == 0
    comes_to(cli, "stopped")

    assert shares_come_to(cli, {"google": 8_000, "meta": 2_000})


@pytest.mark.parametrize(
    "words",
    [
        ("start", "gateway"),
        ("approve", "gateway"),
        ("go", "gateway", "--stage", "staging"),
        ("again", "gateway"),
        ("stop", "gateway"),
        ("overrule", "gateway"),
    ],
)
def test_a_word_needs_a_reason(daemon: Command, cli: Cli, words: tuple[str, ...]) -> None:
    """It stands in the events."""
    result = cli("rollout", *words)

    assert result.code == 2
    assert "say why" in result.err


def test_a_dry_run_changes_nothing(daemon: Command, cli: Cli) -> None:
    """It says what would be."""
    result = cli("rollout", "start", "gateway", "--dry-run")

    assert result.code == 0, result
    assert "would: rollout gateway in development" in result.out
    assert "nothing was changed" in result.out
    assert shown(cli)["phase"] == "not begun"


def test_refusals_say_what_to_do(daemon: Command, cli: Cli) -> None:
    """Exit code 1, with the cure."""
    for words, text in (
        (
            ("go", "gateway", "--stage", "staging"),
            "rollout gateway has not begun: pointsman rollout start gateway",
        ),
        (("start", "later"), "rollout later has no stage for development"),
        (("start", "latter"), "there is no rollout 'latter'; there are: gateway, later"),
    ):
        result = cli("rollout", *words, *WHY)
        assert result.code == 1
        assert text in result.err
    for verb in ("status", "report"):
        result = cli("rollout", verb, "latter")
        assert result.code == 1
        assert "there is no rollout 'latter'; there are: gateway, later" in result.err


def test_nothing_is_configured(commands: Callable[..., Command], cli: Cli, config: Path) -> None:
    """The place where a rollout is written is named."""
    document = read(config)
    write(config, {name: value for name, value in document.items() if name != "rollouts"})
    commands("control", "--config", config)
    deadline = time.monotonic() + 15
    while (result := cli("rollout", "status")).code:
        assert time.monotonic() < deadline, result

    assert "no rollout is configured: write one under rollouts: in the file" in result.out
    assert "none, write one under rollouts:" in cli("rollout", "status", "gateway").err


# --- reports

WEEK = RolloutReport(
    rollout="gateway", kind=ReportKind.WEEKLY, environment="production", route="chat", source="direct",
    goal="gateway", attempt=2, phase=RolloutPhase.SOAKING, began_s=1_800_014_400.0, since_s=1_800_014_400.0,
    at_s=1_800_608_400.0, number=1, watched_s=594_000.0, soak_s=1_209_600.0, requests=100_000, failed=120,
    old_requests=400, old_failed=1, p95_ms=800.0, p95_before_ms=1_000.0, cost_usd=50.0, cost_before_usd=200.0,
    root_cause="no pool of connections",
    findings=(
        Finding(gate="errors", verdict=Verdict.PASS, why="0.1 % of 100000 requests failed"),
        Finding(gate="cache_hits", verdict=Verdict.HOLD, why="no evidence: no response cache reports"),
    ),
    issues=("09:14:02 was not watched for 2 h, which does not count",),
    recommendation="Continue monitoring: every criterion is go so far.",
)  # fmt: skip
WEEK_TEXT = """\
# Rollout gateway, production: week 1

- Deployment: 2027-01-15 12:00 UTC, attempt 2
- Period: 2027-01-15 12:00 UTC to 2027-01-22 09:00 UTC
- Environment: production
- Moved: chat, from direct to gateway
- State: soaking, watched 6.9 days of 14 days
- Root cause of the last rollback: no pool of connections

## Metrics

- Total requests: 100000
- Cache hit rate: no evidence
- API calls: 100000
- Error rate: 0.12 % (120 failed)
- P95 response time: 800 ms (1000 ms before)
- P95 first token: no evidence
- Requests of the old side meanwhile: 400, error rate 0.25 % (1 failed)

## Cost savings

- Costs before: 200.00 USD
- Costs after: 50.00 USD
- Savings: 150.00 USD (75.0 %)
- Projected savings in 30 days at this rate: 654.55 USD

## Criteria

- errors: go, 0.1 % of 100000 requests failed
- cache hits: not go, no evidence: no response cache reports

## Issues

- 09:14:02 was not watched for 2 h, which does not count

## Recommendation

- Continue monitoring: every criterion is go so far.
"""


def test_a_weekly_report() -> None:
    """In the shape of the runbooks'."""
    assert markdown(WEEK) == WEEK_TEXT


def test_a_report_of_nothing() -> None:
    """What has no evidence is said so, in words and as null."""
    bare = RolloutReport(
        rollout="gateway", kind=ReportKind.STAGE, environment="staging", route="chat", source="direct",
        goal="gateway", attempt=1, phase=RolloutPhase.ROLLED_BACK, began_s=0.0, since_s=0.0, at_s=60.0,
        recommendation="Find the root cause.", cache_hit_ratio=0.25, p95_ms=20.0,
    )  # fmt: skip
    text = markdown(bare)

    assert text.startswith("# Rollout gateway, staging: the stage is rolled back\n")
    for line in (
        "- Error rate: no evidence",
        "- Cache hit rate: 25.0 %",
        "- P95 response time: 20 ms\n",
        "- Savings: no evidence",
        "- Requests of the old side meanwhile: 0\n",
        "## Issues\n\n- none",
    ):
        assert line in text
    assert "Projected" not in text
    assert "## Criteria" not in text
    picture = report_picture(bare)
    assert picture["savings_usd"] is None
    assert picture["cost_usd"] is None
    assert picture["kind"] is ReportKind.STAGE
