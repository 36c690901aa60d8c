"""HTTP/1.1 heads as the proxy writes them, and what it refuses of those that it reads. Pure.

The parser refuses what is malformed; `check_head` what is well-formed and could still be read in two ways.

What leaves is framed anew, by a length or in chunks of the proxy's own, so that no sender's idea of where a message
ends is ever passed on.
"""

import http
import re
from functools import lru_cache
from typing import Final

from pointsman.proxy.asked import Asked

HEAD_BYTES_MAX: Final = 1 << 16
TARGET_BYTES_MAX: Final = 1 << 14
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
_REASONS: Final = {status.value: status.phrase.encode() for status in http.HTTPStatus}
HEADERS_MAX: Final = 200
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]+)(?=[/?]|\Z)")
# A request line as everybody reads it: one space, no more, between its parts. Empty lines before it are skipped.
REQUEST_LINE: Final = re.compile(rb"\n?(?:\r\n)*[^ \r\n]+ [^ \r\n]+ HTTP/[0-9.]+\r\n")
_BODILESS: Final = frozenset({204, 304})


class HttpError(Exception):
    """A request that is refused before anybody looks at what it wants; `status` says how."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def check_head(asked: Asked, version: str) -> None:
    """Raise HttpError for what could be read in two ways, though the parser takes it. `version`: "1.1"."""
    target, low = asked.target, asked.low
    if version not in _VERSIONS:
        raise HttpError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if asked.method == "CONNECT":
        raise HttpError(501, "this is no forward proxy: there is no CONNECT")
    _check_sizes(asked)
    if not target.startswith(b"/"):
        _check_absolute(target, low.get("host", b""))
    if target.find(b"#") >= 0:
        raise HttpError(400, "the target has a fragment")
    host = low.get("host")
    if host is None:
        if version == "1.1":
            raise HttpError(400, "there is no Host header")
    elif not _is_host(host):
        raise HttpError(400, "the Host header is not one HOST or HOST:PORT")
    coding = low.get("transfer-encoding")
    if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
        raise HttpError(
            400 if version == "1.0" else 501, "the only transfer-encoding is chunked, in HTTP/1.1"
        )
    if "expect" in low and low["expect"].lower() != b"100-continue":
        raise HttpError(417, "the only expectation that is met is 100-continue")


def _check_sizes(asked: Asked) -> None:
    if len(asked.target) > TARGET_BYTES_MAX:
        raise HttpError(414, f"the target is longer than {TARGET_BYTES_MAX} bytes")
    if len(asked.headers) > HEADERS_MAX:
        raise HttpError(431, f"there are more than {HEADERS_MAX} headers")
    if sum([len(name) + len(value) + 4 for name, value in asked.headers]) > HEAD_BYTES_MAX:
        raise HttpError(431, f"the head is over {HEAD_BYTES_MAX} bytes")


@lru_cache(256)
def _is_host(host: bytes) -> bool:
    return _HOST.fullmatch(host) is not None


def _check_absolute(target: bytes, host: bytes) -> None:
    """A whole URL is understood if it is of this host: to forward to others is not this proxy's business."""
    found = _ABSOLUTE.match(target)
    if found is None or found.group(1).lower() != host.lower():
        raise HttpError(400, "the target has to be a path of this host: this is no forward proxy")


def request_head(method: str, target: bytes, lines: bytes, own: bytes, length: int | None) -> bytes:
    """A request's head; `own` begins with Host. `length` None: no body, and none is expected of the method."""
    framing = b"\r\n" if length is None else b"Content-Length: %d\r\n\r\n" % length
    return b"%b %b HTTP/1.1\r\n%b%b%b" % (method.encode(), target, own, lines, framing)


def digits(text: bytes, at: int, most: int) -> tuple[int, int]:
    """(the number at `at`, where its digits end), of `most` digits at the most; without one the end is `at`."""
    number, end, size = 0, at, len(text)
    while end < size and end - at < most:
        digit = text[end] - 48
        if digit < 0 or digit > 9:
            break
        number, end = number * 10 + digit, end + 1
    return number, end


def status_line(status: int, reason: bytes = b"") -> bytes:
    """The first line of an answer, with the provider's reason if it gave one, or else the usual."""
    known = _LINES.get(status) if not reason or reason == _REASONS.get(status) else None
    return known or b"HTTP/1.1 %d %b\r\n" % (status, reason)


def bodiless(status: int, *, is_head: bool) -> bool:
    """Does an answer of this kind end with its head, whatever its headers say?"""
    return is_head or status in _BODILESS or status < 200


def chunk(data: bytes) -> bytes:
    """One chunk of a body; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
