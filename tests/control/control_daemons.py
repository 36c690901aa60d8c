"""Daemons for the tests: in this process with a recording prober, and as real processes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.trace import NoOpTracer

from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.config.sources import from_data
from pointsman.control.process import Control
from pointsman.core.cadence import Attention
from pointsman.core.errors import SUCCESS, Outcome, Wire, of_wire
from pointsman.core.evidence import ProbeKind, ProbeResult, Report
from pointsman.core.table import Table, Version, decode
from pointsman.probing.smallest import smallest
from pointsman.store.client import Store
from pointsman.store.keys import Keys

REFUSED = of_wire(Wire.REFUSED)


SLOW = {"listen": "127.0.0.1:0", "tick_interval_s": 3600.0, "lease_ttl_s": 7200.0}


def settings_of(**changes: Any) -> Settings:
    """Three providers, one route of 50/30/20; `changes` replace whole sections."""
    names = ("bedrock", "google", "meta")
    return from_data(
        {
            "environment": "development",
            "providers": {
                name: {"family": "openai", "base_url": f"http://127.0.0.1:{9 + place}/v1"}
                for place, name in enumerate(names)
            },
            "targets": {name: {"provider": name, "model": f"{name}-1"} for name in names},
            "routes": {"chat": {"weights": {"bedrock": 50, "google": 30, "meta": 20}}},
            "control": {"listen": "127.0.0.1:0", "tick_interval_s": 0.1, "lease_ttl_s": 1.5},
        }
        | changes
    )


class Daemon:
    """A control side in this process. `attentions` is what it told its prober."""

    def __init__(self, settings: Settings, store: Store, state_dir: Path) -> None:
        self.attentions: list[Attention] = []
        self.ticks = 0
        self.store = store
        self.control = Control(
            settings,
            to_plan(settings),
            store,
            state_dir=state_dir,
            attend=self.attentions.append,
            first_round_s=5.0,
            smallest=smallest,
            tracer=NoOpTracer(),
            on_tick=self._count,
        )

    def _count(self, _status: str) -> None:
        self.ticks += 1

    @property
    def leads(self) -> bool:
        return self.control.leadership.lease is not None

    @property
    def epoch(self) -> int:
        lease = self.control.leadership.lease
        return lease.epoch if lease else 0

    def probe(self, target: str, outcome: Outcome = SUCCESS, kind: ProbeKind = ProbeKind.REACH) -> None:
        """A result as a prober would emit it."""
        self.control.emit(
            ProbeResult(
                provider=target,
                target=target if kind is ProbeKind.GENERATE else "",
                kind=kind,
                outcome=outcome,
                at_s=self.control.now_s(),
                vantage="test",
            )
        )

    def probe_all(self) -> None:
        """One good round."""
        for target in ("bedrock", "google", "meta"):
            self.probe(target)
            self.probe(target, kind=ProbeKind.GENERATE)

    def kill_target(self, target: str) -> None:
        """Four rounds in which one provider refuses, while the others answer."""
        for _ in range(4):
            self.probe(target, REFUSED)
            for other in {"bedrock", "google", "meta"} - {target}:
                self.probe(other)


async def table_in(store: Store) -> Table | None:
    """The published table."""
    published = await store.table()
    return decode(published.body) if published else None


async def shares_in(store: Store, route: str = "chat") -> dict[str, int]:
    """The published shares of a route."""
    table = await table_in(store)
    return table.routes[route].shares_bp if table else {}


def report_of(proxy: str, *, accepted: Version | None, seq: int = 1) -> Report:
    """A proxy's heartbeat."""
    return Report(
        proxy=proxy,
        boot="boot-1",
        seq=seq,
        environment="development",
        fleet="default",
        accepted=accepted,
        serving=accepted,
    )


@pytest.fixture
def settings() -> Settings:
    """The usual configuration."""
    return settings_of()


@pytest.fixture
def daemons(store_url: str, keys: Keys, tmp_path: Path) -> Callable[..., Any]:
    """`async with daemons(...) as daemon`: one that runs inside the block, with its own connection."""

    @asynccontextmanager
    async def running(
        name: str = "a", settings: Settings | None = None, url: str = store_url, timeout_s: float = 5.0
    ) -> AsyncIterator[Daemon]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        async with Store.connect(url, keys, timeout_s=timeout_s) as connection:
            daemon = Daemon(settings or settings_of(), connection, folder)
            async with anyio.create_task_group() as group:
                await group.start(daemon.control.run)
                try:
                    yield daemon
                finally:
                    group.cancel_scope.cancel()

    return running
