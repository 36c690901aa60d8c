"""Connections to providers: one request at a time on each, kept open between them."""

import asyncio
import socket
from time import monotonic
from typing import Final, cast

import aiohappyeyeballs
import httptools

from pointsman.core.errors import Wire
from pointsman.proxy.body import Pieces, sum_of
from pointsman.proxy.dial import Dial
from pointsman.proxy.headers import Taken
from pointsman.proxy.http1 import HEAD_BYTES_MAX, bodiless, digits
from pointsman.proxy.judging import Head
from pointsman.proxy.outbox import Outbox
from pointsman.proxy.routing import Origin
from pointsman.proxy.sides import Line, Recipient

KEEP_ALIVE_S: Final = 75.0
_SWEEP_S: Final = 15.0
_DIGITS_MAX: Final = 20  # the parser takes no more
_VERSIONS: Final = frozenset({"1.0", "1.1"})
# A body leaves in pieces of this size, each when the one before has mostly gone: a caller's 64 MB are not copied
# into a buffer at once, nor encrypted in one go while everybody else waits.
_PIECE_BYTES: Final = 1 << 18
_BUFFERED_BYTES: Final = 1 << 19


class ProviderConnection(asyncio.Protocol):
    """One connection. Implements `Line` for the recipient that uses it."""

    def __init__(self, pool: "Pool", origin: Origin) -> None:
        self._pool = pool
        self.origin = origin
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._recipient: Recipient | None = None
        self._uses = 0
        self._out = b""  # written at the end of this turn of the loop
        self._unsent: list[memoryview] = []
        self.idle_since_s = 0.0
        self._is_head = False
        self._reset()

    def _reset(self) -> None:
        self._reason = b""
        self._taken = Taken(to_caller=True)
        self._parts: list[bytes] = []
        self._received = 0
        self._head: Head | None = None
        self._told_head = False
        self._is_11 = False  # seen at its first bytes: to ask the parser takes longer
        self._interim = False
        self._complete = False
        self._keep = False
        self._until_close = False
        self._unreadable = False
        self._surplus = False

    # --- the line of a recipient

    def send(self, recipient: Recipient, head: bytes, body: Pieces, *, is_head: bool) -> None:
        """Send a request. The connection is this transit's until its answer has ended, or is dropped."""
        if self._received:  # the answer before is only being passed on
            self._reset()
        self._is_head = is_head
        self._recipient = recipient
        self._uses += 1
        if sum_of(body) <= _PIECE_BYTES:
            out = b"".join((head, *body))
            if self._pool.outbox.holds(self):
                self._out = out
            else:
                self._transport.write(out)
                self._pool.outbox.wrote()
        else:
            self._transport.write(head)
            self._unsent = [memoryview(piece) for piece in body]
            self._send_more()

    def flush(self) -> None:
        """Write the request that has been held back."""
        out, self._out = self._out, b""
        if out and not self._transport.is_closing():
            self._transport.write(out)

    def _send_more(self) -> None:
        unsent = self._unsent
        while unsent and not self._transport.is_closing():
            piece = unsent[0]
            if len(piece) > _PIECE_BYTES:
                unsent[0] = piece[_PIECE_BYTES:]
            else:
                del unsent[0]
            self._transport.write(piece[:_PIECE_BYTES])
            if self._transport.get_write_buffer_size() > _BUFFERED_BYTES:
                return

    def drop(self, recipient: Recipient) -> None:
        """End the connection, if it is still this transit's."""
        if self._recipient is recipient:
            self._recipient = None
            self._unsent.clear()
            self._out = b""
            self._transport.abort()

    def hold(self, recipient: Recipient, *, held: bool) -> None:
        """Stop reading, or go on."""
        if self._recipient is recipient and not self._transport.is_closing():
            if held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    @property
    def usable(self) -> bool:
        """May another request be sent on it."""
        return not self._transport.is_closing() and monotonic() - self.idle_since_s < KEEP_ALIVE_S

    @property
    def closing(self) -> bool:
        """Has its end begun, whoever began it. Only once it is made."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Nobody needs it any more."""
        self._transport.close()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUFFERED_BYTES)

    def resume_writing(self) -> None:
        self._send_more()

    def data_received(self, data: bytes) -> None:
        recipient = self._recipient
        if recipient is None:
            self._transport.abort()  # nobody has asked anything
            return
        if not self._received:
            self._is_11 = data.startswith(b"HTTP/1.1 ")
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._unreadable = not self._complete
            self._keep = False
        head = self._head
        if self._unreadable or (head is None and self._received > HEAD_BYTES_MAX):
            self._give_up(recipient)
        elif head is not None:
            parts = self._parts
            data = parts.pop() if len(parts) == 1 else b"".join(parts)
            parts.clear()
            told, self._told_head = self._told_head, True
            ended = self._complete
            if ended:
                self._free()
            recipient.heard(None if told else head, data, monotonic(), ended=ended)
            if ended and self._recipient is None:
                self._reset()

    def _give_up(self, recipient: Recipient) -> None:
        """What comes cannot be read; what came before it still counts."""
        now_s = monotonic()
        self._recipient = None
        self._transport.abort()
        if self._told_head and self._parts:
            recipient.heard(None, b"".join(self._parts), now_s, ended=False)
        recipient.failed(Wire.TRUNCATED if self._told_head else Wire.BAD_BODY, now_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        recipient, self._recipient = self._recipient, None
        if recipient is None:
            return
        now_s = monotonic()
        if exc is None and self._until_close and self._head is not None:
            recipient.heard(None, b"", now_s, ended=True)
        elif not self._received:
            recipient.failed(Wire.RESET, now_s, stale=self._uses > 1)
        else:
            recipient.failed(Wire.RESET if exc or self._head is None else Wire.TRUNCATED, now_s)

    def _free(self) -> None:
        """The answer has ended: the next request may have the connection, if it is fit for one."""
        self._recipient = None
        if self._is_head:  # the parser waits for a body that will not come
            self._parser = httptools.HttpResponseParser(self)
        if self._keep and not self._unsent and not self._transport.is_closing():
            self._pool.put_back(self)
        else:
            self._unsent.clear()
            self._transport.close()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        if self._complete:  # what nobody asked for stands behind the answer
            self._surplus, self._keep = True, False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # trailers are not asked for
            self._taken.take(name, value)

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        status = self._parser.get_status_code()
        self._interim = status < 200
        if self._interim:
            self._unreadable = self._unreadable or status == 101
            self._reason, self._taken, self._is_11 = b"", Taken(to_caller=True), False
            return
        taken = self._taken
        low = taken.low
        coding, length = low.get("transfer-encoding"), low.get("content-length")
        version = "1.1" if self._is_11 else self._parser.get_http_version()
        chunked = coding is not None and coding.lower() == b"chunked" and version == "1.1"
        if version not in _VERSIONS or (coding is not None and not chunked):
            self._unreadable = True
        self._keep = self._parser.should_keep_alive()
        size = None if length is None else digits(length, 0, _DIGITS_MAX)[0]
        self._head = Head(
            status, self._reason, low, taken.lines(), tells_limit=taken.tells_limit, length=size
        )
        if bodiless(status, is_head=self._is_head):
            self._complete = True
        else:
            self._until_close = coding is None and length is None

    def on_body(self, data: bytes) -> None:
        if not self._surplus:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._complete = True


class Pool:
    """All connections. The one used last is used first, so that those that are not needed grow old and are closed.

    They are counted by origin, for that is what they can be used for: two providers at one origin share them.
    """

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self.outbox = Outbox()
        self._idle: dict[Origin, list[ProviderConnection]] = {}
        self._all: set[ProviderConnection] = set()
        self._taken: dict[Origin, set[ProviderConnection]] = {}  # also those that are being made
        self._sweep: asyncio.TimerHandle | None = None

    def send(
        self, recipient: Recipient, origin: Origin, head: bytes, body: Pieces, *, is_head: bool, fresh: bool
    ) -> Line:
        """Send a request, on a connection that is open if there is one."""
        idle = self._idle.get(origin)
        while idle and not fresh:
            connection = idle.pop()
            if connection.usable:
                connection.send(recipient, head, body, is_head=is_head)
                return connection
            connection.close()
        connection = ProviderConnection(self, origin)
        taken = self._taken.get(origin)
        if taken is None:
            self._taken[origin] = {connection}
        else:
            taken.add(connection)
        return Dial(self, connection, recipient, head, body, is_head=is_head)

    def has_room(self, origin: Origin, most: int, *, fresh: bool) -> bool:
        """May a request be sent there now, with `most` connections at most, and on a `fresh` one if it has to be?

        Idle ones that are too many, because `most` was more or a fresh one is needed, are closed for it, the oldest
        first. What is being closed does not count.
        """
        taken, waiting = self._taken.get(origin), self._idle.get(origin)
        if taken is None or len(taken) < most:
            return True
        if len(taken) == most and waiting and not fresh:
            return True
        idle = [one for one in waiting or () if not one.closing]
        count = sum(1 for one in taken if one not in self._all or not one.closing)
        too_many = max(0, count - (most - 1 if fresh else most))
        surplus, kept = idle[:too_many], idle[too_many:]
        for connection in surplus:
            connection.close()
        return count - len(surplus) < most or bool(kept)

    async def connect(self, connection: ProviderConnection) -> None:
        """Make it. Raises TimeoutError, OSError, and has forgotten it then."""
        try:
            await self._connect(connection)
        except BaseException:
            self.forget(connection)
            raise

    async def _connect(self, connection: ProviderConnection) -> None:
        loop, origin = asyncio.get_running_loop(), connection.origin
        async with asyncio.timeout(self._connect_s):
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=0.25, loop=loop)
            try:
                name = origin.host if origin.tls else None
                await loop.create_connection(
                    lambda: connection, sock=sock, ssl=origin.tls, server_hostname=name
                )
            except BaseException:
                sock.close()
                raise
        if connection.closing:  # it has been lost before anybody could hear of it
            raise ConnectionResetError
        self._all.add(connection)

    def put_back(self, connection: ProviderConnection) -> None:
        """Its answer has ended, and it may be used again."""
        connection.idle_since_s = monotonic()
        idle = self._idle.get(connection.origin)
        if idle is None:
            self._idle[connection.origin] = [connection]
        else:
            idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._close_old)

    def forget(self, connection: ProviderConnection) -> None:
        """It is closed."""
        self._all.discard(connection)
        taken = self._taken.get(connection.origin)
        if taken is not None:
            taken.discard(connection)
            if not taken:
                del self._taken[connection.origin]
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)

    def _close_old(self) -> None:
        self._sweep = None
        for origin, idle in list(self._idle.items()):
            for connection in [one for one in idle if not one.usable]:
                idle.remove(connection)
                connection.close()
            if not idle:
                del self._idle[origin]
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._close_old)

    def close(self) -> None:
        """Close everything."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._all):
            connection.close()
