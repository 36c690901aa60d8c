"""This one proxy's own door: a unix socket in the state directory, for people on the machine.

It works without the daemon and without the store: GET /status, GET /table, GET /requests/{id},
POST /pin {route, shares_bp, for_s, force}, POST /unpin {route}.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from pointsman import logs
from pointsman.core.table import encode
from pointsman.proxy.books import Books
from pointsman.proxy.feed import Feed
from pointsman.proxy.pins import PinError, Pins
from pointsman.proxy.requests import Ring

log = logs.get("proxy.admin")


class _PinAsked(Struct, forbid_unknown_fields=True):
    route: str
    shares_bp: dict[str, int]
    for_s: float | None = None
    force: bool = False


class _UnpinAsked(Struct, forbid_unknown_fields=True):
    route: str


_Asked = TypeVar("_Asked", _PinAsked, _UnpinAsked)


class RefusedError(Exception):
    """The answer is an error: (status, what is wrong and what to do)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LocalAdmin:
    """Answers what comes in at the unix socket."""

    def __init__(
        self,
        feed: Feed,
        books: Books,
        pins: Pins,
        ring: Ring,
        *,
        proxy: str,
        boot: str,
        in_flight: Callable[[], int],
        changed: Callable[[bool], None],
    ) -> None:
        self._feed = feed
        self._books = books
        self._pins = pins
        self._ring = ring
        self._proxy = proxy
        self._boot = boot
        self._in_flight = in_flight
        self._changed = changed

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request with JSON."""
        try:
            body = await request.read()
            answer = self._answer(request.method, request.path, body)
            return _json(200, answer)
        except RefusedError as error:
            return _json(error.status, {"error": str(error)})

    def _answer(self, method: str, path: str, body: bytes) -> Any:
        match method, path:
            case "GET", "/status":
                return self._status()
            case "GET", "/table":
                return self._table()
            case "POST", "/pin":
                return self._pin(_asked(body, _PinAsked))
            case "POST", "/unpin":
                return self._unpin(_asked(body, _UnpinAsked).route)
        if method == "GET" and path.startswith("/requests/"):
            record = self._ring.get(path.removeprefix("/requests/"))
            if record is None:
                raise RefusedError(404, "this proxy does not know the request, or has forgotten it")
            return record.told()
        raise RefusedError(404, f"nothing is served at {method} {path}")

    def _status(self) -> dict[str, Any]:
        now_s = time.monotonic()
        view = self._feed.view
        local = self._books.local
        return {
            "proxy": self._proxy,
            "boot": self._boot,
            "table": view.version if view else None,
            "table_hash": view.table.hash if view else None,
            "from_disk": self._feed.from_disk,
            "stale_s": self._feed.stale_s,
            "rejected": self._feed.rejected,
            "missing": view.missing if view else {},
            "pinned": self._pins.routes(now_s),
            "ejected": [name for name in view.endpoints if local.ejected(name, now_s)] if view else [],
            "in_flight": self._in_flight(),
            "requests_kept": len(self._ring),
            "tasks": len(asyncio.all_tasks()),
        }

    def _table(self) -> msgspec.Raw:
        if self._feed.view is None:
            raise RefusedError(503, "this proxy has no table yet")
        return msgspec.Raw(encode(self._feed.view.table))

    def _pin(self, asked: _PinAsked) -> dict[str, Any]:
        route = self._feed.view.table.routes.get(asked.route) if self._feed.view else None
        if route is None:
            raise RefusedError(404, f"there is no route {asked.route}")
        if asked.for_s is not None and not 0 < asked.for_s < math.inf:
            raise RefusedError(400, "for_s has to be a number of seconds above 0")
        until_s = math.inf if asked.for_s is None else time.monotonic() + asked.for_s
        known = {*route.chain, *route.shares_bp}
        try:
            self._pins.put(asked.route, asked.shares_bp, known, until_s, force=asked.force)
        except PinError as error:
            raise RefusedError(400, str(error)) from error
        log.warning(
            "a route is pinned by hand", route=asked.route, shares_bp=asked.shares_bp, for_s=asked.for_s
        )
        self._changed(True)
        return {
            "pinned": asked.route,
            "shares_bp": asked.shares_bp,
            "for_s": asked.for_s,
            "force": asked.force,
        }

    def _unpin(self, route: str) -> dict[str, Any]:
        if not self._pins.take_off(route):
            raise RefusedError(404, f"{route} is not pinned")
        log.info("a route is no longer pinned", route=route)
        self._changed(True)
        return {"unpinned": route}


def _asked(body: bytes, kind: type[_Asked]) -> _Asked:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise RefusedError(400, str(error)) from error


def _json(status: int, answer: Any) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(answer) + b"\n", content_type="application/json"
    )
