"""How a proxy comes by its table, and what it refuses."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from pointsman.core.table import Stage, Version
from pointsman.fake import digest
from pointsman.store.client import Store
from support import eventually

pytestmark = pytest.mark.anyio


async def two(world: Any, **route: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", **route)
    await world.publish()
    return first, second


async def report_of(world: Any) -> Any:
    """The proxy's last report, if there is one."""
    reports = await world.store.reports()
    return reports[0] if reports else None


async def test_a_new_table_is_routed_by_and_acknowledged(world: Any, running_proxy: Any) -> None:
    """The next request goes where it says, and the report says so."""
    await two(world)
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "a"
        world.route("chat", chain="a b", shares_bp={"b": 10_000})
        table = await world.publish()

        async def acknowledged() -> bool:
            report = await report_of(world)
            return bool(report and report.serving == report.accepted == table.version)

        await eventually(acknowledged)
        assert (await caller.chat()).target == "b"


async def test_it_tells_since_when_it_routes_by_the_table(world: Any, running_proxy: Any) -> None:
    """In the store's time, so that it can be set beside the moment of the publication."""
    await two(world)
    async with running_proxy() as caller:
        before = await world.store.table()
        await caller.until_table(await world.publish())
        published = await world.store.table()

        async def told() -> float | None:
            report = await report_of(world)
            return report.served_s if report and report.serving == published.table_version else None

        served_s = await eventually(told)
    assert before.published_s < published.published_s <= served_s <= (await world.store.table()).now_s


async def test_a_hint_is_faster_than_the_poll(world: Any, running_proxy: Any) -> None:
    """With a poll every minute a table still arrives at once."""
    await two(world)
    async with running_proxy(poll_interval_s=60.0) as caller:
        table = await world.publish()
        with anyio.fail_after(2):
            await caller.until_table(table)


async def test_a_request_keeps_the_table_it_began_with(world: Any, running_proxy: Any) -> None:
    """A stream that runs while tables change is not touched."""
    first, _ = await two(world)
    async with running_proxy() as caller:
        body = {"model": "chat", "stream": True, "messages": []}
        headers = {"x-fake-tokens": "30", "x-fake-token-delay-ms": "20"}
        async with caller.post("/v1/chat/completions", body, headers) as response:
            await response.content.readany()
            world.route("chat", chain="b", shares_bp={"b": 10_000})
            await caller.until_table(await world.publish())
            rest = await response.content.read()
    assert b"[DONE]" in rest
    assert first.requests.by_outcome["ok"] == 1


async def test_a_corrupt_table_is_refused_with_its_reason(world: Any, running_proxy: Any) -> None:
    """The one before it goes on serving."""
    await two(world)
    async with running_proxy() as caller:
        lease = await world.store.acquire("test", 600.0, 0)
        bad = msgspec.structs.replace(world.table(lease.epoch), hash="0" * 64)
        await world.store.publish(lease, bad, {}, {})

        async def refused() -> Any:
            report = await report_of(world)
            return report and report.rejected

        assert "hash" in await eventually(refused)
        report = await report_of(world)
        assert report.serving == Version(bad.version.epoch, 1)
        assert (await caller.chat()).status == 200


async def test_tables_never_go_backwards(world: Any, running_proxy: Any) -> None:
    """A store restored from an older dump changes nothing, and is told."""
    await world.store.acquire("test", 600.0, 10_000_000_000)
    await two(world)
    async with running_proxy() as caller:
        world.route("chat", chain="a b", shares_bp={"b": 10_000})
        newer = await world.publish()
        await caller.until_table(newer)
        await world.store.clear()
        world.route("chat", chain="a b", shares_bp={"a": 10_000})
        assert (await world.publish()).version < newer.version

        async def refused() -> Any:
            report = await report_of(world)
            return report and report.rejected

        assert "older" in await eventually(refused)
        assert (await caller.chat()).target == "b"


async def test_a_table_cannot_send_a_key_to_another_host(world: Any, running_proxy: Any) -> None:
    """Who can write the store gets no credential: the target is missing, with the reason, and nothing is sent."""
    await two(world)
    thief = await world.provider("thief")
    async with running_proxy() as caller:
        await caller.until_table(await world.publish(base_urls={"a": thief.base_url}))
        answer = await caller.chat()

        async def missing() -> Any:
            report = await report_of(world)
            return report and report.missing.get("a")

        why = await eventually(missing)
    assert answer.target == "b"
    assert thief.requests.total == 0
    assert thief.origin in why
    assert "secret" not in why


