"""A request on its way between two scripted sides: what each hears is written down, and time is what the test says."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from opentelemetry.trace import NoOpTracer

from pointsman.config.models import PriceSettings, TimeoutSettings
from pointsman.core.errors import Wire
from pointsman.core.model import Family
from pointsman.core.table import RouteEntry, Table, TargetEntry, Version
from pointsman.proxy.api import Api, Reply
from pointsman.proxy.asked import Asked
from pointsman.proxy.body import Pieces
from pointsman.proxy.books import Books
from pointsman.proxy.clock import StoreClock
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.headers import Taken
from pointsman.proxy.job import Job
from pointsman.proxy.judging import Head
from pointsman.proxy.limits import Bounds, Limits
from pointsman.proxy.local import LocalBreaker
from pointsman.proxy.outcomes import Ledger
from pointsman.proxy.pins import Pins
from pointsman.proxy.requests import Record
from pointsman.proxy.routing import Endpoint, Origin, View
from pointsman.proxy.sides import Line, Recipient
from pointsman.proxy.transit import State, Transit

TIMEOUTS: Final = TimeoutSettings(connect_s=5, first_byte_s=30, idle_s=60, response_s=600)
PING_AFTER_S: Final = 15.0
JSON: Final = (b"Content-Type", b"application/json")
EVENTS: Final = (b"Content-Type", b"text/event-stream")
GOOD: Final = b'{"id": "chatcmpl-1", "usage": {"prompt_tokens": 9, "completion_tokens": 3}}'
# What a chat stream consists of.
EVENT: Final = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'
DONE: Final = b"data: [DONE]\n\n"
PING: Final = b": ping\n\n"


def answered(status: int = 200, *headers: tuple[bytes, bytes], length: int | None = None) -> Head:
    """The head of a provider's answer, JSON unless the headers say otherwise."""
    taken = Taken(to_caller=True)
    for name, value in headers or (JSON,):
        taken.take(name, value)
    return Head(status, b"", taken.low, taken.lines(), tells_limit=taken.tells_limit, length=length)


def error_event(kind: str) -> bytes:
    """An error told in a chat stream."""
    return b"data: " + json.dumps({"error": {"type": kind, "message": "no"}}).encode() + b"\n\n"


class ScriptedCaller:
    """Who asked. It fails the test when it is told two answers, or anything behind one.

    `end`: how its answer ended, "" as long as it has not; `status` 0 as long as none has begun.
    """

    def __init__(self) -> None:
        self.paused = False
        self.status = 0
        self.lines = b""
        self.length: int | None = None
        self.body = b""
        self.end = ""
        self.due_s = float("inf")

    def _answer(self, status: int, lines: bytes, body: bytes, end: str) -> None:
        assert not self.status, "a second answer"
        self.status, self.lines, self.body, self.end = status, lines, body, end

    def reply(self, reply: Reply) -> None:
        self._answer(reply.status, reply.lines, reply.body, "reply")

    def whole(self, head: Head, lines: bytes, body: bytes) -> None:
        self._answer(head.status, lines, body, "written")

    def done(self) -> None:
        assert self.end == "written", "done with what has not been written"
        self.end = "whole"

    def begin(self, head: Head, lines: bytes, *, length: int | None) -> None:
        self._answer(head.status, lines, b"", "")
        self.length = length

    def _goes_on(self) -> None:
        assert self.status, "an answer goes on that has not begun"
        assert not self.end, "an answer goes on that has ended"

    def send(self, data: bytes) -> None:
        self._goes_on()
        assert data, "a chunk of nothing is the end of a chunked body"
        self.body += data

    def finish(self) -> None:
        self._goes_on()
        self.end = "finish"

    def cut(self) -> None:
        self._goes_on()
        self.end = "cut"

    def fail(self, reply: Reply) -> None:
        if self.status:
            self.cut()
        else:
            self._answer(reply.status, reply.lines, reply.body, "fail")

    def alarm(self, due_s: float) -> None:
        self.due_s = due_s

    @property
    def error(self) -> Any:
        """The error of an answer of the proxy's own."""
        return json.loads(self.body)["error"]

    def header(self, name: str) -> str:
        """One header of the answer, "" if it is not there."""
        pairs = [line.partition(": ") for line in self.lines.decode("latin-1").split("\r\n")]
        return next((value for written, _, value in pairs if written.lower() == name), "")


