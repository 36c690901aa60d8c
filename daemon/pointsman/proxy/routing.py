"""What requests are routed by: a table, with this proxy's own credentials bound to its targets. Immutable.

Every request looks here some thirty times: these are plain classes, compiled with the path of a request.
"""

import ssl
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from pointsman.config.models import PriceSettings
from pointsman.core.table import RouteEntry, Table
from pointsman.proxy.pick import Calm


class Origin(NamedTuple):
    """Where connections go to. `tls` None: in the clear."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class Endpoint:
    """A target that requests can be sent to.

    `max_in_flight`: requests at once from this proxy; `max_connections`: its connections to `origin`; 0 any number.
    `own_lines`: the header lines that are put in, Host first, one set for each credential, the preferred first;
    `overridden`: the names (in lower case) of a caller's headers that they take the place of.
    `model_json`: the name as a body has it; `usd_in`, `usd_out`: the price of a token.
    """

    __slots__ = (
        "base_url", "family", "generation", "max_connections", "max_in_flight", "model", "model_json", "origin",
        "overridden", "own_lines", "provider", "target", "usd_in", "usd_out",
    )  # fmt: skip

    def __init__(
        self,
        *,
        target: str,
        provider: str,
        model: str,
        family: str,
        base_url: str,
        generation: int,
        origin: Origin,
        own_lines: tuple[bytes, ...],
        overridden: frozenset[str],
        prices: PriceSettings,
        max_in_flight: int = 0,
        max_connections: int = 0,
    ) -> None:
        self.target = target
        self.provider = provider
        self.model = model
        self.model_json = msgspec.json.encode(model)
        self.family = family
        self.base_url = base_url
        self.generation = generation
        self.origin = origin
        self.own_lines = own_lines
        self.overridden = overridden
        self.usd_in = prices.input_usd_per_mtok / 1e6
        self.usd_out = prices.output_usd_per_mtok / 1e6
        self.max_in_flight = max_in_flight
        self.max_connections = max_connections


class Route:
    """A route of a table. `calm` are its orders while nothing stands against any target; `later`: overlays run out."""

    __slots__ = ("_calm", "_unusable", "entry", "family", "is_open", "later", "name", "sticky_by")

    def __init__(self, name: str, entry: RouteEntry, endpoints: Mapping[str, Endpoint]) -> None:
        self.name = name
        self.entry = entry
        self.family = entry.family
        self.sticky_by = entry.sticky_by
        self.later = bool(entry.later)
        self.is_open = bool(entry.shares_bp)
        self._unusable = {*entry.chain, *entry.shares_bp}.difference(endpoints)
        self._calm: Calm | None = None

    @property
    def calm(self) -> Calm:
        """Made when it is first asked for."""
        if self._calm is None:
            self._calm = Calm(self.name, self.entry, self.entry.shares_bp, self._unusable)
        return self._calm


class View:
    """What requests are routed by. A request keeps the View that it began with.

    `missing`: targets that this proxy cannot serve, with the reason; `grants`: the trials granted to this proxy;
    `deadlines`: overlay → monotonic seconds; `home`: route → the first target of its configured order, where
    requests that cannot move go; `routes` are made from the table, unless they have been already.
    """

    __slots__ = ("deadlines", "endpoints", "grants", "home", "missing", "routes", "table", "version")

    def __init__(
        self,
        *,
        table: Table,
        endpoints: dict[str, Endpoint],
        missing: dict[str, str],
        grants: dict[str, int],
        deadlines: Mapping[str, float],
        home: Mapping[str, str],
        routes: dict[str, Route] | None = None,
    ) -> None:
        self.table = table
        self.version = str(table.version)
        self.endpoints = endpoints
        self.missing = missing
        self.grants = grants
        self.deadlines = deadlines
        self.home = home
        self.routes = routes or {name: Route(name, entry, endpoints) for name, entry in table.routes.items()}

    def renewed(self, deadlines: Mapping[str, float]) -> "View":
        """The same, with other deadlines."""
        return View(
            table=self.table,
            endpoints=self.endpoints,
            missing=self.missing,
            grants=self.grants,
            deadlines=deadlines,
            home=self.home,
            routes=self.routes,
        )

    def run_out(self, route: str, now_s: float) -> tuple[str, ...]:
        """The overlays of `route` whose time is over at `now_s` (monotonic). One without a deadline is over."""
        later = self.table.routes[route].later
        return tuple(stage.overlay for stage in later if self.deadlines.get(stage.overlay, now_s) <= now_s)
