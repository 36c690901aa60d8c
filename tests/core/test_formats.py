"""The shapes that are stored, published or reported: immutable, named, with nothing as the default.

Other versions read these. Where one of these tests fails, think of the format's number.
"""

import inspect
import zlib
from typing import Any

import msgspec
import pytest

from pointsman.core import (
    asked,
    axes,
    errors,
    evidence,
    health,
    latency,
    model,
    overlays,
    ramp_model,
    record,
    table,
    weights,
)

MODULES = (asked, axes, errors, evidence, health, model, overlays, ramp_model, record, table, weights)
STRUCTS = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]
NAMES = [f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}" for kind in STRUCTS]
# What a proxy or one step of sorting fills in as it goes.
MUTABLE = {"Lane", "TargetReport", "ArmReport", "Report", "Seen", "Gathered", "_Format"}
POSITIONAL = {"Bucket", "Version", "Outcome", "Consequence", "_Format"}
BRIEF = {"RateLimit", "Lane", "TargetReport", "ArmReport", "Arm", "Report", "Health", "Vantage", "Path"}
ARRAYS = {"Bucket", "Version"}
# Defaults that are something: settings, and what may be supposed of whom nothing else is known.
SETTINGS = {"Policy", "RampPlan", "RampPolicy", "Calendar", "ExternalGate"}
SOMETHING: dict[tuple[str, str], Any] = {
    ("Provider", "generate"): True,
    ("Route", "sticky_by"): ("session",),
    ("Plan", "policy"): model.Policy(),
    ("Plan", "ramp"): model.RampPlan(),
    ("Ramp", "phase"): ramp_model.RampPhase.PRECHECK,
    ("Ramp", "step"): -1,
    ("Ramp", "overruled"): -1,
    ("Ramp", "wanted"): -1,
    ("Health", "phase"): model.Phase.UNKNOWN,
    ("Vantage", "formats"): (1,),
    ("State", "format"): 1,
    ("State", "words_cursor"): "0-0",
    ("Report", "format"): 1,
    ("Report", "table_formats"): (1,),
    ("Table", "format"): 1,
    ("Record", "format"): 1,
    ("Standing", "factor"): 1.0,
    ("Standing", "eligible"): True,
}


@pytest.mark.parametrize("kind", STRUCTS, ids=NAMES)
def test_immutable(kind: type[msgspec.Struct]) -> None:
    """What is handed around is immutable, save for what is filled in."""
    assert kind.__struct_config__.frozen is (kind.__name__ not in MUTABLE)


@pytest.mark.parametrize("kind", STRUCTS, ids=NAMES)
def test_named(kind: type[msgspec.Struct]) -> None:
    """Fields are given by name, save where there are few with an obvious order."""
    kinds = {parameter.kind for parameter in inspect.signature(kind).parameters.values()}

    assert (inspect.Parameter.POSITIONAL_OR_KEYWORD in kinds) is (kind.__name__ in POSITIONAL)


@pytest.mark.parametrize("kind", STRUCTS, ids=NAMES)
def test_brief(kind: type[msgspec.Struct]) -> None:
    """What is written often leaves out what is nothing; what is written by the thousand has no names."""
    assert kind.__struct_config__.omit_defaults is (kind.__name__ in BRIEF)
    assert kind.__struct_config__.array_like is (kind.__name__ in ARRAYS)


@pytest.mark.parametrize("kind", STRUCTS, ids=NAMES)
def test_defaults_are_nothing(kind: type[msgspec.Struct]) -> None:
    """A default is nothing: no count, no time, no text; what is something is listed."""
    if kind.__name__ in SETTINGS:
        return
    for field in msgspec.structs.fields(kind):
        if field.required:
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        expected = SOMETHING.get((kind.__name__, field.name))
        assert default == expected if expected is not None else not default, f"{kind.__name__}.{field.name}"


def test_format_numbers() -> None:
    """The numbers of the formats that this version writes."""
    assert (table.TABLE_FORMAT, table.TABLE_FORMATS) == (1, (1,))
    assert (model.STATE_FORMAT, evidence.EVIDENCE_FORMAT) == (1, 1)
    assert table.FULL_BP == 10_000


def test_the_layout_of_histograms() -> None:
    """Histograms of any two proxies can be added only while the layout stays what it is."""
    assert zlib.crc32(repr(latency.LATENCY_EDGES_MS).encode()) == 1319995527


def test_a_health_of_nothing() -> None:
    """A target of which nothing is known takes no room."""
    assert msgspec.json.encode(model.Health()) == b"{}"


def test_a_bucket() -> None:
    """A slice of the window is an array."""
    assert msgspec.json.encode(model.Bucket(10.0, {"ok": 1})) == b'[10.0,{"ok":1}]'


def test_thresholds() -> None:
    """Constants of the policy that are no settings."""
    assert (health.BUCKET_S, health.YOUNG_S, health.VANTAGE_KEPT_S, health.EXCESS_TO_TRIP) == (
        10,
        30,
        600,
        14,
    )
    assert axes.PROBE_BARS == 2
