"""The hand-written HTTP/1.1: what goes over the wire, byte by byte."""

import asyncio
import gzip
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from pointsman.fake import FakeProvider, digest
from support import eventually

pytestmark = pytest.mark.anyio

LIST = b"GET /v1/models HTTP/1.1\r\nhost: fake\r\nanthropic-version: 1\r\n\r\n"


def chunked(body: bytes, size: int) -> bytes:
    """The body in chunks of `size`, with an extension and a trailer."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x;name=value\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\nx-trailer: yes\r\n\r\n"


async def test_chunked_request_body(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """A chunked body is put together again, extensions and trailers aside."""
    body = json.dumps(caller.body()).encode()
    headers = "anthropic-version: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    head = f"POST {caller.path} HTTP/1.1\r\n{headers}".encode()
    answer = await exchange(fake.origin, head + chunked(body, 7))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert fake.requests.last.body_sha256 == hashlib.sha256(body).hexdigest()
    assert fake.requests.last.body_bytes == len(body)


async def test_keep_alive_and_pipelining(fake: FakeProvider, exchange: Any) -> None:
    """Requests on one connection are answered in turn, also when they arrive in one packet."""
    last = LIST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    answer = await exchange(fake.origin, LIST + LIST + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"connection: close") == 1
    assert fake.connections_accepted == 1


async def test_expect_continue(fake: FakeProvider, caller: Any) -> None:
    """A caller who waits for leave to send the body is given it."""
    head, _, body = caller.raw().partition(b"\r\n\r\n")
    address = urlsplit(fake.origin)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_head(fake: FakeProvider, exchange: Any) -> None:
    """HEAD gets the head of GET's answer, with its length, and no body."""
    request = LIST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    whole = await exchange(fake.origin, request)
    bare = await exchange(fake.origin, request.replace(b"GET", b"HEAD"))
    length = len(whole.partition(b"\r\n\r\n")[2])
    assert bare.endswith(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % length in bare


async def test_http_1_0_stream_ends_with_the_connection(
    fake: FakeProvider, caller: Any, exchange: Any
) -> None:
    """A caller that does not know chunks gets a stream without them, up to the close."""
    answer = await exchange(fake.origin, caller.raw(version="1.0", stream=True))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith((b"data: {", b"event: message_start\n"))
    assert body.endswith((b"data: [DONE]\n\n", b'data: {"type":"message_stop"}\n\n'))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nname : value\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000, 431),
    ],
)
async def test_what_is_no_http(fake: FakeProvider, exchange: Any, request_bytes: bytes, status: int) -> None:
    """Bytes that cannot be read as a request are refused, and the connection closed."""
    answer = await exchange(fake.origin, request_bytes, until=b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer
    await eventually(lambda: fake.connections == 0)


async def test_large_body(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """A body of 40 MB is read whole."""
    raw = caller.raw(messages=[{"role": "user", "content": "x" * 40_000_000}])
    answer = await exchange(fake.origin, raw, until=b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert fake.requests.last.body_sha256 == digest(raw.partition(b"\r\n\r\n")[2])


async def test_encoded_bodies(fake: FakeProvider, caller: Any) -> None:
    """A gzip body is understood; one in a coding that is not known here is answered all the same."""
    plain = json.dumps(caller.body(model="claude-zipped")).encode()
    for coding, body, model in (
        ("gzip", gzip.compress(plain, mtime=0), "claude-zipped"),
        ("zstd", b"\x28\xb5\x2f\xfd", ""),
    ):
        headers = {"content-encoding": coding, "content-type": "application/json", "anthropic-version": "1"}
        url = fake.origin + caller.path
        async with caller.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["model"] == (model or fake.requests.last.model)
        assert fake.requests.last.body_sha256 == digest(body)


async def test_other_paths_and_bodies(fake: FakeProvider, caller: Any) -> None:
    """Unknown paths are 404 and unreadable bodies 400, in the family's shape."""
    headers = {"anthropic-version": "1"}
    async with caller.session.get(f"{fake.origin}/v1/v1/models", headers=headers) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["message"]
    async with caller.session.post(fake.origin + caller.path, data=b"{", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_query_does_not_matter(fake: FakeProvider, caller: Any) -> None:
    """The path decides, not the query, and the ledger keeps both."""
    url = f"{fake.origin}{caller.path}?beta=true"
    async with caller.session.post(url, json=caller.body(), headers={"anthropic-version": "1"}) as answer:
        assert answer.status == 200
    assert fake.requests.last.path == caller.path
    assert fake.requests.last.target == f"{caller.path}?beta=true"


async def test_version_header_is_needed(exchange: Any) -> None:
    """The anthropic family asks for anthropic-version."""
    async with FakeProvider("f", "anthropic").running() as fake:
        answer = await exchange(fake.origin, b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"anthropic-version: header is required" in answer


async def test_caller_who_hangs_up(fake: FakeProvider, caller: Any) -> None:
    """A caller who leaves in the middle of a pause is noticed at once, and counted as gone."""
    async with caller.post(stream=True, headers={"x-fake-token-delay-ms": "600000"}) as answer:
        await answer.content.readuntil(b"\n\n")
        assert (fake.requests.open, fake.requests.open_streams) == (1, 1)
    await eventually(lambda: fake.requests.open == 0)
    assert fake.requests.open_streams == 0
    assert fake.requests.by_outcome == {"abandoned": 1}


async def test_slow_reader_holds_the_stream_back(fake: FakeProvider, caller: Any) -> None:
    """A caller that does not read stops the stream instead of filling the memory."""
    address = urlsplit(fake.origin)
    raw = caller.raw(stream=True, max_tokens=100_000).replace(
        b"\r\n\r\n", b"\r\nx-fake-tokens: 100000\r\n\r\n", 1
    )
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
    writer.write(raw)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    sent = -1
    while sent != fake.requests.last.events:
        sent = fake.requests.last.events
        await asyncio.sleep(0.05)  # the claim is that nothing happens; there is no event to wait for
    assert 0 < sent < 100_000
    writer.close()
    await eventually(lambda: fake.requests.open == 0)


async def test_the_callers_knobs(fake: FakeProvider, caller: Any) -> None:
    """A caller chooses the number of tokens by a header, under the limit in the body."""
    for asked, limit, tokens in (("7", 64, 7), ("7", 3, 3), ("nonsense", 64, 5)):
        async with caller.post(max_tokens=limit, headers={"x-fake-tokens": asked}) as answer:
            assert answer.status == 200
        assert fake.requests.last.tokens_out == tokens
