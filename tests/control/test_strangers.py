"""What somebody else wrote into the store or onto the disk: it is told, and it ends no daemon."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from control_daemons import settings_of, shares_in, table_in

from pointsman.control import memory
from pointsman.core.evidence import Verb
from pointsman.core.table import encode
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import eventually

pytestmark = pytest.mark.anyio
TTL_S = 1.5


async def obeys(store: Store, target: str = "meta") -> bool:
    """Is an operator's word obeyed?"""
    args = {"route": "chat", "shares_bp": {target: 10_000}}
    answer = await store.answer(await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args), 5.0)
    return answer is not None and answer.ok


@pytest.mark.parametrize("body", [b'{"format": 1, "words_cursor": "\xe9"}', b'{"x":' * 100_000])
async def test_a_backup_that_is_no_text_is_no_obstacle(
    store: Store, daemons: Callable[..., Any], tmp_path: Path, body: bytes
) -> None:
    """A byte that is no UTF-8, and nesting without end: the daemon starts as with no backup."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "control-development-default.json").write_bytes(body)
    async with daemons("a"):
        assert await eventually(lambda: shares_in(store))


async def test_a_backup_whose_place_in_the_words_is_none_restores_the_rest(
    store: Store, daemons: Callable[..., Any], tmp_path: Path
) -> None:
    """What people decided comes back; words are heard from now on."""
    path = tmp_path / "a" / "control-development-default.json"
    async with daemons("a"):
        assert await obeys(store, "google")
        await eventually(lambda: path.exists() and "ann@host" in path.read_text())
    await store.clear()
    text = path.read_text()
    cursor = text.partition('"words_cursor":"')[2].partition('"')[0]
    path.write_text(text.replace(f'"words_cursor":"{cursor}"', '"words_cursor":"yesterday"'))
    async with daemons("a"):
        await eventually(lambda: shares_in(store))
        assert await shares_in(store) == {"google": 10_000}
        assert await obeys(store, "meta")


async def test_a_wake_that_is_no_text_wakes(store: Store, keys: Keys, daemons: Callable[..., Any]) -> None:
    """A byte that is no UTF-8 on the channel: the daemon goes on, and hears the next wake."""
    async with daemons():
        await eventually(lambda: shares_in(store))
        await store._wire.write("PUBLISH", keys.wake_channel, b"\xff")
        assert await obeys(store)


async def test_a_proxys_name_that_is_no_text_is_forgotten(
    store: Store, keys: Keys, daemons: Callable[..., Any]
) -> None:
    """Nobody reports under it: it goes like any other that has fallen silent."""
    await store._wire.write("HSET", keys.proxies, b"p\xff", "")
    async with daemons():
        await eventually(lambda: shares_in(store))

        async def forgotten() -> bool:
            return await store._wire.read("HKEYS", keys.proxies) == []

        assert await eventually(forgotten)


async def as_text(store: Store, keys: Keys) -> None:
    await store._wire.write("SET", keys.lease, "mine")


async def test_a_lease_under_no_number_is_in_nobodys_way(
    store: Store, keys: Keys, daemons: Callable[..., Any]
) -> None:
    """No daemon can have written it: the next one takes its place."""
    await store._wire.write("HSET", keys.lease, "owner", b"\xff", "epoch", "the first")
    async with daemons() as daemon:
        await eventually(lambda: daemon.leads and shares_in(store))


@pytest.mark.parametrize("spoil", [as_text])
@pytest.mark.parametrize("while_leading", [False, True])
async def test_a_lease_that_is_none_is_asked_for_again(
    store: Store,
    keys: Keys,
    daemons: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[..., Any],
    while_leading: bool,
) -> None:
    """The daemon says once what is in its way, and leads as soon as that is gone."""
    if not while_leading:
        await spoil(store, keys)
    with caplog.at_level("ERROR", "pointsman"):
        async with daemons() as daemon:
            if while_leading:
                await eventually(lambda: daemon.leads and shares_in(store))
                await store._wire.write("UNLINK", keys.lease)
                await spoil(store, keys)
                await eventually(lambda: not daemon.leads)
            ticks = daemon.ticks
            await eventually(lambda: daemon.ticks > ticks + 10)
            assert not daemon.leads
            await store._wire.write("UNLINK", keys.lease)
            await eventually(lambda: daemon.leads)

    assert caplog.text.count("can be neither taken nor kept") <= 1


UNUSABLE = {
    "body that is no text": {"body": b'{"format":1,"environment":"\xff"}'},
    "body nested without end": {"body": b'{"x":' * 100_000},
    "hash that is no text": {"hash": b"\xff"},
    "reasons": {"reasons": b"["},
    "reasons that are no text": {"reasons": b'{"chat":{"a":"\xff"}}'},
    "deadlines that are no text": {"deadlines": b'{"\xff":1}'},
    "published_s": {"published_s": b"yesterday"},
}


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("kind", UNUSABLE)
async def test_what_is_unusable_is_replaced(
    store: Store, keys: Keys, daemons: Callable[..., Any], kind: str, newer: bool
) -> None:
    """Beside the published version or beside a newer one: a leader that starts replaces it, once and above it."""
    async with daemons("a"):
        await eventually(lambda: shares_in(store))
        good = await table_in(store)
    epoch = good.version.epoch + 7 * newer
    fields = {"epoch": epoch, "body": encode(good), **UNUSABLE[kind]}
    await store._wire.write("HSET", keys.table, *(part for pair in fields.items() for part in pair))
    async with daemons("b") as second:
        second.probe_all()

        async def replaced() -> bool:
            peek = await store._wire.read("HMGET", keys.table, "epoch", "reasons")
            return int(peek[0]) > epoch and (await table_in(store)) is not None

        await eventually(replaced)
        ticks, healed = second.ticks, await table_in(store)
        await eventually(lambda: second.ticks > ticks + 5)

        assert second.leads
        assert (await table_in(store)).version == healed.version
        assert healed.routes == good.routes


@pytest.fixture
def hanging_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every write to the state folder waits until the test is over."""
    over, begun = threading.Event(), threading.Event()

    def hang(_path: Path, _body: bytes) -> None:
        begun.set()
        over.wait()

    monkeypatch.setattr(memory, "write_atomically", hang)
    yield begun
    over.set()


