"""Streams for the proxy bench: what a proxy adds to the first event, and what each event costs it."""

import asyncio
import time
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


async def _all(port: int, request: bytes, seconds: float) -> Streamed:
    found = Streamed()
    until_s = time.perf_counter() + seconds
    async with anyio.create_task_group() as tasks:
        for number in range(STREAMS):
            tasks.start_soon(_one, port, request, until_s, found)
            await anyio.sleep(0.013 * (number % 2) + 0.007)  # out of step with each other
    return found


def stream(port: int, request: bytes, pid: int | None, seconds: float) -> tuple[float, float, float | None]:
    """(first event p50 in ms, p99 in ms, CPU µs of process `pid` for each event) under `STREAMS` streams."""
    anyio.run(_all, port, request, 0.5)
    before_s = machine.cpu_s(pid) if pid else 0.0
    found = anyio.run(_all, port, request, seconds)
    cost_us = 1e6 * (machine.cpu_s(pid) - before_s) / found.events if pid else None
    return percentile(found.first_ms, 50), percentile(found.first_ms, 99), cost_us
