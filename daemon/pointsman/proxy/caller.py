"""Connections of callers: HTTP/1.1 read and written; what a request is and what becomes of it is decided elsewhere."""

import asyncio
import email.utils
import math
from time import monotonic
from typing import Final, Protocol, cast

from pointsman import logs
from pointsman.proxy.alarm import Alarm
from pointsman.proxy.api import Reply
from pointsman.proxy.asked import Asked
from pointsman.proxy.http1 import CONTINUE, LAST_CHUNK, HttpError, bodiless, chunk, status_line
from pointsman.proxy.judging import Head
from pointsman.proxy.outbox import Outbox
from pointsman.proxy.reader import Inbound, Known, RequestReader
from pointsman.proxy.transit import Transit

log = logs.get("proxy")

# A connection without a request is kept open for so long; one that has begun a request has to go on with it.
KEEP_ALIVE_S: Final = 75.0
READ_S: Final = 60.0
# Who is refused may still be sending: what comes is thrown away for a while, so that the refusal is read.
LINGER_S: Final = 2.0
# So many requests are read ahead of the one that is answered. While it is read, it shows when the caller is gone.
WAITING_MAX: Final = 16
_SERVER: Final = b"Server: pointsman\r\n"


class Desk(Protocol):
    """Who takes requests."""

    body_bytes_max: int
    heads: Known
    outbox: Outbox

    def take(self, connection: "CallerConnection", request: Inbound) -> None:
        """Answer `request` by `connection.reply`, or let a transit answer it (`connection.travel`)."""

    def refusal(self, asked: Asked | None, status: int, why: str) -> Reply:
        """What a request gets that is refused for its form."""

    def stranger(self, connection: "CallerConnection", request: Inbound) -> Reply | None:
        """What `request` gets at once, though its body is still coming: None, unless it will be refused anyway."""

    def opened(self, connection: "CallerConnection") -> None:
        """A caller has connected."""

    def closed(self, connection: "CallerConnection") -> None:
        """And is gone."""

    def answered(self) -> None:
        """A request that was taken is over, one way or the other."""


