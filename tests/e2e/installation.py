"""A whole installation for the end-to-end tests: providers that fail on demand, real daemons, real proxies.

The providers live in the test's process, so that a test says to the moment when they die; everything else is the
real command in a process of its own, with a Valkey that the test may kill.
"""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from msgspec import Struct, field

from pointsman.core import table as tables
from pointsman.core.evidence import Report
from pointsman.core.model import Note
from pointsman.core.table import Table
from pointsman.fake import FakeProvider
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually, free_port

FAMILIES = {
    "bedrock": "openai",
    "google": "openai",
    "meta": "openai",
    "anthropic": "anthropic",
    "openrouter": "anthropic",
}
KEYS = {name: f"sk-{name}-{'0123456789abcdef' * 2}" for name in FAMILIES}
KEYS_ENV = {f"E2E_{name.upper()}_KEY": key for name, key in KEYS.items()}
ROUTES: dict[str, Any] = {
    "chat": {"weights": {"bedrock": 50, "google": 30, "meta": 20}, "chain": ["bedrock", "google", "meta"]},
    "claude": {"weights": {"anthropic": 80, "openrouter": 20}, "chain": ["anthropic", "openrouter"]},
}
READY_S = 30.0


class Vault(Struct, kw_only=True):
    """Which key each provider accepts, the references that lead to it, and the password of the store."""

    keys: dict[str, str] = field(default_factory=lambda: KEYS)
    refs: dict[str, list[str]] = field(
        default_factory=lambda: {name: [f"env:E2E_{name.upper()}_KEY"] for name in FAMILIES}
    )
    env: dict[str, str] = field(default_factory=lambda: KEYS_ENV)
    store_password: str | None = None


class Process:
    """One `pointsman` command of its own process group; its log is kept for the error message of a failed test."""

    def __init__(self, name: str, arguments: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pointsman", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **self._env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """SIGTERM, then SIGKILL after 10 s."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def told(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")


