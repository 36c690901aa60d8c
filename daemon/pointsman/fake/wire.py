"""HTTP/1.1 as a server speaks it, small enough to misbehave on purpose.

A `Connection` is served by one coroutine. That coroutine waits in one place only (`_wait`), and is woken by
bytes, by a full buffer that drained, by a timer or by the caller who hung up. So a stream that pauses between
two tokens learns at once that nobody listens any more.
"""

import asyncio
import http
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Self

from msgspec import Struct

HEAD_BYTES_MAX: Final = 256 * 1024
BODY_BYTES_MAX: Final = 512 * 1024 * 1024
HANDSHAKE_TIMEOUT_S: Final = 10.0

Headers = Iterable[tuple[str, str]]
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus} | {529: "Overloaded"}
_BODILESS: Final = frozenset({204, 304})
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HungUp(Exception):  # noqa: N818 - not an error of ours: the caller went away
    """The caller closed the connection before the answer was complete."""


class BadRequest(Exception):  # noqa: N818 - named after the answer that it leads to
    """A request that cannot be read as HTTP; `status` is the answer to give before closing."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request(Struct, frozen=True, kw_only=True):
    """A request as it came: `target` as on the request line, header names in lower case and in order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    keep_alive: bool = True
    chunks: bool = True  # the caller understands chunked answers (HTTP/1.1)

    def header(self, name: str) -> str:
        """The first value of a header, "" if it is absent. `name` in lower case."""
        return next((value for known, value in self.headers if known == name), "")

    @property
    def path(self) -> str:
        """The target without query, and without the origin that some clients write before it."""
        path = self.target.partition("?")[0]
        if not path.startswith("/") and "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path


