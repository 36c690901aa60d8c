"""Where a request may go, in which order, and what its caller is told when none of that served it."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from random import random
from typing import Final

from pointsman.config.models import TimeoutSettings
from pointsman.core.table import RouteEntry
from pointsman.proxy.api import stored_response_id
from pointsman.proxy.books import Books
from pointsman.proxy.job import Job
from pointsman.proxy.local import Standing
from pointsman.proxy.pick import Order, Situation, order, shares_now, steady_targets
from pointsman.proxy.pins import Pins
from pointsman.proxy.routing import Route, View

REMEMBERED_RESPONSES: Final = 10_000
CANNOT_MOVE: Final = "cannot move"


class Way(Enum):
    """Where a request may be served. One that is sought is asked for along the chain until an account knows it."""

    MOVES = "by any target of its route"
    STAYS = "by one target only"
    SOUGHT = "by one target only, and which one is not known here"


_MOVES: Final = Way.MOVES


class Homes:
    """Which target made which stored response: a request that goes on from one has to go there."""

    def __init__(self) -> None:
        self._targets: OrderedDict[str, str] = OrderedDict()

    def remember(self, response_id: str, target: str) -> None:
        """`target` has `response_id` (nothing if it is "")."""
        if not response_id:
            return
        self._targets[response_id] = target
        self._targets.move_to_end(response_id)
        if len(self._targets) > REMEMBERED_RESPONSES:
            self._targets.popitem(last=False)

    def of(self, response_id: str) -> str:
        """The target that made it, or ""."""
        return self._targets.get(response_id, "")


class Forwarder:
    """What all requests of a proxy share on their way: where each may go, and what was learnt of the others.

    `preferred`: provider → which of its credentials works.
    """

    def __init__(
        self,
        books: Books,
        pins: Pins,
        view: Callable[[], View | None],
        timeouts: TimeoutSettings,
        *,
        ping_after_s: float,
    ) -> None:
        self.books = books
        self.timeouts = timeouts
        self.ping_after_s = ping_after_s
        self.preferred: dict[str, int] = {}
        self._pins = pins
        self._view = view
        self._homes = Homes()

    def made(self, job: Job, target: str, response_id: str) -> None:
        """`target` knows the stored response that the request goes on from, and made `response_id` ("": none)."""
        self._homes.remember(_made_by(job), target)
        self._homes.remember(response_id, target)

    def order(self, job: Job, now_s: float) -> tuple[Order, Way]:
        """The targets to try, and how far the request may go."""
        route = job.view.routes[job.route]
        head, made_by = job.head, _made_by(job)
        if made_by or job.of_account or (head is not None and (head.conversation or head.file)):
            maker = self._homes.of(made_by)
            home = maker or job.view.home.get(job.route, "")
            chain = route.entry.chain
            if home not in job.view.table.targets:
                home = next(iter(chain), "")
            way = Way.SOUGHT if made_by and not maker else Way.STAYS
            places = dict.fromkeys((home, *chain)) if way is Way.SOUGHT else (home,)
            return Order(tuple(place for place in places if place in job.view.endpoints), CANNOT_MOVE), way
        if route.later or not self._is_calm(job, route, now_s):
            return self._order_now(job, route.entry, now_s), _MOVES
        return route.calm.order(job.key, random()), _MOVES

    def _is_calm(self, job: Job, route: Route, now_s: float) -> bool:
        """Does nothing but the table say where the request goes?"""
        troubled = self.books.local.troubled(now_s)
        return not (
            self._pins.any
            or not route.is_open
            or (job.counts and job.view.grants)
            or job.synthetic
            or job.embeds
            or (troubled and not troubled.isdisjoint(route.entry.chain))
            or (troubled and not troubled.isdisjoint(route.entry.shares_bp))
        )

    def _order_now(self, job: Job, route: RouteEntry, now_s: float) -> Order:
        shares = shares_now(route, job.view.run_out(job.route, now_s))
        if not shares:
            return Order((), "")
        situation = self._situation(job, route, shares, now_s)
        return order(job.route, route, shares, situation, key=job.key, u=random())

    def patience_s(self, job: Job, target: str, rest: Sequence[str]) -> float:
        """After how many seconds it is asked whether `target` is `lost` to the request; inf: never.

        A stream has its deadline for the first event; for a whole answer ten minutes are not too long.
        """
        return math.inf if job.streamed or not rest else self.books.local.patience_s(target)

    def lost(self, job: Job, target: str, rest: Sequence[str], now_s: float) -> bool:
        """Is `target` out by the present table or by this proxy's judgement, while one of `rest` is in?"""
        view = self._view() or job.view
        route = view.table.routes.get(job.route)
        if route is None:
            return False
        local = self.books.local

        def is_out(name: str) -> bool:
            endpoint = view.endpoints.get(name)
            if endpoint is None:
                return True
            return local.standing(name, endpoint.generation, now_s, streamed=False) is Standing.OUT

        is_out(target)  # notices a hang
        out = target in route.chain[route.last_resort :] or local.broken_down(target)
        return out and any(other in steady_targets(route) and not is_out(other) for other in rest)

    def _situation(self, job: Job, route: RouteEntry, shares: Mapping[str, int], now_s: float) -> Situation:
        endpoints = job.view.endpoints
        local = self.books.local
        pin = self._pins.of(job.route, now_s)
        members = {*route.chain, *shares, *(pin.shares_bp if pin else ())}
        usable = {name for name in members if name in endpoints}
        if job.embeds:
            usable = {name for name in usable if endpoints[name].model == home_model(job)}
        may_try = job.counts and job.view.grants and not job.arm
        return Situation(
            out={
                name
                for name in usable
                if local.standing(name, endpoints[name].generation, now_s, streamed=job.streamed)
                is Standing.OUT
            },
            unusable=members - usable,
            trial=self.books.grants.offer(job.view, usable.intersection(route.chain)) if may_try else "",
            asked=job.arm,
            pinned_bp=pin.shares_bp if pin else None,
            forced=pin.force if pin else False,
        )


def _made_by(job: Job) -> str:
    """The id of the stored response that the request goes on from or asks for, or ""."""
    return job.head.previous_response_id if job.head else stored_response_id(job.asked.path)


def home_model(job: Job) -> str:
    """The model whose embeddings the route's callers have stored: its configured first target's, "" if unknown."""
    home = job.view.table.targets.get(job.view.home.get(job.route, ""))
    return home.model if home else ""
