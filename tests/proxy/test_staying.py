"""Requests that cannot go anywhere: embeddings keep to one model, kept things to their account."""

import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import yarl

from pointsman.core.table import Trial
from pointsman.fake import Fault, Kind
from pointsman.proxy.job import Job
from support import eventually

pytestmark = pytest.mark.anyio
EMBED = {"model": "embed", "input": "x"}
NEW = {"model": "chat", "input": "x"}


async def three(world: Any, **route: Any) -> list[Any]:
    """Providers a, b and c on the route "embed"; b has another model than a and c."""
    made = [await world.provider(name) for name in "abc"]
    world.models |= {"a": "embed-1", "b": "embed-2", "c": "embed-1"}
    world.route("embed", chain="a b c", **route)
    await world.publish()
    return made


async def embedded(caller: Any) -> Any:
    return await caller.ask("/v1/embeddings", EMBED)


async def test_the_model_is_that_of_the_configured_first(world: Any, running_proxy: Any) -> None:
    """Not that of whoever has the share at the moment, is alone in the chain, or is pinned."""
    _, other, _ = await three(world)
    async with running_proxy() as caller:
        world.route("embed", chain="b a c", shares_bp={"b": 10_000}, last_resort=1)
        await caller.until_table(await world.publish())
        assert (await embedded(caller)).target in {"a", "c"}
        force = {"route": "embed", "shares_bp": {"b": 10_000}, "force": True, "for_s": 60}
        assert (await caller.admin("POST", "/pin", force)).status == 200
        assert (await embedded(caller)).target in {"a", "c"}
    assert other.requests.total == 0


async def test_an_ejected_first_does_not_change_the_model(world: Any, running_proxy: Any) -> None:
    """Out by this proxy's own judgement, a is followed by c, and b stays out of it."""
    first, other, _ = await three(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=500))
    async with running_proxy(local_failures=1, local_cooldown_s=60.0) as caller:
        assert [(await embedded(caller)).target for _ in range(3)] == ["c"] * 3
    assert other.requests.total == 0


async def test_without_its_model_nothing_is_sent(world: Any, running_proxy: Any) -> None:
    """502 in place of vectors that fit nothing."""
    _, other, _ = await three(world)
    async with running_proxy() as caller:
        world.route("embed", chain="b")
        await caller.until_table(await world.publish())
        answer = await embedded(caller)
    assert (answer.status, answer.json["error"]["type"]) == (502, "fallback_exhausted")
    assert "embed-1" in answer.json["error"]["message"]
    assert other.requests.total == 0


async def test_a_route_that_the_proxy_does_not_know_is_not_guessed_at(world: Any, running_proxy: Any) -> None:
    """Its own configuration says which model; without it there is none."""
    await three(world)
    async with running_proxy() as caller:
        world.route("new", chain="a")
        await caller.until_table(await world.publish())
        answer = await caller.ask("/v1/embeddings", EMBED | {"model": "new"})
    assert answer.status == 502
    assert "does not know" in answer.json["error"]["message"]


@pytest.mark.parametrize(("target", "tried"), [("c", True), ("b", False)])
async def test_embeddings_try_half_open_targets_of_their_model(
    world: Any, running_proxy: Any, target: str, tried: bool
) -> None:
    """A route for embeddings has no other traffic to try them with."""
    await three(world)
    async with running_proxy() as caller:
        await caller.until_table(await world.publish(trials=(Trial(target=target, proxy="p1", grant=1),)))
        answers = [await embedded(caller) for _ in range(3)]

        async def told() -> bool:
            [report] = await world.store.reports()
            return target in report.targets and report.targets[target].grant_outcome == "ok"

        if tried:
            await eventually(told)
    assert [answer.headers["x-pointsman-reason"] for answer in answers].count("trial") == tried
    assert {answer.target for answer in answers} == ({"a", "c"} if tried else {"a"})


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
async def test_a_conversation_stays_with_its_account(
    world: Any, running_proxy: Any, conversation: Any
) -> None:
    """It is kept where the route's configured first target is, and tried there only."""
    await world.provider("a")
    await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    async with running_proxy() as caller:
        ask = {"model": "chat", "input": "x"}
        assert (await caller.ask("/v1/responses", ask)).target == "b"
        answer = await caller.ask("/v1/responses", ask | {"conversation": conversation})
    assert (answer.target, answer.headers["x-pointsman-reason"]) == ("a", "cannot move")


