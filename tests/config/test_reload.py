"""Reading the file again: what changed, what applies now, and a bad file that changes nothing."""

from collections.abc import Callable
from pathlib import Path

from pointsman.config.reload import changes, reload
from pointsman.config.sources import load

Write = Callable[..., Path]


def test_a_bad_file_keeps_the_old_settings(write: Write) -> None:
    """The settings in use stay the very same, and the error says why."""
    old = load(write(), {})
    result = reload(old, write(("google-chat: 40", "google-chat: 30")), {})
    assert result.settings is old
    assert result.error is not None
    assert "sum to 90" in str(result.error)
    assert not result.changes


def test_a_file_that_vanished_keeps_the_old_settings(write: Write) -> None:
    """A reload in the middle of a replacement is no accident."""
    path = write()
    old = load(path, {})
    path.unlink()
    assert reload(old, path, {}).settings is old


def test_the_same_file_changes_nothing(write: Write) -> None:
    """No line, and settings that are equal."""
    old = load(write(), {})
    result = reload(old, write(), {})
    assert not result.changes
    assert (result.settings, result.error) == (old, None)


def test_changes_are_told_in_words(write: Write) -> None:
    """A line for each value, with the old and the new one."""
    old = load(write(append="policy: {window_s: 60}\n"), {})
    new = load(
        write(
            ("bedrock-chat: 60", "bedrock-chat: 50"),
            ("google-chat: 40", "google-chat: 30\n      meta-chat: 20\n    chain: [google-chat]"),
            ("routes:", "  meta-chat: {provider: google, model: x}\nroutes:"),
            ('    credentials: ["env:BEDROCK_KEY"]\n', "    probe: {generate: false}\n"),
        ),
        {},
    )
    assert changes(old, new).live == (
        "providers.bedrock.credentials: [env:BEDROCK_KEY] → []",
        "providers.bedrock.probe.generate: true → false",
        "targets.meta-chat: added",
        "routes.chat.weights.bedrock-chat: 60 → 50",
        "routes.chat.weights.google-chat: 40 → 30",
        "routes.chat.weights.meta-chat: added, 20",
        "routes.chat.chain: [] → [google-chat]",
        "policy.window_s: 60 → 300",
    )
    assert changes(old, new).restart == ()
    assert "targets.meta-chat: removed" in changes(new, old).live


def test_what_needs_a_restart_keeps_its_old_value(write: Write) -> None:
    """Sockets, the store and whose traffic it is stay as they run; the rest applies."""
    old = load(write(), {})
    path = write(
        append="environment: staging\nfleet: edge\nstate_dir: /var/lib/other\nstore: {url: 'redis://other:6379'}\n"
        "control: {listen: '127.0.0.1:1'}\nproxy: {listen: '127.0.0.1:2'}\npolicy: {live_failures: 9}\n"
    )
    result = reload(old, path, {})
    assert result.changes.restart == (
        "environment: production → staging",
        "fleet: default → edge",
        "state_dir: unset → /var/lib/other",
        "store.url: unset → redis://other:6379",
        "control.listen: 127.0.0.1:8470 → 127.0.0.1:1",
        "proxy.listen: 127.0.0.1:8480 → 127.0.0.1:2",
    )
    assert result.changes.live == ("policy.live_failures: 5 → 9",)
    assert result.settings == old.model_copy(update={"policy": result.settings.policy})
    assert result.settings.policy.live_failures == 9


def test_keys_and_certificates_of_a_proxy_apply_at_once(write: Write) -> None:
    """A key that is gone is gone now; whether there is TLS at all waits for a restart."""
    one, two = "a" * 64, "b" * 64
    tls = "tls: {cert_file: /c.pem, key_file: /k.pem}"
    old = load(write(append=f"proxy: {{keys: {{ann: 'sha256:{one}'}}, {tls}}}\n"), {})
    changed = f"keys: {{bob: 'sha256:{two}'}}, synthetic_key: 'env:K', {tls.replace('/c', '/d')}"
    path = write(append=f"proxy: {{drain_s: 9, {changed}}}\n")
    result = reload(old, path, {})
    assert result.changes.restart == ("proxy.drain_s: 30 → 9",)
    assert len(result.changes.live) == 4
    assert list(result.settings.proxy.keys) == ["bob"]
    assert result.settings.proxy.synthetic_key == "env:K"
    assert result.settings.proxy.tls is not None
    assert result.settings.proxy.tls.cert_file == "/d.pem"
    assert result.settings.proxy.drain_s == 30

    without = reload(old, write(), {})
    assert [line.split(":")[0] for line in without.changes.restart] == ["proxy.tls"]
    assert without.settings.proxy.tls == old.proxy.tls
    assert without.settings.proxy.keys == {}


def test_what_may_be_a_secret_is_not_told(write: Write) -> None:
    """A header whose value looks like a key's changes without its value."""
    old = load(write(), {})
    key = "sk-ant-api03-Zm9vYmFy0123456789"
    new = load(
        write(("https://google.example/v1", f"https://google.example/v1\n    headers: {{x-a: {key}}}")), {}
    )
    assert changes(old, new).live == ("providers.google.headers.x-a: added, (hidden)",)
