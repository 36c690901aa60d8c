"""Several proxies on one address, as children of one small process.

    worker    what happens                          → what follows
    away      its pause is over                     → up (a new child)
    up        it says READY=1                       → ready; once all are, so is the whole
    any       it ends, before all were ever ready   → the whole ends, with its exit code
    any       it ends, or is silent for too long    → away, for a pause that doubles up to PAUSE_MAX_S
    any       SIGTERM, SIGINT                       → every child drains and ends, and then so does the whole
    any       the same again                        → every child is killed
    any       SIGHUP                                → passed on; the file is read here too, for who starts later
    any       the parent is gone                    → the child hears it (the pair of sockets ends), drains and ends

Each child is a proxy of its own to everybody else (NAME.1 …). On TCP the system spreads connections over their
listening sockets (SO_REUSEPORT); a unix socket is the parent's, and whoever is free accepts. The parent only waits: it
has no event loop and no thread, so that it may fork at any time, and a child that starts again is there at once.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from pointsman import logs, systemd
from pointsman.config import reload as reloading
from pointsman.config.models import Settings
from pointsman.proxy.listening import Place

_log = logs.get("workers")

PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0
# Who has lived for so long has not failed at its start: the next pause is a short one again.
STEADY_S: Final = 10.0
# An orphan that has not ended so long after its drain is ended by its own watch.
_ORPHAN_S: Final = 5.0
_STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)

# Runs a proxy with these settings until it is told to end; its exit code.
Serve = Callable[[Settings, str, Place], int]


class Worker:
    """One of them: its name, and its child while there is one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = 0
        self.line: socket.socket | None = None
        self.ready = False
        self.behind = False  # it has not read the file that others are reading again
        self.began_s = 0.0
        self.heard_s = 0.0
        self.due_s = 0.0
        self.pause_s = PAUSE_MIN_S


