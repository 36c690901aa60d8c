"""What a recorded decision costs: made, stored in a real Valkey, read and replayed.

Kinds of decision, of fleets of some sizes in which every proxy tells of every target once a second:
  quiet     one second of a fleet at work; recorded once a minute
  trip      the same, and a target trips: a table is published; every such decision is recorded

`made` is the recorder's work beside the loop (core.record: what is kept, JSON, zlib), in CPU milliseconds;
`stored` is the size in the store, and `64 MB` how many such records the default of control.records_mb holds.
Histograms, counts and times are random, since equal ones would compress too well.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
from msgspec.structs import replace

from bench import decide, machine, world
from bench.machine import percentile
from bench.sheet import Sheet, Value
from pointsman.core import record as records
from pointsman.core.asked import Asked
from pointsman.core.deciding import decided
from pointsman.core.evidence import Evidence, Lane, Report, TargetReport
from pointsman.core.model import Decision
from pointsman.core.replay import replay
from pointsman.store.client import Store

SIZES = ((10, 2), (20, 10), (200, 50))
DEFAULT_BYTES = 64 * 1024 * 1024

Made = tuple[Asked, Decision]


def decisions(targets: int, proxies: int, kind: str, times: int) -> list[Made]:
    """So many decisions of a fleet that has been at work for half a minute."""
    made, rng = decide.World(targets, proxies), random.Random(targets)
    kinds: dict[str, Callable[[], Evidence]] = {"quiet": made.busy, "trip": made.trip}
    for _ in range(30):
        made.tick(_lively(made.busy(), rng))
    found: list[Made] = []
    for _ in range(times):
        asked = Asked(
            at_s=made.now_s + 1.0,
            epoch=decide.EPOCH,
            published=made.table,
            published_s=made.published_s,
            state=made.state,
            evidence=_lively(kinds[kind](), rng),
        )
        found.append((asked, decided(asked)[0]))
        made.tick(asked.evidence)
    return found


def _lively(evidence: Evidence, rng: random.Random) -> Evidence:
    def lane(known: Lane) -> Lane:
        return replace(known, last_ok_s=known.last_ok_s - rng.random())

    def entry(known: TargetReport) -> TargetReport:
        requests = rng.randrange(1, 5000)
        return replace(
            known,
            counts={fault: count + rng.randrange(3) for fault, count in known.counts.items()},
            latency_ms={cell: rng.randrange(1, requests + 1) for cell in range(12, rng.randrange(20, 30))},
            first_token_ms={cell: rng.randrange(1, requests + 1) for cell in range(8, rng.randrange(16, 24))},
            tokens_in=900 * requests + rng.randrange(999),
            tokens_out=200 * requests + rng.randrange(999),
            cost_usd=rng.random() * requests,
            callers=rng.getrandbits(64),
            lanes={name: lane(known) for name, known in known.lanes.items()},
        )

    def report(known: Report) -> Report:
        return replace(known, targets={name: entry(target) for name, target in known.targets.items()})

    return replace(evidence, reports=tuple(map(report, evidence.reports)))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds, and what came of it."""
    began = time.process_time()
    came = call()
    return (time.process_time() - began) * 1000, came


async def stored(url: str, bodies: list[bytes]) -> list[float]:
    """Milliseconds by the clock of putting each into the store."""
    took: list[float] = []
    async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
        lease = await store.acquire("bench", 600.0, 0)
        assert lease is not None, "somebody else leads this store"
        for number, body in enumerate(bodies):
            began = time.perf_counter()
            await store.records.put(lease, world.NOON_S + number, body)
            took.append((time.perf_counter() - began) * 1000)
    return took


def measure(targets: int, proxies: int, kind: str, times: int, url: str) -> dict[str, Value]:
    """One row."""
    made_ms: list[float] = []
    read_ms: list[float] = []
    replayed_ms: list[float] = []
    bodies: list[bytes] = []
    raw_bytes = 0
    for asked, decision in decisions(targets, proxies, kind, times):
        took, body = timed(lambda a=asked, d=decision: records.encode(records.record_of(a, d, "bench")))
        made_ms.append(took)
        bodies.append(body)
        took, record = timed(lambda b=body: records.decode(b))
        read_ms.append(took)
        raw_bytes = len(msgspec.json.encode(record))
        if record.asked is not None:
            took, differences = timed(lambda r=record: replay(r))
            assert differences == [], differences
            replayed_ms.append(took)
    size = round(percentile([float(len(body)) for body in bodies], 50))
    return {
        "decision": kind,
        "targets (number)": targets,
        "proxies (number)": proxies,
        "made p50 (CPU ms)": percentile(made_ms, 50),
        "written p50 (ms)": percentile(anyio.run(stored, url, bodies), 50),
        "JSON (bytes)": raw_bytes,
        "stored (bytes)": size,
        "64 MB (records)": DEFAULT_BYTES // size,
        "read p50 (CPU ms)": percentile(read_ms, 50),
        "replayed p50 (CPU ms)": percentile(replayed_ms, 50) if replayed_ms else None,
    }


def run(*, quick: bool) -> list[Sheet]:
    """One sheet: a row for each size and kind of decision."""
    machine.move_to(machine.MEASURED)
    sheet = Sheet("records: one decision, recorded, read and replayed")
    with machine.valkey(core=machine.OTHER) as (url, _):
        for targets, proxies in SIZES[:1] if quick else SIZES:
            for kind in ("quiet", "trip"):
                sheet.rows.append(measure(targets, proxies, kind, 3 if quick else 9, url))
    sheet.remarks.append(
        f"above {records.LARGE} entries in all reports a quiet one is kept without its evidence (nothing to replay)"
    )
    return [sheet]
