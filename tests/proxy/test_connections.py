"""A provider that has as many connections from this proxy as it may: what becomes of one request more."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from transiting import GOOD, Ride, Road, answered

from pointsman.config.models import Settings
from pointsman.proxy.limits import Bounds
from pointsman.proxy.view import Trust, compile_view
from support import eventually

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
# A scripted provider's part: (provider, reader, writer).
Script = Callable[[Any, Any, Any], Awaitable[None]]


def full(targets: str, *, road: Road | None = None) -> Ride:
    """A request on its way while the providers of `targets` have no room."""
    ride = Ride(road or Road("a b", max_connections=7))
    ride.providers.full = set(targets)
    return ride.begin()


def test_a_provider_without_room_is_passed_over() -> None:
    """The next of the chain is asked, and its answer says why."""
    ride = full("a")
    ride.hears(answered(), GOOD, ended=True)
    reason = ride.caller.header("x-pointsman-reason")
    assert (ride.asked, ride.caller.status) == ("b", 200)
    assert reason == "fell over: a at its provider's limit of connections"


def test_without_room_anywhere_the_caller_may_ask_again() -> None:
    """503, and when; nobody is asked, no target has failed, and nothing is kept."""
    road = Road("a b", max_connections=7)
    ride = full("ab", road=road)
    caller = ride.caller
    assert (ride.asked, caller.status, caller.header("retry-after")) == ("", 503, "1")
    assert (caller.header("x-should-retry"), road.counted()) == ("true", {})
    assert "as many connections from this proxy" in caller.error["message"]
    road.check_nothing_is_left()


def test_two_kinds_of_limits_are_both_named() -> None:
    """One target has too many requests, the other's provider too many connections: the caller may ask again as well."""
    road = Road("a b", max_connections=7, max_in_flight=1)
    busy = Ride(road).begin()
    ride = full("b", road=road)
    assert (busy.asked, ride.asked, ride.caller.status) == ("a", "", 503)
    assert "as many requests or connections from this proxy" in ride.caller.error["message"]


def test_one_failure_among_the_full_is_told_as_a_failure() -> None:
    """To ask again at once would be no use of it: each target is named with its reason."""
    ride = full("a")
    ride.breaks()
    assert (ride.asked, ride.caller.status) == ("b", 502)
    assert "a: at its provider's limit of connections; b: " in ride.caller.error["message"]


def test_who_has_no_limit_is_not_asked_for_room() -> None:
    """The way of nearly every request is no longer for it."""
    ride = Ride(Road()).begin()
    assert (ride.asked, ride.providers.room_for) == ("a", None)


def test_room_is_asked_for_as_the_request_will_be_sent() -> None:
    """With the target's limit; what is kept goes on any connection, what is sent once on a fresh one."""
    kept = Ride(Road(max_connections=7)).begin()
    once = Ride(Road(max_connections=7, bounds=Bounds(replay_bytes=0))).begin()
    assert (kept.providers.room_for, kept.line.fresh) == (("a", 7, False), False)
    assert (once.providers.room_for, once.line.fresh) == (("a", 7, True), True)


def test_a_stale_connection_is_replaced_without_asking_for_room() -> None:
    """It has left its own place: the request keeps its target."""
    ride = Ride(Road(max_connections=7)).begin()
    ride.providers.full = {"a"}
    ride.breaks(stale=True)
    assert (ride.asked, ride.line.fresh) == ("a a", True)


# --- from the file to the sockets


def with_limit(settings: Settings, most: int) -> Settings:
    """The same, with so many connections to the provider a."""
    data = settings.model_dump(exclude_unset=True)
    data["providers"]["a"]["max_connections"] = most
    return Settings.model_validate(data)


@pytest.mark.anyio
async def test_the_limit_of_the_file_reaches_the_providers_targets(world: Any) -> None:
    """A provider without the setting has none."""
    await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b")
    trust = Trust.of(with_limit(world.settings(), 7))
    endpoints = compile_view(world.table(1), trust, proxy="p", deadlines={}).endpoints
    assert [endpoints[name].max_connections for name in "ab"] == [7, 0]


@pytest.mark.anyio
async def test_a_provider_that_is_gone_from_the_file_keeps_its_limit(world: Any) -> None:
    """As long as the served table has it."""
    await world.provider("a"), await world.provider("b")
    world.route("chat", chain="b a")
    before = world.settings()
    data = before.model_dump(exclude_unset=True)
    del data["providers"]["a"], data["targets"]["a"]
    data["routes"]["chat"]["chain"] = ("b",)
    table = world.table(1)
    trust = Trust.of(Settings.model_validate(data)).keeping(Trust.of(with_limit(before, 7)), table)
    assert compile_view(table, trust, proxy="p", deadlines={}).endpoints["a"].max_connections == 7


async def limited(world: Any, script: Script) -> Any:
    """The scripted provider a, with one connection at most, before a healthy b on the route "chat"."""
    first = await world.scripted("a", script)
    await world.provider("b")
    world.overrides["a"] = {"max_connections": 1}
    world.route("chat", chain="a b")
    await world.publish()
    return first


@pytest.mark.anyio
async def test_one_request_more_than_connections_goes_elsewhere(world: Any, running_proxy: Any) -> None:
    """As long as the one connection is taken; then it serves again, and has never been two."""
    answers = anyio.Event()

    async def slow(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            await answers.wait()
            writer.write(ANSWER)

    first = await limited(world, slow)
    found: list[str] = []
    async with running_proxy() as caller, anyio.create_task_group() as tasks:

        async def ask() -> None:
            found.append((await caller.chat()).target)

        tasks.start_soon(ask)
        await eventually(lambda: len(first.requests) == 1)
        tasks.start_soon(ask)
        await eventually(lambda: found or len(first.requests) > 1)
        answers.set()
        await eventually(lambda: len(found) == 2)
        found.append((await caller.chat()).target)
    assert (found, first.connections) == (["b", "a", "a"], 1)


@pytest.mark.anyio
async def test_a_stale_connection_does_not_take_the_place_of_its_successor(
    world: Any, running_proxy: Any
) -> None:
    """The one connection turns out to be dead: the same target answers, on a fresh one."""

    async def one_answer_each(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(ANSWER)
        await provider.request(reader)  # the next one is read, and left unanswered

    first = await limited(world, one_answer_each)
    async with running_proxy() as caller:
        answers = [await caller.chat() for _ in range(3)]
    assert [one.target for one in answers] == ["a", "a", "a"]
    assert first.connections == 3


@pytest.mark.anyio
async def test_a_connection_that_is_not_kept_makes_room_at_once(world: Any, running_proxy: Any) -> None:
    """The provider closes after each answer: the next request finds a place."""

    async def closing(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await reader.read()

    await limited(world, closing)
    async with running_proxy() as caller:
        targets = [(await caller.chat()).target for _ in range(3)]
    assert targets == ["a", "a", "a"]
