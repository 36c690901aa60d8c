"""Steady traffic through the proxies, open loop, without a single retry, and an honest count of how it ended."""

import time
from collections import Counter
from typing import Final

import anyio
import msgspec
from aiohttp import (
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    TCPConnector,
)
from anyio.abc import TaskGroup
from msgspec import Struct, field

STREAMS_PER_S: Final = 32.0
WHOLE_PER_S: Final = 20.0
CLAUDE_EVERY: Final = 5  # each fifth request goes to the anthropic family
TIMEOUT_S: Final = 30.0
FAILURES_KEPT: Final = 10
# What every client of the anthropic family sends; the proxy passes it on as it is.
_HEADERS: Final = {"anthropic-version": "2023-06-01"}
_PROMPT: Final = [{"role": "user", "content": "Why do trains need points?"}]


class Tally(Struct):
    """How requests ended. `broken_streams` had begun when their provider died; nobody can hide that."""

    requests: int = 0
    ok: int = 0
    failed: int = 0
    broken_streams: int = 0
    bad_requests: int = 0
    open_streams: int = 0
    served_by: Counter[str] = field(default_factory=Counter)
    failures: list[str] = []
    fell_over: int = 0

    def fail(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(what)


class Traffic:
    """Sends until cancelled; `tally` is counted on as it goes."""

    def __init__(self, proxies: list[str], session: ClientSession) -> None:
        self._proxies = proxies
        self._session = session
        self.tally = Tally()
        self.paused = False

    @staticmethod
    def session() -> ClientSession:
        """A client without a limit of connections: waiting for one would close the open loop."""
        return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=TIMEOUT_S))

    async def run(self, group: TaskGroup) -> None:
        """Start requests at their times, whatever has become of the earlier ones."""
        gap_s = 1 / (STREAMS_PER_S + WHOLE_PER_S)
        share = STREAMS_PER_S / (STREAMS_PER_S + WHOLE_PER_S)
        due = time.monotonic()
        number = 0
        while True:
            if not self.paused:
                stream = int((number + 1) * share) > int(number * share)
                group.start_soon(self._request, number, stream)
                number += 1
            due = max(due + gap_s, time.monotonic() - 1.0)
            await anyio.sleep(max(0.0, due - time.monotonic()))

    async def _request(self, number: int, stream: bool) -> None:
        claude = number % CLAUDE_EVERY == 0
        path = "/v1/messages" if claude else "/v1/chat/completions"
        body = {
            "model": "claude" if claude else "chat",
            "max_tokens": 64,
            "messages": _PROMPT,
            "stream": stream,
        }
        self.tally.requests += 1
        begun = False
        try:
            url = self._proxies[number % 2] + path
            async with self._session.post(url, json=body, headers=_HEADERS if claude else None) as response:
                if response.status != 200:
                    self.tally.fail(f"HTTP {response.status}: {(await response.text())[:120]}")
                    return
                self._note(response)
                if not stream:
                    msgspec.json.decode(await response.read())
                    self.tally.ok += 1
                    return
                begun = True
                self.tally.open_streams += 1
                try:
                    await self._stream(response, b"message_stop" if claude else b"[DONE]")
                finally:
                    self.tally.open_streams -= 1
        except (ClientPayloadError, ConnectionError) as error:
            self._broken_or_failed(begun, error)
        except (ClientError, TimeoutError, msgspec.DecodeError) as error:
            self._broken_or_failed(begun, error)

    def _note(self, response: ClientResponse) -> None:
        self.tally.served_by[response.headers.get("x-pointsman-target", "?")] += 1
        if response.headers.get("x-pointsman-attempt", "1") != "1":
            self.tally.fell_over += 1

    async def _stream(self, response: ClientResponse, terminal: bytes) -> None:
        """Count how the stream ends: whole, with an error that says so, or (a failure) as if it were whole."""
        ended = told = False
        async for line in response.content:
            ended = ended or (line.startswith((b"data:", b"event:")) and terminal in line)
            told = told or line.startswith((b"event: error", b'data: {"error"'))
        if ended:
            self.tally.ok += 1
        elif told:
            self.tally.broken_streams += 1
        else:
            self.tally.fail("a stream ended silently, without its terminal event")

    def _broken_or_failed(self, begun: bool, error: BaseException) -> None:
        if begun:
            self.tally.broken_streams += 1
        else:
            self.tally.fail(f"{type(error).__name__}: {error}")

    async def send_bad(self, count: int) -> Counter[int]:
        """`count` requests that are the caller's own fault; the statuses that came back."""
        statuses: Counter[int] = Counter()
        for number in range(count):
            body = {"model": "chat", "messages": "not a list of messages"}
            url = self._proxies[number % 2] + "/v1/chat/completions"
            async with self._session.post(url, json=body) as response:
                await response.read()
                statuses[response.status] += 1
        self.tally.bad_requests += count
        return statuses
