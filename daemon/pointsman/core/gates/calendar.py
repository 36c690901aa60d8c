"""Is this an hour and a day for steps?"""

import calendar as months
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Calendar, Finding

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SEARCHED_DAYS = 400


def calendar(sight: Sight) -> Finding:
    """Hold outside the allowed hours and days, with when they begin again."""
    rules = sight.ramp.policy.calendar
    if rules is None:
        return passes("calendar", "every hour is allowed")
    now = datetime.fromtimestamp(sight.facts.now_s, UTC).astimezone(ZoneInfo(rules.zone))
    closed = _closed(rules, now)
    if not closed:
        return passes("calendar", f"{now:%A %H:%M} {rules.zone} is allowed")
    opens = next_opening(rules, sight.facts.now_s)
    when = f"{opens:%a %Y-%m-%d %H:%M} {rules.zone}" if opens else "never: look at the calendar's rules"
    return holds("calendar", f"{closed}; steps go on {when}")


def next_opening(rules: Calendar, now_s: float) -> datetime | None:
    """When steps are allowed next, in the calendar's zone; None if not within a year."""
    zone = ZoneInfo(rules.zone)
    now = datetime.fromtimestamp(now_s, UTC).astimezone(zone)
    if not _closed(rules, now):
        return now
    for ahead in range(_SEARCHED_DAYS):
        day = (now + timedelta(days=ahead)).date()
        opens = datetime.combine(day, _time(rules.from_), zone)
        if opens >= now and not _closed(rules, opens):
            return opens
    return None


def _closed(rules: Calendar, now: datetime) -> str:
    """Why no step may be taken at `now`, or ""."""
    if rules.days and now.weekday() not in rules.days:
        return f"no steps on a {_DAYS[now.weekday()]}"
    if f"{now:%Y-%m-%d}" in rules.blackout:
        return f"{now:%Y-%m-%d} is blacked out"
    last = months.monthrange(now.year, now.month)[1]
    if now.day > last - rules.month_end_days:
        return f"no steps in the last {rules.month_end_days} days of a month"
    if not rules.from_ <= f"{now:%H:%M}" < rules.until:
        return f"steps are taken between {rules.from_} and {rules.until} {rules.zone}"
    return ""


def _time(text: str) -> time:
    hours, _, minutes = text.partition(":")
    return time(int(hours), int(minutes))
