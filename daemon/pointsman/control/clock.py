"""When the loop ticks: a fixed cadence that neither drifts nor bursts, and at once when something happened."""

import math
import time
from typing import Final

import anyio

from pointsman import logs

_log = logs.get("control.clock")

# Words and failures come in handfuls: one decision for all of them.
DEBOUNCE_S: Final = 0.02


class Clock:
    """`await next()` returns when a tick is due."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due = time.monotonic()
        self._woken_by = math.inf
        self._woken = anyio.Event()

    def wake(self, within_s: float = 0.0) -> None:
        """A tick is due within `within_s`. Callable from any task; never waits."""
        woken_by = time.monotonic() + within_s
        if woken_by < self._woken_by:
            self._woken_by = woken_by
            self._woken.set()

    @property
    def is_woken(self) -> bool:
        """Has something happened since the last tick began?"""
        return self._woken_by < math.inf

    async def next(self) -> None:
        """Wait for the interval or a wake. After an overrun the cadence starts anew: missed ticks stay missed."""
        late_s = time.monotonic() - self._due
        if late_s > self._interval_s:
            _log.warning(
                "ticks are late by {late_s} s: the store or this machine is slow", late_s=round(late_s, 2)
            )
            self._due = time.monotonic()
        while (left_s := min(self._due, self._woken_by) - time.monotonic()) > 0:
            self._woken = anyio.Event()
            with anyio.move_on_after(left_s):
                await self._woken.wait()
        if self._woken_by <= time.monotonic():
            await anyio.sleep(DEBOUNCE_S)
        self._woken_by = math.inf
        if time.monotonic() >= self._due:
            self._due += self._interval_s
