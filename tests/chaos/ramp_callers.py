"""Callers of one route for tests of ramps: some with a session that is to stay on its side, the others all different."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import anthropic
import anyio
import anyio.abc
import httpx2
import openai
from callers import Callers, _sent
from msgspec import Struct

SESSIONS = 16
STRANGERS = 17
SESSION_HEADER = "x-session-id"


class Placed(Struct, frozen=True):
    """Where a caller with a session was settled by the shares of one table (epoch, revision)."""

    session: str
    table: tuple[int, int]
    target: str
    came_s: float


class Balancer(httpx2.AsyncBaseTransport):
    """What stands in front of several proxies: a request that one of them did not begin to answer goes to the next.

    `rerouted` counts those.
    """

    def __init__(self, urls: list[str], *, first: int) -> None:
        self._urls = [httpx2.URL(url) for url in urls[first:] + urls[:first]]
        self._transport = httpx2.AsyncHTTPTransport()
        self.rerouted = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        for place, url in enumerate(self._urls):
            request.url = request.url.copy_with(host=url.host, port=url.port)
            try:
                return await self._transport.handle_async_request(request)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                if place + 1 == len(self._urls):
                    raise
                self.rerouted += 1
        raise AssertionError("there is no proxy")

    async def aclose(self) -> None:
        await self._transport.aclose()


class RampCallers(Callers):
    """The official SDK's clients of the route chat. `placed`: every answer to a session that its place gave.

    `balanced` callers go to another proxy when theirs is dead, as behind a load balancer; others never do.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.placed: list[Placed] = []
        self.balancers: list[Balancer] = []

    @classmethod
    @asynccontextmanager
    async def calling(cls, urls: list[str], *, balanced: bool) -> AsyncIterator[Self]:
        """Each session and each stranger with a client of its own for every proxy."""
        here = cls()
        hooks = {"request": [_sent], "response": [here._came]}
        bases: list[openai.AsyncOpenAI] = []
        for place, url in enumerate(urls):
            balancer = Balancer(urls, first=place) if balanced else None
            here.balancers += [balancer] if balancer else []
            bases.append(
                openai.AsyncOpenAI(
                    base_url=f"{url}/v1",
                    api_key="a-callers-key",
                    max_retries=0,
                    timeout=60,
                    http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks, transport=balancer),
                )
            )
        unused: Any = anthropic.AsyncAnthropic
        for name in range(max(SESSIONS, STRANGERS)):
            for base in bases:
                if name < SESSIONS:
                    sticky = base.with_options(default_headers={SESSION_HEADER: f"session-{name}"})
                    here._clients.append((sticky, unused))
                if name < STRANGERS:
                    here._clients.append((base.with_options(api_key=f"stranger-{name}"), unused))
        try:
            yield here
        finally:
            for base in bases:
                await base.close()

    async def _came(self, response: httpx2.Response) -> None:
        await super()._came(response)
        answer = self.served[-1]
        session = response.request.headers.get(SESSION_HEADER, "")
        if session and answer.reason == "sticky":
            self.placed.append(Placed(session, answer.table, answer.target, answer.came_s))

    async def _send_steadily(self, requests: anyio.abc.TaskGroup, per_s: float) -> None:
        due = time.monotonic()
        # Not by number alone: the same caller is to send streams and whole answers.
        for number in itertools.count():
            stream = bool((number + number // len(self._clients)) % 2)
            if not self._paused:
                requests.start_soon(lambda n=number, s=stream: self.send(n, route="chat", stream=s))
            due += 1 / per_s
            await anyio.sleep(max(0.0, due - time.monotonic()))

    # --- what must hold

    def homes(self, rank: Mapping[tuple[int, int], int]) -> dict[str, str]:
        """session → where it was settled by tables of the baseline (rank 0)."""
        return {placed.session: placed.target for placed in self.placed if rank.get(placed.table) == 0}

    def moved(
        self, rank: Mapping[tuple[int, int], int], source: str, goal: str, *, may_drop: bool = False
    ) -> list[str]:
        """Sessions that changed sides otherwise than from `source` to `goal` by growth, or back home by an abort.

        `rank`: how far the ramp is in each table, 0 at the baseline. The side has to follow from that alone; with
        `may_drop` it may also be what it is at the baseline.
        """
        told: list[str] = []
        homes = self.homes(rank)
        for session in sorted({placed.session for placed in self.placed}):
            sides: dict[int, set[str]] = {}
            for placed in self.placed:
                home = may_drop and placed.target == homes.get(session)
                if (
                    placed.session == session
                    and placed.table in rank
                    and (rank[placed.table] == 0 or not home)
                ):
                    sides.setdefault(rank[placed.table], set()).add(placed.target)
            told += [f"{session} was at {at} on rung {place}" for place, at in sides.items() if len(at) > 1]
            way = [next(iter(at)) for _, at in sorted(sides.items())]
            told += [
                f"{session} went from {before} to {after}: {way}"
                for before, after in itertools.pairwise(way)
                if before != after and (before, after) != (source, goal)
            ]
        return told
