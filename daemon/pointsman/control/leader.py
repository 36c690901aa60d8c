"""Who leads: a lease in the store with an epoch, and a fence of our own.

    standby → leader    acquired: nobody holds the lease, or we still do
    leader  → leader    renewed every third of the ttl
    leader  → standby   the store refuses the renewal or a write (another daemon leads), or the fence is over
    leader  → standby   released when nothing has been decided for longer than the ttl: whatever holds the loop up
                        may hold it up here only
    leader  → nobody    released on a clean stop, so that a standby takes over at once

The fence: nothing is written later than the START of the last good renewal + ttl − margin, by this process's
monotonic clock. A process that was paused finds its fence over before it can write; and should it be paused
between the look at its fence and the write, the store's script refuses the older epoch.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import anyio

from pointsman import logs
from pointsman.store.client import Store
from pointsman.store.errors import Fenced, StoreDown, StoreError
from pointsman.store.records import Lease

_log = logs.get("control.leader")

RENEWALS_PER_TTL: Final = 3
YIELD_GAP_S: Final = 60.0


class Leadership:
    """Acquires and keeps the lease. `changed` is called after every change of role.

    `decided_s` gives how long ago the loop last finished a tick: who does not decide must not lead.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        *,
        ttl_s: float,
        margin_s: float,
        floor_epoch: Callable[[], int],
        decided_s: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._owner = owner
        self._ttl_s = ttl_s
        self._margin_s = margin_s
        self._floor_epoch = floor_epoch
        self._decided_s = decided_s
        self._changed = changed
        self._lease: Lease | None = None
        self._fence = -math.inf
        self._nudge = anyio.Event()
        self._fit = False
        self._yielded_until = self._yields_again_at = -math.inf
        self._troubled = False
        self.leader_seen = ""

    @property
    def lease(self) -> Lease | None:
        """The lease while it may be written under; None on standby and behind the fence."""
        return self._lease if time.monotonic() < self._fence else None

    async def keep(self) -> None:
        """Acquire and renew for ever. A store that cannot be asked is asked again; the fence does the rest."""
        while True:
            try:
                pause_s = await self.step()
                self._troubled = False
            except StoreError as error:
                pause_s = self._ttl_s / RENEWALS_PER_TTL / 4
                self._tell_trouble(error)
            if self._lease is not None and self.lease is None:
                self.lost("the lease could not be renewed in time")
            with anyio.move_on_after(pause_s):
                await self._nudge.wait()
            self._nudge = anyio.Event()

    async def step(self) -> float:
        """Renew or try to acquire once; how many seconds until the next time."""
        decides = self._decided_s() <= self._ttl_s
        if not decides and self.lease is not None:
            await self._hand_over(self.lease)
        began = time.monotonic()
        if self._lease is not None:
            try:
                if await self._store.renew(self._lease, self._ttl_s):
                    self._fence = began + self._ttl_s - self._margin_s
                    return self._ttl_s / RENEWALS_PER_TTL
            except Fenced as error:
                self.refused(error)
                return self._ttl_s / RENEWALS_PER_TTL
            self.lost("the store no longer knows our lease")
        if not self._fit or not decides or time.monotonic() < self._yielded_until:
            return self._ttl_s / RENEWALS_PER_TTL
        return await self._try_to_acquire()

    def _tell_trouble(self, error: StoreError) -> None:
        """Say once what keeps us from the lease; that a store is away the loop says."""
        if not isinstance(error, StoreDown) and not self._troubled:
            self._troubled = True
            _log.error("the lease can be neither taken nor kept: {why}", why=str(error))

    async def _hand_over(self, lease: Lease) -> None:
        """Nothing is decided here: whoever stands by may do better."""
        _log.error(
            "no longer leading with epoch {epoch}: nothing was decided for {decided_s} s",
            epoch=lease.epoch,
            decided_s=round(self._decided_s(), 1),
        )
        await self.release()
        self._changed()

    async def _try_to_acquire(self) -> float:
        began = time.monotonic()
        lease = await self._store.acquire(self._owner, self._ttl_s, self._floor_epoch())
        if lease is None:
            return await self._wait_for_leader()
        self._lease, self._fence = lease, began + self._ttl_s - self._margin_s
        self.leader_seen = self._owner
        _log.info("leading with epoch {epoch}", epoch=lease.epoch, owner=self._owner)
        self._changed()
        return self._ttl_s / RENEWALS_PER_TTL

    async def _wait_for_leader(self) -> float:
        """Until the lease that somebody else holds runs out, but a look is taken every third of a ttl."""
        leader = await self._store.leader()
        if leader is None:
            return 0.05
        if leader.owner != self.leader_seen:
            _log.info(
                "standing by: {leader} leads with epoch {epoch}", leader=leader.owner, epoch=leader.epoch
            )
            self.leader_seen = leader.owner
        return min(self._ttl_s / RENEWALS_PER_TTL, max(0.05, leader.ttl_s + 0.01))

    async def raise_epoch(self, above: int, why: str) -> None:
        """Take a new epoch above `above`, because proxies know a newer table than the store does."""
        began = time.monotonic()
        lease = await self._store.acquire(self._owner, self._ttl_s, above + 1)
        if lease is None:
            self.lost("another daemon holds the lease")
            return
        self._lease, self._fence = lease, began + self._ttl_s - self._margin_s
        _log.warning("taking epoch {epoch}: {why}", epoch=lease.epoch, why=why)

    def refused(self, error: Fenced) -> None:
        """The store refused a write of ours: another daemon leads."""
        self.lost(f"publication refused: {error}")

    def lost(self, why: str) -> None:
        """Become standby, and ask for the lease again soon."""
        if self._lease is None:
            return
        _log.warning("no longer leading with epoch {epoch}: {why}", epoch=self._lease.epoch, why=why)
        self._lease, self._fence, self.leader_seen = None, -math.inf, ""
        self.nudge()
        self._changed()

    async def allow(self, *, fit: bool) -> None:
        """May this process lead? Not before it has read the state once, and never one of a newer format."""
        if fit and not self._fit:
            self.nudge()
        self._fit = fit
        if not fit and self._lease is not None:
            _log.error("no longer leading: the stored state cannot be read by this version")
            await self.release()
            self._changed()

    async def yield_to_others(self, why: str) -> None:
        """Let a standby take over and stay back for one ttl; whoever is alone leads again, for a minute at least."""
        now = time.monotonic()
        if self._lease is None or now < self._yields_again_at:
            return
        _log.warning("yielding the lead for {ttl_s} s: {why}", ttl_s=self._ttl_s, why=why)
        self._yielded_until, self._yields_again_at = now + self._ttl_s, now + self._ttl_s + YIELD_GAP_S
        await self.release()
        self._changed()

    def nudge(self) -> None:
        """Something happened that may concern the lease: look at once."""
        self._nudge.set()

    async def release(self) -> None:
        """Give the lease up on a clean stop; a store that is away lets it run out."""
        lease, self._lease, self._fence = self._lease, None, -math.inf
        if lease is None:
            return
        try:
            await self._store.release(lease)
            await self._store.wake()
        except StoreError as error:
            _log.info("the lease was not released and runs out by itself: {why}", why=str(error))
