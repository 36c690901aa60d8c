"""pydantic's errors in this project's words: what is wrong, and a cure, without a text value from the file."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pointsman.config import models, section
from pointsman.config.errors import KeyPath, nearest, plain
from pointsman.config.models import Settings

_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "string_type": ("this must be text", "put it in quotes"),
    "int_type": ("this must be a whole number", "write digits, without quotes or a unit"),
    "int_from_float": ("this must be a whole number", "write digits, without quotes or a unit"),
    "int_parsing_size": ("this number is too large", "write a smaller number"),
    "float_type": ("this must be a number", "write digits, without quotes or a unit"),
    "finite_number": ("this must be a finite number", "write digits, without quotes or a unit"),
    "bool_type": ("this must be true or false", "write true or false, without quotes"),
    "tuple_type": ("this must be a list", 'write it as [one, two] (in a variable as JSON: ["one", "two"])'),
    "dict_type": ("this must be a mapping", "write its entries below it as NAME: VALUE, indented"),
    "model_type": ("this must be a mapping", "write its entries below it as NAME: VALUE, indented"),
    "string_too_short": ("this must not be empty", "write a text"),
    "string_too_long": ("this text is too long", "shorten it"),
    "too_long": ("the list has too many entries", "remove some"),
}
_PATTERNS: Final[tuple[tuple[Any, str, str], ...]] = (
    (
        section.SecretRef,
        "this must be a reference to a secret, never the secret itself",
        "write env:NAME, file:/PATH or credential:NAME, and replace the secret if the file was shared",
    ),
    (
        section.Name,
        "this is not a name",
        "use 1 to 63 lower-case letters, digits, '.', '_' and '-', beginning with a letter or a digit",
    ),
    (
        models.KeyHash,
        "this must be the hash of a key, never the key itself",
        "make one with `pointsman keys new NAME`, which prints the line; replace a key that stood in a file",
    ),
    (
        models.RouteName,
        "this is not a route's name",
        "use 1 to 128 letters, digits and '._:/@-', beginning with a letter or a digit",
    ),
)
_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def path_of(detail: ErrorDetails) -> KeyPath:
    """The place of the error, without pydantic's own marks."""
    return tuple(part for part in detail["loc"] if part != "[key]")


def explain(detail: ErrorDetails) -> tuple[str, str]:
    """(what is wrong, a cure)."""
    kind, path, context = detail["type"], path_of(detail), detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return "this is missing", f"add {path[-1]}: below {path[-2]}" if len(path) > 1 else f"add {path[-1]}:"
    if kind == "literal_error":
        return "this is none of the values that are known", _choice(detail)
    if kind == "string_pattern_mismatch":
        return _pattern(str(context.get("pattern")))
    if kind in _LIMITS:
        limit, words = _LIMITS[kind]
        bound = f"{words} {plain(context[limit])}"
        return f"{_number(detail['input'])} is not {bound}", f"write a number {bound}{_default(path)}"
    return _TYPES.get(kind, ("this value does not fit", "compare it with `pointsman config schema`"))


def known_keys(path: KeyPath) -> tuple[str, ...]:
    """The keys that may stand at `path`; empty where names are free."""
    model = _model_at(path)
    return tuple(info.alias or name for name, info in model.model_fields.items()) if model else ()


def meant_key(path: KeyPath) -> str | None:
    """The key that an unknown one at `path` was probably meant to be."""
    return nearest(str(path[-1]), known_keys(path[:-1]))


def _unknown_key(path: KeyPath) -> tuple[str, str]:
    meant = meant_key(path)
    if path[-1] == "<<":
        return "merge keys are not supported", "write the keys out"
    known = ", ".join(known_keys(path[:-1]))
    return "unknown key", f"did you mean {meant}?" if meant else f"remove it; known are {known}"


def _choice(detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    meant = nearest(detail["input"], choices) if isinstance(detail["input"], str) else None
    return f"did you mean {meant}?" if meant else f"write one of {', '.join(choices)}"


def _pattern(pattern: str) -> tuple[str, str]:
    for alias, text, cure in _PATTERNS:
        if pattern == get_args(alias)[1].metadata[0].pattern:
            return text, cure
    return "this text does not fit", "compare it with `pointsman config schema`"


def _number(value: object) -> str:
    return plain(value) if isinstance(value, int | float) else "this"


def _default(path: KeyPath) -> str:
    model = _model_at(path[:-1])
    info = model.model_fields.get(str(path[-1])) if model else None
    default = info.default if info else None
    return f" (the default is {plain(default)})" if isinstance(default, int | float) else ""


def _given(annotation: Any) -> Any:
    """What stands there if anything does: `X` of `X | None`."""
    if get_origin(annotation) is UnionType:
        return next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    """The model whose fields stand at `path`, None where there is none (a free mapping, a list, a value)."""
    current: Any = Settings
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            info = current.model_fields.get(str(part))
            current = _given(info.annotation) if info else None
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        elif get_origin(current) is tuple:
            current = get_args(current)[0]
        else:
            return None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
