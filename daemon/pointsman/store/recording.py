"""The recorded decisions: a stream that the leader writes and everybody reads, capped by bytes.

An entry's id begins with the decision's time in milliseconds by the store's clock, so that a time finds it. A
clock that was set back makes ids run ahead of it for as long.
"""

from typing import Any, Final

from msgspec import Struct

from pointsman.core import record as records
from pointsman.core.record import Record, RecordError
from pointsman.store.errors import Unreadable
from pointsman.store.fence import check_fence, fence_args
from pointsman.store.keys import Keys
from pointsman.store.records import Lease
from pointsman.store.wire import Wire, load_script

_RECORD: Final = load_script("record")
# So many in one reply: those of a large fleet have hundreds of kilobytes each.
_PAGE: Final = 10


class Entry(Struct, frozen=True):
    """A record as it is stored."""

    id: str
    body: bytes

    @property
    def time_s(self) -> float:
        """When it was decided, to the millisecond."""
        return int(self.id.partition("-")[0]) / 1000

    def record(self) -> Record:
        """The record. Raises Unreadable for one of another version, or none at all."""
        try:
            return records.decode(self.body)
        except RecordError as error:
            raise Unreadable(f"record {self.id} cannot be read: {error}") from error


class Records:
    """One fleet's records. `cap_bytes`: so much they may take, as they are stored; 0 keeps none."""

    def __init__(self, wire: Wire, keys: Keys, cap_bytes: int) -> None:
        self._wire = wire
        self._keys = keys
        self.cap_bytes = cap_bytes

    async def put(self, lease: Lease, at_s: float, body: bytes) -> None:
        """Add a record, and trim the oldest. Raises Fenced if the lease is not ours."""
        keys = [self._keys.lease, self._keys.epoch, self._keys.records]
        args = [*fence_args(lease), int(at_s * 1000), self.cap_bytes, body]
        check_fence(lease, await self._wire.run(_RECORD, keys, args))

    async def at(self, time_s: float) -> Entry | None:
        """The last record of a decision at `time_s` or before; None if there is none so old."""
        found = await self.before(f"{max(0, int(time_s * 1000))}", 1)
        return found[0] if found else None

    async def before(self, place: str = "+", count: int = 100) -> list[Entry]:
        """The last `count` records up to `place` ("+": all; "ID": with it; "(ID": without it), newest first."""
        found: list[Entry] = []
        while len(found) < count:
            wanted = min(_PAGE, count - len(found))
            page = await self._wire.read("XREVRANGE", self._keys.records, place, "-", "COUNT", wanted)
            found += [Entry(entry.decode(), fields.get(b"record", b"")) for entry, fields in page]
            if len(page) < wanted:
                break
            place = f"({found[-1].id}"
        return found

    async def span(self) -> tuple[float, float] | None:
        """From when to when there are records; None if there are none."""
        key = self._keys.records
        ends: list[Any] = await self._wire.read_all(
            ("XRANGE", key, "-", "+", "COUNT", 1), ("XREVRANGE", key, "+", "-", "COUNT", 1)
        )
        times = [Entry(entry.decode(), b"").time_s for end in ends for entry, _ in end]
        return (times[0], times[1]) if times else None
