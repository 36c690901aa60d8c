"""Requests as they come in on one connection, read strictly. Sans-I/O: bytes go in, complete requests come out."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import httptools

from pointsman.proxy.headers import Pairs, lowered
from pointsman.proxy.http1 import HEAD_BYTES_MAX, TARGET_BYTES_MAX, HttpError, check_head

_OF_THE_OFFER: Final = frozenset({b"upgrade", b"connection"})


class Inbound:
    """A request as it comes in. `low`: lower-case name → value; `body` once it is complete."""

    __slots__ = ("headers", "http10", "keep", "low", "method", "parts", "ready", "size", "target")

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.headers: Pairs = []
        self.low: Mapping[str, bytes] = {}
        self.parts: list[bytes] = []
        self.size = 0
        self.http10 = False
        self.keep = False
        self.ready = False  # its head is complete

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class RequestReader:
    """Reads requests. `waiting` are the complete ones, in order; `reading` one that is still coming.

    `objection`: why nothing after `waiting` can be taken; the connection has to be closed. `expects`: the one that is
    coming waits for 100 Continue; whoever says so takes the word back.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body_bytes_max = body_bytes_max
        self._head_bytes = 0
        self._last_keeps = True
        self.reading: Inbound | None = None
        self.waiting: deque[Inbound] = deque()
        self.objection: HttpError | None = None
        self.expects = False

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                again = self._without_upgrade()
                if again is None:
                    return
                data = again + data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                # What comes after the last request of a connection is not looked at.
                if self.reading is not None or self._last_keeps:
                    self._object(HttpError(400, f"the request cannot be read: {error}"))
            break
        reading = self.reading
        if reading is not None and not reading.ready:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                long = len(reading.target) > TARGET_BYTES_MAX
                self._object(HttpError(414 if long else 431, f"the head is over {HEAD_BYTES_MAX} bytes"))

    def _object(self, objection: HttpError) -> None:
        self.objection = self.objection or objection

    def _without_upgrade(self) -> bytes | None:
        """An offer to speak another protocol is not taken up: the head, to be read again without it; None: refused."""
        self._parser = httptools.HttpRequestParser(self)
        request = self.waiting.pop() if self.waiting and self.objection is None else None
        if request is None:
            self._object(HttpError(501, "no other protocol is spoken here"))
            return None
        kept = [pair for pair in request.headers if pair[0].lower() not in _OF_THE_OFFER]
        if not request.keep:
            kept.append((b"Connection", b"close"))
        version = b"1.0" if request.http10 else b"1.1"
        first = b"%b %b HTTP/%b\r\n" % (request.method.encode(), request.target, version)
        return first + b"".join([b"%b: %b\r\n" % pair for pair in kept]) + b"\r\n"

    # --- what the parser calls

    def on_message_begin(self) -> None:
        self.reading = Inbound()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self.reading is not None:
            self.reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading is not None and not self.reading.ready:  # trailers are not asked for
            self.reading.headers.append((name, value))

    def on_headers_complete(self) -> None:
        request, parser = self.reading, self._parser
        if request is None:
            return
        request.ready = True
        request.method = parser.get_method().decode("latin-1")
        version = parser.get_http_version()
        request.http10 = version == "1.0"
        request.keep = parser.should_keep_alive()
        request.low = low = lowered(request.headers)
        try:
            check_head(request.method, request.target, version, low, request.headers)
            length = low.get("content-length")
            if length is not None and int(length) > self._body_bytes_max:
                raise HttpError(413, self._too_large)
        except HttpError as error:
            self._object(error)
            return
        if "expect" in low and not request.http10:
            self.expects = True

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._body_bytes_max >> 20} MiB (proxy.max_body_mb)"

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
            self._last_keeps = request.keep
            self.waiting.append(request)
