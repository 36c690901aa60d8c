"""A proxy on this machine is asked at its own socket, and a proxy of several workers at each of theirs."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pointsman.cli.common import CommandError
from pointsman.cli.local import ask_proxy
from pointsman.config.models import Settings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def proxies(*names: str) -> AsyncIterator[tuple[Settings, list[str]]]:
    """Something that answers like proxies of these names; the settings to ask with, and who was asked."""
    asked: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        async with AsyncExitStack() as stack:
            for name in names:

                async def take(_request: web.BaseRequest, name: str = name) -> web.StreamResponse:
                    asked.append(name)
                    return web.json_response({"proxy": name})

                runner = web.ServerRunner(web.Server(take))
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.UnixSite(runner, str(Path(folder) / f"proxy-{name}.sock")).start()
            empty: dict[str, dict[str, str]] = {"providers": {}, "targets": {}, "routes": {}}
            yield Settings.model_validate({"state_dir": folder, **empty}), asked


async def test_one_proxy_is_asked_once() -> None:
    """Though others are called nearly the same."""
    async with proxies("p", "p.1", "p.2") as (settings, asked):
        assert await ask_proxy(settings, "p", "/status") == {"proxy": "p"}
    assert asked == ["p"]


async def test_each_worker_is_asked() -> None:
    """A pin reaches all that stand behind one address, and nobody else."""
    async with proxies("p.1", "p.2", "p.x", "pp.1", "p.1.1") as (settings, asked):
        await ask_proxy(settings, "p", "/pin", {"route": "chat"})
    assert asked == ["p.1", "p.2"]


async def test_nobody_there_is_told_of() -> None:
    """With the socket where it would be."""
    async with proxies("q.1") as (settings, _):
        with pytest.raises(CommandError, match=r"no proxy answers on .*/proxy-p\.sock"):
            await ask_proxy(settings, "p", "/status")
