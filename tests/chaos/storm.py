"""An installation under steady traffic, and what is watched of it throughout: failures, and versions that go back."""

import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from callers import Callers
from installation import Installation
from msgspec import Struct

from pointsman.core.model import Health, Phase, State
from pointsman.core.table import Table, TableError, Version
from pointsman.store.client import Store
from pointsman.store.errors import StoreError
from support import eventually

PER_S = 40.0
# A lease short enough for a takeover within a test; everything else is the default.
LEASE = {"lease_ttl_s": 3.0}
AWAY_REQUESTS = 120  # three seconds of traffic
LOOK_S = 0.02

Measured = Callable[[str, float], None]


class Answer(Struct):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Storm:
    """See `storm`. `seen`: the table versions that the store held, in order, without repetitions."""

    def __init__(self, installation: Installation, callers: Callers) -> None:
        self.here = installation
        self.callers = callers
        self.seen: list[Version] = []

    async def watch(self, store: Store) -> None:
        """Look what is published, again and again; a store that is away or empty is looked at later."""
        while True:
            try:
                peek = await store.peek()
            except StoreError:
                peek = None
            if peek is not None and self.seen[-1:] != [peek.version]:
                self.seen.append(peek.version)
            await anyio.sleep(LOOK_S)

    # --- what must hold throughout

    @property
    def failed(self) -> list[str]:
        """Requests that failed before their stream began, and streams that ended as if they were whole."""
        tally = self.callers.tally
        return [*tally.failed, *["a stream ended silently"] * tally.silent]

    @property
    def went_back(self) -> list[str]:
        """Where the version in the store, or in the answers of one proxy, became older than it had been."""
        return [*_store_went_back(self.seen), *proxies_went_back(self.callers)]

    # --- what tests wait for

    async def state(self) -> State:
        state = await self.here.store.load_state()
        assert state is not None
        return state

    async def health(self, target: str) -> Health:
        return (await self.state()).health[target]

    async def tripped(self, target: str, timeout_s: float = 15.0) -> Health:
        """The health of `target`, as soon as it cools down and no proxy serves it any more."""

        async def out() -> bool:
            health = await self.health(target)
            return health.phase is Phase.COOLDOWN and await self.here.served_everywhere_without(target)

        await eventually(self.surely(out), timeout_s)
        return await self.health(target)

    async def led(self, above: int = 0, timeout_s: float = 15.0) -> int:
        """The epoch of a leader with one above `above` whose table every proxy serves."""
        epoch = 0

        async def is_led() -> bool:
            nonlocal epoch
            leader = await self.here.store.leader()
            if leader is None or leader.epoch <= above:
                return False
            epoch = leader.epoch
            version = (await self.here.table()).version
            reports = await self.here.reports()
            return len(reports) == len(self.here.proxies) and all(r.serving == version for r in reports)

        await eventually(self.surely(is_led), timeout_s)
        return epoch

    async def served(self, wanted: Callable[[Table], bool], timeout_s: float = 15.0) -> Table:
        """The published table, as soon as it is as wanted and every proxy serves it."""

        async def is_served() -> Table | None:
            try:
                table = await self.here.table()
            except TableError:
                return None
            reports = await self.here.reports()
            everywhere = len(reports) == len(self.here.proxies) and all(
                report.serving == table.version and not report.rejected for report in reports
            )
            return table if everywhere and wanted(table) else None

        found: Table = await eventually(self.surely(is_served), timeout_s)
        return found

    async def recovered(self, timeout_s: float = 15.0) -> None:
        """Until the leader has saved and every proxy has reported, from now on."""
        revision = (await self.state()).revision
        known = {report.proxy: report.seq for report in await self.here.reports()}

        async def heard() -> bool:
            reports = await self.here.reports()
            news = [report.proxy for report in reports if report.seq > known.get(report.proxy, 0)]
            return (await self.state()).revision > revision and len(news) == len(self.here.proxies)

        await eventually(self.surely(heard), timeout_s)

    def surely(self, predicate: Any) -> Any:
        """`predicate`, false while the store is away or has nothing."""

        async def safely() -> Any:
            try:
                return await predicate()
            except (StoreError, AssertionError):
                return False

        return safely

    async def local_status(self, proxy: str) -> dict[str, Any]:
        """What a proxy says of itself, without store and daemon."""
        return await local_status(self.here.folder / "state" / f"proxy-{proxy}.sock")

    async def cli(self, *arguments: str, env: dict[str, str] | None = None) -> Answer:
        return await cli(*arguments, config=self.here.config, env={**self.here.env, **(env or {})})


@asynccontextmanager
async def storm(folder: Path, *, per_s: float = PER_S, **sections: Any) -> AsyncIterator[Storm]:
    """An installation that has served 40 requests, with as many a second still coming; see Installation.running."""
    async with (
        Installation.running(folder, **sections) as installation,
        Store.connect(
            installation.valkey.url,
            installation.keys,
            password=installation.vault.store_password,
            timeout_s=0.5,
        ) as store,
        Callers.of(list(installation.urls.values())) as callers,
        anyio.create_task_group() as watching,
    ):
        made = Storm(installation, callers)
        watching.start_soon(made.watch, store)
        async with callers.steady(per_s):
            await callers.more(40)
            yield made
        watching.cancel_scope.cancel()


async def cli(*arguments: str, config: Path, env: dict[str, str]) -> Answer:
    """A real `pointsman` command in a process of its own."""
    command = [sys.executable, "-m", "pointsman", *arguments]
    env = {**os.environ, "COLUMNS": "200", **env, "POINTSMAN_CONFIG": str(config)}
    done = await anyio.run_process(command, check=False, env=env)
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


async def local_status(socket: Path) -> dict[str, Any]:
    connector = aiohttp.UnixConnector(str(socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://proxy/status") as response,
    ):
        return dict(await response.json())


async def timed(waiting: Any) -> float:
    """How many seconds it took to wait for."""
    began = time.monotonic()
    await waiting
    return time.monotonic() - began


def _store_went_back(seen: list[Version]) -> list[str]:
    return [
        f"the store went from {before} to {after}"
        for before, after in itertools.pairwise(seen)
        if after < before
    ]


def proxies_went_back(callers: Callers) -> list[str]:
    """A request that was sent when another one's answer was there must not be served by an older table."""
    told: list[str] = []
    for proxy in {answer.proxy for answer in callers.served}:
        answers = [answer for answer in callers.served if answer.proxy == proxy]
        by_arrival = sorted(answers, key=lambda answer: answer.came_s)
        newest, place = (0, 0), 0
        for answer in sorted(answers, key=lambda answer: answer.sent_s):
            while by_arrival[place].came_s < answer.sent_s:
                newest = max(newest, by_arrival[place].table)
                place += 1
            if answer.table < newest:
                told.append(f"{proxy} served by {answer.table} after {newest}")
    return told
