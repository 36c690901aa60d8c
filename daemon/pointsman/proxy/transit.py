"""One request on its way: attempts, falling over, and passing on what came of it. Sans-I/O.

    state     what happens                        → what follows
    waiting   the answer's head comes             → whole, or first (a successful stream of events)
    whole     its end comes                       → judged: over, or the next target
    whole     it is too large to be held          → passing
    first     a real event comes                  → passing
    first     an error event, or its end          → the next target, if another may do better; else passing
    any of    it fails, or its deadline passes    → the next target; over with none left
    these
    passing   bytes, silence, the end             → passed on, pings, over
    passing   it breaks                           → the family's own last words and a cut connection: over
    any       the caller is gone                  → the attempt is dropped, so that the provider hears of it: over

Until `passing` nothing has reached the caller, so whatever is found wrong can fall over unseen. From then on there is
no falling over, only ending honestly. The two sides are `Caller` and `Providers`; time is passed in, as monotonic
seconds.
"""

import math
import time
from enum import Enum, auto
from typing import Final

from opentelemetry.trace import Span

from pointsman import logs
from pointsman.core.errors import ABANDONED, Fault, Outcome, Wire, of_stream_error, of_wire
from pointsman.proxy import lenient
from pointsman.proxy.api import Api
from pointsman.proxy.books import Account
from pointsman.proxy.forward import Forwarder, Tried, Way, exhausted, failed_here, goes_on, going_down, told
from pointsman.proxy.job import Job
from pointsman.proxy.judging import WHOLE_BYTES_MAX, Head, Whole, judged
from pointsman.proxy.ratelimits import tightest
from pointsman.proxy.relay import End, Relay
from pointsman.proxy.sides import Caller, Line, Providers
from pointsman.proxy.spans import end_request
from pointsman.proxy.sse import Watch

log = logs.get("proxy")

# How often it is looked whether an answer that is overdue can still be hoped for.
LOOK_S: Final = 0.5
_CUT_OFF: Final = Outcome(Fault.ABANDONED, "this proxy is going down")


class State(Enum):
    """Where the request stands; see the table above."""

    WAITING = auto()
    WHOLE = auto()
    FIRST = auto()
    PASSING = auto()
    OVER = auto()


