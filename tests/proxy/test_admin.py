"""The proxy's own door, for people on the machine."""

import stat
from pathlib import Path
from typing import Any

import pytest

from support import eventually

pytestmark = pytest.mark.anyio


async def two(world: Any, **route: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", **route)
    await world.publish()
    return first, second


async def test_the_socket_is_this_users_alone(world: Any, running_proxy: Any, state_dir: Path) -> None:
    """0600, and gone when the proxy is."""
    await two(world)
    async with running_proxy():
        assert stat.S_IMODE((state_dir / "proxy-p1.sock").stat().st_mode) == 0o600
    assert not (state_dir / "proxy-p1.sock").exists()


async def test_a_pin_holds_until_it_is_taken_off(world: Any, running_proxy: Any) -> None:
    """By hand, on this proxy, and the leader is told."""
    await two(world)
    async with running_proxy() as caller:
        pinned = await caller.admin("POST", "/pin", {"route": "chat", "shares_bp": {"b": 10_000}})
        answer = await caller.chat()
        assert (pinned.status, answer.target, answer.headers["x-pointsman-reason"]) == (200, "b", "pinned")

        async def told() -> bool:
            return [report.pinned for report in await world.store.reports()] == ["chat"]

        await eventually(told)
        assert (await caller.admin("POST", "/unpin", {"route": "chat"})).status == 200
        assert (await caller.chat()).target == "a"


async def test_a_pin_ends_by_itself(world: Any, running_proxy: Any) -> None:
    """After for_s seconds."""
    await two(world)
    async with running_proxy() as caller:
        await caller.admin("POST", "/pin", {"route": "chat", "shares_bp": {"b": 10_000}, "for_s": 0.3})
        assert (await caller.chat()).target == "b"

        async def over() -> bool:
            return bool((await caller.chat()).target == "a")

        await eventually(over)


async def test_only_a_forced_pin_feeds_what_is_cooling_down(world: Any, running_proxy: Any) -> None:
    """Health filters a pin, unless it is forced; and a forced one has to end."""
    await two(world, last_resort=1)
    async with running_proxy() as caller:
        pin = {"route": "chat", "shares_bp": {"b": 10_000}}
        await caller.admin("POST", "/pin", pin)
        assert (await caller.chat()).target == "a"
        assert (await caller.admin("POST", "/pin", pin | {"force": True})).status == 400
        assert (await caller.admin("POST", "/pin", pin | {"force": True, "for_s": 60})).status == 200
        assert (await caller.chat()).target == "b"


async def test_a_pin_breaks_nothing_when_its_target_goes(world: Any, running_proxy: Any) -> None:
    """Drained or barred it leaves the chain, removed it leaves the table: the table's shares apply again."""
    await two(world)
    async with running_proxy() as caller:
        await caller.admin("POST", "/pin", {"route": "chat", "shares_bp": {"a": 10_000}})
        assert (await caller.chat()).target == "a"
        world.route("chat", chain="b")
        await caller.until_table(await world.publish())
        assert (await caller.chat()).target == "b"
        gone = world.providers.pop("a")
        await caller.until_table(await world.publish())
        answer = await caller.chat()
        assert (answer.status, answer.target) == (200, "b")
        force = {"route": "chat", "shares_bp": {"b": 10_000}, "force": True, "for_s": 60}
        assert (await caller.admin("POST", "/pin", force)).status == 200
        world.providers = {"a": gone}
        world.route("chat", chain="a")
        await caller.until_table(await world.publish())
        assert (await caller.chat()).target == "a"


@pytest.mark.parametrize(
    "body",
    [
        {"route": "nope", "shares_bp": {"a": 10_000}},
        {"route": "chat", "shares_bp": {"nope": 10_000}},
        {"route": "chat", "shares_bp": {"a": 9_999}},
        {"route": "chat", "shares_bp": {"a": 10_001, "b": -1}},
        {"route": "chat", "shares_bp": {"a": 10_000}, "for_s": -1},
        {"route": "chat", "shares_bp": {"a": 10_000}, "fro_s": 1},
        {"route": "chat"},
    ],
)
async def test_a_pin_that_makes_no_sense_is_refused(world: Any, running_proxy: Any, body: Any) -> None:
    """With what is wrong; nothing changes."""
    await two(world)
    async with running_proxy() as caller:
        answer = await caller.admin("POST", "/pin", body)
        assert answer.status in {400, 404}
        assert answer.json["error"]
        assert (await caller.chat()).headers["x-pointsman-reason"] == "share 100 %"


async def test_the_table_can_be_read(world: Any, running_proxy: Any) -> None:
    """As it is served, without any secret."""
    await two(world)
    async with running_proxy() as caller:
        answer = await caller.admin("GET", "/table")
    assert answer.json["routes"]["chat"]["shares_bp"] == {"a": 10_000}
    assert b"sk-provider-secret" not in answer.body


async def test_a_request_can_be_explained(world: Any, running_proxy: Any) -> None:
    """Every attempt with its outcome; an unknown id is a 404."""
    first, _ = await two(world)
    first.die()
    async with running_proxy() as caller:
        answer = await caller.chat()
        record = (await caller.admin("GET", f"/requests/{answer.headers['x-pointsman-request-id']}")).json
        unknown = await caller.admin("GET", "/requests/none")
    assert [(one["target"], one["outcome"], one["detail"]) for one in record["attempts"]] == [
        ("a", "outage", "connection refused"),
        ("b", "ok", ""),
    ]
    assert unknown.status == 404
