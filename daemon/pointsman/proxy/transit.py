"""One request on its way: along the chain of targets, and back with what came of it. Sans-I/O.

    state     what happens                         → what follows
    trying    an attempt fails                     → the next target is tried; over, with none left
    trying    it gives a whole answer              → passed on, or the next target if another may do better; over
    trying    its answer begins                    → passing
    passing   bytes, silence, the end              → passed on, pings, over
    passing   it breaks                            → the family's own last words and a cut connection; over
    any       the caller is gone                   → the attempt is dropped, so that the provider hears of it; over

The two sides are `Caller` and `Providers`; time is passed in, as monotonic seconds.
"""

import math
from enum import Enum, auto
from typing import Final

from opentelemetry.trace import Span

from pointsman import logs
from pointsman.core.errors import ABANDONED, Fault, Outcome, Wire, of_wire
from pointsman.proxy import lenient
from pointsman.proxy.attempt import Attempt, Begun, Verdict
from pointsman.proxy.books import Account
from pointsman.proxy.forward import Forwarder, Way
from pointsman.proxy.job import Job
from pointsman.proxy.judging import Head, Whole
from pointsman.proxy.relay import End, Relay
from pointsman.proxy.replies import (
    FULL,
    NO_CONNECTION,
    SENT_ONCE,
    SUSPENDED,
    Tried,
    answer_lines,
    exhausted,
    failed_here,
    goes_on,
    going_down,
    told,
)
from pointsman.proxy.sides import Caller, Providers
from pointsman.proxy.spans import end_request

log = logs.get("proxy")

_MOVES: Final = Way.MOVES
_CUT_OFF: Final = Outcome(Fault.ABANDONED, "this proxy is going down")


class State(Enum):
    """Where the request stands; see the table above."""

    TRYING = auto()
    PASSING = auto()
    OVER = auto()


# Looked at several times for each request: to look them up in their class is slow.
_TRYING: Final = State.TRYING
_PASSING: Final = State.PASSING
_OVER: Final = State.OVER


