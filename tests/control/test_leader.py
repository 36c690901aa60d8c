"""Who leads: takeover, pauses, yielding, older epochs, and the daemon's own disk."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_daemons import report_of, settings_of, shares_in, table_in

from pointsman.core.evidence import Verb
from pointsman.core.model import Decision, State
from pointsman.core.table import Version
from pointsman.store.client import Store
from support import ValkeyServer, eventually

pytestmark = pytest.mark.anyio
TTL_S = 1.5


async def test_one_of_two_leads(store: Store, daemons: Callable[..., Any]) -> None:
    """Two daemons, one leader, and only the leader's prober is active."""
    async with daemons("a") as first, daemons("b") as second:
        await eventually(lambda: first.leads or second.leads)
        await eventually(lambda: first.ticks > 3 and second.ticks > 3)

        assert first.leads != second.leads
        leader, standby = (first, second) if first.leads else (second, first)
        await eventually(lambda: leader.attentions and leader.attentions[-1].active)
        assert not any(attention.active for attention in standby.attentions)


async def test_a_clean_stop_hands_over_at_once(store: Store, daemons: Callable[..., Any]) -> None:
    """A rolling restart does not wait for the lease to run out."""
    long_lease = settings_of(control={"listen": "127.0.0.1:0", "tick_interval_s": 0.1, "lease_ttl_s": 60.0})
    async with daemons("a", settings=long_lease) as first:
        await eventually(lambda: first.leads)
        async with daemons("b", settings=long_lease) as second:
            await eventually(lambda: second.control.leadership.leader_seen == first.control.owner)
            first.control.leadership._yielded_until = math.inf  # who stops does not ask again
            await first.control.leadership.release()
            await eventually(lambda: second.leads, timeout_s=2.0)


