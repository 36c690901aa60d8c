"""A provider's port is its own for as long as it lives, and free for the next one right afterwards."""

import asyncio
import socket

import pytest

from pointsman.fake import FakeProvider

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("reuse", [0, 1])
async def test_refuse_keeps_the_port(fake: FakeProvider, reuse: int) -> None:
    """Nobody else can listen on the port of a provider that refuses, as servers commonly do it or otherwise."""
    port = fake.port
    for _ in range(2):
        fake.die()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            with pytest.raises(OSError, match="in use"):
                _listen(other, port)
        fake.revive()
    assert fake.port == port


def _listen(sock: socket.socket, port: int) -> None:
    sock.bind(("127.0.0.1", port))
    sock.listen()


@pytest.mark.parametrize("dead", [False, True])
async def test_a_port_can_be_had_again_at_once(dead: bool) -> None:
    """What is left of connections does not keep the next provider from the port of the last one."""
    async with FakeProvider() as first:
        port = first.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await reader.read()  # it closes first, and so its end of the connection lingers
        writer.close()
        if dead:
            first.die()
    async with FakeProvider(port=port) as second:
        assert second.port == port
