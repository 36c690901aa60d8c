"""Endless iterators over the store: they outlive its restarts and never raise StoreDown.

A message that was published while nobody listened is lost without a trace. So every (re)subscription yields ""
first: whoever reads must look at what the messages are about.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio

from pointsman.core.model import Note
from pointsman.store import codec
from pointsman.store.errors import StoreDown
from pointsman.store.wire import Wire

_PAUSE_MIN_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
SILENCE_S: Final = 5.0
_BLOCK_S: Final = 2.0
_BATCH: Final = 100


class _Patience:
    """How long to wait before the next attempt: 0.05 s, doubled up to 1 s."""

    def __init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        self._pause_s = _PAUSE_MIN_S

    async def wait(self) -> None:
        pause_s, self._pause_s = self._pause_s, min(_PAUSE_MAX_S, self._pause_s * 2)
        await anyio.sleep(pause_s)


class Subscription(AsyncIterator[str]):
    """The messages of one channel; "" after every (re)subscription. One task may read it.

    A server that froze, or a network that drops packets, is noticed when there was neither a message for
    `silence_s` nor an answer for as long again.
    """

    def __init__(self, wire: Wire, channel: str, *, silence_s: float = SILENCE_S) -> None:
        self._wire = wire
        self._channel = channel
        self._silence_s = silence_s
        self._patience = _Patience()
        self._pubsub: Any = None
        self._asked = False

    async def __anext__(self) -> str:
        while True:
            try:
                message = await self._next_message()
            except StoreDown:
                await self.aclose()
                await self._patience.wait()
                continue
            if message is not None:
                return message

    async def _next_message(self) -> str | None:
        if self._pubsub is None:
            self._pubsub = self._wire.pubsub()
            async with self._wire.told():
                await self._pubsub.subscribe(self._channel)
        async with self._wire.told(self._silence_s):
            received = await self._pubsub.get_message(timeout=self._silence_s)
        if received is None:
            await self._ask()
            return None
        self._asked = False
        match received["type"]:
            case "subscribe":
                self._patience.rest()
                return ""
            case "message":
                return bytes(received["data"]).decode(errors="replace")
        return None

    async def _ask(self) -> None:
        """Nothing came for a while: is anybody there?"""
        if self._asked:
            raise StoreDown("the store does not answer a subscriber")
        self._asked = True
        if self._pubsub is not None:
            async with self._wire.told():
                await self._pubsub.ping()

    async def aclose(self) -> None:
        """Unsubscribe. Reading on subscribes again."""
        pubsub, self._pubsub, self._asked = self._pubsub, None, False
        if pubsub is not None:
            await pubsub.aclose()


class Following(AsyncIterator[tuple[str, Note]]):
    """The notes of the event stream as they are written, each with its id."""

    def __init__(self, wire: Wire, key: str, after: str) -> None:
        self._wire = wire
        self._key = key
        self._after = after
        self._waiting: list[tuple[str, Note]] = []
        self._patience = _Patience()

    async def __anext__(self) -> tuple[str, Note]:
        while not self._waiting:
            try:
                self._waiting = await self._next_batch()
            except StoreDown:
                await self._patience.wait()
        return self._waiting.pop(0)

    async def _next_batch(self) -> list[tuple[str, Note]]:
        if self._after == "$":
            # A fixed place, so that nothing is missed between two calls.
            last = await self._wire.read("XREVRANGE", self._key, "+", "-", "COUNT", 1)
            self._after = last[0][0].decode() if last else "0-0"
        command = ("XREAD", "COUNT", _BATCH, "BLOCK", int(_BLOCK_S * 1000), "STREAMS", self._key, self._after)
        found = await self._wire.wait(*command, block_s=_BLOCK_S)
        self._patience.rest()
        if not found:
            return []
        entries = found[0][1]
        self._after = entries[-1][0].decode()
        return notes_of(entries, self._key)


def notes_of(entries: list[tuple[bytes, dict[bytes, bytes]]], key: str) -> list[tuple[str, Note]]:
    """Entries of the event stream as (id, Note)."""
    return [(entry.decode(), codec.decode(fields.get(b"note", b""), Note, key)) for entry, fields in entries]
