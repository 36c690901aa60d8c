"""What keeps a bad hour from becoming a worse one: bounds on what this proxy does at once and again. Pure.

- Requests under way at one target, where its configuration bounds them: one more goes to the next of the chain.
- A budget for falling over. Every good answer adds a token, every failed attempt takes one, up to the budget: as long
  as somebody answers, whoever fails is fallen over from; when nearly everything fails, each request is tried once, so
  that a storm of failures does not multiply the load by the length of the chains.
- Bodies kept for a second attempt, each and in all. What is not kept is sent once.
"""

from msgspec import Struct

from pointsman.core.errors import Fault, Outcome
from pointsman.proxy.outcomes import FAILING

_OK = Fault.OK


class Bounds(Struct, frozen=True, kw_only=True):
    """The settings: `retry_budget` in failed attempts (0: none), sizes in bytes."""

    retry_budget: int = 100
    replay_bytes: int = 16 << 20
    replay_bytes_in_all: int = 256 << 20


class Limits:
    """What is under way now, and what is left of the budget."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tokens = bounds.retry_budget
        self._at: dict[str, int] = {}
        self.kept_bytes = 0

    def is_full(self, target: str, most: int) -> bool:
        """Has `target` as many requests as it may (`most`, 0: any number)."""
        return most > 0 and self._at.get(target, 0) >= most

    def enter(self, target: str) -> None:
        """A request goes to a target whose number is bounded."""
        self._at[target] = self._at.get(target, 0) + 1

    def leave(self, target: str) -> None:
        """It is over."""
        self._at[target] -= 1

    @property
    def may_fall_over(self) -> bool:
        """Is anything left of the budget; without a budget there is no end of it."""
        return self._tokens > 0 or not self._bounds.retry_budget

    def ended(self, outcome: Outcome) -> None:
        """An attempt is over."""
        if outcome.fault is _OK:
            if self._tokens < self._bounds.retry_budget:
                self._tokens += 1
        elif self._tokens > 0 and outcome.effect in FAILING:
            self._tokens -= 1

    def keep(self, size: int) -> bool:
        """May a body of `size` bytes be kept for a second attempt? If so it is counted until `release`."""
        bounds = self._bounds
        if size > bounds.replay_bytes or self.kept_bytes + size > bounds.replay_bytes_in_all:
            return False
        self.kept_bytes += size
        return True

    def release(self, size: int) -> None:
        """A body that was kept is needed no more."""
        self.kept_bytes -= size
