"""Publishing: fenced, only forwards, with a history and a hint."""

from collections.abc import Callable
from contextlib import aclosing

import pytest

from pointsman.core.table import Table, Version, decode, encode
from pointsman.store.client import Lease, Store
from pointsman.store.errors import Fenced, StoreError
from pointsman.store.keys import Keys

pytestmark = pytest.mark.anyio

MakeTable = Callable[..., Table]
REASONS = {"fast": {"haiku": 'the only one: 100 % "healthy"'}}


async def test_round_trip(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """What is read is byte for byte what was published, with what stands beside it."""
    table = make_table(lease.epoch, 1)
    before_s = await store.now_s()
    await store.publish(lease, table, REASONS, {"o1": 12.5})
    published = await store.table()
    assert published is not None
    assert published.body == encode(table)
    assert decode(published.body) == table
    assert (published.table_version, published.hash) == (table.version, table.hash)
    assert (published.reasons, published.deadlines) == (REASONS, {"o1": 12.5})
    assert before_s <= published.published_s <= published.now_s


async def test_nothing_published(store: Store) -> None:
    """A store without a table says so, everywhere."""
    assert await store.table() is None
    assert await store.peek() is None
    assert await store.history() == []
    assert await store.at(1) is None


async def test_peek(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """A peek tells version, hash and deadlines."""
    table = make_table(lease.epoch, 7)
    await store.publish(lease, table, REASONS, {"o1": 12.5})
    peek = await store.peek()
    assert peek is not None
    assert (peek.version, peek.hash, peek.deadlines) == (table.version, table.hash, {"o1": 12.5})
    assert abs(peek.now_s - await store.now_s()) < 5.0


@pytest.mark.parametrize("step", [0, -1])
async def test_same_or_older_revision_is_refused(
    store: Store, lease: Lease, make_table: MakeTable, step: int
) -> None:
    """Versions go up; what is published stays when another tries."""
    await store.publish(lease, make_table(lease.epoch, 5), REASONS, {})
    late = make_table(lease.epoch, 5 + step, base_url="https://other.example.com")
    with pytest.raises(Fenced, match=rf"{lease.epoch}\.{5 + step} is not newer than {lease.epoch}\.5"):
        await store.publish(lease, late, REASONS, {})
    published = await store.table()
    assert published is not None
    assert published.table_version == Version(lease.epoch, 5)
    assert b"other.example.com" not in published.body


async def test_a_later_epoch_beats_a_higher_revision(
    store: Store, lease: Lease, make_table: MakeTable
) -> None:
    """The epoch counts first."""
    await store.publish(lease, make_table(lease.epoch, 9), REASONS, {})
    raised = await store.acquire("daemon-a", 60.0, lease.epoch + 1)
    assert raised is not None
    await store.publish(raised, make_table(raised.epoch, 2), REASONS, {})
    peek = await store.peek()
    assert peek is not None
    assert peek.version == Version(raised.epoch, 2)


async def test_old_epoch_is_refused(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """A paused leader that wakes up cannot publish; the message names both epochs."""
    await store.release(lease)
    successor = await store.acquire("daemon-b", 60.0, 0)
    assert successor is not None
    with pytest.raises(
        Fenced, match=rf"epoch {lease.epoch} of daemon-a .* daemon-b leads with epoch {successor.epoch}"
    ):
        await store.publish(lease, make_table(lease.epoch, 1), REASONS, {})
    assert await store.table() is None


async def test_table_of_another_epoch_is_refused(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """A table that was decided under an earlier lease is not published under this one."""
    with pytest.raises(Fenced, match="was not decided under the lease's epoch"):
        await store.publish(lease, make_table(lease.epoch - 1, 1), REASONS, {})


async def test_flushed_store_refuses_the_old_leader(
    store: Store, lease: Lease, make_table: MakeTable
) -> None:
    """After a flush nobody holds a lease, so nobody publishes before acquiring one."""
    await store.clear()
    with pytest.raises(Fenced, match="the last epoch is 0"):
        await store.publish(lease, make_table(lease.epoch, 1), REASONS, {})


async def test_renew_beside(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """Reasons and deadlines change beside the table, and neither its version nor its body does."""
    table = make_table(lease.epoch, 1)
    await store.publish(lease, table, REASONS, {"o1": 1.0})
    await store.renew_beside(lease, {"fast": {"haiku": "later"}}, {"o1": 2.0})
    published = await store.table()
    assert published is not None
    assert (published.reasons, published.deadlines) == ({"fast": {"haiku": "later"}}, {"o1": 2.0})
    assert (published.table_version, published.body) == (table.version, encode(table))


async def test_renew_beside_is_fenced(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """An old leader does not renew deadlines either."""
    await store.publish(lease, make_table(lease.epoch, 1), REASONS, {"o1": 1.0})
    await store.release(lease)
    with pytest.raises(Fenced):
        await store.renew_beside(lease, {}, {"o1": 9.0})
    peek = await store.peek()
    assert peek is not None
    assert peek.deadlines == {"o1": 1.0}


async def test_renew_beside_nothing(store: Store, lease: Lease) -> None:
    """Without a table nothing is written beside it."""
    await store.renew_beside(lease, {}, {"o1": 9.0})
    assert await store.table() is None


async def test_history(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """Every publication can be read again, newest first, with its bytes and its reasons."""
    tables = [
        make_table(lease.epoch, revision, base_url=f"https://{revision}.example.com")
        for revision in (1, 2, 11)
    ]
    for table in tables:
        await store.publish(lease, table, REASONS, {})
    entries = await store.history()
    assert [entry.version.revision for entry in entries] == [11, 2, 1]
    assert [entry.body for entry in entries] == [encode(table) for table in reversed(tables)]
    assert [entry.version.revision for entry in await store.history(limit=2)] == [11, 2]
    entry = await store.at(2)
    assert entry is not None
    assert (entry.version, entry.hash, entry.reasons) == (tables[1].version, tables[1].hash, REASONS)
    assert abs(entry.published_s - await store.now_s()) < 60.0


async def test_history_is_trimmed(store_url: str, keys: Keys, make_table: MakeTable) -> None:
    """The history keeps as many publications as it should, the newest ones, also when revisions jump."""
    async with Store.connect(store_url, keys, timeout_s=5.0, history_length=3) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        for revision in (1, 2, 3, 40, 41):
            await store.publish(lease, make_table(lease.epoch, revision), REASONS, {})
        assert [entry.version.revision for entry in await store.history()] == [41, 40, 3]
        assert await store.at(2) is None
        assert await store._wire.read("HLEN", keys.history) == 3
        await store.clear()


async def test_hint(store: Store, lease: Lease, make_table: MakeTable) -> None:
    """Whoever listens is told the version of every new table, and nothing of what travels beside it."""
    async with aclosing(store.hints()) as hints:
        assert await anext(hints) == ""
        await store.publish(lease, make_table(lease.epoch, 1), REASONS, {})
        await store.renew_beside(lease, REASONS, {"o1": 1.0})
        await store.publish(lease, make_table(lease.epoch, 2), REASONS, {})
        assert [await anext(hints), await anext(hints)] == [f"{lease.epoch}.1", f"{lease.epoch}.2"]


async def test_unreadable_neighbour_is_named(
    store: Store, keys: Keys, lease: Lease, make_table: MakeTable
) -> None:
    """Deadlines that cannot be decoded are told with their key."""
    await store.publish(lease, make_table(lease.epoch, 1), REASONS, {})
    await store._wire.write("HSET", keys.table, "deadlines", "[")
    with pytest.raises(StoreError, match="default:table deadlines"):
        await store.peek()
