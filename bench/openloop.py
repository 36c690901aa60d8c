"""An open-loop generator: requests leave when they are due, whether or not the ones before have been answered.

One thread and one `select` for all connections, because its timer is exact to some microseconds where asyncio's is
to a millisecond. A request waits for no connection: if none is free, a new one is opened. Latency counts from when a
request was due, so a stall is felt by all requests that fell into it.
"""

import itertools
import random
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import machine

CONNECTIONS_MAX: Final = 500
PATIENCE_S: Final = 5.0
WARM: Final = 50


@dataclass
class Outcome:
    """Milliseconds of each good answer; `lost` requests were not answered, or not with 200."""

    latencies_ms: list[float] = field(default_factory=list)
    lost: int = 0


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = machine.connected(port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._due_s = 0.0
        self._received = b""

    def send(self, request: bytes, due_s: float) -> None:
        self._due_s, self._received = due_s, b""
        self.socket.sendall(request)

    def take(self, outcome: Outcome) -> bool:
        """Read what has come; is that the whole answer? Raises ConnectionError if there will be none."""
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return False
        if head.startswith(b"HTTP/1.1 200"):
            outcome.latencies_ms.append((time.perf_counter() - self._due_s) * 1000)
        else:
            outcome.lost += 1
        return True


class Generator:
    """Load on one port, with these requests in turn. `run` may be called once."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port = port
        self._requests = itertools.cycle(requests)
        self._waiting = selectors.SelectSelector()
        self._idle: list[_Connection] = []
        self._busy = 0
        self.outcome = Outcome()

    def run(self, *, per_s: float, seconds: float) -> Outcome:
        """Requests at random (Poisson) times at this mean rate. The first answers are warming and not counted."""
        draw = random.Random(7)
        until_s = time.perf_counter() + seconds
        due_s = time.perf_counter()
        while due_s < until_s:
            self._receive_until(due_s)
            self._send(due_s)
            due_s += draw.expovariate(per_s)
        patience_s = time.perf_counter() + PATIENCE_S
        while self._busy and time.perf_counter() < patience_s:
            self._receive_until(time.perf_counter() + 0.01)
        self.outcome.lost += self._busy
        del self.outcome.latencies_ms[:WARM]
        for key in list(self._waiting.get_map().values()):
            key.data.socket.close()
        self._waiting.close()
        return self.outcome

    def _send(self, due_s: float) -> None:
        if not self._idle:
            if self._busy >= CONNECTIONS_MAX:
                self.outcome.lost += 1
                return
            new = _Connection(self._port)
            self._waiting.register(new.socket, selectors.EVENT_READ, new)
            self._idle.append(new)
        self._busy += 1
        self._idle.pop().send(next(self._requests), due_s)

    def _receive_until(self, time_s: float) -> None:
        while True:
            left_s = time_s - time.perf_counter()
            for key, _ in self._waiting.select(max(0.0, left_s)):
                self._receive(key.data)
            if left_s <= 0:
                return

    def _receive(self, connection: _Connection) -> None:
        try:
            whole = connection.take(self.outcome)
        except OSError:
            self._waiting.unregister(connection.socket)
            connection.socket.close()
            if connection in self._idle:  # closed while it was idle: nobody's failure
                self._idle.remove(connection)
                return
            self.outcome.lost += 1
            self._busy -= 1
            return
        if whole:
            self._busy -= 1
            self._idle.append(connection)
