"""The listening socket: open, refusing, or a black hole; and the connections that came through it.

A door keeps its port from the beginning to the end. While it refuses, its socket is bound and does not listen: every
connect is answered with a reset, and nobody else can be given the port or listen on it.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
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
        self._accepting = False
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
        if self._accepting:
            return
        sock = self._rest()
        self._listen(sock, BACKLOG)
        asyncio.get_running_loop().add_reader(sock, self._accept)
        self._accepting = True

    def refuse(self) -> None:
        """Refuse connections from now on, and reset those that are open."""
        self._rest()
        self.reset_all()

    def blackhole(self) -> None:
        """Leave connects unanswered: a queue of one place, filled by ourselves, drops what else comes.

        So it is on Linux; elsewhere connects may succeed and then get no answer.
        """
        sock = self._rest()
        self._listen(sock, 0)
        with socket.socket(sock.family, socket.SOCK_STREAM) as filler:
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))  # its place stays taken after it is closed

    def reset_all(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self._connections):
            connection.reset()

    def _hold(self) -> socket.socket:
        """A socket that is bound to the port and does not listen."""
        any_port, sock = not self.port, self._bound()
        self.port = sock.getsockname()[1]
        if any_port and sys.platform == "linux":
            # Only what was bound by its number keeps its port when it ceases to listen.
            with sock:
                return _alone(self._bound())
        return _alone(sock)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _listen(self, sock: socket.socket, backlog: int) -> None:
        # Connections inherit it: what is left of them at the end does not keep a next provider from the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.listen(backlog)
        self._listening = True

    def _rest(self) -> socket.socket:
        """Cease to listen; the socket, which keeps the port."""
        self._look_away()
        if self._socket is not None and self._listening:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
                _alone(self._socket)
            except OSError:  # as it is only on Linux; elsewhere another socket takes the place
                self._let_go()
        self._listening = False
        if self._socket is None:
            self._socket = self._hold()
        return self._socket

    def _look_away(self) -> None:
        if self._socket is not None and self._accepting:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._accepting = False

    def _let_go(self) -> None:
        self._look_away()
        if self._socket is not None:
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


def _alone(sock: socket.socket) -> socket.socket:
    """A bound socket beside which nobody may listen, whatever he sets."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return sock