class Connection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._full = False
        self._gone = False
        self._chunked = False
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport

    @classmethod
    async def accept(cls, sock: socket.socket, tls: ssl.SSLContext | None) -> Self:
        """Take over an accepted socket. Raises OSError when the TLS handshake does not come about."""
        loop = asyncio.get_running_loop()
        timeout_s = HANDSHAKE_TIMEOUT_S if tls else None
        _, connection = await loop.connect_accepted_socket(
            lambda: cls(sock), sock, ssl=tls, ssl_handshake_timeout=timeout_s
        )
        return connection

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def eof_received(self) -> None:
        self._gone = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._lost.set()
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, delay_s: float | None = None) -> None:
        """Return when something happened or `delay_s` is over. Raises HungUp once the caller is gone."""
        if self._gone:
            raise HungUp
        self._waiter = self._loop.create_future()
        timer = None if delay_s is None else self._loop.call_later(delay_s, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        if self._gone:
            raise HungUp

    # --- reading

    async def read_request(self) -> Request | None:
        """The next request with its whole body; None when the caller has no more. Raises BadRequest, HungUp."""
        try:
            head = await self._until(b"\r\n\r\n")
        except HungUp:
            return None
        request = _parse_head(head.lstrip(b"\r\n"))
        if request.header("expect").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        coding = request.header("transfer-encoding").lower()
        length = request.header("content-length")
        if coding and (coding != "chunked" or length):
            raise BadRequest(400, "unusable Transfer-Encoding")
        if length and not re.fullmatch(r"[0-9]{1,18}", length):
            raise BadRequest(400, "unusable Content-Length")
        if int(length or 0) > BODY_BYTES_MAX:
            raise BadRequest(413, "body too large")
        body = await (self._chunks() if coding else self._exactly(int(length or 0)))
        return Request(
            method=request.method,
            target=request.target,
            headers=request.headers,
            body=body,
            keep_alive=request.keep_alive,
            chunks=request.chunks,
        )

    async def _until(self, mark: bytes) -> bytes:
        start = 0
        while (found := self._buffer.find(mark, start)) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadRequest(431, "head too large")
            start = max(0, len(self._buffer) - len(mark) + 1)
            await self._wait()
        line = bytes(self._buffer[:found])
        del self._buffer[: found + len(mark)]
        return line

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._wait()
        data = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return data

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = (await self._until(b"\r\n")).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise BadRequest(400, "unusable chunk size")
            count = int(size, 16)
            if len(body) + count > BODY_BYTES_MAX:
                raise BadRequest(413, "body too large")
            if count == 0:
                while await self._until(b"\r\n"):
                    pass  # trailers say nothing that a provider would read
                return bytes(body)
            body += await self._exactly(count)
            if await self._exactly(2) != b"\r\n":
                raise BadRequest(400, "chunk without its end")

    # --- writing

    async def respond(self, request: Request, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer with its Content-Length (and no body to HEAD, or where a status has none)."""
        if status in _BODILESS:
            headers, body = [(name, value) for name, value in headers if name != "content-type"], b""
        head = _head(status, headers, f"content-length: {len(body)}", keep_alive=request.keep_alive)
        await self._send(head if request.method == "HEAD" else head + body)

    async def begin(self, request: Request, status: int, headers: Headers) -> None:
        """Send the head of an answer whose length is not known: chunked, or up to the close for HTTP/1.0."""
        self._chunked = request.chunks
        framing = "transfer-encoding: chunked" if request.chunks else "connection: close"
        await self._send(_head(status, headers, framing, keep_alive=request.keep_alive or not request.chunks))

    async def send(self, data: bytes) -> None:
        """Send a piece of an answer that was begun; waits for a reader who is slow."""
        await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def send_cut(self, data: bytes) -> None:
        """Send a piece whose chunk promises more than comes."""
        half = data[: max(1, len(data) // 2)]
        await self._send(b"%x\r\n%b" % (len(data) + 1, half) if self._chunked else half)

    async def end(self) -> None:
        """End an answer that was begun, as one that is complete."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")
        else:
            self.close()

    async def _send(self, data: bytes) -> None:
        if self._gone:
            raise HungUp
        self._transport.write(data)
        while self._full:
            await self._wait()

    # --- time and ends

    async def sleep(self, delay_s: float) -> None:
        """Wait. Raises HungUp as soon as the caller goes away."""
        deadline_s = self._loop.time() + delay_s
        while (left_s := deadline_s - self._loop.time()) > 0:
            await self._wait(left_s)

    async def hang(self) -> None:
        """Never answer; ends only with HungUp."""
        while True:
            await self._wait()

    def close(self) -> None:
        """Close in good order: what was written still goes out."""
        if not self.closing:
            self._transport.close()

    def reset(self) -> None:
        """Close with a reset (RST) instead of a farewell; what was not read yet is lost."""
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    def abort(self) -> None:
        """Close at once, without waiting for what was written."""
        self._transport.abort()

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    async def lost(self) -> None:
        """Return when the socket is closed."""
        await self._lost.wait()


Handler = Callable[[Connection, Request], Awaitable[None]]


async def serve(connection: Connection, handler: Handler) -> None:
    """Answer one request after the other until either side has had enough."""
    while not connection.closing:
        try:
            request = await connection.read_request()
            if request is None:
                break
            await handler(connection, request)
        except BadRequest as error:
            refused = Request(method="", target="", headers=(), keep_alive=False)
            headers = [("content-type", "text/plain")]
            await connection.respond(refused, error.status, headers, f"{error}\n".encode())
            break
        if not request.keep_alive:
            break
    connection.close()


def _parse_head(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    match first.split(" "):
        case [method, target, ("HTTP/1.1" | "HTTP/1.0") as version] if _TOKEN.fullmatch(method):
            pass
        case _:
            raise BadRequest(400, "unusable request line")
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadRequest(400, "unusable header")
        headers.append((name.lower(), value.strip(" \t")))
    said = next((value.lower() for name, value in headers if name == "connection"), "")
    modern = version == "HTTP/1.1"
    keep_alive = "close" not in said if modern else "keep-alive" in said
    return Request(method=method, target=target, headers=tuple(headers), keep_alive=keep_alive, chunks=modern)


def _head(status: int, headers: Headers, framing: str, *, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(framing)
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
