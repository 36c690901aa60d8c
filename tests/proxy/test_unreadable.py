"""Answers and requests that are odd in their bytes: never two answers in one, never the end of the chain."""

import asyncio
import re
import socket
import struct
from typing import Any

import anyio
import pytest

from pointsman.proxy import relay
from pointsman.proxy.job import Job
from pointsman.proxy.sse import Watch
from support import eventually, interpreted

pytestmark = pytest.mark.anyio

OK = b'{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"1","choices":[{"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
LATIN_1_ERROR = b'{"error":{"message":"caf\xe9","code":"insufficient_quota"}}'


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole JSON answer in raw bytes."""
    length = b"content-length: %d" % len(body)
    lines = [b"HTTP/1.1 " + status, b"content-type: application/json", length, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def says(*parts: bytes, pause_s: float = 0.05) -> Any:
    """A provider that writes `parts` to every request, pausing in between, and hangs up."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        for number, part in enumerate(parts):
            await asyncio.sleep(pause_s if number else 0)
            writer.write(part)
            await writer.drain()

    return script


async def behind(world: Any, script: Any) -> tuple[Any, Any]:
    """A scripted provider a before a healthy b on the route "chat"."""
    first, second = await world.scripted("a", script), await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    return first, second


async def raw(caller: Any, *headers: bytes, body: bytes = b'{"model":"chat","stream":true}') -> bytes:
    """All that comes back on one connection until it ends."""
    host, port = caller.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    with anyio.fail_after(10):
        got = await reader.read()
    writer.close()
    return got


async def counts(world: Any) -> Any:
    """What has been counted of a, once something has."""
    for report in await world.store.reports():
        if "a" in report.targets and report.targets["a"].counts:
            return report.targets["a"].counts
    return None


async def test_an_error_in_another_encoding_falls_over(world: Any, running_proxy: Any) -> None:
    """Its code is read all the same."""
    await behind(world, says(answer(LATIN_1_ERROR, status=b"429 Too Many Requests")))
    async with running_proxy() as caller:
        got = await caller.chat()
    assert got.target == "b"
    assert got.headers["x-pointsman-reason"] == "fell over: a HTTP 429 insufficient_quota"


@pytest.mark.parametrize("body", [LATIN_1_ERROR, b'{"id":null,"usage":[],"error":{"code":502}}', b"[" * 9999])
async def test_a_success_that_is_none_falls_over(world: Any, running_proxy: Any, body: bytes) -> None:
    """An error whose neighbours are odd, and nesting without end."""
    await behind(world, says(answer(body)))
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"


async def test_an_unreadable_error_in_a_stream_is_no_second_answer(world: Any, running_proxy: Any) -> None:
    """It passes as it came, inside the one answer there is, and counts."""
    told = b"data: " + LATIN_1_ERROR + b"\n\n"
    await behind(world, says(STREAM_HEAD + chunk(EVENT), chunk(told) + b"0\r\n\r\n"))
    async with running_proxy() as caller:
        got = await raw(caller, b"connection: close")
        assert await eventually(lambda: counts(world)) == {"quota": 1}
    assert got.count(b"HTTP/1.1") == 1
    assert told in got


@interpreted
@pytest.mark.parametrize("fault", [ValueError, RecursionError])
async def test_a_fault_of_our_own_in_a_begun_stream_ends_it_honestly(
    world: Any, running_proxy: Any, monkeypatch: Any, fault: type[Exception]
) -> None:
    """Last words, no end of the framing, no second answer; and an outage, so that it is noticed."""
    feed = Watch.feed

    def fails(self: Watch, data: bytes) -> bytes:
        if self.begun:
            raise fault
        return feed(self, data)

    monkeypatch.setattr(Watch, "feed", fails)
    await behind(world, says(STREAM_HEAD + chunk(EVENT), chunk(EVENT)))
    async with running_proxy() as caller:
        got = await raw(caller)
        assert await eventually(lambda: counts(world)) == {"outage": 1}
    assert got.count(b"HTTP/1.1") == 1
    assert b"broke off: unreadable answer" in got
    assert not got.endswith(b"0\r\n\r\n")


