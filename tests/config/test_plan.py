"""From settings to the plan that the core reads, and to where credentials may go."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.config.models import PolicySettings, ProviderSettings
from pointsman.config.plan import credential_bindings, default_header, full_chain, to_bp, to_percent, to_plan
from pointsman.config.sources import load
from pointsman.core.model import Family, Policy

Write = Callable[..., Path]


@given(st.integers(0, 10_000))
def test_basis_points_are_exact(share_bp: int) -> None:
    """Every share survives the way to percent and back, and through the text of a file."""
    percent = to_percent(share_bp)
    assert to_bp(percent) == to_bp(float(str(percent))) == share_bp
    assert Decimal(str(percent)) * 100 == share_bp


@pytest.mark.parametrize("percent", [0.001, 33.333, 99.999, 1e-9])
def test_finer_weights_than_basis_points_have_none(percent: float) -> None:
    """Nothing is rounded silently."""
    assert to_bp(percent) is None


def test_thirds_sum_to_the_whole(write: Write) -> None:
    """33.33 + 33.33 + 33.34, of which binary fractions sum to 99.99999…"""
    path = write(
        ("      google-chat: 40", "      google-chat: 33.33\n      third: 33.34"),
        ("bedrock-chat: 60", "bedrock-chat: 33.33"),
        ("routes:\n", "  third: {provider: google, model: third}\nroutes:\n"),
    )
    assert to_plan(load(path, {})).routes["chat"].weights_bp == {
        "bedrock-chat": 3333,
        "google-chat": 3333,
        "third": 3334,
    }


@pytest.mark.parametrize(
    ("weights", "chain", "expected"),
    [
        ("{google-chat: 40, bedrock-chat: 60}", "", ("bedrock-chat", "google-chat")),
        ("{google-chat: 50, bedrock-chat: 50}", "", ("google-chat", "bedrock-chat")),
        ("{google-chat: 0, bedrock-chat: 100}", "", ("bedrock-chat", "google-chat")),
        ("{google-chat: 40, bedrock-chat: 60}", "[google-chat]", ("google-chat", "bedrock-chat")),
        ("{google-chat: 100}", "[google-chat, bedrock-chat]", ("google-chat", "bedrock-chat")),
        ("{google-chat: 100}", "[bedrock-chat]", ("bedrock-chat", "google-chat")),
    ],
)
def test_the_chain_holds_every_target(
    write: Write, weights: str, chain: str, expected: tuple[str, ...]
) -> None:
    """The chain as written, then the rest by falling weight; a pure fallback has no weight."""
    extra = f"    chain: {chain}\n" if chain else ""
    path = write(
        ("    weights:\n      bedrock-chat: 60\n      google-chat: 40\n", f"    weights: {weights}\n{extra}")
    )
    settings = load(path, {})
    assert full_chain(settings.routes["chat"]) == to_plan(settings).routes["chat"].chain == expected


def test_the_plan_says_what_the_file_says(write: Write) -> None:
    """Names, families, addresses, policy; the base URL without its last slash."""
    path = write(
        (
            "https://google.example/v1",
            "https://google.example/v1/\n    kind: gemini\n    headers: {x-team: a}",
        ),
        append="policy: {window_s: 60, slow_start_floor: 0.2}\nenvironment: staging\nfleet: edge\n",
    )
    plan = to_plan(load(path, {}))
    google = plan.providers["google"]
    assert (plan.environment, plan.fleet) == ("staging", "edge")
    assert (google.name, google.base_url, google.adapter) == ("google", "https://google.example/v1", "gemini")
    assert (google.family, google.headers) == (Family.OPENAI, {"x-team": "a"})
    assert (plan.targets["google-chat"].name, plan.targets["google-chat"].model) == ("google-chat", "large")
    assert (plan.policy.window_s, plan.policy.slow_start_floor) == (60.0, 0.2)


def test_the_core_and_the_file_have_the_same_policy_defaults() -> None:
    """Two lists of defaults that must not drift apart."""
    written = PolicySettings().model_dump()
    assert {field: written[field] for field in Policy.__struct_fields__} == {
        field: getattr(Policy(), field) for field in Policy.__struct_fields__
    }
    assert written.keys() - set(Policy.__struct_fields__) == {"detection_bound_s"}


def test_the_digest_is_of_what_is_asked_for(write: Write) -> None:
    """The order of keys and the form of numbers do not matter; a weight does."""
    plain = to_plan(load(write(), {})).digest
    reordered = write(
        (
            "      bedrock-chat: 60\n      google-chat: 40\n",
            "      google-chat: 40.00\n      bedrock-chat: 60\n",
        )
    )
    assert to_plan(load(reordered, {})).digest == plain
    moved = write(("bedrock-chat: 60", "bedrock-chat: 59"), ("google-chat: 40", "google-chat: 41"))
    assert to_plan(load(moved, {})).digest != plain
    assert len(plain) == 64


def test_the_plan_holds_no_reference_to_a_secret(write: Write) -> None:
    """The plan goes to the store; references stay in this process."""
    assert "BEDROCK_KEY" not in repr(to_plan(load(write(), {})))


# --- credentials


def test_a_credential_is_bound_to_its_host(write: Write) -> None:
    """Another host, another port and plain http get nothing; another path does."""
    binding = credential_bindings(load(write(), {}))["bedrock"]
    assert binding.origins == {"https://bedrock.example:443"}
    assert binding.refs == ("env:BEDROCK_KEY",)
    assert binding.allows("https://bedrock.example/other")
    assert binding.allows("https://Bedrock.Example.:443/v1")
    for url in (
        "https://evil.example/v1",
        "https://bedrock.example:8443/v1",
        "http://bedrock.example/v1",
        "https://bedrock.example.evil.example/v1",
        "https://bedrock.example@evil.example/v1",
        "https://bedrock.example:443@evil.example/",
        "https:/bedrock.example",
        "https://bedrock.example\n.evil.example/",
        "",
    ):
        assert not binding.allows(url), url


def test_further_hosts_of_a_credential(write: Write) -> None:
    """`credential_hosts` adds hosts, with the scheme of the base URL and its port unless one is given."""
    hosts = '["eu.bedrock.example", "127.0.0.1:9000", "[::1]:9000"]'
    path = write(('["env:BEDROCK_KEY"]', f'["env:BEDROCK_KEY"]\n    credential_hosts: {hosts}'))
    binding = credential_bindings(load(path, {}))["bedrock"]
    assert binding.allows("https://eu.bedrock.example/v1")
    assert binding.allows("https://127.0.0.1:9000")
    assert binding.allows("https://[::1]:9000")
    assert not binding.allows("https://127.0.0.1")


def test_a_provider_without_credential_has_no_binding(write: Write) -> None:
    """There is nothing to bind."""
    assert credential_bindings(load(write(), {})).keys() == {"bedrock"}


@pytest.mark.parametrize(
    ("kind", "family", "header"),
    [
        ("anthropic", "anthropic", "x-api-key"),
        ("compatible", "anthropic", "x-api-key"),
        ("azure", "anthropic", "x-api-key"),
        ("azure", "openai", "api-key"),
        ("openai", "openai", "authorization"),
        ("gemini", "openai", "authorization"),
        ("bedrock", "openai", "authorization"),
        ("bedrock", "anthropic", "authorization"),
        ("openrouter", "anthropic", "authorization"),
        ("meta", "anthropic", "authorization"),
        ("compatible", "openai", "authorization"),
    ],
)
def test_the_header_of_a_credential(kind: str, family: str, header: str) -> None:
    """Each kind of provider gets its credential where it expects it."""
    provider = ProviderSettings.model_validate({"kind": kind, "family": family, "base_url": "https://a"})
    assert default_header(provider) == header


def test_an_explicit_header_wins(write: Write) -> None:
    """`credential_header` beats the kind's; only authorization says Bearer."""
    path = write(('["env:BEDROCK_KEY"]', '["env:BEDROCK_KEY"]\n    credential_header: x-goog-api-key'))
    binding = credential_bindings(load(path, {}))["bedrock"]
    assert (binding.header, binding.value("abc")) == ("x-goog-api-key", "abc")
    assert credential_bindings(load(write(), {}))["bedrock"].value("abc") == "Bearer abc"
