"""Our proxy beside nginx and the direct way, all with the same providers, one process each on one core.

The proxy is `pointsman proxy` with a real store and a published table: one route over three targets (50, 30, 20 %), a
credential put in, outcomes reported once a second. nginx is a reverse proxy with the same weights that sets a header.
The measured process has the first core for itself; providers, store and load share the last one.

  throughput   wrk, 64 connections, POST of a short chat completion, nginx answers 522 bytes. CPU µs a request is the
               proxy's own, from the kernel. Three interleaved rounds, medians
  latency      what is added to direct, at a mean of 200 and 1,000 requests/s at random times (`openloop`). Not measured
               where more than one percent was lost or the median passes 100 ms: that rate is not sustained
  streams      20 streams at once of 100 tokens, 20 ms apart, from `pointsman fake-provider`: added time to the first
               event, and CPU µs an event (a stream's request included)

Caveats: no TLS. nginx parses no JSON, changes no model name and reports nothing. The direct throughput is what wrk and
the provider reach together on one core.
"""

import contextlib
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from bench import machine, memory, peers, world
from bench.machine import percentile
from bench.openloop import Generator
from bench.sheet import Sheet, Value
from bench.streams import STREAMS, stream

WEIGHTS = (50, 30, 20)
CONNECTIONS = 64
RATES = (200, 1000)
DIRECT, NGINX, OURS = "direct", "nginx", "pointsman"

Ways = dict[str, tuple[int | None, int]]  # name → process id (None: nothing in between), port


@contextlib.contextmanager
def ways(ports: list[int], *, with_nginx: bool = True) -> Iterator[Ways]:
    """Every way to the providers at `ports`."""
    config = world.sized(len(ports), 1, per_provider=1)
    for number, port in enumerate(ports):
        provider = config["providers"][f"p{number}"]
        provider |= {"base_url": f"http://127.0.0.1:{port}/v1", "credentials": ("env:BENCH_KEY",)}
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(machine.valkey())
        found: Ways = {DIRECT: (None, ports[0])}
        if with_nginx:
            found[NGINX] = stack.enter_context(peers.reverse_proxy(dict(zip(ports, WEIGHTS, strict=False))))
        found[OURS] = stack.enter_context(memory.proxying(url, config))
        yield found


def throughput(found: Ways, *, quick: bool) -> Sheet:
    """Most requests a second, each way in turn."""
    body = memory.chat("r0", stream=False).partition(b"\r\n\r\n")[2]
    rounds, seconds = (1, 1) if quick else (3, 6)
    measured: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, (pid, port) in found.items():
            peers.wrk(port, body, connections=CONNECTIONS, seconds=1)
            before_s = machine.cpu_s(pid) if pid else 0.0
            told = peers.wrk(port, body, connections=CONNECTIONS, seconds=seconds)
            used_s = machine.cpu_s(pid) - before_s if pid else 0.0
            took_s = told["duration_us"] / 1e6
            measured[name].append(
                (
                    told["requests"] / took_s,
                    1e6 * used_s / told["requests"],
                    100 * used_s / took_s,
                    told["errors"],
                )
            )
    sheet = Sheet(f"proxy, throughput: {CONNECTIONS} connections, median of {rounds}")
    middle = {
        name: [statistics.median(column) for column in zip(*values, strict=True)]
        for name, values in measured.items()
    }
    for name, (per_s, cost_us, of_core, _) in middle.items():
        row: dict[str, Value] = {
            "way": name,
            "requests (1/s)": per_s,
            "of nginx (ratio)": per_s / middle[NGINX][0],
        }
        if name != DIRECT:
            row |= {
                "a request (CPU µs)": cost_us,
                "of nginx by CPU (ratio)": middle[NGINX][1] / cost_us,
                "used of its core (%)": of_core,
            }
        row["errors (number)"] = sum(errors for *_, errors in measured[name])
        sheet.rows.append(row)
    sheet.remarks.append(
        "a way that used less than 95 % of its core was not at its limit: use the ratio by CPU"
    )
    return sheet


def latency(found: Ways, *, quick: bool) -> Sheet:
    """What each way adds to the direct one."""
    rounds, seconds = (1, 1.0) if quick else (3, 8.0)
    sheet = Sheet(f"proxy, latency added to direct: median of {rounds}")
    request = memory.chat("r0", stream=False)
    for rate in RATES:
        rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, (_, port) in found.items():
                outcome = Generator(port, request).run(per_s=rate, seconds=seconds)
                p50, p99 = (percentile(outcome.latencies_ms, percent) for percent in (50, 99))
                rows[name].append((p50, p99, outcome.lost))
        middle = {
            name: [statistics.median(column) for column in zip(*values, strict=True)]
            for name, values in rows.items()
        }
        for name, (p50, p99, lost) in middle.items():
            row: dict[str, Value] = {"way": name, "rate (1/s)": rate, "lost (number)": int(lost)}
            if lost <= 0.01 * rate * seconds and p50 <= 100:
                row |= {"p50 (ms)": p50, "p99 (ms)": p99}
                if name != DIRECT:
                    row |= {
                        "added p50 (ms)": p50 - middle[DIRECT][0],
                        "added p99 (ms)": p99 - middle[DIRECT][1],
                    }
            sheet.rows.append(row)
    return sheet


def streaming(*, quick: bool, with_nginx: bool) -> Sheet:
    """Streams of the fake provider, each way in turn."""
    rounds, seconds = (1, 1.0) if quick else (3, 8.0)
    port = machine.free_port()
    command = [sys.executable, "-m", "pointsman", "fake-provider", "--listen", f"127.0.0.1:{port}"]
    command += ["--tokens", "100", "--token-delay-ms", "20", "--latency-ms", "50"]
    request = memory.chat("r0", stream=True)
    measured: dict[str, list[tuple[float, float, float | None]]] = {}
    with (
        machine.running(command, core=machine.OTHER, ready=lambda: machine.listens(port)),
        ways([port], with_nginx=with_nginx) as found,
    ):
        for _ in range(rounds):
            for name, (pid, way) in found.items():
                measured.setdefault(name, []).append(stream(way, request, pid, seconds))
    middle: dict[str, Any] = {
        name: [
            statistics.median(column) if None not in column else None for column in zip(*values, strict=True)
        ]
        for name, values in measured.items()
    }
    sheet = Sheet(f"proxy, streams: {STREAMS} at once, median of {rounds}")
    for name, (p50, p99, cost_us) in middle.items():
        row: dict[str, Value] = {"way": name, "first event p50 (ms)": p50, "first event p99 (ms)": p99}
        if name != DIRECT:
            row |= {
                "added p50 (ms)": p50 - middle[DIRECT][0],
                "added p99 (ms)": p99 - middle[DIRECT][1],
                "an event (CPU µs)": cost_us,
            }
        sheet.rows.append(row)
    return sheet


def run(*, quick: bool) -> list[Sheet]:
    """Three sheets; without nginx or wrk only what can be had."""
    machine.move_to(machine.OTHER)
    sheets: list[Sheet] = []
    with_nginx = True
    try:
        with peers.providers(len(WEIGHTS)) as ports, ways(ports) as found:
            sheets.append(latency(found, quick=quick))
            sheets.append(throughput(found, quick=quick))
    except machine.MissingError as error:
        sheets.append(Sheet("proxy", remarks=[f"skipped in part: {error}"]))
        with_nginx = machine.installed("nginx") is not None
    sheets.append(streaming(quick=quick, with_nginx=with_nginx))
    return sheets
