"""The public listener: finds the API, the route and the caller of a request, and sends it on its way."""

from collections.abc import Callable
from time import time
from typing import Final
from urllib.parse import unquote

import anyio
from msgspec import Struct
from opentelemetry.trace import NoOpTracer, Tracer

from pointsman import logs
from pointsman.core.model import Family
from pointsman.proxy.api import (
    Reply,
    error_response,
    looks_anthropic,
    model_body,
    models_body,
)
from pointsman.proxy.asked import Asked
from pointsman.proxy.body import BodyError
from pointsman.proxy.caller import CallerConnection
from pointsman.proxy.callers import CallerKeys, Doorkeeper
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.job import Job
from pointsman.proxy.outbox import Outbox
from pointsman.proxy.reader import Inbound, Known
from pointsman.proxy.requests import Record, Ring
from pointsman.proxy.routing import View
from pointsman.proxy.sides import Providers
from pointsman.proxy.spans import Sampled
from pointsman.proxy.transit import Transit

log = logs.get("proxy")

# A smaller body of a stranger is read to its end, so that the connection can go on with a key.
_STRANGERS_BYTES: Final = 1 << 16
_TEXT: Final = b"text/plain; charset=utf-8"


class FrontBounds(Struct, frozen=True, kw_only=True):
    """How large a body may be, and for how many seconds a table may go unconfirmed (0: for ever) before it counts."""

    body_bytes_max: int
    stale_after_s: float = 0.0
    refuses_stale: bool = False