async def test_a_leader_that_dies_is_replaced_within_the_ttl(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Whoever holds the lease and renews it no more loses it to the standby when it runs out."""
    await store.acquire("dead", TTL_S, 0)
    began = time.monotonic()
    async with daemons("b") as second:
        await eventually(lambda: second.leads)

    assert time.monotonic() - began < TTL_S + 0.5


async def test_the_fence_stops_a_leader_that_cannot_renew(
    own_valkey: ValkeyServer, daemons: Callable[..., Any]
) -> None:
    """With the store frozen, a leader regards itself as none before its lease could have run out."""
    async with daemons("a", url=own_valkey.url, timeout_s=0.2) as daemon:
        await eventually(lambda: daemon.leads)
        acquired = daemon.control.leadership._fence
        await eventually(lambda: daemon.control.leadership._fence > acquired)
        with own_valkey.frozen():
            began = time.monotonic()
            await eventually(lambda: not daemon.leads)
            assert time.monotonic() - began < TTL_S
        await eventually(lambda: daemon.leads)


async def test_a_leader_that_was_paused_publishes_nothing(
    store: Store, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A pause as of SIGSTOP (the loop stands still, another daemon takes over): the store refuses the older epoch."""
    async with daemons("a") as first:
        await eventually(lambda: first.leads and first.control.loop.shown.table)
        old = first.control.leadership.lease
        time.sleep(TTL_S + 0.2)  # noqa: ASYNC251  this is the pause: nothing of this process runs
        usurper = await store.acquire("usurper", 30.0, 0)
        assert usurper is not None
        first.control.leadership._lease = old
        first.control.leadership._fence = time.monotonic() + 5
        with caplog.at_level("WARNING", "pointsman"):
            first.kill_target("bedrock")
            await eventually(lambda: not first.leads)

        assert "bedrock" in await shares_in(store)
        assert any(
            "publication refused" in record.getMessage() or "no longer" in record.getMessage()
            for record in caplog.records
        )


async def test_a_leader_whose_way_out_is_broken_yields(store: Store, daemons: Callable[..., Any]) -> None:
    """Yielding hands the lease to a standby, and the one that yielded stays back for a ttl."""
    async with daemons("a") as first:
        await eventually(lambda: first.leads)
        async with daemons("b") as second:
            await eventually(lambda: second.control.leadership.leader_seen)
            await first.control.leadership.yield_to_others("test")
            await eventually(lambda: second.leads, timeout_s=TTL_S)
            assert not first.leads


async def test_whoever_yields_alone_leads_again(store: Store, daemons: Callable[..., Any]) -> None:
    """With nobody to take over, the lead comes back after a ttl and is then kept."""
    async with daemons("a") as daemon:
        await eventually(lambda: daemon.leads)
        await daemon.control.leadership.yield_to_others("test")
        assert not daemon.leads
        await eventually(lambda: daemon.leads)
        await daemon.control.leadership.yield_to_others("test")

        assert daemon.leads


async def test_an_older_daemon_does_not_lead_newer_state(
    store: Store, daemons: Callable[..., Any], keys: Any
) -> None:
    """A state of a format that this version does not know is left alone, and so is the lease."""
    lease = await store.acquire("newer", 0.05, 0)
    assert lease is not None
    await store.save(
        lease,
        None,
        Decision(state=State(format=999), table=None, reasons={}),
    )
    async with daemons("a") as daemon:
        await eventually(lambda: daemon.ticks > 5)

        assert not daemon.leads
        assert daemon.control.health()["ready"] is False


# --- the store forgets


async def test_a_flushed_store_is_restored_from_memory(store: Store, daemons: Callable[..., Any]) -> None:
    """Plan, weights and overlays come back by themselves, under a higher epoch."""
    async with daemons() as daemon:
        await set_weights(store, {"meta": 10_000})
        before = await table_in(store)
        await store.clear()

        async def restored() -> bool:
            return await shares_in(store) == {"meta": 10_000}

        assert await eventually(restored)
        after = await table_in(store)
        state = await eventually(store.load_state)

    assert before is not None
    assert after is not None
    assert after.version > before.version
    assert daemon.epoch > before.version.epoch or after.version.epoch > before.version.epoch
    assert state.baselines["chat"].author == "ann@host"


async def test_a_flushed_store_is_restored_from_disk(store: Store, daemons: Callable[..., Any]) -> None:
    """With every daemon gone too, the next start on the same disk restores what people decided."""
    async with daemons("a"):
        await set_weights(store, {"google": 10_000})
        before = await table_in(store)
    await store.clear()
    async with daemons("a"):
        await eventually(lambda: shares_in(store))
        after = await table_in(store)

    assert before is not None
    assert after is not None
    assert after.routes["chat"].shares_bp == {"google": 10_000}
    assert after.version > before.version


async def test_an_old_backup_does_not_overrule_a_store_that_went_on(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Another daemon has led since our disk was written: what is stored counts."""
    async with daemons("a"):
        await set_weights(store, {"google": 10_000})
    async with daemons("b"):
        await set_weights(store, {"meta": 10_000})
    async with daemons("a") as again:
        await eventually(lambda: again.leads and again.control.loop.state)
        ticks = again.ticks
        await eventually(lambda: again.ticks > ticks + 3)

        assert await shares_in(store) == {"meta": 10_000}


async def test_a_word_before_the_flush_is_not_obeyed_again(store: Store, daemons: Callable[..., Any]) -> None:
    """After a flush nothing that acted acts again, and new words are heard."""
    async with daemons():
        await set_weights(store, {"google": 10_000})
        await store.clear()
        await eventually(lambda: shares_in(store))
        await set_weights(store, {"meta": 10_000})

        assert await shares_in(store) == {"meta": 10_000}


async def test_the_backup_is_private_and_whole(
    store: Store, daemons: Callable[..., Any], tmp_path: Path
) -> None:
    """The backup is readable by its owner only and holds epoch, plan and weights."""
    async with daemons("a") as daemon:
        await set_weights(store, {"google": 10_000})
        path = tmp_path / "a" / "control-development-default.json"

        def written() -> bool:
            return path.exists() and "ann@host" in path.read_text()

        await eventually(written)
        backup = json.loads(path.read_text())

        assert path.stat().st_mode & 0o777 == 0o600
        assert backup["epoch"] == daemon.epoch
        assert backup["baselines"]["chat"]["shares_bp"] == {"google": 10_000}


async def test_a_broken_backup_is_no_obstacle(
    store: Store, daemons: Callable[..., Any], tmp_path: Path
) -> None:
    """A daemon starts with half a backup, as with none."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "control-development-default.json").write_text('{"format": 1, "epo')
    async with daemons("a"):
        assert await eventually(lambda: shares_in(store))


async def test_a_store_that_was_killed_is_told_once_and_comes_back(
    own_valkey: ValkeyServer, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """kill -9 of the store: one line when it goes, one when it is back, and the daemon leads again."""
    with caplog.at_level("WARNING", "pointsman.control"):
        async with daemons("a", url=own_valkey.url, timeout_s=0.5) as daemon:
            await eventually(lambda: daemon.leads and daemon.control.loop.shown.table)
            own_valkey.kill()
            ticks = daemon.ticks
            await eventually(lambda: daemon.ticks > ticks + 5)
            assert not daemon.control.health()["ready"]
            own_valkey.start()
            await eventually(lambda: daemon.leads and daemon.control.health()["ready"], timeout_s=10.0)

    told = [record.getMessage() for record in caplog.records if record.name == "pointsman.control"]
    assert len([text for text in told if "{why}; {meanwhile}" in text]) == 1
    assert len([text for text in told if "the store is back" in text]) == 1


async def test_a_new_leader_in_a_fresh_store_is_above_what_proxies_have(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Proxies keep their epochs over the loss of everything else; the next table is above them."""
    ahead = Version(3_999_999_999, 3)
    await store.put_report(report_of("p1", accepted=ahead), wake=False)
    async with daemons():

        async def above() -> bool:
            table = await table_in(store)
            return table is not None and table.version > ahead

        assert await eventually(above)


async def set_weights(store: Store, shares_bp: dict[str, int]) -> None:
    """Say it and wait until it is published."""
    word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", {"route": "chat", "shares_bp": shares_bp})
    answer = await store.answer(word, 5.0)
    assert answer is not None
    assert answer.ok, answer.text

    async def published() -> bool:
        return await shares_in(store) == shares_bp

    await eventually(published)
