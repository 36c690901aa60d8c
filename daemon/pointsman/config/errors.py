"""What is wrong with a configuration: each problem with its place, its key and a cure.

No message repeats a text value from the configuration: a secret may have been pasted anywhere. Names of keys
are shown unless they look like a secret themselves; numbers are shown.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

# A place in the configuration: ("routes", "chat", "weights", "bedrock"); list items by their index.
KeyPath = tuple[str | int, ...]

HIDDEN: Final = "(hidden)"
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_/:@<-]+")
_KNOWN_SECRET: Final = re.compile(r"^(sk-|sk_|pk-|ghp_|gho_|xox|AKIA|ASIA|AIza|ya29\.|eyJ|Bearer )")
_RUN: Final = re.compile(r"[A-Za-z0-9+=]{16,}")


def shown(name: str) -> str:
    """`name` for a message, or "(hidden)" when it is long or random enough to be a secret."""
    random_run = any(
        any(letter.isdigit() for letter in run) and any(letter.isalpha() for letter in run)
        for run in _RUN.findall(name)
    )
    if len(name) > 64 or random_run or _KNOWN_SECRET.search(name) or not name.isprintable():
        return HIDDEN
    return name


def dotted(path: KeyPath) -> str:
    """The path as people write it: `routes.chat.chain[1]`, `routes."gpt-4.1".weights`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = shown(part)
        if not _PLAIN_NAME.fullmatch(name) and name != HIDDEN:
            name = f'"{name}"'
        text += f".{name}" if text else name
    return text


def plain(number: float) -> str:
    """A number as people write it, without loss: 10.0 → "10", 0.05 → "0.05"."""
    return repr(number).removesuffix(".0")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that was probably meant, None if none is like it."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return close[0] if close else None


class Finding(NamedTuple):
    """Something wrong at `path`; `relies` are other places that were consulted."""

    path: KeyPath
    text: str
    cure: str
    relies: tuple[KeyPath, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` (from 1) is None where there is none; `variable` names an environment
    variable that the value came from, in place of a line."""

    file: str
    line: int | None
    key: str
    text: str
    cure: str
    variable: str = ""

    @property
    def place(self) -> str:
        """Where to look: "pointsman.yaml:14", or "environment POINTSMAN_POLICY__WINDOW_S"."""
        if self.variable:
            return f"environment {self.variable}"
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def remedy(self) -> str:
        """The cure as a sentence."""
        return f"Cure: {self.cure}{'' if self.cure.endswith('?') else '.'}"

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.place}: {key}{self.text}. {self.remedy}"


class ConfigError(Exception):
    """A configuration that must not be used; `problems` has everything that is wrong, sorted by line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(
                set(problems), key=lambda problem: (bool(problem.variable), problem.line or 0, problem.key)
            )
        )
        super().__init__("\n".join(map(str, self.problems)))
