"""Requests as they come in on one connection, read strictly. Sans-I/O: bytes go in, complete requests come out.

A head that has been read before, but for the digits of its length, need not be read again: the same bytes mean the
same. Everything else goes through the parser.
"""

import re
from collections import deque
from typing import Final

import httptools

from pointsman.proxy.asked import Asked
from pointsman.proxy.headers import Pairs
from pointsman.proxy.http1 import (
    HEAD_BYTES_MAX,
    REQUEST_LINE,
    TARGET_BYTES_MAX,
    HttpError,
    check_head,
    digits,
)

_OF_THE_OFFER: Final = frozenset({b"upgrade", b"connection"})
# As many as are read of a known head: what is found in one way and not in the other would be looked for for ever.
_DIGITS_MAX: Final = 12
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,%d})\r\n" % _DIGITS_MAX, re.IGNORECASE)
_END: Final = b"\r\n\r\n"
# So many heads are remembered. They are of a few hundred bytes, mostly; a larger one is read each time, for nobody may
# fill the memory with them.
KNOWN_MAX: Final = 1024
KNOWN_BYTES_MAX: Final = 1 << 13
# A connection whose heads are new all the time is not tried any longer.
_MISSES_MAX: Final = 8


class Inbound:
    """A request: its head, and its body as far as it has come."""

    __slots__ = ("asked", "parts", "size")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.parts: list[bytes] = []
        self.size = 0

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Known:
    """The latest heads of all connections, by what stands before the digits of their length and behind them."""

    def __init__(self, kept: int = KNOWN_MAX) -> None:
        self._heads: dict[tuple[bytes, bytes], Asked] = {}
        self._kept = kept

    def get(self, around: tuple[bytes, bytes]) -> Asked | None:
        """The head that was read there, if it is remembered."""
        return self._heads.get(around)

    def put(self, around: tuple[bytes, bytes], asked: Asked) -> None:
        """Remember a head, and forget the oldest when there are too many."""
        if len(self._heads) >= self._kept:
            del self._heads[next(iter(self._heads))]
        self._heads[around] = asked


def around_length(data: bytes) -> tuple[bytes, bytes] | None:
    """What stands before the digits of Content-Length and behind them, in the whole head that `data` begins with."""
    end = data.find(_END)
    found = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
    return None if found is None else (data[: found.start(1)], data[found.end(1) : end + len(_END)])