async def test_a_missing_secret_takes_its_target_out_only(world: Any, running_proxy: Any) -> None:
    """The others serve; once the secret is there, so does it."""
    first, _ = await two(world)
    world.hidden.add("a")
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"

        async def missing() -> Any:
            report = await report_of(world)
            return report and "a" in report.missing

        await eventually(missing)
        world.secret_file("a").write_text("sk-provider-secret-a\n")

        async def served() -> bool:
            return bool((await caller.chat()).target == "a")

        await eventually(served)
        assert first.requests.last.credential_sha256 == digest("sk-provider-secret-a")


async def test_the_table_is_on_disk_for_this_user_alone(
    world: Any, running_proxy: Any, state_dir: Path
) -> None:
    """And no secret is in it."""
    await two(world)
    async with running_proxy():
        path = state_dir / "table-p1.json"
        await eventually(path.exists)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "sk-provider-secret" not in path.read_text()


async def test_a_proxy_starts_from_disk_when_the_store_is_away(
    world: Any, running_proxy: Any, state_dir: Path
) -> None:
    """It serves, and says that it is from disk."""
    await two(world)
    async with running_proxy():
        await eventually((state_dir / "table-p1.json").exists)
    async with running_proxy(store_url="unix:///nowhere.sock") as caller:
        answer = await caller.chat()
        status = (await caller.admin("GET", "/status")).json
    assert (answer.status, answer.target) == (200, "a")
    assert (status["from_disk"], status["stale_s"]) == (True, None)


async def test_readiness_says_how_old_the_table_may_be(
    world: Any, running_proxy: Any, state_dir: Path
) -> None:
    """Which table it is, and since when the store has not confirmed it."""
    await two(world)
    async with running_proxy() as caller:
        lines = (await caller.get("/-/ready")).body.decode().splitlines()
        table = (await caller.admin("GET", "/status")).json["table"]
        await eventually((state_dir / "table-p1.json").exists)
    async with running_proxy(store_url="unix:///nowhere.sock") as caller:
        away = (await caller.get("/-/ready")).body.decode().splitlines()
    assert lines[:2] == away[:2] == ["ready", f"table: {table}"]
    assert 0.0 <= float(lines[2].removeprefix("stale_s: ")) < 5.0
    assert away[2] == "stale_s: never"


