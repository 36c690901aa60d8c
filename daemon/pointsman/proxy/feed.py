"""The table's way into this proxy: a hint or a poll, a check, one assignment.

A hint makes it fast, and the poll makes it certain. What is not valid or not newer is refused with its reason,
and the table before it stays. The last good one is kept on disk, so that a proxy starts without the store.
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from msgspec import Raw, Struct

from pointsman import logs
from pointsman.core.strangers import UNREADABLE
from pointsman.core.table import Table, TableError, Version, check_newer, decode
from pointsman.proxy.clock import SavedClock, StoreClock, remaining_after_restart
from pointsman.proxy.routing import View
from pointsman.proxy.view import Trust, compile_view
from pointsman.store.client import Store
from pointsman.store.errors import StoreError, Unreadable
from pointsman.store.records import Published

log = logs.get("proxy.feed")

SAVED_FORMAT: Final = 1
# A store that stays away is told again so often.
AWAY_TOLD_EVERY_S: Final = 60.0


class Saved(Struct):
    """The file of the last good table. `deadlines` are by the store's clock."""

    format: int
    clock: SavedClock
    deadlines: dict[str, float]
    body: Raw


class Feed:
    """Holds the current `view`. `changed(wake)` is called when there is something to acknowledge.

    `wake` tells whether the leader should hear of it at once.
    """

    def __init__(
        self,
        store: Store,
        trust: Trust,
        clock: StoreClock,
        *,
        proxy: str,
        environment: str,
        fleet: str,
        path: Path,
        poll_interval_s: float,
        changed: Callable[[bool], None],
    ) -> None:
        self._store = store
        self._own = self._trust = trust  # what our file says, and what the table is bound by
        self._clock = clock
        self._proxy = proxy
        self._environment = environment
        self._fleet = fleet
        self._path = path
        self._poll_interval_s = poll_interval_s
        self._changed = changed
        self._refused: Version | None = None
        self._heard_at_s: float | None = None
        self._kept = Saved(SAVED_FORMAT, SavedClock(0.0, 0.0), {}, Raw())
        self._keep = anyio.Event()
        self._away_told_s = -math.inf
        self.view: View | None = None
        self.served_s = 0.0  # since when its table is routed by, in the store's time
        self.from_disk = False
        self.rejected = ""

    @property
    def stale_s(self) -> float | None:
        """Seconds since the store last answered; None if it never has."""
        return None if self._heard_at_s is None else time.monotonic() - self._heard_at_s

    async def run(self) -> None:
        """Follow the store until cancelled. A store that is away changes nothing."""
        hinted = anyio.Event()

        async def listen() -> None:
            async for _ in self._store.hints():
                hinted.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            tasks.start_soon(self._save)
            while True:
                await self._look()
                with anyio.move_on_after(self._poll_interval_s):
                    await hinted.wait()
                hinted = anyio.Event()

    async def _look(self) -> None:
        """One look at the store: fetch what is newer, renew the deadlines of what is not."""
        try:
            peek = await self._store.peek()
            self._heard_at_s = time.monotonic()
            if self._away_told_s > -math.inf:
                self._away_told_s = -math.inf
                log.info("the store is back")
            if peek is None:
                return
            self._clock.heard(peek.now_s)
            if self.view is not None and peek.version == self.view.table.version:
                self._refused = None
                self._renew(peek.deadlines)
            elif peek.version != self._refused:
                published = await self._store.table()
                if published is not None:
                    await self._take(published)
        except Unreadable as error:
            self._heard_at_s = time.monotonic()
            self._refuse("unreadable", error)
        except StoreError as error:
            self._tell_away(error)

    def _tell_away(self, error: StoreError) -> None:
        """Say that the store is away, and go on saying it while it is."""
        now_s = time.monotonic()
        if now_s < self._away_told_s + AWAY_TOLD_EVERY_S:
            return
        self._away_told_s = now_s
        log.warning(
            "the store is away; routing goes on by the last table",
            error=str(error),
            table=self.view.version if self.view else None,
            stale_s=None if self.stale_s is None else round(self.stale_s, 1),
        )

    def _renew(self, deadlines: dict[str, float]) -> None:
        """The same table: deadlines may have been renewed, and a missing secret may have been put in place."""
        view = self.view
        if view is None:
            return
        self.rejected, self.from_disk = "", False
        if deadlines != self._kept.deadlines:
            self._remember(self._kept.body, deadlines)
        fresh = self._clock.on_monotonic(deadlines)
        if view.missing:
            renewed = compile_view(view.table, self._trust, proxy=self._proxy, deadlines=fresh)
            if renewed.missing != view.missing:
                self.view = renewed
                self._changed(True)
                return
        if deadlines or view.deadlines:
            self.view = view.renewed(fresh)

    async def _take(self, published: Published) -> None:
        """Validate, bind, swap, acknowledge, keep on disk; or refuse and say why."""
        self._clock.heard(published.now_s)
        try:
            table = decode(published.body)
            check_newer(
                table,
                self.view.table if self.view else None,
                environment=self._environment,
                fleet=self._fleet,
            )
        except TableError as error:
            self._refused = published.table_version
            self._refuse(str(published.table_version), error)
            return
        self._swap(table, self._clock.on_monotonic(published.deadlines))
        self._remember(Raw(published.body), published.deadlines)

    def _refuse(self, version: str, error: Exception) -> None:
        """Say once why what is published is not routed by."""
        rejected = f"{version}: {error}"
        if rejected != self.rejected:
            self.rejected = rejected
            log.warning("a table is refused", version=version, reason=str(error))
            self._changed(True)

    def _swap(self, table: Table, deadlines: dict[str, float]) -> None:
        before = self.view
        self._trust = self._own.keeping(self._trust, table)
        view = compile_view(table, self._trust, proxy=self._proxy, deadlines=deadlines)
        self.view = view  # the one assignment: requests that have begun keep the view they hold
        self.served_s = self._clock.now_s()
        self.rejected, self._refused, self.from_disk = "", None, False
        for target, why in view.missing.items():
            if before is None or before.missing.get(target) != why:
                log.warning("a target cannot be served by this proxy", target=target, reason=why)
        log.info("serving a table", version=view.version)
        self._changed(bool(view.missing) and (before is None or before.missing != view.missing))

    def rebind(self, trust: Trust) -> None:
        """Bind the credentials anew, by another configuration or as their files and variables are now.

        What is new or changed counts at once. What is gone stays as it was for as long as the table needs it.
        """
        before, self._own, self._trust = self._trust, trust, trust
        view = self.view
        if view is not None:
            self._trust = trust.keeping(before, view.table)
            if self._trust is not trust:
                log.info("the table still has what the file has no more: that stays as it was until then")
            self.view = compile_view(view.table, self._trust, proxy=self._proxy, deadlines=view.deadlines)
            self._changed(self.view.missing != view.missing)

    # --- the disk

    def _remember(self, body: Raw, deadlines: dict[str, float]) -> None:
        """This is to be on disk; what was to be and is not yet need not be any more."""
        clock = SavedClock(time.time(), self._clock.ahead_of_wall_s())
        self._kept = Saved(SAVED_FORMAT, clock, deadlines, body)
        self._keep.set()

    async def _save(self) -> None:
        """Keep the latest on disk until cancelled. A disk that hangs holds up nothing but this."""
        while True:
            await self._keep.wait()
            self._keep = anyio.Event()
            written = msgspec.json.encode(self._kept)
            try:
                await anyio.to_thread.run_sync(_write, self._path, written, abandon_on_cancel=True)
            except OSError as error:
                log.warning(
                    "the table could not be kept on disk", path=str(self._path), error=error.strerror or ""
                )

    def load(self) -> None:
        """Start from the last good table on disk, if there is one. Overlays run out as they would have.

        If the machine's clock is in doubt, those that drop are dropped at once.
        """
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=Saved)
            if saved.format != SAVED_FORMAT:
                return
            table = decode(bytes(saved.body))
            check_newer(table, None, environment=self._environment, fleet=self._fleet)
        except FileNotFoundError:
            return
        except (OSError, TableError, *UNREADABLE) as error:
            log.warning("the table on disk is not used", path=str(self._path), reason=str(error))
            return
        left_s = remaining_after_restart(saved.deadlines, saved.clock, time.time())
        if left_s is None:
            log.warning("the clock is in doubt: canaries and drills of the table on disk are dropped")
        now_s = time.monotonic()
        self._swap(table, {name: now_s + seconds for name, seconds in (left_s or {}).items()})
        self._kept, self.from_disk = saved, True


def _write(path: Path, body: bytes) -> None:
    """Replace `path` whole or not at all, readable by this user only."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
