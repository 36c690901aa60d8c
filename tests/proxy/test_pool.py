"""Connections to a provider, counted: with real sockets, on both kinds of loops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from pointsman.core.errors import Wire
from pointsman.proxy.judging import Head
from pointsman.proxy.provider import Pool
from pointsman.proxy.routing import Origin
from pointsman.proxy.sides import Line
from support import eventually, free_port

pytestmark = pytest.mark.anyio

GOOD: Final = "/"
LAST: Final = "/last"  # the provider closes the connection after its answer
SILENT: Final = "/silent"  # no answer comes


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The proxy runs on uvloop where that is to be had: when a connection counts as closed must not depend on it."""
    return "asyncio", {"use_uvloop": request.param}


class Asking:
    """Who hears what comes of a request. `then`: what it does when it hears of the end, at once."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.ended = False
        self.wire: Wire | None = None
        self.found: Any = None
        self._then = then

    def heard(self, head: Head | None, data: bytes, now_s: float, *, ended: bool) -> None:
        self.ended = ended
        if ended:
            self.found = self._then()

    def failed(self, wire: Wire, now_s: float, *, stale: bool = False) -> None:
        self.wire = wire
        self.found = self._then()


class Provider:
    """A provider and a pool. `made`: connections that were made to it, `open`: those of them that are open now."""

    def __init__(self) -> None:
        self.pool = Pool(5.0)
        self.made = 0
        self.open = 0
        self._asked: list[tuple[Line, Asking]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                if path != SILENT:
                    more = b"connection: close\r\n" if path == LAST else b""
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + more + b"\r\nok")
        self.open -= 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def listens_on(self, port: int) -> None:
        self.origin = Origin("127.0.0.1", port, None)

    def send(self, asking: Asking, path: str = GOOD, *, fresh: bool = False) -> Line:
        head = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
        line = self.pool.send(asking, self.origin, head, b"", is_head=False, fresh=fresh)
        self._asked.append((line, asking))
        return line

    def has_room(self, most: int, *, fresh: bool = False) -> bool:
        return self.pool.has_room(self.origin, most, fresh=fresh)

    async def idle(self, number: int) -> None:
        """So many connections that lie idle."""
        asking = [Asking() for _ in range(number)]
        for one in asking:
            self.send(one, fresh=True)
        await eventually(lambda: all(one.ended for one in asking))

    async def end(self) -> None:
        """Let go of every connection."""
        for line, asking in self._asked:
            line.drop(asking)
        self.pool.close()
        await eventually(lambda: not self.open)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """It listens on loopback."""
    made = Provider()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.listens_on(server.sockets[0].getsockname()[1])
    yield made
    await made.end()
    server.close()
    await server.wait_closed()


async def test_a_connection_that_is_being_made_counts(provider: Provider) -> None:
    """From the moment on in which it is asked for: many requests may come in one turn of the loop."""
    assert provider.has_room(2)
    provider.send(Asking(), SILENT)
    assert provider.has_room(2)
    provider.send(Asking(), SILENT)
    assert not provider.has_room(2)


async def test_a_connection_that_is_used_counts_until_its_answer_has_ended(provider: Provider) -> None:
    """Then there is room on it, and nothing else is made for the next request."""
    asking = Asking()
    provider.send(asking)
    assert not provider.has_room(1)
    await eventually(lambda: asking.ended)
    assert provider.has_room(1)
    provider.send(again := Asking())
    assert not provider.has_room(1)
    await eventually(lambda: again.ended)
    assert provider.made == 1


async def test_other_origins_have_places_of_their_own(provider: Provider) -> None:
    """What is left over from before a provider moved is not in its way."""
    await provider.idle(2)
    elsewhere = Origin("127.0.0.1", provider.origin.port + 1, None)
    assert provider.pool.has_room(elsewhere, 1, fresh=False)


async def test_an_idle_connection_gives_way_to_a_fresh_one(provider: Provider) -> None:
    """A request that is sent once needs one: it is not refused, and there are never two."""
    await provider.idle(1)
    assert provider.has_room(1, fresh=True)
    provider.send(Asking(), SILENT, fresh=True)
    await eventually(lambda: (provider.made, provider.open) == (2, 1))


async def test_no_idle_connection_gives_way_where_there_is_room(provider: Provider) -> None:
    """A fresh one is made beside it."""
    await provider.idle(1)
    assert provider.has_room(2, fresh=True)
    provider.send(Asking(), SILENT, fresh=True)
    await eventually(lambda: (provider.made, provider.open) == (2, 2))


async def test_a_lower_limit_closes_what_lies_idle(provider: Provider) -> None:
    """A reload has lowered it: the surplus goes, the rest is used, and what is closing is no room."""
    await provider.idle(3)
    assert provider.has_room(1)
    provider.send(Asking(), SILENT)
    assert not provider.has_room(1)
    await eventually(lambda: (provider.made, provider.open) == (3, 1))


async def test_a_lower_limit_refuses_until_few_enough_are_left(provider: Provider) -> None:
    """Two are in use where one may be: a third is not made of the idle one either."""
    lines = [provider.send(asking := Asking(), SILENT), provider.send(Asking(), SILENT)]
    await provider.idle(1)
    assert not provider.has_room(1)
    lines[0].drop(asking)
    assert not provider.has_room(1)
    await eventually(lambda: provider.open == 1)


async def test_who_is_refused_leaves_room_before_anybody_hears_of_it(provider: Provider) -> None:
    """The next target of the chain may be one of the same provider."""
    provider.listens_on(free_port())
    asking = Asking(then=lambda: provider.has_room(1))
    provider.send(asking)
    await eventually(lambda: asking.wire)
    assert (asking.wire, asking.found) == (Wire.REFUSED, True)


async def test_an_answer_that_ends_its_connection_leaves_room_before_anybody_hears_of_it(
    provider: Provider,
) -> None:
    """It is being closed."""
    asking = Asking(then=lambda: provider.has_room(1))
    provider.send(asking, LAST)
    await eventually(lambda: asking.ended)
    assert asking.found is True


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["not-begun", "begun", "on-its-way"])
async def test_who_is_dropped_while_connecting_leaves_room_at_once(provider: Provider, turns: int) -> None:
    """The caller has gone, or the time is over; and nothing is left of it later."""
    asking = Asking()
    line = provider.send(asking)
    for _ in range(turns):
        await asyncio.sleep(0)
    line.drop(asking)
    assert provider.has_room(1)
    await provider.idle(1)
    await eventually(lambda: provider.open == 1)


async def test_who_is_dropped_in_its_answer_leaves_room_at_once(provider: Provider) -> None:
    """The connection is broken off, and the same turn may need its place."""
    asking = Asking()
    line = provider.send(asking, SILENT)
    await eventually(lambda: provider.open == 1)
    assert not provider.has_room(1)
    line.drop(asking)
    assert provider.has_room(1)


async def test_nothing_is_kept_of_an_origin_without_connections(provider: Provider) -> None:
    """Each reload of a certificate authority is another origin."""
    await provider.idle(2)
    assert provider.pool._taken
    provider.pool.close()
    await eventually(lambda: not provider.pool._taken)


async def test_a_connection_that_is_lost_in_the_making_fails_its_request(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes before the request is on it: nobody waits for an answer, and no place is taken."""
    loop = asyncio.get_running_loop()
    create = loop.create_connection

    async def lost_at_once(*args: Any, **more: Any) -> Any:
        made = await create(*args, **more)
        made[0].abort()
        for _ in range(3):  # turns of the loop, in which the connection hears of it
            await asyncio.sleep(0)
        return made

    monkeypatch.setattr(loop, "create_connection", lost_at_once)
    provider.send(asking := Asking())
    await eventually(lambda: asking.wire)
    assert (asking.wire, provider.pool._taken) == (Wire.RESET, {})