class Front:
    """Answers every request that comes in at the public address: the `Desk` of all callers' connections."""

    def __init__(
        self,
        forwarder: Forwarder,
        providers: Providers,
        view: Callable[[], View | None],
        stale_s: Callable[[], float | None],
        ring: Ring,
        tracer: Tracer,
        bounds: FrontBounds,
    ) -> None:
        self._forwarder = forwarder
        self._providers = providers
        self._view = view
        self._stale_s = stale_s
        self._ring = ring
        self._sampled = None if isinstance(tracer, NoOpTracer) else Sampled(tracer)
        self.body_bytes_max = bounds.body_bytes_max
        self.heads = Known()
        self.outbox = Outbox()
        self._bounds = bounds
        self._refuses_stale = bounds.refuses_stale and bounds.stale_after_s > 0
        # None: everybody may. Another one counts from the next request on.
        self.keys: CallerKeys | None = None
        self._doorkeeper = Doorkeeper()
        self.in_flight = 0
        self._idle = anyio.Event()
        self._gone = anyio.Event()
        self._connections: set[CallerConnection] = set()

    # --- connections

    def connection(self) -> CallerConnection:
        """For somebody who connects."""
        return CallerConnection(self)

    def opened(self, connection: CallerConnection) -> None:
        """A caller has connected."""
        self._connections.add(connection)

    def closed(self, connection: CallerConnection) -> None:
        """A caller is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._gone.set()

    def answered(self) -> None:
        """A request is over."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        while self.in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def gone(self) -> None:
        """Wait until every caller has gone."""
        while self._connections:
            self._gone = anyio.Event()
            await self._gone.wait()

    def abort(self) -> None:
        """Wait for nobody any longer."""
        for connection in list(self._connections):
            connection.abort()

    def end(self) -> None:
        """Take no further request."""
        for connection in list(self._connections):
            connection.end()

    def cut_off(self) -> None:
        """Break off every answer that is under way."""
        for connection in list(self._connections):
            connection.cut_off()

    # --- requests

    def take(self, connection: CallerConnection, request: Inbound) -> None:
        """Answer one request, whatever it is."""
        self.in_flight += 1
        try:
            asked, view = request.asked, self._view()
            if (
                asked.api is None
                or view is None
                or (self.keys is not None and not self.keys.name_of(asked))
                or (self._refuses_stale and self._is_stale)
            ):
                reply: Reply | None = self._own(asked, view, connection.remote)
            else:
                family = asked.family or _family(asked)
                reply = self._forward(connection, Job(asked, asked.api, family, request.body, view))
            if reply is not None:
                connection.reply(reply)
        except Exception:  # the border of a request: a bug must not end the proxy
            log.exception("a request failed for a reason of our own", path=request.asked.path)
            why = "the proxy failed on this request; its log says why"
            connection.fail(self.refusal(request.asked, 500, why))

    def refusal(self, asked: Asked | None, status: int, why: str) -> Reply:
        """An error in the shape that the caller probably reads."""
        family = Family.OPENAI if asked is None else _family(asked)
        return error_response(family, status, why)

    def stranger(self, connection: CallerConnection, request: Inbound) -> Reply | None:
        """A large body is not read to its end, nor invited, for somebody without a key."""
        asked = request.asked
        if self.keys is None or self.keys.name_of(asked):
            return None
        if "expect" not in asked.low and sum(map(len, request.parts)) <= _STRANGERS_BYTES:
            return None
        return self._doorkeeper.refuse(_family(asked), connection.remote)

    def _own(self, asked: Asked, view: View | None, remote: str) -> Reply:
        """The answer to what is forwarded to nobody."""
        method, path, api = asked.method, asked.path, asked.api
        if api is None and method in {"GET", "HEAD"}:
            if path in {"/", "/-/health"}:
                return Reply(200, b"pointsman\n", kind=_TEXT)
            if path == "/-/ready":
                return self._ready(view)
        family = asked.family or _family(asked)
        if self.keys is not None and not self.keys.name_of(asked):
            return self._doorkeeper.refuse(family, remote)
        if view is None:
            message = "this proxy has no routing table yet: it waits for the daemon's first one"
            return error_response(family, 503, message, headers={"retry-after": "1"})
        if api is not None:
            message = (
                f"this proxy's routing table has not been confirmed for over {self._bounds.stale_after_s:g} s, and "
                "proxy.when_stale says to refuse then: see whether the store and the daemon are up"
            )
            return error_response(family, 503, message, headers={"retry-after": "1"})
        if method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")):
            return _models(family, view, unquote(path.removeprefix("/v1/models").removeprefix("/")))
        return error_response(family, 404, f"nothing is served at {method} {path[:100]}")

    def _ready(self, view: View | None) -> Reply:
        """Is there a table to route by, which, and for how many seconds has the store not confirmed it?"""
        stale_s = self._stale_s()
        known = "never" if stale_s is None else f"{stale_s:.1f}"
        if view is None:
            return Reply(503, f"no table yet\nstale_s: {known}\n".encode(), kind=_TEXT)
        if self._is_stale:
            return Reply(503, f"stale\ntable: {view.version}\nstale_s: {known}\n".encode(), kind=_TEXT)
        return Reply(200, f"ready\ntable: {view.version}\nstale_s: {known}\n".encode(), kind=_TEXT)

    @property
    def _is_stale(self) -> bool:
        """Has the store not confirmed the table for longer than it may be."""
        stale_s = self._stale_s()
        return self._bounds.stale_after_s > 0 and (stale_s is None or stale_s > self._bounds.stale_after_s)

    def _forward(self, connection: CallerConnection, job: Job) -> Reply | None:
        try:
            if job.of_account:
                job.route = _account_route(job)
            else:
                job.read_head(self.body_bytes_max)
        except BodyError as error:
            return error_response(job.family, 400, str(error), headers=job.own_headers)
        route = job.view.routes.get(job.route)
        if route is None or route.family != job.family:
            return _unknown_route(job)
        job.identify(route.sticky_by, connection.remote)
        job.record = Record(
            job.id,
            at_s=time(),
            route=job.route,
            api=job.asked.kind.name,
            key=job.key,
            table=job.view.version,
        )
        self._ring.add(job.record)
        span = None if self._sampled is None else self._sampled.span(job.asked.low)
        connection.travel(Transit(self._forwarder, self._providers, connection, job, span))
        return None


def _family(asked: Asked) -> Family:
    """Whose shape to answer in, before the API is known."""
    anthropic = looks_anthropic(asked.path, "anthropic-version" in asked.low)
    return Family.ANTHROPIC if anthropic else Family.OPENAI


def _routes(view: View, family: Family) -> list[str]:
    return sorted(name for name, route in view.table.routes.items() if route.family == family)


def _models(family: Family, view: View, name: str) -> Reply:
    routes = _routes(view, family)
    if not name:
        return Reply(200, models_body(family, routes))
    if name in routes:
        return Reply(200, model_body(family, name))
    return error_response(
        family, 404, f"there is no route {name[:130]}; there are {', '.join(routes) or 'none'}"
    )


def _unknown_route(job: Job) -> Reply:
    known = ", ".join(_routes(job.view, job.family)) or "none"
    message = f"no {job.family.value} route is called {job.route[:130]!r}; the routes are {known}"
    return error_response(job.family, 404, message, headers=job.own_headers, code="model_not_found")


def _account_route(job: Job) -> str:
    """Files, batches and stored responses name no model: a header names the route, unless there is only one."""
    routes = _routes(job.view, job.family)
    named = job.asked.header("x-pointsman-route")
    if not named and len(routes) != 1:
        raise BodyError(
            "say whose account is meant: set the header x-pointsman-route to one of " + ", ".join(routes)
        )
    return named or routes[0]
