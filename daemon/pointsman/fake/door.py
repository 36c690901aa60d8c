"""The listening socket: open, refusing, or a black hole; and the connections that came through it.

A door that refuses keeps its port: a socket that is bound and never listens answers every connect with a reset,
and nobody else can be given the port meanwhile.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import anyio
from anyio.abc import TaskGroup

from pointsman.fake.wire import Connection, Handler, HungUp, serve

BACKLOG: Final = 1024
_ACCEPTS_AT_ONCE: Final = 64


class Door:
    """Where connections come in. All changes are immediate: when a method returns, the kernel knows.

    `port` 0 lets the system choose one, which is then kept; `tls_failures` counts handshakes that failed.
    """

    def __init__(self, host: str, port: int, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = port
        self.accepted = 0
        self.tls_failures = 0
        self._handler = handler
        self._tls = tls
        self._socket: socket.socket | None = None
        self._listening = False
        self._connections: set[Connection] = set()
        self._tasks: TaskGroup

    @property
    def origin(self) -> str:
        """https://127.0.0.1:9101 (for as long as the door exists, open or not)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """Hold the port for as long as the block lasts. Raises OSError when it cannot be had."""
        self._socket = self._hold()
        try:
            yield
        finally:
            self._let_go()

    def open(self, tasks: TaskGroup) -> None:
        """Begin to listen on the port that is held; connections are served in `tasks`."""
        self._tasks = tasks
        self.reopen()

    def reopen(self) -> None:
        """Listen again."""
        if self._listening:
            return
        self._let_go()
        self._socket = self._hold()
        self._socket.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)
        self._listening = True

    def refuse(self) -> None:
        """Refuse connections from now on, and reset those that are open."""
        self._let_go()
        self._socket = self._hold()
        self.reset_all()

    def blackhole(self) -> None:
        """Leave connects unanswered: a queue of one place, filled by ourselves, drops what else comes.

        So it is on Linux; elsewhere connects may succeed and then get no answer.
        """
        self._let_go()
        self._socket = self._hold()
        self._socket.listen(0)
        with socket.socket(self._socket.family, socket.SOCK_STREAM) as filler:
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))  # its place stays taken after it is closed

    def reset_all(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self._connections):
            connection.reset()

    def _hold(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        return sock

    def _let_go(self) -> None:
        if self._socket is not None:
            if self._listening:
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = None
        self._listening = False

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if self._socket is None:
                return
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            accepted.setblocking(False)
            # asyncio does this only for sockets whose protocol number is set: without it, streams wait for ACKs.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._tasks.start_soon(self._serve, accepted)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            connection = await Connection.accept(accepted, self._tls)
        except OSError:
            self.tls_failures += 1
            return
        self._connections.add(connection)
        try:
            with contextlib.suppress(HungUp):
                await serve(connection, self._handler)
                await connection.lost()
        finally:
            connection.abort()
            with anyio.CancelScope(shield=True):
                await connection.lost()
            self._connections.discard(connection)
