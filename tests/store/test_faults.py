"""A store that dies, freezes, forgets, refuses or lies behind a bad network."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from pointsman.core.evidence import Verb
from pointsman.core.model import Decision, Health, Note, State
from pointsman.core.table import Table
from pointsman.store.client import Lease, Store
from pointsman.store.errors import StoreDown, StoreError
from pointsman.store.keys import Keys
from pointsman.store.subscription import Subscription
from support import ValkeyServer, eventually

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.3


@pytest.fixture
async def own_store(own_valkey: ValkeyServer, keys: Keys) -> AsyncIterator[Store]:
    """A store on a server that this test may kill, with short deadlines."""
    async with Store.connect(own_valkey.url, keys, timeout_s=TIMEOUT_S) as store:
        yield store


@pytest.fixture
async def own_lease(own_store: Store) -> Lease:
    """The lease of that store."""
    lease = await own_store.acquire("daemon-a", 60.0, 0)
    assert lease is not None
    return lease


async def _restart(server: ValkeyServer) -> None:
    """Kill it and start it again; meanwhile our own connections notice."""
    await anyio.to_thread.run_sync(server.kill)
    await anyio.to_thread.run_sync(server.start)


async def test_kill_and_restart(
    own_valkey: ValkeyServer, own_store: Store, own_lease: Lease, make_table: Callable[..., Table]
) -> None:
    """While the server is away calls fail; after a kill -9 and a restart everything is as it was."""
    table = make_table(own_lease.epoch, 1)
    await own_store.publish(own_lease, table, {}, {})
    own_valkey.kill()
    with pytest.raises(StoreDown, match=r"cannot be reached: .*\w: look whether it runs"):
        await own_store.peek()
    with pytest.raises(StoreDown, match="cannot be reached"):
        await own_store.renew(own_lease, 60.0)
    own_valkey.start()
    peek = await own_store.peek()
    assert peek is not None
    assert peek.version == table.version
    assert await own_store.renew(own_lease, 60.0)


async def test_iterators_survive_a_restart(
    own_valkey: ValkeyServer, own_store: Store, own_lease: Lease, decide: Callable[..., Decision]
) -> None:
    """Hints, wakes and events go on after a kill -9 and a restart, and tell of it."""
    events = own_store.follow_events("-")
    async with aclosing(own_store.hints()) as hints, aclosing(own_store.wakes()) as wakes:
        assert (await anext(hints), await anext(wakes)) == ("", "")
        state = await own_store.save(own_lease, None, decide(State(), notes=(_note("before"),)))
        assert (await anext(events))[1].text == "before"
        await _restart(own_valkey)
        await own_store.save(own_lease, state, decide(state, notes=(_note("after"),)))
        with anyio.fail_after(5.0):
            assert (await anext(hints), await anext(wakes)) == ("", "")
            assert (await anext(events))[1].text == "after"
            await own_store.wake()
            assert await anext(wakes) == "wake"


async def test_lost_hint_is_told(
    own_valkey: ValkeyServer, own_store: Store, own_lease: Lease, make_table: Callable[..., Table]
) -> None:
    """A table that is published while the subscriber is away leads to "" when it is back."""
    async with aclosing(own_store.hints()) as hints:
        assert await anext(hints) == ""
        await _restart(own_valkey)
        await own_store.publish(own_lease, make_table(own_lease.epoch, 1), {}, {})
        with anyio.fail_after(5.0):
            assert await anext(hints) == ""


async def test_iterator_may_begin_before_the_server(own_valkey: ValkeyServer, own_store: Store) -> None:
    """An iterator waits for a server that is not there yet, and never raises."""
    own_valkey.kill()
    told: list[str] = []

    async def listen() -> None:
        async with aclosing(own_store.wakes()) as wakes:
            told.append(await anext(wakes))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        assert told == []
        own_valkey.start()
        await eventually(lambda: told == [""])


async def test_frozen_server_is_noticed_by_a_subscriber(
    own_valkey: ValkeyServer, own_store: Store, keys: Keys
) -> None:
    """A connection on which nobody answers any more is given up, and the next subscription tells of it."""
    async with aclosing(Subscription(own_store._wire, keys.wake_channel, silence_s=0.1)) as wakes:
        assert await anext(wakes) == ""
        with own_valkey.frozen(), anyio.move_on_after(1.0):
            raise AssertionError(await anext(wakes))
        with anyio.fail_after(5.0):
            assert await anext(wakes) == ""


async def test_silence_alone_is_no_loss(store: Store, keys: Keys) -> None:
    """A quiet channel of a server that answers is not subscribed to again."""
    async with aclosing(Subscription(store._wire, keys.wake_channel, silence_s=0.02)) as wakes:
        assert await anext(wakes) == ""
        with anyio.move_on_after(0.3):
            raise AssertionError(await anext(wakes))
        await store.wake()
        assert await anext(wakes) == "wake"


async def test_closing_the_store_ends_its_subscriptions(store: Store, store_url: str, keys: Keys) -> None:
    """A subscription that nobody closed does not outlive its store."""
    async with Store.connect(store_url, keys, timeout_s=5.0) as other:
        assert await anext(other.hints()) == ""
        assert await store._wire.read("PUBSUB NUMSUB", keys.hint_channel) == [(keys.hint_channel.encode(), 1)]

    async def nobody_listens() -> bool:
        return (await store._wire.read("PUBSUB NUMSUB", keys.hint_channel))[0][1] == 0

    await eventually(nobody_listens)


async def test_frozen_server_is_noticed_within_the_deadline(
    own_valkey: ValkeyServer, own_store: Store, own_lease: Lease
) -> None:
    """A server that accepts and says nothing costs one deadline, reading or writing, and says so."""
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        own_store.now_s,
        own_store.peek,
        own_store.load_state,
        lambda: own_store.renew(own_lease, 60.0),
        lambda: own_store.say(Verb.RESET, "ops", "", {}),
    )
    with own_valkey.frozen():
        for call in calls:
            began = time.monotonic()
            with pytest.raises(StoreDown, match=r"did not answer within 0\.3 s"):
                await call()
            assert TIMEOUT_S * 0.9 < time.monotonic() - began < TIMEOUT_S * 1.9


async def test_replies_are_not_mixed_up_after_a_freeze(
    own_valkey: ValkeyServer, own_store: Store, own_lease: Lease
) -> None:
    """The late reply to a call that was given up is not taken for the reply to the next one."""
    with own_valkey.frozen(), pytest.raises(StoreDown):
        await own_store.say(Verb.RESET, "ops", "", {})
    for _ in range(5):
        assert await own_store.renew(own_lease, 60.0) is True
        assert await own_store.now_s() > 1_000_000_000


async def test_frozen_server_gets_a_write_once(own_valkey: ValkeyServer, own_store: Store) -> None:
    """A word that was said to a frozen server is there once when it wakes up, or not at all."""
    with own_valkey.frozen(), pytest.raises(StoreDown):
        await own_store.say(Verb.RESET, "ops", "frozen", {})
    await own_store.say(Verb.RESET, "ops", "awake", {})
    reasons = [word.reason for word in await own_store.words_after("0-0")]
    assert reasons.count("frozen") <= 1
    assert reasons.count("awake") == 1


async def test_connection_lost_before_the_reply(
    valkey_server: ValkeyServer, keys: Keys, tmp_path: Path
) -> None:
    """When the reply is lost, what reads is asked again, and what changes something is sent once only."""
    async with (
        _cutting_relay(valkey_server.socket) as relay,
        Store.connect(relay.url, keys, timeout_s=5.0) as store,
    ):
        relay.cuts = 1
        assert await store.now_s() > 1_000_000_000
        relay.cuts = 1
        with pytest.raises(StoreDown, match="cannot be reached"):
            await store.say(Verb.RESET, "ops", "once", {})
        assert [word.reason for word in await store.words_after("0-0")] == ["once"]
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        await store.release(lease)
        relay.cuts = 1
        with pytest.raises(StoreDown):
            await store.acquire("daemon-a", 60.0, 0)
        leader = await store.leader()
        assert leader is not None
        assert leader.epoch == lease.epoch + 1
        await store.clear()


async def test_script_flush(store: Store, lease: Lease) -> None:
    """A server that has forgotten the scripts is told them again."""
    await store._wire.write("SCRIPT", "FLUSH")
    assert await store.renew(lease, 60.0)


async def test_full_store_is_down(
    own_store: Store, own_lease: Lease, decide: Callable[..., Decision]
) -> None:
    """A store that takes no more data may do so later; until then a save is refused as a whole."""
    saved = await own_store.save(own_lease, None, decide(State(health={"a": Health(failures=3)})))
    await own_store._wire.write("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreDown, match=r"cannot do it now: .*maxmemory"):
        await own_store.say(Verb.RESET, "ops", "", {})
    with pytest.raises(StoreDown, match="cannot do it now"):
        await own_store.save(own_lease, saved, decide(State(), notes=(_note("full"),)))
    await own_store._wire.write("CONFIG", "SET", "maxmemory", "0")
    assert await own_store.load_state() == saved


async def test_read_only_store_is_down(own_valkey: ValkeyServer, own_store: Store) -> None:
    """So is a replica."""
    await own_store._wire.write("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreDown, match=r"cannot do it now: .*read only replica"):
        await own_store.say(Verb.RESET, "ops", "", {})


async def test_wrong_type_is_told(store: Store, keys: Keys) -> None:
    """A key of something else is an error with what the server said of it."""
    await store._wire.write("SET", keys.state, "text")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await store.load_state()


async def test_cancelled_calls_leave_a_usable_store(store: Store, lease: Lease) -> None:
    """Calls that are cancelled at any point do not mix up later replies."""
    for number in range(50):
        with anyio.move_on_after(number * 0.00005):
            await store.say(Verb.RESET, "ops", "", {})
        assert await store.renew(lease, 60.0) is True
        assert (await store.leader()) is not None


class _Relay:
    """Forwards to a server, but hangs up instead of passing on the next `cuts` replies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cuts = 0


@contextlib.asynccontextmanager
async def _cutting_relay(server: Path) -> AsyncIterator[_Relay]:
    path = server.with_name("relay.sock")
    relay = _Relay(f"unix://{path}")

    async def handle(client: SocketStream) -> None:
        async with client, await anyio.connect_unix(server) as upstream, anyio.create_task_group() as tasks:
            tasks.start_soon(_forward, client, upstream)
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while True:
                    reply = await upstream.receive()
                    if relay.cuts:
                        relay.cuts -= 1
                        break
                    await client.send(reply)
            tasks.cancel_scope.cancel()

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield relay
        tasks.cancel_scope.cancel()
    path.unlink(missing_ok=True)


async def _forward(source: SocketStream, sink: SocketStream) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for part in source:
            await sink.send(part)
    await sink.aclose()


def _note(text: str) -> Note:
    return Note(at_s=1.0, kind="test", subject="a", text=text)
