"""What other environments in the same store tell of a rollout; nothing is ever written there."""

from typing import Final

from pointsman.core.model import State
from pointsman.core.rollout_model import Rollout, StageNews
from pointsman.store import codec
from pointsman.store.errors import StoreError
from pointsman.store.keys import Keys
from pointsman.store.wire import Wire

# The part of the state's hash that codec.py writes a rollout to.
FIELD: Final = "o"


class Elsewhere:
    """Reads the state of the same fleet in other environments."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys

    async def awaited(self, state: State) -> tuple[StageNews, ...]:
        """News of the environments that rollouts of `state` wait for; nothing is read while none does."""
        waiting = [one for one in state.rollouts.values() if one.awaits]
        return tuple([await self.news(one.awaits, one.name) for one in waiting])

    async def news(self, environment: str, rollout: str) -> StageNews:
        """How a rollout stands there. What cannot be read is told, not raised: it may be for others only."""
        key = Keys(self._keys.prefix, environment, self._keys.fleet).state
        try:
            body = await self._wire.read("HGET", key, f"{FIELD}:{rollout}")
            if body is None:
                return _told(rollout, environment, f"{environment} has not begun, as far as this store knows")
            one = codec.decode(body, Rollout, key)
        except StoreError as error:
            return _told(rollout, environment, f"what {environment} says cannot be read: {error}")
        return StageNews(
            rollout=rollout,
            environment=environment,
            phase=one.phase.value,
            moves=(one.route, one.source, one.goal),
            attempt=one.attempt,
            decided_s=one.decided_s,
        )


def _told(rollout: str, environment: str, why: str) -> StageNews:
    return StageNews(rollout=rollout, environment=environment, told=why)
