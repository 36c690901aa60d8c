"""Streams for the proxy bench: what it adds to the first event, what an event costs, what an idle one holds."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from bench import machine
from bench.machine import percentile

STREAMS = 20


@dataclass
class Streamed:
    """Milliseconds from request to first event of each stream, and how many events came in all."""

    first_ms: list[float] = field(default_factory=list)
    events: int = 0


async def _one(port: int, request: bytes, until_s: float, found: Streamed) -> None:
    """One caller: a stream after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until_s:
        sent_s = time.perf_counter()
        writer.write(request)
        tail = b""
        first = True
        while not tail.endswith(b"0\r\n\r\n"):
            data = await reader.read(65_536)
            if not data:
                raise ConnectionError("a stream ended before its end")
            events = data.count(b"data: ")
            if first and events:
                first = False
                found.first_ms.append((time.perf_counter() - sent_s) * 1000)
            found.events += events
            tail = (tail + data)[-5:]
    writer.close()


async def _all(port: int, requests: Sequence[bytes], seconds: float) -> Streamed:
    found = Streamed()
    until_s = time.perf_counter() + seconds
    async with anyio.create_task_group() as tasks:
        for number in range(STREAMS):
            tasks.start_soon(_one, port, requests[number % len(requests)], until_s, found)
            await anyio.sleep(0.013 * (number % 2) + 0.007)  # out of step with each other
    return found


@dataclass(frozen=True)
class Flow:
    """Milliseconds to the first event of `STREAMS` streams, and CPU µs of the process for each event."""

    p50_ms: float
    p99_ms: float
    cost_us: float | None


def flow(port: int, requests: Sequence[bytes], pid: int | None, seconds: float) -> Flow:
    """Streams for so many seconds, after a first round that is not counted."""
    anyio.run(_all, port, requests, 0.5)
    before = machine.Use.of(pid)
    found = anyio.run(_all, port, requests, seconds)
    used = machine.Use.of(pid) - before
    cost_us = 1e6 * used.cpu_s / found.events if pid else None
    return Flow(percentile(found.first_ms, 50), percentile(found.first_ms, 99), cost_us)


async def _hold(port: int, requests: Sequence[bytes], then: Callable[[], float]) -> float:
    open_ = []
    for start in range(
        0, len(requests), 100
    ):  # a hundred at a time: it is memory that is measured, not a storm
        some = [await asyncio.open_connection("127.0.0.1", port) for _ in requests[start : start + 100]]
        for (_, writer), request in zip(some, requests[start:], strict=False):
            writer.write(request)
        for reader, _ in some:
            await asyncio.wait_for(reader.readuntil(b"data: "), 30.0)
        open_ += some
    await asyncio.sleep(1.0)
    held = then()
    for _, writer in open_:
        writer.close()
    return held


def held_kib(port: int, requests: Sequence[bytes], pid: int) -> float:
    """KiB of resident memory that each of these streams holds, begun and silent, while all are open."""
    anyio.run(_hold, port, requests[:1], lambda: 0.0)
    before = machine.family_rss_mib(pid)
    after = anyio.run(_hold, port, requests, lambda: machine.family_rss_mib(pid))
    return 1024 * (after - before) / len(requests)
