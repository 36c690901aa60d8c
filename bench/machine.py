"""Processes on the cores where they belong, and what the kernel knows of them."""

import contextlib
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pointsman.store.embedded import find_binary

CORES: Final = sorted(os.sched_getaffinity(0))
# What is measured, and what makes load or answers it. On a machine with one core they are the same.
MEASURED: Final = CORES[0]
OTHER: Final = CORES[-1]
START_S: Final = 30.0


class MissingError(Exception):
    """A program that a bench needs is not installed; the message names the package."""


def installed(name: str) -> str | None:
    """The path of a program, also of one for root; None if it is not there."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def program(name: str, package: str) -> str:
    """The same, but raises MissingError."""
    found = installed(name)
    if found is None:
        raise MissingError(f"{name} is not installed: apt-get install {package}")
    return found


def move_to(core: int) -> None:
    """Pin this process, and with it the processes that it starts without a core of their own."""
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    core: int,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    timeout_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process pinned to `core`, from when `ready()` until the block is left. RuntimeError if it never is."""
    with (log or Path(os.devnull)).open("ab") as sink:
        process = subprocess.Popen(
            [program("taskset", "util-linux"), "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(env or {})},
        )
    try:
        what = f"{Path(command[0]).name} to be ready"
        wait_for(ready, what, alive=lambda: process.poll() is None, timeout_s=timeout_s)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(command: Sequence[str], *, core: int) -> str:
    """What a command pinned to `core` writes to standard output. CalledProcessError if it fails."""
    pinned = [program("taskset", "util-linux"), "-c", str(core), *command]
    return subprocess.run(pinned, check=True, stdout=subprocess.PIPE, text=True).stdout


def wait_for(
    ready: Callable[[], bool],
    what: str,
    *,
    alive: Callable[[], bool] = lambda: True,
    timeout_s: float = START_S,
) -> None:
    """Until `ready()`. RuntimeError when it takes too long, or `alive()` no longer holds."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not alive() or time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def valkey(*options: str, core: int = OTHER) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real Valkey with an append-only file, on a unix socket: its URL and its process."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        path = Path(folder) / "valkey.sock"
        command = [str(find_binary(None)), "--port", "0", "--unixsocket", str(path), "--dir", folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *options]
        with running(command, core=core, ready=lambda: _answers(path)) as process:
            yield f"unix://{path}", process


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 for a server that is told it, and on Linux for nobody else while this process lives.

    It stays bound there and does not listen: who asks the system for any port does not get it, and a server that sets
    SO_REUSEADDR, as all of them do, listens beside it as often as it likes.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
        if sys.platform == "linux":
            held.detach()
        return port


def connected(port: int) -> socket.socket:
    """A connection to a port of 127.0.0.1. Raises OSError."""
    return socket.create_connection(("127.0.0.1", port), timeout=5.0)


def listens(port: int) -> bool:
    """Does somebody accept connections there?"""
    with contextlib.suppress(OSError), connected(port):
        return True
    return False


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all its threads together: to the nanosecond, unlike /proc/<pid>/stat."""
    return time.clock_gettime((~pid << 3) | 2)  # Linux's clock id of another process (clock_getcpuclockid(3))


def family(pid: int) -> list[int]:
    """A process and those that it started, and so on; without those that have ended."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found


@dataclass(frozen=True)
class Use:
    """What a process and its children have had of the machine so far; differences are what they had in between.

    `kept_waiting_s`: seconds of their threads that could have run, while others had the core.
    """

    cpu_s: float = 0.0
    kept_waiting_s: float = 0.0

    @classmethod
    def of(cls, pid: int | None) -> "Use":
        """Up to now; nothing for no process."""
        cpu = waiting = 0.0
        for one in family(pid) if pid else ():
            cpu += cpu_s(one)
            for path in Path(f"/proc/{one}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    waiting += int(path.read_text().split()[1]) / 1e9
        return cls(cpu, waiting)

    def __sub__(self, before: "Use") -> "Use":
        return Use(self.cpu_s - before.cpu_s, self.kept_waiting_s - before.kept_waiting_s)


def waited_s(pid: int) -> float:
    """Seconds in which the main thread of a process could have run, but another had its core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def family_rss_mib(pid: int) -> float:
    """The same of a process and its children together."""
    return sum(rss_mib(one) for one in family(pid))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