class Crew:
    """The parent. `run` once; it forks, so nothing else may run in this process."""

    def __init__(
        self, settings: Settings, path: Path, name: str, count: int, place: Place, serve: Serve
    ) -> None:
        self._settings = settings
        self._path = path
        self._place = place
        self._serve = serve
        self._workers = [Worker(f"{name}.{number}") for number in range(1, count + 1)]
        self._selector = selectors.DefaultSelector()
        self._patience_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        self._sign_s = 0.0
        self._stopping = False
        self._was_ready = False
        self._owes_ready = True
        self._code = 0

    def run(self) -> int:
        """Until told to end, or until one fails at the start; the exit code."""
        gc.freeze()  # what is loaded by now is never looked at again, so that children go on sharing it
        with self._signals() as signals:
            self._selector.register(signals, selectors.EVENT_READ, self._obey)
            while True:
                now_s = time.monotonic()
                for worker in self._workers:
                    if not worker.pid and not self._stopping and now_s >= worker.due_s:
                        self._start(worker, now_s)
                if self._stopping and not any(worker.pid for worker in self._workers):
                    return self._code
                for key, _ in self._selector.select(self._wait_s(now_s)):
                    key.data(key.fileobj)
                self._reap()
                self._watch(time.monotonic())

    def _wait_s(self, now_s: float) -> float | None:
        due = [worker.due_s - now_s for worker in self._workers if not worker.pid and not self._stopping]
        if self._patience_s:
            due.append(self._patience_s / 3)
        return max(0.0, min(due)) if due else None

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """A socket that gets the number of every signal."""
        ours, written = socket.socketpair()
        ours.setblocking(False)
        written.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        fd = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _obey(self, signals: socket.socket) -> None:
        for number in map(signal.Signals, signals.recv(4096)):
            if number is signal.SIGHUP and not self._stopping:
                self._reload()
            elif number in _STOPPING:
                _log.info("{signal}: stopping", signal=number.name)
                self._stop(again=self._stopping)

    def _stop(self, *, again: bool = False) -> None:
        if not again:
            systemd.notify("STOPPING=1")
        self._stopping = True
        self._tell(signal.SIGKILL if again else signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:  # ours until it is reaped, so that the number is nobody else's
                os.kill(worker.pid, number)

    def _reload(self) -> None:
        """What children read by themselves is read here as well: one that starts later may meet a bad file."""
        systemd.notify(systemd.reloading())
        reloaded = reloading.reload(self._settings, self._path)
        self._settings = reloaded.settings
        self._owes_ready = True
        for worker in self._workers:
            if worker.ready:
                worker.ready = False
                os.kill(worker.pid, signal.SIGHUP)
            elif worker.pid:
                worker.behind = True  # it could not hear it yet

    # --- children

    def _start(self, worker: Worker, now_s: float) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none may meet the parent's handlers in a child
        pid = os.fork()
        if not pid:
            ours.close()
            self._become(worker, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        ours.setblocking(False)
        worker.pid, worker.line, worker.ready, worker.behind = pid, ours, False, False
        worker.began_s = worker.heard_s = now_s
        self._selector.register(ours, selectors.EVENT_READ, lambda _: self._hear(worker))

    def _become(self, worker: Worker, line: socket.socket) -> NoReturn:
        """From here on this is the child."""
        code = 1
        try:
            # Out of the terminal's group: a Ctrl-C is the parent's, who passes it on once.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN if number is signal.SIGHUP else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            # An end of another child's pair that is open here would keep that child from hearing of its parent's death.
            for other in self._workers:
                if other.line is not None:
                    other.line.close()
            self._selector.close()
            systemd.redirect(line)
            drain_s = self._settings.proxy.drain_s
            threading.Thread(target=_follow, args=(line, drain_s), daemon=True, name="parent").start()
            code = self._serve(self._settings, worker.name, self._place)
        except BaseException:  # noqa: BLE001 - the border of a process: nothing of the parent's may run in it
            _log.exception("{worker} has failed", worker=worker.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _hear(self, worker: Worker) -> None:
        try:
            heard = worker.line.recv(65_536) if worker.line else b""
        except OSError:
            heard = b""
        if not heard:
            self._hang_up(worker)
            return
        worker.heard_s = time.monotonic()
        if b"READY=1" in heard.split(b"\n"):
            worker.ready = not worker.behind
            if worker.behind and not self._stopping:
                worker.behind = False
                os.kill(worker.pid, signal.SIGHUP)
        if self._owes_ready and all(one.ready for one in self._workers):
            self._owes_ready, self._was_ready = False, True
            systemd.notify(f"READY=1\nSTATUS={len(self._workers)} workers")

    def _hang_up(self, worker: Worker) -> None:
        if worker.line is not None:
            self._selector.unregister(worker.line)
            worker.line.close()
            worker.line = None

    def _reap(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            pid, status = os.waitpid(worker.pid, os.WNOHANG) if worker.pid else (0, 0)
            if not pid:
                continue
            self._hang_up(worker)
            worker.pid, worker.ready = 0, False
            if self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if not self._was_ready:
                self._code = code if code > 0 else 1
                self._stop()
                continue
            if now_s - worker.began_s >= STEADY_S:
                worker.pause_s = PAUSE_MIN_S
            worker.due_s, pause_s = now_s + worker.pause_s, worker.pause_s
            worker.pause_s = min(2 * worker.pause_s, PAUSE_MAX_S)
            how = f"code {code}" if code >= 0 else signal.Signals(-code).name
            _log.error(
                "{worker} has ended ({how}) and is started again in {pause_s} s",
                worker=worker.name, pid=pid, how=how, pause_s=pause_s,
            )  # fmt: skip

    def _watch(self, now_s: float) -> None:
        """The service manager hears of us; who of them is silent for as long as it would wait is ended."""
        if not self._patience_s:
            return
        for worker in self._workers:
            if worker.pid and now_s - worker.heard_s > self._patience_s:
                _log.error("{worker} gives no sign of life and is ended", worker=worker.name, pid=worker.pid)
                worker.heard_s = now_s
                os.kill(worker.pid, signal.SIGKILL)
        if now_s - self._sign_s >= self._patience_s / 4:
            self._sign_s = now_s
            systemd.notify("WATCHDOG=1")


def _follow(line: socket.socket, drain_s: float) -> None:
    """In a child: end when the parent has."""
    try:
        while line.recv(1):
            pass
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_s + _ORPHAN_S)
    os._exit(1)
