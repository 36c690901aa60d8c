"""An installation whose one route is ramped under traffic, and all that its tables said meanwhile.

The ramp moves bedrock's 80 % to google, which has none, in the steps of `LADDER`; meta keeps its 20 %.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from installation import Installation
from ramp_callers import RampCallers
from storm import LOOK_S, Storm

from pointsman.core import table as tables
from pointsman.core.evidence import Verb
from pointsman.core.model import Note
from pointsman.core.ramp_model import ENDED, Ramp, RampPhase
from pointsman.core.table import RouteEntry, TableError, percent
from pointsman.store.client import Store
from pointsman.store.errors import StoreError
from support import eventually

PER_S = 40.0
STEPS = (25, 50, 100)
BAKING = len(STEPS) - 1


def shares_at(google: int) -> dict[str, int]:
    """The route's shares when google has so many basis points."""
    rest = {"bedrock": 8_000 - google, "meta": 2_000, "google": google}
    return {name: share for name, share in rest.items() if share}


# Where the ramp may be: the baseline, each step, with a control of 5 % while it bakes, promoted.
LADDER = tuple(shares_at(google) for google in (0, 2_000, 4_000, 7_600, 8_000))
BASELINE, PROMOTED = LADDER[0], LADDER[-1]
# A canary with the second of the steps alone.
SHORT = (LADDER[0], *LADDER[2:])
# A failback goes the other way, and does not bake.
BACK = tuple(shares_at(google) for google in (8_000, 6_000, 4_000, 0))
KIND = {"steps": list(STEPS), "first_hold_s": 0.6, "hold_s": 0.6, "samples": [3, 6], "bake_s": 1.0}
SECTIONS: dict[str, Any] = {
    "routes": {"chat": {"weights": {"bedrock": 80, "meta": 20}, "chain": ["bedrock", "meta", "google"]}},
    "control": {"lease_ttl_s": 2.0, "tick_interval_s": 0.3},
    "proxy": {"report_interval_s": 0.3},
    "policy": {"cooldown_max_s": 3.0, "slow_start_s": 3.0},
    "ramp": {"canary": KIND, "failback": KIND},
}


