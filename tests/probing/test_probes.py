"""What a single probe concludes, from real answers over real sockets."""

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from servers import events, one, raw_server, server_saying

from pointsman.core.errors import Effect, Fault, Outcome, Wire
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.fake import FakeProvider, Kind
from pointsman.fake import Fault as Misbehave
from pointsman.probing.once import try_one
from support import free_port

pytestmark = pytest.mark.anyio
FAST = {"reach_timeout_s": 0.3, "generate_timeout_s": 0.3}
FAMILIES = pytest.mark.parametrize("family", ["openai", "anthropic"])


async def tried(base_url: str, family: str = "openai", **provider: Any) -> tuple[ProbeResult, ProbeResult]:
    """(reach, generate) of the one provider at `base_url`."""
    reach, generate = await try_one(one(base_url, family, **provider), "p")
    assert (reach.kind, generate.kind) == (ProbeKind.REACH, ProbeKind.GENERATE)
    return reach, generate


async def outcomes(fake: FakeProvider, *faults: Misbehave, **provider: Any) -> tuple[Outcome, Outcome]:
    async with fake:
        fake.set_faults(*faults)
        reach, generate = await tried(fake.base_url, fake.family.value, **{"probe": FAST} | provider)
    return reach.outcome, generate.outcome


@FAMILIES
async def test_a_good_provider(family: str) -> None:
    """Both probes succeed, with latencies, and the completion is asked for in sixteen tokens."""
    async with FakeProvider(family=family, latency_ms=20) as fake:
        reach, generate = await tried(fake.base_url, family)
        asked = fake.requests.seen[-1] if fake.requests.seen[-1].model else fake.requests.seen[0]
    assert reach.outcome.ok
    assert generate.outcome.ok
    assert generate.first_token_ms is not None
    assert 20 <= generate.first_token_ms <= generate.latency_ms
    assert (reach.target, generate.target, generate.vantage) == ("", "t", "by hand")
    assert asked.stream
    assert asked.outcome == "ok"


@FAMILIES
async def test_refused(family: str) -> None:
    """Nobody listens: both probes say refused."""
    reach, generate = await tried(f"http://127.0.0.1:{free_port()}", family)
    for result in (reach, generate):
        assert result.outcome.detail == Wire.REFUSED.value
        assert result.outcome.refuses
        assert result.outcome.effect is Effect.BREAKER


async def test_unknown_name() -> None:
    """A name that no resolver knows is DNS."""
    reach, generate = await tried("http://no-such-host.invalid")
    assert reach.outcome.detail == generate.outcome.detail == Wire.DNS.value


