"""Decisions are recorded beside the loop: replayed exactly, never waited for, never at a decision's cost."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from control_daemons import SLOW, settings_of, shares_in

from pointsman.control.recorder import Recorder
from pointsman.core import record as records
from pointsman.core.asked import Asked
from pointsman.core.evidence import Evidence, Verb
from pointsman.core.model import Decision, Note, State
from pointsman.core.record import Record
from pointsman.core.replay import replay
from pointsman.store.client import Lease, Store
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually

pytestmark = pytest.mark.anyio

MINUTE_S = 1_800_000_000.0


def made(text: str = "", at_s: float = MINUTE_S) -> tuple[Asked, Decision]:
    """A decision that told `text`; a quiet one without."""
    asked = Asked(at_s=at_s, epoch=7, published=None, published_s=0.0, state=State(), evidence=Evidence())
    notes = (Note(at_s=at_s, kind="test", subject="a", text=text),) if text else ()
    return asked, Decision(state=State(), table=None, reasons={}, notes=notes)


async def kept_in(store: Store) -> list[Record]:
    """Every record, oldest first."""
    return [entry.record() for entry in await store.records.before(count=1000)][::-1]


async def told_in(store: Store) -> list[str]:
    """What the records tell, oldest first; "" of quiet ones."""
    return [record.came.notes[0].text if record.came.notes else "" for record in await kept_in(store)]


@asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(recorder.run)
        yield
        group.cancel_scope.cancel()


@pytest.fixture
async def lease(store: Store) -> Lease:
    taken = await store.acquire("daemon-a", 60.0, 0)
    assert taken is not None
    return taken


async def test_a_daemons_decisions_are_replayed_exactly(store: Store, daemons: Callable[..., Any]) -> None:
    """The first table, a trip and an operator's word, as a real loop made them and a real store kept them."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        daemon.probe_all()
        daemon.kill_target("bedrock")
        args = {"route": "chat", "shares_bp": {"meta": 10_000}}
        word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args)
        assert await store.answer(word, 5.0) is not None

        async def all_kinds() -> bool:
            kinds = {note.kind for record in await kept_in(store) for note in record.came.notes}
            return kinds >= {"word.apply_plan", "table.published", "target.tripped", "word.set_weights"}

        await eventually(all_kinds)
        kept = await kept_in(store)

    assert [replay(record) for record in kept] == [[]] * len(kept)
    assert all(daemon.control.owner in record.by for record in kept)


async def test_the_record_is_that_of_what_was_published(store: Store, daemons: Callable[..., Any]) -> None:
    """The table in force by the record is the one that proxies read."""
    async with daemons(settings=settings_of(control=SLOW)):
        await eventually(lambda: shares_in(store))
        (record,) = await eventually(lambda: kept_in(store))
        published = await store.table()

    assert published is not None
    assert record.in_force is not None
    assert (record.in_force.version, record.in_force.hash) == (published.table_version, published.hash)
    assert record.came.reasons == published.reasons


