"""The last requests in memory, for `explain --request-id`."""

from typing import Final

from msgspec import Struct

KEPT: Final = 10_000


class Attempt(Struct, frozen=True, gc=False):
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
    """The last 10,000 requests. Adding one costs next to nothing, so that finding one takes a millisecond."""

    def __init__(self, kept: int = KEPT) -> None:
        self._records: list[Record | None] = [None] * kept
        self._place = 0
        self._kept = kept

    def add(self, record: Record) -> None:
        """Keep `record` in place of the oldest."""
        place = self._place
        self._records[place] = record
        self._place = (place + 1) % self._kept

    def get(self, request_id: str) -> Record | None:
        """The record of a request, or None if it is unknown or forgotten."""
        return next((one for one in self._records if one is not None and one.id == request_id), None)

    def __len__(self) -> int:
        return sum(one is not None for one in self._records)
