"""Callers' keys: who has none that is known is served nothing but the signs of life, and a key goes nowhere."""

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer
from rawhttp import connected, post

from pointsman import logs
from pointsman.config.caller_keys import fresh_key, hashed
from pointsman.proxy.process import Proxy
from support import eventually

pytestmark = pytest.mark.anyio

ANN, BOB = fresh_key(), fresh_key()
KEYS = {"ann": hashed(ANN), "bob": hashed(BOB)}


async def chat(world: Any) -> Any:
    """A provider of either family behind the routes "chat" and "claude"; the first one."""
    fake = await world.provider("a")
    await world.provider("b", "anthropic")
    world.route("chat", chain="a")
    world.route("claude", "anthropic", chain="b")
    await world.publish()
    return fake


@contextlib.asynccontextmanager
async def running(world: Any, state_dir: Path, **settings: Any) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy that can be reloaded, with a table, and its base URL."""
    proxy = Proxy(
        world.settings(**settings),
        name="p9",
        boot="b",
        store=world.store,
        state_dir=state_dir,
        tracer=NoOpTracer(),
    )

    async def run(*, task_status: Any) -> None:
        await proxy.run(task_status=task_status)

    async with anyio.create_task_group() as tasks:
        address = await tasks.start(run)
        await eventually(lambda: proxy.ready)
        yield proxy, f"http://{address}"
        proxy.stop()


@pytest.mark.parametrize(
    "header",
    [f"Authorization: Bearer {ANN}", f"authorization: bearer {ANN}", f"X-Api-Key: {ANN}", f"api-key: {BOB}"],
    ids=["bearer", "in small letters", "x-api-key", "api-key"],
)
async def test_a_known_key_is_let_in(world: Any, running_proxy: Any, header: str) -> None:
    """In each of the headers where clients put one."""
    await chat(world)
    async with running_proxy(keys=KEYS) as caller, connected(caller.url) as wire:
        await wire.send(post(b'{"model":"chat","messages":[]}', header))
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization: Bearer",),
        (f"Authorization: Bearer {ANN[:-1]}",),
        (f"Authorization: Basic {ANN}",),
        (f"Authorization: {ANN}",),
        (f"X-Api-Key: {KEYS['ann']}",),
        (f"X-Goog-Api-Key: {ANN}",),
        ("X-Api-Key: \xe9",),
        (f"X-Api-Key: {fresh_key()}", "X-Pointsman-Synthetic: 1"),
    ],
    ids=["none", "empty", "cut", "basic", "no scheme", "the hash", "another header", "no ascii", "synthetic"],
)
async def test_a_stranger_is_refused(world: Any, running_proxy: Any, headers: tuple[str, ...]) -> None:
    """401 in the family's own shape; no provider hears of it, and the connection goes on with a key."""
    fake = await chat(world)
    async with running_proxy(keys=KEYS) as caller, connected(caller.url) as wire:
        await wire.send(post(b'{"model":"chat","messages":[]}', *headers))
        reply = await wire.reply()
        assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key")
        assert reply.json["error"]["type"] == "invalid_request_error"
        assert not reply.says_close
        assert fake.requests.total == 0
        await wire.send(post(b'{"model":"chat","messages":[]}', f"X-Api-Key: {ANN}"))
        assert (await wire.reply()).status == 200


async def test_a_stranger_of_the_other_family_is_refused_in_its_shape(world: Any, running_proxy: Any) -> None:
    """Anthropic's clients read authentication_error."""
    await chat(world)
    async with running_proxy(keys=KEYS) as caller:
        answer = await caller.ask("/v1/messages", {"model": "claude", "max_tokens": 5, "messages": []})
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (
        401,
        "error",
        "authentication_error",
    )


async def test_official_clients_read_the_refusal(world: Any, running_proxy: Any) -> None:
    """Each raises its own AuthenticationError without a known key, and works with one."""
    await chat(world)
    hi: Any = [{"role": "user", "content": "hi"}]
    async with running_proxy(keys=KEYS) as caller:
        async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key="any") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="chat", messages=hi)
            known = client.with_options(api_key=ANN)
            assert (await known.chat.completions.create(model="chat", messages=hi)).choices
        async with anthropic.AsyncAnthropic(base_url=caller.url, api_key="any") as other:
            with pytest.raises(anthropic.AuthenticationError):
                await other.messages.create(model="claude", max_tokens=5, messages=hi)
            message = await other.with_options(api_key=BOB).messages.create(
                model="claude", max_tokens=5, messages=hi
            )
            assert message.content


@pytest.mark.parametrize("invited", [True, False], ids=["expects 100", "just sends"])
async def test_a_strangers_large_body_is_not_taken(world: Any, running_proxy: Any, invited: bool) -> None:
    """It is refused before its end, without an invitation; somebody with a key is invited."""
    await chat(world)
    length = ("Content-Length: 1000000", *(("Expect: 100-continue",) if invited else ()))
    part = b"" if invited else b" " * 100_000
    async with running_proxy(keys=KEYS) as caller:
        async with connected(caller.url) as wire:
            await wire.send(post(part, *length, length=False))
            reply = await wire.reply()
            assert (reply.status, reply.interim, reply.says_close) == (401, [], True)
        async with connected(caller.url) as wire:
            body = b'{"model":"chat","messages":[]}'
            head = (f"Content-Length: {len(body)}", "Expect: 100-continue", f"X-Api-Key: {ANN}")
            await wire.send(post(b"", *head, length=False))
            assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await wire.send(body)
            assert (await wire.reply()).status == 200


