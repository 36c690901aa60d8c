"""Steady traffic through the proxies, open loop, without a single retry, and an honest count of how it ended."""

import time
from collections import Counter
from typing import Final

import anyio
import msgspec
from aiohttp import (
    ClientError,
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


class Ends(Struct, frozen=True):
    """What stands in the last event of a whole stream, and how the line begins that says that it broke."""

    whole: bytes
    broken: bytes


_CHAT: Final = Ends(b"[DONE]", b'data: {"error"')
_CLAUDE: Final = Ends(b"message_stop", b"event: error")
_PROMPT: Final = [{"role": "user", "content": "Why do trains need points?"}]


class Tally(Struct):
    """How requests ended. `broken_streams` had begun when their provider died, and said so; nobody can hide that."""

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
        self._excused: dict[str, float] = {}

    @staticmethod
    def session() -> ClientSession:
        """A client without a limit of connections: waiting for one would close the open loop."""
        return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=TIMEOUT_S))

    def excuse(self, target: str) -> None:
        """`target` dies: streams that it was asked for until now may break, if they say so."""
        self._excused[target] = time.monotonic()

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
        sent_s = time.monotonic()
        try:
            url = self._proxies[number % 2] + path
            async with self._session.post(url, json=body, headers=_HEADERS if claude else None) as response:
                if response.status != 200:
                    self.tally.fail(f"HTTP {response.status}: {(await response.text())[:120]}")
                    return
                self._note(response)
                if stream:
                    await self._stream(response, _CLAUDE if claude else _CHAT, sent_s)
                else:
                    msgspec.json.decode(await response.read())
                    self.tally.ok += 1
        except (ClientError, ConnectionError, TimeoutError, msgspec.DecodeError) as error:
            self.tally.fail(f"{type(error).__name__}: {error}")

    def _note(self, response: ClientResponse) -> None:
        self.tally.served_by[response.headers.get("x-pointsman-target", "?")] += 1
        if response.headers.get("x-pointsman-attempt", "1") != "1":
            self.tally.fell_over += 1

    async def _stream(self, response: ClientResponse, ends: Ends, sent_s: float) -> None:
        """Count how the stream ends: whole, or broken as it had to be and saying so; anything else is a failure."""
        target = response.headers.get("x-pointsman-target", "?")
        ended = told = False
        how = "ended without its terminal event"
        self.tally.open_streams += 1
        try:
            async for line in response.content:
                ended = ended or (line.startswith((b"data:", b"event:")) and ends.whole in line)
                told = told or line.startswith(ends.broken)
        except (ClientError, ConnectionError, TimeoutError) as error:
            ended, how = False, f"broke off ({type(error).__name__})"
        finally:
            self.tally.open_streams -= 1
        if ended:
            self.tally.ok += 1
        elif told and sent_s <= self._excused.get(target, -1.0):
            self.tally.broken_streams += 1
        else:
            error_event = "with" if told else "without"
            self.tally.fail(f"a stream of {target} {how}, {error_event} an error event")

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
