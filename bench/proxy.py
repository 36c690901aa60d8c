"""Our proxy beside Envoy, nginx, HAProxy and LiteLLM's proxy, all with the same providers, each on one core.

Ours is `pointsman proxy` with a real store and a published table, and everything on that it does. All peers have one
route over two providers (80 and 20 %) and put a credential in; their configurations are the files in bench/peers/. The
measured process has the first core for itself; providers, store and load share the last one. Plain HTTP, unless it says
TLS: then the connections to the providers are TLS 1.3, verified and kept. All rounds are interleaved, and a ratio is
the median of the rounds' ratios.

  requests/s   wrk, 64 connections; nginx answers 522 bytes. CPU µs a request is the process's own, from the kernel.
               Requests belong to 64 sessions; "every request different" also changes lengths, bodies and a header
  latency      what is added to direct at 1,000 requests/s at random times (`openloop`); a round is ten turns of 1.5 s
               of everybody, each beside the direct one of its turn, and the middle of what they say
  streams      20 at once of 100 events, 10 ms apart (`upstream`): added to the first event, and CPU µs an event (a
               stream's request included)
  idle         what 2,000 streams that have begun and are silent add to the resident memory, each
  LiteLLM      by itself with ours, so that its 400 MB and its timers disturb nobody else

Caveats: the peers parse no JSON, change no model name, keep no caller at its side and report nothing. Direct is what
wrk and the provider reach together on one core. `kept waiting` is the share of the time in which the measured process
could have run but something else had its core: above some 2 % the machine was
not calm enough for requests/s and latencies, and the ratio by CPU says more.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import asking, goals, machine, memory, streams, wrk
from bench.book import Book
from bench.goals import Measure
from bench.machine import percentile
from bench.openloop import Generator
from bench.peers import installing
from bench.peers.starting import (
    DIRECT,
    ENVOY,
    HAPROXY,
    LITELLM,
    NGINX,
    OURS,
    Scene,
    Way,
    providers,
    versions,
)
from bench.sheet import Sheet, Value

EVERYBODY: Final = (DIRECT, NGINX, HAPROXY, ENVOY, OURS)
RATE: Final = 1000
# A round of latencies is so many turns of everybody: what is measured are microseconds, and the machine has its own
# moods, of seconds.
SLICES: Final = 10
SLICE_S: Final = 1.5
EVENTS: Final = 100
SHARE_OF_A: Final = (0.6, 0.95)


def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """(head, body) of the answer to one request on a connection of its own."""
    with machine.connected(port) as client:
        client.settimeout(30.0)
        client.sendall(request)
        received = b""
        while True:
            data = client.recv(65_536)
            if not data:
                raise ConnectionError("closed in the middle of an answer")
            received += data
            head, ended, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
            if ended and len(body) >= int(length or 0):
                return head, body


def check(way: Way) -> None:
    """A way passes the provider's answer on, and asks both as it should. RuntimeError if not."""
    from_a = 0
    requests = asking.requests(asking.SMALL)
    for request in requests if way.name != DIRECT else requests[:1]:
        head, body = ask(way.port, request)
        if b" 200 " not in head[:16] or not body.strip():
            raise RuntimeError(f"it answers {head[:200]!r}")
        if way.name == LITELLM:
            return  # it writes answers anew
        if body != asking.REPLY.encode():
            raise RuntimeError(f"it changes the answer: {body[:200]!r}")
        from_a += b"\r\nx-bench-target: a" in head.lower()
    share = from_a / len(requests)
    if way.name != DIRECT and not SHARE_OF_A[0] <= share <= SHARE_OF_A[1]:
        raise RuntimeError(f"of its requests {share:.0%} went to the target that is to have 80 %")


