"""The access log: a line of JSON per request, written beside the loop.

What is to be written waits in a bounded queue for a thread, which empties it a few times a second. A disk or a pipe
that takes nothing holds up nobody: what does not fit is dropped, counted, and told.
"""

import os
import select
import stat
import threading
import time
from collections import deque
from typing import Final

import msgspec
from msgspec import Struct

from pointsman import logs
from pointsman.config.errors import ConfigError, Problem

log = logs.get("proxy.access")

FLUSH_S: Final = 0.25
LINES_MAX: Final = 20_000
TELL_S: Final = 60.0
# One write of whole lines: as large as a pipe takes in one piece beside other writers, or as a file likes it.
_PIECE_BYTES: Final = {True: 1 << 16, False: 4096}
_END_S: Final = 1.0
_MODE: Final = 0o640
_STDERR: Final = 2


class Line(Struct, kw_only=True, omit_defaults=True):
    """One request. No body, no header, no query and no address; `key` is the name of the caller's key.

    `time` is when it had come, `latency_ms` from then to the end of its answer, `first_token_ms` to the first event of
    a stream. `end`: whole, cut (the answer broke off, visibly), or gone (the caller hung up: status 499). Bytes are the
    bodies'. `target` is who answered, and missing where the proxy did itself. `failed`: "target: why" of those attempts
    that came to nothing, in their order.
    """

    time: str
    proxy: str
    method: str
    path: str
    status: int
    end: str
    latency_ms: float
    bytes_in: int
    bytes_out: int
    attempts: int
    route: str = ""
    target: str = ""
    failed: tuple[str, ...] = ()
    first_token_ms: float | None = None
    request_id: str = ""
    key: str = ""
    synthetic: bool = False


class AccessLog:
    """Takes lines, and writes them to standard error or to a file. `start` once, `close` once."""

    def __init__(self, path: str | None) -> None:
        """Raises ConfigError if the file cannot be written."""
        self._path = path
        self._file = _STDERR if path is None else _opened(path)
        self._next: int | None = None
        self._waiting: deque[bytes] = deque()
        self._due = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._encoder = msgspec.json.Encoder()
        # Each is counted by one thread only.
        self._overflowed = 0
        self._unwritten = 0
        self._told = 0
        self._told_s = -TELL_S

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, line: Line) -> None:
        """To be written soon. Never waits."""
        waiting = self._waiting
        if len(waiting) >= LINES_MAX:
            self._overflowed += 1
            return
        waiting.append(self._encoder.encode(line) + b"\n")
        if len(waiting) == LINES_MAX // 2:
            self._due.set()

    def reopen(self) -> None:
        """Go on in a new file of the same name: the old one was moved away. Raises ConfigError, and keeps the old."""
        if self._path is not None:
            self._next = _opened(self._path)
            self._due.set()

    def close(self) -> None:
        """Write what is waiting, within a second."""
        self._ending = True
        self._due.set()
        self._thread.join(_END_S)

    # --- the thread

    def _run(self) -> None:
        while True:
            self._due.wait(FLUSH_S)
            self._due.clear()
            ending = self._ending
            self._take_next()
            self._empty()
            self._tell()
            if ending:
                if self._file != _STDERR:
                    os.close(self._file)
                return

    def _take_next(self) -> None:
        new, self._next = self._next, None
        if new is not None:
            self._empty()
            os.close(self._file)
            self._file = new

    def _empty(self) -> None:
        """Write all that is waiting, in pieces of whole lines."""
        waiting = self._waiting
        limit = _PIECE_BYTES[stat.S_ISREG(os.fstat(self._file).st_mode)]
        while waiting:
            piece, size = [waiting.popleft()], 0
            while waiting and (size := size + len(piece[-1])) + len(waiting[0]) <= limit:
                piece.append(waiting.popleft())
            try:
                self._put(b"".join(piece))
            except OSError:
                self._unwritten += len(piece)

    def _put(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:  # somebody who shares it does not want to wait; a thread may
                select.select([], [self._file], [], FLUSH_S)
                if self._ending:
                    raise

    def _tell(self) -> None:
        dropped = self._overflowed + self._unwritten
        now_s = time.monotonic()
        if dropped > self._told and (now_s - self._told_s >= TELL_S or self._ending):
            log.warning(
                "{lines} lines of the access log were dropped: {place} does not take them (as fast)",
                lines=dropped - self._told,
                place=self._path or "standard error",
            )
            self._told, self._told_s = dropped, now_s


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
    except OSError as error:
        why = f"the file cannot be written: {error.strerror}"
        cure = "make its folder, and let this process write there"
        raise ConfigError([Problem(path, None, "proxy.access_log_file", why, cure)]) from None
