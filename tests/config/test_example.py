"""config/pointsman.example.yaml is complete, valid, and its comments are true."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from pointsman.config import models, ramps, rollouts
from pointsman.config.plan import to_plan
from pointsman.config.sources import load

EXAMPLE = Path(__file__).parents[2] / "config/pointsman.example.yaml"
SECTIONS = [
    models.Settings,
    models.ProviderSettings,
    models.ProbeSettings,
    models.TargetSettings,
    models.PriceSettings,
    models.RouteSettings,
    models.PolicySettings,
    ramps.RampSettings,
    ramps.RampKindSettings,
    models.StoreSettings,
    models.ControlSettings,
    models.ProxySettings,
    models.TimeoutSettings,
    models.TelemetrySettings,
]
FIELDS = sorted({field for section in SECTIONS for field in section.model_fields})
COMMENTED = re.compile(rf"^( *)# ( *(?:{'|'.join(FIELDS)}):(?: .*)?)$")


def uncommented() -> str:
    """The example with every commented setting written out."""
    lines = EXAMPLE.read_text().splitlines()
    return "\n".join(COMMENTED.sub(r"\1\2", line) for line in lines) + "\n"


def test_the_example_is_valid() -> None:
    """It loads as it is, without any secret in the environment."""
    settings = load(EXAMPLE, {})
    assert to_plan(settings).routes["chat"].weights_bp == {
        "bedrock-chat": 5000,
        "google-chat": 3000,
        "meta-chat": 2000,
    }


def test_defaults_in_comments_are_true(tmp_path: Path) -> None:
    """Writing every commented default out changes nothing."""
    path = tmp_path / "uncommented.yaml"
    path.write_text(uncommented())
    assert load(path, {}) == load(EXAMPLE, {})


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_example_names_every_setting(section: type[BaseModel]) -> None:
    """No setting is missing from the example, written or commented."""
    written = set(re.findall(r"^ *([a-z_]+):", uncommented(), re.MULTILINE))
    assert section.model_fields.keys() <= written


def illustrated() -> str:
    """The calendar and the gates that the example shows behind bars."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("#|")]
    return "\n".join(line.removeprefix("#|").removeprefix("   ") for line in lines)


def test_the_illustrated_calendar_and_gates_are_valid(tmp_path: Path) -> None:
    """What is shown behind bars loads where it says that it would stand, and names every setting of the two."""
    text = EXAMPLE.read_text()
    shown = "\n".join(f"    {line}" for line in illustrated().splitlines())
    path = tmp_path / "illustrated.yaml"
    path.write_text(text.replace("\nramp:\n", f"\nramp:\n  canary:\n{shown}\n"))
    canary = load(path, {}).ramp.canary

    assert canary.calendar is not None
    assert canary.calendar.days == ("tuesday", "wednesday", "thursday")
    assert [gate.kind for gate in canary.gates] == ["webhook", "prometheus"]
    written = set(re.findall(r"^ *(?:- )?([a-z_]+):", illustrated(), re.MULTILINE))
    assert {*ramps.CalendarSettings.model_fields, *ramps.ExternalGateSettings.model_fields} <= written


def rollout_shown() -> str:
    """The rollout that the example shows behind marks."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("#:")]
    return "\n".join(line.removeprefix("#:") for line in lines) + "\n"


def test_the_illustrated_rollout_is_valid(tmp_path: Path) -> None:
    """It loads where it would stand, names every setting, and what it says of defaults is true."""
    path = tmp_path / "rollout.yaml"
    path.write_text(EXAMPLE.read_text() + rollout_shown())
    shown = load(path, {}).rollouts["gateway"]

    kinds = (rollouts.RolloutSettings, rollouts.StageSettings, rollouts.GoSettings)
    fields = {field.alias or name for kind in kinds for name, field in kind.model_fields.items()}
    written = set(re.findall(r"^ *(?:- )?([a-z_]+):", rollout_shown(), re.MULTILINE))
    assert fields <= written
    first = shown.stages[0]
    plain = rollouts.StageSettings(environment="development", go=first.go)
    planned = rollouts.rollout_plans({"a": shown})["a"].stages[0]
    assert first.go.cache_hit_ratio == 0.4
    assert first.go.model_copy(update={"cache_hit_ratio": None}) == rollouts.GoSettings()
    assert (
        planned == rollouts.rollout_plans({"a": shown.model_copy(update={"stages": (plain,)})})["a"].stages[0]
    )
    assert shown.report_hour == rollouts.RolloutSettings.model_fields["report_hour"].default
    assert [stage.approval for stage in shown.stages] == [False, True, False]


def test_the_example_holds_only_references() -> None:
    """Every credential of the example is a reference to the environment."""
    settings = load(EXAMPLE, {})
    refs = [ref for provider in settings.providers.values() for ref in provider.credentials]
    assert len(refs) == 5
    assert all(ref.startswith("env:") for ref in refs)


def test_the_readers_line_is_short() -> None:
    """The example is readable in a terminal of 120 columns."""
    assert max(map(len, EXAMPLE.read_text().splitlines())) <= 120