async def test_ticks_on_which_nothing_happens_are_not_all_kept(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Ten ticks a second leave one quiet record a minute."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        daemon.probe_all()
        ticks = daemon.ticks
        await eventually(lambda: daemon.ticks > ticks + 15)
        kept = await kept_in(store)

    quiet = [record for record in kept if not records.came_to_something(record.came)]
    assert len({record.at_s // 60 for record in quiet}) == len(quiet) <= 2


async def test_the_first_quiet_decision_of_a_minute_is_kept(store: Store, lease: Lease) -> None:
    """And everything that came to anything, in its order."""
    recorder = Recorder(store.records, "a test")
    for after_s, text in ((0, ""), (1, ""), (2, "x"), (3, ""), (59, ""), (60, ""), (61, "y"), (62, "")):
        recorder.take(lease, *made(text, MINUTE_S + after_s))
    async with running(recorder):
        await eventually(lambda: has(store, 4))

    assert [(record.at_s - MINUTE_S, len(record.came.notes)) for record in await kept_in(store)] == [
        (0, 0),
        (2, 1),
        (60, 0),
        (61, 1),
    ]


async def has(store: Store, count: int) -> bool:
    return len(await store.records.before()) == count


async def test_no_room_for_records_keeps_none(store_url: str, keys: Keys) -> None:
    """With records_mb 0 nothing is taken, so nothing is made or written."""
    async with Store.connect(store_url, keys, timeout_s=5.0, records_bytes=0) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        recorder = Recorder(store.records, "a test")
        recorder.take(lease, *made("x"))
        store.records.cap_bytes = 10_000
        recorder.take(lease, *made("y"))
        async with running(recorder):
            await eventually(lambda: has(store, 1))
        assert await told_in(store) == ["y"]
        await store.clear()


async def test_a_store_that_refuses_is_told_once(
    own_valkey: ValkeyServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for each time that it begins; what is decided afterwards is recorded again."""
    async with Store.connect(own_valkey.url, keys, timeout_s=5.0) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        recorder = Recorder(store.records, "a test")
        async with running(recorder):
            for bout in range(1, 3):
                await store._wire.write("CONFIG", "SET", "maxmemory", "1")
                recorder.take(lease, *made("lost"))
                recorder.take(lease, *made("lost too"))
                await eventually(lambda: not recorder._waiting)
                await store._wire.write("CONFIG", "SET", "maxmemory", "0")
                recorder.take(lease, *made(f"kept {bout}"))
                await eventually(lambda n=bout: has(store, n))
                assert caplog.text.count("decisions are made, but not recorded") == bout
        assert await told_in(store) == ["kept 1", "kept 2"]


async def test_a_bug_of_ours_is_told_and_ends_nothing(
    store: Store, lease: Lease, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the making of a record fails with, the next one is made."""
    recorder = Recorder(store.records, "a test")
    with monkeypatch.context() as patch:
        patch.setattr(records, "encode", lambda _: 1 / 0)
        async with running(recorder):
            recorder.take(lease, *made("lost"))
            recorder.take(lease, *made("lost too"))
            await eventually(lambda: "ZeroDivisionError" in caplog.text and not recorder._waiting)
            patch.undo()
            recorder.take(lease, *made("kept"))
            await eventually(lambda: has(store, 1))

    assert await told_in(store) == ["kept"]
    assert caplog.text.count("decisions are made, but not recorded") == 1


async def test_whoever_lost_the_lease_records_nothing(
    store: Store, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    """The store refuses it; that is no fault to be told, since whoever leads now records."""
    await store.release(lease)
    successor = await store.acquire("daemon-b", 60.0, 0)
    assert successor is not None
    recorder = Recorder(store.records, "a test")
    async with running(recorder):
        recorder.take(lease, *made("of before"))
        recorder.take(successor, *made("of now"))
        await eventually(lambda: has(store, 1))

    assert await told_in(store) == ["of now"]
    assert caplog.text == ""


async def test_what_comes_too_fast_is_left_out_and_told(
    store: Store, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    """So many wait, the others are counted: one warning when it begins, one with the number when it is over."""
    recorder = Recorder(store.records, "a test", capacity=3)
    for number in range(8):
        recorder.take(lease, *made(str(number)))
    async with running(recorder):
        await eventually(lambda: "decisions were left out of the records" in caplog.text)

    assert await told_in(store) == ["0", "1", "2"]
    assert caplog.text.count("come faster than they can be recorded") == 1
    assert caplog.records[-1].fields == {"left_out": 5}


async def test_a_store_that_never_takes_a_record_costs_no_decision(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Decisions are saved and published while a record is still being written."""
    async with daemons() as daemon:
        begun = anyio.Event()

        async def never(*_: Any) -> None:
            begun.set()
            await anyio.sleep_forever()

        daemon.store.records.put = never
        await begun.wait()
        daemon.probe_all()
        daemon.kill_target("bedrock")

        async def moved() -> bool:
            return "bedrock" not in await shares_in(store)

        assert await eventually(moved)
    assert await store.records.before() == []


async def test_recording_takes_a_part_of_the_time_only(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each record it rests four times as long as the making took."""
    rests: list[float] = []
    sleep = anyio.sleep

    async def rest(delay: float) -> None:
        rests.append(delay)
        await sleep(min(delay, 0.005))

    monkeypatch.setattr("pointsman.control.recorder.anyio.sleep", rest)
    monkeypatch.setattr("pointsman.control.recorder.time.thread_time", iter((1.0, 1.25)).__next__)
    recorder = Recorder(store.records, "a test")
    recorder.take(lease, *made("x"))
    async with running(recorder):
        await eventually(lambda: 1.0 in rests)  # it is in the store a moment before that

    assert len(await store.records.before()) == 1
