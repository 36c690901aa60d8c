"""Recorded decisions in a real Valkey: found by their time, capped by bytes, written by the leader only."""

import os
from collections.abc import Awaitable, Callable

import pytest

from pointsman.core import record as records
from pointsman.core.asked import Asked
from pointsman.core.evidence import Evidence
from pointsman.core.model import Decision, Note, State
from pointsman.store.client import Lease, Store
from pointsman.store.errors import Fenced, StoreDown, Unreadable
from pointsman.store.keys import Keys
from support import ValkeyServer

pytestmark = pytest.mark.anyio

Put = Callable[..., Awaitable[None]]

AT_S = 1_800_000_000.25


def body_of(text: str = "it happened", at_s: float = AT_S) -> bytes:
    """A record of a decision that told `text`."""
    asked = Asked(at_s=at_s, epoch=7, published=None, published_s=0.0, state=State(), evidence=Evidence())
    note = Note(at_s=at_s, kind="test", subject="a", text=text)
    decision = Decision(state=State(words_cursor="5-0"), table=None, reasons={}, notes=(note,))
    return records.encode(records.record_of(asked, decision, "a test"))


@pytest.fixture
def put(store: Store, lease: Lease) -> Put:
    """`await put(text, at_s)`: write a record under the lease."""

    async def write(text: str = "it happened", at_s: float = AT_S) -> None:
        await store.records.put(lease, at_s, body_of(text, at_s))

    return write


async def told(store: Store, **wanted: object) -> list[str]:
    """What the records tell, newest first."""
    return [entry.record().came.notes[0].text for entry in await store.records.before(**wanted)]


async def test_round_trip(store: Store, put: Put) -> None:
    """A record comes back as it was written, and its id is the decision's time."""
    await put()
    (entry,) = await store.records.before()

    assert entry.body == body_of()
    assert entry.record() == records.decode(body_of())
    assert entry.id == f"{int(AT_S * 1000)}-0"
    assert entry.time_s == AT_S


async def test_found_by_time(store: Store, put: Put) -> None:
    """The last decision at a moment or before it; none before the first."""
    for number in range(3):
        await put(str(number), AT_S + 10 * number)

    async def at(moment_s: float) -> str | None:
        entry = await store.records.at(moment_s)
        return entry.record().came.notes[0].text if entry else None

    assert await at(AT_S - 0.001) is None
    assert await at(AT_S) == "0"
    assert await at(AT_S + 19.9) == "1"
    assert await at(AT_S + 1e6) == "2"


async def test_the_last_ones(store: Store, put: Put) -> None:
    """Newest first, as many as wanted, in pages, up to a place with or without it."""
    for number in range(25):
        await put(str(number), AT_S + number)
    newest_first = [str(number) for number in reversed(range(25))]
    entries = await store.records.before(count=100)

    assert await told(store) == newest_first
    assert await told(store, count=13) == newest_first[:13]
    assert await told(store, place=entries[3].id, count=2) == newest_first[3:5]
    assert await told(store, place=f"({entries[3].id}", count=2) == newest_first[4:6]


async def test_the_span(store: Store, put: Put) -> None:
    """From the first record to the last; None while there is none."""
    assert await store.records.span() is None
    await put(at_s=AT_S)
    await put(at_s=AT_S + 7)

    assert await store.records.span() == (AT_S, AT_S + 7)


async def test_two_decisions_of_one_millisecond_are_both_kept(store: Store, put: Put) -> None:
    """They stand in the order in which they were made."""
    await put("first")
    await put("second")

    assert await told(store) == ["second", "first"]


async def test_a_clock_that_was_set_back_loses_nothing(store: Store, put: Put) -> None:
    """What is decided at an earlier time than the last record stands behind it all the same."""
    await put("before", AT_S)
    await put("after", AT_S - 3600)
    await put("and again", AT_S - 3500)

    assert await told(store) == ["and again", "after", "before"]


async def test_capped_by_bytes(store_url: str, keys: Keys) -> None:
    """Large or small: what is kept is about as much as may be, and it is the newest."""
    async with Store.connect(store_url, keys, timeout_s=5.0, records_bytes=100_000) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        for number in range(400):
            body = os.urandom(5000 if number % 10 == 0 else 300)
            await store.records.put(lease, AT_S + number, body)
            kept = sum(len(entry.body) for entry in await store.records.before(count=1000))
            assert kept <= 100_000
        entries = await store.records.before(count=1000)

        assert sum(len(entry.body) for entry in entries) > 90_000
        assert [entry.time_s for entry in entries] == [AT_S + 399 - n for n in range(len(entries))]
        await store.clear()


async def test_a_lower_cap_is_kept_to_at_once(store_url: str, keys: Keys) -> None:
    """After a change of the setting the next record makes room; one that is larger than the cap is kept alone."""
    async with Store.connect(store_url, keys, timeout_s=5.0) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        for number in range(100):
            await store.records.put(lease, AT_S + number, os.urandom(1000))
        store.records.cap_bytes = 10_000
        await store.records.put(lease, AT_S + 100, os.urandom(1000))
        assert len(await store.records.before(count=1000)) == 10
        store.records.cap_bytes = 100
        await store.records.put(lease, AT_S + 101, os.urandom(1000))
        assert len(await store.records.before(count=1000)) == 1
        await store.clear()


@pytest.mark.parametrize("written", ["1000000000000", "-5", "no number"])
async def test_what_somebody_else_wrote_there_does_not_stay_in_the_way(
    store: Store, keys: Keys, put: Put, written: str
) -> None:
    """A stranger's entry costs at most what was there; records are written and counted again after it."""
    await put("before")
    await store._wire.write("XADD", keys.records, "*", "written", written)
    await put("after")
    await put("and again")

    entries = await store.records.before()
    assert [entry.body for entry in entries[:2]] == [body_of("and again"), body_of("after")]
    await store._wire.write("XADD", keys.records, "*", "x", "y")
    with pytest.raises(Unreadable, match=r"record \d+-\d+ cannot be read: the record is corrupt"):
        (await store.records.before(count=1))[0].record()


async def test_without_the_lease_nothing_is_written(store: Store, lease: Lease) -> None:
    """A leader that was replaced cannot write a record, nor one whose lease is over."""
    await store.release(lease)
    with pytest.raises(Fenced, match=rf"its lease is over, and the last epoch is {lease.epoch}"):
        await store.records.put(lease, AT_S, body_of())
    successor = await store.acquire("daemon-b", 60.0, 0)
    assert successor is not None
    with pytest.raises(Fenced, match=rf"daemon-b leads with epoch {successor.epoch}"):
        await store.records.put(lease, AT_S, body_of())

    assert await store.records.before() == []


async def test_a_full_store_is_down(own_valkey: ValkeyServer, keys: Keys) -> None:
    """A server without room refuses the record, and says so."""
    async with Store.connect(own_valkey.url, keys, timeout_s=5.0) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        await store._wire.write("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreDown, match="cannot do it now"):
            await store.records.put(lease, AT_S, body_of())


async def test_a_moment_before_all_clocks(store: Store, put: Put) -> None:
    """Whatever an operator asks for is answered."""
    await put()

    assert await store.records.at(-1e9) is None
