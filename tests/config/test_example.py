"""config/pointsman.example.yaml is complete, valid, and its comments are true."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from pointsman.config import models
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


def test_the_example_holds_only_references() -> None:
    """Every credential of the example is a reference to the environment."""
    settings = load(EXAMPLE, {})
    refs = [ref for provider in settings.providers.values() for ref in provider.credentials]
    assert len(refs) == 5
    assert all(ref.startswith("env:") for ref in refs)


def test_the_readers_line_is_short() -> None:
    """The example is readable in a terminal of 120 columns."""
    assert max(map(len, EXAMPLE.read_text().splitlines())) <= 120
