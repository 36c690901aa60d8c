"""Server-sent events, watched while they pass. Sans-I/O.

Bytes go through unchanged, in whole events: the tail of an event that has not ended is held until it has, so
that a broken stream never leaves half an event behind. Only an event too large to hold passes in pieces, and is
known by how it begins. Comments and pings are signs of life, not answers: they do not make a stream begun.
"""

import re
from typing import Any, Final

import msgspec

from pointsman.proxy import lenient
from pointsman.proxy.api import Api
from pointsman.proxy.tokens import Tokens
from pointsman.proxy.usage import RAW, USAGE, Event

# An event ends at a blank line; a line may end in CR LF, LF or CR.
_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
# A boundary may be cut anywhere: all of it but its last byte.
_BOUNDARY_TAIL: Final = 3
_LINE: Final = re.compile(rb"\r\n|\n|\r")
# An event larger than this passes in pieces rather than fill the memory.
HELD_BYTES_MAX: Final = 1 << 20
# So much of one that passes in pieces is looked at.
_BEGINNING_BYTES: Final = 4096
_TYPE: Final = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')
_BEGINS_WITH_ERROR: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*[{"]')

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop"})
# The events worth decoding, besides those that may hold an error; the others are only counted.
_TELLING: Final = _ENDS | {"message_start", "message_delta", "response.created", "error"}
_FAILED: Final = {"code": "server_error"}


class Watch:
    """One stream. `feed` returns the bytes to pass on; the attributes say what has been seen so far.

    `begun`: a real event passed; `ended`: the terminal event passed; `error`: the error that the stream itself
    told, as decoded JSON (a `begun` False beside it means that nothing came before it).
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._held = b""
        self._passing: str | None = None
        self.begun = False
        self.ended = False
        self.error: Any = None
        self.tokens = Tokens()
        self.response_id = ""
        self.events = 0

    @property
    def mid_event(self) -> bool:
        """An event is passing in pieces: nothing may be put between them."""
        return self._passing is not None

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes as they came; return those of the events that are now whole."""
        held = self._held + chunk if self._held else chunk
        search_from = max(0, len(self._held) - _BOUNDARY_TAIL)
        start = 0
        for found in _BOUNDARY.finditer(held, search_from):
            self._see(held[start : found.end()])
            start = found.end()
        if self._passing is None and len(held) - start > HELD_BYTES_MAX:
            self._begin_to_pass(held[start : start + _BEGINNING_BYTES])
        if self._passing is not None:
            start = max(start, len(held) - _BOUNDARY_TAIL)
        self._held = held[start:]
        return held[:start]

    def finish(self) -> bytes:
        """The stream is over: what was held, if the stream is complete with it (a last blank line may be missing)."""
        held, self._held = self._held, b""
        if self.mid_event:
            return b""
        if not self.ended and held.strip():
            _, data = _fields(held)
            if data != b"[DONE]" and lenient.value(data) is None:
                return b""  # it was cut off, whatever it was to be
            self._see(held)
        return held if self.ended or self.error is not None else b""

    def _begin_to_pass(self, beginning: bytes) -> None:
        """An event is too large to be held: what it is, by its beginning alone."""
        name, data = _fields(beginning)
        if self._api is Api.CHAT:
            name = "error" if _BEGINS_WITH_ERROR.match(data) else ""
        elif not name:
            told = _TYPE.search(data)
            name = told.group(1).decode() if told else ""
        self._passing = name
        if name == "error":
            self.error = _FAILED
        elif data:
            self._real()

    def _see(self, block: bytes) -> None:
        if self._passing is not None:
            self.ended = self.ended or self._passing in _ENDS
            self.error = _FAILED if self._passing == "response.failed" else self.error
            self._passing = None
            return
        name, data = _fields(block)
        if not data:
            return
        if self._api is Api.CHAT:
            self._see_chat(data)
        elif name != "ping":
            self._see_named(name, data)

    def _see_chat(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.begun = self.ended = True
            return
        if b'"error"' in data or b'"usage"' in data:
            decoded = _decoded(data)
            error = lenient.value(decoded.error)
            if error:
                self.error = error
                return
            self.tokens.learn(lenient.typed(USAGE, decoded.usage))
        self._real()

    def _see_named(self, name: str, data: bytes) -> None:
        if name and name not in _TELLING:
            self._real()
            return
        decoded = _decoded(data)
        error = lenient.value(decoded.error)
        name = name or lenient.text(decoded.type) or ("error" if error else "")
        if name == "ping":
            return
        if name == "error":
            self.error = error or {
                "code": lenient.value(decoded.code),
                "message": lenient.value(decoded.message),
            }
            return
        self.tokens.learn(lenient.typed(USAGE, decoded.usage))
        inner = lenient.typed(RAW, decoded.response) or lenient.typed(RAW, decoded.message) or Event()
        self.response_id = lenient.text(inner.id) or self.response_id
        self.tokens.learn(lenient.typed(USAGE, inner.usage))
        self.ended = self.ended or name in _ENDS
        if name == "response.failed":
            self.error = lenient.value(inner.error) or _FAILED
        self._real()

    def _real(self) -> None:
        self.begun = True
        self.events += 1


def _fields(block: bytes) -> tuple[str, bytes]:
    """(event name, data) of one event; both empty for a comment."""
    name = ""
    data: list[bytes] = []
    for line in _LINE.split(block):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip().decode("latin-1")
    return name, b"\n".join(data)


def _decoded(data: bytes) -> Event:
    """The data of an event; an unreadable one tells nothing, and passes all the same.

    Google's OpenAI-compatible API wraps an error in a list.
    """
    listed = lenient.typed(_LISTED, data) if data.startswith(b"[") else None
    return (listed[0] if listed else lenient.typed(RAW, data)) or Event()


_LISTED: Final = msgspec.json.Decoder(list[Event])
