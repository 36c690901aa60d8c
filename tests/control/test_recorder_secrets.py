"""A secret that a daemon uses, and that a provider quotes back at it, stands in no record."""

import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from control_processes import Command, document_of, write

from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually

pytestmark = pytest.mark.anyio

KEY = "planted9f31cKeyOfTheProvider"
PASSWORD = "planted7d20aPasswordOfTheStore"


@asynccontextmanager
async def parrot() -> AsyncIterator[str]:
    """The base URL of a provider that refuses every request and repeats its credential wherever it can."""

    async def repeat(request: web.Request) -> web.Response:
        key = request.headers.get("authorization", "")
        error = {"message": f"Incorrect API key provided: {key}", "param": key, "code": "invalid_api_key"}
        return web.json_response(
            {"error": error}, status=401, reason=f"No {key}", headers={"x-request-id": key}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", repeat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}/v1".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def test_no_record_holds_a_secret(commands: Callable[..., Command], keys: Keys, tmp_path: Path) -> None:
    """Neither the provider's key nor the store's password, however a record is unpacked."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder), "--requirepass", PASSWORD)
        server.start()
        try:
            async with parrot() as url:
                provider = {"family": "openai", "base_url": url, "credentials": ["env:PLANTED_KEY"]}
                document = document_of(server.url, keys, tmp_path / "state") | {
                    "providers": {"parrot": provider | {"probe": {"reach_interval_s": 0.2}}},
                    "targets": {"parrot": {"provider": "parrot", "model": "m"}},
                    "routes": {"chat": {"weights": {"parrot": 100}}},
                }
                document["store"] |= {"password": "env:PLANTED_PASSWORD"}
                path = write(tmp_path / "c.yaml", document)
                env = {"PLANTED_KEY": KEY, "PLANTED_PASSWORD": PASSWORD}
                commands("control", "--config", path, env=env)
                async with Store.connect(server.url, keys, password=PASSWORD, timeout_s=5.0) as store:
                    unpacked = await eventually(lambda: until_barred(store), timeout_s=15.0)
        finally:
            server.kill()

    assert b"planted" not in unpacked.lower()


async def until_barred(store: Store) -> bytes | None:
    """Every record as one text, once one of them tells that the credential is refused."""
    bodies = [zlib.decompress(entry.body) for entry in await store.records.before(count=1000)]
    return b"".join(bodies) if any(b'"target.barred"' in body for body in bodies) else None
