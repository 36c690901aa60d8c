"""Moments as operators write them."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from pointsman.cli.common import CommandError
from pointsman.cli.moments import end_s, shown, shown_in_utc, start_s

NOW_S = datetime.fromisoformat("2026-11-27T14:30:00.5+01:00").timestamp()


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator's machine is an hour before UTC in winter, two in summer."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("14:03", utc("2026-11-27 13:03:00")),
        ("14:03:20", utc("2026-11-27 13:03:20")),
        ("9:05", utc("2026-11-27 08:05:00")),
        ("14:30:00", utc("2026-11-27 13:30:00")),
        ("14:30:01", utc("2026-11-26 13:30:01")),
        ("2026-11-27 14:03:20", utc("2026-11-27 13:03:20")),
        ("2026-07-01 14:03", utc("2026-07-01 12:03:00")),
        ("2026-11-27T14:03:20+00:00", utc("2026-11-27 14:03:20")),
        ("2026-11-27T13:03:20Z", utc("2026-11-27 13:03:20")),
        ("2026-11-27T13:03:20.25Z", utc("2026-11-27 13:03:20.25")),
        (" 2026-11-27 ", utc("2026-11-26 23:00:00")),
        ("10m", NOW_S - 600),
        ("10m ago", NOW_S - 600),
        ("1h30m ago", NOW_S - 5400),
        ("1h 30m ago", NOW_S - 5400),
        ("90", NOW_S - 90),
        ("0s", NOW_S),
        ("now", NOW_S),
        ("99999d", 0.0),
        ("1900-01-01", 0.0),
    ],
)
def test_moments(written: str, meant: float) -> None:
    """Times of day are the last of their kind, dates are in the machine's zone, spans are ago."""
    assert start_s(written, NOW_S) == pytest.approx(meant)


@pytest.mark.parametrize(
    ("written", "longer_s"),
    [
        ("14:03:20", 0.999),
        ("14:03", 0.999),
        ("2026-11-27 14:03:20", 0.999),
        ("2026-11-27T13:03:20.25Z", 0.0),
        ("10m", 0.0),
        ("now", 0.0),
    ],
)
def test_a_moment_to_the_second_is_all_of_it(written: str, longer_s: float) -> None:
    """What was told within that second is there at its end; an exact moment is exact."""
    assert end_s(written, NOW_S) - start_s(written, NOW_S) == pytest.approx(longer_s)


@pytest.mark.parametrize(
    "written", ["", "soon", "25:00", "14:60", "2026-13-01", "10 minutes", "1.2.3", "ago", "0001-01-01"]
)
@pytest.mark.parametrize("parse", [start_s, end_s])
def test_what_is_no_moment_is_wrong_usage(parse: Callable[[str, float], float], written: str) -> None:
    """Exit code 2, and how to write one."""
    with pytest.raises(CommandError, match="write") as caught:
        parse(written, NOW_S)
    assert caught.value.code == 2


def test_moments_are_shown_in_the_machines_zone() -> None:
    """With the UTC that the sentences are in beside it, where it differs."""
    assert shown(NOW_S) == "2026-11-27 14:30:00"
    assert shown_in_utc(NOW_S) == "2026-11-27 14:30:00 (13:30:00 UTC)"


def test_a_machine_on_utc_sees_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said twice."""
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    assert shown_in_utc(NOW_S) == "2026-11-27 13:30:00"
