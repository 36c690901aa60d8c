"""HTTP/1.1 (and 1.0) as callers may speak it: expectations, HEAD, pipelining, versions, sizes."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from rawhttp import CHAT, DEADLINE_S, chunks, connected, post

from support import eventually

pytestmark = pytest.mark.anyio

STREAM = json.dumps({"model": "chat", "stream": True, "messages": []}).encode()
HEAD_AND_GET = ("/", "/-/health", "/-/ready")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
async def front(world: Any, running_proxy: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A caller of a proxy that takes 1 MiB, and the one provider behind it."""
    fake = await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy(max_body_mb=1) as caller:
        yield caller, fake


def nonced(nonce: str) -> bytes:
    """A chat that says `nonce`."""
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": f"<{nonce}>"}]}).encode()


class Echo:
    """A script: every answer holds its request's nonce. Those named in `held` wait until they are let go."""

    def __init__(self, *held: str) -> None:
        self.held = {nonce: asyncio.Event() for nonce in held}
        self.come: list[str] = []
        self.hung_up = 0

    async def __call__(self, provider: Any, reader: Any, writer: Any) -> None:
        try:
            while True:
                found = re.search(rb"<(\w+)>", await provider.request(reader))
                assert found
                nonce = found[1].decode()
                self.come.append(nonce)
                if nonce in self.held:
                    await self._hold(nonce, reader)
                body = json.dumps({"id": nonce, "choices": []}).encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(head % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up += 1

    async def _hold(self, nonce: str, reader: Any) -> None:
        """Until it is let go; ConnectionError when nobody waits any more."""
        let_go, gone = asyncio.ensure_future(self.held[nonce].wait()), asyncio.ensure_future(reader.read(1))
        await asyncio.wait({let_go, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not let_go.done():
            let_go.cancel()
            raise ConnectionError
        gone.cancel()
        await asyncio.wait({gone})


async def echoing(world: Any, *held: str) -> Echo:
    """A provider a that echoes, on the route "chat"."""
    echo = Echo(*held)
    await world.scripted("a", echo)
    world.route("chat", chain="a")
    await world.publish()
    return echo


# --- Expect


async def test_continue_is_said_before_the_body_comes(front: Any) -> None:
    """Who waits for 100 gets it, then the answer; the provider is not told of the expectation."""
    caller, fake = front
    head, _, body = post(CHAT, "Expect: 100-continue").partition(b"\r\n\r\n")
    async with connected(caller.url) as wire:
        await wire.send(head + b"\r\n\r\n")
        with anyio.fail_after(DEADLINE_S):
            assert await wire.reader.readexactly(len(CONTINUE)) == CONTINUE
        await wire.send(body)
        reply = await wire.reply()
    assert (reply.status, reply.interim) == (200, [])
    assert fake.requests.last.header("expect") == ""


@pytest.mark.parametrize("framing", [f"Content-Length: {2 << 20}", "Content-Length: 99999999999"])
async def test_what_is_too_large_is_refused_before_it_is_sent(front: Any, framing: str) -> None:
    """413 in place of 100: the caller need not send what nobody takes."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(post(b"", "Expect: 100-continue", framing, length=False))
        reply = await wire.reply()
    assert (reply.status, reply.interim) == (413, [])
    assert fake.requests.total == 0


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, more", "101-continue"])
async def test_another_expectation_is_refused(front: Any, expectation: str) -> None:
    """417, and nothing is forwarded (RFC 9110 10.1.1)."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, f"Expect: {expectation}"))
        assert (await wire.reply()).status == 417
    assert fake.requests.total == 0


async def test_http_1_0_is_never_told_to_continue(front: Any) -> None:
    """Its clients do not know interim answers (RFC 9110 10.1.1)."""
    caller, _ = front
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, "Expect: 100-continue", version="1.0"))
        reply = await wire.reply()
    assert (reply.status, reply.interim) == (200, [])


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(front: Any, chunked: bool) -> None:
    """413 as soon as it is known, however it is framed, and nothing is forwarded."""
    caller, fake = front
    body = b'{"model":"chat","pad":"' + b"x" * (2 << 20) + b'"}'
    framed = chunks(body, 1 << 16) if chunked else body
    headers = ("Transfer-Encoding: chunked",) if chunked else ()
    async with connected(caller.url) as wire, anyio.create_task_group() as tasks:
        tasks.start_soon(wire.send, post(framed, *headers, length=not chunked))
        assert (await wire.reply()).status == 413
        tasks.cancel_scope.cancel()
    assert fake.requests.total == 0


# --- HEAD


@pytest.mark.parametrize("path", HEAD_AND_GET)
async def test_head_is_get_without_the_body(front: Any, path: str) -> None:
    """The same status and type, no body, and a length that is the one of GET if there is any."""
    caller, _ = front
    async with connected(caller.url) as wire:
        await wire.send(f"HEAD {path} HTTP/1.1\r\nHost: proxy\r\n\r\n".encode())
        head = await wire.reply("HEAD")
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: proxy\r\n\r\n".encode())
        got = await wire.reply("GET")
    assert (head.status, head.header("content-type")) == (got.status, got.header("content-type"))
    assert head.status == 200
    assert got.body
    assert head.header("content-length") in {"", str(len(got.body))}


async def test_head_of_an_account_path_keeps_the_length(world: Any, running_proxy: Any) -> None:
    """The provider's Content-Length is told, no body comes, and the connection serves the next request."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/pdf\r\ncontent-length: 1234\r\n\r\n")

    provider = await world.scripted("a", script)
    world.route("chat", chain="a")
    await world.publish()
    asked = b"HEAD /v1/files/file-1/content HTTP/1.1\r\nHost: proxy\r\n\r\n"
    async with running_proxy() as caller, connected(caller.url) as wire:
        for _ in range(2):
            await wire.send(asked)
            reply = await wire.reply("HEAD")
            assert (reply.status, reply.header("content-length")) == (200, "1234")
    assert provider.connections == 1


# --- one after the other


async def test_pipelined_requests_are_answered_in_order(world: Any, running_proxy: Any) -> None:
    """Three in one segment, the first the slowest: three answers, each to its own, in their order."""
    echo = await echoing(world, "one")
    async with running_proxy() as caller, connected(caller.url) as wire:
        await wire.send(b"".join(post(nonced(nonce)) for nonce in ("one", "two", "three")))
        await eventually(lambda: "one" in echo.come)
        echo.held["one"].set()
        replies = [await wire.reply() for _ in range(3)]
    assert [reply.json["id"] for reply in replies] == ["one", "two", "three"]


async def test_who_pipelines_and_hangs_up_leaves_nothing(world: Any, running_proxy: Any) -> None:
    """Two in one segment, gone before the first is answered: its provider is told, and others are served."""
    echo = await echoing(world, "one", "two")
    async with running_proxy() as caller:
        async with connected(caller.url) as wire:
            await wire.send(post(nonced("one")) + post(nonced("two")))
            await eventually(lambda: "one" in echo.come)
        await eventually(lambda: echo.hung_up >= len(echo.come))
        async with connected(caller.url) as wire:
            await wire.send(post(nonced("other")))
            assert (await wire.reply()).json["id"] == "other"


async def test_a_request_behind_a_stream_waits_for_its_end(front: Any) -> None:
    """Nothing of the second answer stands within the first."""
    caller, _ = front
    async with connected(caller.url) as wire:
        await wire.send(post(STREAM) + post(CHAT))
        first, second = await wire.reply(), await wire.reply()
    assert first.body.endswith(b"data: [DONE]\n\n")
    assert second.json["object"] == "chat.completion"


async def test_trailers_do_not_begin_the_next_request(front: Any) -> None:
    """They end with their request; the one behind it is read from its own first byte."""
    caller, fake = front
    body = chunks(CHAT).removesuffix(b"\r\n") + b"X-One: 1\r\nX-Two: 2\r\n\r\n"
    async with connected(caller.url) as wire:
        await wire.send(post(body, "Transfer-Encoding: chunked", length=False) + post(CHAT))
        assert [(await wire.reply()).status for _ in range(2)] == [200, 200]
    assert fake.requests.total == 2


async def test_one_byte_at_a_time(front: Any) -> None:
    """A request that comes in segments of one byte is a request like any other, its chunks included."""
    caller, _ = front
    sent = post(chunks(CHAT, 20), "Transfer-Encoding: chunked", length=False) + post(CHAT)
    async with connected(caller.url) as wire:
        for at in range(len(sent)):
            await wire.send(sent[at : at + 1])
            await asyncio.sleep(0)
        assert [(await wire.reply()).status for _ in range(2)] == [200, 200]


# --- versions and the end of connections


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_http_1_0_gets_no_chunks_and_an_end(front: Any, body: bytes) -> None:
    """An old client reads up to the end of the connection, or up to a length."""
    caller, _ = front
    async with connected(caller.url) as wire:
        await wire.send(post(body, version="1.0"))
        reply = await wire.reply()
        assert await wire.rest() == b""
    assert (reply.status, reply.chunked) == (200, False)
    assert reply.body.endswith(b"[DONE]\n\n") if body is STREAM else reply.json["choices"]


async def test_http_1_0_may_keep_its_connection(front: Any) -> None:
    """Asked to, a whole answer has its length and says that the connection stays; it does."""
    caller, _ = front
    async with connected(caller.url) as wire:
        for _ in range(2):
            await wire.send(post(CHAT, "Connection: keep-alive", version="1.0"))
            reply = await wire.reply()
            assert (reply.status, reply.chunked) == (200, False)
            assert reply.header("connection").lower() == "keep-alive"
            assert reply.header("content-length") == str(len(reply.body))


@pytest.mark.parametrize("said", ["close", "CLOSE", "x-other, close", "close, x-other"])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_close_is_honoured(front: Any, said: str, body: bytes) -> None:
    """The answer says that it is the last one, and it is."""
    caller, _ = front
    async with connected(caller.url) as wire:
        await wire.send(post(body, f"Connection: {said}"))
        reply = await wire.reply()
        assert (reply.status, reply.says_close) == (200, True)
        assert await wire.rest() == b""


async def test_nothing_behind_close_is_served(front: Any) -> None:
    """The request that says close is answered, what stands behind it is not looked at (RFC 9112 9.6)."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, "Connection: close") + post(CHAT))
        assert (await wire.reply()).status == 200
        assert await wire.rest() == b""
    assert fake.requests.total == 1


async def test_the_absolute_form_is_understood(front: Any) -> None:
    """A server accepts it, although clients send it to forward proxies only (RFC 9112 3.2.2)."""
    caller, _ = front
    authority = caller.url.removeprefix("http://")
    async with connected(caller.url) as wire:
        await wire.send(
            post(CHAT, path=f"{caller.url}/v1/chat/completions").replace(b"proxy", authority.encode(), 1)
        )
        assert (await wire.reply()).status == 200


# --- sizes


def _line(length: int) -> str:
    """A path and query of `length` bytes."""
    path = "/v1/chat/completions?pad="
    return path + "x" * (length - len(path))


async def test_a_target_of_16_kib_passes(front: Any) -> None:
    """With every byte of its query."""
    caller, fake = front
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, path=_line(16 << 10)))
        assert (await wire.reply()).status == 200
    assert fake.requests.last.target == _line(16 << 10)


