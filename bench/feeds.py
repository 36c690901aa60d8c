"""From publication to the last of 50 proxies that routes by the new table.

A leader publishes tables of 200 targets and 40 routes through `Store.publish` into a real Valkey. 50 real feeds (hint,
look, fetch, validation, credentials bound, swap, copy to disk) live in two processes, one on each core, each feed with
its own connections. The time is from when `publish` returns until the feed has assigned the new view. It may come
before: then it counts as 0.

Caveats: in a fleet each proxy has its own processor; here 25 of them decode on one core, one after the other, while
the store shares one of the cores. So `1 feed` is what a proxy takes, and `50 feeds` is mostly how fast two cores decode
50 tables. No network is in between.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

import anyio
from msgspec.structs import replace

from bench import machine, world
from bench.machine import percentile
from bench.sheet import Sheet
from pointsman.core.table import Table, Version, encode, table_hash
from pointsman.store.client import Store
from pointsman.store.records import Lease

TARGETS = 200
ROUTES = 40
GAP_S = 0.1
PATIENCE_S = 5.0

Swap = tuple[int, int, int]  # the feed's number, the table's revision, monotonic nanoseconds


@contextlib.contextmanager
def feeds(url: str, config: Path, count: int, folder: Path) -> Iterator["Queue[Swap]"]:
    """So many feeds in two processes (one feed: in one); their swaps arrive in the queue."""
    swaps: Queue[Swap] = Queue()
    shares = [(machine.MEASURED, 0, 1)] if count == 1 else [
        (machine.MEASURED, 0, count // 2), (machine.OTHER, count // 2, count - count // 2)
    ]  # fmt: skip
    processes = []
    for core, first, number in shares:
        command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.feed_holder", url, str(config)]
        command += [str(first), str(number), str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        processes.append(process)
        threading.Thread(target=_listen, args=(process, swaps), daemon=True).start()
    try:
        yield swaps
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _listen(process: "subprocess.Popen[str]", swaps: "Queue[Swap]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        number, revision, at_ns = map(int, line.split())
        swaps.put((number, revision, at_ns))


def arrivals(swaps: "Queue[Swap]", revision: int, count: int) -> list[int]:
    """When each of `count` feeds took `revision`. RuntimeError if one does not."""
    found: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE_S + machine.START_S * (revision == 1)
    while len(found) < count:
        try:
            number, taken, at_ns = swaps.get(timeout=max(0.01, deadline - time.monotonic()))
        except Empty:
            raise RuntimeError(f"only {len(found)} of {count} feeds took revision {revision}") from None
        if taken == revision:
            found[number] = at_ns
    return list(found.values())


def next_table(table: Table) -> Table:
    """The same with two percent of the first route moved there or back, as the next revision."""
    name, route = next(iter(table.routes.items()))
    first, second, *_ = route.shares_bp
    move = 200 if table.version.revision % 2 else -200
    shares = route.shares_bp | {
        first: route.shares_bp[first] - move,
        second: route.shares_bp[second] + move,
    }
    version = Version(table.version.epoch, table.version.revision + 1)
    moved = replace(table, version=version, routes=table.routes | {name: replace(route, shares_bp=shares)})
    return replace(moved, hash=table_hash(moved))


async def publications(
    store: Store, lease: Lease, table: Table, swaps: "Queue[Swap]", count: int, times: int
) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each publication: to the last feed, to each feed, and of `publish` itself."""
    last: list[float] = []
    each: list[float] = []
    writing: list[float] = []
    await anyio.to_thread.run_sync(arrivals, swaps, table.version.revision, count)
    for _ in range(times):
        await anyio.sleep(GAP_S)
        table = next_table(table)
        began_ns = time.monotonic_ns()
        await store.publish(lease, table, {}, {})
        published_ns = time.monotonic_ns()
        taken_ns = await anyio.to_thread.run_sync(arrivals, swaps, table.version.revision, count)
        writing.append((published_ns - began_ns) / 1e6)
        last.append(max(0, max(taken_ns) - published_ns) / 1e6)
        each += [max(0, at_ns - published_ns) / 1e6 for at_ns in taken_ns]
    return last, each, writing


async def measure(count: int, times: int, sheet: Sheet) -> None:
    """Add the row of `count` feeds."""
    config = world.sized(TARGETS, ROUTES)
    with machine.valkey() as (url, _), tempfile.TemporaryDirectory(prefix="pm-") as folder:
        path = Path(folder) / "pointsman.yaml"
        path.write_text(json.dumps(config))
        async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
            lease, decision = await world.publish_first(store, world.settings_of(config))
            assert decision.table is not None
            with feeds(url, path, count, Path(folder)) as swaps:
                last, each, writing = await publications(store, lease, decision.table, swaps, count, times)
    sheet.rows.append(
        {
            "feeds": f"{count} feed{'s' * (count > 1)}",
            "last swapped p50 (ms)": percentile(last, 50),
            "last swapped p99 (ms)": percentile(last, 99),
            "any swapped p50 (ms)": percentile(each, 50),
            "publish call p50 (ms)": percentile(writing, 50),
            "publications (number)": times,
            "table (bytes)": len(encode(decision.table)),
        }
    )


def run(*, quick: bool) -> list[Sheet]:
    """One sheet: a row for one feed and one for fifty."""
    machine.move_to(machine.OTHER)
    times = 5 if quick else 50
    sheet = Sheet(
        f"feeds: from `publish` returning to the swap, table of {TARGETS} targets and {ROUTES} routes"
    )
    for count in (1, 50):
        anyio.run(measure, count, times, sheet)
    sheet.remarks.append("one machine for the whole fleet: 25 feeds decode on one core, one after the other")
    return [sheet]
