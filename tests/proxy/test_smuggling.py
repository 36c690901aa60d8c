"""Nothing ambiguous is taken in: it is refused, its connection ends, and no provider hears of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rawhttp import connected
from smuggling_corpus import CORPUS, HONEST, SMUGGLED, Flaw

pytestmark = pytest.mark.anyio


@pytest.fixture
async def front(world: Any, running_proxy: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A caller of a proxy, and the one provider behind it."""
    fake = await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy() as caller:
        yield caller, fake


@pytest.mark.parametrize("request_", HONEST.values(), ids=HONEST)
async def test_the_honest_request_passes(front: Any, request_: bytes) -> None:
    """What the corpus is made of is forwarded as long as nothing is wrong with it; so is the next one behind it."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(request_ + SMUGGLED)
        assert [(await wire.reply()).status, (await wire.reply()).status] == [200, 200]
    assert fake.requests.total == 1


def test_the_corpus_names_each_flaw_once() -> None:
    """Two flaws of one name would be one, told twice."""
    names = [flaw.name for flaw in CORPUS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("flaw", CORPUS, ids=lambda flaw: flaw.name)
async def test_a_flaw_is_refused_and_ends_the_connection(front: Any, flaw: Flaw) -> None:
    """One answer, which says what is wrong; then the end, whatever else was sent; nothing reached the provider."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(flaw.request + SMUGGLED)
        reply = await wire.reply()
        assert reply.status in flaw.statuses, reply.body[:300]
        assert await wire.rest() == b""
        assert reply.says_close
    assert fake.requests.total == 0
