"""Callers' connections whose requests are written to the access log; without one, nothing of this is there."""

import time
from datetime import UTC, datetime
from typing import Final

from pointsman.proxy.access_log import AccessLog, Line
from pointsman.proxy.api import Reply
from pointsman.proxy.asked import Asked
from pointsman.proxy.caller import CallerConnection
from pointsman.proxy.http1 import bodiless
from pointsman.proxy.job import Job
from pointsman.proxy.judging import Head
from pointsman.proxy.reader import Inbound
from pointsman.proxy.server import Front

_GONE: Final = 499
_TARGET: Final = b"x-pointsman-target: "
_PATH_MAX: Final = 500


class _Entry:
    """What is known so far of the request that is being answered."""

    __slots__ = ("asked", "at_s", "bytes_in", "bytes_out", "first_s", "job", "since_s", "status", "target")

    def __init__(self, request: Inbound | None) -> None:
        self.asked: Asked | None = request.asked if request else None
        self.bytes_in = sum(map(len, request.parts)) if request else 0
        self.bytes_out = 0
        self.job: Job | None = None
        self.status = _GONE
        self.target = ""
        self.at_s = time.time()
        self.since_s = time.monotonic()
        self.first_s: float | None = None

    def answered(self, head: Head, lines: bytes) -> None:
        """Somebody's answer has come; its headers say whose."""
        self.status = head.status
        start = lines.rfind(_TARGET)
        if start >= 0:
            start += len(_TARGET)
            self.target = lines[start : lines.index(b"\r", start)].decode("latin-1")

    def line(self, proxy: str, end: str) -> Line:
        """It is over."""
        asked, job, now_s = self.asked, self.job, time.monotonic()
        verdict = asked.verdict if asked else None
        record = getattr(job, "record", None)
        return Line(
            time=datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            proxy=proxy,
            method=asked.method if asked else "",
            path=asked.path[:_PATH_MAX] if asked else "",
            status=self.status,
            end=end,
            latency_ms=round((now_s - self.since_s) * 1000, 3),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            attempts=len(record.attempts) if record else 0,
            route=job.route if job else "",
            target=self.target,
            first_token_ms=None if self.first_s is None else round((self.first_s - self.since_s) * 1000, 3),
            request_id=job.id if job else "",
            key=verdict[1] if verdict else "",
            synthetic=asked is not None and asked.synthetic,
        )


class LoggedConnection(CallerConnection):
    """Writes a line for each request, once its answer has left."""

    def __init__(self, desk: "LoggedFront") -> None:
        super().__init__(desk)
        self._log = desk.log
        self._proxy = desk.proxy
        self.entry: _Entry | None = None

    def takes(self, request: Inbound) -> None:
        """A request has come."""
        self.entry = _Entry(request)

    def _over(self, end: str) -> None:
        entry, self.entry = self.entry, None
        if entry is not None:
            self._log.write(entry.line(self._proxy, end))

    def _body(self, status: int, length: int) -> int:
        is_head = self.entry is not None and self.entry.asked is not None and self.entry.asked.is_head
        return 0 if bodiless(status, is_head=is_head) else length

    def _turn_away(self, reply: Reply) -> None:
        self.entry = _Entry(self._reader.reading)
        self.entry.status, self.entry.bytes_out = reply.status, len(reply.body)
        self._over("whole")
        super()._turn_away(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        entry = self.entry
        super().connection_lost(exc)
        if entry is not None:
            entry.status = _GONE
            self._over("gone")

    def reply(self, reply: Reply) -> None:
        if self.entry is not None:
            self.entry.status = reply.status
            self.entry.bytes_out = self._body(reply.status, len(reply.body))
        super().reply(reply)

    def whole(self, head: Head, lines: bytes, body: bytes) -> None:
        if self.entry is not None:
            self.entry.answered(head, lines)
            self.entry.bytes_out = self._body(head.status, len(body))
        super().whole(head, lines, body)

    def done(self) -> None:
        self._over("whole")  # unless another end has been told
        super().done()

    def begin(self, head: Head, lines: bytes, *, length: int | None) -> None:
        if self.entry is not None:
            self.entry.answered(head, lines)
            self.entry.first_s = time.monotonic() if head.is_event_stream else None
        super().begin(head, lines, length=length)

    def send(self, data: bytes) -> None:
        if self.entry is not None:
            self.entry.bytes_out += len(data)
        super().send(data)

    def cut(self) -> None:
        self._over("cut")
        super().cut()


class LoggedFront(Front):
    """The public listener, with an access log. `proxy`: its name in the lines."""

    log: AccessLog
    proxy: str

    def write_to(self, log: AccessLog, proxy: str) -> None:
        """Every request gets its line there, from now on."""
        self.log = log
        self.proxy = proxy

    def connection(self) -> CallerConnection:
        return LoggedConnection(self)

    def take(self, connection: CallerConnection, request: Inbound) -> None:
        if isinstance(connection, LoggedConnection):
            connection.takes(request)
        super().take(connection, request)

    def _forward(self, connection: CallerConnection, job: Job) -> Reply | None:
        if isinstance(connection, LoggedConnection) and connection.entry is not None:
            connection.entry.job = job
        return super()._forward(connection, job)