@contextlib.asynccontextmanager
async def made_by_b(world: Any, running_proxy: Any) -> AsyncIterator[tuple[str, Any, Any, Any]]:
    """(the id of a response that b made, a caller of another proxy, a, b), where a is the configured first."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    async with running_proxy(name="p1") as one, running_proxy(name="p2") as other:
        made = await one.ask("/v1/responses", NEW)
        assert made.target == "b"
        yield made.json["id"], other, first, second


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_found_through_another_proxy(
    world: Any, running_proxy: Any, stream: bool
) -> None:
    """Who made it is asked for along the chain, and then known."""
    async with made_by_b(world, running_proxy) as (made, other, first, _):
        follow = NEW | {"previous_response_id": made, "stream": stream}
        answers = [await other.ask("/v1/responses", follow) for _ in range(2)]
    assert [(answer.status, answer.target) for answer in answers] == [(200, "b")] * 2
    assert [answer.headers["x-pointsman-attempt"] for answer in answers] == ["2", "1"]
    assert first.requests.by_outcome == {"http 400": 1}


async def test_who_does_not_know_a_response_has_not_failed(world: Any, running_proxy: Any) -> None:
    """The refusals of a search keep nobody out."""
    async with (
        made_by_b(world, running_proxy) as (made, _, _, _),
        running_proxy(name="p3", local_failures=1) as third,
    ):
        assert (await third.ask("/v1/responses", NEW | {"previous_response_id": made})).target == "b"
        assert (await third.admin("GET", "/status")).json["ejected"] == []


async def test_a_response_that_nobody_knows_is_told_as_the_first_tells_it(
    world: Any, running_proxy: Any
) -> None:
    """All were asked; the provider's own words reach the caller."""
    async with made_by_b(world, running_proxy) as (_, other, _, second):
        asked = second.requests.total
        answer = await other.ask("/v1/responses", NEW | {"previous_response_id": "resp_none"})
    assert (answer.status, answer.target) == (400, "a")
    assert answer.json["error"]["code"] == "previous_response_not_found"
    assert second.requests.total == asked + 1


async def test_a_response_is_not_called_unknown_while_somebody_could_not_be_asked(
    world: Any, running_proxy: Any
) -> None:
    """502 names both; a provider's own answer (503) is passed on."""
    async with made_by_b(world, running_proxy) as (made, other, _, second):
        follow = NEW | {"previous_response_id": made}
        second.die("refuse")
        dead = await other.ask("/v1/responses", follow)
        second.revive()
        second.set_faults(Fault(kind=Kind.STATUS, status=503))
        busy = await other.ask("/v1/responses", follow)
    assert dead.status == 502
    assert "previous_response_not_found; b: connection refused" in dead.json["error"]["message"]
    assert (busy.status, busy.target) == (503, "b")