async def test_blackhole() -> None:
    """A connect that nobody answers is a connect timeout: the backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        reach, generate = await tried(f"http://127.0.0.1:{server.getsockname()[1]}", probe=FAST)
    assert reach.outcome.detail == generate.outcome.detail == Wire.CONNECT_TIMEOUT.value
    assert reach.outcome.refuses


@FAMILIES
@pytest.mark.parametrize(
    ("fault", "wire"),
    [
        (Misbehave(kind=Kind.RESET), Wire.RESET),
        (Misbehave(kind=Kind.HANG), Wire.FIRST_BYTE_TIMEOUT),
    ],
)
async def test_broken_before_an_answer(family: str, fault: Misbehave, wire: Wire) -> None:
    """A reset and a hang are told apart, in both kinds of probe."""
    reach, generate = await outcomes(FakeProvider(family=family), fault)
    assert (reach.detail, generate.detail) == (wire.value, wire.value)
    assert not reach.refuses


@FAMILIES
@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (Misbehave(kind=Kind.STALL, after_events=1), Wire.STALL.value),
        (Misbehave(kind=Kind.TRUNCATE, after_events=2), Wire.TRUNCATED.value),
        (Misbehave(kind=Kind.ABORT, after_events=2), Wire.TRUNCATED.value),
        (Misbehave(kind=Kind.BREAK, after_events=2), Wire.TRUNCATED.value),
        (Misbehave(kind=Kind.ERROR_EVENT, status=503), "error event"),
        (Misbehave(kind=Kind.ZOMBIE), Wire.FIRST_BYTE_TIMEOUT.value),
    ],
)
async def test_only_the_completion_is_broken(family: str, fault: Misbehave, detail: str) -> None:
    """The free probe sees nothing wrong with a zombie; the generate probe sees how its stream ends."""
    reach, generate = await outcomes(FakeProvider(family=family), fault)
    assert reach.ok
    assert generate.effect is Effect.BREAKER
    assert detail in generate.detail


@FAMILIES
@pytest.mark.parametrize(
    ("status", "fault"),
    [(500, Fault.OUTAGE), (502, Fault.OUTAGE), (503, Fault.OVERLOAD), (529, Fault.OVERLOAD)],
)
async def test_server_errors(family: str, status: int, fault: Fault) -> None:
    """5xx count for the breaker in both kinds of probe."""
    reach, generate = await outcomes(FakeProvider(family=family), Misbehave(kind=Kind.STATUS, status=status))
    assert (reach.fault, generate.fault) == (fault, fault)
    assert (reach.status, generate.status) == (status, status)


@FAMILIES
async def test_rate_limited(family: str) -> None:
    """429 keeps the provider's Retry-After and never counts for the breaker; the list's own limit is nobody's."""
    limit = Misbehave(kind=Kind.STATUS, status=429, retry_after_s=7)
    reach, generate = await outcomes(FakeProvider(family=family), limit)
    assert reach.ok
    assert generate.fault is Fault.RATE_LIMIT
    assert generate.retry_after_s == 7
    assert generate.effect is Effect.THROTTLE


@FAMILIES
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential(family: str, status: int) -> None:
    """401 and 403 are the credential's, in both probes."""
    reach, generate = await outcomes(FakeProvider(family=family), Misbehave(kind=Kind.STATUS, status=status))
    assert (reach.fault, generate.fault) == (Fault.CREDENTIAL, Fault.CREDENTIAL)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_known_good_probe_that_is_blamed(status: int) -> None:
    """A caller's fault for our own right request is an outage; for the list it only means "reached"."""
    reach, generate = await outcomes(FakeProvider(), Misbehave(kind=Kind.STATUS, status=status))
    assert reach.ok
    assert "reached" in reach.detail
    assert generate.fault is Fault.OUTAGE
    assert generate.detail.startswith(f"known-good probe got HTTP {status}")


async def test_bedrock_edge_does_not_judge_the_credential() -> None:
    """Where the free path cannot show the credential, a 403 on it is only an answering edge."""
    fault = Misbehave(kind=Kind.STATUS, status=403)
    reach, generate = await outcomes(FakeProvider(), fault, kind="bedrock")
    assert reach.ok
    assert generate.fault is Fault.CREDENTIAL


async def test_garbage() -> None:
    """A page of HTML with status 200 is no completion."""
    _, generate = await outcomes(FakeProvider(), Misbehave(kind=Kind.GARBAGE))
    assert generate.fault is Fault.OUTAGE
    assert generate.detail == "answered without a stream"


async def test_redirects_are_not_followed() -> None:
    """A redirect is a fault, and nothing is sent to where it points."""
    async with FakeProvider() as elsewhere:
        head = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.origin}/v1/models\r\nContent-Length: 0\r\n\r\n"
        async with server_saying(head.encode()) as origin:
            reach, generate = await tried(origin)
        assert elsewhere.requests.seen == type(elsewhere.requests.seen)()
    assert (reach.outcome.fault, generate.outcome.fault) == (Fault.OUTAGE, Fault.OUTAGE)


