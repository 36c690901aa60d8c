"""Server-sent events, watched while they pass. Sans-I/O.

Bytes go through unchanged, in whole events: the tail of an event that has not ended is held until it has, so
that a broken stream never leaves half an event behind. Only an event too large to hold passes in pieces, and is
known by how it begins. Comments and pings are signs of life, not answers: they do not make a stream begun.
"""

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from pointsman.proxy import lenient
from pointsman.proxy.api import Api

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

_Count = Annotated[float, Meta(ge=0, le=1e12)]


class Usage(Struct):
    """Both families' words for tokens. Whole numbers by right, but not everybody keeps to it."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


USAGE: Final = msgspec.json.Decoder(Usage)


class _Raw(Struct):
    """The fields of an event's data that are looked at; each is decoded by itself."""

    id: Raw = Raw()
    type: Raw = Raw()
    code: Raw = Raw()
    error: Raw = Raw()
    usage: Raw = Raw()
    message: Raw = Raw()
    response: Raw = Raw()


_RAW: Final = msgspec.json.Decoder(_Raw)


class Tokens(Struct):
    """Tokens in (cached ones included) and out, as last told."""

    into: int = 0
    out: int = 0

    def learn(self, usage: Usage | None) -> None:
        """Take over what `usage` tells; what it leaves out stays."""
        if usage is None:
            return
        into = usage.prompt_tokens if usage.input_tokens is None else usage.input_tokens
        if into is not None:
            cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
            self.into = int(into + cached)
        out = usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
        if out is not None:
            self.out = int(out)


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
        inner = lenient.typed(_RAW, decoded.response) or lenient.typed(_RAW, decoded.message) or _Raw()
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


def _decoded(data: bytes) -> _Raw:
    """The data of an event; an unreadable one tells nothing, and passes all the same.

    Google's OpenAI-compatible API wraps an error in a list.
    """
    listed = lenient.typed(_LISTED, data) if data.startswith(b"[") else None
    return (listed[0] if listed else lenient.typed(_RAW, data)) or _Raw()


_LISTED: Final = msgspec.json.Decoder(list[_Raw])
