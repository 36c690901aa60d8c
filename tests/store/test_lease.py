"""The lease: one holder at a time, and epochs that only grow."""

import pytest

from pointsman.store.client import Lease, Store
from pointsman.store.keys import Keys
from support import eventually

pytestmark = pytest.mark.anyio


async def test_exclusive(store: Store, lease: Lease) -> None:
    """While one daemon holds the lease, another does not get it."""
    assert await store.acquire("daemon-b", 60.0, 0) is None


async def test_fresh_store_takes_the_epoch_from_the_clock(store: Store) -> None:
    """In a store that knows no epoch, the first one is above the store's clock."""
    before_s = await store.now_s()
    lease = await store.acquire("daemon-a", 60.0, 0)
    assert lease is not None
    assert before_s < lease.epoch <= before_s + 2


async def test_next_holder_gets_the_next_epoch(store: Store, lease: Lease) -> None:
    """Once an epoch is stored, the next holder's is one more, whatever the clock says."""
    await store.release(lease)
    assert await store.acquire("daemon-b", 60.0, 0) == Lease("daemon-b", lease.epoch + 1)


async def test_same_owner_keeps_its_epoch(store: Store, lease: Lease) -> None:
    """Acquiring what one holds already changes nothing but the time that is left."""
    assert await store.acquire("daemon-a", 90.0, lease.epoch) == lease
    leader = await store.leader()
    assert leader is not None
    assert leader.ttl_s > 60.0


async def test_floor_above_the_epoch_gives_a_new_one(store: Store, lease: Lease) -> None:
    """A holder that learns of a higher epoch elsewhere gets one above it."""
    raised = await store.acquire("daemon-a", 60.0, lease.epoch + 10)
    assert raised == Lease("daemon-a", lease.epoch + 11)
    assert not await store.renew(lease, 60.0)


async def test_floor_counts_for_a_new_holder(store: Store) -> None:
    """A floor above the clock wins in a fresh store too."""
    assert await store.acquire("daemon-a", 60.0, 4_000_000_000) == Lease("daemon-a", 4_000_000_001)


async def test_expires(store: Store) -> None:
    """A lease that is not renewed ends by itself, and is refused from then on."""
    lease = await store.acquire("daemon-a", 0.02, 0)
    assert lease is not None
    successor = await eventually(lambda: store.acquire("daemon-b", 60.0, 0))
    assert successor.epoch == lease.epoch + 1
    assert not await store.renew(lease, 60.0)


async def test_renewal_prolongs(store: Store) -> None:
    """Renewing gives the whole time again."""
    lease = await store.acquire("daemon-a", 5.0, 0)
    assert lease is not None
    assert await store.renew(lease, 60.0)
    leader = await store.leader()
    assert leader is not None
    assert (leader.owner, leader.epoch) == ("daemon-a", lease.epoch)
    assert 55.0 < leader.ttl_s <= 60.0


async def test_release_of_a_lost_lease_changes_nothing(store: Store, lease: Lease) -> None:
    """Who has lost the lease cannot release that of its successor."""
    await store.release(lease)
    successor = await store.acquire("daemon-b", 60.0, 0)
    assert successor is not None
    await store.release(lease)
    leader = await store.leader()
    assert leader is not None
    assert leader.owner == "daemon-b"


async def test_nobody_leads_at_first(store: Store) -> None:
    """Without a lease there is no leader."""
    assert await store.leader() is None


async def test_fleets_do_not_share_a_lease(store: Store, store_url: str, keys: Keys, lease: Lease) -> None:
    """Another fleet, and another environment, have leases of their own."""
    for other in (Keys(keys.prefix, keys.environment, "other"), Keys(keys.prefix, "staging", keys.fleet)):
        async with Store.connect(store_url, other, timeout_s=5.0) as elsewhere:
            assert await elsewhere.acquire("daemon-b", 60.0, 0) is not None
            await elsewhere.clear()
    leader = await store.leader()
    assert leader is not None
    assert leader.owner == "daemon-a"
