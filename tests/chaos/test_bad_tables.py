"""The store is not trusted: bad tables are refused with a reason, hostile ones get no key, and both are healed."""

import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from msgspec.structs import replace
from storm import LEASE, Measured, Storm, storm

from pointsman.core.table import FULL_BP, Table, TargetEntry, Version, encode, table_hash
from pointsman.fake import FakeProvider
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


async def write(run: Storm, fields: Mapping[str, Any]) -> None:
    """Somebody writes past the scripts, and tells the proxies."""
    async with redis.asyncio.Redis.from_url(run.here.valkey.url) as client:
        await client.hset(run.here.keys.table, mapping=fields)
        await client.publish(run.here.keys.hint_channel, "0.0")


def bad_table(kind: str, table: Table) -> dict[str, Any]:
    """The fields that somebody writes over those of `table`."""
    # Each of its own version: a proxy does not read again what it has refused.
    newer = replace(
        table, version=replace(table.version, epoch=table.version.epoch + 7 + [*REASONS].index(kind))
    )
    older = replace(table, version=replace(table.version, epoch=table.version.epoch - 7))
    whole = {"hash": "0" * 64, "reasons": "{}", "deadlines": "{}", "published_s": "1.5"}
    fields = {**whole, "epoch": newer.version.epoch, "revision": newer.version.revision}
    kinds = {
        "empty": {**fields, "body": b""},
        "corrupt": {**fields, "body": encode(newer)[:-20]},
        "without routes": {**fields, "body": encode(replace(newer, routes={}))},
        "of a stranger's hash": {**fields, "body": encode(replace(newer, hash="0" * 64))},
        "of an unknown format": {**fields, "body": encode(replace(newer, format=99))},
        "no text": {**fields, "body": encode(newer).replace(b'"fleet":"', b'"fleet":"\xff')},
        "nested without end": {**fields, "body": b'{"x":' * 100_000},
        "older": {**fields, "epoch": older.version.epoch, "body": encode(older)},
        "beside unreadable reasons": {**fields, "body": encode(newer), "reasons": "["},
        "published when nobody knows": {**fields, "body": encode(newer), "published_s": "yesterday"},
        "beside unreadable deadlines": {"deadlines": "["},
        "newer and beside unreadable deadlines": {**fields, "body": encode(newer), "deadlines": b"\xff"},
        "of a version that is no number": {"epoch": "the first"},
    }
    return kinds[kind]


REASONS = {
    "empty": "the table is empty",
    "corrupt": "the table is corrupt",
    "without routes": "it has no routes",
    "of a stranger's hash": "hash does not fit",
    "of an unknown format": "format 99",
    "no text": "codec can't decode byte 0xff",
    "nested without end": "maximum recursion depth",
    "older": "is older than",
    "beside unreadable reasons": "table reasons in the store is not readable",
    "published when nobody knows": "table in the store is not readable",
    "beside unreadable deadlines": "table deadlines in the store is not readable",
    "newer and beside unreadable deadlines": "table deadlines in the store is not readable",
    "of a version that is no number": "table in the store is not readable",
}


@asynccontextmanager
async def paused(run: Storm) -> AsyncIterator[None]:
    """The leader does nothing inside the block."""
    leader = run.here.daemons["daemon-1"]
    leader.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        leader.signal(signal.SIGCONT)


async def rejected_everywhere(run: Storm, why: str) -> None:
    async def told() -> bool:
        reports = await run.here.reports()
        return len(reports) == len(run.here.proxies) and all(why in report.rejected for report in reports)

    await eventually(told, 10.0)


async def test_bad_tables_are_refused_and_shown(folder: Path) -> None:
    """Every kind of bad table: every proxy refuses it, `status` says why, traffic goes on by the table before."""
    shown: dict[str, str] = {}
    async with storm(folder, control=LEASE) as run:
        good = await run.here.table()
        async with paused(run):
            for kind, why in REASONS.items():
                await write(run, bad_table(kind, good))
                await rejected_everywhere(run, why)
                await run.callers.more(20)
                answer = await run.cli("status")
                shown[kind] = answer.out if answer.code == 0 else f"{answer.code}: {answer.err}"
        served = {answer.table for answer in run.callers.served}

    assert run.failed == []
    assert served == {(good.version.epoch, good.version.revision)}
    for kind, why in REASONS.items():
        for name in ("proxy-1", "proxy-2"):
            assert f"! proxy {name} rejects the table: " in shown[kind], (kind, shown[kind])
        assert why in shown[kind], (kind, shown[kind])


