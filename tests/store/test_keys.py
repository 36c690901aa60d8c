"""Every key of an installation lies in one slot of a cluster."""

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pointsman.core.evidence import Report, Verb
from pointsman.core.model import Answer, Decision, Note, State
from pointsman.core.table import Table
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster_store(keys: Keys) -> AsyncIterator[Store]:
    """A store on a cluster of one node, which refuses scripts and transactions across slots."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        bus = ("--cluster-port", str(free_port()), "--bind", "127.0.0.1")
        server = ValkeyServer(Path(folder), "--cluster-enabled", "yes", "--port", str(free_port()), *bus)
        server.start()
        try:
            async with Store.connect(server.url, keys, timeout_s=5.0) as store:
                await store._wire.write("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                await eventually(lambda: _is_whole(store))
                yield store
        finally:
            server.kill()


async def _is_whole(store: Store) -> bool:
    return (await store._wire.read("CLUSTER INFO"))["cluster_state"] == "ok"


async def test_one_slot(
    cluster_store: Store, keys: Keys, make_table: Callable[..., Table], decide: Callable[..., Decision]
) -> None:
    """Whatever is done on a cluster, every key that comes of it has the same slot."""
    store = cluster_store
    lease = await store.acquire("daemon-a", 60.0, 0)
    assert lease is not None
    word_id = await store.say(Verb.RESET, "ops", "", {})
    note = Note(at_s=1.0, kind="test", subject="a", text="x")
    answers = (Answer(word=word_id, ok=True, text=""), Answer(word="1-1", ok=True, text=""))
    await store.save(lease, None, decide(State(), notes=(note,), answers=answers))
    await store.publish(lease, make_table(lease.epoch, 1), {}, {})
    await store.renew_beside(lease, {}, {})
    await store.records.put(lease, 1.0, b"a record")
    for proxy in ("one", "two"):
        report = Report(proxy=proxy, boot="b", seq=1, environment="development", fleet="default")
        await store.put_report(report, wake=True)
    assert len(await store.reports()) == 2
    assert len(await store.history()) == 1
    found = await store._wire.read("KEYS", "*")
    assert len(found) == 14
    assert len({await store._wire.read("CLUSTER", "KEYSLOT", key) for key in found}) == 1
    await store.clear()
    assert await store._wire.read("DBSIZE") == 0


async def test_clear_leaves_others_alone(store: Store, store_url: str, keys: Keys) -> None:
    """Clearing a fleet takes its keys and those of nobody else."""
    other = Keys(keys.prefix, keys.environment, f"{keys.fleet}-2")
    async with Store.connect(store_url, other, timeout_s=5.0) as neighbour:
        await neighbour.say(Verb.RESET, "ops", "theirs", {})
        await store.say(Verb.RESET, "ops", "ours", {})
        await store.clear()
        assert await store.words_after("0-0") == []
        assert len(await neighbour.words_after("0-0")) == 1
        await neighbour.clear()
