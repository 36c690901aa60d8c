"""Server-sent events, watched while they pass. Sans-I/O.

Bytes go through unchanged, in whole events: the tail of an event that has not ended is held until it has, so
that a broken stream never leaves half an event behind. Comments and pings are signs of life, not answers: they
do not make a stream begun.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from pointsman.proxy.api import Api

# An event ends at a blank line; a line may end in CR LF, LF or CR.
_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE: Final = re.compile(rb"\r\n|\n|\r")
# An event larger than this passes in pieces rather than fill the memory.
HELD_BYTES_MAX: Final = 1 << 20


class Usage(Struct):
    """Both families' words for tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Inner(Struct):
    """An Anthropic `message` or an OpenAI `response` inside an event."""

    id: str = ""
    usage: Usage | None = None
    error: Any = None


class _Data(Struct):
    """The data of any event, as far as it is looked at."""

    type: str = ""
    code: Any = None
    error: Any = None
    usage: Usage | None = None
    message: _Inner | str | None = None
    response: _Inner | None = None


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
            self.into = into + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        out = usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
        if out is not None:
            self.out = out


_DATA: Final = msgspec.json.Decoder(_Data)
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
# The events worth decoding, besides those that may hold an error; the others are only counted.
_TELLING: Final = _RESPONSE_ENDS | {
    "message_start",
    "message_delta",
    "message_stop",
    "response.created",
    "error",
}


class Watch:
    """One stream. `feed` returns the bytes to pass on; the attributes say what has been seen so far.

    `begun`: a real event passed; `ended`: the terminal event passed; `error`: the error that the stream itself
    told, as decoded JSON (a `begun` False beside it means that nothing came before it).
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._held = b""
        self.begun = False
        self.ended = False
        self.error: Any = None
        self.tokens = Tokens()
        self.response_id = ""
        self.events = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes as they came; return those of the events that are now whole."""
        held = self._held + chunk if self._held else chunk
        search_from = max(0, len(self._held) - 3)
        start = 0
        for found in _BOUNDARY.finditer(held, search_from):
            self._see(held[start : found.end()])
            start = found.end()
        if len(held) - start > HELD_BYTES_MAX:
            start = len(held)
        self._held = held[start:]
        return held[:start]

    def finish(self) -> bytes:
        """The stream is over: what was held, if the stream is complete with it (a last blank line may be missing)."""
        held, self._held = self._held, b""
        if not self.ended:
            self._see(held)
        return held if self.ended or self.error is not None else b""

    def _see(self, block: bytes) -> None:
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
            if decoded.error:
                self.error = decoded.error
                return
            self.tokens.learn(decoded.usage)
        self._real()

    def _see_named(self, name: str, data: bytes) -> None:
        if name and name not in _TELLING:
            self._real()
            return
        decoded = _decoded(data)
        name = name or decoded.type
        if name == "ping":
            return
        if name == "error":
            self.error = decoded.error or {"code": decoded.code, "message": decoded.message}
            return
        self.tokens.learn(decoded.usage)
        inner = decoded.response or decoded.message
        if isinstance(inner, _Inner):
            self.response_id = inner.id or self.response_id
            self.tokens.learn(inner.usage)
        self.ended = self.ended or name == "message_stop" or name in _RESPONSE_ENDS
        if name == "response.failed":
            self.error = (decoded.response and decoded.response.error) or {"code": "server_error"}
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


def _decoded(data: bytes) -> _Data:
    """The data of an event; an unreadable one tells nothing, and passes all the same."""
    try:
        return _DATA.decode(data)
    except msgspec.MsgspecError:
        return _Data()