TOKEN = '{"choices":[{"index":0,"delta":{"content":"hi"}}]}'
EMPTY = '{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
LENGTH = '{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}'
STOP = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (events(TOKEN, STOP, "[DONE]"), ""),
        (events(EMPTY, LENGTH, "[DONE]"), ""),
        (events(TOKEN, STOP, "[DONE]").replace(b"\n\n", b"\r\n\r\n"), ""),
        (events(TOKEN, STOP, "[DONE]")[:-2], ""),
        (events(EMPTY, STOP, "[DONE]"), "answered without a single token"),
        (events("[DONE]"), "answered without a single token"),
        (events(TOKEN, STOP), Wire.TRUNCATED.value),
        (events(TOKEN, "{not json", "[DONE]"), Wire.BAD_BODY.value),
        (events(TOKEN, "[1]", "[DONE]"), Wire.BAD_BODY.value),
        (events(*["x" * 60_000] * 20).replace(b"data", b": c"), Wire.BAD_BODY.value),
        (events('{"error":{"code":502,"message":"m"}}'), "error event 502"),
        (events('{"error":{"type":"invalid_request_error"}}'), "known-good probe got error event"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b'{"error":{"code":503}}', "503"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b'{"choices":[]}',
            "without a stream",
        ),
        (b"nonsense\r\n\r\n", Wire.BAD_BODY.value),
        (b"", Wire.RESET.value),
    ],
)
async def test_how_a_stream_is_judged(answer: bytes, detail: str) -> None:
    """A stream is good with a token (or an end for length) and its terminal event, and only then."""
    async with server_saying(answer) as origin:
        _, generate = await tried(origin)
    assert generate.outcome.ok is (detail == "")
    assert detail in generate.outcome.detail
    assert generate.outcome.effect in {Effect.SUCCESS, Effect.BREAKER}


async def test_a_model_that_thought_its_tokens_away() -> None:
    """OpenAI's 400 for a reasoning model whose budget is used up proves that the model ran."""
    said = b'{"error":{"message":"Could not finish the message because max_tokens or","type":"x"}}'
    head = (
        f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n"
    )
    async with server_saying(head.encode() + said) as origin:
        _, at_openai = await tried(origin, kind="openai")
        _, elsewhere = await tried(origin, kind="mistral")
    assert at_openai.outcome.ok
    assert elsewhere.outcome.fault is Fault.OUTAGE


async def test_a_stream_that_stays_open_after_its_end() -> None:
    """The terminal event ends the probe: a connection left open behind it does not make it late."""

    async def script(stream: Any, request: bytes) -> None:
        await stream.send(events(TOKEN, STOP, "[DONE]"))
        await stream.receive()

    async with raw_server(script) as origin:
        _, generate = await tried(origin, probe={"reach_timeout_s": 0.3, "generate_timeout_s": 5.0})
    assert generate.outcome.ok
    assert generate.latency_ms < 1000


@FAMILIES
async def test_tls(family: str, tmp_path: Path) -> None:
    """With its authority the provider is fine; without, the handshake fails, and says so."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with FakeProvider(family=family, ssl_context=context) as fake:
        trusted = await tried(fake.base_url, family, ca_file=str(ca_file))
        doubted = await tried(fake.base_url, family)
    assert [result.outcome.ok for result in trusted] == [True, True]
    assert [result.outcome.detail for result in doubted] == [Wire.TLS.value] * 2


@FAMILIES
async def test_credentials(family: str, tmp_path: Path) -> None:
    """The key arrives in the family's header; of two, one that works is enough; a missing one is a result."""
    (tmp_path / "old").write_text("key-old")
    (tmp_path / "new").write_text("key-new\n")
    old, new, none = (f"file:{tmp_path / name}" for name in ("old", "new", "none"))
    async with FakeProvider(family=family, api_keys=("key-new",)) as fake:
        found = {
            name: [result.outcome for result in await tried(fake.base_url, family, credentials=refs)]
            for name, refs in {"new": (new,), "both": (old, new), "old": (old,), "none": (none,)}.items()
        }
    assert all(outcome.ok for outcome in found["new"] + found["both"])
    assert all(outcome.fault is Fault.CREDENTIAL and outcome.status == 401 for outcome in found["old"])
    assert all(outcome.fault is Fault.CREDENTIAL and outcome.status == 0 for outcome in found["none"])
    assert "none" in found["none"][0].detail


async def test_an_unknown_provider() -> None:
    """A wrong name says which there are."""
    with pytest.raises(LookupError, match="there is no provider q; there are: p"):
        await try_one(one("http://127.0.0.1:1"), "q")
