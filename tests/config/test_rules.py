"""What is allowed, next to what config/bad shows is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.config import addresses
from pointsman.config.errors import ConfigError, dotted, nearest, shown
from pointsman.config.models import PolicySettings, ProbeSettings
from pointsman.config.rules import detection_s, zombie_detection_s
from pointsman.config.sources import load

Write = Callable[..., Path]


def test_the_defaults_find_a_dead_target_in_time() -> None:
    """10 × 1.1 + 3 deadlines of 4 s is under 30 s; a hanging model is found within 30 × 1.1 + 3 × 10 = 63 s."""
    assert detection_s(ProbeSettings(), PolicySettings()) == pytest.approx(23.0)
    assert zombie_detection_s(ProbeSettings(), PolicySettings()) == pytest.approx(63.0)
    assert zombie_detection_s(ProbeSettings(generate=False), PolicySettings()) is None
    assert zombie_detection_s(ProbeSettings(), PolicySettings(), 0) == pytest.approx(63.0)


def test_many_hanging_targets_wait_for_each_other() -> None:
    """Beyond 64 targets of a provider, 64 at once: 30 × 1.1 + 3 × 2 × 10 = 93 s for a hundred of them."""
    assert zombie_detection_s(ProbeSettings(), PolicySettings(), 100) == pytest.approx(93.0)


@pytest.mark.parametrize(
    "edit",
    [
        ("https://google.example/v1", "http://127.0.0.1:9001/v1"),
        ("https://google.example/v1", "http://localhost:9001"),
        ("https://google.example/v1", "http://[::1]:9001"),
        ("https://google.example/v1", "http://vllm.internal:8000/v1\n    allow_plain_http: true"),
        ("      google-chat: 40", "      google-chat: 40.00"),
        ("    weights:", "    sticky_by: []\n    weights:"),
        ("    weights:", '    sticky_by: ["header:X-Team", session, user, api_key, random]\n    weights:'),
        ('["env:BEDROCK_KEY"]', '["env:BEDROCK_KEY", "file:/run/secrets/new key"]'),
        ("routes:", "state_dir: ~/state\nroutes:"),
        ("routes:", "store: {url: 'unix:///run/valkey.sock?db=0'}\nroutes:"),
        (
            "routes:",
            "store: {url: 'rediss://user@store.example:6380/1', password: 'credential:store'}\nroutes:",
        ),
        ("routes:", "control: {listen: '[::1]:8470'}\nproxy: {listen: '[::1]:8480'}\nroutes:"),
        ("routes:", "control: {listen: '127.0.0.1:0'}\nproxy: {listen: '127.0.0.1:0'}\nroutes:"),
        ("routes:", "control: {listen: '127.0.0.2:8480'}\nroutes:"),
        ("routes:", "proxy: {listen: '0.0.0.0:8480', advertise: 'proxy-1:8480'}\nroutes:"),
        (
            "routes:",
            (
                "ramp: {canary: {gates: [{name: board, kind: webhook, "
                "url: 'https://gates.example/TeamsOfProductionAndStaging/release-board-2026-first'}]}}\nroutes:"
            ),
        ),
        ("routes:", "policy: {window_s: 60, error_ratio_window_s: 60}\nroutes:"),
        ("routes:", "telemetry: {otlp_endpoint: 'http://collector:4318'}\nroutes:"),
    ],
)
def test_what_is_allowed(write: Write, edit: tuple[str, str]) -> None:
    """None of these is a mistake."""
    load(write(edit), {})


@pytest.mark.parametrize("url", ["redis://", "redis://h:0", "unix://", "redis://[::1", "rediss://h/\n"])
def test_a_store_url_names_a_place(write: Write, url: str) -> None:
    """A URL that leads nowhere is refused when it is read."""
    with pytest.raises(ConfigError, match=r"store\.url: this is no store's URL"):
        load(write(), {"POINTSMAN_STORE__URL": url})


@pytest.mark.parametrize("url", ["redis://u:p@h/0", "redis://h/0?password=p", "unix:///s?password=p"])
def test_a_store_url_holds_no_password(write: Write, url: str) -> None:
    """Neither before the host nor among the parameters."""
    with pytest.raises(ConfigError, match="has a password in it"):
        load(write(), {"POINTSMAN_STORE__URL": url})


@pytest.mark.parametrize(
    "text", ["", ":80", "a", "a:", "a:b", "a:65536", "::1:80", "[::1]", "[x]:80", "a b:80", "a:-1", "a:٣"]
)
def test_an_address_that_cannot_be_listened_on(text: str) -> None:
    """Anything but HOST:PORT is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        addresses.parse_listen(text)


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "[::]:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_which_addresses_collide(one: str, other: str, collide: bool) -> None:
    """A wildcard takes every host's port; port 0 is another one each time."""
    assert addresses.overlap(addresses.parse_listen(one), addresses.parse_listen(other)) is collide


@pytest.mark.parametrize("text", ["proxy-1", "proxy-1:0", "0.0.0.0:8480", "[::]:8480", "http://proxy-1:8480"])
def test_an_address_that_nobody_reaches(write: Write, text: str) -> None:
    """What a proxy advertises names a host and a port, and not every host."""
    with pytest.raises(ConfigError, match=r"proxy\.advertise: this is no address to be reached at"):
        load(write(("routes:", f"proxy: {{advertise: '{text}'}}\nroutes:")), {})


@pytest.mark.parametrize(
    "url",
    ["", "a", "ftp://a", "https://", "https://a:0", "https://a?", "https://a#", "https://é", "https://[x]"],
)
def test_a_url_that_leads_nowhere(url: str) -> None:
    """Anything but http or https to a host is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        addresses.split_url(url)


def test_paths_are_written_unambiguously() -> None:
    """A name with a dot is quoted; an index stands in brackets; what may be a secret is hidden."""
    assert dotted(("routes", "gpt-4.1", "chain", 1)) == 'routes."gpt-4.1".chain[1]'
    assert dotted(("providers", "sk-live-abc")) == "providers.(hidden)"


@pytest.mark.parametrize(
    "name",
    [
        "bedrock-chat",
        "anthropic/claude-haiku-4-5-20251001",
        "us.anthropic.claude-3-5-sonnet-20241022-v2",
        "gpt-4.1",
    ],
)
def test_names_of_models_are_shown(name: str) -> None:
    """A model's name is not taken for a secret."""
    assert shown(name) == name


@pytest.mark.parametrize("name", ["AKIA1234", "eyJhbGci", "a" * 65, "abcdefgh12345678", "x\ny"])
def test_names_that_may_be_secrets_are_hidden(name: str) -> None:
    """A key's prefix, a long text, a random run, a control character."""
    assert shown(name) == "(hidden)"


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    """A wrong suggestion is worse than none."""
    assert nearest("zzz", ["policy", "proxy"]) is None
    assert nearest("polcy", ["policy", "proxy"]) == "policy"
