"""When what is written leaves."""

import asyncio
import socket
import threading
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from pointsman.proxy.outbox import Outbox

pytestmark = pytest.mark.anyio


class Writer:
    """A connection with something to write: `left` says what has left, in order."""

    def __init__(self, outbox: Outbox, left: list[str], name: str) -> None:
        self._outbox = outbox
        self._left = left
        self._name = name
        self._kept = 0

    def write(self) -> None:
        if self._kept or self._outbox.holds(self):
            self._kept += 1
        else:
            self._left.append(self._name)
            self._outbox.wrote()

    def flush(self) -> None:
        self._left += [self._name] * self._kept
        self._kept = 0


def writers() -> tuple[list[str], Writer, Writer, Writer]:
    """(what has left, three connections of one outbox)."""
    outbox, left = Outbox(), list[str]()
    return left, Writer(outbox, left, "a"), Writer(outbox, left, "b"), Writer(outbox, left, "c")


async def turn() -> None:
    """One turn of the loop, and what was put off until its end."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_where_little_comes_nothing_waits() -> None:
    """One in each turn leaves at once, and so does whatever else it has in that turn."""
    left, a, b, _ = writers()
    for number, writer in enumerate((a, b, a), 1):
        writer.write()
        writer.write()
        assert left == ["a", "a", "b", "b", "a", "a"][: 2 * number]
        await turn()


async def test_others_of_the_same_turn_leave_at_its_end() -> None:
    """The first is written at once; those that come on top wait for each other."""
    left, a, b, c = writers()
    for writer in (a, b, c, b):
        writer.write()
    assert left == ["a"]
    await turn()
    assert left == ["a", "b", "b", "c"]


async def test_after_a_turn_of_many_the_first_waits_too() -> None:
    """What comes in at once leaves together: everybody has been looked at by then."""
    left, a, b, _ = writers()
    a.write()
    b.write()
    await turn()
    left.clear()
    a.write()
    assert left == []
    b.write()
    await turn()
    assert left == ["a", "b"]


async def test_when_it_is_quiet_again_nothing_waits() -> None:
    """One turn with a single connection is enough to say so."""
    left, a, b, _ = writers()
    a.write()
    b.write()
    await turn()
    a.write()
    await turn()
    left.clear()
    b.write()
    assert left == ["b"]


class Echo(asyncio.Protocol):
    """Sends back what comes, and stays in the callback until `read` says that it has been read, or 5 s are over."""

    def __init__(self, read: threading.Event) -> None:
        self._read = read
        self.in_time = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)
        self.in_time = self._read.wait(5)


@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": uvloop}) for uvloop in (False, True)],
    ids=["asyncio", "uvloop"],
)
async def test_what_is_written_leaves_in_the_write(anyio_backend: Any) -> None:
    """And not when the callback that writes it is over: whoever waits for it has it while other things are done."""
    read = threading.Event()
    echo = Echo(read)
    server = await asyncio.get_running_loop().create_server(lambda: echo, "127.0.0.1", 0)

    def ask() -> None:
        with socket.create_connection(server.sockets[0].getsockname(), timeout=10) as asking:
            asking.sendall(b"hello")
            assert asking.recv(5) == b"hello"
            read.set()

    async with server:
        await anyio.to_thread.run_sync(ask)
    assert echo.in_time
