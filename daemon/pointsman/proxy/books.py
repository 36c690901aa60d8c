"""One attempt's account: opened when the request goes out, closed exactly once, whatever becomes of it."""

from collections.abc import Callable, Collection
from time import monotonic
from typing import Final

from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from pointsman import logs
from pointsman import telemetry as t
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import RateLimit
from pointsman.proxy.arms import Arms
from pointsman.proxy.clock import StoreClock
from pointsman.proxy.job import Job
from pointsman.proxy.limits import Bounds, Limits
from pointsman.proxy.local import LocalBreaker
from pointsman.proxy.outcomes import TELLS_NOTHING, Ledger, Seen
from pointsman.proxy.requests import Attempt
from pointsman.proxy.routing import Endpoint, View
from pointsman.proxy.spans import end_attempt
from pointsman.proxy.tokens import Tokens

_log = logs.get("proxy")
_OK: Final = Fault.OK


class Grants:
    """Trials: one request per grant, and a grant that told nothing (the caller hung up) may be used again."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def offer(self, view: View, among: Collection[str]) -> str:
        """A target `among` these that a request may try by a grant, or ""."""
        for target, grant in view.grants.items():
            if grant > self._used.get(target, 0) and target in among:
                return target
        return ""

    def take(self, target: str, grant: int) -> None:
        """The grant is being used."""
        self._used[target] = grant

    def give_back(self, target: str, grant: int) -> None:
        """It was not used up after all."""
        if self._used.get(target) == grant:
            self._used[target] = grant - 1


class Account:
    """One attempt. `tokens` may be filled in until it is closed."""

    def __init__(
        self,
        books: "Books",
        job: Job,
        endpoint: Endpoint,
        reason: str,
        grant: int,
        stamp: str,
        parent: Span | None,
    ) -> None:
        self._books = books
        self._job = job
        self._grant = grant
        self._stamp = stamp
        self._began_s = monotonic()
        self._first_s: float | None = None
        self._closed = False
        self.endpoint = endpoint
        self.reason = reason
        self.tokens = Tokens()
        self.rate_limit: RateLimit | None = None
        self._ticket = 0
        if job.counts:
            self._ticket = books.local.began(
                endpoint.target, endpoint.generation, self._began_s, streamed=job.streamed
            )
        self._span = None
        if parent is not None:
            self._span = books.tracer.start_span(
                t.PROXY_ATTEMPT, context=set_span_in_context(parent), kind=SpanKind.CLIENT
            )

    def answered(self) -> None:
        """The first thing that counts of a good answer has come."""
        self._first_s = monotonic()
        if self._ticket:
            self._books.local.answered(
                self.endpoint.target, self._ticket, self._first_s, streamed=self._job.streamed
            )

    def close(self, outcome: Outcome) -> None:
        """The attempt is over. Only the first call counts."""
        if self._closed:
            return
        self._closed = True
        now_s = monotonic()
        latency_ms = (now_s - self._began_s) * 1000
        books, job, endpoint = self._books, self._job, self.endpoint
        limits = books.limits
        limits.ended(outcome)
        if endpoint.max_in_flight:
            limits.leave(endpoint.target)
        first_ms = None if self._first_s is None else (self._first_s - self._began_s) * 1000
        fault = outcome.fault._value_
        job.record.attempts.append(
            Attempt(endpoint.target, self.reason, fault, outcome.detail, outcome.status, latency_ms)
        )
        if outcome.fault is not _OK:
            _log.debug(
                "{target} failed: {why}",
                target=endpoint.target, why=outcome.detail or fault, fault=fault, route=job.route, request=job.id,
            )  # fmt: skip
        if self._ticket:
            late = books.local.ended(endpoint.target, self._ticket, outcome, now_s, streamed=job.streamed)
            self._count(outcome, latency_ms, first_ms, late=late)
        if self._grant and outcome.fault in TELLS_NOTHING:
            books.grants.give_back(endpoint.target, self._grant)
        if self._span is not None:
            end_attempt(self._span, job, endpoint, self.reason, outcome, self.tokens)

    def _count(self, outcome: Outcome, latency_ms: float, first_ms: float | None, *, late: bool) -> None:
        books, job, endpoint, tokens = self._books, self._job, self.endpoint, self.tokens
        seen = Seen(
            target=endpoint.target,
            outcome=outcome,
            streamed=job.streamed,
            latency_ms=latency_ms,
            first_token_ms=first_ms if job.streamed else None,
            tokens_in=tokens.into,
            tokens_out=tokens.out,
            cost_usd=tokens.into * endpoint.usd_in + tokens.out * endpoint.usd_out,
            caller=job.caller,
            rate_limit=self.rate_limit,
            generation=endpoint.generation,
            grant=self._grant,
            synthetic=job.synthetic,
            stamp=self._stamp,
            late=late,
        )
        if seen.stamp:
            books.arms.record(seen)
        within_s = books.ledger.record(seen, books.clock.now_s())
        if within_s is not None:
            books.wake(within_s)


class Books:
    """What all attempts are entered in. `wake(within_s)`: the leader is to hear of something so soon."""

    def __init__(
        self,
        local: LocalBreaker,
        ledger: Ledger,
        clock: StoreClock,
        tracer: Tracer,
        wake: Callable[[float], None],
        limits: Limits | None = None,
    ) -> None:
        self.local = local
        self.ledger = ledger
        self.clock = clock
        self.tracer = tracer
        self.wake = wake
        self.limits = limits or Limits(Bounds())
        self.grants = Grants()
        self.arms = Arms()

    def open(
        self, job: Job, endpoint: Endpoint, reason: str, parent: Span | None, *, trial: bool, stamp: str
    ) -> Account:
        """An attempt begins; `trial`: the one that the table granted; `stamp`: the ramp's that it counts under."""
        grant = job.view.grants.get(endpoint.target, 0) if trial else 0
        if grant:
            self.grants.take(endpoint.target, grant)
        if stamp:
            self.arms.began(stamp)
        if endpoint.max_in_flight:
            self.limits.enter(endpoint.target)
        return Account(self, job, endpoint, reason, grant, stamp, parent)