@interpreted
async def test_no_second_answer_even_if_the_last_words_fail(
    world: Any, running_proxy: Any, monkeypatch: Any
) -> None:
    """Once an answer has begun, the only other thing to do is to cut it."""

    def fails(*_: Any, **__: Any) -> bytes:
        raise ValueError

    monkeypatch.setattr(relay, "stream_error", fails)
    await behind(world, says(STREAM_HEAD + chunk(EVENT)))
    async with running_proxy() as caller:
        got = await raw(caller)
    assert got.count(b"HTTP/1.1") == 1
    assert not got.endswith(b"0\r\n\r\n")


@interpreted
async def test_a_fault_of_our_own_in_an_attempt_does_not_end_the_chain(
    world: Any, running_proxy: Any, monkeypatch: Any
) -> None:
    """Whatever one target's answer does to us, the next one is asked."""
    written_for = Job.written_for

    def fails(self: Job, endpoint: Any, credential: int) -> Any:
        if endpoint.target == "a":
            raise ValueError
        return written_for(self, endpoint, credential)

    monkeypatch.setattr(Job, "written_for", fails)
    await behind(world, says())
    async with running_proxy() as caller:
        got = await caller.chat()
        assert await eventually(lambda: counts(world)) == {"outage": 1}
    assert got.headers["x-pointsman-reason"] == "fell over: a unreadable answer"


@pytest.mark.parametrize("body", [b'{"model":"chat","user":"\xff"}', b'{"model":"\xff"}'])
async def test_a_request_in_another_encoding_is_the_callers_own(
    world: Any, running_proxy: Any, body: bytes
) -> None:
    """400, and nobody is asked."""
    first, _ = await behind(world, says(answer(OK)))
    async with running_proxy() as caller:
        assert (await caller.ask("/v1/chat/completions", body)).status == 400
    assert not first.requests


async def test_a_stream_of_comments_falls_over(world: Any, running_proxy: Any) -> None:
    """A sign of life every moment is no answer: the first event has one deadline."""

    told = anyio.Event()

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM_HEAD)
        while not reader.at_eof() and reader.exception() is None:  # a reset is no end of the file
            writer.write(chunk(b": PROCESSING\n\n"))
            await asyncio.sleep(0.05)
        writer.close()
        told.set()

    await behind(world, script)
    async with running_proxy(timeouts={"first_byte_s": 0.5, "idle_s": 5.0}) as caller:
        with anyio.fail_after(10):
            got = await caller.chat(stream=True)
            await told.wait()
    assert got.headers["x-pointsman-reason"] == "fell over: a first byte timeout"


async def test_an_event_too_large_to_hold_ends_a_stream(world: Any, running_proxy: Any) -> None:
    """An image in response.completed, with a silence in the middle of it: whole, a success, and no ping inside."""
    made = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    last = b'event: response.completed\ndata: {"type":"response.completed","x":"%s"}\n\n' % (b"A" * 2_000_000)
    cut = 1_500_000
    parts = STREAM_HEAD + chunk(made), chunk(last[:cut]), chunk(last[cut:]) + b"0\r\n\r\n"
    await behind(world, says(*parts, pause_s=0.5))
    async with running_proxy(ping_after_s=0.1) as caller:
        got = await caller.ask("/v1/responses", {"model": "chat", "input": "x", "stream": True})
        assert await eventually(lambda: counts(world)) == {"ok": 1}
    assert got.whole
    assert got.body.endswith(last)
    assert b": ping" in got.body


async def test_headers_in_another_encoding_keep_their_bytes(world: Any, running_proxy: Any) -> None:
    """In both directions, whatever they are."""
    first, _ = await behind(world, says(answer(OK, b"x-latin: M\xfcnchen", b"x-utf: M\xc3\xbcnchen")))
    async with running_proxy() as caller:
        got = await raw(caller, b"connection: close", b"x-title: Caf\xe9", body=b'{"model":"chat"}')
    assert re.findall(rb"(?i)x-(?:latin|utf): (.*)\r\n", got) == [b"M\xfcnchen", b"M\xc3\xbcnchen"]
    assert b"Caf\xe9\r\n" in first.requests[0]


@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_reset_is_told_from_an_end(world: Any, running_proxy: Any, is_reset: bool) -> None:
    """What the transport said is what people read."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM_HEAD + chunk(EVENT))
        await writer.drain()
        await asyncio.sleep(0.2)
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    await behind(world, script)
    async with running_proxy() as caller:
        got = await caller.chat(stream=True)
    detail = b"connection reset" if is_reset else b"stream ended without its terminal event"
    assert b"broke off: " + detail in got.body