class CallerConnection(asyncio.Protocol):
    """One connection: its requests are answered one after the other. Implements `Caller` for the present transit."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(desk.body_bytes_max, desk.heads)
        self._alarm = Alarm(self._loop, self._ring)
        self._transport: asyncio.Transport
        self._active: Inbound | None = None
        self._transit: Transit | None = None
        self._serving = False
        self._full = False  # more requests have come than the one that is answered
        self._chunked = False
        self._begun = False
        self._out: list[bytes] = []  # written at the end of this turn of the loop
        self._ending = False  # no further request is taken
        self._lingering = False
        self.paused = False
        self.remote = ""

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) else ""
        self._alarm.set(monotonic() + KEEP_ALIVE_S)
        self._desk.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._active is None:
            self._alarm.set(monotonic() + READ_S)
        reader = self._reader
        reader.feed(data)
        if (
            reader.reading is not None
            and self._active is None
            and not reader.waiting
            and not reader.objection
        ):
            stranger = self._desk.stranger(self, reader.reading)
            if stranger is not None:
                self._turn_away(stranger)
                return
            if reader.expects:
                reader.expects = False
                self._put(CONTINUE)
        self._serve()
        if len(reader.waiting) > WAITING_MAX and not self._full:
            self._full = True
            self._transport.pause_reading()  # one request at a time: more of them wait in the kernel

    def eof_received(self) -> None:
        """Whoever sends no more reads no more, either: half of a connection is none."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._alarm.cancel()
        self._out.clear()
        self._reader.waiting.clear()
        transit, self._transit = self._transit, None
        if transit is not None:
            transit.gone()
        if self._active is not None:
            self._active = None
            self._desk.answered()
        self._desk.closed(self)

    def pause_writing(self) -> None:
        self.paused = True
        if self._transit is not None:
            self._transit.hold(held=True)

    def resume_writing(self) -> None:
        self.paused = False
        if self._transit is not None:
            self._transit.hold(held=False)

    # --- one request after the other

    def _serve(self) -> None:
        """Take what can be taken now. Answers that come at once come back here: it is a loop, not a descent."""
        if self._serving:
            return
        reader = self._reader
        self._serving = True
        while self._active is None and reader.waiting and not self._ending:
            request = self._active = reader.waiting.popleft()
            self._ending = not request.asked.keep
            self._begun = False
            self._desk.take(self, request)
        self._serving = False
        if self._active is None and reader.objection is not None and not self._ending:
            self._refuse(reader.objection)

    def _refuse(self, objection: HttpError) -> None:
        reading = self._reader.reading
        asked = None if reading is None else reading.asked
        self._turn_away(self._desk.refusal(asked, objection.status, str(objection)))

    def _turn_away(self, reply: Reply) -> None:
        """`reply` to a request that has not been read to its end, and will not be."""
        self._active = self._reader.reading
        self._ending = True
        self._write_reply(reply)
        self._active = None
        self._linger()

    def _linger(self) -> None:
        """The answer has been written before the request was read to its end."""
        self._lingering = True
        if self._full:
            self._transport.resume_reading()
        self.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._alarm.set(monotonic() + LINGER_S)

    def travel(self, transit: Transit) -> None:
        """`transit` answers the present request."""
        self._transit = transit
        transit.begin(monotonic())

    def done(self) -> None:
        """The present request is answered: the next one may be taken."""
        self._transit = None
        if self._active is None:
            return
        self._active = None
        self._desk.answered()
        if self._ending:
            self._close()
            return
        self._alarm.set(monotonic() + KEEP_ALIVE_S)
        self._serve()
        if self._full and len(self._reader.waiting) <= WAITING_MAX and not self._transport.is_closing():
            self._full = False
            self._transport.resume_reading()

    def _ring(self) -> None:
        if self._transit is not None:
            self._transit.ring(monotonic())
        elif not self._reader.idle and not self._lingering:
            self._refuse(HttpError(408, f"nothing more has come of the request for {READ_S:.0f} s"))
        elif self._active is None:
            self._transport.abort() if self._lingering else self._close()

    def end(self) -> None:
        """Take no further request: idle connections close now, busy ones after their answer."""
        self._ending = True
        if self._active is None:
            self._close()

    def abort(self) -> None:
        """End at once, whatever has not been sent."""
        self._transport.abort()

    def cut_off(self) -> None:
        """Break off what is under way."""
        self._ending = True
        if self._transit is not None:
            self._transit.cut_off()

    # --- writing

    def _put(self, data: bytes) -> None:
        if self._out or self._desk.outbox.holds(self):
            self._out.append(data)
        else:
            if not self._transport.is_closing():
                self._transport.write(data)
            self._desk.outbox.wrote()

    def flush(self) -> None:
        """Write what has been held back."""
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def _close(self) -> None:
        self.flush()
        self._transport.close()

    # --- the caller of a transit

    def reply(self, reply: Reply) -> None:
        """An answer of the proxy's own."""
        self._write_reply(reply)
        self.done()

    def _write_reply(self, reply: Reply) -> None:
        lines = b"%bServer: pointsman\r\nDate: %b\r\nContent-Type: %b\r\n" % (
            reply.lines,
            email.utils.formatdate(usegmt=True).encode(),
            reply.kind,
        )
        self._write(reply.status, b"", lines, reply.body, len(reply.body))

    def whole(self, head: Head, lines: bytes, body: bytes) -> None:
        """A provider's answer that is complete."""
        if "server" not in head.low:
            lines += _SERVER
        known = head.length if self._is_head else len(body)
        self._write(head.status, head.reason, lines, body, known)

    @property
    def _is_head(self) -> bool:
        return self._active is not None and self._active.asked.is_head

    def _write(self, status: int, reason: bytes, lines: bytes, body: bytes, length: int | None) -> None:
        framing = b"" if length is None else b"Content-Length: %d\r\n" % length
        if bodiless(status, is_head=self._is_head):
            body = b""
            framing = framing if self._is_head else b""
        self._put(b"%b%b%b%b\r\n%b" % (status_line(status, reason), lines, framing, self._connection(), body))

    def _connection(self) -> bytes:
        if self._ending:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._active and self._active.asked.http10 else b""

    def begin(self, head: Head, lines: bytes, *, length: int | None) -> None:
        """An answer begins."""
        if "server" not in head.low:
            lines += _SERVER
        http10 = self._active is not None and self._active.asked.http10
        self._chunked = length is None and not http10
        if length is None and http10:
            self._ending = True  # its end is the end of the connection
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        else:
            framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        self._begun = True
        line = status_line(head.status, head.reason)
        self._put(b"%b%b%b%b\r\n" % (line, lines, framing, self._connection()))

    def send(self, data: bytes) -> None:
        """More of its body."""
        self._put(chunk(data) if self._chunked else data)

    def finish(self) -> None:
        """Its end."""
        if self._chunked:
            self._put(LAST_CHUNK)
        self.done()

    def cut(self) -> None:
        """It ends, and must not be taken for whole: what was written still goes out, its framing stays open."""
        self._ending = True
        self.done()

    def alarm(self, due_s: float) -> None:
        """Ring the transit at `due_s`."""
        self._alarm.set(due_s)

    def fail(self, reply: Reply) -> None:
        """The proxy failed on this request: say so, or end what has begun."""
        transit, self._transit = self._transit, None
        if transit is not None:
            transit.gone()
        self._alarm.set(math.inf)
        if self._begun:
            self.cut()
        else:
            self._ending = True
            self.reply(reply)
