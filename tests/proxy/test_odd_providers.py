"""What no honest server does, written in raw bytes."""

import asyncio
import gzip
import json
from typing import Any

import anyio
import pytest

from support import eventually

pytestmark = pytest.mark.anyio

OK = json.dumps(
    {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
).encode()


def answer(body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole answer in raw bytes."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def behind(world: Any, script: Any, family: str = "openai") -> tuple[Any, Any]:
    """A scripted provider a before a healthy b on the route "chat"."""
    first, second = await world.scripted("a", script, family), await world.provider("b", family)
    world.route("chat", family, chain="a b")
    await world.publish()
    return first, second


async def test_a_connection_closed_under_a_request_is_tried_again_on_a_fresh_one(
    world: Any, running_proxy: Any
) -> None:
    """It had been idle in the pool, and no byte of an answer came: not the provider's failure."""

    async def one_answer_each(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(answer(OK))
        await provider.request(reader)  # the next one is read, and left unanswered

    first, second = await behind(world, one_answer_each)
    async with running_proxy() as caller:
        answers = [await caller.chat() for _ in range(2)]

        async def counted() -> Any:
            return [
                report.targets["a"].counts for report in await world.store.reports() if "a" in report.targets
            ]

        await eventually(lambda: counted_is(counted, [{"ok": 2}]))
    assert [(one.target, one.headers["x-pointsman-attempt"]) for one in answers] == [("a", "1"), ("a", "1")]
    assert (first.connections, len(first.requests)) == (2, 3)
    assert second.requests.total == 0


async def counted_is(counted: Any, expected: Any) -> bool:
    """Does the function give what is expected."""
    return bool(await counted() == expected)


async def test_a_fresh_connection_that_closes_is_a_failure(world: Any, running_proxy: Any) -> None:
    """Only what lay idle is forgiven: the request falls over after one try."""

    async def never(provider: Any, reader: Any, _: Any) -> None:
        await provider.request(reader)

    first, _ = await behind(world, never)
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"
    assert len(first.requests) == 1


async def test_a_gzipped_answer_passes_as_it_is_and_is_understood(world: Any, running_proxy: Any) -> None:
    """Although identity was asked for: a compressed error is classed by what it says."""
    told = gzip.compress(json.dumps({"error": {"code": "insufficient_quota", "message": "m"}}).encode())
    good = gzip.compress(OK)
    answers = [
        answer(good, "content-encoding: gzip"),
        answer(told, "content-encoding: gzip", status="429 Too Many Requests"),
    ]

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            writer.write(answers.pop(0))

    await behind(world, script)
    async with running_proxy() as caller:
        first = await caller.chat()
        second = await caller.chat()
    assert (first.body, first.headers["content-encoding"]) == (good, "gzip")
    assert second.headers["x-pointsman-reason"] == "fell over: a HTTP 429 insufficient_quota"


async def test_a_cookie_of_the_provider_stays_there(world: Any, running_proxy: Any) -> None:
    """Neither to the caller nor back to the provider; other headers pass, in their number."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            writer.write(answer(OK, "set-cookie: sid=1", "x-two: 1", "x-two: 2", "x-pointsman-target: lie"))

    first, _ = await behind(world, script)
    async with running_proxy() as caller:
        await caller.chat()
        async with caller.post("/v1/chat/completions", {"model": "chat"}) as response:
            assert response.headers.getall("x-two") == ["1", "2"]
            assert "set-cookie" not in response.headers
            assert response.headers.getall("x-pointsman-target") == ["a"]
    assert b"cookie" not in first.requests[-1].lower()


async def test_an_answer_too_large_to_hold_passes_as_it_comes(world: Any, running_proxy: Any) -> None:
    """Whole, and its own length with it."""
    body = b'{"data":"' + b"x" * 12_000_000 + b'"}'

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(answer(body))
        await writer.drain()

    await behind(world, script)
    async with running_proxy() as caller:
        got = await caller.chat()
    assert got.body == body
    assert got.headers["content-length"] == str(len(body))


async def test_a_large_answer_that_is_cut_is_never_whole(world: Any, running_proxy: Any) -> None:
    """It has begun to pass, so it cannot fall over; the caller sees that something is missing."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(answer(b"x" * 12_000_000)[:-500])
        await writer.drain()

    await behind(world, script)
    async with running_proxy() as caller:
        got = await caller.chat()
    assert not got.whole


async def test_an_event_that_is_cut_in_two_arrives_whole(world: Any, running_proxy: Any) -> None:
    """And one whose second half never comes does not arrive at all."""
    event = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM_HEAD + chunk(event[:20]))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(chunk(event[20:]) + chunk(event[:30]) + b"0\r\n\r\n")

    await behind(world, script)
    async with running_proxy() as caller:
        got = await caller.chat(stream=True)
    assert got.body.startswith(event + b"\n\ndata: {")
    assert got.body.count(b"hello") == 1
    assert not got.whole


async def test_a_provider_that_forgets_to_end_is_not_waited_for(world: Any, running_proxy: Any) -> None:
    """After [DONE] there is nothing to come: a success, ended by the proxy."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM_HEAD + chunk(b'data: {"choices":[]}\n\ndata: [DONE]\n\n'))
        await writer.drain()
        await reader.read()

    await behind(world, script)
    async with running_proxy() as caller:
        with anyio.fail_after(10):
            got = await caller.chat(stream=True)
    assert got.whole
    assert got.body.endswith(b"data: [DONE]\n\n")


async def test_comments_before_an_error_do_not_commit(world: Any, running_proxy: Any) -> None:
    """OpenRouter's way: signs of life, then an error. The caller sees only the second target."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(STREAM_HEAD + chunk(b": OPENROUTER PROCESSING\n\n"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(chunk(b'data: {"error":{"code":502,"message":"upstream"}}\n\n') + b"0\r\n\r\n")

    await behind(world, script)
    async with running_proxy() as caller:
        got = await caller.chat(stream=True)
    assert got.target == "b"
    assert b"OPENROUTER" not in got.body


async def test_a_redirect_is_not_followed(world: Any, running_proxy: Any) -> None:
    """A credential does not travel to where an answer points."""
    thief = await world.provider("thief")

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        location = f"location: {thief.base_url}/chat/completions"
        writer.write(answer(b"", location, status="307 Temporary Redirect"))

    await behind(world, script)
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"
    assert thief.requests.total == 0


async def test_nonsense_instead_of_http_falls_over(world: Any, running_proxy: Any) -> None:
    """What is no HTTP at all is an outage."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        await provider.request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    await behind(world, script)
    async with running_proxy() as caller:
        assert (await caller.chat()).target == "b"


async def test_a_file_goes_up_as_it_is(world: Any, running_proxy: Any) -> None:
    """Multipart bodies are not looked into."""

    async def script(provider: Any, reader: Any, writer: Any) -> None:
        while True:
            await provider.request(reader)
            writer.write(answer(b'{"id":"file-1"}'))

    first, _ = await behind(world, script)
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\x00"model":"chat"\r\n--x--\r\n'
    async with running_proxy() as caller:
        got = await caller.ask("/v1/files", body, {"content-type": "multipart/form-data; boundary=x"})
    assert got.json == {"id": "file-1"}
    assert first.requests[-1].endswith(body)
    assert first.requests[-1].startswith(b"POST /v1/files HTTP/1.1")
