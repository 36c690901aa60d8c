"""What the proxy has to know of a request's body, and the one change it makes to it. Pure.

The body is never encoded anew: only the bytes of the model's name are exchanged.
"""

import re
import secrets
import sys
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from pointsman.core.strangers import UNREADABLE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


# A body, in one piece after the other.
Pieces = Sequence[bytes | memoryview]
# Where something stands in a body: its first byte, and the first one behind it.
Place = tuple[int, int]


class BodyError(Exception):
    """A body that cannot be routed; the message tells the caller what to do."""


class OpaqueError(BodyError):
    """A body in a coding that is not known here: only somebody who names the route can send it."""


class Head:
    """The parts of a request's JSON that routing reads; `places` are where the model's name stands in it.

    `session` and `user` as the body names them; `file`: it names a file that was uploaded.
    """

    __slots__ = (
        "conversation", "file", "model", "places", "previous_response_id", "session", "stream", "user",
    )  # fmt: skip

    def __init__(self, model: str, places: list[Place], *, stream: bool, file: bool) -> None:
        self.model = model
        self.places = places
        self.stream = stream
        self.file = file
        self.previous_response_id = self.conversation = self.user = self.session = ""


class _Loose(Struct):
    """Every value raw: a field of the wrong type is for the provider to refuse, unless it is the model."""

    model: Raw = Raw()
    stream: Raw = Raw()
    previous_response_id: Raw = Raw()
    conversation: Raw = Raw()
    user: Raw = Raw()
    safety_identifier: Raw = Raw()
    prompt_cache_key: Raw = Raw()
    metadata: Raw = Raw()


_decoded: Final = msgspec.json.decode
_LOOSE: Final = msgspec.json.Decoder(_Loose)
_TRUE: Final = Raw(b"true")
_TOP: Final = msgspec.json.Decoder(dict[str, Raw])
# Every repetition is possessive: a body is read once, whatever is in it, and nothing is remembered to go back to.
_KEY: Final = re.compile(rb'"model"[ \t\r\n]*+:[ \t\r\n]*+')
_KEY_IN_ESCAPES: Final = re.compile(
    rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"[ \t\r\n]*+:[ \t\r\n]*+'
)
_ESCAPED_LETTER: Final = b"\\u006"  # of the word "model", as far as they have it in common
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Ids of files are "file-…" (OpenAI), "file_…" (Anthropic), "files/…" (Gemini); a tool's own file_id is mostly another.
_FILE: Final = re.compile(rb'"file_ids?"[ \t\r\n]*+:[ \t\r\n]*+(?:\[[ \t\r\n]*+)?"file')
_KEYS_MAX: Final = 100_000
# The name as the first thing in the body, with something behind it.
_FIRST: Final = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+"model"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]++")[ \t\r\n]*+,')
# The name among the last keys, something before it, and nothing but plain values between it and the end: it is on top,
# because the brace that ends the body is that of the whole.
_LAST: Final = re.compile(
    rb',[ \t\r\n]*+"model"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]++")'
    rb'(?:[ \t\r\n]*+,[ \t\r\n]*+"(?!model")[a-z_]++"[ \t\r\n]*+:[ \t\r\n]*+'
    rb'(?:true|false|null|[-+.0-9eE]++|"[^"\\]*+"))*+[ \t\r\n]*+\}[ \t\r\n]*+\Z'
)
_SMALL_BYTES: Final = 1 << 12  # copied faster than looked at
_TAIL_BYTES: Final = 512
_UNDERSCORES_MAX: Final = 100
_MARK: Final = secrets.token_hex(16)  # begins no key of a caller's


def read_head(body: bytes) -> Head:
    """What routing needs of `body`. Raises BodyError if it is not a JSON object or names no model."""
    try:
        place, rest = _cut(body)
        if place is not None:
            loose = _LOOSE.decode(rest)
            if not loose.model:  # and so it was the only key of that name, however others may be spelled
                start, end = place
                return _head(body, loose, _decoded(body[start:end]), [place])
        loose = _LOOSE.decode(body)
        model = _text(loose.model)
        if not model:
            raise BodyError('the body names no model: set "model" to the name of a route')
        return _head(body, loose, model, _model_places(body))
    except UNREADABLE as error:
        raise BodyError(f"the body is not a JSON object: {error}") from error


def _cut(body: bytes) -> tuple[Place | None, bytes]:
    """(where the model's name stands, the body without it) if that is plain to see at one of its ends."""
    first = _FIRST.match(body)
    if first is not None:
        if len(body) <= _SMALL_BYTES:
            return first.span(1), b"{" + body[first.end() :]
        return first.span(1), b"".join((b"{", memoryview(body)[first.end() :]))
    last = _LAST.search(body, max(0, len(body) - _TAIL_BYTES))
    if last is not None:
        if len(body) <= _SMALL_BYTES:
            return last.span(1), body[: last.start()] + body[last.end(1) :]
        view = memoryview(body)
        return last.span(1), b"".join((view[: last.start()], view[last.end(1) :]))
    return None, b""


