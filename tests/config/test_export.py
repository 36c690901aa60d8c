"""`config export` writes the file that would reproduce today."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.config.errors import ConfigError
from pointsman.config.export import export, with_baselines
from pointsman.config.models import Settings
from pointsman.config.plan import to_percent, to_plan
from pointsman.config.sources import from_data, load

Write = Callable[..., Path]
EXAMPLE = Path(__file__).parents[2] / "config/pointsman.example.yaml"


def loaded(text: str) -> Settings:
    """The settings in a file with this text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.yaml"
        path.write_text(text)
        return load(path, {})


TARGETS = ["a", "b.1", "no", "null", "1", "1e3", "0x1f", "true"]
texts = st.one_of(
    st.sampled_from(
        [
            "no",
            "on",
            "yes",
            "~",
            "null",
            "1",
            "010",
            "0o17",
            "0x1F",
            "1_000",
            "1:20",
            "2024-05-01",
            "=",
            "<<",
            ".inf",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
)
seconds = st.floats(1, 3600, allow_nan=False) | st.integers(1, 3600)
cuts = st.lists(st.integers(0, 10_000), min_size=len(TARGETS) - 1, max_size=len(TARGETS) - 1).map(sorted)
shares = cuts.map(lambda cut: [right - left for left, right in zip([0, *cut], [*cut, 10_000], strict=True)])


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """A valid configuration whose names and texts are as YAML likes them least."""
    weights = dict(zip(TARGETS, map(to_percent, draw(shares)), strict=True))
    provider = {
        "family": "openai",
        "base_url": "https://provider.example/v1",
        "credentials": draw(st.sampled_from([[], ["env:A"], ["file:/no/a b", "credential:yes"]])),
        "shared_fate": draw(st.sampled_from(["", "no", "a: b", "# x", "é"])),
        "headers": draw(st.sampled_from([{}, {"X-Team": "no"}, {"x-on": " : #"}])),
        "max_connections": draw(st.sampled_from([0, 1, 500])),
    }
    target = st.fixed_dictionaries(
        {"provider": st.just("off"), "model": texts, "capacity_rps": st.none() | seconds}
    )
    return {
        "fleet": draw(st.sampled_from(["default", "no", "1", "1.5"])),
        "providers": {"off": provider},
        "targets": {name: draw(target) for name in TARGETS},
        "routes": {
            "no": {"weights": weights, "chain": draw(st.permutations(TARGETS))[:3]},
            "4": {"weights": {"no": 100}},
        },
        "policy": draw(st.fixed_dictionaries({}, optional={"slow_start_s": seconds, "soften_s": seconds})),
    }


@settings(max_examples=60, deadline=None)
@given(configurations())
def test_loading_an_export_gives_the_settings(data: dict[str, Any]) -> None:
    """Whatever the names and texts are, nothing is lost or taken for something else."""
    before = from_data(data)
    assert loaded(export(before)) == before


@settings(max_examples=30, deadline=None)
@given(configurations(), shares)
def test_an_export_with_weights_that_hold_now_has_them(data: dict[str, Any], now: list[int]) -> None:
    """The baselines of the store replace the file's weights, to the basis point."""
    before = from_data(data)
    baseline = dict(zip(TARGETS, now, strict=True))
    after = loaded(export(before, {"no": baseline}))
    assert to_plan(after).routes["no"].weights_bp == baseline
    assert after == with_baselines(before, {"no": baseline})
    assert after.routes["4"] == before.routes["4"]


def test_an_export_of_an_export_is_the_same() -> None:
    """The example comes back, and the second export is the first, letter by letter."""
    example = load(EXAMPLE, {})
    text = export(example)
    assert loaded(text) == example
    assert export(loaded(text)) == text


def test_other_readers_of_yaml_read_the_same(write: Write) -> None:
    """What YAML 1.1 takes for a boolean is quoted, although this reader would not need it."""
    text = export(load(write(("bedrock, model: large", "bedrock, model: no")), {}))
    assert yaml.safe_load(text)["targets"]["bedrock-chat"]["model"] == "no"


def test_an_export_holds_no_defaults(write: Write) -> None:
    """It is as short as what an operator would write."""
    assert export(load(write(), {})) == (
        "# Written by `pointsman config export`; what is not here has its default.\n"
        "providers:\n"
        "  bedrock:\n"
        "    family: openai\n"
        "    base_url: https://bedrock.example/v1\n"
        "    credentials:\n"
        "    - env:BEDROCK_KEY\n"
        "  google:\n"
        "    family: openai\n"
        "    base_url: https://google.example/v1\n"
        "targets:\n"
        "  bedrock-chat:\n"
        "    provider: bedrock\n"
        "    model: large\n"
        "  google-chat:\n"
        "    provider: google\n"
        "    model: large\n"
        "routes:\n"
        "  chat:\n"
        "    weights:\n"
        "      bedrock-chat: 60\n"
        "      google-chat: 40\n"
    )


@pytest.mark.parametrize(
    "baseline", [{"gone": 10_000}, {"bedrock-chat": 9_999}, {}, {"bedrock-chat": 5_000, "gone": 5_000}]
)
def test_a_baseline_that_does_not_fit_leaves_the_files_weights(
    write: Write, baseline: dict[str, int]
) -> None:
    """An export is always a valid file."""
    before = load(write(), {})
    assert loaded(export(before, {"chat": baseline, "gone": {"bedrock-chat": 10_000}})) == before


def test_the_round_trip_can_fail(write: Write) -> None:
    """A text that is not quoted where it must be does not come back: the property is not empty."""
    text = export(load(write(("bedrock, model: large", 'bedrock, model: "null"')), {}))
    with pytest.raises(ConfigError):
        loaded(text.replace("'null'", "null"))
