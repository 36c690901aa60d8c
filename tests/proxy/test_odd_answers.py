"""Answers whose end or meaning is not certain are failures: nothing of them reaches a caller, nothing lives on."""

import asyncio
from typing import Any

import pytest
from rawhttp import connected, post

pytestmark = pytest.mark.anyio

OK = b'{"id":"chatcmpl-poison","choices":[]}'
TYPE = b"content-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % len(OK)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(OK), OK)
LINE = b"HTTP/1.1 200 OK\r\n"


def _lengthy(value: bytes) -> bytes:
    return LINE + TYPE + b"content-length: " + value + b"\r\n\r\n" + OK


def _chunky(body: bytes) -> bytes:
    return LINE + TYPE + CHUNKED + b"\r\n" + body


def _fielded(line: bytes) -> bytes:
    return LINE + TYPE + line + LENGTH + b"\r\n" + OK


def _lined(line: bytes) -> bytes:
    return line + b"\r\n" + TYPE + LENGTH + b"\r\n" + OK


FLAWS = {
    "both framings": LINE + TYPE + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "both framings, the coding first": LINE + TYPE + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "two lengths": _lengthy(b"%d\r\ncontent-length: 5" % len(OK)),
    "two lengths in one": _lengthy(b"%d, 5" % len(OK)),
    **{
        f"a length of {value!r}": _lengthy(value)
        for value in (b"+37", b"-1", b"0x25", b"3 7", b"", b"37x", b"18446744073709551653")
    },
    "a coding that is not chunked": LINE + TYPE + b"transfer-encoding: gzip\r\n\r\n" + OK,
    "a coding behind chunked": LINE + TYPE + b"transfer-encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + TYPE + CHUNKED + b"\r\n" + CHUNKS,
    **{
        f"a chunk size of {size!r}": _chunky(size + b"\r\n" + OK + b"\r\n0\r\n\r\n")
        for size in (b"0x25", b"-1", b"+25", b" 25", b"", b"g", b"ffffffffffffffffff", b"10000000000000025")
    },
    "chunk data without CRLF": _chunky(b"25\r\n" + OK + b"0\r\n\r\n"),
    "chunk data that is too long": _chunky(b"24\r\n" + OK + b"\r\n0\r\n\r\n"),
    "a chunk size ended by LF": _chunky(b"25\n" + OK + b"\r\n0\r\n\r\n"),
    "an extension with a bare LF": _chunky(b"25;a\n=b\r\n" + OK + b"\r\n0\r\n\r\n"),
    "an end without its CRLF": _chunky(b"25\r\n" + OK + b"\r\n0\r\n"),
    "chunks that never end": _chunky(b"25\r\n" + OK + b"\r\n"),
    "a body that is too short": LINE + TYPE + b"content-length: 999\r\n\r\n" + OK,
    "a folded header": _fielded(b"x-folded: a\r\n b\r\n"),
    "NUL in a value": _fielded(b"x-nul: a\0b\r\n"),
    "NUL in a name": _fielded(b"x-n\0l: a\r\n"),
    "a bare CR in a value": _fielded(b"x-cr: a\rset-cookie: poison\r\n"),
    "a space in a name": _fielded(b"x mark: a\r\n"),
    "a space before the colon": _fielded(b"x-mark : a\r\n"),
    "a header without a colon": _fielded(b"x-mark\r\n"),
    "a header without a name": _fielded(b": a\r\n"),
    "a header of 1 MiB": _fielded(b"x-long: " + b"x" * (1 << 20) + b"\r\n"),
    "bytes that are no HTTP": b"\x16\x03\x01\x02\x00\x01poison\r\n\r\n",
    "HTML without HTTP": b"<html>poison</html>\r\n\r\n",
    "HTTP/0.9": OK,
    "another protocol": _lined(b"ICY 200 OK"),
    "HTTP/2.0": _lined(b"HTTP/2.0 200 OK"),
    "HTTP/1.10": _lined(b"HTTP/1.10 200 OK"),
    "a status of four digits": _lined(b"HTTP/1.1 2000 OK"),
    "a status of two digits": _lined(b"HTTP/1.1 20 OK"),
    "a status of letters": _lined(b"HTTP/1.1 abc OK"),
    "a status of 099": _lined(b"HTTP/1.1 099 OK"),
    "a status with a sign": _lined(b"HTTP/1.1 +200 OK"),
    "no status": _lined(b"HTTP/1.1"),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: poison\r\nconnection: upgrade\r\n\r\n" + OK,
    "nothing": b"",
    "a head that is cut": LINE + TYPE,
    "a thousand 1xx": b"HTTP/1.1 103 Early Hints\r\nx-hint: poison\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("flawed", FLAWS.values(), ids=FLAWS)
async def test_a_flawed_answer_falls_over(world: Any, running_proxy: Any, flawed: bytes) -> None:
    """The next target serves the request, the caller gets nothing of the first one's, and its connection is over."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(flawed)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        await reader.read()

    first = await world.scripted("a", script)
    await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    async with running_proxy(timeouts={"response_s": 5.0}) as caller, connected(caller.url) as wire:
        await wire.send(post() + post())
        replies = [await wire.reply(), await wire.reply()]
    assert [(reply.status, reply.header("x-pointsman-target")) for reply in replies] == [(200, "b")] * 2
    assert all(b"poison" not in reply.body for reply in replies)
    assert not any("poison" in value for reply in replies for _, value in reply.headers)
    assert first.connections == 2, "a connection on which that came was used again"


SURPLUS = {
    "a second answer": LINE + TYPE + LENGTH + b"\r\n" + OK,
    "a few bytes": b"poison",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("behind", SURPLUS.values(), ids=SURPLUS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_what_stands_behind_an_answer_answers_nobody(
    world: Any, running_proxy: Any, behind: bytes, framing: str
) -> None:
    """Bytes that nobody asked for end their connection: the next request goes out on another one."""
    honest = OK.replace(b"poison", b"honest")
    framed = LENGTH + b"\r\n" + honest
    if framing == "chunked":
        framed = CHUNKED + b"\r\n" + CHUNKS.replace(b"poison", b"honest")
    served: list[int] = []

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        number = provider.connections
        while True:
            await provider.request(reader)
            served.append(number)
            writer.write(LINE + TYPE + framed + behind)

    await world.scripted("a", script)
    await world.provider("b")  # an answer with something behind it may also count as failed
    world.route("chat", chain="a b")
    await world.publish()
    async with running_proxy() as caller, connected(caller.url) as wire:
        replies = []
        for _ in range(2):
            await wire.send(post())
            replies.append(await wire.reply())
    assert [reply.status for reply in replies] == [200, 200]
    assert all(b"poison" not in reply.body for reply in replies)
    assert served == [1, 2]


STREAM = LINE + b"content-type: text/event-stream\r\n" + CHUNKED + b"\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":"good"}}]}\n\n'
PIECE = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
STREAM_FLAWS = {
    "a bad chunk size": b"0x5\r\npoison\r\n",
    "no CRLF behind a chunk": PIECE[:-2] + PIECE.replace(b"good", b"poison"),
    "a size ended by LF": b"2b\n" + EVENT.replace(b"good", b"poison"),
    "a size beyond 64 bits": b"ffffffffffffffffff\r\n" + EVENT.replace(b"good", b"poison"),
}


@pytest.mark.parametrize("flaw", STREAM_FLAWS.values(), ids=STREAM_FLAWS)
async def test_a_stream_whose_framing_breaks_ends_as_broken(
    world: Any, running_proxy: Any, flaw: bytes
) -> None:
    """The events before it passed; then the family's own error, and an end in the middle of the framing."""
    begun = asyncio.Event()

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM + PIECE)
        await begun.wait()
        writer.write(flaw + b"0\r\n\r\n")
        await reader.read()

    await world.scripted("a", script)
    world.route("chat", chain="a")
    await world.publish()
    async with running_proxy() as caller, connected(caller.url) as wire:
        await wire.send(post(b'{"model":"chat","messages":[],"stream":true}'))
        head = await wire.reader.readuntil(EVENT)
        begun.set()
        rest = await wire.rest()
    assert b"transfer-encoding: chunked" in head.lower()
    assert b'"stream_broken"' in rest
    assert b"poison" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
