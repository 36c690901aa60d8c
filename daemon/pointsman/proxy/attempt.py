"""One attempt at one target: send the request, and hear as much of the answer as it takes to judge it. Sans-I/O.

    state     what happens                                   → what follows
    waiting   the answer's head comes                        → whole, or first (a successful stream of events)
    waiting   its connection turns out to be stale           → sent once more on a fresh one
    whole     its end comes                                  → judged: failed, or a whole answer
    whole     its end comes, and refuses the credential      → waiting, with the other one if there is one
    whole     it grows too large to be held                  → begun
    first     a real event comes                             → begun
    first     an error event, or its end, comes before one   → failed, if another target may do better; else begun
    any       it breaks, or its deadline passes              → failed

Nothing has reached the caller when a verdict is given, so whatever is found wrong can still fall over unseen.
"""

import math
import time
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from pointsman import logs
from pointsman.core.errors import Fault, Outcome, Wire, of_stream_error, of_wire
from pointsman.proxy.books import Account
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.job import Job
from pointsman.proxy.judging import WHOLE_BYTES_MAX, Head, Whole, judged
from pointsman.proxy.ratelimits import tightest
from pointsman.proxy.sides import Caller, Line, Providers, Recipient
from pointsman.proxy.sse import Watch

log = logs.get("proxy")

# How often it is looked whether an answer that is overdue can still be hoped for.
LOOK_S: Final = 0.5


class Begun(Struct, frozen=True):
    """An answer that is still coming (or has `ended`); `held`: what has come of it; `watch` None: no event stream."""

    head: Head
    held: bytes
    watch: Watch | None
    ended: bool = False


# What came of an attempt: how it failed, a complete answer, one that has begun.
Verdict = Outcome | Whole | Begun


class State(Enum):
    """Where the attempt stands; see the table above."""

    WAITING = auto()
    WHOLE = auto()
    FIRST = auto()


_WAITING: Final = State.WAITING
_WHOLE: Final = State.WHOLE
_FIRST: Final = State.FIRST
_CREDENTIAL: Final = Fault.CREDENTIAL