class RampStorm(Storm):
    """A Storm that remembers what every table, by (epoch, revision), said of the route chat.

    `may_drop`: proxies may go back to the baseline by themselves.
    """

    def __init__(self, installation: Installation, callers: RampCallers) -> None:
        super().__init__(installation, callers)
        self.ramp_callers = callers
        self.tables: dict[tuple[int, int], RouteEntry] = {}
        self.may_drop = False
        self.ladder = LADDER

    async def watch(self, store: Store) -> None:
        while True:
            try:
                peek = await store.peek()
                if peek is not None and self.seen[-1:] != [peek.version]:
                    self.seen.append(peek.version)
                    published = await store.table()
                    if published is not None:
                        self._keep(published.body)
            except (StoreError, TableError):
                pass
            await anyio.sleep(LOOK_S)

    def _keep(self, body: bytes) -> None:
        table = tables.decode(body)
        self.tables[table.version.epoch, table.version.revision] = table.routes["chat"]

    async def remember(self) -> None:
        """Take also the tables that were published between two looks."""
        for entry in await self.here.store.history(500):
            self._keep(entry.body)

    # --- the ramp

    async def start(self, verb: Verb = Verb.CANARY, **args: Any) -> None:
        """Say that the ramp is to begin, and wait until somebody has obeyed."""
        said = {"route": "chat", "from": "bedrock", "to": "google", **args}
        word = await self.here.store.say(verb, "ann", "a trial", said)
        answer = await self.here.store.answer(word, 10.0)
        assert answer is not None
        assert answer.ok, answer.text

    async def ramp(self) -> Ramp:
        return (await self.state()).ramps["chat"]

    async def until(self, wanted: Callable[[Ramp], Any], timeout_s: float = 30.0) -> Ramp:
        """The ramp, as soon as it is as wanted."""

        async def is_wanted() -> Ramp | None:
            ramp = await self.ramp()
            return ramp if wanted(ramp) else None

        try:
            found: Ramp = await eventually(self.surely(is_wanted), timeout_s)
        except TimeoutError:
            ramp = await self.ramp()
            raise AssertionError(f"{ramp.phase}, step {ramp.step}: {ramp.hold or ramp.ended}") from None
        return found

    async def at(self, step: int) -> Ramp:
        """Until the ramp is in this step; the last one is the baking."""
        return await self.until(
            lambda ramp: (
                ramp.step == step
                and ramp.phase in {RampPhase.SPREADING, RampPhase.OBSERVING, RampPhase.BAKING}
            )
        )

    async def ended(self, timeout_s: float = 45.0) -> Ramp:
        """The ramp when it is over, its last table is served everywhere, and callers have had a while with it."""
        ramp = await self.until(lambda ramp: ramp.phase in ENDED, timeout_s)
        last = self.ladder[-1 if ramp.phase is RampPhase.PROMOTED else 0]
        await self.served(lambda table: table.routes["chat"].shares_bp == last)
        await self.callers.more(40)
        await self.remember()
        return ramp

    async def told(self, kind: str) -> list[Note]:
        return [note for note in await self.here.notes(kind) if note.subject == "chat"]

    # --- what must hold throughout

    @property
    def rank(self) -> dict[tuple[int, int], int]:
        """How far up the ladder each table is; those that health has changed are left out."""
        return {
            version: self.ladder.index(entry.shares_bp)
            for version, entry in sorted(self.tables.items())
            if entry.shares_bp in self.ladder
        }

    @property
    def jumped(self) -> list[str]:
        """Tables off the ladder, rungs that were left out, and answers by another share than their table's."""
        told = [
            f"table {version} has {entry.shares_bp}"
            for version, entry in self.tables.items()
            if entry.shares_bp not in self.ladder
        ]
        way = [place for place, _ in itertools.groupby(self.rank.values())]
        told += [
            f"from rung {before} to {after} of {way}"
            for before, after in itertools.pairwise(way)
            if after not in {before + 1, 0}
        ]
        for answer in self.callers.served:
            shares = self._shares_of(answer.table)
            if answer.reason.startswith("share ") and answer.reason not in shares.get(answer.target, ()):
                told.append(
                    f"{answer.proxy} picked {answer.target} by {answer.reason} in {answer.table}: {shares}"
                )
        return told

    def _shares_of(self, version: tuple[int, int]) -> dict[str, list[str]]:
        """target → the reasons that an answer by this table may give, as it is and, if that may be, once dropped."""
        entry = self.tables.get(version)
        if entry is None:
            return {}
        stages = [entry.shares_bp, *(stage.shares_bp for stage in entry.later if self.may_drop)]
        return {
            target: [f"share {percent(shares[target])}" for shares in stages if target in shares]
            for target in entry.chain
        }

    def wrong(self, *, streams: bool = True) -> list[str]:
        """All that must not be, whatever dies: failures, versions that go back, jumps, callers that change sides.

        `streams` False: those that had begun may break.
        """
        broken = (
            [f"{self.callers.tally.broken} streams broke"] if streams and self.callers.tally.broken else []
        )
        way = ("bedrock", "google") if self.ladder[0] == BASELINE else ("google", "bedrock")
        moved = self.ramp_callers.moved(self.rank, *way, may_drop=self.may_drop)
        return [*self.failed, *broken, *self.went_back, *self.jumped, *moved]


@asynccontextmanager
async def ramp_storm(
    folder: Path, *, per_s: float = PER_S, balanced: bool = False, **sections: Any
) -> AsyncIterator[RampStorm]:
    """An installation under steady traffic on chat; `sections` as in Installation.running, over SECTIONS."""
    merged = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in SECTIONS}
    async with (
        Installation.running(folder, **{**sections, **merged}) as installation,
        Store.connect(installation.valkey.url, installation.keys, timeout_s=0.5) as store,
        RampCallers.calling(list(installation.urls.values()), balanced=balanced) as callers,
        anyio.create_task_group() as watching,
    ):
        made = RampStorm(installation, callers)
        watching.start_soon(made.watch, store)
        async with callers.steady(per_s):
            await callers.more(20)
            yield made
        watching.cancel_scope.cancel()
