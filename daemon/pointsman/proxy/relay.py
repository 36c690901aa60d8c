"""An answer that has begun, on its way to the caller. Sans-I/O.

From its first byte on there is no falling over, only ending honestly: a stream that breaks gets its family's own error
event and then a connection that ends in the middle of its framing, so that no client takes it for a whole answer.
"""

import math
from typing import Final

from msgspec import Struct

from pointsman.config.models import TimeoutSettings
from pointsman.core.errors import SUCCESS, Outcome, Wire, of_response, of_stream_error, of_wire
from pointsman.proxy.api import Api, ping, stream_error
from pointsman.proxy.attempt import Begun
from pointsman.proxy.sides import Caller

# After its terminal event a stream has nothing more to say: a provider that forgets to end it is not waited for.
AFTER_END_S: Final = 2.0


class End(Struct, frozen=True):
    """How it ended; `whole` False: it broke off."""

    outcome: Outcome
    whole: bool


class Relay:
    """Passes on what comes, in whole events if it is a stream (`watch`); says when it is over, and how.

    `idle_s` of silence is its end, `ping_after_s` of silence in a stream a ping.
    """

    __slots__ = (
        "_api", "_caller", "_held", "_idle_s", "_ping_after_s", "_ping_s", "_silent_s", "_status", "watch"
    )  # fmt: skip

    def __init__(
        self, caller: Caller, api: Api, begun: Begun, timeouts: TimeoutSettings, ping_after_s: float
    ) -> None:
        self._caller = caller
        self._api = api
        self._status = begun.head.status
        self._held = begun.held
        self._idle_s = timeouts.idle_s
        self._ping_after_s = ping_after_s
        self._silent_s = self._ping_s = 0.0
        self.watch = begun.watch

    def begin(self, now_s: float) -> None:
        """Pass on what had been held back until now."""
        held, self._held = self._held, b""
        if held:
            self._caller.send(held)
        self._heard_at(now_s)

    def pass_on(self, data: bytes, now_s: float, *, ended: bool) -> End | None:
        """More came, and perhaps the end."""
        watch = self.watch
        whole_events = data if watch is None else watch.feed(data)
        if whole_events:
            self._caller.send(whole_events)
        self._heard_at(now_s)
        return self.at_end() if ended else None

    def at_end(self) -> End:
        """The provider ended it."""
        watch = self.watch
        if watch is None:
            return self._whole()
        rest = watch.finish()
        if rest:
            self._caller.send(rest)
        if (watch.ended or watch.error is not None) and not watch.mid_event:
            return self._whole()
        return End(of_wire(Wire.TRUNCATED), whole=False)

    def broke(self, wire: Wire) -> End:
        """The provider's connection broke: nobody's loss once the terminal event had passed."""
        if self.watch is not None and self.watch.ended:
            return self._whole()
        return End(of_wire(wire), whole=False)

    def silence(self, now_s: float) -> End | None:
        """Nothing came until the alarm rang."""
        watch = self.watch
        if self._caller.paused:  # a slow caller is not a silent provider
            self._heard_at(now_s)
        elif watch is not None and watch.ended:
            return self._whole()
        elif now_s >= self._silent_s + self._idle_s:
            return End(of_wire(Wire.STALL), whole=False)
        else:
            self._caller.send(ping(self._api))
            self._ping_s = now_s
            self._set_alarm()
        return None

    def last_words(self, target: str, outcome: Outcome) -> bytes:
        """What a stream that broke off ends with."""
        watch = self.watch
        if watch is None:
            return b""
        message = f"the answer of {target} broke off: {outcome.detail}"
        return stream_error(self._api, message, events=watch.events, response_id=watch.response_id)

    def _whole(self) -> End:
        """It came to its end: an error that it told itself is a failure all the same."""
        watch = self.watch
        if watch is None:
            return End(of_response(self._status, {}), whole=True)
        return End(SUCCESS if watch.error is None else of_stream_error(watch.error), whole=True)

    def _heard_at(self, now_s: float) -> None:
        """Something came; silence counts from now."""
        self._silent_s = self._ping_s = now_s
        self._set_alarm()

    def _set_alarm(self) -> None:
        watch = self.watch
        due_s = self._silent_s + (AFTER_END_S if watch is not None and watch.ended else self._idle_s)
        may_ping = watch is not None and not watch.ended and not watch.mid_event
        self._caller.alarm(min(due_s, self._ping_s + self._ping_after_s if may_ping else math.inf))
