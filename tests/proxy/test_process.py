"""A proxy's life: it lets its callers finish before it ends, and takes rotated secrets while it runs."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from opentelemetry.trace import NoOpTracer

from pointsman.fake import digest
from pointsman.proxy.process import Proxy
from support import eventually

pytestmark = pytest.mark.anyio


async def slow_chat(world: Any, tokens: int = 20) -> Any:
    """A provider whose streams take about a second, or as many as there are tokens for."""
    fake = await world.provider("a", token_delay_ms=50.0, tokens=tokens)
    world.route("chat", chain="a")
    await world.publish()
    return fake


def proxy_of(world: Any, state_dir: Path, **settings: Any) -> Proxy:
    """A proxy that has not begun to run."""
    return Proxy(
        world.settings(**settings),
        name="p9",
        boot="b",
        store=world.store,
        state_dir=state_dir,
        tracer=NoOpTracer(),
    )


@contextlib.asynccontextmanager
async def running(proxy: Proxy, scope: anyio.CancelScope | None = None) -> AsyncIterator[str]:
    """Run it (in `scope`, if one is given); the address that it listens at."""

    async def run(*, task_status: Any) -> None:
        with scope or anyio.CancelScope():
            await proxy.run(task_status=task_status)

    async with anyio.create_task_group() as tasks:
        address = await tasks.start(run)
        await eventually(lambda: proxy.ready)
        yield address
        proxy.stop()


async def drained(
    world: Any, state_dir: Path, session: Any, *, cancel: bool = False, **settings: Any
) -> bytes:
    """Stop (or cancel) a proxy in the middle of a stream; what the caller got of it."""
    proxy, scope = proxy_of(world, state_dir, **settings), anyio.CancelScope()
    async with running(proxy, scope) as address:
        url = f"http://{address}/v1/chat/completions"
        async with session.post(url, json={"model": "chat", "stream": True, "messages": []}) as response:
            body = bytes(await response.content.readany())
            scope.cancel() if cancel else proxy.stop()
            try:
                while chunk := await response.content.readany():
                    body += chunk
            except aiohttp.ClientError:
                body += b"CUT"
        with pytest.raises(OSError, match="attempts failed"):
            await anyio.connect_tcp(*address.split(":"))
    return body


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A caller's client."""
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.mark.parametrize("cancel", [False, True])
async def test_a_running_stream_is_finished(world: Any, state_dir: Path, session: Any, cancel: bool) -> None:
    """Nobody new is let in, and what has begun comes to its end: stopped or cancelled."""
    await slow_chat(world)
    body = await drained(world, state_dir, session, cancel=cancel)
    assert b"[DONE]" in body
    assert not body.endswith(b"CUT")


@pytest.mark.parametrize("cancel", [False, True])
async def test_the_drain_has_an_end(world: Any, state_dir: Path, session: Any, cancel: bool) -> None:
    """After drain_s those who are left are cut off, with the family's own error and visibly."""
    await slow_chat(world, tokens=200)
    body = await drained(world, state_dir, session, cancel=cancel, drain_s=0.2)
    assert b"[DONE]" not in body
    assert b'"code":"stream_broken"' in body
    assert b"this proxy is going down" in body
    assert body.endswith(b"CUT")


async def test_a_target_is_not_blamed_for_a_drain(world: Any, state_dir: Path, session: Any) -> None:
    """What the proxy cut off itself is nobody's failure, and is reported before it ends."""
    await slow_chat(world, tokens=200)
    await drained(world, state_dir, session, cancel=True, drain_s=0.2)
    [report] = await world.store.reports()
    assert report.targets["a"].counts == {"abandoned": 1}


async def test_a_draining_proxy_lives(world: Any, state_dir: Path, session: Any) -> None:
    """Cancelled as the process does it, in the middle of a stream, it goes on reporting and following tables."""
    await slow_chat(world, tokens=200)
    proxy, scope = proxy_of(world, state_dir, drain_s=30.0), anyio.CancelScope()
    async with running(proxy, scope) as address:
        url = f"http://{address}/v1/chat/completions"
        async with session.post(url, json={"model": "chat", "stream": True, "messages": []}) as response:
            await response.content.readany()
            scope.cancel()
            table = await world.publish()

            async def serves_it() -> bool:
                return [report.serving for report in await world.store.reports()] == [table.version]

            await eventually(serves_it)


async def test_a_rotated_secret_is_sent_after_a_reload(world: Any, state_dir: Path, session: Any) -> None:
    """No restart, no new table."""
    fake = await slow_chat(world, tokens=1)
    proxy = proxy_of(world, state_dir)
    async with running(proxy) as address:
        settings = world.settings()
        world.secret_file("a").write_text("sk-rotated")
        proxy.reload(settings)
        async with session.post(f"http://{address}/v1/chat/completions", json={"model": "chat"}) as response:
            await response.read()
    assert fake.requests.last.credential_sha256 == digest("sk-rotated")


@pytest.mark.parametrize("advertised", [None, "proxy-1.example:8480"])
async def test_the_address_that_a_proxy_reports(world: Any, state_dir: Path, advertised: str | None) -> None:
    """What it listens on, unless others reach it elsewhere."""
    await slow_chat(world)
    async with running(proxy_of(world, state_dir, advertise=advertised)) as address:

        async def told() -> list[str]:
            return [report.address for report in await world.store.reports() if report.address]

        assert await eventually(told) == [advertised or address]