class RequestReader:
    """Reads requests. `waiting` are the complete ones, in order; `reading` one whose body is still coming.

    `objection`: why nothing after `waiting` can be taken; the connection has to be closed. `expects`: the one that is
    coming waits for 100 Continue; whoever says so takes the word back.
    """

    def __init__(self, body_bytes_max: int, heads: Known | None = None) -> None:
        self._heads = Known() if heads is None else heads
        self._parser = httptools.HttpRequestParser(self)
        self._body_bytes_max = body_bytes_max
        self._target = b""
        self._pairs: Pairs = []
        self._head_bytes = 0
        self._fed = 0  # since the last request
        self._chunks = 0
        self._last_keeps = True
        self._known: tuple[bytes, bytes, Asked] | None = None
        self._missing = 0  # bytes of the body of a request with a known head
        self._misses = 0
        self.in_head = False
        self.reading: Inbound | None = None
        self.waiting: deque[Inbound] = deque()
        self.objection: HttpError | None = None
        self.expects = False

    @property
    def idle(self) -> bool:
        """Nothing has come of a request that is not complete."""
        return self.reading is None and not self.in_head

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        if self._missing:
            data = self._more(data)
        elif self.reading is None and not self.in_head:
            if not self._last_keeps:
                return  # what comes after the last request of a connection is not looked at
            if self._misses < _MISSES_MAX:
                data = self._again(data)
        if data:
            self._parse(data)

    # --- heads that are known

    def _again(self, data: bytes) -> bytes:
        """What is left of `data` after all requests with known heads that it begins with."""
        while data and self.objection is None:
            known = self._known
            at = end = length = 0
            if known is not None and data[: len(known[0])] == known[0]:
                at = len(known[0])
                length, end = digits(data, at, _DIGITS_MAX)
            if known is None or end == at or data[end : end + len(known[1])] != known[1]:
                if not self._knows(data):
                    return data
                continue
            start = end + len(known[1])
            if length > self._body_bytes_max:
                return data
            request = Inbound(known[2])
            end = start + length
            if end > len(data):
                self.reading, self._missing = request, end - len(data)
                request.parts.append(data[start:])
                return b""
            request.parts.append(data[start:end])
            self.waiting.append(request)
            data = data[end:]
        return data

    def _knows(self, data: bytes) -> bool:
        """Is the head that `data` begins with known from elsewhere?"""
        around = around_length(data)
        asked = None if around is None else self._heads.get(around)
        if around is None or asked is None:
            self._misses += 1
            return False
        self._misses = 0
        self._known = (*around, asked)
        return True

    def _more(self, data: bytes) -> bytes:
        request = self.reading
        part = data[: self._missing]
        self._missing -= len(part)
        if request is not None:
            request.parts.append(part)
            if not self._missing:
                self.reading = None
                self.waiting.append(request)
        rest = data[len(part) :]
        return self._again(rest) if rest else rest

    def _learn(self, data: bytes, asked: Asked) -> None:
        """`data` began with this head, whole: remember it if only its length can differ."""
        around = around_length(data)
        if around is None or sum(map(len, around)) > KNOWN_BYTES_MAX:
            return
        if asked.keep and "expect" not in asked.low:
            self._known = (*around, asked)
            self._heads.put(around, asked)

    # --- all others

    def _parse(self, data: bytes) -> None:
        whole = self.reading is None and not self.in_head and self._misses < _MISSES_MAX
        before = len(self.waiting)
        if self.idle and data.lstrip(b"\r\n").find(b"\n") >= 0 and not REQUEST_LINE.match(data):
            self._object(HttpError(400, "the request line is not METHOD TARGET VERSION"))
            return
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                again = self._without_upgrade()
                if again is None:
                    return
                data, whole = again + data[upgrade.args[0] :], False
                continue
            except httptools.HttpParserError as error:
                # What comes after the last request of a connection is not looked at.
                if not self.idle or self._last_keeps:
                    self._object(HttpError(400, f"the request cannot be read: {error}"))
            break
        # How much of a piece that ends other requests belongs to this one is not known: its length counts for none.
        size = len(data) if len(self.waiting) == before else 0
        self._fed += size
        if self.reading is not None and self._fed - self.reading.size > HEAD_BYTES_MAX + 16 * self._chunks:
            self._object(HttpError(413, "there is more around the body than in it"))
        if self.in_head:
            self._head_bytes += size
            if self._head_bytes > HEAD_BYTES_MAX:
                long = len(self._target) > TARGET_BYTES_MAX
                self._object(HttpError(414 if long else 431, f"the head is over {HEAD_BYTES_MAX} bytes"))
        elif whole and self.reading is None and len(self.waiting) == before + 1 and self.objection is None:
            self._learn(data, self.waiting[-1].asked)

    def _object(self, objection: HttpError) -> None:
        self.objection = self.objection or objection

    def _without_upgrade(self) -> bytes | None:
        """An offer to speak another protocol is not taken up: the head, to be read again without it; None: refused."""
        self._parser = httptools.HttpRequestParser(self)
        request = self.waiting.pop() if self.waiting and self.objection is None else None
        if request is None:
            self._object(HttpError(501, "no other protocol is spoken here"))
            return None
        asked = request.asked
        kept = [pair for pair in asked.headers if pair[0].lower() not in _OF_THE_OFFER]
        if not asked.keep:
            kept.append((b"Connection", b"close"))
        version = b"1.0" if asked.http10 else b"1.1"
        first = b"%b %b HTTP/%b\r\n" % (asked.method.encode(), asked.target, version)
        return first + b"".join([b"%b: %b\r\n" % pair for pair in kept]) + b"\r\n"

    # --- what the parser calls

    def on_message_begin(self) -> None:
        self.in_head = True
        self._target, self._pairs = b"", []
        self._head_bytes = self._fed = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # trailers are not asked for
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self.in_head = False
        version = parser.get_http_version()
        asked = Asked(
            parser.get_method().decode("latin-1"),
            self._target,
            self._pairs,
            http10=version == "1.0",
            keep=parser.should_keep_alive(),
        )
        self.reading = Inbound(asked)
        try:
            check_head(asked, version)
            length = asked.low.get("content-length")
            if length is not None and int(length) > self._body_bytes_max:
                raise HttpError(413, self._too_large)
        except HttpError as error:
            self._object(error)
            return
        if "expect" in asked.low and not asked.http10:
            self.expects = True

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._body_bytes_max >> 20} MiB (proxy.max_body_mb)"

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        request = self.reading
        if request is None or self.objection is not None:
            return
        request.size += len(data)
        if request.size > self._body_bytes_max:
            self._object(HttpError(413, self._too_large))
            request.parts.clear()
        else:
            request.parts.append(data)

    def on_message_complete(self) -> None:
        request, self.reading = self.reading, None
        self.expects = False
        if request is not None and self.objection is None:
            self._last_keeps = request.asked.keep
            self.waiting.append(request)
