"""Reading the configuration again: what changed, in words, and what of it applies without a restart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pointsman.config.errors import ConfigError, KeyPath, dotted, plain, shown
from pointsman.config.models import ProxySettings, Settings
from pointsman.config.sources import load

# A running process has these built in: its keys in the store, its sockets, its connections.
NEEDS_RESTART: Final[tuple[KeyPath, ...]] = (
    ("environment",),
    ("fleet",),
    ("state_dir",),
    ("store",),
    ("control",),
    ("proxy",),
    ("telemetry",),
)

# What of these applies at once all the same: what is read again whenever it is needed.
AT_ONCE: Final[tuple[KeyPath, ...]] = (
    ("proxy", "keys"),
    ("proxy", "synthetic_key"),
    ("proxy", "synthetic_hosts"),
    ("proxy", "tls", "cert_file"),
    ("proxy", "tls", "key_file"),
    ("proxy", "tls", "ca_file"),
    ("proxy", "tls", "server_name"),
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs, a line each: `live` applies at once, `restart` when the process starts again."""

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """`settings` are to be used from now on: the old ones when `error` says why the new file is bad.

    Parts that need a restart keep their old values in `settings`, so that what runs and what they say agree.
    """

    settings: Settings
    changes: Changes = Changes()
    error: ConfigError | None = None


def changes(old: Settings, new: Settings) -> Changes:
    """What another configuration would change."""
    live: list[str] = []
    restart: list[str] = []
    for path, words in _differences((), old.model_dump(mode="json"), new.model_dump(mode="json")):
        needs_restart = _under(path, NEEDS_RESTART) and not _under(path, AT_ONCE)
        (restart if needs_restart else live).append(f"{dotted(path)}: {words}")
    return Changes(tuple(live), tuple(restart))


def reload(current: Settings, path: Path, env: Mapping[str, str] | None = None) -> Reloaded:
    """The settings of the file as it is now. A bad file changes nothing, and raises nothing."""
    try:
        new = load(path, env)
    except ConfigError as error:
        return Reloaded(current, error=error)
    kept = {str(prefix[0]): getattr(current, str(prefix[0])) for prefix in NEEDS_RESTART}
    kept["proxy"] = _proxy(current.proxy, new.proxy)
    return Reloaded(new.model_copy(update=kept), changes(current, new))


def _under(path: KeyPath, prefixes: tuple[KeyPath, ...]) -> bool:
    return any(path[: len(prefix)] == prefix for prefix in prefixes)


def _proxy(old: ProxySettings, new: ProxySettings) -> ProxySettings:
    """The old section with what of the new one applies at once. Whether there is TLS at all does not."""
    both = old.tls is not None and new.tls is not None
    at_once = {name: getattr(new, name) for name in ("keys", "synthetic_key", "synthetic_hosts")}
    return old.model_copy(update={**at_once, "tls": new.tls if both else old.tls})


def _differences(path: KeyPath, old: Any, new: Any) -> Iterator[tuple[KeyPath, str]]:
    if old == new:
        return
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield path, f"{_words(old)} → {_words(new)}"
        return
    for key in (*old, *(key for key in new if key not in old)):
        if key not in new:
            yield (*path, key), "removed"
        elif key not in old:
            yield (*path, key), "added" if isinstance(new[key], dict) else f"added, {_words(new[key])}"
        else:
            yield from _differences((*path, key), old[key], new[key])


def _words(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_words, value))}]"
    return shown(str(value)) or '""'
