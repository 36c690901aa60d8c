"""Every fault, as it shows on the wire."""

import asyncio
import contextlib
import itertools
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from pointsman.fake import FakeProvider, Fault, FaultError
from support import eventually

pytestmark = pytest.mark.anyio

FAMILIES = ("openai", "anthropic")
EVENTS = {"openai": 5 + 3, "anthropic": 5 + 6}  # five tokens and what stands around them


async def status_of(caller: Any, **more: Any) -> int:
    """The status of one completion."""
    async with caller.post(**more) as answer:
        await answer.read()
        return answer.status


def dechunk(body: bytes) -> tuple[list[bytes], bool]:
    """The whole chunks of a body, and whether its end was proper."""
    chunks = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            return chunks, rest == b"\r\n"
        if len(rest) < count + 2:
            return chunks, False
        chunks.append(rest[:count])
        body = rest[count + 2 :]
    return chunks, False


async def test_refuse(fake: FakeProvider, caller: Any) -> None:
    """Refusing: connects are refused, an open stream is reset, and a revived provider has its port again."""
    async with caller.post(stream=True, headers={"x-fake-token-delay-ms": "600000"}) as answer:
        await answer.content.readuntil(b"\n\n")
        fake.die("refuse")
        with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
            await answer.read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", fake.port)
    assert fake.dead == "refuse"
    fake.revive()
    assert await status_of(caller) == 200
    assert fake.requests.by_outcome == {"refuse": 1, "ok": 1}


async def test_death_ends_by_itself(fake: FakeProvider, caller: Any) -> None:
    """A death with a duration ends after it, without a word."""
    fake.die("refuse", for_s=0.2)
    with pytest.raises(aiohttp.ClientConnectorError):
        await status_of(caller)
    await eventually(lambda: not fake.dead)

    async def answers() -> bool:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            return await status_of(caller) == 200
        return False

    await eventually(answers)


async def test_blackhole(fake: FakeProvider, caller: Any) -> None:
    """A black hole answers no connect, and what was open falls silent; it can be revived."""
    async with caller.post(stream=True, headers={"x-fake-token-delay-ms": "1"}) as answer:
        await answer.read()
    fake.die("blackhole")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", fake.port), 0.3)
    with pytest.raises(TimeoutError):  # on the connection that was kept alive
        await asyncio.wait_for(status_of(caller), 0.3)
    fake.revive()
    assert await status_of(caller) == 200


async def test_die_with_reset(fake: FakeProvider, caller: Any) -> None:
    """Dead by reset: streams under way are reset, new connections are accepted and reset."""
    async with caller.post(stream=True, headers={"x-fake-token-delay-ms": "600000"}) as answer:
        await answer.content.readuntil(b"\n\n")
        fake.die("reset")
        with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
            await answer.read()
    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await status_of(caller)


async def test_die_with_hang(fake: FakeProvider, caller: Any) -> None:
    """Dead by hanging: streams under way fall silent, new requests get no answer, connections stay."""
    async with caller.post(stream=True, headers={"x-fake-token-delay-ms": "20"}) as answer:
        await answer.content.readuntil(b"\n\n")
        fake.die("hang")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.read(), 0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(status_of(caller), 0.1)
        assert fake.requests.by_outcome == {"hang": 2}


async def test_unknown_death(fake: FakeProvider) -> None:
    """A way to die that is not known is refused by name."""
    with pytest.raises(FaultError, match="mode: known are blackhole, hang, refuse, reset"):
        fake.die("sleep")


