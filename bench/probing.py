"""10,000 targets probed every 30 s by one real Prober on one core.

100 providers × 100 targets: 333 generate probes a second, each a stream of sixteen tokens in four writes that takes
350 ms, and ten reach probes a second. The prober runs in a process of its own on the first core; a small server on the
other one is every provider, each at a loopback address of its own, so that each has its own connections. The round of
everything with which leading begins is over before measuring starts, and given apart.

Lateness is the start of a probe's request after its slot on the cadence's grid. The slots come from a second
Cadence of the same seed, which goes through the time in advance. The start is taken from the result (its time less
its latency), so whatever passes between the end of a stream and the result counts as late too.

--quick has a tenth of the targets ten times as often. Caveats: no TLS, connections are kept, every answer is good. The
decisions on the results are not in it (see the bench `decide`).
"""

import json
import os
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from typing import Any

import anyio
from opentelemetry.trace import NoOpTracer

from bench import machine, world
from bench.machine import percentile
from bench.sheet import Sheet
from pointsman.config.plan import to_plan
from pointsman.core.cadence import Attention, Cadence, Probe
from pointsman.core.evidence import ProbeResult
from pointsman.core.model import Plan
from pointsman.probing.access import access_of
from pointsman.probing.prober import Prober

PROVIDERS = 100
VANTAGE = "bench"
ATTEND_S = 1.0
AHEAD_S = 30.0

Slots = dict[Probe, list[float]]


def config(targets: int, port: int, interval_s: float) -> dict[str, Any]:
    """A configuration with as many targets at each of the providers."""
    base_url = f"http://127.0.{{0}}.{{1}}:{port}/v1"
    made = world.sized(targets, 1, per_provider=targets // PROVIDERS, base_url=base_url)
    for provider in made["providers"].values():
        provider["probe"] = {"generate_interval_s": interval_s}
    return made


def hosts() -> list[str]:
    """Where the providers are."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(PROVIDERS)]


def slots_of(plan: Plan, timings: dict[str, Any], from_s: float, until_s: float) -> Slots:
    """When each probe should start, on the monotonic clock."""
    cadence = Cadence(timings, seed=VANTAGE)
    cadence.attend(Attention(plan=plan), from_s)
    slots: Slots = defaultdict(list)
    while (due_s := cadence.next_due_s) is not None and due_s < until_s:
        for probe in cadence.due(due_s):
            slots[probe].append(due_s)
            cadence.done(probe, due_s)
    return slots


def lateness_ms(results: list[ProbeResult], slots: Slots, from_s: float) -> list[float]:
    """How late each probe that started after `from_s` did."""
    late: list[float] = []
    for result in results:
        started_s = result.at_s - result.latency_ms / 1000
        if started_s < from_s:
            continue
        grid = slots[Probe(result.kind, result.provider, result.target)]
        place = bisect_right(grid, started_s)
        if place:
            late.append((started_s - grid[place - 1]) * 1000)
    return late


async def probe(targets: int, port: int, interval_s: float, seconds: float) -> None:
    """Probe for so long, and write what was measured to standard output."""
    settings = world.settings_of(config(targets, port, interval_s))
    plan, access = to_plan(settings), access_of(settings)
    results: list[ProbeResult] = []
    answered = anyio.Event()

    def emit(result: ProbeResult) -> None:
        results.append(result)
        if len(results) == targets + PROVIDERS:
            answered.set()

    prober = Prober(access, emit, vantage=VANTAGE, tracer=NoOpTracer(), clock=time.monotonic)
    timings = {name: one.timing for name, one in access.items()}
    horizon_s = time.monotonic() + seconds + interval_s + 90
    slots = slots_of(plan, timings, time.monotonic() - AHEAD_S, horizon_s)
    async with anyio.create_task_group() as tasks:
        await tasks.start(prober.run)
        began, cpu = time.monotonic(), time.process_time()
        prober.attend(Attention(plan=plan))
        await answered.wait()
        first = {"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
        await anyio.sleep(interval_s / 2 + 1)  # for so long nothing that was just probed is due again
        results.clear()
        began, cpu, waited = time.monotonic(), time.process_time(), machine.waited_s(os.getpid())
        while time.monotonic() < began + seconds:
            await anyio.sleep(ATTEND_S)
            prober.attend(Attention(plan=plan, phases={}))
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        waited = machine.waited_s(os.getpid()) - waited
        tasks.cancel_scope.cancel()
    late = lateness_ms(results, slots, began)
    told = {
        "targets": targets,
        "first round (s)": first["wall"],
        "first round CPU (s)": first["cpu"],
        "probes (1/s)": len(results) / wall,
        "failed (number)": sum(not result.outcome.ok for result in results),
        "CPU (% of a core)": 100 * cpu / wall,
        "others had its core (%)": 100 * waited / wall,
        "a probe (CPU µs)": 1e6 * cpu / max(1, len(results)),
        "late p50 (ms)": percentile(late, 50),
        "late p99 (ms)": percentile(late, 99),
        "late max (ms)": max(late, default=0.0),
        "RSS (MiB)": machine.rss_mib(os.getpid()),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def run(*, quick: bool) -> list[Sheet]:
    """One sheet with one row."""
    machine.move_to(machine.OTHER)
    targets, interval_s, seconds = (1000, 3.0, 6.0) if quick else (10_000, 30.0, 45.0)
    port = machine.free_port()
    server = [sys.executable, "-m", "bench.upstream", str(port), "127.0.0.1", *hosts()]
    with machine.running(server, core=machine.OTHER, ready=lambda: machine.listens(port)):
        own = [sys.executable, "-m", "bench.probing", str(targets), str(port), str(interval_s), str(seconds)]
        told = json.loads(machine.output_of(own, core=machine.MEASURED))
    title = f"{targets:,} targets each {interval_s:g} s, {PROVIDERS} providers each 10 s"
    sheet = Sheet(f"probing: {title}, for {seconds:g} s", [told])
    sheet.remarks.append("the first round starts everything at once, 64 probes at a time for each provider")
    return [sheet]


if __name__ == "__main__":
    anyio.run(probe, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
