"""A request's way along the chain: pick, try, fall over, and pass on what came of it."""

import math
import random
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from msgspec import Struct
from opentelemetry.trace import Span

from pointsman.core.errors import ABANDONED, Effect, Outcome
from pointsman.core.model import Family
from pointsman.core.table import RouteEntry
from pointsman.proxy import relay
from pointsman.proxy.api import FALLBACK_EXHAUSTED, Api, error_body, stored_response_id
from pointsman.proxy.books import Account, Books
from pointsman.proxy.exchange import Begun, Exchange, Failed, Whole
from pointsman.proxy.job import Job
from pointsman.proxy.local import Standing
from pointsman.proxy.pick import Order, Situation, order, same_model, shares_now
from pointsman.proxy.pins import Pins

REMEMBERED_RESPONSES: Final = 10_000
STAYS: Final = "cannot move"


class Tried(Struct, frozen=True):
    """A target that did not serve the request, and why."""

    target: str
    outcome: Outcome


class Homes:
    """Which target made which stored response: a request that goes on from one has to go there."""

    def __init__(self) -> None:
        self._targets: OrderedDict[str, str] = OrderedDict()

    def remember(self, response_id: str, target: str) -> None:
        """`target` answered with `response_id`."""
        self._targets[response_id] = target
        self._targets.move_to_end(response_id)
        if len(self._targets) > REMEMBERED_RESPONSES:
            self._targets.popitem(last=False)

    def of(self, response_id: str) -> str:
        """The target that made it, or ""."""
        return self._targets.get(response_id, "")


class Forwarder:
    """Forwards jobs. One for all requests of a proxy."""

    def __init__(self, exchange: Exchange, relay_: relay.Relay, books: Books, pins: Pins) -> None:
        self._exchange = exchange
        self._relay = relay_
        self._books = books
        self._pins = pins
        self._homes = Homes()

    async def forward(self, request: web.BaseRequest, job: Job, span: Span) -> web.StreamResponse:
        """Answer `request`. Cancelled when the caller hangs up: the provider is told at once."""
        chosen, stays = self._order(job)
        tried: list[Tried] = []
        for number, target in enumerate(chosen.targets, 1):
            reason = chosen.reason
            if tried:
                reason = f"fell over: {tried[-1].target} {tried[-1].outcome.detail}"
            account = self._books.open(job, job.view.endpoints[target], reason, span)
            try:
                answer = await self._exchange.attempt(job, account)
                if isinstance(answer, Failed) or (
                    isinstance(answer, Whole) and answer.outcome.falls_over and not stays
                ):
                    account.close(answer.outcome)
                    tried.append(Tried(target, answer.outcome))
                    continue
                return await self._answer(request, job, answer, account, number)
            finally:
                account.close(
                    ABANDONED
                )  # only if nothing closed it: the caller hung up, or we are going down
        return exhausted(job, tried)

    async def _answer(
        self, request: web.BaseRequest, job: Job, answer: Whole | Begun, account: Account, number: int
    ) -> web.StreamResponse:
        target = account.endpoint.target
        extra = own_headers(job) | {
            "x-pointsman-target": target,
            "x-pointsman-attempt": str(number),
            "x-pointsman-reason": account.reason,
        }
        if isinstance(answer, Whole):
            account.close(answer.outcome)
            if job.api is Api.RESPONSES and answer.response_id:
                self._homes.remember(answer.response_id, target)
            return relay.whole(answer, extra)
        try:
            return await self._relay.begun(request, job, answer, account, extra)
        finally:
            if job.api is Api.RESPONSES and answer.watch is not None and answer.watch.response_id:
                self._homes.remember(answer.watch.response_id, target)

    def _order(self, job: Job) -> tuple[Order, bool]:
        """The targets to try, and whether the request has to stay where it goes."""
        route = job.view.table.routes[job.route]
        made_by = (job.head.previous_response_id if job.head else "") or stored_response_id(job.path)
        if made_by or job.api is Api.ACCOUNT:
            home = self._homes.of(made_by) or job.view.home.get(job.route, "")
            if home not in job.view.table.targets:
                home = next(iter(route.chain), "")
            return Order((home,) if home in job.view.endpoints else (), STAYS), True
        now_s = time.monotonic()
        shares = shares_now(route, job.view.run_out(job.route, now_s))
        if not shares:
            return Order((), ""), False
        situation = self._situation(job, route, now_s)
        chosen = order(job.route, route, shares, situation, key=job.key, u=random.random())
        if job.api is Api.EMBEDDINGS:
            chosen = same_model(chosen, {name: entry.model for name, entry in job.view.table.targets.items()})
        return chosen, False

    def _situation(self, job: Job, route: RouteEntry, now_s: float) -> Situation:
        endpoints = job.view.endpoints
        local = self._books.local
        pin = self._pins.of(job.route, now_s)
        may_try = job.counts and job.api is not Api.EMBEDDINGS
        return Situation(
            out={
                name
                for name in route.chain
                if name in endpoints
                and local.standing(name, endpoints[name].generation, now_s, streamed=job.streamed)
                is Standing.OUT
            },
            unusable={name for name in route.chain if name not in endpoints},
            trial=self._books.grants.offer(job.view, route.chain) if may_try and job.view.grants else "",
            pinned_bp=pin.shares_bp if pin else None,
            forced=pin.force if pin else False,
        )


def own_headers(job: Job) -> dict[str, str]:
    """The headers of every answer, whoever gave it."""
    return {"x-pointsman-request-id": job.id, "x-pointsman-table": job.view.version}


def exhausted(job: Job, tried: list[Tried]) -> web.Response:
    """No target could serve the request: the family's own error, naming each target and why."""
    route = job.view.table.routes[job.route]
    if tried:
        told = "; ".join(f"{one.target}: {one.outcome.detail}" for one in tried)
        message = f"no target of {job.route} answered ({told})"
    elif job.api is Api.ACCOUNT:
        message = (
            f"this proxy cannot reach the account that {job.route} keeps files, batches and responses at"
        )
    else:
        message = (
            f"{job.route} has no target to send to: {route.closed or 'none has a credential on this proxy'}"
        )
    headers: Mapping[str, str] = own_headers(job) | {"x-should-retry": "false"} | _retry_after(tried)
    return error_response(job.family, 502, message, FALLBACK_EXHAUSTED, headers)


def _retry_after(tried: list[Tried]) -> dict[str, str]:
    """When every target is throttled, the first of them to be back says when to come again."""
    waits_s = [one.outcome.retry_after_s or 1.0 for one in tried if one.outcome.effect is Effect.THROTTLE]
    if not tried or len(waits_s) < len(tried):
        return {}
    return {"retry-after": str(math.ceil(min(waits_s)))}


def error_response(
    family: Family,
    status: int,
    message: str,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    code: str = "",
) -> web.Response:
    """An error of the proxy's own, in the family's shape."""
    headers = headers or {}
    request_id = headers.get("x-pointsman-request-id", "")
    body = error_body(family, status, message, kind=kind, code=code, request_id=request_id)
    return web.Response(
        status=status, body=body, content_type="application/json", headers={"Server": "pointsman", **headers}
    )
