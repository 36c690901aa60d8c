"""Strangers' JSON, read leniently: a field that cannot be read tells nothing, and breaks nothing. Pure."""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from pointsman.core.strangers import UNREADABLE

T = TypeVar("T")


def typed(decoder: msgspec.json.Decoder[T], data: bytes | Raw) -> T | None:
    """What `decoder` makes of `data`; None where that is not possible."""
    try:
        return decoder.decode(data)
    except UNREADABLE:
        return None


def value(data: bytes | Raw) -> Any:
    """`data` decoded, or None. Of text in another encoding everything is read but the characters concerned."""
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError:
        return typed(_ANY, bytes(data).decode("utf-8", "replace").encode())
    except UNREADABLE:
        return None


def text(data: bytes | Raw) -> str:
    """The string that `data` is; "" for anything else."""
    decoded = value(data)
    return decoded if isinstance(decoded, str) else ""


_ANY: Final = msgspec.json.Decoder(Any)