class Transit:
    """One request's way. The shell calls `begin` once, then whatever happens."""

    __slots__ = (
        "_account", "_answered", "_asked_again", "_began_s", "_caller", "_credential", "_forwarder", "_head",
        "_held", "_job", "_line", "_look_s", "_number", "_order", "_providers", "_refusals", "_relay", "_resent",
        "_size", "_span", "_tried", "_watch", "_way", "state",
    )  # fmt: skip

    def __init__(
        self, forwarder: Forwarder, providers: Providers, caller: Caller, job: Job, span: Span | None
    ) -> None:
        self._forwarder = forwarder
        self._providers = providers
        self._caller = caller
        self._job = job
        self._span = span
        self._tried: list[Tried] = []
        self._refusals: list[tuple[Whole, Account, int]] = []
        self._number = 0
        self._line: Line | None = None
        self._watch: Watch | None = None
        self.state = State.WAITING

    # --- attempts

    def begin(self, now_s: float) -> None:
        """Send the request on its way."""
        self._order, self._way = self._forwarder.order(self._job, now_s)
        self._next(now_s)

    def _next(self, now_s: float) -> None:
        """Try the next target, or say that none is left."""
        number, chosen, job = self._number, self._order, self._job
        if number >= len(chosen.targets):
            self._in_vain()
            return
        self._number += 1
        endpoint = job.view.endpoints[chosen.targets[number]]
        tried = self._tried
        reason = f"fell over: {tried[-1].target} {tried[-1].outcome.detail}" if tried else chosen.reason
        self._account = self._forwarder.books.open(
            job,
            endpoint,
            reason,
            self._span,
            trial=chosen.trial and not tried,
            stamp="" if tried else chosen.ramp,
        )
        self._answered: Whole | None = None
        self._look_s = math.inf
        if self._way is Way.MOVES:
            self._look_s = now_s + self._forwarder.patience_s(
                job, endpoint.target, chosen.targets[number + 1 :]
            )
        self._credential = self._forwarder.preferred.get(endpoint.provider, 0)
        self._send(now_s)

    def _send(self, now_s: float) -> None:
        """One try with one credential."""
        self._began_s = now_s
        self._resent = False
        self._caller.alarm(min(now_s + self._limit_s, self._look_s))
        try:
            self._put_on_line(fresh=False)
        except Exception:  # the border of an attempt: the next target may have what this one lacks
            log.exception("an attempt failed for a reason of our own", target=self._account.endpoint.target)
            self._fails(of_wire(Wire.BAD_BODY), now_s)

    def _put_on_line(self, *, fresh: bool) -> None:
        job, endpoint = self._job, self._account.endpoint
        self.state = State.WAITING
        self._held: list[bytes] = []
        self._size = 0
        head, body = job.written_for(endpoint, self._credential)
        self._line = self._providers.send(
            self, endpoint.origin, head, body, is_head=job.asked.is_head, fresh=fresh
        )

    @property
    def _limit_s(self) -> float:
        timeouts = self._forwarder.timeouts
        return timeouts.first_byte_s if self._job.streamed else timeouts.response_s

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.drop(self)

    def _fails(self, outcome: Outcome, now_s: float) -> None:
        """The attempt is over without an answer worth passing on."""
        self._drop()
        if self._answered is not None:  # the other credential was only a try
            self._deliver(self._answered, now_s)
            return
        self._account.close(outcome)
        self._tried.append(Tried(self._account.endpoint.target, outcome))
        self._next(now_s)

    def _in_vain(self) -> None:
        if self._way is Way.SOUGHT and (found := told(self._refusals, self._tried)):
            answer, self._account, self._number = found
            self._pass_whole(answer)
            return
        reply = exhausted(self._job, self._tried)
        self._over(reply.status)
        self._caller.reply(reply)

    # --- what the provider does

    def heard(self, head: Head | None, data: bytes, now_s: float, *, ended: bool) -> None:
        """The provider's answer goes on: its head if this is its beginning, more of its body, and its end."""
        try:
            if head is not None:
                self._opens(head)
            match self.state:
                case State.PASSING:
                    self._end(self._relay.pass_on(data, now_s, ended=ended))
                case State.FIRST:
                    self._await_event(data, now_s, ended=ended)
                case State.WHOLE:
                    self._collect(data, now_s, ended=ended)
                case _:
                    pass
        except Exception:  # the border of an attempt: what an answer does to us must not end the chain
            log.exception("an attempt failed for a reason of our own", target=self._account.endpoint.target)
            self.failed(Wire.BAD_BODY, now_s)

    def failed(self, wire: Wire, now_s: float, *, stale: bool = False) -> None:
        """The attempt broke. `stale`: its connection had been idle, and said nothing: that is nobody's failure.

        The request is then sent once more on a fresh one.
        """
        try:
            self._failed(wire, now_s, stale=stale)
        except Exception:  # the border of a request
            log.exception("a request failed for a reason of our own", request=self._job.id)
            self._give_up()

    def _failed(self, wire: Wire, now_s: float, *, stale: bool) -> None:
        if stale and not self._resent:
            self._resent = True
            self._put_on_line(fresh=True)
        elif self.state is State.PASSING:
            self._end(self._relay.broke(wire))
        elif self.state is not State.OVER:
            self._fails(of_wire(wire), now_s)

    def _give_up(self) -> None:
        """Our own fault, and no other way out: the caller must not wait for ever."""
        if self.state is not State.OVER:
            self._drop()
            self._account.close(of_wire(Wire.BAD_BODY))
            self._over(500)
        self._caller.fail(failed_here(self._job))

    def _opens(self, head: Head) -> None:
        self._head = head
        self._look_s = math.inf
        if head.tells_limit:
            self._account.rate_limit = tightest(head.text(), time.time())
        streamed = head.is_event_stream and not self._job.asked.is_head
        self._watch = Watch(self._job.api) if streamed else None
        self.state = State.WHOLE if self._watch is None else State.FIRST

    def _collect(self, data: bytes, now_s: float, *, ended: bool) -> None:
        self._held.append(data)
        self._size += len(data)
        if ended:
            self._line = None
            self._judge(data if len(self._held) == 1 else b"".join(self._held), now_s)
        elif self._size > WHOLE_BYTES_MAX:
            if self._head.ok:
                self._account.answered()
            self._begin_to_pass(b"".join(self._held), now_s)

    def _judge(self, body: bytes, now_s: float) -> None:
        account = self._account
        outcome, made = judged(self._head, body, account.tokens)
        if outcome.status == 0:
            self._fails(outcome, now_s)
            return
        answer = Whole(outcome, self._head, body, made)
        if outcome.fault is Fault.CREDENTIAL and self._has_other_credential():
            self._answered = answer
            self._credential += 1
            self._send(now_s)
        elif self._answered is None:
            self._deliver(answer, now_s)
        elif outcome.fault is Fault.CREDENTIAL:
            self._deliver(self._answered, now_s)
        else:
            self._forwarder.preferred[account.endpoint.provider] = self._credential
            self._deliver(answer, now_s)

    def _has_other_credential(self) -> bool:
        return self._answered is None and len(self._account.endpoint.own_lines) > 1

    def _deliver(self, answer: Whole, now_s: float) -> None:
        """Pass a whole answer on, unless the next target is to be asked after it."""
        if not goes_on(answer, self._way):
            self._pass_whole(answer)
            return
        self._account.close(answer.outcome)
        self._tried.append(Tried(self._account.endpoint.target, answer.outcome))
        self._refusals.append((answer, self._account, self._number))
        self._next(now_s)

    def _pass_whole(self, answer: Whole) -> None:
        account = self._account
        account.close(answer.outcome)
        if answer.outcome.ok:
            made = lenient.text(answer.id) if self._job.api is Api.RESPONSES else ""
            self._forwarder.made(self._job, account.endpoint.target, made)
        self._over(answer.head.status)
        self._caller.whole(answer.head, self._lines(answer.head), answer.body)

    # --- passing on

    def _await_event(self, data: bytes, now_s: float, *, ended: bool) -> None:
        """Hold a stream back until its first real event: a stream that begins with an error is not begun."""
        watch = self._watch
        if watch is None:
            return
        self._held.append(watch.feed(data))
        if ended and not watch.begun and watch.error is None:
            self._held.append(watch.finish())
        if watch.error is not None and not watch.begun:
            outcome = of_stream_error(watch.error)
            if outcome.falls_over:
                self._fails(outcome, now_s)
                return
        elif not watch.begun:
            if ended:
                self._line = None
                self._fails(of_wire(Wire.TRUNCATED), now_s)
            return
        account = self._account
        account.tokens = watch.tokens
        if watch.begun:
            account.answered()
        self._begin_to_pass(b"".join(self._held), now_s)
        if ended:
            self._end(self._relay.at_end())

    def _begin_to_pass(self, held: bytes, now_s: float) -> None:
        self.state = State.PASSING
        self._held = []
        forwarder, watch, job, head = self._forwarder, self._watch, self._job, self._head
        target = self._account.endpoint.target
        if self._answered is not None:
            forwarder.preferred[self._account.endpoint.provider] = self._credential
        if watch is None or watch.begun:
            forwarder.made(job, target, "")
        job.forget_body()
        job.record.status = head.status
        self._caller.begin(head, self._lines(head), length=None if watch else head.length)
        self._relay = Relay(
            self._caller, job.api, head.status, watch, forwarder.timeouts, forwarder.ping_after_s
        )
        self._relay.begin(held, now_s)

    def _end(self, end: End | None) -> None:
        """The answer is over, if there is an `end`."""
        if end is None:
            return
        watch, target = self._watch, self._account.endpoint.target
        self._drop()
        self._account.close(end.outcome)
        if end.whole and watch is not None and watch.begun:
            made = watch.response_id if self._job.api is Api.RESPONSES else ""
            self._forwarder.made(self._job, target, made)
        last = b"" if end.whole else self._relay.last_words(target, end.outcome)
        self._over(self._head.status)
        if last:
            self._caller.send(last)
        if end.whole:
            self._caller.finish()
        else:
            self._caller.cut()

    def _lines(self, head: Head) -> bytes:
        """The headers of the answer, and those that tell where it came from."""
        job, account = self._job, self._account
        own = (
            f"x-pointsman-request-id: {job.id}\r\nx-pointsman-table: {job.view.version}\r\n"
            f"x-pointsman-target: {account.endpoint.target}\r\nx-pointsman-attempt: {self._number}\r\n"
            f"x-pointsman-reason: {account.reason}\r\n"
        )
        return head.lines + own.encode("latin-1", "replace")

    # --- everything else that happens

    def ring(self, now_s: float) -> None:
        """The alarm rings."""
        try:
            self._ring(now_s)
        except Exception:  # the border of a request
            log.exception("a request failed for a reason of our own", request=self._job.id)
            self._give_up()

    def _ring(self, now_s: float) -> None:
        if self.state is State.PASSING:
            self._end(self._relay.silence(now_s))
            return
        if self.state is State.OVER:
            return
        deadline_s = self._began_s + self._limit_s
        given_up = now_s >= self._look_s and self._forwarder.lost(
            self._job, self._account.endpoint.target, self._order.targets[self._number :], now_s
        )
        if given_up or now_s >= deadline_s:
            wire = Wire.FIRST_BYTE_TIMEOUT if self._job.streamed else Wire.RESPONSE_TIMEOUT
            self._fails(of_wire(wire), now_s)
            return
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
        self._caller.alarm(min(deadline_s, self._look_s))

    def hold(self, *, held: bool) -> None:
        """The caller reads more slowly than the provider writes, or no more."""
        if self._line is not None:
            self._line.hold(self, held=held)

    def gone(self) -> None:
        """The caller hung up: the provider is told at once."""
        if self.state is State.OVER:
            return
        self._drop()
        self._account.close(ABANDONED)
        self._over(499)

    def cut_off(self) -> None:
        """This proxy goes down: end what has begun with a word, and the rest with an error that may be tried again."""
        if self.state is State.PASSING:
            self._end(End(_CUT_OFF, whole=False))
        elif self.state is not State.OVER:
            self._drop()
            self._account.close(ABANDONED)
            self._over(503)
            self._caller.reply(going_down(self._job))

    def _over(self, status: int) -> None:
        self.state = State.OVER
        self._caller.alarm(math.inf)
        self._job.record.status = status
        if self._span is not None:
            end_request(self._span, self._job)
