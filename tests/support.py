"""What tests of every part share: waiting for something with a deadline, ports, and a real store."""

import contextlib
import inspect
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pointsman.proxy import transit
from pointsman.store import leash
from pointsman.store.embedded import find_binary

# Tests that exchange parts of the proxy or its constants: where they are compiled, they are fixed.
interpreted = pytest.mark.skipif(
    not str(transit.__file__).endswith(".py"),
    reason="it exchanges parts of the proxy, which are compiled here",
)

Predicate = Callable[[], Any] | Callable[[], Awaitable[Any]]


async def eventually(predicate: Predicate, timeout_s: float = 5.0) -> Any:
    """The first truthy value of `predicate` (sync or async); TimeoutError naming it when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout_s} s: {_source(predicate)}")
        await anyio.sleep(0.005)


def _source(predicate: Predicate) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on but who is told to, for as long as this process lives.

    It stays bound, without listening: it refuses, and the system gives it to nobody who asks for any port. A server
    that sets SO_REUSEADDR may listen on it, as often as it likes; so it is on Linux, elsewhere the port is let go.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
        if sys.platform == "linux":
            held.detach()
        return port


class ValkeyServer:
    """A real Valkey on a unix socket in `folder`, with an append-only file; to be killed, stopped and restarted."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id; only while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = [
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self._folder),
            "--save",
            "",
        ]
        arguments += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--logfile",
            "valkey.log",
            *self._options,
        ]
        # On the leash, so that a test run which is killed leaves no server behind.
        command = [
            sys.executable,
            "-I",
            "-S",
            leash.__file__,
            str(os.getpid()),
            find_binary(None),
            *arguments,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10.0
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "valkey.log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.005)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(self.socket))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server does nothing (SIGSTOP) inside the block; its sockets still accept what is sent."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)
