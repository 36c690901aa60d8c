"""The last requests in memory, for `explain --request-id`."""

from typing import Any, Final

KEPT: Final = 10_000


class Attempt:
    """One target tried: how it ended (a fault class and its detail) after how many milliseconds."""

    __slots__ = ("detail", "latency_ms", "outcome", "reason", "status", "target")

    def __init__(
        self, target: str, reason: str, outcome: str, detail: str, status: int, latency_ms: float
    ) -> None:
        self.target = target
        self.reason = reason
        self.outcome = outcome
        self.detail = detail
        self.status = status
        self.latency_ms = latency_ms

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "target": self.target,
            "reason": self.reason,
            "outcome": self.outcome,
            "detail": self.detail,
            "status": self.status,
            "latency_ms": self.latency_ms,
        }


class Record:
    """One request. `key` is the hash of the sticky key (None if the pick was random); `status` what the caller got.

    `at_s` is seconds since 1970. No body, no header and no address is kept.
    """

    __slots__ = ("api", "at_s", "attempts", "id", "key", "route", "status", "table")

    def __init__(
        self, request_id: str, *, at_s: float, route: str, api: str, key: int | None = None, table: str = ""
    ) -> None:
        self.id = request_id
        self.at_s = at_s
        self.route = route
        self.api = api
        self.key = key
        self.table = table
        self.status = 0
        self.attempts: list[Attempt] = []

    def told(self) -> dict[str, Any]:
        """As JSON has it; the key as 16 digits, "" if there is none."""
        return {
            "id": self.id,
            "at_s": self.at_s,
            "route": self.route,
            "api": self.api,
            "key": "" if self.key is None else f"{self.key:016x}",
            "table": self.table,
            "status": self.status,
            "attempts": [attempt.told() for attempt in self.attempts],
        }


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
