"""What probing may cost: US dollars per provider and day (UTC), counted by this process."""

from typing import Final

from pointsman.config.models import PriceSettings
from pointsman.probing.kinds import Seen

DAY_S: Final = 86_400
# What "hi" costs at most, where the provider does not say: some count a template around it.
TOKENS_IN_ASSUMED: Final = 16


class Budget:
    """One provider's day."""

    def __init__(self) -> None:
        self._day = -1
        self._told = False
        self.spent_usd = 0.0

    def allows(self, cost_usd: float, limit_usd: float, now_s: float) -> bool:
        """May `cost_usd` be spent? Free probes always may. A new day begins with nothing spent."""
        day = int(now_s // DAY_S)
        if day != self._day:
            self._day, self._told, self.spent_usd = day, False, 0.0
        return cost_usd == 0.0 or self.spent_usd + cost_usd <= limit_usd

    def spend(self, cost_usd: float) -> None:
        """Count what a probe has cost."""
        self.spent_usd += cost_usd

    def tell_once(self) -> bool:
        """True the first time in a day: an exhausted budget is one line in the log, not one per probe."""
        first, self._told = not self._told, True
        return first


def most_usd(price: PriceSettings, max_tokens: int) -> float:
    """What a generate probe can cost at most."""
    return _usd(price, TOKENS_IN_ASSUMED, max_tokens)


def cost_usd(price: PriceSettings, seen: Seen, max_tokens: int) -> float:
    """What it did cost; a failed probe costs nothing unless the provider counted tokens."""
    if seen.tokens_in is None and seen.tokens_out is None:
        return most_usd(price, max_tokens) if seen.outcome.ok else 0.0
    return _usd(price, seen.tokens_in or 0, seen.tokens_out or 0)


def _usd(price: PriceSettings, tokens_in: int, tokens_out: int) -> float:
    return (price.input_usd_per_mtok * tokens_in + price.output_usd_per_mtok * tokens_out) / 1e6
