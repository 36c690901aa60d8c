"""The smallest honest request of a route, in the words that a kind of provider understands."""

from typing import Final

import msgspec

from pointsman.core.model import Provider, Target
from pointsman.probing.providers import adapter_of

TOKENS: Final = 16


def smallest(provider: Provider, target: Target, route: str) -> bytes:
    """One word in, `TOKENS` out at most, streamed: as the generate probe asks, but of the route."""
    body = adapter_of(provider.adapter).generate_body(provider, target, TOKENS)
    return msgspec.json.encode({**msgspec.json.decode(body), "model": route})
