"""`pointsman config …` for people and for scripts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from pointsman.cli.config import app
from pointsman.core.model import Baseline, Decision, State
from pointsman.store.client import Store
from pointsman.store.keys import Keys

Write = Callable[..., Path]
EXAMPLE = Path(__file__).parents[2] / "config/pointsman.example.yaml"


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """One call of the command."""
    return CliRunner().invoke(app, list(arguments), env=env, catch_exceptions=False)


def test_validate_says_what_is_there() -> None:
    """A valid file: its counts, and how fast each provider's failure is found."""
    result = run("validate", "--config", str(EXAMPLE))
    assert result.exit_code == 0
    assert "is valid: 5 providers, 5 targets, 2 routes." in " ".join(result.stdout.split())
    assert "  bedrock: 23 s, 63 s if only completions hang\n" in result.stdout


def test_validate_for_scripts() -> None:
    """The same as JSON."""
    result = run("validate", "--config", str(EXAMPLE), "--output", "json")
    found = json.loads(result.stdout)
    assert (found["valid"], found["problems"]) == (True, [])
    assert found["detection_s"]["meta"] == {"dead": 23.0, "hanging": 63.0}


def test_validate_counts_who_waits_for_whom(write: Write) -> None:
    """With more targets at one provider than are asked at once, hanging completions are found later."""
    more = "".join(f"  t{number}: {{provider: google, model: m{number}}}\n" for number in range(64))
    path = write(("routes:\n", f"{more}routes:\n"))
    found = json.loads(run("validate", "--config", str(path), "--output", "json").stdout)["detection_s"]

    assert found["bedrock"] == {"dead": 23.0, "hanging": 63.0}
    assert found["google"] == {"dead": 23.0, "hanging": 93.0}


def test_validate_shows_every_problem_with_its_cure(write: Write) -> None:
    """Exit code 2; the place, the key, the text and the cure, within 80 columns where paths allow."""
    path = write(("google-chat: 40", "google-chat: 30"), append="policy: {probe_failues: 1}\n")
    result = run("validate", "--config", str(path))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"{path}:14: routes.chat.weights\n"
        "    the weights sum to 90, not 100.\n"
        "    Cure: add 10.\n"
        f"{path}:17: policy.probe_failues\n"
        "    unknown key.\n"
        "    Cure: did you mean probe_failures?\n"
        "2 problems; nothing was changed.\n"
    )


def test_problems_for_scripts(write: Write) -> None:
    """The same as JSON, on standard output, with the exit code."""
    path = write(("google-chat: 40", "google-chat: 30"))
    result = run("validate", "--config", str(path), "--output", "json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "file": str(path),
        "problems": [
            {
                "file": str(path),
                "line": 14,
                "variable": None,
                "key": "routes.chat.weights",
                "text": "the weights sum to 90, not 100",
                "cure": "add 10",
            }
        ],
    }


def test_the_file_can_be_named_by_the_environment(write: Write) -> None:
    """$POINTSMAN_CONFIG is used where no --config is given."""
    path = write()
    assert json.loads(run("validate", "-o", "json", env={"POINTSMAN_CONFIG": str(path)}).stdout)[
        "file"
    ] == str(path)


def test_show_says_where_values_come_from(write: Write) -> None:
    """File and line, environment, or default; secrets as their references."""
    path = write(append="policy: {probe_failures: 2}\n")
    env = {"POINTSMAN_POLICY__LIVE_FAILURES": "9", "BEDROCK_KEY": "sk-not-to-be-seen"}
    result = run("show", "--config", str(path), "-o", "json", env=env)
    rows = {row["key"]: (row["value"], row["source"]) for row in json.loads(result.stdout)}
    assert rows["policy.probe_failures"] == (2, f"{path}:17")
    assert rows["policy.live_failures"] == (9, "environment POINTSMAN_POLICY__LIVE_FAILURES")
    assert rows["policy.window_s"] == (300.0, "default")
    assert rows["providers.bedrock.credentials"] == (["env:BEDROCK_KEY"], f"{path}:5")
    assert rows["routes.chat.weights.bedrock-chat"] == (60.0, f"{path}:15")
    assert "sk-not-to-be-seen" not in result.stdout


def test_show_fits_in_80_columns(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long values fold; nothing is cut."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(write().parent)
    result = run("show", "--config", "pointsman.yaml")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "https://bedrock.example/v1" in result.stdout
    assert "…" not in result.stdout


def test_show_of_a_bad_file_shows_its_problems(write: Write) -> None:
    """Exit code 2."""
    assert run("show", "--config", str(write(("google-chat: 40", "google-chat: 30")))).exit_code == 2


def test_the_schema_is_one_and_the_example_fits_it() -> None:
    """Editors get a JSON Schema by which the example is valid and a typo is not."""
    schema = json.loads(run("schema", "--output", "json").stdout)
    assert json.loads(run("schema").stdout) == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    example = yaml.safe_load(EXAMPLE.read_text())
    sections = {name: value for name, value in example.items() if value is not None}
    assert [error.message for error in validator.iter_errors(sections)] == []
    assert not validator.is_valid({**sections, "polcy": {}})


def test_export_without_a_store_says_so(write: Write, tmp_path: Path) -> None:
    """The file's own weights, exit code 0, and a line on standard error."""
    path = write(append=f"store: {{url: 'unix://{tmp_path}/nothing.sock'}}\n")
    result = run("export", "--config", str(path))
    assert result.exit_code == 0
    assert result.stderr.startswith("The weights are the file's, not the store's: ")
    assert yaml.safe_load(result.stdout)["routes"]["chat"]["weights"] == {
        "bedrock-chat": 60,
        "google-chat": 40,
    }


@pytest.mark.anyio
async def test_export_has_the_weights_that_hold(
    write: Write, store: Store, store_url: str, keys: Keys
) -> None:
    """What operators made of the weights since stands in the exported file."""
    baseline = Baseline(
        shares_bp={"bedrock-chat": 2525, "google-chat": 7475},
        file_bp={"bedrock-chat": 6000, "google-chat": 4000},
        author="ops@host",
        reason="maintenance",
        at_s=0.0,
        revision=2,
    )
    lease = await store.acquire("test", 60.0, 0)
    assert lease is not None
    await store.save(lease, None, Decision(state=State(baselines={"chat": baseline}), table=None, reasons={}))
    path = write(
        append=f"environment: development\nstore: {{url: '{store_url}', key_prefix: {keys.prefix}, timeout_s: 5}}\n"
    )
    result = await anyio.to_thread.run_sync(lambda: run("export", "--config", str(path)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert yaml.safe_load(result.stdout)["routes"]["chat"]["weights"] == {
        "bedrock-chat": 25.25,
        "google-chat": 74.75,
    }


def test_a_pipe_that_is_closed_early_is_no_error() -> None:
    """`pointsman config show | head -1`: exit code 0 and no word."""
    command = [sys.executable, "-m", "pointsman", "config", "show", "--config", str(EXAMPLE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()

    assert (process.returncode, err) == (0, b"")
