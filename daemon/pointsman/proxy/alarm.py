"""A timer that costs nothing to put off: one per connection, for all requests that come over it."""

import asyncio
import math
import time
from collections.abc import Callable


class Alarm:
    """Calls `ring` once `due_s` (monotonic seconds) has come. To set `due_s` later, an assignment is enough.

    A deadline mostly moves into the future, and mostly is never met. So the loop's own timer is left as it is until it
    fires, and is then set for what is left; only what is due sooner than the timer goes off takes a new one.
    """

    __slots__ = ("_at_s", "_handle", "_loop", "_ring", "due_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._at_s = math.inf
        self.due_s = math.inf

    def set(self, due_s: float) -> None:
        """Ring at `due_s`; `math.inf` never does."""
        self.due_s = due_s
        if due_s < self._at_s:
            if self._handle is not None:
                self._handle.cancel()
            self._arm()

    def cancel(self) -> None:
        """Never ring again; nothing is kept alive."""
        self.due_s = self._at_s = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._at_s = self.due_s
        self._handle = self._loop.call_later(max(0.0, self.due_s - time.monotonic()), self._fire)

    def _fire(self) -> None:
        self._handle, self._at_s = None, math.inf
        if self.due_s <= time.monotonic():
            self.due_s = math.inf
            self._ring()
        elif self.due_s < math.inf:
            self._arm()
