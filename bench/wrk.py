"""wrk: the most requests a second that a way takes, what each costs it, and how much memory it holds meanwhile."""

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import machine
from bench.peers import installing
from bench.peers.starting import Way

CONNECTIONS: Final = 64
SCRIPT: Final = Path(__file__).with_suffix(".lua")
LOST_MAX: Final = 0.001


@dataclass(frozen=True)
class Load:
    """What a way did under load. `of_core` and `kept_waiting` are shares of the time."""

    per_s: float
    cost_us: float
    of_core: float
    kept_waiting: float
    rss_mib: float


def written(path: Path, requests: Sequence[bytes]) -> Path:
    """A file of requests as `wrk.lua` reads it."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
    return path


def load(way: Way, file: Path, *, warm_s: float, seconds: float) -> Load:
    """Requests of `file` as fast as answers come. RuntimeError if more than one in a thousand failed."""
    _run(way.port, file, warm_s)
    before = machine.Use.of(way.pid)
    told, rss_mib = _run(way.port, file, seconds, way.pid)
    used = machine.Use.of(way.pid) - before
    requests, took_s = told["requests"], told["duration_us"] / 1e6
    if told["errors"] > LOST_MAX * requests or not requests:
        raise RuntimeError(f"{told['errors']} of {requests} requests failed")
    return Load(
        per_s=requests / took_s,
        cost_us=1e6 * used.cpu_s / requests,
        of_core=used.cpu_s / took_s,
        kept_waiting=used.kept_waiting_s / took_s,
        rss_mib=rss_mib,
    )


def _run(port: int, file: Path, seconds: float, pid: int | None = None) -> tuple[dict[str, Any], float]:
    """(what `wrk.lua` tells, resident MiB shortly before the end)."""
    binary = installing.debian("wrk")
    command = [machine.program("taskset", "util-linux"), "-c", str(machine.OTHER), binary]
    command += ["-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}/", "--", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(0.8 * seconds)
        rss_mib = machine.family_rss_mib(pid) if pid else 0.0
        said, _ = process.communicate(timeout=seconds + 60)
    try:
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise RuntimeError(f"wrk failed: {said[-300:]}") from error
    return told, rss_mib