async def test_a_store_that_stays_away_is_told_again(
    world: Any,
    running_proxy: Any,
    own_valkey: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once a minute, with how old the table may be by then; here a minute is half a second."""
    monkeypatch.setattr("pointsman.proxy.feed.AWAY_TOLD_EVERY_S", 0.5)
    await two(world)

    def told() -> list[Any]:
        return [record for record in caplog.records if "the store is away" in record.getMessage()]

    async with Store.connect(own_valkey.url, world.keys, timeout_s=2.0) as store:
        world.store = store
        await world.publish()
        with caplog.at_level("INFO", "pointsman.proxy.feed"):
            async with running_proxy(store_url=own_valkey.url):
                own_valkey.kill()
                began = time.monotonic()
                await eventually(lambda: len(told()) == 3)
                assert time.monotonic() - began > 1.0
                own_valkey.start()
                await eventually(lambda: "the store is back" in caplog.text)
    first, _, last = (record.fields["stale_s"] for record in told()[:3])
    assert last >= first + 0.9


async def test_a_damaged_file_is_not_served_from(world: Any, running_proxy: Any, state_dir: Path) -> None:
    """The proxy starts, and waits for a table."""
    await two(world)
    async with running_proxy():
        await eventually((state_dir / "table-p1.json").exists)
    path = state_dir / "table-p1.json"
    saved = json.loads(path.read_text())
    saved["body"]["routes"]["chat"]["shares_bp"] = {"b": 10_000}
    path.write_text(json.dumps(saved))
    async with running_proxy(store_url="unix:///nowhere.sock", table=False) as caller:
        assert (await caller.get("/-/ready")).status == 503


async def test_an_overlay_runs_out_by_itself(world: Any, running_proxy: Any) -> None:
    """The proxy drops the canary at its deadline; no new table is needed."""
    stages = (Stage(overlay="canary-1", shares_bp={"a": 10_000}),)
    await two(world, shares_bp={"b": 10_000}, later=stages)
    await world.publish(deadlines={"canary-1": await world.store.now_s() + 1.0})
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"

        async def dropped() -> bool:
            return bool((await caller.chat()).target == "a")

        await eventually(dropped, timeout_s=5.0)


async def test_a_renewed_deadline_keeps_the_overlay(world: Any, running_proxy: Any) -> None:
    """Renewal stands beside the table: the same version, a later end."""
    stages = (Stage(overlay="canary-1", shares_bp={"a": 10_000}),)
    await two(world, shares_bp={"b": 10_000}, later=stages)
    now_s = await world.store.now_s()
    await world.publish(deadlines={"canary-1": now_s + 1.0})
    lease = await world.store.acquire("test", 600.0, 0)
    async with running_proxy() as caller:
        await world.store.renew_beside(lease, {}, {"canary-1": now_s + 600.0})
        with anyio.move_on_after(2.0):
            while True:
                assert (await caller.chat()).target == "b"
                await anyio.sleep(0.02)


async def test_a_start_with_a_clock_in_doubt_drops_what_drops(
    world: Any, running_proxy: Any, state_dir: Path
) -> None:
    """The machine's clock went backwards since the table was saved: no canary is trusted to be still running."""
    stages = (Stage(overlay="canary-1", shares_bp={"a": 10_000}),)
    await two(world, shares_bp={"b": 10_000}, later=stages)
    await world.publish(deadlines={"canary-1": time.time() + 600.0})
    path = state_dir / "table-p1.json"
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"
        await eventually(path.exists)
    async with running_proxy(store_url="unix:///nowhere.sock") as caller:
        assert (await caller.chat()).target == "b"
    saved = json.loads(path.read_text())
    saved["clock"]["saved_s"] += 86_400.0
    path.write_text(json.dumps(saved))
    async with running_proxy(store_url="unix:///nowhere.sock") as caller:
        assert (await caller.chat()).target == "a"


async def test_a_renewed_deadline_is_on_disk(world: Any, running_proxy: Any, state_dir: Path) -> None:
    """A restart without the store goes on with the canary that was renewed."""
    stages = (Stage(overlay="canary-1", shares_bp={"a": 10_000}),)
    await two(world, shares_bp={"b": 10_000}, later=stages)
    now_s = await world.store.now_s()
    await world.publish(deadlines={"canary-1": now_s + 0.5})
    path = state_dir / "table-p1.json"
    async with running_proxy():
        await eventually(path.exists)
        lease = await world.store.acquire("test", 600.0, 0)
        await world.store.renew_beside(lease, {}, {"canary-1": now_s + 600.0})
        await eventually(lambda: json.loads(path.read_text())["deadlines"] == {"canary-1": now_s + 600.0})
    async with running_proxy(store_url="unix:///nowhere.sock") as caller:
        with anyio.move_on_after(1.0):
            while True:
                assert (await caller.chat()).target == "b"
                await anyio.sleep(0.02)


async def test_a_disk_that_hangs_stops_no_table(world: Any, running_proxy: Any, state_dir: Path) -> None:
    """The file's place is taken by a pipe that nobody reads: opening it waits without end."""
    pipe = state_dir / "table-p1.json.new"
    os.mkfifo(pipe)
    await two(world)
    async with running_proxy() as caller:
        for target in ("b", "a", "b"):
            world.route("chat", chain="a b", shares_bp={target: 10_000})
            await caller.until_table(await world.publish())
            assert (await caller.chat()).target == target
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # lets the writer go


async def test_a_table_from_disk_is_confirmed_by_the_store(
    world: Any, running_proxy: Any, state_dir: Path
) -> None:
    """Once the store says that it is still the one, it is no longer called one from disk."""
    await two(world)
    async with running_proxy():
        await eventually((state_dir / "table-p1.json").exists)
    async with running_proxy() as caller:

        async def confirmed() -> bool:
            return not (await caller.admin("GET", "/status")).json["from_disk"]

        await eventually(confirmed)


async def test_a_header_that_cannot_be_written_takes_its_target_out(world: Any, running_proxy: Any) -> None:
    """What the store says reaches no wire unchecked: the target is missing, the others serve."""
    first, _ = await two(world)
    world.headers["a"] = {"x-team": "1\r\nx-other: 2"}
    await world.publish()
    async with running_proxy() as caller:
        answer = await caller.chat()
        status = (await caller.admin("GET", "/status")).json
    assert (answer.status, answer.target, answer.headers["x-pointsman-attempt"]) == (200, "b", "1")
    assert "headers" in status["missing"]["a"]
    assert first.requests.total == 0


async def test_the_store_may_die_and_come_back(world: Any, running_proxy: Any, own_valkey: Any) -> None:
    """Requests go on; afterwards reports and tables do too."""
    async with Store.connect(own_valkey.url, world.keys, timeout_s=2.0) as store:
        world.store = store
        await two(world)
        async with running_proxy(store_url=own_valkey.url) as caller:
            own_valkey.kill()
            for _ in range(5):
                assert (await caller.chat()).status == 200
            own_valkey.start()

            async def told() -> Any:
                report = (await report_of(world)) if own_valkey else None
                return report and "a" in report.targets and report.targets["a"].counts.get("ok") == 5

            await eventually(told, timeout_s=15.0)
            world.route("chat", chain="a b", shares_bp={"b": 10_000})
            await caller.until_table(await world.publish())