@pytest.mark.parametrize("kib", [32, 64, 1024])
async def test_a_target_far_beyond_is_refused(front: Any, kib: int) -> None:
    """414 (RFC 9110 15.5.15), and the end: nobody reads the rest of it."""
    caller, fake = front
    async with connected(caller.url) as wire, anyio.create_task_group() as tasks:
        tasks.start_soon(wire.send, post(CHAT, path=_line(kib << 10)))
        assert (await wire.reply()).status == 414
        assert await wire.rest() == b""
    assert fake.requests.total == 0


@pytest.mark.parametrize("count", [1, 8, 60])
async def test_headers_of_60_kib_pass(front: Any, count: int) -> None:
    """In one or in many: betas, tracing and tokens of single sign-on grow."""
    caller, fake = front
    one = (60 << 10) // count - 20
    async with connected(caller.url) as wire:
        await wire.send(post(CHAT, *(f"X-Long-{number}: {'x' * one}" for number in range(count))))
        assert (await wire.reply()).status == 200
    assert sum(len(value) for name, value in fake.requests.last.headers if "long" in name) == one * count


@pytest.mark.parametrize("count", [1, 32, 4000])
async def test_headers_far_beyond_are_refused(front: Any, count: int) -> None:
    """431 (RFC 6585 5), and the end."""
    caller, fake = front
    one = (160 << 10) // count
    headers = (f"X-Long-{number}: {'x' * one}" for number in range(count))
    async with connected(caller.url) as wire, anyio.create_task_group() as tasks:
        tasks.start_soon(wire.send, post(CHAT, *headers))
        assert (await wire.reply()).status == 431
        assert await wire.rest() == b""
    assert fake.requests.total == 0
