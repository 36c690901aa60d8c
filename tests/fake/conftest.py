"""Fake providers of both families, and clients that see every byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from pointsman.fake import FakeProvider

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
MODELS = {"openai": "gpt-5-nano", "anthropic": "claude-haiku-4-5"}


class Caller:
    """Asks a fake for a completion in its own family's words."""

    def __init__(self, fake: FakeProvider, session: aiohttp.ClientSession) -> None:
        self.fake = fake
        self.session = session
        self.path = PATHS[fake.family]

    def body(self, **more: Any) -> dict[str, Any]:
        """The smallest valid request."""
        messages = [{"role": "user", "content": "hello there"}]
        return {"model": MODELS[self.fake.family], "max_tokens": 64, "messages": messages} | more

    def post(self, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Start a POST; use it with `async with`."""
        headers = {"anthropic-version": "2023-06-01"} | (headers or {})
        return self.session.post(self.fake.origin + self.path, json=self.body(**more), headers=headers)

    def list_models(self) -> Any:
        """Start the free request; use it with `async with`."""
        return self.session.get(f"{self.fake.origin}/v1/models", headers={"anthropic-version": "2023-06-01"})

    def raw(self, *, version: str = "1.1", **more: Any) -> bytes:
        """The same POST as bytes."""
        body = json.dumps(self.body(**more)).encode()
        head = (
            f"POST {self.path} HTTP/{version}\r\nhost: fake\r\nanthropic-version: 2023-06-01\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


Exchange = Callable[..., Awaitable[bytes]]


@pytest.fixture
def exchange() -> Exchange:
    """Send bytes on a fresh connection and read until the other side closes, or until `until` was read."""

    async def exchange(url: str, data: bytes, *, until: bytes | None = None) -> bytes:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(data)
            if until is not None:
                return await asyncio.wait_for(reader.readuntil(until), 5)
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    return exchange


@pytest.fixture(params=["openai", "anthropic"])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeProvider]:
    """A running fake of each family in turn, named bedrock."""
    async with FakeProvider("bedrock", request.param, tokens=5).running() as running:
        yield running


@pytest.fixture
async def caller(fake: FakeProvider) -> AsyncIterator[Caller]:
    """A client of `fake` with keep-alive."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield Caller(fake, session)
