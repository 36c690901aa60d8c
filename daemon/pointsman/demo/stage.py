"""What the story is played on: five fake providers, a daemon with its embedded store, two proxies.

The daemon and the proxies are the real commands in processes of their own; only the providers live in this one,
where the story can make them fail to the moment.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Self

import anyio
import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout
from anyio.abc import Process

from pointsman.config.models import Settings
from pointsman.config.sources import load
from pointsman.fake import FakeProvider
from pointsman.store.client import Store
from pointsman.store.embedded import socket_url
from pointsman.store.keys import Keys
from pointsman.store.leash import leashed

PROXIES: Final = ("proxy-1", "proxy-2")
READY_S: Final = 20.0
FAMILIES: Final = {
    "bedrock": "openai",
    "google": "openai",
    "meta": "openai",
    "anthropic": "anthropic",
    "openrouter": "anthropic",
}
MODELS: Final = {
    "bedrock": "claude-3-5-sonnet-v2",
    "google": "gemini-pro",
    "meta": "llama-2-70b",
    "anthropic": "claude-haiku-4-5",
    "openrouter": "anthropic/claude-haiku-4.5",
}
# Shortened, so that a story of minutes fits into one: said on the screen, and in the summary.
SHORTENED: Final = {
    "cooldown": "3 s instead of 30 to 300 s",
    "slow start": "3 s instead of 60 s",
    "failover": "2 s after a trip instead of 120 s, and failback after 4 good probes instead of 150 in 30 min",
    "ramps": "steps of 1 s and 5 to 20 requests instead of 2 to 5 min and 60 to 300; baking 2 s instead of 30 min",
    "probes": "every 2 and 5 s instead of every 10 and 30 s",
    "lease": "3 s instead of 6 s",
}


class StageError(Exception):
    """The stage could not be set; the message says what did not start, and where its log is."""


class Stage:
    """The running installation. `proxies` are base URLs; `fakes` the providers by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "pointsman.yaml"
        self.key = secrets.token_hex(16)
        self.fakes: dict[str, FakeProvider] = {}
        self.proxies: list[str] = []
        self.processes: dict[str, Process] = {}
        self.settings: Settings
        self.store: Store

    @classmethod
    @asynccontextmanager
    async def set_up(cls) -> AsyncIterator[Self]:
        """Everything started and ready; everything ended, whatever happens, when the block is left."""
        folder = Path(tempfile.mkdtemp(prefix="pointsman-demo-"))
        stage = cls(folder)
        try:
            async with AsyncExitStack() as stack:
                for name, family in FAMILIES.items():
                    fake = FakeProvider(
                        name, family, api_keys=(stage.key,), tokens=30, token_delay_ms=45, latency_ms=20
                    )
                    stage.fakes[name] = await stack.enter_async_context(fake.running())
                stage._write_config(stack.enter_context(_held_ports(1 + len(PROXIES))))
                stack.push_async_callback(stage._end_processes)
                await stage._start_all()
                stage.store = await stack.enter_async_context(stage._connect())
                yield stage
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write_config(self, ports: list[int]) -> None:
        self.proxies = [f"http://127.0.0.1:{port}" for port in ports[1:]]
        providers = {
            name: {
                "family": family,
                "base_url": self.fakes[name].base_url,
                "credentials": ["env:POINTSMAN_DEMO_KEY"],
                "probe": {"reach_interval_s": 2.0, "generate_interval_s": 5.0, "suspect_gap_s": 0.5},
            }
            for name, family in FAMILIES.items()
        }
        document = {
            "environment": "development",
            "state_dir": str(self.folder / "state"),
            "providers": providers,
            "targets": {name: {"provider": name, "model": MODELS[name]} for name in FAMILIES},
            "routes": {
                "chat": {
                    "weights": {"bedrock": 50, "google": 30, "meta": 20},
                    "chain": ["bedrock", "google", "meta"],
                },
                "claude": {
                    "weights": {"anthropic": 80, "openrouter": 20},
                    "chain": ["anthropic", "openrouter"],
                },
            },
            "policy": {
                "cooldown_max_s": 3.0,
                "slow_start_s": 3.0,
                "failover_after_s": 2.0,
                "failback_min_stay_s": 1.0,
                "failback_min_samples": 4,
            },
            "ramp": {
                "canary": {
                    "steps": [10, 50, 100],
                    "first_hold_s": 1.0,
                    "hold_s": 1.0,
                    "samples": [10, 20],
                    "bake_s": 2.0,
                },
                "failback": {"steps": [10, 50, 100], "first_hold_s": 1.0, "hold_s": 1.0, "samples": [5]},
            },
            "control": {"listen": f"127.0.0.1:{ports[0]}", "lease_ttl_s": 3.0},
            "proxy": {"timeouts": {"connect_s": 2.0, "first_byte_s": 5.0, "idle_s": 5.0, "response_s": 20.0}},
        }
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))
        self.settings = load(self.config)

    async def _start_all(self) -> None:
        await self._start("control", "control", {})
        for name, url in zip(PROXIES, self.proxies, strict=True):
            address = url.removeprefix("http://")
            await self._start(
                name, "proxy", {"POINTSMAN_PROXY__LISTEN": address, "POINTSMAN_PROXY__NAME": name}
            )
        async with ClientSession(timeout=ClientTimeout(total=1.0)) as session:
            for name, url in zip(PROXIES, self.proxies, strict=True):
                await self._ready(session, name, f"{url}/-/ready")

    async def _start(self, name: str, verb: str, env: dict[str, str]) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            self.processes[name] = await anyio.open_process(
                # A demo that is killed cannot end them.
                leashed([sys.executable, "-m", "pointsman", verb, "--config", str(self.config)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "POINTSMAN_DEMO_KEY": self.key, **env},
                # Ctrl-C is for this process: it ends the others in order, and waits for them.
                start_new_session=True,
            )

    async def _ready(self, session: ClientSession, name: str, url: str) -> None:
        with anyio.move_on_after(READY_S):
            while self._ended() is None:
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                except (ClientError, TimeoutError):
                    pass
                await anyio.sleep(0.05)
        ended = self._ended()
        what = (
            f"{name} did not become ready within {READY_S:.0f} s" if ended is None else f"{ended} has ended"
        )
        raise StageError(f"{what}:\n{self.log_tail(ended or name)}")

    def _ended(self) -> str | None:
        """A process that runs no more: without one of them there is nothing to wait for."""
        return next((name for name, one in self.processes.items() if one.returncode is not None), None)

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The end of a process's log."""
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _connect(self) -> Store:
        keys = Keys(self.settings.store.key_prefix, self.settings.environment, self.settings.fleet)
        return Store.connect(socket_url(self.folder / "state"), keys, timeout_s=1.0)

    def kill_store(self) -> None:
        """kill -9 to the embedded store, a private child of the daemon."""
        pid = int((self.folder / "state" / "store" / "valkey.pid").read_text())
        os.kill(pid, signal.SIGKILL)

    async def _end_processes(self) -> None:
        with anyio.CancelScope(shield=True):
            for process in reversed(self.processes.values()):
                if process.returncode is None:
                    process.terminate()
            for process in self.processes.values():
                with anyio.move_on_after(5.0) as waited:
                    await process.wait()
                if waited.cancelled_caught:
                    process.kill()
                    await process.wait()


@contextmanager
def _held_ports(count: int) -> Iterator[list[int]]:
    """Ports that the system gives to nobody else inside the block, and that a server may be told to listen on.

    On Linux a bound socket that does not listen holds its port and lets a server beside it; elsewhere it would keep
    everybody out, and is closed at once.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
        ports = [int(held.getsockname()[1]) for held in sockets]
        if sys.platform != "linux":
            stack.close()
        yield ports