async def test_reset(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Reset: the request is read, and the connection answers with RST."""
    fake.set_faults(Fault(kind="reset"))
    with pytest.raises(ConnectionResetError):
        await exchange(fake.origin, caller.raw())
    assert fake.requests.by_outcome == {"reset": 1}


async def test_hang(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Hang: the request is counted as hanging while nothing comes back, not even a head."""
    fake.set_faults(Fault(kind="hang"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(exchange(fake.origin, caller.raw()), 0.2)
    assert fake.requests.by_outcome == {"hang": 1}
    await eventually(lambda: fake.requests.open == 0)


async def test_zombie(fake: FakeProvider, caller: Any) -> None:
    """A zombie answers the free request and hangs at the one that makes tokens."""
    fake.set_faults(Fault(kind="zombie"))
    async with caller.list_models() as answer:
        assert answer.status == 200
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(status_of(caller), 0.2)


@pytest.mark.parametrize("wait_s", [None, 0.5, 30, 7999])
async def test_retry_after(fake: FakeProvider, caller: Any, wait_s: float | None) -> None:
    """A 429 carries the Retry-After that was asked for or none, any header, and no allowance left."""
    headers = {"x-should-retry": "true"}
    fake.set_faults(Fault(kind="status", status=429, retry_after_s=wait_s, headers=headers))
    async with caller.post() as answer:
        assert answer.status == 429
        assert answer.headers.get("retry-after") == (None if wait_s is None else f"{wait_s:g}")
        assert answer.headers["x-should-retry"] == "true"
        left = {value for name, value in answer.headers.items() if "remaining" in name.lower()}
        assert left == {"0"}


@pytest.mark.parametrize(("status", "size"), [(204, 0), (302, 1), (304, 0), (418, 1), (451, 1), (599, 1)])
async def test_any_status(fake: FakeProvider, caller: Any, status: int, size: int) -> None:
    """Also one that no provider has, with a body where the status has one; the connection goes on."""
    fake.set_faults(Fault(kind="status", status=status))
    for _ in range(2):
        async with caller.post() as answer:
            body = await answer.read()
            assert (answer.status, min(len(body), 1)) == (status, size)
    assert fake.connections_accepted == 1


@pytest.mark.parametrize(
    ("status", "kinds"), [(418, {"invalid_request_error"}), (599, {"api_error", "server_error"})]
)
async def test_an_unlisted_status_is_of_its_class(
    fake: FakeProvider, caller: Any, status: int, kinds: set[str]
) -> None:
    """Of the 4xx the caller's fault, of the 5xx the provider's."""
    fake.set_faults(Fault(kind="status", status=status))
    async with caller.post() as answer:
        assert (await answer.json())["error"]["type"] in kinds


async def test_ramp_limit(fake: FakeProvider, caller: Any) -> None:
    """A code takes the place that the family has for it."""
    fake.set_faults(Fault(kind="status", status=429, code="ramp_limit_exceeded"))
    async with caller.post() as answer:
        error = (await answer.json())["error"]
    assert "ramp_limit_exceeded" in {error.get("code"), error.get("details", {}).get("error_code")}


async def test_garbage(fake: FakeProvider, caller: Any) -> None:
    """Garbage: 200 with a page where JSON should be."""
    fake.set_faults(Fault(kind="garbage"))
    async with caller.post() as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")


async def test_slow(fake: FakeProvider, caller: Any) -> None:
    """Slow: nothing comes before the delay is over, for the requests meant only."""
    fake.set_faults(Fault(kind="slow", delay_ms=600_000, stream=False))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(status_of(caller), 0.2)
    assert await status_of(caller, stream=True) == 200


@pytest.mark.parametrize("family", FAMILIES)
async def test_slow_multiplies_what_is_usual(family: str) -> None:
    """A factor slows the first byte and every token."""
    async with FakeProvider("f", family, latency_ms=20, token_delay_ms=10, tokens=5).running() as fake:
        fake.set_faults(Fault(kind="slow", multiply=3))
        async with aiohttp.ClientSession() as session:
            started_s = time.monotonic()
            body = {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "x"}]}
            path = "/v1/messages" if family == "anthropic" else "/v1/chat/completions"
            headers = {"anthropic-version": "1"}
            async with session.post(fake.origin + path, json=body, headers=headers) as answer:
                await answer.read()
        assert time.monotonic() - started_s >= (20 + 5 * 10) * 3 / 1000


async def test_stall(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Stall: exactly so many events, then silence on an open connection."""
    fake.set_faults(Fault(kind="stall", after_events=3))
    async with caller.post(stream=True) as answer:
        for _ in range(3):
            await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.read(1), 0.2)
    assert fake.requests.by_outcome == {"stall": 1}


async def test_stall_before_the_first_event(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Stall after no event: the head comes and nothing else."""
    fake.set_faults(Fault(kind="stall"))
    head = await exchange(fake.origin, caller.raw(stream=True), until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")


async def test_truncate_chunked(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Truncate: exactly so many events and a proper end of the chunks; the connection lives on."""
    fake.set_faults(Fault(kind="truncate", after_events=3))
    closing = b"GET /nothing HTTP/1.1\r\nconnection: close\r\n\r\n"
    answer = await exchange(fake.origin, caller.raw(stream=True) + closing)
    body = answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")
    chunks, proper = dechunk(body[0])
    assert (len(chunks), proper) == (3, True)
    assert b"message_stop" not in b"".join(chunks)
    assert b"[DONE]" not in b"".join(chunks)
    assert body[2].startswith(b"40")


async def test_truncate_by_length(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Truncate with a length: the Content-Length fits what comes."""
    fake.set_faults(Fault(kind="truncate", after_events=3, framing="length"))
    answer = await exchange(
        fake.origin, caller.raw(stream=True).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"content-length: %d" % len(body) in head
    assert body.count(b"\n\n") == 3


async def test_abort(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Abort: the connection closes in the middle of a chunk, after so many whole ones."""
    fake.set_faults(Fault(kind="abort", after_events=2))
    answer = await exchange(fake.origin, caller.raw(stream=True))
    body = answer.partition(b"\r\n\r\n")[2]
    chunks, proper = dechunk(body)
    assert (len(chunks), proper) == (2, False)
    cut = body.removeprefix(b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks))
    promised, _, came = cut.partition(b"\r\n")
    assert 0 < len(came) < int(promised, 16)


async def test_break(fake: FakeProvider, caller: Any) -> None:
    """Break: 200 and the head, then RST before the first event."""
    fake.set_faults(Fault(kind="break"))
    address = urlsplit(fake.origin)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(caller.raw(stream=True))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


@pytest.mark.parametrize("after", [0, 4])
async def test_error_event(fake: FakeProvider, caller: Any, exchange: Any, after: int) -> None:
    """Error event: the first or a later event is the family's error, and the stream ends after it."""
    fake.set_faults(Fault(kind="error_event", after_events=after))
    answer = await exchange(
        fake.origin, caller.raw(stream=True).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    )
    chunks, proper = dechunk(answer.partition(b"\r\n\r\n")[2])
    assert proper
    assert len(chunks) == after + 1
    start = {"openai": b'data: {"error":', "anthropic": b'event: error\ndata: {"type":"error","error":'}
    assert chunks[-1].startswith(start[fake.family])
    assert b"overloaded" in chunks[-1]


async def test_streams_are_whole_without_a_fault(fake: FakeProvider, caller: Any, exchange: Any) -> None:
    """Without a fault every event comes, one to a chunk, and the terminal one is last."""
    answer = await exchange(
        fake.origin, caller.raw(stream=True).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    )
    chunks, proper = dechunk(answer.partition(b"\r\n\r\n")[2])
    assert (len(chunks), proper) == (EVENTS[fake.family], True)
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)


@pytest.mark.parametrize("kind", ["stall", "truncate", "abort", "break", "error_event"])
async def test_stream_faults_leave_whole_answers_alone(fake: FakeProvider, caller: Any, kind: str) -> None:
    """What concerns streams does not befall a whole answer unless it is asked to."""
    fake.set_faults(Fault(kind=kind))
    assert await status_of(caller) == 200
    assert fake.requests.by_outcome == {"ok": 1}


async def test_whole_answers_can_be_torn(fake: FakeProvider, caller: Any) -> None:
    """With `stream: false` a whole answer is cut in its middle, and streams are left alone."""
    fake.set_faults(Fault(kind="abort", stream=False))
    with pytest.raises(aiohttp.ClientPayloadError):
        await status_of(caller)
    assert await status_of(caller, stream=True) == 200


async def test_error_in_a_200(fake: FakeProvider, caller: Any) -> None:
    """With `stream: false` an error comes as the body of a 200."""
    fake.set_faults(Fault(kind="error_event", stream=False))
    async with caller.post() as answer:
        assert answer.status == 200
        assert (await answer.json())["error"]["message"]


async def test_only_some_models_and_paths(fake: FakeProvider, caller: Any) -> None:
    """A fault of one model, or of one path, leaves the others alone."""
    fake.set_faults(Fault(kind="status", status=503, models=("bad",)))
    assert [await status_of(caller, model=model) for model in ("bad", "good")] == [503, 200]
    fake.set_faults(Fault(kind="status", status=503, paths=("/v1/models",)))
    async with caller.list_models() as answer:
        assert answer.status == 503
    assert await status_of(caller) == 200


@pytest.mark.parametrize("family", FAMILIES)
async def test_seeds_make_shares_reproducible(family: str) -> None:
    """The same seed and the same requests meet the same fates, another seed others, at about the rate asked for."""

    async def fates(seed: int) -> list[bool]:
        async with (
            FakeProvider("f", family, seed=seed, tokens=1).running() as fake,
            aiohttp.ClientSession() as client,
        ):
            fake.set_faults(Fault(kind="status", status=500, rate=0.3))
            found = []
            for _ in range(100):
                async with client.get(
                    f"{fake.origin}/v1/models", headers={"anthropic-version": "1"}
                ) as answer:
                    found.append(answer.status == 500)
            return found

    first, again, other = await fates(7), await fates(7), await fates(8)
    assert first == again
    assert first != other
    assert 15 <= sum(first) <= 45


async def test_flapping_door(fake: FakeProvider) -> None:
    """A fault that flaps closes and opens the port by itself, again and again."""
    fake.set_faults(Fault(kind="refuse", on_s=0.05, off_s=0.05))

    async def is_open() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", fake.port)
        except (ConnectionRefusedError, ConnectionResetError):  # a reset: it closed before it had accepted
            return False
        writer.close()
        return True

    seen = []
    deadline_s = time.monotonic() + 5
    while len(list(itertools.groupby(seen))) < 5:
        assert time.monotonic() < deadline_s, seen
        seen.append(await is_open())
        await asyncio.sleep(0.005)
    assert seen[0] is False


async def test_limit_of_requests(exchange: Any) -> None:
    """With a limit per minute, the request over it gets a 429 with Retry-After."""
    async with FakeProvider(rpm=2).running() as fake, aiohttp.ClientSession() as client:
        answers = []
        for _ in range(3):
            body = {"model": "m", "messages": []}
            async with client.post(f"{fake.base_url}/chat/completions", json=body) as answer:
                answers.append((answer.status, answer.headers["x-ratelimit-remaining-requests"]))
        assert answers == [(200, "1"), (200, "0"), (429, "0")]
        assert 1 <= int(answer.headers["retry-after"]) <= 60
