"""What somebody else wrote into the store is told as a StoreError, or read as far as it goes."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from pointsman.core.model import Decision, Health, State
from pointsman.core.table import Table, Version
from pointsman.store.client import Lease, Store
from pointsman.store.errors import Fenced, StoreError, Unreadable
from pointsman.store.keys import Keys

pytestmark = pytest.mark.anyio
STRANGE = b"\xff"
MakeTable = Callable[..., Table]


async def test_a_message_that_is_no_text_is_a_message(store: Store, keys: Keys) -> None:
    """A subscription goes on after bytes that are no UTF-8."""
    async with aclosing(store.hints()) as hints:
        assert await anext(hints) == ""
        await store._wire.write("PUBLISH", keys.hint_channel, STRANGE)
        await store._wire.write("PUBLISH", keys.hint_channel, b"7.1")
        assert [await anext(hints), await anext(hints)] == ["�", "7.1"]


async def test_a_leaders_name_is_shown_as_far_as_it_goes(store: Store, keys: Keys) -> None:
    """Who holds the lease is told, whatever it calls itself; and who is refused by it is told too."""
    await store._wire.write("HSET", keys.lease, "owner", STRANGE, "epoch", "7")
    leader = await store.leader()
    assert leader is not None
    assert (leader.owner, leader.epoch) == ("�", 7)
    with pytest.raises(Fenced, match="� leads with epoch 7"):
        await store.save(Lease("daemon-a", 6), None, Decision(state=State(), table=None, reasons={}))


@pytest.mark.parametrize("epoch", ["the first", STRANGE])
async def test_an_epoch_that_is_no_number_is_unreadable(store: Store, keys: Keys, epoch: Any) -> None:
    """The key is named."""
    await store._wire.write("HSET", keys.lease, "owner", "x", "epoch", epoch)
    with pytest.raises(Unreadable, match="default:lease"):
        await store.leader()


BEYOND = "9007199254740993"  # 2^53 + 1, which a script cannot tell from 2^53


@pytest.mark.parametrize("epoch", ["1e999", "the first", "-1", BEYOND, "9" * 400])
async def test_a_last_epoch_of_a_stranger_is_in_nobodys_way(store: Store, keys: Keys, epoch: str) -> None:
    """It is replaced by one from the clock, and the next one is above that."""
    await store._wire.write("SET", keys.epoch, epoch)
    before_s = await store.now_s()
    first = await store.acquire("daemon-a", 60.0, 0)
    assert first is not None
    assert before_s < first.epoch <= before_s + 2
    await store.release(first)
    assert await store.acquire("daemon-b", 60.0, 0) == Lease("daemon-b", first.epoch + 1)


@pytest.mark.parametrize("epoch", ["the first", BEYOND])
async def test_a_lease_with_a_strangers_epoch_is_taken(store: Store, keys: Keys, epoch: str) -> None:
    """Nobody leads with it."""
    await store._wire.write("HSET", keys.lease, "owner", "x", "epoch", epoch)
    await store._wire.write("PEXPIRE", keys.lease, 60_000)
    assert await store.acquire("daemon-a", 60.0, 0) is not None


async def test_a_lease_without_an_end_is_taken(store: Store, keys: Keys) -> None:
    """No daemon would ever lead again; one that ends is somebody's."""
    await store._wire.write("HSET", keys.lease, "owner", "x", "epoch", "7")
    await store._wire.write("PEXPIRE", keys.lease, 60_000)
    assert await store.acquire("daemon-a", 60.0, 0) is None
    await store._wire.write("PERSIST", keys.lease)
    assert await store.acquire("daemon-a", 60.0, 0) is not None


async def test_fields_of_the_state_that_are_no_text_hide_no_others(
    store: Store, keys: Keys, lease: Lease
) -> None:
    """What a stranger added to the state is left out."""
    state = State(health={"a": Health(failures=3)})
    await store.save(lease, None, Decision(state=state, table=None, reasons={}))
    await store._wire.write("HSET", keys.state, STRANGE, "1")
    loaded = await store.load_state()
    assert loaded is not None
    assert loaded.health == state.health


async def test_a_revision_of_the_state_that_is_no_number_is_told(
    store: Store, keys: Keys, lease: Lease
) -> None:
    """With its key, as for any other field."""
    await store.save(lease, None, Decision(state=State(), table=None, reasons={}))
    await store._wire.write("HSET", keys.state, "revision", STRANGE)
    with pytest.raises(StoreError, match="default:state revision"):
        await store.load_state()


@pytest.mark.parametrize("field", ["hash", "deadlines"])
async def test_an_unreadable_table_still_has_its_version(
    store: Store, keys: Keys, lease: Lease, make_table: MakeTable, field: str
) -> None:
    """So that another one can be put above it."""
    await store.publish(lease, make_table(lease.epoch, 3), {}, {})
    await store._wire.write("HSET", keys.table, field, STRANGE)
    with pytest.raises(Unreadable) as caught:
        await store.peek()
    assert caught.value.peek is not None
    assert caught.value.peek.version == Version(lease.epoch, 3)


@pytest.mark.parametrize("epoch", ["0xffffffff", "9e9", " 9999999999", BEYOND])
async def test_what_only_lua_takes_for_a_number_is_replaced(
    store: Store, keys: Keys, lease: Lease, make_table: MakeTable, epoch: str
) -> None:
    """An epoch that no leader has written is in nobody's way."""
    await store.publish(lease, make_table(lease.epoch, 1), {}, {})
    await store._wire.write("HSET", keys.table, "epoch", epoch)
    await store.publish(lease, make_table(lease.epoch, 2), {}, {})
    peek = await store.peek()
    assert peek is not None
    assert peek.version == Version(lease.epoch, 2)


async def test_a_table_above_all_versions_is_unreadable(
    store: Store, keys: Keys, lease: Lease, make_table: MakeTable
) -> None:
    """Its version is nobody's, so that no leader and no proxy goes by it."""
    await store.publish(lease, make_table(lease.epoch, 1), {}, {})
    await store._wire.write("HSET", keys.table, "epoch", BEYOND)
    with pytest.raises(Unreadable, match="no daemon gave the version"):
        await store.peek()
    with pytest.raises(Unreadable, match="no daemon gave the version"):
        await store.table()


async def test_an_event_without_a_note_is_told(store: Store, keys: Keys) -> None:
    """With its key, as a StoreError."""
    await store._wire.write("XADD", keys.events, "*", "x", "y")
    with pytest.raises(StoreError, match="default:events"):
        await store.events()
