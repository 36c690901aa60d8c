"""Callers with the official SDKs, without a single retry, who count how every request ended."""

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import anyio
import anyio.abc
import httpx2
import openai
from msgspec import Struct, field

from support import eventually

PROMPT: Any = [{"role": "user", "content": "Why do trains need points?"}]


class Tally(Struct):
    """`failed` are requests that had not begun to stream; `broken` are streams whose SDK raised in the middle;
    `silent` are streams that ended as if they were whole and were not. `streams` were asked for, of all `requests`."""

    ok: int = 0
    streams: int = 0
    failed: list[str] = field(default_factory=list)
    broken: int = 0
    silent: int = 0
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.ok + len(self.failed) + self.broken + self.silent


class Served(Struct):
    """What the headers of a proxy's answer said. Times are monotonic seconds; `table` is (epoch, revision)."""

    proxy: str
    sent_s: float
    came_s: float
    status: int
    table: tuple[int, int]
    target: str
    reason: str


class Callers:
    """SDK clients of every proxy; requests are numbered, and go round the proxies.

    `served` are the headers of every answer.
    """

    def __init__(self, clients: list[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]) -> None:
        self._clients = clients
        self.tally = Tally()
        self.served: list[Served] = []
        self._open = 0
        self._paused = False

    @classmethod
    @asynccontextmanager
    async def of(cls, urls: list[str]) -> AsyncIterator["Callers"]:
        here = cls([])
        options: Any = {"api_key": "a-callers-key", "max_retries": 0, "timeout": 60}
        hooks = {"request": [_sent], "response": [here._came]}
        for url in urls:
            chat = openai.AsyncOpenAI(
                base_url=f"{url}/v1",
                http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
                **options,
            )
            messages = anthropic.AsyncAnthropic(
                base_url=url, http_client=anthropic.DefaultAsyncHttpxClient(event_hooks=hooks), **options
            )
            here._clients.append((chat, messages))
        try:
            yield here
        finally:
            for chat, messages in here._clients:
                await chat.close()
                await messages.close()

    async def _came(self, response: httpx2.Response) -> None:
        epoch, _, revision = response.headers.get("x-pointsman-table", "0.0").partition(".")
        self.served.append(
            Served(
                proxy=f"{response.url.host}:{response.url.port}",
                sent_s=response.request.extensions["sent_s"],
                came_s=time.monotonic(),
                status=response.status_code,
                table=(int(epoch), int(revision)),
                target=response.headers.get("x-pointsman-target", ""),
                reason=response.headers.get("x-pointsman-reason", ""),
            )
        )

    async def send(self, number: int, *, route: str, stream: bool) -> None:
        """One request; how it ended is in the tally."""
        chat, messages = self._clients[number % len(self._clients)]
        began = time.monotonic()
        events: list[Any] = []
        self._open += 1
        self.tally.streams += stream
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
        finally:
            self._open -= 1
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

    @asynccontextmanager
    async def steady(self, per_s: float) -> AsyncIterator[None]:
        """Requests of both routes, half of them streams, while the block lasts; all that were begun are waited for."""
        async with anyio.create_task_group() as requests, anyio.create_task_group() as sending:
            sending.start_soon(self._send_steadily, requests, per_s)
            yield
            sending.cancel_scope.cancel()

    async def _send_steadily(self, requests: anyio.abc.TaskGroup, per_s: float) -> None:
        due = time.monotonic()
        for number in itertools.count():
            route, stream = "claude" if number // 4 % 2 else "chat", bool(number // 2 % 2)
            if not self._paused:
                requests.start_soon(lambda n=number, r=route, s=stream: self.send(n, route=r, stream=s))
            due += 1 / per_s
            await anyio.sleep(max(0.0, due - time.monotonic()))

    async def pause(self) -> None:
        """Steady traffic sends nothing more until `go_on`; returns when all that was sent is answered."""
        self._paused = True
        await eventually(lambda: self._open == 0, 30.0)

    def go_on(self) -> None:
        self._paused = False

    async def more(self, count: int, timeout_s: float = 30.0) -> None:
        """Until so many more requests have ended."""
        enough = self.tally.requests + count
        await eventually(lambda: self.tally.requests >= enough, timeout_s)


async def _sent(request: httpx2.Request) -> None:
    request.extensions["sent_s"] = time.monotonic()


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
