"""Differences of cumulative reports: what went through the proxies while somebody watched."""

from typing import Any

import pytest

from pointsman.core.evidence import TargetReport
from pointsman.core.latency import latency_cell
from pointsman.core.ramp_model import Arm
from pointsman.core.traffic import (
    CROWDED_BITS,
    REPORT_AGE_S,
    SILENT_S,
    Seen,
    Watch,
    added,
    begun,
    callers,
    looked,
    measured,
    p95_ms,
    shared,
    silent,
    targets_of,
    together,
)
from reports import report
from world import NOON_S, plan_of

LATER_S = NOON_S + 10


def entry(**counts: int) -> dict[str, TargetReport]:
    return {"bedrock": TargetReport(counts=counts)}


def maps(failed: int, callers: int = 0, failing: int = 0, **more: int) -> dict[str, TargetReport]:
    counts = {"outage": failed, **more}
    return {"bedrock": TargetReport(counts=counts, callers=callers, callers_failing=failing)}


def seen_after(
    before: list[Any], *after: list[Any], now_s: float = LATER_S, since_s: float = NOON_S
) -> tuple[Watch, dict[str, Seen]]:
    """The watch and all that was seen, when `before` was there at first and then each of `after`."""
    watch, total = begun(before, since_s), dict[str, Seen]()
    for reports in after:
        watch, seen = looked(watch, reports, now_s)
        total = added(total, seen)
    return watch, total


def requests(seen: dict[str, Seen], target: str = "bedrock") -> tuple[int, int]:
    return (seen[target].arm.ok, seen[target].arm.failed) if target in seen else (0, 0)


def test_only_what_is_new_counts() -> None:
    """What had been counted when the watch began is not of it; callers' own faults are neither."""
    _, seen = seen_after([report(seq=1, targets=entry(ok=90, outage=9))],
                         [report(seq=2, targets=entry(ok=100, outage=10, caller=7, abandoned=3))])  # fmt: skip
    assert requests(seen) == (10, 1)


def test_a_report_read_twice_or_an_older_one_counts_nothing() -> None:
    """Of the same boot only a later one says anything new."""
    old, new = report(seq=1, targets=entry(ok=1)), report(seq=2, targets=entry(ok=5))
    _, seen = seen_after([old], [new], [new], [old])
    assert requests(seen) == (4, 0)


def test_a_proxy_that_boots_meanwhile_counts_from_nothing() -> None:
    """All that its new life counted is of the watch, also where that is less than before."""
    _, seen = seen_after(
        [report(seq=9, targets=entry(ok=90))],
        [report(seq=10, targets=entry(ok=95))],
        [report(seq=1, boot="b2", started_s=NOON_S + 5, targets=entry(ok=3))],
    )
    assert requests(seen) == (8, 0)


def test_an_earlier_life_counts_nothing() -> None:
    """A report out of a store that went back, or of a namesake."""
    _, seen = seen_after(
        [report(seq=1, boot="b2", targets=entry(ok=1))],
        [report(seq=50, boot="b1", started_s=NOON_S - 99, targets=entry(ok=80))],
    )
    assert requests(seen) == (0, 0)


@pytest.mark.parametrize(("started_s", "counted"), [(NOON_S + 1, 7), (NOON_S - 1, 2)])
def test_a_proxy_that_is_first_heard_of_later(started_s: float, counted: int) -> None:
    """One that booted since the watch began counts whole; the past of an older one is not of the watch."""
    new = {"started_s": started_s}
    _, seen = seen_after(
        [], [report(seq=1, targets=entry(ok=5), **new)], [report(seq=2, targets=entry(ok=7), **new)]
    )
    assert requests(seen) == (counted, 0)


def test_proxies_are_summed_and_targets_kept_apart() -> None:
    """Histograms and maps as well."""
    cell = latency_cell(400)
    both = {
        "bedrock": TargetReport(counts={"ok": 2}, latency_ms={cell: 2}, first_token_ms={3: 1}, callers=1),
        "google": TargetReport(counts={"ok": 1}, callers=4),
    }
    other = {"bedrock": TargetReport(counts={"ok": 1}, latency_ms={cell: 1}, callers=2)}
    born = {"started_s": NOON_S + 1}
    _, seen = seen_after([], [report("p1", targets=both, **born), report("p2", targets=other, **born)])
    assert seen["bedrock"].arm == Arm(ok=3, latency_ms={cell: 3}, first_token_ms={3: 1}, callers=3)
    assert requests(seen, "google") == (1, 0)
    assert p95_ms(seen["bedrock"]) == (3.0 + 2, 400.0)
    assert together(seen.values()).arm.callers == 7


