"""Requests in raw bytes and by curl, as clients send them that are hard on a proxy."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CLAUDE_CODE = [
    ("anthropic-beta", "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14"),
    ("anthropic-beta", "fine-grained-tool-streaming-2025-05-14, context-management-2025-06-27"),
    ("anthropic-beta", "prompt-caching-scope-2026-01-05"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("anthropic-version", "2023-06-01"),
    ("X-App", "cli"),
    ("User-Agent", "claude-cli/2.1.0 (external, cli)"),
    ("X-Claude-Code-Session-Id", "6f3a1f0e-0000-4000-8000-000000000001"),
    ("X-Stainless-Retry-Count", "0"),
    ("Accept-Encoding", "br, gzip, deflate, zstd"),
]
curl_needed = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


def body_of(letters: int = 20, *, stream: bool = False) -> bytes:
    """A request for a message with so much text, written as no JSON library would."""
    head = '{ "model":"claude-twin" ,"max_tokens":64,\n "stream":' + str(stream).lower()
    said = "x" * letters + " é"
    return f'{head}, "messages":[{{"role":"user","content":"{said}"}}]}}'.encode()


async def ask(url: str, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
    """One request on a connection of its own, read to the end."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {address.netloc}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def on_both_ways(both: Any, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
    """POST it to the anthropic family, directly and through the proxy."""
    for side in (both.direct, both.proxied):
        mine = [*headers, ("x-api-key", side.env["CALLERS_KEY"])]
        await ask(side.taps["a"].url, "POST", target, mine, body)


@pytest.mark.parametrize("stream", [False, True])
async def test_claude_code(both: Any, stream: bool) -> None:
    """?beta=true, betas in one header and in several, and all of its own headers arrive as they were sent."""
    await on_both_ways(both, "/v1/messages?beta=true", CLAUDE_CODE, body_of(stream=stream))
    assert both.compare() == 1
    (seen,) = both.proxied.providers["a"].requests.seen
    assert [value for name, value in seen.headers if name == "anthropic-beta"] == [
        value for name, value in CLAUDE_CODE if name == "anthropic-beta"
    ]


async def test_claude_code_large(both: Any) -> None:
    """A body of 11 MB arrives as it was sent."""
    await on_both_ways(both, "/v1/messages?beta=true", CLAUDE_CODE, body_of(11_000_000))
    assert both.compare() == 1
    assert both.proxied.providers["a"].requests.last.body_bytes > 11_000_000


async def test_claude_code_head(both: Any) -> None:
    """The HEAD that it sends at its start gets a head without a body, as a provider gives it."""
    for side in (both.direct, both.proxied):
        await ask(side.taps["a"].url, "HEAD", "/", CLAUDE_CODE, b"")
    for side in (both.direct, both.proxied):
        (exchange,) = side.exchanges("a")
        assert int(exchange.answer.first.split()[1]) < 500
        assert exchange.answer.body == b""


@pytest.mark.parametrize("both", [{"ping_after_s": 0.15}], indirect=True)
async def test_claude_code_waits(both: Any) -> None:
    """Where a stream pauses, pings are put between its events; without them it is what the provider sent."""
    slow = [*CLAUDE_CODE, ("x-fake-token-delay-ms", "500"), ("x-fake-tokens", "4")]
    await on_both_ways(both, "/v1/messages?beta=true", slow, body_of(stream=True))
    (direct,), (proxied,) = both.direct.exchanges("a"), both.proxied.exchanges("a")
    assert events(proxied.answer.body).count("ping") > events(direct.answer.body).count("ping") == 1
    assert without_pings(proxied.answer.body) == without_pings(direct.answer.body)


def events(body: bytes) -> list[str]:
    """The types of the events of a stream, each complete."""
    return [json.loads(one.partition(b"data: ")[2])["type"] for one in body.split(b"\n\n") if one]


def without_pings(body: bytes) -> bytes:
    """All other events, as they came."""
    return b"".join(
        one + b"\n\n" for one in body.split(b"\n\n") if one and not one.startswith(b"event: ping")
    )


@curl_needed
@pytest.mark.parametrize(
    "options",
    [["-H", "Expect: 100-continue"], ["--http1.0"], ["--http1.0", "-H", "Connection: keep-alive"], ["-N"]],
    ids=["expect", "http10", "http10-keep-alive", "plain"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_curl(both: Any, tmp_path: Path, options: list[str], stream: bool) -> None:
    """curl gets the same bytes of a body, and tells the same status."""
    (tmp_path / "body").write_bytes(body_of(100_000, stream=stream))
    heard = []
    for side in (both.direct, both.proxied):
        mine = ["anthropic-version: 2023-06-01", f"x-api-key: {side.env['CALLERS_KEY']}"]
        told = [part for header in (*mine, "content-type: application/json") for part in ("-H", header)]
        given = ["--data-binary", f"@{tmp_path / 'body'}", "--max-time", "20", "-sS", "-w", "%{http_code}"]
        url = side.taps["a"].url + "/v1/messages"
        heard.append((await anyio.run_process(["curl", *options, *told, *given, url])).stdout)
    assert heard[0] == heard[1]
    assert heard[0].endswith(b"200")
    (seen, other) = (side.providers["a"].requests.last for side in (both.direct, both.proxied))
    assert seen.body_sha256 == other.body_sha256
