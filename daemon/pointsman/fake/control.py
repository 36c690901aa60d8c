"""The controls of a fake provider over HTTP, on a port of their own.

GET    /         this, and what can be made to go wrong
GET    /faults   the faults in force, as PUT takes them
PUT    /faults   a JSON list of faults in place of those that were, all or none
DELETE /faults   no faults
GET    /stats    counts of requests, and whether it is dead
POST   /die      {"mode": "refuse" | "reset" | "hang" | "blackhole", "for_s": 30}
POST   /revive
"""

from inspect import cleandoc
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from pointsman.core.model import Family
from pointsman.fake import faults
from pointsman.fake.faults import Fault, FaultError, explained, parse
from pointsman.fake.ledger import Ledger
from pointsman.fake.wire import Connection, Request

_METHODS: Final = {
    "/": ("GET",),
    "/faults": ("GET", "PUT", "DELETE"),
    "/stats": ("GET",),
    "/die": ("POST",),
    "/revive": ("POST",),
}


_HELP: Final = "\n".join(
    cleandoc(text or "") + "\n" for text in (__doc__, faults.__doc__, Fault.__doc__)
).encode()


class Controlled(Protocol):
    """What the controls need of a provider."""

    name: str
    family: Family
    requests: Ledger

    @property
    def base_url(self) -> str: ...
    @property
    def connections(self) -> int: ...
    @property
    def connections_accepted(self) -> int: ...
    @property
    def tls_failures(self) -> int: ...
    @property
    def dead(self) -> str: ...
    @property
    def faults(self) -> tuple[Fault, ...]: ...
    def set_faults(self, *faults: Fault) -> None: ...
    def clear(self) -> None: ...
    def die(self, mode: str = "refuse", for_s: float = 0.0) -> None: ...
    def revive(self) -> None: ...


class Die(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to be dead, and for how many seconds (0: until revived)."""

    mode: str = "refuse"
    for_s: float = 0.0


class Control:
    """Answers one request at a time; what it changes is in force before it answers."""

    def __init__(self, provider: Controlled) -> None:
        self._provider = provider

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer a request for the controls."""
        if (request.method, request.path) == ("GET", "/"):
            await connection.respond(request, 200, [("content-type", "text/plain; charset=utf-8")], _HELP)
            return
        status, body = self._answer(request)
        headers = [("content-type", "application/json")]
        if status == 405:
            headers.append(("allow", ", ".join(_METHODS[request.path])))
        await connection.respond(request, status, headers, msgspec.json.encode(body) + b"\n")

    def _answer(self, request: Request) -> tuple[int, object]:
        if request.path not in _METHODS:
            return 404, _error("", f"nothing here; there are {', '.join(_METHODS)}")
        if request.method not in _METHODS[request.path]:
            return 405, _error("", f"{request.path} takes {', '.join(_METHODS[request.path])}")
        try:
            return 200, self._act(request)
        except FaultError as error:
            return 400, _error(error.field, error.message)

    def _act(self, request: Request) -> object:
        provider = self._provider
        match request.method, request.path:
            case "PUT", "/faults":
                provider.set_faults(*parse(request.body))
            case "DELETE", "/faults":
                provider.clear()
            case "POST", "/die":
                try:
                    die = msgspec.json.decode(request.body or b"{}", type=Die)
                except msgspec.MsgspecError as error:
                    raise explained(error) from error
                provider.die(die.mode, die.for_s)
            case "POST", "/revive":
                provider.revive()
        return provider.faults if request.path == "/faults" else self._stats()

    def _stats(self) -> dict[str, Any]:
        provider = self._provider
        return {
            "name": provider.name,
            "family": provider.family,
            "base_url": provider.base_url,
            "dead": provider.dead,
            "connections": provider.connections,
            "connections_accepted": provider.connections_accepted,
            "tls_failures": provider.tls_failures,
            "requests": provider.requests.snapshot(),
        }


def _error(field: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"field": field, "message": message}}
