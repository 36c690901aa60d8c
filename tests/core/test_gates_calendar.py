"""The gate that looks at the clock and the calendar."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from pointsman.core.gates.calendar import calendar, next_opening
from pointsman.core.ramp_model import Calendar, Verdict
from ramps import a_ramp, sight
from world import NOON_S

PASS, HOLD = Verdict.PASS, Verdict.HOLD


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


WORKDAYS = Calendar(zone="Europe/Berlin", days=(1, 2, 3), from_="10:00", until="16:00")


def at_that_time(rules: Calendar | None, now_s: float) -> tuple[Verdict, str]:
    finding = calendar(sight(a_ramp(calendar=rules), now_s))
    return finding.verdict, finding.why


@pytest.mark.parametrize(
    ("text", "verdict", "why"),
    [
        ("2027-01-19T10:00", PASS, "Tuesday 10:00 Europe/Berlin is allowed"),
        ("2027-01-19T15:59", PASS, "Tuesday 15:59 Europe/Berlin is allowed"),
        (
            "2027-01-19T09:59",
            HOLD,
            "steps are taken between 10:00 and 16:00 Europe/Berlin; steps go on Tue 2027-01-19 10:00 Europe/Berlin",
        ),
        (
            "2027-01-19T16:00",
            HOLD,
            "steps are taken between 10:00 and 16:00 Europe/Berlin; steps go on Wed 2027-01-20 10:00 Europe/Berlin",
        ),
        ("2027-01-22T12:00", HOLD, "no steps on a Friday; steps go on Tue 2027-01-26 10:00 Europe/Berlin"),
    ],
)
def test_hours_and_days(text: str, verdict: Verdict, why: str) -> None:
    """Steps are taken on the days and in the hours that are allowed, by the clock of the zone."""
    assert at_that_time(WORKDAYS, at(text)) == (verdict, why)


def test_the_zone() -> None:
    """The same moment is an hour for steps in one zone and none in another."""
    noon_s = at("2027-01-19T15:30")

    assert at_that_time(WORKDAYS, noon_s)[0] is PASS
    assert at_that_time(replace(WORKDAYS, zone="Asia/Tokyo"), noon_s)[0] is HOLD


def test_no_calendar() -> None:
    """Without one every hour is allowed; so it is with one that says nothing."""
    assert at_that_time(None, NOON_S) == (PASS, "every hour is allowed")
    assert at_that_time(Calendar(), NOON_S)[0] is PASS


def test_month_end() -> None:
    """No steps in the last days of a month, however long it is."""
    rules = Calendar(month_end_days=3)
    why = "no steps in the last 3 days of a month; steps go on Mon 2027-03-01 00:00 UTC"

    assert at_that_time(rules, at("2027-02-25T23:59", "UTC"))[0] is PASS
    assert at_that_time(rules, at("2027-02-26T00:00", "UTC")) == (HOLD, why)
    assert at_that_time(rules, at("2027-03-28T12:00", "UTC"))[0] is PASS


def test_blackout() -> None:
    """No steps on a date that is blacked out."""
    rules = Calendar(blackout=("2026-12-24", "2026-12-25"))
    why = "2026-12-24 is blacked out; steps go on Sat 2026-12-26 00:00 UTC"

    assert at_that_time(rules, at("2026-12-24T12:00", "UTC")) == (HOLD, why)


def test_the_night_when_clocks_change() -> None:
    """An hour that a zone leaves out or has twice is told by its clock, and what it leaves out opens nothing early."""
    night = Calendar(zone="Europe/Berlin", from_="02:00", until="03:00")

    assert at_that_time(night, at("2026-10-25T02:30", fold=0))[0] is PASS
    assert at_that_time(night, at("2026-10-25T02:30", fold=1))[0] is PASS
    # On 28 March 2027 there is no hour between two and three.
    assert at_that_time(night, at("2027-03-28T01:59"))[0] is HOLD
    assert at_that_time(night, at("2027-03-28T03:00"))[0] is HOLD


def test_never() -> None:
    """Rules that allow no hour of a year say so."""
    assert at_that_time(Calendar(month_end_days=31), NOON_S)[1].endswith(
        "steps go on never: look at the calendar's rules"
    )


def test_the_next_opening() -> None:
    """Now, if it is open now."""
    opens = next_opening(WORKDAYS, at("2027-01-19T12:34"))

    assert opens is not None
    assert opens.timestamp() == at("2027-01-19T12:34")