class Installation:
    """See `running`. `proxies` and `daemons` by name; `urls` are the proxies' base URLs."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self.folder = folder
        self.vault = vault
        self.config = folder / "pointsman.yaml"
        self.fakes: dict[str, FakeProvider] = {}
        self.daemons: dict[str, Process] = {}
        self.proxies: dict[str, Process] = {}
        self.urls: dict[str, str] = {}
        self.env: dict[str, str] = {}
        password = vault.store_password
        self.valkey = ValkeyServer(folder, *(("--requirepass", password) if password else ()))
        self.keys = Keys(prefix="e2e", environment="production", fleet="default")
        self.store: Store

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        folder: Path,
        *,
        proxies: int = 2,
        daemons: int = 1,
        fake: Mapping[str, Any] | None = None,
        tls: tuple[ssl.SSLContext, Path] | None = None,
        env: Mapping[str, str] | None = None,
        vault: Vault | None = None,
        timeouts: Mapping[str, Any] | None = None,
        probe: Mapping[str, Any] | None = None,
        **sections: Mapping[str, Any],
    ) -> AsyncIterator[Self]:
        """Everything started; the proxies serve a table in which every target has been probed.

        `sections` of the configuration (policy, proxy, control, …), the proxies' `timeouts` and every provider's
        `probe` are what differs from the defaults or comes on top (providers, targets, routes); `tls` is the
        providers' server context and the CA file that the proxies and the daemon trust.
        """
        here = cls(folder, vault or Vault())
        async with AsyncExitStack() as stack:
            for name, family in FAMILIES.items():
                options = {"tokens": 8, "token_delay_ms": 5, **(fake or {})}
                provider = FakeProvider(
                    name,
                    family,
                    api_keys=(here.vault.keys[name],),
                    ssl_context=tls[0] if tls else None,
                    **options,
                )
                here.fakes[name] = await stack.enter_async_context(provider.running())
            here.write_config(
                {**sections, "proxy": {**sections.get("proxy", {}), "timeouts": dict(timeouts or {})}},
                probe=probe or {},
                ca_file=tls[1] if tls else None,
            )
            here.valkey.start()
            stack.callback(here.valkey.kill)
            stack.callback(here.end)
            here.env = {**here.vault.env, **(env or {})}
            here._make_processes(proxies, daemons)
            for process in (*here.daemons.values(), *here.proxies.values()):
                process.start()
            here.store = await stack.enter_async_context(
                Store.connect(here.valkey.url, here.keys, password=here.vault.store_password, timeout_s=2.0)
            )
            await here.ready()
            yield here

    def write_config(
        self, sections: Mapping[str, Any], *, probe: Mapping[str, Any], ca_file: Path | None = None
    ) -> None:
        providers = {
            name: {
                "family": family,
                "base_url": self.fakes[name].base_url.replace("127.0.0.1", "localhost")
                if ca_file
                else self.fakes[name].base_url,
                "credentials": self.vault.refs[name],
                "probe": dict(probe),
            }
            | ({"ca_file": str(ca_file)} if ca_file else {})
            for name, family in FAMILIES.items()
        }
        document: dict[str, Any] = {
            "environment": "production",
            "state_dir": str(self.folder / "state"),
            "store": {"url": self.valkey.url, "key_prefix": "e2e"},
            "providers": providers,
            "targets": {name: {"provider": name, "model": f"{name}-model"} for name in FAMILIES},
            "routes": ROUTES,
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    def _make_processes(self, proxies: int, daemons: int) -> None:
        for number in range(1, daemons + 1):
            name = f"daemon-{number}"
            own = {
                "POINTSMAN_CONTROL__LISTEN": "127.0.0.1:0",
                "POINTSMAN_STATE_DIR": str(self.folder / f"state-{name}"),
            }
            arguments = ["control", "--config", str(self.config)]
            self.daemons[name] = Process(name, arguments, {**self.env, **own}, self.folder / f"{name}.log")
        for number in range(1, proxies + 1):
            name = f"proxy-{number}"
            port = free_port()
            self.urls[name] = f"http://127.0.0.1:{port}"
            own = {"POINTSMAN_PROXY__NAME": name, "POINTSMAN_PROXY__LISTEN": f"127.0.0.1:{port}"}
            arguments = ["proxy", "--config", str(self.config)]
            self.proxies[name] = Process(name, arguments, {**self.env, **own}, self.folder / f"{name}.log")

    async def ready(self) -> None:
        """Wait until every proxy serves, and the daemon has seen every target answer."""
        async with aiohttp.ClientSession() as session:

            async def serve() -> bool:
                for process in (*self.daemons.values(), *self.proxies.values()):
                    assert process.running, f"{process.name} has ended: {process.told()[-2000:]}"
                for url in self.urls.values():
                    try:
                        async with session.get(f"{url}/-/ready") as response:
                            if response.status != 200:
                                return False
                    except aiohttp.ClientError:
                        return False
                return True

            await eventually(serve, READY_S)
        await eventually(self._all_healthy, READY_S)

    async def _all_healthy(self) -> bool:
        state = await self.store.load_state()
        return state is not None and all(
            name in state.health and state.health[name].phase.value == "healthy" for name in FAMILIES
        )

    async def settled(self) -> None:
        """Wait until every route has its baseline's shares, and no proxy keeps a target out by itself."""

        async def settled() -> bool:
            table = await self.table()
            if any(
                table.routes[route].shares_bp
                != {name: share * 100 for name, share in entry["weights"].items()}
                for route, entry in ROUTES.items()
            ):
                return False
            reports = await self.reports()
            ejected = any(entry.ejected for report in reports for entry in report.targets.values())
            return not ejected and all(r.serving is not None and r.serving >= table.version for r in reports)

        await eventually(settled, READY_S)

    def end(self) -> None:
        for process in (*self.proxies.values(), *self.daemons.values()):
            process.end()

    # --- what is looked at

    async def table(self) -> Table:
        published = await self.store.table()
        assert published is not None
        return tables.decode(published.body)

    async def share_bp(self, target: str, route: str = "chat") -> int:
        return (await self.table()).routes[route].shares_bp.get(target, 0)

    async def reports(self) -> list[Report]:
        return [report for report in await self.store.reports() if report.proxy in self.proxies]

    async def served_everywhere_without(self, target: str, route: str = "chat") -> bool:
        """Does every proxy serve a table in which the target has no share?"""
        table = await self.table()
        if table.routes[route].shares_bp.get(target, 0):
            return False
        reports = await self.reports()
        serving = [report.serving for report in reports]
        return len(serving) == len(self.proxies) and all(
            v is not None and v >= table.version for v in serving
        )

    async def notes(self, kind: str = "") -> list[Note]:
        notes = [note for _, note in await self.store.events(10_000)]
        return [note for note in notes if not kind or note.kind == kind]

    def logs(self) -> str:
        return "\n".join(p.told() for p in (*self.daemons.values(), *self.proxies.values()))


async def timed_out_of_service(
    installation: Installation, target: str, timeout_s: float, route: str = "chat"
) -> float:
    """Seconds from now until the last proxy serves a table without the target."""
    began = time.monotonic()
    await eventually(lambda: installation.served_everywhere_without(target, route), timeout_s)
    return time.monotonic() - began
