"""One attempt's account: opened when the request goes out, closed exactly once, whatever becomes of it."""

import time
from collections.abc import Callable, Collection

from opentelemetry.trace import Span, Tracer, set_span_in_context

from pointsman import telemetry as t
from pointsman.core.errors import Outcome
from pointsman.core.evidence import RateLimit
from pointsman.proxy.arms import Arms
from pointsman.proxy.clock import StoreClock
from pointsman.proxy.job import Job
from pointsman.proxy.limits import Bounds, Limits
from pointsman.proxy.local import LocalBreaker
from pointsman.proxy.outcomes import TELLS_NOTHING, Ledger, Seen
from pointsman.proxy.requests import Attempt
from pointsman.proxy.spans import end_attempt
from pointsman.proxy.tokens import Tokens
from pointsman.proxy.view import Endpoint, View


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
        self._began_s = time.monotonic()
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
            self._span = books.tracer.start_span(t.PROXY_ATTEMPT, context=set_span_in_context(parent))

    def answered(self) -> None:
        """The first thing that counts of a good answer has come."""
        self._first_s = time.monotonic()
        if self._ticket:
            self._books.local.answered(
                self.endpoint.target, self._ticket, self._first_s, streamed=self._job.streamed
            )

    def close(self, outcome: Outcome) -> None:
        """The attempt is over. Only the first call counts."""
        if self._closed:
            return
        self._closed = True
        now_s = time.monotonic()
        latency_ms = (now_s - self._began_s) * 1000
        limits = self._books.limits
        limits.ended(outcome)
        if self.endpoint.max_in_flight:
            limits.leave(self.endpoint.target)
        first_ms = None if self._first_s is None else (self._first_s - self._began_s) * 1000
        attempt = Attempt(
            self.endpoint.target, self.reason, outcome.fault.value, outcome.detail, outcome.status, latency_ms
        )
        self._job.record.attempts.append(attempt)
        if self._ticket:
            late = self._books.local.ended(
                self.endpoint.target, self._ticket, outcome, now_s, streamed=self._job.streamed
            )
            self._count(outcome, latency_ms, first_ms, late=late)
        if self._grant and outcome.fault in TELLS_NOTHING:
            self._books.grants.give_back(self.endpoint.target, self._grant)
        if self._span is not None:
            end_attempt(self._span, self._job, self.endpoint, self.reason, outcome, self.tokens)

    def _count(self, outcome: Outcome, latency_ms: float, first_ms: float | None, *, late: bool) -> None:
        prices = self.endpoint.prices
        cost_usd = self.tokens.into * prices.input_usd_per_mtok + self.tokens.out * prices.output_usd_per_mtok
        seen = Seen(
            target=self.endpoint.target,
            outcome=outcome,
            streamed=self._job.streamed,
            latency_ms=latency_ms,
            first_token_ms=first_ms if self._job.streamed else None,
            tokens_in=self.tokens.into,
            tokens_out=self.tokens.out,
            cost_usd=cost_usd / 1e6,
            caller=self._job.caller,
            rate_limit=self.rate_limit,
            generation=self.endpoint.generation,
            grant=self._grant,
            synthetic=self._job.synthetic,
            stamp=self._stamp,
            late=late,
        )
        self._books.arms.record(seen)
        within_s = self._books.ledger.record(seen, self._books.clock.now_s())
        if within_s is not None:
            self._books.wake(within_s)


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
