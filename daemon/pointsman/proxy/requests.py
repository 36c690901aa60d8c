"""The last requests in memory, for `explain --request-id`."""

from collections import deque
from typing import Final

from msgspec import Struct

KEPT: Final = 10_000


class Attempt(Struct, frozen=True):
    """One target tried: how it ended (a fault class and its detail) after how many milliseconds."""

    target: str
    reason: str
    outcome: str
    detail: str
    status: int
    latency_ms: float


class Record(Struct, kw_only=True):
    """One request. `key` is the hash of the sticky key ("" if the pick was random); `status` what the caller got.

    `at_s` is seconds since 1970. No body, no header and no address is kept.
    """

    id: str
    at_s: float
    route: str
    api: str
    key: str = ""
    table: str = ""
    status: int = 0
    attempts: list[Attempt] = []


class Ring:
    """The last 10,000 requests by id."""

    def __init__(self, kept: int = KEPT) -> None:
        self._order: deque[str] = deque()
        self._records: dict[str, Record] = {}
        self._kept = kept

    def add(self, record: Record) -> None:
        """Keep `record`, and forget the oldest when there are too many."""
        if len(self._order) >= self._kept:
            self._records.pop(self._order.popleft(), None)
        self._order.append(record.id)
        self._records[record.id] = record

    def get(self, request_id: str) -> Record | None:
        """The record of a request, or None if it is unknown or forgotten."""
        return self._records.get(request_id)

    def __len__(self) -> int:
        return len(self._records)