async def test_a_disk_that_hangs_stops_no_decision(
    store: Store, daemons: Callable[..., Any], hanging_disk: threading.Event
) -> None:
    """The leader obeys and publishes while its backup waits for the disk, and gives up the lease when it stops."""
    async with daemons() as daemon:
        await eventually(hanging_disk.is_set)
        assert await obeys(store, "meta")
        assert await obeys(store, "google")
        await eventually(lambda: shares_are(store, {"google": 10_000}))
        assert daemon.control.health()["alive"]
    assert await store.leader() is None


async def shares_are(store: Store, shares: dict[str, int]) -> bool:
    return await shares_in(store) == shares


async def test_a_leader_that_does_not_decide_hands_over(
    store: Store, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its loop is held up for longer than the ttl, its lease is renewed by another task: the standby leads."""
    async with daemons("a") as first:
        await eventually(lambda: first.leads and shares_in(store))
        async with daemons("b") as second:
            await eventually(lambda: second.control.leadership.leader_seen == first.control.owner)
            first.store.words_after = held_up
            await eventually(lambda: second.leads, timeout_s=2 * TTL_S + 1.0)
            assert not first.leads
            assert await obeys(store)
            del first.store.words_after
    assert "nothing was decided for" in caplog.text


async def held_up(_cursor: str) -> Any:
    await anyio.sleep_forever()


async def test_slow_ticks_keep_the_lease(store: Store, daemons: Callable[..., Any]) -> None:
    """Ticks that are rarer than the renewals are no reason to hand over."""
    control = {"listen": "127.0.0.1:0", "tick_interval_s": 0.7, "lease_ttl_s": TTL_S}
    async with daemons(settings=settings_of(control=control)) as daemon:
        await eventually(lambda: daemon.leads)
        epoch, ticks = daemon.epoch, daemon.ticks
        await eventually(lambda: daemon.ticks > ticks + 3)
        assert daemon.epoch == epoch