def test_synthetic_requests_are_apart() -> None:
    """They are in no success rate."""
    _, seen = seen_after(
        [report(seq=1)], [report(seq=2, targets={"bedrock": TargetReport(synthetic={"ok": 3, "outage": 1})})]
    )
    arm = seen["bedrock"].arm
    assert (arm.requests, arm.synthetic_ok, arm.synthetic_failed) == (0, 3, 1)
    assert seen["bedrock"].success is None


def test_the_success_rate() -> None:
    """Good ones of all that say something of the target."""
    assert Seen(arm=Arm(ok=97, failed=3)).success == 0.97


def test_silence() -> None:
    """Who was known and says nothing new is silent, and who stopped a while ago."""
    watch, _ = seen_after(
        [report("dead"), report("alive")],
        [report("dead"), report("alive", seq=2)],
        [report("born", started_s=LATER_S)],
    )
    assert silent(watch, LATER_S + SILENT_S) == ["dead"]
    assert silent(watch, LATER_S + SILENT_S + 1) == ["alive", "born", "dead"]


# --- callers


def test_failing_callers_of_before_are_doubtful() -> None:
    """The maps hold a minute and the one before: who is in it since before the watch may have failed then only."""
    _, seen = seen_after(
        [report(seq=1, targets=maps(1, 0b11, 0b01))], [report(seq=2, targets=maps(3, 0b111, 0b101, ok=7))]
    )
    assert (seen["bedrock"].arm.callers_failing, seen["bedrock"].doubtful) == (0b100, 0b001)
    found = callers(seen["bedrock"])
    assert (round(found.failing_low), round(found.failing_high)) == (1, 2)


def test_maps_that_have_turned_over_are_of_the_watch() -> None:
    """Two minutes later nothing of before is left in them."""
    two_minutes_s = (NOON_S // 60 + 2) * 60 + REPORT_AGE_S
    before, after = [report(seq=1, targets=maps(1, 1, 1))], [report(seq=2, targets=maps(2, 1, 1))]
    for now_s, failing in ((two_minutes_s - 0.1, 0), (two_minutes_s, 1)):
        _, seen = seen_after(before, after, now_s=now_s)
        assert seen["bedrock"].arm.callers_failing == failing


def test_maps_without_news_are_of_before() -> None:
    """Where nothing failed since, nobody did; where nothing was asked, nobody was there."""
    _, seen = seen_after([report(seq=1)], [report(seq=2, targets=maps(0, 0b11, 0b11, ok=4))])
    assert (seen["bedrock"].arm.callers_failing, seen["bedrock"].doubtful) == (0, 0)
    _, seen = seen_after([report(seq=1, targets=maps(2))], [report(seq=2, targets=maps(2, 0b11, 0b11))])
    assert seen["bedrock"].arm.callers == 0


def test_no_more_callers_than_requests() -> None:
    """Maps are estimates, counts are not."""
    found = callers(Seen(arm=Arm(ok=2, failed=1, callers=0b11111, callers_failing=0b111)))
    assert (found.all_low, found.all_high, found.failing_low, found.failing_high) == (3, 3, 1, 1)


def test_a_crowded_map_says_little() -> None:
    """Nearly full, it may stand for anybody up to the number of requests."""
    crowd = (1 << CROWDED_BITS) - 1
    assert callers(Seen(arm=Arm(ok=9000, callers=crowd))).all_high == 9000
    fewer = callers(Seen(arm=Arm(ok=9000, callers=crowd >> 1)))
    assert fewer.all_high == fewer.all_low < 200


# --- what is watched


def test_targets_and_the_other_routes_that_they_serve() -> None:
    """Reports are by target: what came over another route is in them too."""
    plan = plan_of({"chat": {"a": 60, "b": 40}, "batch": {"b": 100}, "other": {"c": 100}})
    assert targets_of(plan, ["batch", "chat"]) == ["b", "a"]
    assert shared(plan, ["chat"], ["a", "b"]) == {"b": ["batch"]}
    assert shared(plan, ["chat", "batch", "other"], ["a", "b", "c"]) == {}


def test_reports_without_latencies_are_no_baseline() -> None:
    """Records of large fleets leave them out; a target that never answered has none to leave out."""
    assert measured(
        [report(targets={"a": TargetReport(counts={"ok": 1}, latency_ms={3: 1}), **entry(outage=1)})]
    )
    assert not measured([report(targets=entry(ok=1))])
