"""What the demo ends with: one document of measured figures."""

from msgspec import Struct


class Event(Struct, kw_only=True):
    """One act's measurements, in seconds; None where nothing had to be detected.

    `detection_s`: from the failure to the decision; `shift_s`: from the decision until the last proxy routed by
    the table that it led to.
    """

    name: str
    detection_s: float | None = None
    shift_s: float | None = None
    recovery_s: float | None = None
    open_streams: int | None = None
    note: str = ""


class Summary(Struct, kw_only=True):
    """The figures. `failed` are requests that a healthy provider could have served; none is retried by the client.

    `broken_streams` had begun at the provider that died, and ended with an error that says so; any other stream that
    breaks has failed. `canary_promoted`: the good canary was, `canary_aborted`: the bad one was, each by itself.
    """

    duration_s: float
    requests: int
    ok: int
    failed: int
    broken_streams: int
    bad_requests: int
    fell_over: int
    detection_s: float | None
    shift_s: float | None
    canary_promoted: bool
    canary_aborted: bool
    table_version: str
    tables: int
    events: list[Event]
    served_by: dict[str, int]
    failures: list[str]
    shortened: dict[str, str]