class ScriptedLine:
    """One request that was sent to a provider. `over`: it was dropped, or its answer has ended or broken."""

    def __init__(self, recipient: Recipient, host: str, head: bytes, body: bytes, fresh: bool) -> None:
        self.recipient = recipient
        self.target = host.partition(".")[0]
        self.head = head
        self.body = body
        self.fresh = fresh
        self.fed = b""
        self.dropped = False
        self.held = False
        self.over = False

    @property
    def credential(self) -> str:
        return self.head.partition(b"Bearer ")[2].partition(b"\r")[0].decode()

    def drop(self, recipient: Recipient) -> None:
        assert recipient is self.recipient
        self.dropped = self.over = True

    def hold(self, recipient: Recipient, *, held: bool) -> None:
        assert recipient is self.recipient
        self.held = held


class ScriptedProviders:
    """Who is asked; `refuse` is called with every request, and may raise.

    `full`: targets whose provider has as many connections as it may; `room_for`: the last question whether there is
    room for one more, as (target, most, fresh).
    """

    def __init__(self) -> None:
        self.lines: list[ScriptedLine] = []
        self.full: set[str] = set()
        self.room_for: tuple[str, int, bool] | None = None
        self.refuse: Callable[[ScriptedLine], None] = lambda _: None

    def send(
        self, recipient: Recipient, origin: Origin, head: bytes, body: Pieces, *, is_head: bool, fresh: bool
    ) -> Line:
        assert all(line.over for line in self.lines if line.recipient is recipient), "two at once"
        line = ScriptedLine(recipient, origin.host, head, b"".join(body), fresh)
        self.refuse(line)
        self.lines.append(line)
        return line

    def has_room(self, origin: Origin, most: int, *, fresh: bool) -> bool:
        target = origin.host.partition(".")[0]
        self.room_for = target, most, fresh
        return target not in self.full


class Road:
    """What requests share: a table of one route "chat", a forwarder, its books. `now_s` is the time at the start."""

    def __init__(
        self,
        chain: str = "a b c",
        *,
        credentials: int = 1,
        max_in_flight: int = 0,
        max_connections: int = 0,
        bounds: Bounds | None = None,
        last_resort: int | None = None,
        family: Family = Family.OPENAI,
    ) -> None:
        targets = tuple(chain.split())
        self.family = family
        self.now_s = time.monotonic()
        self.view = _view(targets, family, credentials, max_in_flight, max_connections)
        self.limits = Limits(bounds or Bounds())
        self.ledger = Ledger(throttle_default_s=1.0, soften_s=1.0)
        self.local = LocalBreaker(5, 10.0)
        self.books = Books(
            self.local, self.ledger, StoreClock(), NoOpTracer(), wake=lambda _: None, limits=self.limits
        )
        self.newest: View | None = None
        self.forwarder = Forwarder(
            self.books, Pins(), lambda: self.newest, TIMEOUTS, ping_after_s=PING_AFTER_S
        )

    def lose(self, target: str) -> None:
        """A newer table says that `target` is cooling down."""
        route = self.view.table.routes["chat"]
        rest = tuple(other for other in route.chain if other != target)
        lost = msgspec.structs.replace(route, chain=(*rest, target), last_resort=len(rest))
        table = msgspec.structs.replace(self.view.table, routes={"chat": lost})
        self.newest = View(
            table=table,
            endpoints=self.view.endpoints,
            missing={},
            grants={},
            deadlines={},
            home=self.view.home,
        )

    def counted(self) -> dict[str, int]:
        """How attempts ended, of all targets."""
        found: dict[str, int] = {}
        for report in self.ledger.reports(0.0).values():
            for fault, number in report.counts.items():
                found[fault] = found.get(fault, 0) + number
        return found

    def check_nothing_is_left(self) -> None:
        """Nothing counts as under way or kept once every request is over."""
        assert self.limits.kept_bytes == 0
        for target in self.view.endpoints:
            assert not self.limits.is_full(target, 1)
        for lane in self.local._lanes.values():
            assert not lane.sent
            assert not lane.waiting
            assert not lane.trial