async def test_the_leader_replaces_bad_tables(folder: Path) -> None:
    """Every kind of bad table, one after the other: the leader publishes a good one by itself each time."""
    async with storm(folder, control=LEASE) as run:
        good = await run.here.table()
        for kind in REASONS:
            before = await run.here.table()
            await write(run, bad_table(kind, before))
            await run.served(lambda table, v=before.version: table.version > v, 10.0)
            await run.callers.more(10)
        healed = await run.here.table()

    assert run.failed == []
    assert healed.routes == good.routes


async def test_a_table_that_only_a_new_proxy_cannot_read_is_replaced(folder: Path) -> None:
    """A body corrupted under its own version harms nobody until a proxy starts without its disk: then it is healed."""
    async with storm(folder, proxies=1, control=LEASE) as run:
        version = (await run.here.table()).version
        proxy = run.here.proxies["proxy-1"]
        await run.callers.pause()
        proxy.kill()
        (run.here.folder / "state" / "table-proxy-1.json").unlink()
        await write(run, {"body": b"{"})
        proxy.start()
        await run.served(lambda table: table.version > version)
        since = len(run.callers.served)
        run.callers.go_on()
        await run.callers.more(20)
        tables = {answer.table for answer in run.callers.served[since:]}

    assert run.failed == []
    assert all(table > (version.epoch, version.revision) for table in tables)


def hostile(table: Table, thief: str) -> Table:
    """All of chat to bedrock at the thief's; google's name at the thief's too, and bedrock's key wanted at meta's."""
    targets = dict(table.targets)
    meta_url = targets["meta"].base_url
    targets["bedrock"] = replace(targets["bedrock"], base_url=thief)
    targets["meta"] = TargetEntry(provider="bedrock", model="m", family="openai", base_url=meta_url)
    chat = replace(
        table.routes["chat"],
        shares_bp={"bedrock": FULL_BP},
        chain=("bedrock", "meta", "google"),
        last_resort=3,
    )
    made = replace(table, targets=targets, routes={**table.routes, "chat": chat})
    return replace(made, hash=table_hash(made))


async def test_a_hostile_table_gets_no_key(folder: Path, measured: Measured) -> None:
    """A table that names another host for bedrock: the thief hears nothing, `status` says so, traffic goes on."""
    async with (
        FakeProvider("thief", "openai").running() as thief,
        storm(folder, control=LEASE) as run,
    ):
        good = await run.here.table()
        before = await run.here.store.leader()
        assert before is not None
        keys = {name: set(fake.requests.by_credential) for name, fake in run.here.fakes.items()}
        async with paused(run):
            # The leader's own name, as anybody can read it in the store.
            lease = await run.here.store.acquire(before.owner, 60.0, before.epoch + 100)
            assert lease is not None
            bad = replace(
                hostile(good, thief.base_url), version=Version(lease.epoch, good.version.revision + 1)
            )
            await run.here.store.publish(lease, bad, {}, {})
            await run.served(lambda table: table.version == bad.version)
            await run.callers.more(80)
            missing = [report.missing for report in await run.here.reports()]
            status = await run.cli("status")
            since = len(run.callers.served)
            await run.callers.more(40)
            by = {answer.target for answer in run.callers.served[since:]}
        began = time.monotonic()
        # What the proxies could not serve comes back when they say that they can again.
        healed = await run.served(lambda table: table.routes == good.routes and table.version > bad.version)
        measured("healed_s", time.monotonic() - began)
        await run.callers.more(20)
        later = {name: set(fake.requests.by_credential) for name, fake in run.here.fakes.items()}

    assert run.failed == []
    assert run.went_back == []
    assert (thief.requests.total, thief.connections_accepted) == (0, 0)
    assert later == keys, "no provider was sent another one's key"
    assert all(len(known) == 1 for known in keys.values())
    for told in missing:
        assert set(told) == {"bedrock", "meta"}
        assert thief.origin in told["bedrock"]
    assert by == {"google", "anthropic", "openrouter"}
    assert f"proxy proxy-1 cannot serve bedrock: {thief.origin} is not where" in status.out, status
    assert healed.targets == good.targets
