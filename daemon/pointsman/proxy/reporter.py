"""The proxy's heartbeat: what it serves by and what it saw, about once a second.

Sooner after what may change a verdict (with the few that come together: outcomes.AT_ONCE_S), and after a failure that
stands alone (LONE_S), so that errors in the background make four reports a second at the most. Both wake the leader.
"""

import asyncio
import math
import time

import anyio

from pointsman import logs
from pointsman.core.evidence import Report, TargetReport
from pointsman.core.table import TABLE_FORMATS
from pointsman.proxy.books import Books
from pointsman.proxy.feed import Feed
from pointsman.proxy.outcomes import AT_ONCE_S, LONE_S
from pointsman.proxy.pins import Pins
from pointsman.store.client import Store
from pointsman.store.errors import StoreError

log = logs.get("proxy.reports")


class Reporter:
    """Writes reports. They are cumulative: one that is lost is made good by the next."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        books: Books,
        pins: Pins,
        *,
        proxy: str,
        boot: str,
        environment: str,
        fleet: str,
        interval_s: float,
    ) -> None:
        self._store = store
        self._feed = feed
        self._books = books
        self._pins = pins
        self._interval_s = interval_s
        self._nudged = asyncio.Event()
        self._due_s = math.inf
        self._wake_within_s = math.inf
        self._failing = False
        self._head = Report(
            proxy=proxy,
            boot=boot,
            seq=0,
            environment=environment,
            fleet=fleet,
            table_formats=TABLE_FORMATS,
        )

    def started(self, address: str) -> None:
        """The proxy listens at `address`."""
        self._head.address = address

    def nudge(self, wake: bool) -> None:
        """There is something to tell; `wake`: to tell the leader at once."""
        if wake:
            self.wake(AT_ONCE_S)
        else:
            self._report_within(0.0)

    def wake(self, within_s: float) -> None:
        """The leader is to hear of something within `within_s`."""
        self._wake_within_s = min(self._wake_within_s, within_s)
        self._report_within(within_s)

    def _report_within(self, seconds: float) -> None:
        due_s = time.monotonic() + seconds
        if due_s < self._due_s:
            self._due_s = due_s
            self._nudged.set()

    async def run(self) -> None:
        """Report until cancelled. A store that is away is reported to later."""
        while True:
            beat_s = time.monotonic() + self._interval_s
            while (left_s := min(beat_s, self._due_s) - time.monotonic()) > 0:
                self._nudged.clear()
                with anyio.move_on_after(left_s):
                    await self._nudged.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write one report now."""
        within_s, self._due_s, self._wake_within_s = self._wake_within_s, math.inf, math.inf
        try:
            wake, lone = within_s < math.inf, within_s >= LONE_S
            await self._store.put_report(self._build(), wake=wake, lone=lone)
            self._failing = False
        except StoreError as error:
            if not self._failing:
                self._failing = True
                log.warning(
                    "the report could not be written; the next one will hold it too", error=str(error)
                )

    def _build(self) -> Report:
        feed, books = self._feed, self._books
        clock_s, now_s = books.clock.now_s(), time.monotonic()
        head = self._head
        head.seq += 1
        head.started_s = head.started_s or clock_s
        view = feed.view
        head.accepted = head.serving = view.table.version if view else None
        head.served_s = feed.served_s
        head.missing = view.missing if view else {}
        head.rejected = feed.rejected
        head.pinned = ", ".join(self._pins.routes(now_s))
        if view is not None:
            books.ledger.generations({name: entry.generation for name, entry in view.table.targets.items()})
            books.arms.keep({route.ramp for route in view.table.routes.values()})
        head.targets = books.ledger.reports(clock_s)
        head.ramps = books.arms.reports()
        for name, endpoint in view.endpoints.items() if view else ():
            overdue, ejected = books.local.overdue(name, now_s), books.local.ejected(name, now_s)
            if overdue or ejected:
                entry = head.targets.setdefault(name, TargetReport(generation=endpoint.generation))
                entry.outstanding, entry.ejected = overdue, ejected
        return head
