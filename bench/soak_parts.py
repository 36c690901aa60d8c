"""What a soak is made of: real processes of one installation, and what they hold."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct

from bench import machine
from pointsman.store.client import Store
from pointsman.store.embedded import find_binary
from pointsman.store.keys import Keys

ROUTES = {"chat": ("a", "b", "c"), "claude": ("d", "e")}
FAMILIES = {"a": "openai", "b": "openai", "c": "openai", "d": "anthropic", "e": "anthropic"}
KEYS = Keys(prefix="soak", environment="production", fleet="default")
WORKERS = 3
PATIENCE_S = 60.0


async def until(holds: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Its first true value. RuntimeError when it takes too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        if value := await holds():
            return value
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited in vain for {what}")
        await asyncio.sleep(0.02)


class Held(Struct):
    """What one process of a proxy holds."""

    pid: int
    files: int
    tasks: int
    rss_mib: float


class Process:
    """One process, which can be killed and started again."""

    def __init__(self, log: Path, command: list[str], env: Mapping[str, str]) -> None:
        self._log = log
        self._command = command
        self._env = {**os.environ, **env}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self._log.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=self._env
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def fares(self) -> str:
        if self.process is None:
            return "not started"
        code = self.process.poll()
        return "runs" if code is None else f"ended, {code}"

    def told(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-1500:]


class Installation:
    """Store, daemon, two proxies (one of two workers) and providers that echo. Everything lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.orders = 0
        self.ports = {name: (machine.free_port(), machine.free_port()) for name in FAMILIES}
        self.urls = {name: f"http://127.0.0.1:{machine.free_port()}" for name in ("one", "two")}
        self.store_url = f"unix://{folder / 'valkey.sock'}"
        self.store = self._process("valkey", [str(find_binary(None)), *self._valkey()])
        self._configure()
        run = [sys.executable, "-m", "pointsman"]
        own = {"POINTSMAN_CONTROL__LISTEN": "127.0.0.1:0", "POINTSMAN_STATE_DIR": str(folder / "daemon")}
        config = ["--config", str(folder / "pointsman.yaml")]
        self.providers = {
            name: self._process(name, [*run, "fake-provider", *self._fake(name)]) for name in FAMILIES
        }
        self.daemon = self._process("daemon", [*run, "control", *config], own)
        self.proxies = {
            name: self._process(
                name,
                [*run, "proxy", *config, "--name", name, *(["--workers", "2"] * (name == "two"))],
                {"POINTSMAN_PROXY__LISTEN": url.removeprefix("http://")},
            )
            for name, url in self.urls.items()
        }

    def _process(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Process:
        return Process(self.folder / f"{name}.log", command, {"SOAK_KEY": "sk-soak", **(env or {})})

    def _valkey(self) -> list[str]:
        place = ["--port", "0", "--unixsocket", str(self.folder / "valkey.sock"), "--dir", str(self.folder)]
        return [*place, "--save", "", "--appendonly", "yes"]

    def _fake(self, name: str) -> list[str]:
        port, control = self.ports[name]
        place = ["--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{control}"]
        who = ["--name", name, "--family", FAMILIES[name]]
        return [*who, *place, "--echo", "--token-delay-ms", "10"]

    def _configure(self) -> None:
        base = {"openai": "/v1", "anthropic": ""}
        document: dict[str, Any] = {
            "state_dir": str(self.folder / "state"),
            "store": {"url": self.store_url, "key_prefix": KEYS.prefix},
            "telemetry": {"log_level": "warning"},
            "providers": {
                name: {
                    "family": family,
                    "base_url": f"http://127.0.0.1:{self.ports[name][0]}{base[family]}",
                    "credentials": ["env:SOAK_KEY"],
                }
                for name, family in FAMILIES.items()
            },
            "targets": {name: {"provider": name, "model": f"{name}-model"} for name in FAMILIES},
            "routes": {
                route: {"weights": dict.fromkeys(chain, 100 / len(chain)), "chain": chain}
                for route, chain in ROUTES.items()
            },
            "proxy": {"timeouts": {"first_byte_s": 2.0, "idle_s": 2.0, "response_s": 5.0}},
        }
        document["routes"]["chat"]["weights"] = {"a": 40, "b": 40, "c": 20}
        (self.folder / "pointsman.yaml").write_text(json.dumps(document))

    async def start(self) -> None:
        """Everything, until both proxies serve."""
        self.store.start()
        for process in (*self.providers.values(), self.daemon, *self.proxies.values()):
            process.start()
        try:
            for url in self.urls.values():
                await until(lambda url=url: self._ready(url), f"{url} to serve")
            await until(self.all_held, "all workers to be up")
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.logs()}") from None

    def end(self) -> None:
        for process in (*self.proxies.values(), self.daemon, *self.providers.values(), self.store):
            process.end()

    async def _ready(self, url: str) -> bool:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{url}/-/ready") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

    def logs(self) -> str:
        """How what it is made of fares, and the ends of the logs."""
        parts = {**self.proxies, "daemon": self.daemon, **self.providers, "valkey": self.store}
        return "".join(f"--- {name}: {process.fares()}\n{process.told()}" for name, process in parts.items())

    async def control(self, name: str, method: str, path: str, body: Any = None) -> None:
        """Tell a provider's controls something."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.ports[name][1]}{path}", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()

    def connected(self) -> Store:
        """A store to publish through."""
        return Store.connect(self.store_url, KEYS, timeout_s=1.0)

    def workers(self) -> list[int]:
        """The process ids of the workers of the second proxy."""
        pid = self.proxies["two"].pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill_worker(self) -> None:
        os.kill(self.workers()[0], signal.SIGKILL)

    async def all_held(self) -> dict[str, Held]:
        """`held` if all workers answer, else nothing."""
        found = await self.held()
        return found if len(found) == WORKERS else {}

    async def held(self) -> dict[str, Held]:
        """What every worker that answers holds. The connection that asks is in it."""
        pids = {"one": self.proxies["one"].pid}
        pids |= {f"two.{number}": pid for number, pid in enumerate(sorted(self.workers()), 1)}
        found = {}
        for name, pid in pids.items():
            said = await self._status(name)
            if said is not None and said["table"]:
                files = len(os.listdir(f"/proc/{pid}/fd"))
                found[name] = Held(pid, files, said["tasks"], machine.rss_mib(pid))
        return found

    async def _status(self, name: str) -> Any:
        connector = aiohttp.UnixConnector(str(self.folder / "state" / f"proxy-{name}.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with session.get("http://proxy/status") as answer:
                    return await answer.json()
            except aiohttp.ClientError:
                return None