def _head(body: bytes, loose: _Loose, model: str, places: list[Place]) -> Head:
    head = Head(model, places, stream=loose.stream == _TRUE, file=_has_file(body))
    if loose.previous_response_id:
        head.previous_response_id = _text(loose.previous_response_id)
    if loose.conversation:
        head.conversation = _text(loose.conversation) or _member(loose.conversation, "id")
    if loose.user or loose.safety_identifier or loose.metadata:
        user = _text(loose.user) or _text(loose.safety_identifier)
        head.user = user or _member(loose.metadata, "user_id")
    if loose.prompt_cache_key:
        head.session = _text(loose.prompt_cache_key)
    return head


def _has_file(body: bytes) -> bool:
    """Does it name an uploaded file? Looks at underscores first: of all letters in the key, they are the rarest."""
    place = -1
    for _ in range(_UNDERSCORES_MAX):
        place = body.find(b"_", place + 1)
        if place < 0:
            return False
        if body[max(0, place - 4) : place + 3] == b"file_id":
            break
    return _FILE.search(body, max(0, place - 5)) is not None


def _text(raw: Raw) -> str:
    if not raw or not bytes(raw).startswith(b'"'):
        return ""
    return str(_decoded(raw))


def _member(raw: Raw, name: str) -> str:
    """The text that an object has as `name`: Anthropic's metadata.user_id, OpenAI's conversation.id."""
    if not raw or not bytes(raw).startswith(b"{"):
        return ""
    value: Any = _decoded(raw)
    text = value.get(name)
    return text if isinstance(text, str) else ""


def with_model(body: bytes, places: list[Place], named: bytes) -> list[bytes | memoryview]:
    """`body` with the JSON string `named` at `places`, every other byte as it was; what is large is not copied."""
    if len(places) == 1 and len(body) <= _SMALL_BYTES:
        start, end = places[0]
        return [body[:start], named, body[end:]]
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    copied = 0
    for start, end in places:
        pieces.append(view[copied:start])
        pieces.append(named)
        copied = end
    pieces.append(view[copied:])
    return pieces


def sum_of(pieces: Pieces) -> int:
    """How many bytes they have."""
    size = 0
    for piece in pieces:
        size += len(piece)
    return size


def _model_places(body: bytes) -> list[Place]:
    """Where the names stand that the top-level key "model" of a JSON object has (several if it is repeated).

    Nearly always the word occurs once as a key, and a search finds it. Where tools or schemas have a property
    of that name, each of the keys gets a name of its own, and the decoder tells which of them are on top.
    """
    spelled = _KEY_IN_ESCAPES if _ESCAPED_LETTER in body else _KEY
    keys = [found.span() for found in islice(spelled.finditer(body), _KEYS_MAX + 1)]
    if len(keys) > _KEYS_MAX:
        raise BodyError(f'the body has the key "model" more than {_KEYS_MAX} times')
    if len(keys) > 1:
        top = _TOP.decode(_renamed(body, keys))
        keys = [key for number, key in enumerate(keys) if f"{_MARK}{number}" in top]
    names = [_STRING.match(body, end) for _, end in keys]
    return [name.span() for name in names if name]


def _renamed(body: bytes, keys: list[tuple[int, int]]) -> bytes:
    """`body` with the mark and its number in place of every one of `keys`.

    What looks like such a key and ends another one (`"a\\"model": …`) is renamed in that, and is no key on top.
    """
    parts: list[bytes] = []
    copied = 0
    for number, (start, end) in enumerate(keys):
        parts += (body[copied:start], f'"{_MARK}{number}":'.encode())
        copied = end
    return b"".join([*parts, body[copied:]])


# --- compressed bodies: read to find the model, sent on as they came where it may stay


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its content encoding, at most `limit` bytes. Raises BodyError where that is not possible."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in {"", "identity"}:
            continue
        if name in {"gzip", "x-gzip", "deflate"}:
            body = _inflated(body, limit)
        elif name == "zstd":
            body = _unzstd(body, limit)
        else:
            raise OpaqueError(
                f"content-encoding {name[:20]} cannot be read here: send gzip, zstd or none, or name the route in the "
                "header x-pointsman-route; its targets then get the body as it is"
            )
    return body


def _inflated(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, whichever the header says
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BodyError(f"the compressed body cannot be read: {error}") from error
    if len(plain) > limit:
        raise BodyError(f"the body is larger than {limit} bytes when decompressed")
    if not inflater.eof:
        raise BodyError("the compressed body is cut off")
    return plain


def _unzstd(body: bytes, limit: int) -> bytes:
    try:
        reader = zstd.ZstdDecompressor()
        plain = reader.decompress(body, limit + 1)
    except zstd.ZstdError as error:
        raise BodyError(f"the compressed body cannot be read: {error}") from error
    if len(plain) > limit:
        raise BodyError(f"the body is larger than {limit} bytes when decompressed")
    if not reader.eof:
        raise BodyError("the compressed body is cut off")
    return plain
