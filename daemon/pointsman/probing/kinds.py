"""What a probe is given, what it gives back, and the shape of a kind of probe."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pointsman import __version__
from pointsman.core.errors import Outcome
from pointsman.core.model import Family, Provider, Target
from pointsman.probing.access import Access
from pointsman.probing.adapter import ANTHROPIC_VERSION, Adapter
from pointsman.probing.client import Client


@dataclass(frozen=True, slots=True)
class Ask:
    """Whom to ask. `target` is None for a reach probe; `credential` is the place of the secret to use."""

    provider: Provider
    target: Target | None
    adapter: Adapter
    access: Access
    credential: int = 0

    def headers(self) -> dict[str, str]:
        """The headers of the request. The provider's constant ones never replace its credential."""
        made = {"User-Agent": f"pointsman/{__version__}", "Accept-Encoding": "identity"}
        if self.provider.family is Family.ANTHROPIC:
            made["anthropic-version"] = ANTHROPIC_VERSION
        binding = self.access.binding
        own = dict(self.provider.headers)
        if binding is not None and self.access.secrets:
            own[binding.header] = binding.value(self.access.secrets[self.credential].reveal())
        replaced = {name.lower() for name in own}
        return {name: value for name, value in made.items() if name.lower() not in replaced} | own


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe saw. Latencies in milliseconds from the start of the request; tokens as the provider said."""

    outcome: Outcome
    latency_ms: float
    first_token_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


ProbeFn = Callable[[Client, Ask], Awaitable[Seen]]