def _view(
    targets: tuple[str, ...], family: Family, credentials: int, max_in_flight: int, max_connections: int
) -> View:
    urls = {name: f"http://{name}.example/v1" for name in targets}
    table = Table(
        environment="development",
        fleet="default",
        version=Version(1, 1),
        hash="",
        issued_s=0.0,
        targets={
            name: TargetEntry(provider=name, model=f"{name}-model", family=family.value, base_url=url)
            for name, url in urls.items()
        },
        routes={
            "chat": RouteEntry(
                family=family.value, shares_bp={targets[0]: 10_000}, chain=targets, last_resort=len(targets)
            )
        },
    )
    endpoints = {
        name: Endpoint(
            target=name,
            provider=name,
            model=f"{name}-model",
            family=family.value,
            base_url=url,
            generation=0,
            origin=Origin(f"{name}.example", 80, None),
            own_lines=tuple(
                b"Host: %b.example\r\nAuthorization: Bearer key-%d\r\n" % (name.encode(), number)
                for number in range(1, credentials + 1)
            ),
            overridden=frozenset({"authorization"}),
            prices=PriceSettings(),
            max_in_flight=max_in_flight,
            max_connections=max_connections,
        )
        for name, url in urls.items()
    }
    return View(
        table=table,
        endpoints=endpoints,
        missing={},
        grants={},
        deadlines={},
        home={"chat": targets[0]},
    )


PATHS: Final = {
    Api.CHAT: b"/v1/chat/completions",
    Api.RESPONSES: b"/v1/responses",
    Api.MESSAGES: b"/v1/messages",
}


class Ride:
    """One request on a road; the test plays both sides of it. `now_s` goes on as the test says."""

    def __init__(self, road: Road, *, api: Api = Api.CHAT, stream: bool = False, **more: Any) -> None:
        body = json.dumps({"model": "chat", "stream": stream} | more).encode()
        asked = Asked("POST", PATHS[api], [(b"Host", b"proxy.example"), (b"X-Mark", b"mark")])
        self.job = Job(asked, api, road.family, body, road.view)
        self.job.read_head(1 << 24)
        self.job.identify((), "127.0.0.1")
        self.job.record = Record(self.job.id, at_s=0.0, route="chat", api=api.value)
        self.now_s = road.now_s
        self.caller = ScriptedCaller()
        self.providers = ScriptedProviders()
        self.transit = Transit(road.forwarder, self.providers, self.caller, self.job, None)

    def begin(self) -> "Ride":
        """Off it goes."""
        self.transit.begin(self.now_s)
        return self

    @property
    def line(self) -> ScriptedLine:
        """The request that was sent last."""
        return self.providers.lines[-1]

    @property
    def asked(self) -> str:
        """Who was asked, in order."""
        return " ".join(line.target for line in self.providers.lines)

    @property
    def over(self) -> bool:
        return self.transit.state is State.OVER

    @property
    def faults(self) -> list[str]:
        """How the attempts ended."""
        return [attempt.outcome for attempt in self.job.record.attempts]

    def hears(self, head: Head | None, data: bytes = b"", *, ended: bool = False) -> None:
        """The provider who was asked last answers."""
        line = self.line
        assert not line.over, "nobody is being asked"
        line.fed += data
        line.over = ended
        line.recipient.heard(head, data, self.now_s, ended=ended)

    def breaks(self, wire: Wire = Wire.RESET, *, stale: bool = False) -> None:
        """The connection breaks."""
        line = self.line
        assert not line.over, "nobody is being asked"
        line.over = True
        line.recipient.failed(wire, self.now_s, stale=stale)

    def rings(self) -> float:
        """The alarm rings when it is due; how many seconds later that is."""
        waited_s = self.caller.due_s - self.now_s
        self.now_s = self.caller.due_s
        self.transit.ring(self.now_s)
        return waited_s
