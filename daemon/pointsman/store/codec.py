"""How values are written: JSON by msgspec. The state is a hash with a field per part.

    revision, format     numbers
    h:<target>           its Health         b:<route>     its Baseline
    v:<proxy>            its Vantage        p:<provider>  its Path
    d:<target>           its Drain          r:<route>     its Ramp
    o:<rollout>          its Rollout        n:<rollout>   its reports
    plan, overlays, …    everything else of the State, under its own name

A part is written only when it changed, so what a save costs follows what happened, not how much is known.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Struct

from pointsman.core.evidence import EVIDENCE_FORMAT, Report, Verb, Word
from pointsman.core.model import STATE_FORMAT, State
from pointsman.core.strangers import UNREADABLE
from pointsman.store.errors import StoreError

T = TypeVar("T")

_PREFIXES: Final = {
    "health": "h",
    "vantages": "v",
    "baselines": "b",
    "paths": "p",
    "drains": "d",
    "ramps": "r",
    "rollouts": "o",
    "reports": "n",
}
_PREFIXED: Final = {prefix: name for name, prefix in _PREFIXES.items()}
_ABSENT: Final = object()

encode: Final = msgspec.json.Encoder().encode


class Changes(Struct, frozen=True):
    """What to set and what to delete in the hash of the state."""

    put: dict[str, bytes]
    drop: tuple[str, ...]


def decode(body: bytes, kind: type[T], key: str) -> T:
    """The value in `body`; StoreError naming `key` when it is not one of that kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise StoreError(f"{key} in the store is not readable: {error}") from error


def changes(previous: State | None, state: State) -> Changes:
    """How the hash of `previous` (None: nothing stored) becomes that of `state`."""
    put: dict[str, bytes] = {}
    drop: list[str] = []
    if previous is None or previous.format != state.format:
        put["format"] = encode(state.format)
    for name in _part_kinds():
        new, old = getattr(state, name), getattr(previous, name, _ABSENT)
        if new is old:
            continue
        if name in _PREFIXES:
            known = old if isinstance(old, dict) else {}
            put.update(_changed(_PREFIXES[name], known, new))
            drop += [f"{_PREFIXES[name]}:{gone}" for gone in known.keys() - new.keys()]
        elif new != old:
            put[name] = encode(new)
    return Changes(put, tuple(drop))


def _changed(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        # The identity first: ten thousand untouched targets must not cost ten thousand comparisons.
        if value is not before and value != before:
            yield f"{prefix}:{name}", encode(value)


def state_of(fields: Mapping[bytes, bytes], key: str) -> State:
    """The state in a hash. StoreError when its format is newer than this version's, or a field is not readable."""
    written = decode(fields.get(b"format", b"null"), int, f"{key} format")
    if written > STATE_FORMAT:
        raise StoreError(
            f"the state in the store has format {written}, and this version knows {STATE_FORMAT}: "
            "it is of a newer format, so this daemon cannot lead; upgrade it"
        )
    parts: dict[str, Any] = {name: {} for name in _PREFIXES}
    for field, body in fields.items():
        name, _, entry = field.decode(errors="replace").partition(":")
        part = _PREFIXED.get(name, name)
        if part not in _part_kinds():
            continue  # revision and format, and what another version wrote beside them
        value = decode(body, _part_kinds()[part], f"{key} {name}:{entry}" if entry else f"{key} {name}")
        if name in _PREFIXED:
            parts[part][entry] = value
        else:
            parts[part] = value
    revision = decode(fields.get(b"revision", b"0"), int, f"{key} revision")
    return State(format=written, revision=revision, **parts)


@functools.cache
def _part_kinds() -> dict[str, Any]:
    """Attribute of the state → the type of its field, or of each of its fields."""
    hints = get_type_hints(State)
    return {
        name: get_args(hints[name])[1] if name in _PREFIXES else hints[name]
        for name in State.__struct_fields__
        if name not in {"revision", "format"}
    }


def report_of(body: bytes) -> Report | None:
    """A proxy's report; None if it is of a format that this version does not read, or none at all.

    One strange proxy must not stop the fleet, so this is no error.
    """
    try:
        written = msgspec.json.decode(body, type=_Format).format
        return msgspec.json.decode(body, type=Report) if written == EVIDENCE_FORMAT else None
    except UNREADABLE:
        return None


class _Format(Struct):
    format: int = EVIDENCE_FORMAT


def word_body(verb: Verb, author: str, reason: str, args: dict[str, Any]) -> bytes:
    """A word as it stands in the stream, where its place is its id."""
    return encode({"verb": verb, "author": author, "reason": reason, "args": args})


def word_of(word_id: str, body: bytes) -> Word | None:
    """The word at a place of the stream; None if this version does not know it."""
    try:
        return msgspec.convert({**msgspec.json.decode(body, type=dict[str, Any]), "id": word_id}, Word)
    except UNREADABLE:
        return None
