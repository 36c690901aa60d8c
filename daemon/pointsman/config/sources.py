"""Where settings come from: the file, and above it the environment (POINTSMAN_<SECTION>__<KEY>).

In a variable's name "__" goes one level down, and the name of a provider, target, route or header is written in
upper case with "_" for every other character: POINTSMAN_ROUTES__CHAT__WEIGHTS__BEDROCK=40. Lists and mappings are
JSON. An empty variable counts as not set.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from pointsman.config import document
from pointsman.config.errors import ConfigError, KeyPath, Problem, nearest, shown
from pointsman.config.models import Settings
from pointsman.config.validation import Origins, validate
from pointsman.config.wording import known_keys

PREFIX: Final = "POINTSMAN_"
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_SEPARATOR: Final = "__"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings together with where each value came from."""

    settings: Settings
    path: Path
    origins: Origins


def load(path: Path, env: Mapping[str, str] | None = None) -> Settings:
    """The settings of the file and of `env` (this process's environment if None). Raises ConfigError."""
    return read(path, env).settings


def read(path: Path, env: Mapping[str, str] | None = None) -> Loaded:
    """The same, with the origins. Raises ConfigError."""
    file = document.parse(_text(path), str(path))
    if file.data is None:
        raise _error(path, "the file is empty", "begin with a copy of config/pointsman.example.yaml")
    if not isinstance(file.data, dict):
        raise _error(path, "the file is no mapping", "write sections: providers:, targets:, routes:", line=1)
    # A section whose lines are all commented out is a section that is not there.
    data = {
        key: value
        for key, value in file.data.items()
        if value is not None or key not in Settings.model_fields
    }
    overrides, variables, problems = _environment(os.environ if env is None else env, data, str(path))
    origins = Origins(str(path), file.lines, variables)
    merged = _merged(data, overrides)
    return Loaded(validate(merged, origins, (*file.problems, *problems)), path, origins)


def from_data(data: Mapping[str, Any], name: str = "configuration") -> Settings:
    """Settings of data that another program made, checked like a file. Raises ConfigError."""
    return validate(data, Origins(name))


def state_dir(settings: Settings, env: Mapping[str, str] | None = None) -> Path:
    """The folder for what must survive a restart, made (0700) if it is not there. Raises ConfigError.

    `state_dir` of the settings, else systemd's $STATE_DIRECTORY, else $XDG_STATE_HOME/pointsman, else
    ~/.local/state/pointsman.
    """
    env = os.environ if env is None else env
    if settings.state_dir is not None:
        path = Path(settings.state_dir)
    elif given := env.get("STATE_DIRECTORY"):
        path = Path(given.partition(":")[0])
    elif home := env.get("XDG_STATE_HOME"):
        path = Path(home) / "pointsman"
    else:
        path = Path("~/.local/state/pointsman")
    try:
        path = path.expanduser()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "no home directory"
        problem = Problem(str(path), None, "state_dir", f"the folder cannot be made: {why}", "set state_dir")
        raise ConfigError([problem]) from None
    return path


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise _error(path, "the file does not exist", "check the path, or copy the example there") from None
    except OSError as error:
        raise _error(
            path, f"the file cannot be read: {error.strerror}", "check the path and its rights"
        ) from None
    if len(body) > FILE_BYTES_MAX:
        raise _error(path, "the file is larger than 4 MiB", "check the path")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise _error(path, "the file is not UTF-8 text", "save it as UTF-8", line=line) from None


def _error(path: Path, text: str, cure: str, *, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), line, "", text, cure)])


# --- the environment


class _Fields(Settings, BaseSettings):
    """The settings' fields, as pydantic-settings wants them; never made."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=_SEPARATOR, case_sensitive=False
    )


class _Environment(EnvSettingsSource):
    """Reads the mapping that it is given, and leaves what is no JSON to the validation, which names it better."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._given = env
        super().__init__(_Fields)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._given.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _environment(
    env: Mapping[str, str], data: Mapping[str, Any], file: str
) -> tuple[dict[str, Any], dict[KeyPath, str], list[Problem]]:
    """(values to lay over the file's, the variable of each path, what is wrong with the variables' names)."""
    overrides: dict[str, Any] = {}
    variables: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    # Shorter names first, so that POINTSMAN_STORE__URL is laid over POINTSMAN_STORE.
    for variable in sorted(
        (name for name in env if name.upper().startswith(PREFIX)), key=lambda n: (len(n), n)
    ):
        keys = variable[len(PREFIX) :].lower().split(_SEPARATOR)
        if not env[variable] or (len(keys) == 1 and keys[0] not in Settings.model_fields):
            continue  # POINTSMAN_CONFIG, and whatever secrets are called
        if keys[0] not in Settings.model_fields:
            meant = nearest(keys[0], Settings.model_fields)
            cure = f"did you mean {PREFIX}{meant.upper()}{_SEPARATOR}…?" if meant else "unset it"
            problems.append(
                Problem(file, None, shown(keys[0]), "there is no such section", cure, shown(variable))
            )
            continue
        found: Any = _Environment({variable: env[variable]})()
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        path = _resolved(keys, data)
        variables[path] = variable
        _lay(
            overrides,
            path,
            _number(found) if path[:1] == ("routes",) and path[2:3] == ("weights",) else found,
        )
    return overrides, variables, problems


def _resolved(keys: list[str], data: Mapping[str, Any]) -> KeyPath:
    """The path that a variable's name means: free names are matched with the file's, `gpt_4_1` with "gpt-4.1"."""
    path: tuple[str, ...] = ()
    here: Any = data
    for key in keys:
        name = key
        if not known_keys(path) and isinstance(here, Mapping):
            alike = [known for known in here if re.sub(r"[^a-z0-9]", "_", known.lower()) == key]
            name = alike[0] if alike else key
        path = (*path, name)
        here = here.get(name) if isinstance(here, Mapping) else None
    return path


def _number(value: Any) -> Any:
    """A weight: pydantic-settings leaves the values of a mapping as texts."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _lay(overrides: dict[str, Any], path: KeyPath, value: Any) -> None:
    here = overrides
    for part in path[:-1]:
        inner = here.setdefault(str(part), {})
        if not isinstance(inner, dict):
            inner = here[str(part)] = {}
        here = inner
    here[str(path[-1])] = value


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