async def test_a_stored_response_is_found_through_another_proxy(world: Any, running_proxy: Any) -> None:
    """Also one that is asked for by its path: 404 is asked on, and who has it is known from then on."""

    async def has_not(made: Any, reader: Any, writer: Any) -> None:
        while await made.request(reader):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    async def has(made: Any, reader: Any, writer: Any) -> None:
        while await made.request(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    first, second = await world.scripted("a", has_not), await world.scripted("b", has)
    world.route("chat", chain="a b")
    await world.publish()
    async with running_proxy() as caller:
        answers = [await caller.get("/v1/responses/resp_1") for _ in range(2)]
        files = await caller.get("/v1/files/file-1")
    assert [(answer.status, answer.target) for answer in answers] == [(200, "b")] * 2
    assert (files.status, files.target) == (404, "a")
    assert (len(first.requests), len(second.requests)) == (2, 2)


async def test_what_uses_a_file_goes_where_files_are(world: Any, running_proxy: Any) -> None:
    """Uploads go to the configured first target's account, and so does what names one; it is tried there only."""
    first, _ = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    part = {"type": "input_file", "file_id": "file-1"}
    body = {"model": "chat", "input": [{"role": "user", "content": [part]}]}
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/responses", body)
        first.set_faults(Fault(kind=Kind.STATUS, status=503))
        refused = await caller.ask("/v1/responses", body)
    assert (answer.target, answer.headers["x-pointsman-reason"]) == ("a", "cannot move")
    assert (refused.status, refused.target) == (503, "a")


@pytest.mark.parametrize("path", ["/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_what_names_a_model_goes_where_its_route_goes(
    world: Any, running_proxy: Any, path: str
) -> None:
    """By the shares, with the model's name mapped; and it is no evidence."""
    second = None
    for name in "ab":
        second = await world.provider(name)
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    async with running_proxy() as caller:
        answer = await caller.ask(path, {"model": "chat", "input": "x"})
        assert answer.target == "b"
        assert second is not None
        assert (second.requests.last.path, second.requests.last.model) == (path, "b-model")
        assert (await caller.chat()).status == 200

        async def told() -> Any:
            [report] = await world.store.reports()
            return report.targets.get("b")

        assert (await eventually(told)).counts == {"ok": 1}


@pytest.mark.parametrize("path", ["/v1/models/lab/chat", "/v1/models/lab%2Fchat"])
async def test_a_model_is_found_by_its_name(world: Any, running_proxy: Any, path: str) -> None:
    """Clients write the slash of a name as they like."""
    await world.provider("a")
    world.route("lab/chat", chain="a")
    await world.publish()
    async with (
        running_proxy() as caller,
        caller.session.get(yarl.URL(caller.url + path, encoded=True)) as response,
    ):
        assert response.status == 200
        assert (await response.json())["id"] == "lab/chat"


async def test_a_path_that_climbs_is_refused_in_the_familys_shape(world: Any, running_proxy: Any) -> None:
    """And nothing of it reaches the provider, nor its key."""
    first = await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy() as caller:
        url = yarl.URL(caller.url + "/v1/files/%2e%2e/organization/users", encoded=True)
        async with caller.session.get(url) as response:
            assert response.status == 404
            assert (await response.json(content_type=None))["error"]["type"] == "invalid_request_error"
    assert first.requests.total == 0


async def test_a_session_may_have_any_bytes(world: Any, running_proxy: Any) -> None:
    """A header that is no UTF-8 tells callers apart like any other."""
    await world.provider("a")
    world.route("chat", chain="a", sticky_by=("header:x-team",))
    await world.publish()
    body = b'{"model":"chat","messages":[]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-team: \xe9\r\n"
    async with running_proxy() as caller:
        host, port = caller.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            answer = b"".join([chunk async for chunk in stream])
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-pointsman-reason: sticky\r\n" in answer


async def test_a_stream_keeps_no_body(world: Any, running_proxy: Any) -> None:
    """While it runs, what was asked is not in memory any more."""
    await world.provider("a", token_delay_ms=50.0, tokens=200)
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy() as caller:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x" * 1_000_000}]}
        async with caller.post("/v1/chat/completions", body) as response:
            await response.content.readany()
            jobs = [found for found in gc.get_objects() if isinstance(found, Job) and found.route == "chat"]
            assert jobs
            assert sum(len(job.body) + len(job.plain or b"") for job in jobs) == 0
