"""The store's clock as a proxy knows it, and deadlines that survive a step of the machine's own.

Deadlines arrive as seconds since 1970 by the store's clock, with the store's time beside them. From then on they
are counted on the monotonic clock.
"""

from collections.abc import Mapping
from time import monotonic, time

from msgspec import Struct


class StoreClock:
    """The store's time, estimated from its last word. Until the store has spoken, the machine's own clock."""

    def __init__(self) -> None:
        self._ahead_s = time() - monotonic()

    def heard(self, now_s: float) -> None:
        """The store says that it is `now_s` (seconds since 1970)."""
        self._ahead_s = now_s - monotonic()

    def now_s(self) -> float:
        """Seconds since 1970 by the store's clock."""
        return monotonic() + self._ahead_s

    def on_monotonic(self, deadlines: Mapping[str, float]) -> dict[str, float]:
        """Deadlines by the store's clock as monotonic ones."""
        return {name: at_s - self._ahead_s for name, at_s in deadlines.items()}

    def ahead_of_wall_s(self) -> float:
        """How far the store's clock is ahead of this machine's, in seconds."""
        return self.now_s() - time()


class SavedClock(Struct):
    """What a saved table remembers of the clocks: wall time when it was saved, and the store's lead over it."""

    saved_s: float
    ahead_s: float


# A machine whose clock was this far off when the table was saved is not trusted after a restart either.
DOUBT_S = 60.0


def remaining_after_restart(
    deadlines: Mapping[str, float], saved: SavedClock, wall_s: float
) -> dict[str, float] | None:
    """Overlay → seconds left after a start from disk at `wall_s`; None if the clock is in doubt (pure).

    It is in doubt if it has gone backwards since the table was saved, or disagreed with the store's then.
    """
    if wall_s < saved.saved_s or abs(saved.ahead_s) > DOUBT_S:
        return None
    return {name: at_s - (wall_s + saved.ahead_s) for name, at_s in deadlines.items()}