class Attempt:
    """Its methods return the verdict as soon as there is one, and are not called any more then.

    `recipient` is who hears the provider; `rest`: the targets that may be tried after this one.
    """

    __slots__ = (
        "_began_s", "_caller", "_credential", "_first", "_forwarder", "_head", "_held", "_job", "_line", "_look_s",
        "_providers", "_recipient", "_resent", "_rest", "_size", "_state", "_watch", "account",
    )  # fmt: skip

    def __init__(
        self,
        forwarder: Forwarder,
        providers: Providers,
        caller: Caller,
        recipient: Recipient,
        job: Job,
        account: Account,
        rest: tuple[str, ...],
    ) -> None:
        self._forwarder = forwarder
        self._providers = providers
        self._caller = caller
        self._recipient = recipient
        self._job = job
        self._rest = rest
        self._line: Line | None = None
        self._first: Whole | None = None  # the answer that refused the first credential
        self.account = account

    def begin(self, now_s: float, *, moves: bool) -> Verdict | None:
        """Send the request; one that `moves` is given up when it is overdue and its target lost."""
        self._credential = self._forwarder.preferred.get(self.account.endpoint.provider, 0)
        return self._send(now_s, moves=moves)

    def _send(self, now_s: float, *, moves: bool = False) -> Verdict | None:
        """One try with one credential. The request leaves first, and it is worked out then how long to wait."""
        self._began_s = now_s
        self._resent = False
        try:
            self._put_on_line(fresh=False)
        except Exception:  # the border of an attempt: the next target may have what this one lacks
            log.exception("an attempt failed for a reason of our own", target=self.account.endpoint.target)
            return self.fails(of_wire(Wire.BAD_BODY))
        target = self.account.endpoint.target
        overdue_s = self._forwarder.patience_s(self._job, target, self._rest) if moves else math.inf
        self._look_s = now_s + overdue_s
        self._caller.alarm(min(now_s + self._limit_s, self._look_s))
        return None

    def _put_on_line(self, *, fresh: bool) -> None:
        job, endpoint = self._job, self.account.endpoint
        self._state: State = _WAITING
        self._held: list[bytes] = []
        self._size = 0
        head, body = job.written_for(endpoint, self._credential)
        if not job.kept:  # sent once, and so on a connection that is sure to be open
            job.spend_body()
            fresh = True
        self._line = self._providers.send(
            self._recipient, endpoint.origin, head, body, is_head=job.asked.is_head, fresh=fresh
        )

    @property
    def _limit_s(self) -> float:
        timeouts = self._forwarder.timeouts
        return timeouts.first_byte_s if self._job.streamed else timeouts.response_s

    def drop(self) -> None:
        """Break it off; the provider hears of it."""
        line, self._line = self._line, None
        if line is not None:
            line.drop(self._recipient)

    def hold(self, *, held: bool) -> None:
        """Read no more from the provider while `held`."""
        if self._line is not None:
            self._line.hold(self._recipient, held=held)

    def fails(self, outcome: Outcome) -> Verdict:
        """It is over without an answer worth passing on."""
        self.drop()
        return outcome if self._first is None else self._first  # the other credential was only a try

    # --- what happens

    def heard(self, head: Head | None, data: bytes, now_s: float, *, ended: bool) -> Verdict | None:
        """The answer goes on."""
        if head is not None:
            self._head = head
            self._look_s = math.inf
            if head.tells_limit:
                self.account.rate_limit = tightest(head.limits(), time.time())
            if head.is_event_stream and not self._job.asked.is_head:
                self._state = _FIRST
                self._watch = Watch(self._job.api)
            else:
                self._state = _WHOLE
        if ended:
            self._line = None
        if self._state is _FIRST:
            return self._await_event(data, ended=ended)
        if ended and not self._held:
            return self._judge(data, now_s)
        self._held.append(data)
        if ended:
            return self._judge(b"".join(self._held), now_s)
        self._size += len(data)
        if self._size <= WHOLE_BYTES_MAX:
            return None
        if self._head.ok:
            self.account.answered()
        return self._begun(None)

    def failed(self, wire: Wire, *, stale: bool) -> Verdict | None:
        """Its connection broke."""
        if stale and not self._resent and not self._job.spent:
            self._resent = True
            self._put_on_line(fresh=True)
            return None
        return self.fails(of_wire(wire))

    def ring(self, now_s: float) -> Verdict | None:
        """Its alarm rings."""
        deadline_s = self._began_s + self._limit_s
        target = self.account.endpoint.target
        given_up = now_s >= self._look_s and self._forwarder.lost(self._job, target, self._rest, now_s)
        if given_up or now_s >= deadline_s:
            wire = Wire.FIRST_BYTE_TIMEOUT if self._job.streamed else Wire.RESPONSE_TIMEOUT
            return self.fails(of_wire(wire))
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
        self._caller.alarm(min(deadline_s, self._look_s))
        return None

    # --- judging

    def _judge(self, body: bytes, now_s: float) -> Verdict | None:
        account = self.account
        outcome, made = judged(self._head, body, account.tokens)
        if outcome.status == 0:
            return self.fails(outcome)
        answer = Whole(outcome, self._head, body, made)
        if self._first is None:
            if outcome.fault is not _CREDENTIAL or len(account.endpoint.own_lines) < 2 or self._job.spent:
                return answer
            self._first = answer
            self._credential += 1
            return self._send(now_s)
        if outcome.fault is _CREDENTIAL:
            return self._first
        self._forwarder.preferred[account.endpoint.provider] = self._credential
        return answer

    def _await_event(self, data: bytes, *, ended: bool) -> Verdict | None:
        """Hold a stream back until its first real event: a stream that begins with an error is not begun."""
        watch = self._watch
        self._held.append(watch.feed(data))
        if ended and not watch.begun and watch.error is None:
            self._held.append(watch.finish())
        if watch.error is not None and not watch.begun:
            outcome = of_stream_error(watch.error)
            if outcome.falls_over:
                return self.fails(outcome)
        elif not watch.begun:
            return self.fails(of_wire(Wire.TRUNCATED)) if ended else None
        self.account.tokens = watch.tokens
        if watch.begun:
            self.account.answered()
        return self._begun(watch)

    def _begun(self, watch: Watch | None) -> Begun:
        if self._first is not None:
            self._forwarder.preferred[self.account.endpoint.provider] = self._credential
        held, self._held = b"".join(self._held), []
        return Begun(self._head, held, watch, self._line is None)