@pytest.mark.parametrize("path", ["/", "/-/health", "/-/ready"])
async def test_signs_of_life_need_no_key(world: Any, running_proxy: Any, path: str) -> None:
    """Whoever balances load has none."""
    await chat(world)
    async with running_proxy(keys=KEYS) as caller:
        assert (await caller.get(path)).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat", "/v1/files", "/nothing"])
async def test_nothing_else_is_told_to_strangers(world: Any, running_proxy: Any, path: str) -> None:
    """Not even which routes there are."""
    await chat(world)
    async with running_proxy(keys=KEYS) as caller:
        assert (await caller.get(path)).status == 401


async def test_without_keys_everybody_is_served(world: Any, running_proxy: Any) -> None:
    """The default, on loopback."""
    await chat(world)
    async with running_proxy() as caller:
        assert (await caller.chat()).status == 200


async def test_a_reload_takes_a_key_away(world: Any, state_dir: Path) -> None:
    """The next request with it is refused, on the connection that it was known on; another's goes on."""
    await chat(world)
    async with running(world, state_dir, keys=KEYS) as (proxy, url), connected(url) as wire:
        body = b'{"model":"chat","messages":[]}'
        for _ in range(2):  # the second time its head is known
            await wire.send(post(body, f"X-Api-Key: {ANN}"))
            assert (await wire.reply()).status == 200
        assert proxy.reload(world.settings(keys={"bob": KEYS["bob"]})) == []
        await wire.send(post(body, f"X-Api-Key: {ANN}"))
        assert (await wire.reply()).status == 401
        await wire.send(post(body, f"X-Api-Key: {BOB}"))
        assert (await wire.reply()).status == 200


async def test_a_reload_lets_a_new_key_in(world: Any, state_dir: Path) -> None:
    """On the connection that was refused a moment ago."""
    await chat(world)
    async with running(world, state_dir, keys={"bob": KEYS["bob"]}) as (proxy, url), connected(url) as wire:
        request = post(b'{"model":"chat","messages":[]}', f"X-Api-Key: {ANN}")
        await wire.send(request)
        assert (await wire.reply()).status == 401
        proxy.reload(world.settings(keys=KEYS))
        await wire.send(request)
        assert (await wire.reply()).status == 200


async def test_the_last_key_opens_no_door(world: Any, state_dir: Path) -> None:
    """A list of keys that becomes empty lets nobody in, and says what to do."""
    await chat(world)
    async with running(world, state_dir, keys=KEYS) as (proxy, url), connected(url) as wire:
        [why] = proxy.reload(world.settings())
        assert why.startswith("nobody is let in: proxy.keys has none any more")
        for header in ("X-Nothing: 1", f"X-Api-Key: {ANN}"):
            await wire.send(post(b'{"model":"chat","messages":[]}', header))
            assert (await wire.reply()).status == 401


async def test_a_key_goes_nowhere(world: Any, running_proxy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not to the provider, nor into logs, spans, reports, or what the proxy tells of its requests."""
    fake = await chat(world)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    stranger = fresh_key()
    with caplog.at_level(logging.DEBUG):
        async with running_proxy(keys=KEYS, tracer=provider.get_tracer("t")) as caller:
            headers = {"authorization": f"Bearer {ANN}", "x-api-key": ANN, "api-key": ANN}
            answer = await caller.chat(headers=headers)
            assert answer.status == 200
            assert (await caller.chat(headers={"api-key": stranger})).status == 401
            record = await caller.admin("GET", f"/requests/{answer.headers['x-pointsman-request-id']}")
            reports = await world.store.reports()
    told = " ".join(
        [
            *(f"{name}: {value}" for name, value in fake.requests.last.headers),
            *(record.getMessage() + str(vars(record)) for record in caplog.records),
            *(span.to_json() for span in spans.get_finished_spans()),
            record.body.decode(),
            repr(reports),
            repr(answer.headers),
        ]
    )
    assert "requests without a key that is known were refused" in told
    for key in (ANN, stranger):
        assert key not in told
        assert key.removeprefix("pm-") not in told


def test_a_key_in_a_sentence_is_hidden() -> None:
    """Logs know what a key looks like, though not which there are."""
    assert logs.redact(f"somebody sent {ANN}, twice") == "somebody sent [secret], twice"


async def test_callers_are_told_apart_by_their_keys(world: Any, running_proxy: Any) -> None:
    """As by any credential: a hash in the proxy's records, another one for another key."""
    await world.provider("a")
    world.route("chat", chain="a", sticky_by=("api_key",))
    await world.publish()
    told = set()
    async with running_proxy(keys=KEYS) as caller:
        for key in (ANN, BOB, ANN):
            answer = await caller.chat(headers={"x-api-key": key})
            record = await caller.admin("GET", f"/requests/{answer.headers['x-pointsman-request-id']}")
            told.add(record.json["key"])
    assert len(told) == 2
    assert all(len(key) == 16 for key in told)
