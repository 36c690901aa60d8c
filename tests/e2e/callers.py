"""Callers with the official SDKs, without a single retry, who count how every request ended."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import anyio
import httpx2
import openai
from msgspec import Struct, field

PROMPT: Any = [{"role": "user", "content": "Why do trains need points?"}]


class Tally(Struct):
    """`failed` are requests that had not begun to stream; `broken` are streams whose SDK raised in the middle;
    `silent` are streams that ended as if they were whole and were not."""

    ok: int = 0
    failed: list[str] = field(default_factory=list)
    broken: int = 0
    silent: int = 0
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.ok + len(self.failed) + self.broken + self.silent


class Callers:
    """SDK clients of every proxy; requests are numbered, and go round the proxies."""

    def __init__(self, clients: list[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]) -> None:
        self._clients = clients
        self.tally = Tally()

    @classmethod
    @asynccontextmanager
    async def of(cls, urls: list[str]) -> AsyncIterator["Callers"]:
        clients = [
            (
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="a-callers-key", max_retries=0, timeout=60),
                anthropic.AsyncAnthropic(base_url=url, api_key="a-callers-key", max_retries=0, timeout=60),
            )
            for url in urls
        ]
        try:
            yield cls(clients)
        finally:
            for chat, messages in clients:
                await chat.close()
                await messages.close()

    async def send(self, number: int, *, route: str, stream: bool) -> None:
        """One request; how it ended is in the tally."""
        chat, messages = self._clients[number % len(self._clients)]
        began = time.monotonic()
        events: list[Any] = []
        try:
            if route == "claude":
                ended = await _messages(messages, stream, events)
            else:
                ended = await _chat(chat, stream, events)
        except (openai.APIError, anthropic.APIError, httpx2.HTTPError) as error:
            if events:
                self.tally.broken += 1
            else:
                self.tally.failed.append(f"{number} {route} {stream=}: {type(error).__name__}: {error}")
        else:
            if ended:
                self.tally.ok += 1
            else:
                self.tally.silent += 1
        self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began)

    async def send_many(
        self, count: int, *, per_s: float, route: str = "chat", stream: bool | None = None
    ) -> None:
        """`count` requests in an open loop of `per_s` a second; `stream` None: every other one."""
        due = time.monotonic()
        async with anyio.create_task_group() as group:
            for number in range(count):
                streamed = bool(number // 2 % 2) if stream is None else stream
                group.start_soon(lambda n=number, s=streamed: self.send(n, route=route, stream=s))
                due += 1 / per_s
                await anyio.sleep(max(0.0, due - time.monotonic()))


async def _chat(client: openai.AsyncOpenAI, stream: bool, events: list[Any]) -> bool:
    if not stream:
        answer = await client.chat.completions.create(model="chat", messages=PROMPT, max_tokens=16)
        return answer.choices[0].finish_reason is not None
    finished = False
    async for chunk in await client.chat.completions.create(
        model="chat", messages=PROMPT, max_tokens=16, stream=True
    ):
        events.append(chunk)
        finished = finished or bool(chunk.choices and chunk.choices[0].finish_reason)
    return finished


async def _messages(client: anthropic.AsyncAnthropic, stream: bool, events: list[Any]) -> bool:
    if not stream:
        answer = await client.messages.create(model="claude", messages=PROMPT, max_tokens=16)
        return answer.stop_reason is not None
    async for event in await client.messages.create(
        model="claude", messages=PROMPT, max_tokens=16, stream=True
    ):
        events.append(event)  # noqa: PERF401 - what came before an error must stay in the list
    return bool(events) and events[-1].type == "message_stop"
