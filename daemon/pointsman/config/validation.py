"""Data → settings, or everything that is wrong with it in one go.

pydantic says what is wrong field by field. The entries concerned are then left out, and the rules look at the
rest, so that one typo neither hides the next mistake nor causes a second one.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pointsman.config import rules
from pointsman.config.errors import ConfigError, KeyPath, Problem, dotted
from pointsman.config.models import Settings
from pointsman.config.wording import explain, meant_key, path_of

COLLECTIONS: Final = ("providers", "targets", "routes")
_REPAIRS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each value came from: a line of the file, an environment variable, or neither (a default)."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    variables: Mapping[KeyPath, str] = field(default_factory=dict)

    def variable(self, path: KeyPath) -> str:
        """The variable that gave this value or something that holds it, "" if none did."""
        holders = (path[:length] for length in range(len(path), 0, -1))
        return next((self.variables[holder] for holder in holders if holder in self.variables), "")

    def describe(self, path: KeyPath) -> str:
        """ "pointsman.yaml:14", "environment POINTSMAN_STORE__URL" or "default"."""
        if variable := self.variable(path):
            return f"environment {variable}"
        return f"{self.file}:{self.lines[path]}" if path in self.lines else "default"

    def problem(self, path: KeyPath, text: str, cure: str) -> Problem:
        """The problem at this place, or at the nearest place that the file has."""
        holders = (path[:length] for length in range(len(path), -1, -1))
        line = next((self.lines[holder] for holder in holders if holder in self.lines), None)
        return Problem(self.file, line, dotted(path), text, cure, self.variable(path))


def validate(data: Mapping[str, Any], origins: Origins, found: tuple[Problem, ...] = ()) -> Settings:
    """The settings in `data`. Raises ConfigError with every problem; `found` are those known before."""
    problems = list(found)
    damaged: set[KeyPath] = set()
    remaining: dict[str, Any] = copy.deepcopy(dict(data))
    settings = None
    for _ in range(_REPAIRS_MAX):
        try:
            settings = Settings.model_validate_json(json.dumps(remaining))
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        problems += [origins.problem(path_of(detail), *explain(detail)) for detail in _once(details)]
        damaged |= {_entry(path_of(detail)) for detail in details}
        _leave_out(remaining, damaged)
    if settings is not None:
        declared = rules.Declared(*(_names(data, section) for section in COLLECTIONS))
        for finding in rules.check(settings, declared):
            places = (finding.path, *finding.relies)
            if not any(_entry(place) in damaged or place[:1] in damaged for place in places):
                problems.append(origins.problem(finding.path, finding.text, finding.cure))
        if not problems:
            return settings
    raise ConfigError(problems)


def _once(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the keys that are missing only because they are misspelt: that is one mistake."""
    unknown = [path_of(detail) for detail in details if detail["type"] == "extra_forbidden"]
    meant = {(*path[:-1], meant_key(path)) for path in unknown}
    return [detail for detail in details if detail["type"] != "missing" or path_of(detail) not in meant]


def _entry(path: KeyPath) -> KeyPath:
    """What stands or falls together: one provider, target or route, or a whole other section."""
    return path[:2] if path[:1] in {(name,) for name in COLLECTIONS} else path[:1]


def _leave_out(data: dict[str, Any], damaged: set[KeyPath]) -> None:
    for section, *name in damaged:
        if name and isinstance(data.get(str(section)), dict):
            data[str(section)].pop(name[0], None)
        elif section in COLLECTIONS:
            data[str(section)] = {}
        else:
            data.pop(str(section), None)


def _names(data: Mapping[str, Any], section: str) -> frozenset[str]:
    entries = data.get(section)
    return frozenset(entries) if isinstance(entries, Mapping) else frozenset()
