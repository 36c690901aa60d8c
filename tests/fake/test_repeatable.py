"""A fake whose answers can be foretold: to the byte, or by what it is asked."""

from typing import Any

import aiohttp
import pytest

from pointsman.fake import FakeProvider

pytestmark = pytest.mark.anyio

PATHS = {
    "openai": ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/unknown"],
    "anthropic": ["/v1/messages", "/v1/messages/count_tokens", "/v1/unknown"],
}
# A tool in the words of each path, and a choice that forces it.
TOOLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"required": ["a"]}}}],
        "tool_choice": "required",
    },
    "/v1/responses": {
        "tools": [{"type": "function", "name": "t", "parameters": {"required": ["a"]}}],
        "tool_choice": "required",
    },
    "/v1/messages": {
        "tools": [{"name": "t", "input_schema": {"required": ["a"]}}],
        "tool_choice": {"type": "any"},
    },
}


async def ask(fake: FakeProvider, path: str, **more: Any) -> tuple[Any, bytes]:
    """The headers and the body of one answer."""
    said = "one two" if path == "/v1/embeddings" else [{"role": "user", "content": "one two"}]
    body = {"model": "m", "max_tokens": 64, "messages": said, "input": said} | more
    async with (
        aiohttp.ClientSession(headers={"anthropic-version": "2023-06-01"}) as session,
        session.post(fake.origin + path, json=body) as answer,
    ):
        return answer.raw_headers, await answer.read()


@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_still(family: str) -> None:
    """Two that stand still give the same heads and bodies, errors and streams included."""
    heard = []
    for _ in range(2):
        async with FakeProvider("twin", family, still=True) as fake:
            heard.append(
                [await ask(fake, path, stream=stream) for path in PATHS[family] for stream in (False, True)]
            )
    assert heard[0] == heard[1]


@pytest.mark.parametrize(
    ("family", "path"),
    [("openai", "/v1/chat/completions"), ("openai", "/v1/responses"), ("anthropic", "/v1/messages")],
)
async def test_echo(family: str, path: str) -> None:
    """An echo says what it was last asked."""
    async with FakeProvider("echo", family, echo=True) as fake:
        _, body = await ask(fake, path)
        _, streamed = await ask(fake, path, stream=True)
    assert b'"echo says: one two"' in body
    assert b'"echo says:"' in streamed
    assert b'" two"' in streamed


@pytest.mark.parametrize(
    ("family", "path"),
    [("openai", "/v1/chat/completions"), ("openai", "/v1/responses"), ("anthropic", "/v1/messages")],
)
async def test_tools_still(family: str, path: str) -> None:
    """Two that stand still call tools in the same bytes, identifiers included."""
    heard = []
    for _ in range(2):
        async with FakeProvider("twin", family, still=True) as fake:
            heard.append([await ask(fake, path, stream=stream, **TOOLS[path]) for stream in (False, True)])
    assert heard[0] == heard[1]


@pytest.mark.parametrize(
    ("family", "path"),
    [("openai", "/v1/chat/completions"), ("openai", "/v1/responses"), ("anthropic", "/v1/messages")],
)
async def test_tools_echo(family: str, path: str) -> None:
    """An echo puts what it was asked where a tool wants a string."""
    async with FakeProvider("echo", family, echo=True) as fake:
        _, body = await ask(fake, path, **TOOLS[path])
    assert b'"one two"' in body.replace(b"\\", b"")


async def test_echo_keeps_to_the_limit() -> None:
    """What it was asked is cut at the caller's limit like anything else."""
    async with FakeProvider("echo", "anthropic", echo=True) as fake:
        _, body = await ask(fake, "/v1/messages", max_tokens=2)
    assert b'"echo says: one"' in body
    assert b'"max_tokens"' in body
