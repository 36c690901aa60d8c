"""Moments as people write them: "14:03", "14:03:20", "2026-11-27 14:03:20", with a zone, or "10m" (ago)."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from pointsman.cli.common import duration_s, usage

# A moment to the second means all of that second: what `events` shows at 14:03:20 is there at 14:03:20.
_SECOND_S: Final = 0.999
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AGO: Final = re.compile(r"[\d.dhms ]+")


def start_s(text: str, now_s: float) -> float:
    """Seconds since 1970 of a moment; a time of day is today's, or yesterday's if today's is still to come."""
    return max(0.0, _moment(text, now_s)[0])


def end_s(text: str, now_s: float) -> float:
    """As `start_s`, with the whole of the second that was named."""
    moment_s, exact = _moment(text, now_s)
    return max(0.0, moment_s if exact else moment_s + _SECOND_S)


def _moment(text: str, now_s: float) -> tuple[float, bool]:
    """(seconds since 1970, is it meant to the fraction of a second?)"""
    text = text.strip()
    if text == "now":
        return now_s, True
    if _AGO.fullmatch(span := text.removesuffix("ago")):
        return now_s - duration_s(span.replace(" ", "")), True
    try:
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in clock.groups())
            return _time_of_day(time(hour, minute, second), now_s), False
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        usage(
            f"{text!r} is no moment: write 14:03, 14:03:20, 2026-11-27 14:03:20 (with a zone: +01:00) or 10m"
        )
    return moment.timestamp(), bool(moment.microsecond)


def _time_of_day(at: time, now_s: float) -> float:
    today = datetime.fromtimestamp(now_s).astimezone().date()
    moment_s = datetime.combine(today, at).astimezone().timestamp()
    if moment_s <= now_s:
        return moment_s
    return datetime.combine(today - timedelta(days=1), at).astimezone().timestamp()


def shown(moment_s: float) -> str:
    """A moment in the zone of this machine: "2026-11-27 14:03:20"."""
    return f"{datetime.fromtimestamp(moment_s).astimezone():%Y-%m-%d %H:%M:%S}"


def shown_in_utc(moment_s: float) -> str:
    """As `shown`, and what the clocks in pointsman's sentences showed, which go by UTC."""
    utc = f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%d %H:%M:%S}"
    return utc if shown(moment_s) == utc else f"{shown(moment_s)} ({utc[-8:]} UTC)"
