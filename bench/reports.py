"""What the proxies' reports cost: 50 proxies tell 200 targets each, once a second, to a real Valkey.

A process on the other core puts the reports through `Store.put_report` (as a proxy does, evenly over the second), and
the leader gathers once a second: `Store.reports` (read and decode) and `core.health.gather` (sort out what is new).
The noisy rows are the same with errors in the background: every proxy meets 0.4 failures a second, each of which stands
alone and wakes the leader.
Valkey, with its append-only file, is measured by the CPU time that the kernel counts for it; its slowest command is
from its own slow log, since the start.

Caveats: every target has new counts every second, as in a fleet that is busy everywhere; most fleets are not. CPU
shares are of one core.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
import redis

from bench import machine, world
from bench.machine import percentile
from bench.sheet import Sheet, Value
from pointsman.config.plan import to_plan
from pointsman.control.clock import Clock
from pointsman.control.process import LONE_S
from pointsman.core.evidence import Evidence
from pointsman.core.health import gather
from pointsman.core.model import State
from pointsman.store.client import LONE, Store

PROXIES = 50
TARGETS = 200
LOGGED_US = 50
# Of so many reports in a row the first few tell of a failure that stands alone.
NOISE = (5, 2)


async def report(url: str, noisy: str) -> None:
    """Be the fleet: put every proxy's report once a second until the process is ended."""
    every, few = NOISE if noisy else (1, 0)
    names = [f"t{number}" for number in range(TARGETS)]
    async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
        began = time.monotonic()
        beat = 0
        while True:
            beat += 1
            for proxy in range(PROXIES):
                now_s = time.time()
                wake = (beat + proxy) % every < few
                made = world.report(proxy, names, beat=beat, at_s=now_s)
                await store.put_report(made, wake=wake, lone=True)
                due = began + beat - 1 + (proxy + 1) / PROXIES
                await anyio.sleep(max(0.0, due - time.monotonic()))


async def lead(url: str, seconds: int) -> dict[str, list[float]]:
    """Gather once a second, and when woken; microseconds of reading and of sorting out, by CPU and by the clock."""
    plan = to_plan(world.settings_of(world.sized(TARGETS, TARGETS // 5)))
    state = State(plan=plan)
    took: dict[str, list[float]] = {"read wall": [], "read cpu": [], "gather cpu": []}
    async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
        while len(await store.reports()) < PROXIES:  # noqa: ASYNC110 - nobody tells us
            await anyio.sleep(0.1)
        clock = Clock(1.0)
        async with anyio.create_task_group() as listening:
            listening.start_soon(_hear, store, clock)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await clock.next()
                wall, cpu = time.perf_counter(), time.process_time()
                reports = await store.reports()
                took["read wall"].append((time.perf_counter() - wall) * 1e6)
                took["read cpu"].append((time.process_time() - cpu) * 1e6)
                cpu = time.process_time()
                found = gather(state, Evidence(reports=tuple(reports)), plan, time.time())
                took["gather cpu"].append((time.process_time() - cpu) * 1e6)
                state = msgspec.structs.replace(state, vantages=found.vantages)
            listening.cancel_scope.cancel()
    return took


async def _hear(store: Store, clock: Clock) -> None:
    """What wakes a daemon wakes this leader."""
    async for message in store.wakes():
        clock.wake(LONE_S if message.startswith(LONE) else 0.0)


def slowest(url: str) -> tuple[str, int]:
    """The slowest command so far and its microseconds."""
    with redis.Redis.from_url(url) as client:
        logged: Any = client.slowlog_get(10_000)
    worst = max(logged, key=lambda entry: entry["duration"], default=None)
    if worst is None:
        return f"none over {LOGGED_US} µs", 0
    return worst["command"].split(b" ", 1)[0].decode(), int(worst["duration"])


def run(*, quick: bool) -> list[Sheet]:
    """One sheet with a row for each part, quiet and noisy."""
    machine.move_to(machine.MEASURED)
    seconds = 3 if quick else 30
    names = [f"t{number}" for number in range(TARGETS)]
    blob = len(msgspec.json.encode(world.report(0, names, beat=1000, at_s=world.NOON_S)))
    rows, slowest_command = _measured(seconds, blob, noisy=False)
    noisy, _ = _measured(seconds, blob, noisy=True)
    rows += [{**row, "part": f"noisy: {row['part']}"} for row in noisy]
    sheet = Sheet(f"reports: {PROXIES} proxies tell {TARGETS} targets each, once a second", rows)
    sheet.remarks.append(f"a report is {blob:,} bytes; the store's slowest command was {slowest_command}")
    sheet.remarks.append("noisy: 0.4 failures a second at each proxy, all of which stand alone")
    return [sheet]


def _measured(seconds: int, blob: int, *, noisy: bool) -> tuple[list[dict[str, Value]], str]:
    """The rows, and the name of the store's slowest command."""
    logging = ("--slowlog-log-slower-than", str(LOGGED_US), "--slowlog-max-len", "10000")
    with machine.valkey(*logging, core=machine.OTHER) as (url, server):
        fleet = [sys.executable, "-m", "bench.reports", url, "noisy" if noisy else ""]
        with machine.running(fleet, core=machine.OTHER, ready=lambda: True) as reporting:
            anyio.run(lead, url, 2)
            marks = [(time.monotonic(), machine.cpu_s(server.pid), machine.cpu_s(reporting.pid))]
            took = anyio.run(lead, url, seconds)
            marks.append((time.monotonic(), machine.cpu_s(server.pid), machine.cpu_s(reporting.pid)))
            name, slowest_us = slowest(url)
    wall_s, server_s, fleet_s = (after - before for before, after in zip(*marks, strict=True))
    ticks_per_s = len(took["read wall"]) / wall_s
    read: dict[str, Value] = {
        "part": "leader: read and decode",
        **_tick(took["read cpu"], wall_s),
        "reading p50 (ms)": percentile(took["read wall"], 50) / 1000,
        "reading p99 (ms)": percentile(took["read wall"], 99) / 1000,
        "ticks (1/s)": ticks_per_s,
        "read (MB/s)": ticks_per_s * PROXIES * blob / 1e6,
    }
    return [
        {
            "part": "store (Valkey)",
            "CPU (% of a core)": 100 * server_s / wall_s,
            "slowest command (µs)": slowest_us,
        },
        read,
        {"part": "leader: sort out what is new", **_tick(took["gather cpu"], wall_s)},
        {"part": "a proxy: make up and put", "CPU (% of a core)": 100 * fleet_s / PROXIES / wall_s},
    ], name


def _tick(cpu_us: list[float], wall_s: float) -> Mapping[str, Value]:
    return {"CPU (% of a core)": sum(cpu_us) / 1e4 / wall_s, "a tick p50 (CPU µs)": percentile(cpu_us, 50)}


if __name__ == "__main__":
    anyio.run(report, *sys.argv[1:])