class Transit:
    """One request's way: the `Recipient` of what providers say to it. The shell calls `begin` once, then the rest."""

    __slots__ = (
        "_attempt", "_caller", "_forwarder", "_head", "_job", "_kept_bytes", "_number", "_order", "_providers",
        "_refusals", "_relay", "_span", "_tried", "_way", "state",
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
        self._kept_bytes = 0
        self._attempt: Attempt | None = None
        self.state: State = _TRYING

    # --- along the chain

    def begin(self, now_s: float) -> None:
        """Send the request on its way."""
        job, size = self._job, len(self._job.body)
        job.kept = self._forwarder.books.limits.keep(size)
        if job.kept:
            self._kept_bytes = size
        self._order, self._way = self._forwarder.order(job, now_s)
        self._next(now_s)

    def _next(self, now_s: float) -> None:
        """Try the targets that are left, until one is under way or has answered."""
        chosen, job, forwarder = self._order, self._job, self._forwarder
        limits, targets, tried = forwarder.books.limits, self._order.targets, self._tried
        while True:
            number = self._number
            why = self._why_no_more() if tried else ""
            if why or number >= len(targets):
                self._in_vain(why)
                return
            self._number += 1
            endpoint = job.view.endpoints[targets[number]]
            if limits.is_full(endpoint.target, endpoint.max_in_flight):
                tried.append(Tried(endpoint.target, FULL))
                continue
            most = endpoint.max_connections
            if most and not self._providers.has_room(endpoint.origin, most, fresh=not job.kept):
                tried.append(Tried(endpoint.target, NO_CONNECTION))
                continue
            reason = f"fell over: {tried[-1].target} {tried[-1].outcome.detail}" if tried else chosen.reason
            trial, stamp = (False, "") if tried else (chosen.trial, chosen.ramp)
            rest = targets[number + 1 :]
            account = forwarder.books.open(job, endpoint, reason, self._span, trial=trial, stamp=stamp)
            attempt = Attempt(forwarder, self._providers, self._caller, self, job, account, rest)
            self._attempt = attempt
            verdict = attempt.begin(now_s, moves=self._way is _MOVES)
            if verdict is None or not self._failed_with(verdict, now_s):
                return

    def _why_no_more(self) -> str:
        """Why the request is not tried again, or ""."""
        if self._job.spent:
            return SENT_ONCE
        return "" if self._forwarder.books.limits.may_fall_over else SUSPENDED

    def _failed_with(self, verdict: Verdict, now_s: float) -> bool:
        """Note an attempt that failed; False: it did not, and its answer is passed on."""
        attempt = self._attempt
        if attempt is None:
            return False
        account = attempt.account
        if isinstance(verdict, Begun):
            self._pass_on(verdict, now_s)
            return False
        if isinstance(verdict, Whole):
            if not goes_on(verdict, self._way):
                self._pass_whole(verdict, account)
                return False
            self._refusals.append((verdict, account, self._number))
            verdict = verdict.outcome
        account.close(verdict)
        self._tried.append(Tried(account.endpoint.target, verdict))
        return True

    def _takes(self, verdict: Verdict | None, now_s: float) -> None:
        """Go on from what came of the attempt, if anything did."""
        if verdict is not None and self._failed_with(verdict, now_s):
            self._next(now_s)

    def _in_vain(self, why: str) -> None:
        if self._way is Way.SOUGHT and (found := told(self._refusals, self._tried)):
            answer, account, self._number = found
            self._pass_whole(answer, account)
            return
        reply = exhausted(self._job, self._tried, why)
        self._over(reply.status)
        self._caller.reply(reply)

    # --- what the provider does

    def heard(self, head: Head | None, data: bytes, now_s: float, *, ended: bool) -> None:
        """The provider's answer goes on: its head if this is its beginning, more of its body, and its end."""
        try:
            if self.state is _PASSING:
                self._end(self._relay.pass_on(data, now_s, ended=ended))
            elif self._attempt is not None and self.state is _TRYING:
                self._takes(self._attempt.heard(head, data, now_s, ended=ended), now_s)
        except Exception:  # the border of an attempt: what an answer does to us must not end the chain
            log.exception("an attempt failed for a reason of our own", request=self._job.id)
            self.failed(Wire.BAD_BODY, now_s)

    def failed(self, wire: Wire, now_s: float, *, stale: bool = False) -> None:
        """The attempt broke. `stale`: its connection had been idle, and said nothing: that is nobody's failure."""
        try:
            if self.state is _PASSING:
                self._end(self._relay.broke(wire))
            elif self._attempt is not None and self.state is _TRYING:
                self._takes(self._attempt.failed(wire, stale=stale), now_s)
        except Exception:  # the border of a request
            log.exception("a request failed for a reason of our own", request=self._job.id)
            self._give_up()

    def ring(self, now_s: float) -> None:
        """The alarm rings."""
        try:
            if self.state is _PASSING:
                self._end(self._relay.silence(now_s))
            elif self._attempt is not None and self.state is _TRYING:
                self._takes(self._attempt.ring(now_s), now_s)
        except Exception:  # the border of a request
            log.exception("a request failed for a reason of our own", request=self._job.id)
            self._give_up()

    def _give_up(self) -> None:
        """Our own fault, and no other way out: the caller must not wait for ever."""
        self._let_go(of_wire(Wire.BAD_BODY), 500)
        self._caller.fail(failed_here(self._job))

    # --- passing on

    def _pass_whole(self, answer: Whole, account: Account) -> None:
        """The answer leaves before it is entered in the books, for which its caller need not wait."""
        job, head, caller = self._job, answer.head, self._caller
        lines = answer_lines(head, job, account, self._number)
        caller.whole(head, lines, answer.body)  # what fails so far still falls over
        self.state = _OVER
        try:
            account.close(answer.outcome)
            if answer.ok:
                made = lenient.text(answer.id) if job.makes_responses else ""
                self._forwarder.made(job, account.endpoint.target, made)
        finally:
            self._over(head.status)
            caller.done()

    def _pass_on(self, begun: Begun, now_s: float) -> None:
        """The answer has begun, and so there is no other any more."""
        attempt, forwarder, job, head = self._attempt, self._forwarder, self._job, begun.head
        if attempt is None:
            return
        self.state = _PASSING
        account, watch = attempt.account, begun.watch
        if watch is None or watch.begun:
            forwarder.made(job, account.endpoint.target, "")
        self._forget_body()
        self._head = head
        job.record.status = head.status
        lines = answer_lines(head, job, account, self._number)
        self._caller.begin(head, lines, length=None if watch else head.length)
        self._relay = Relay(self._caller, job.api, begun, forwarder.timeouts, forwarder.ping_after_s)
        self._relay.begin(now_s)
        if self._caller.paused:  # since before there was anything to hold
            attempt.hold(held=True)
        if begun.ended:
            self._end(self._relay.at_end())

    def _end(self, end: End | None) -> None:
        """The answer is over, if there is an `end`."""
        attempt, watch = self._attempt, self._relay.watch
        if end is None or attempt is None:
            return
        target = attempt.account.endpoint.target
        self._drop(end.outcome)
        if end.whole and watch is not None and watch.begun:
            made = watch.response_id if self._job.makes_responses else ""
            self._forwarder.made(self._job, target, made)
        last = b"" if end.whole else self._relay.last_words(target, end.outcome)
        self._over(self._head.status)
        if last:
            self._caller.send(last)
        if end.whole:
            self._caller.finish()
        else:
            self._caller.cut()

    # --- everything else that happens

    def hold(self, *, held: bool) -> None:
        """The caller reads more slowly than the provider writes, or no more."""
        if self._attempt is not None:
            self._attempt.hold(held=held)

    def gone(self) -> None:
        """The caller hung up: the provider is told at once."""
        if self.state is not _OVER:
            self._let_go(ABANDONED, 499)

    def cut_off(self) -> None:
        """This proxy goes down: end what has begun with a word, and the rest with an error that may be tried again."""
        try:
            if self.state is _PASSING:
                self._end(End(_CUT_OFF, whole=False))
            elif self.state is not _OVER:
                self._let_go(ABANDONED, 503)
                self._caller.reply(going_down(self._job))
        except Exception:  # the border of a request: the others have to be ended too
            log.exception("a request failed for a reason of our own", request=self._job.id)
            self._give_up()

    def _drop(self, outcome: Outcome) -> None:
        """The attempt under way is over; its account is closed also where the provider cannot be told."""
        if self._attempt is not None:
            try:
                self._attempt.drop()
            finally:
                self._attempt.account.close(outcome)

    def _let_go(self, outcome: Outcome, status: int) -> None:
        """Drop the attempt under way, if there is one: the request is over, whatever fails in that."""
        try:
            self._drop(outcome)
        except Exception:  # the border of a request: what it holds is given back
            log.exception("a request failed for a reason of our own", request=self._job.id)
        self._over(status)

    def _forget_body(self) -> None:
        """Nothing will be sent again: a stream may live for minutes, and bodies are large."""
        self._job.spend_body()
        self._forwarder.books.limits.release(self._kept_bytes)
        self._kept_bytes = 0

    def _over(self, status: int) -> None:
        self.state = _OVER
        self._attempt = None  # it knows this transit: a circle would wait for the garbage collector
        self._forget_body()
        self._caller.alarm(math.inf)
        self._job.record.status = status
        if self._span is not None:
            end_request(self._span, self._job)