class Run:
    """One run of everything; `book` has what was found."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder = folder
        self._rounds = 1 if quick else 3
        self._seconds = 1.0 if quick else 6.0
        self._quick = quick
        self.book = Book()
        self.loads = Sheet("proxy, under load: last round")

    def speed(self, ways: list[Way], measure: Measure, kind: asking.Kind, *, slow: bool = False) -> None:
        """Most requests a second; of small bodies also the memory of ours."""
        file = wrk.written(self._folder / f"{kind.bytes_}-{kind.varied}-{kind.client}", asking.requests(kind))
        last: dict[str, wrk.Load] = {}
        measures = [measure, goals.by_cpu(measure), *([goals.LOADED] if measure == goals.SMALL else [])]

        def look(way: Way) -> Sequence[float | None]:
            warm_s, seconds = (3.0, 6.0) if slow else (1.0, self._seconds)
            done = last[way.name] = wrk.load(way, file, warm_s=warm_s, seconds=seconds)
            of_process = (done.cost_us, done.rss_mib) if way.pid else (None, None)
            return (done.per_s, *of_process)[: len(measures)]

        self.book.rounds(measures, ways, self._rounds, look)
        for name, done in last.items():
            row: dict[str, Value] = {"measured": measure.name, "way": name, "requests (1/s)": done.per_s}
            if name != DIRECT:
                row |= {
                    "a request (CPU µs)": done.cost_us,
                    "of its core (%)": 100 * done.of_core,
                    "kept waiting (%)": 100 * done.kept_waiting,
                    "RSS (MiB)": done.rss_mib,
                }
            self.loads.rows.append(row)

    def latency(self, ways: list[Way]) -> None:
        """What each way adds to the direct one."""
        requests = asking.requests(asking.SMALL)
        slices, seconds = (1, 1.0) if self._quick else (SLICES, SLICE_S)

        def look(way: Way) -> Sequence[float | None]:
            outcome = Generator(way.port, requests).run(per_s=RATE, seconds=seconds)
            if outcome.lost > 0.01 * RATE * seconds:
                raise RuntimeError(f"{outcome.lost} requests were lost")
            return [percentile(outcome.latencies_ms, percent) for percent in (50, 99)]

        self.book.rounds([goals.P50, goals.P99], ways, self._rounds * slices, look)
        for measure in (goals.P50, goals.P99):
            self.book.less_direct(measure)
            self.book.folded(measure, slices)

    def streaming(self, scene: Scene) -> None:
        """Paced streams of a provider with exact timers, each way in turn."""
        requests = [asking.stream(EVENTS, session=number) for number in range(asking.SESSIONS)]
        seconds = 1.0 if self._quick else 8.0

        def look(way: Way) -> Sequence[float | None]:
            seen = streams.flow(way.port, requests, way.pid, seconds)
            return seen.p50_ms, seen.cost_us

        with _upstream(scene, "--exact") as own, self.book.ways(own, EVERYBODY, lambda _: None) as ways:
            self.book.rounds([goals.FIRST_EVENT, goals.EVENT_COST], ways, self._rounds, look)
        self.book.less_direct(goals.FIRST_EVENT)

    def idle(self, scene: Scene) -> None:
        """Silent streams, once: each time with processes that are new, because memory seldom comes back."""
        count = 200 if self._quick else 2000
        requests = [asking.stream(1, session=number % asking.SESSIONS, hold=True) for number in range(count)]

        def look(way: Way) -> Sequence[float | None]:
            return [streams.held_kib(way.port, requests, way.pid or 0)]

        with _upstream(scene) as own, self.book.ways(own, EVERYBODY[1:], lambda _: None) as ways:
            self.book.rounds([goals.IDLE_STREAM], ways, 1, look)

    def everything(self) -> None:
        """All parts, one after the other."""
        with providers() as (plain, tls):
            with self.book.ways(plain, EVERYBODY, check) as ways:
                self.latency(ways)
                self.speed(ways, goals.SMALL, asking.SMALL)
                self.speed(ways, goals.VARIED, asking.VARIED)
                self.speed(ways, goals.CLIENT, asking.CLIENT)
                self.speed(ways, goals.LARGE, asking.LARGE)
            with self.book.ways(tls, (ENVOY, OURS), check) as ways:
                self.speed(ways, goals.TLS_SMALL, asking.SMALL)
                self.speed(ways, goals.TLS_LARGE, asking.LARGE)
            self.streaming(plain)
            self.idle(plain)
            with self.book.ways(plain, (LITELLM, OURS), check) as ways:
                self.speed(ways, goals.MANY_TIMES, asking.SMALL, slow=True)


@contextlib.contextmanager
def _upstream(scene: Scene, *options: str) -> Iterator[Scene]:
    """Two providers of streams, both the same process."""
    port = machine.free_port()
    command = [sys.executable, "-m", "bench.upstream", str(port), *options]
    with machine.running(command, core=machine.OTHER, ready=lambda: machine.listens(port)):
        yield Scene(scene.folder, (port, port))


def run(*, quick: bool) -> list[Sheet]:
    """What it is to reach, every way's medians, and the last round under load."""
    machine.move_to(machine.OTHER)
    for name in ("nginx", "wrk"):  # without providers or load there is nothing to measure
        installing.debian(name)
    told = versions()
    with memory.folder() as folder:
        one = Run(folder, quick=quick)
        one.everything()
    sheet = one.book.judged(1 if quick else 3)
    sheet.remarks.append("versions: " + ", ".join(f"{name} {version}" for name, version in told.items()))
    return [one.loads, one.book.everyone(), sheet]
