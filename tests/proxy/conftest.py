"""A proxy as callers see it: a real store, real sockets, fake providers. Nothing here looks inside the proxy."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
import anyio
import msgspec
import pytest
from opentelemetry.trace import NoOpTracer

sys.path.insert(0, str(Path(__file__).parent))

from pointsman.config.models import Settings
from pointsman.core.model import Family
from pointsman.core.table import RouteEntry, Table, TargetEntry, Trial, Version, table_hash
from pointsman.fake import FakeProvider
from pointsman.proxy.process import Proxy
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import eventually

SECRET = "sk-provider-secret-{name}"


Script = Callable[["ScriptedProvider", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class World:
    """Fake providers of one name each ("a", "b", …), with one target of the same name at each."""

    def __init__(self, store: Store, keys: Keys, store_url: str, folder: Path) -> None:
        self.store = store
        self.keys = keys
        self.store_url = store_url
        self.folder = folder
        self.providers: dict[str, Any] = {}
        self.routes: dict[str, RouteEntry] = {}
        self.models: dict[str, str] = {}
        self.overrides: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        self.headers: dict[str, dict[str, str]] = {}
        self.stack = AsyncExitStack()
        self._revision = 0

    async def provider(self, name: str, family: str = "openai", **options: Any) -> FakeProvider:
        """Start a fake provider; its target serves the model "<name>-model"."""
        fake = FakeProvider(name, family, api_keys=(SECRET.format(name=name),), **options)
        self.providers[name] = await self.stack.enter_async_context(fake)
        self.models.setdefault(name, f"{name}-model")
        return fake

    async def scripted(self, name: str, script: Script, family: str = "openai") -> "ScriptedProvider":
        """Start a provider that does with every connection what `script` does."""
        made = ScriptedProvider(Family(family), script)
        self.providers[name] = await self.stack.enter_async_context(made)
        self.models.setdefault(name, f"{name}-model")
        return made

    def secret_file(self, name: str) -> Path:
        """Where the credential of a provider is."""
        return self.folder / f"{name}.key"

    def route(self, name: str, family: str = "openai", *, chain: str, **more: Any) -> None:
        """A route over `chain` ("a b"): everything goes to the first unless `shares_bp` says otherwise."""
        targets = tuple(chain.split())
        more.setdefault("shares_bp", {targets[0]: 10_000})
        more.setdefault("last_resort", len(targets))
        self.routes[name] = RouteEntry(family=family, chain=targets, **more)

    def settings(self, **proxy: Any) -> Settings:
        """The proxy's own configuration; `proxy` are settings of its section."""
        for name in self.providers:
            if name not in self.hidden:
                self.secret_file(name).write_text(SECRET.format(name=name))
        prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
        return Settings.model_validate(
            {
                "environment": "development",
                "fleet": "default",
                "providers": {
                    name: {
                        "family": fake.family.value,
                        "base_url": fake.base_url,
                        "credentials": (f"file:{self.secret_file(name)}",),
                    }
                    | self.overrides.get(name, {})
                    for name, fake in self.providers.items()
                },
                "targets": {
                    name: {"provider": name, "model": self.models[name], "prices": prices}
                    for name in self.providers
                },
                "routes": {
                    name: {"weights": {entry.chain[0]: 100}, "chain": entry.chain}
                    for name, entry in self.routes.items()
                    if entry.chain
                },
                "proxy": {"listen": "127.0.0.1:0", "report_interval_s": 0.1, "poll_interval_s": 0.2} | proxy,
            }
        )

    def table(
        self,
        epoch: int,
        *,
        trials: tuple[Trial, ...] = (),
        generations: dict[str, int] | None = None,
        base_urls: dict[str, str] | None = None,
    ) -> Table:
        """The next table over all providers and `routes`."""
        self._revision += 1
        targets = {
            name: TargetEntry(
                provider=name,
                model=self.models[name],
                family=fake.family.value,
                base_url=(base_urls or {}).get(name, fake.base_url),
                generation=(generations or {}).get(name, 0),
                headers=self.headers.get(name, {}),
            )
            for name, fake in self.providers.items()
        }
        table = Table(
            environment="development",
            fleet="default",
            version=Version(epoch, self._revision),
            hash="",
            issued_s=0.0,
            targets=targets,
            routes=self.routes,
            trials=trials,
        )
        return msgspec.structs.replace(table, hash=table_hash(table))

    async def publish(self, *, deadlines: dict[str, float] | None = None, **more: Any) -> Table:
        """Publish the next table as the leader would."""
        lease = await self.store.acquire("test", 600.0, 0)
        assert lease is not None
        table = self.table(lease.epoch, **more)
        await self.store.publish(lease, table, {}, deadlines or {})
        return table


