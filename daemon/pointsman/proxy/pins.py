"""Pins by hand: an operator's shares for this one proxy, without the daemon. Times are monotonic seconds.

They are kept in memory only: a proxy that starts again has none.
"""

import math
from collections.abc import Collection, Mapping

from msgspec import Struct

from pointsman.core.table import FULL_BP


class Pin(Struct, frozen=True):
    """Shares that hold on this proxy until `until_s`. `force` feeds targets that are out, too."""

    shares_bp: dict[str, int]
    until_s: float
    force: bool


class PinError(Exception):
    """A pin that makes no sense; the message says what would."""


class Pins:
    """At most one pin per route."""

    def __init__(self) -> None:
        self._pins: dict[str, Pin] = {}

    def put(
        self, route: str, shares_bp: Mapping[str, int], known: Collection[str], until_s: float, *, force: bool
    ) -> None:
        """Pin `route` to `shares_bp`, which sum to 10,000 over `known` targets. Raises PinError."""
        unknown = sorted(set(shares_bp) - set(known))
        if unknown:
            raise PinError(f"{route} has no target {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        if any(share < 0 for share in shares_bp.values()) or sum(shares_bp.values()) != FULL_BP:
            raise PinError(f"the shares have to be basis points that sum to {FULL_BP}")
        if force and math.isinf(until_s):
            raise PinError("a forced pin feeds dead targets, and has to end: give for_s")
        self._pins[route] = Pin(dict(shares_bp), until_s, force)

    def take_off(self, route: str) -> bool:
        """Unpin `route`; False if it was not pinned."""
        return self._pins.pop(route, None) is not None

    @property
    def any(self) -> bool:
        """Is any route pinned, or was until a moment ago."""
        return bool(self._pins)

    def of(self, route: str, now_s: float) -> Pin | None:
        """The pin that holds for `route` at `now_s`."""
        pin = self._pins.get(route)
        if pin is not None and now_s >= pin.until_s:
            del self._pins[route]
            return None
        return pin

    def routes(self, now_s: float) -> list[str]:
        """The routes that are pinned."""
        return [route for route in list(self._pins) if self.of(route, now_s) is not None]
