"""Another configuration file: what it adds or changes counts at once, what is gone from it once no table has it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from opentelemetry.trace import NoOpTracer

from pointsman.config.models import Settings
from pointsman.core.table import Table
from pointsman.fake import digest
from pointsman.proxy.process import Proxy
from support import eventually

pytestmark = pytest.mark.anyio
ALL_TO_B = {"b": 10_000}


class Running:
    """A proxy that can be reloaded, and somebody who calls it."""

    def __init__(self, proxy: Proxy, url: str, session: aiohttp.ClientSession, world: Any) -> None:
        self.proxy = proxy
        self._url = url
        self._session = session
        self._world = world

    async def target(self) -> str:
        """Who answers a chat completion."""
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as response:
            await response.read()
            assert response.status == 200
            return response.headers["x-pointsman-target"]

    async def missing(self, table: Table) -> dict[str, str]:
        """What the proxy cannot serve of `table`, by its own report."""

        async def told() -> Any:
            reports = await self._world.store.reports()
            return reports and reports[0].serving == table.version and reports[0]

        return dict((await eventually(told)).missing)


@contextlib.asynccontextmanager
async def running(world: Any, state_dir: Path) -> AsyncIterator[Running]:
    """A proxy with a table of the route "chat", all of it to b."""
    proxy = Proxy(
        world.settings(), name="p9", boot="b", store=world.store, state_dir=state_dir, tracer=NoOpTracer()
    )

    async def run(*, task_status: Any) -> None:
        await proxy.run(task_status=task_status)

    async with anyio.create_task_group() as tasks, aiohttp.ClientSession() as session:
        address = await tasks.start(run)
        await eventually(lambda: proxy.ready)
        yield Running(proxy, f"http://{address}", session, world)
        proxy.stop()


async def two(world: Any) -> tuple[Any, Any]:
    """Providers a and b; chat is pinned to b."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", shares_bp=ALL_TO_B)
    await world.publish()
    return first, second


def without_b(world: Any) -> Settings:
    """The file without b, its target, and its place in the chain."""
    data = world.settings().model_dump(exclude_unset=True)
    del data["providers"]["b"], data["targets"]["b"]
    data["routes"]["chat"] = {"weights": {"a": 100}, "chain": ("a",)}
    return Settings.model_validate(data)


async def test_a_provider_that_the_table_has_stays(world: Any, state_dir: Path) -> None:
    """The file has it no more, and nobody has agreed to that yet: it is served as before, with its own key."""
    _, second = await two(world)
    async with running(world, state_dir) as run:
        run.proxy.reload(without_b(world))
        assert await run.target() == "b"
        table = await world.publish()
        assert await run.missing(table) == {}
        assert await run.target() == "b"
    assert second.requests.last.credential_sha256 == digest("sk-provider-secret-b")


async def test_a_provider_that_no_table_has_is_gone_for_good(world: Any, state_dir: Path) -> None:
    """One table without it, and the next that has it is told that the file has not."""
    await two(world)
    async with running(world, state_dir) as run:
        run.proxy.reload(without_b(world))
        fake = world.providers.pop("b")
        world.route("chat", chain="a")
        assert await run.missing(await world.publish()) == {}
        world.providers["b"] = fake
        world.route("chat", chain="b a")
        missing = await run.missing(await world.publish())
        assert missing == {"b": "provider b is not in this proxy's configuration"}
        assert await run.target() == "a"


async def test_a_provider_that_moves_is_served_where_the_table_has_it(world: Any, state_dir: Path) -> None:
    """The file names another host: the old one until a table says otherwise, then the new one and the old no more."""
    new = await world.provider("c")
    del world.providers["c"]
    _, old = await two(world)
    async with running(world, state_dir) as run:
        world.providers["c"] = new
        data = world.settings().model_dump(exclude_unset=True)
        data["providers"]["b"]["base_url"] = new.base_url
        data["providers"]["b"]["credentials"] = data["providers"]["c"]["credentials"]
        del world.providers["c"], data["providers"]["c"], data["targets"]["c"]
        run.proxy.reload(Settings.model_validate(data))
        assert await run.target() == "b"
        assert old.requests.last.credential_sha256 == digest("sk-provider-secret-b")
        assert await run.missing(await world.publish(base_urls={"b": new.base_url})) == {}
        assert await run.target() == "b"
        assert new.requests.last.credential_sha256 == digest("sk-provider-secret-c")
        assert old.requests.total == 1
        missing = await run.missing(await world.publish())
    assert old.origin in missing["b"]


async def test_what_cannot_move_stays_with_a_target_that_the_file_has_no_more(
    world: Any, state_dir: Path
) -> None:
    """Embeddings and kept things go to the configured first for as long as the table has it."""
    await world.provider("a")
    await world.provider("b")
    world.route("chat", chain="b a")
    await world.publish()
    async with running(world, state_dir) as run:
        run.proxy.reload(without_b(world))
        view = run.proxy._feed.view
    assert view is not None
    assert view.home == {"chat": "b"}
    assert view.endpoints["b"].usd_in == 1e-6


async def test_what_is_new_in_the_file_counts_at_once(world: Any, state_dir: Path) -> None:
    """Before a table has it: the first table that does is served whole."""
    new = await world.provider("c")
    del world.providers["c"]
    await two(world)
    async with running(world, state_dir) as run:
        world.providers["c"] = new
        run.proxy.reload(world.settings())
        world.route("chat", chain="c a b")
        assert await run.missing(await world.publish()) == {}
        assert await run.target() == "c"
