"""What the proxy has to know of a request's body, and the one change it makes to it. Pure.

The body is never encoded anew: only the bytes of the model's name are exchanged.
"""

import importlib
import re
import zlib
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct


class BodyError(Exception):
    """A body that cannot be routed; the message tells the caller what to do."""


class Head(Struct, frozen=True):
    """The parts of a request's JSON that routing reads."""

    model: str
    stream: bool = False
    previous_response_id: str = ""
    user: str = ""
    session: str = ""


class _Loose(Struct):
    """Every value raw: a field of the wrong type is for the provider to refuse, unless it is the model."""

    model: Raw = Raw()
    stream: Raw = Raw()
    previous_response_id: Raw = Raw()
    user: Raw = Raw()
    safety_identifier: Raw = Raw()
    prompt_cache_key: Raw = Raw()
    metadata: Raw = Raw()


_LOOSE: Final = msgspec.json.Decoder(_Loose)
_CANDIDATE: Final = re.compile(rb'(?<!\\)"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")', re.DOTALL)
_ESCAPED_LETTER: Final = re.compile(rb"\\u006[dDfF45cC]")  # of the word "model"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)


def read_head(body: bytes) -> Head:
    """What routing needs of `body`. Raises BodyError if it is not a JSON object or names no model."""
    try:
        loose = _LOOSE.decode(body)
    except msgspec.MsgspecError as error:
        raise BodyError(f"the body is not a JSON object: {error}") from error
    model = _text(loose.model)
    if not model:
        raise BodyError('the body names no model: set "model" to the name of a route')
    return Head(
        model=model,
        stream=bytes(loose.stream) == b"true",
        previous_response_id=_text(loose.previous_response_id),
        user=_text(loose.user) or _text(loose.safety_identifier) or _user_of(loose.metadata),
        session=_text(loose.prompt_cache_key),
    )


def _text(raw: Raw) -> str:
    if not bytes(raw).startswith(b'"'):
        return ""
    return str(msgspec.json.decode(raw))


def _user_of(metadata: Raw) -> str:
    """Anthropic's place for a user: metadata.user_id."""
    if not bytes(metadata).startswith(b"{"):
        return ""
    value: Any = msgspec.json.decode(metadata)
    user = value.get("user_id")
    return user if isinstance(user, str) else ""


def with_model(body: bytes, model: str) -> bytes:
    """`body` with its top-level model exchanged for `model`, every other byte as it was."""
    new = msgspec.json.encode(model)
    places = _model_places(body)
    for start, end in reversed(places):
        body = body[:start] + new + body[end:]
    return body


def _model_places(body: bytes) -> list[tuple[int, int]]:
    """Where the values of the top-level key "model" are (more than one if the key is repeated).

    Nearly always the word occurs once as a key, and a search finds it. Where tools or schemas have a property
    of that name, or the key is written with escapes, the structure is walked.
    """
    candidates = [found.span(1) for found in _CANDIDATE.finditer(body)]
    if len(candidates) == 1 and not _ESCAPED_LETTER.search(body):
        return candidates
    places: list[tuple[int, int]] = []
    depth = 0
    key = b""
    after_colon = False
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text in {b"{", b"["}:
            depth += 1
        elif text in {b"}", b"]"}:
            depth -= 1
        elif text == b":":
            after_colon = True
            continue
        elif text != b"," and depth == 1:
            if after_colon and _is_model(key):
                places.append(token.span())
            key = text
        after_colon = False
    return places


def _is_model(key: bytes) -> bool:
    return key == b'"model"' or (b"\\" in key and len(key) < 48 and msgspec.json.decode(key) == "model")


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
            raise BodyError(f"content-encoding {name[:20]} cannot be read here: send gzip, zstd or none")
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


def _zstd() -> Any:
    """The standard library's zstd (Python 3.14), or its backport; None where neither is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _unzstd(body: bytes, limit: int) -> bytes:
    zstd = _zstd()
    if zstd is None:
        raise BodyError(
            "a zstd body cannot be read here: send it uncompressed, or install backports.zstd beside the proxy"
        )
    try:
        reader = zstd.ZstdDecompressor()
        plain: bytes = reader.decompress(body, limit + 1)
    except zstd.ZstdError as error:
        raise BodyError(f"the compressed body cannot be read: {error}") from error
    if len(plain) > limit:
        raise BodyError(f"the body is larger than {limit} bytes when decompressed")
    if not reader.eof:
        raise BodyError("the compressed body is cut off")
    return plain