class ScriptedProvider:
    """A provider in raw bytes, for what no honest server does."""

    def __init__(self, family: Family, script: Script) -> None:
        self.family = family
        self.connections = 0
        self.requests: list[bytes] = []
        self._script = script

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._script(self, reader, writer)
        writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """The next request, head and body. Raises IncompleteReadError when the connection ends."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        whole = head + await reader.readexactly(int(length.group(1)) if length else 0)
        self.requests.append(whole)
        return whole


class Caller:
    """Somebody who talks to a proxy."""

    def __init__(self, address: str, admin_socket: Path, session: aiohttp.ClientSession) -> None:
        self.url = f"http://{address}"
        self.admin_socket = admin_socket
        self.session = session

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """POST `body` (JSON, or bytes as they are); an async context manager, as aiohttp has it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(
            self.url + path,
            data=io.BytesIO(data),
            headers={"content-type": "application/json", **(headers or {})},
        )

    async def chat(
        self, *, model: str = "chat", headers: dict[str, str] | None = None, **more: Any
    ) -> "Answer":
        """One chat completion, read whole."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        return await self.ask("/v1/chat/completions", body, headers)

    async def ask(self, path: str, body: Any, headers: dict[str, str] | None = None) -> "Answer":
        """POST and read the answer to its end, however that comes."""
        async with self.post(path, body, headers) as response:
            content = b""
            whole = True
            try:
                while chunk := await response.content.readany():
                    content += chunk
            except aiohttp.ClientPayloadError:
                whole = False
            return Answer(response.status, dict(response.headers), content, whole)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> "Answer":
        """GET, read whole."""
        async with self.session.get(self.url + path, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.read(), whole=True)

    async def until_table(self, table: Table) -> None:
        """Until the proxy routes by `table`."""

        async def routes_by_it() -> bool:
            return bool((await self.admin("GET", "/status")).json["table"] == str(table.version))

        await eventually(routes_by_it, timeout_s=10.0)

    async def admin(self, method: str, path: str, body: Any = None) -> "Answer":
        """Talk to the proxy's own door."""
        connector = aiohttp.UnixConnector(str(self.admin_socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://proxy{path}", json=body) as response,
        ):
            return Answer(response.status, dict(response.headers), await response.read(), whole=True)


class Answer:
    """What a caller got. `whole` False: the connection ended in the middle of the answer's framing."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, whole: bool) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body
        self.whole = whole

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def target(self) -> str:
        return self.headers.get("x-pointsman-target", "")


Start = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state directory with a path short enough for unix sockets."""
    folder = tempfile.mkdtemp(prefix="pm-")
    yield Path(folder)
    # A proxy that has ended waits for no disk: its last table may still be on its way to one.
    while Path(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def world(store: Store, keys: Keys, store_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """No providers yet."""
    made = World(store, keys, store_url, tmp_path)
    async with made.stack:
        yield made


@pytest.fixture
def running_proxy(world: World, state_dir: Path) -> Start:
    """`async with running_proxy(**settings_of_the_proxy) as caller`: a proxy, with a table when it returns.

    `table=False` does not wait for one; `store_url` takes another store. Put another implementation under
    these tests here.
    """

    @contextlib.asynccontextmanager
    async def start(
        *, name: str = "p1", table: bool = True, store_url: str = "", tracer: Any = None, **settings: Any
    ) -> AsyncIterator[Caller]:
        loaded = world.settings(**settings)
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(
                Store.connect(store_url or world.store_url, world.keys, timeout_s=1.0)
            )
            proxy = Proxy(
                loaded,
                name=name,
                boot="boot",
                store=store,
                state_dir=state_dir,
                tracer=tracer or NoOpTracer(),
            )
            tasks = await stack.enter_async_context(anyio.create_task_group())
            address = await tasks.start(proxy_task(proxy))
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            caller = Caller(address, state_dir / f"proxy-{name}.sock", session)
            if table:
                await wait_ready(caller)
            try:
                yield caller
            finally:
                proxy.stop()

    return start


def proxy_task(proxy: Proxy) -> Any:
    """The proxy's `run` as a task group's start wants it."""

    async def run(*, task_status: Any) -> None:
        await proxy.run(task_status=task_status)

    return run


async def wait_ready(caller: Caller) -> None:
    """Until the proxy has a table."""

    async def ready() -> bool:
        return (await caller.get("/-/ready")).status == 200

    await eventually(ready, timeout_s=10.0)
