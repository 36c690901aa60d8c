"""What leaves for the provider is framed by the proxy, whatever (honest) framing came in."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rawhttp import CHAT, chunks, connected, post

pytestmark = pytest.mark.anyio

OK = json.dumps({"id": "chatcmpl-1", "choices": []}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(OK), OK)
CHUNKED = "Transfer-Encoding: chunked"
# The route is called what the model is called: nothing has to change, so not a byte of the body may.
BODY = json.dumps({"model": "a-model", "messages": [{"role": "user", "content": "é" * 4000}]}).encode()


@pytest.fixture
async def recorded(world: Any, running_proxy: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A caller, and a provider that keeps the bytes of every request."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            writer.write(ANSWER)

    provider = await world.scripted("a", script)
    world.route("a-model", chain="a")
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy() as caller:
        yield caller, provider


def fields(request: bytes) -> list[tuple[str, str]]:
    """Names in lower case, and values, of the head of a request."""
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = [line.partition(":") for line in lines]
    return [(name.lower(), value.strip()) for name, _, value in pairs]


def body(request: bytes) -> bytes:
    """What stands behind the head."""
    return request.partition(b"\r\n\r\n")[2]


def odd_chunks() -> bytes:
    """BODY in chunks of sizes that meet no boundary."""
    dice, rest, made = random.Random(4), BODY, b""
    while rest:
        size = dice.randint(1, 600)
        made += chunks(rest[:size], size).removesuffix(b"0\r\n\r\n")
        rest = rest[size:]
    return made + b"0\r\n\r\n"


FRAMINGS = {
    "a length": post(BODY),
    "one chunk": post(chunks(BODY, len(BODY)), CHUNKED, length=False),
    "a chunk for each byte": post(chunks(BODY, 1), CHUNKED, length=False),
    "odd chunks": post(odd_chunks(), CHUNKED, length=False),
    "sizes with zeros and capitals": post(
        b"000%X\r\n%s\r\n000\r\n\r\n" % (len(BODY), BODY), CHUNKED, length=False
    ),
    "extensions": post(chunks(BODY, 97, ';a=1;b="x;y"'), CHUNKED, length=False),
    "trailers": post(
        chunks(BODY, 97).removesuffix(b"\r\n") + b"X-Trailer: smuggled\r\nX-Other: smuggled\r\n\r\n",
        CHUNKED,
        "Trailer: X-Trailer",
        length=False,
    ),
    "chunked in capitals": post(chunks(BODY, 97), "TRANSFER-ENCODING: CHUNKED", length=False),
    "empty lines before the request": b"\r\n\r\n" + post(BODY),
}


@pytest.mark.parametrize("sent", FRAMINGS.values(), ids=FRAMINGS)
async def test_one_length_and_the_same_bytes(recorded: Any, sent: bytes) -> None:
    """However it came, the provider sees one Content-Length, no Transfer-Encoding, and the body byte for byte."""
    caller, provider = recorded
    async with connected(caller.url) as wire:
        await wire.send(sent)
        assert (await wire.reply()).status == 200
    [request] = provider.requests
    framing = [pair for pair in fields(request) if pair[0] in {"content-length", "transfer-encoding"}]
    assert framing == [("content-length", str(len(BODY)))]
    assert body(request) == BODY
    assert b"smuggled" not in request


async def test_what_is_of_one_hop_stays_there(recorded: Any) -> None:
    """Connection and all that belongs to it, what it names itself included, is not passed on; the rest is."""
    caller, provider = recorded
    hop = (
        "Connection: keep-alive, X-Named, x-also",
        "X-Named: hop",
        "X-Also: hop",
        "Keep-Alive: timeout=5, hop",
        "Proxy-Connection: hop",
        "Proxy-Authorization: Basic hop",
        "Proxy-Authenticate: hop",
        "TE: trailers, hop",
        "Trailer: X-Trailer-hop",
        "Upgrade: hop",
        "X-Passes: first",
        "X-Passes: second",
    )
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, *hop))
        assert (await wire.reply()).status == 200
    [request] = provider.requests
    assert b"hop" not in request
    assert [value for name, value in fields(request) if name == "x-passes"] == ["first", "second"]


@pytest.mark.parametrize("named", ["host", "content-length", "authorization", "content-type", "close"])
async def test_connection_cannot_take_away_what_the_request_needs(recorded: Any, named: str) -> None:
    """A caller that names Host, the length, the credential or the type in Connection breaks nothing behind us."""
    caller, provider = recorded
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, f"Connection: {named}"))
        assert (await wire.reply()).status == 200
    [request] = provider.requests
    names = [name for name, _ in fields(request)]
    assert (names.count("host"), names.count("content-length"), names.count("authorization")) == (1, 1, 1)
    assert len(body(request)) == len(CHAT.replace(b'"chat"', b'"a-model"'))


async def test_the_host_is_the_providers(recorded: Any) -> None:
    """The caller's Host stays here, and so does what it forwards for."""
    caller, provider = recorded
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT))
        await wire.reply()
    authority = provider.base_url.removeprefix("http://").removesuffix("/v1")
    assert [value for name, value in fields(provider.requests[0]) if name == "host"] == [authority]


async def test_names_and_values_keep_their_spelling_and_order(recorded: Any) -> None:
    """Header names keep their case, repeated ones their order, values their bytes."""
    caller, provider = recorded
    ours = ("X-MiXeD-Case: One", "x-lower: two", "X-Many: 1", "X-Other: o", "X-Many: 2", "X-Latin: caf\xe9")
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, *ours))
        assert (await wire.reply()).status == 200
    head = provider.requests[0].partition(b"\r\n\r\n")[0]
    kept = [line for line in head.split(b"\r\n")[1:] if line.lower().startswith(b"x-")]
    assert [line for line in kept if not line.startswith(b"X-Latin")] == [
        line.encode() for line in ours if "Latin" not in line
    ]


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_no_body_makes_no_framing(recorded: Any, method: str) -> None:
    """A method that has no body is sent without a length, a coding or a type of one."""
    caller, provider = recorded
    async with connected(caller.url) as wire:
        await wire.send(
            f"{method} /v1/files/file-1 HTTP/1.1\r\nHost: proxy\r\nX-Pointsman-Route: chat\r\n\r\n".encode()
        )
        await wire.reply(method)
    [request] = provider.requests
    assert request.startswith(f"{method} /v1/files/file-1 HTTP/1.1\r\n".encode())
    names = {name for name, _ in fields(request)}
    assert not names & {"transfer-encoding", "content-type"}
    assert [value for name, value in fields(request) if name == "content-length"] in ([], ["0"])


async def test_an_empty_post_has_the_length_zero(recorded: Any) -> None:
    """A POST without a body says so (RFC 9110 8.6)."""
    caller, provider = recorded
    async with connected(caller.url) as wire:
        await wire.send(post(b"", "X-Pointsman-Route: chat", path="/v1/batches/batch_1/cancel"))
        assert (await wire.reply()).status == 200
    assert [value for name, value in fields(provider.requests[0]) if name == "content-length"] == ["0"]
