"""Runs of failures over several proxies, and whose trouble they are."""

from typing import Any

import pytest

from pointsman.core.evidence import (
    STREAM,
    UNARY,
    Lane,
    Report,
    TargetReport,
)
from pointsman.core.model import Health, Path, State
from reports import (
    ANSWERING,
    lanes,
    remembering,
    report,
    run_of,
    sorted_out,
)
from world import NOON_S


def streak_of(*reports: Report, **fields: Any) -> tuple[int | None, str, bool, float]:
    seen = sorted_out(*reports, **fields).seen["bedrock"]
    return seen.streak, seen.streak_detail, seen.refuses, seen.last_ok_s


def test_runs_add_up() -> None:
    """Runs of failures on two proxies add up if nobody had a success since; the longer one's detail is told."""
    one = lanes("p1", unary=run_of(2, detail="HTTP 500"))
    two = lanes("p2", unary=run_of(3, detail="connection refused", refuses=True))

    assert streak_of(one, two) == (5, "connection refused", True, 0.0)


def test_a_success_elsewhere_ends_a_run() -> None:
    """A success on another proxy after a run began makes it noise; one from before does not."""
    running = lanes("p1", unary=run_of(4, since_s=NOON_S))

    assert streak_of(running, lanes("p2", unary=Lane(last_ok_s=NOON_S + 0.1)))[0] == 0
    assert streak_of(running, lanes("p2", unary=Lane(last_ok_s=NOON_S)))[0] == 4


def test_the_longer_lane_counts() -> None:
    """Streams and whole answers are runs of their own; the longer one counts, not the sum."""
    lane = {STREAM: run_of(3, detail="stream stalled"), UNARY: run_of(2)}
    ends = {UNARY: Lane(last_ok_s=NOON_S + 9), STREAM: run_of(3, detail="stream stalled")}

    assert streak_of(lanes(**lane)) == (3, "stream stalled", False, 0.0)
    assert streak_of(lanes(**dict(reversed(lane.items())))) == (3, "stream stalled", False, 0.0)
    assert streak_of(lanes(**ends)) == (3, "stream stalled", False, NOON_S + 9)


def test_no_run() -> None:
    """A lane with nothing but successes is a run of none, without a detail."""
    assert streak_of(lanes(unary=Lane(last_ok_s=NOON_S))) == (0, "", False, NOON_S)


def test_lanes_of_before() -> None:
    """What was counted before the target came back into service does not count now."""
    state = State(health={"bedrock": Health(generation=2)})

    assert streak_of(lanes(generation=1, unary=run_of(9)), state=state)[0] is None
    assert streak_of(lanes(generation=2, unary=run_of(9)), state=state)[0] == 9


def test_a_lost_proxy_has_no_run() -> None:
    """The lanes of a proxy that is lost for more than five seconds do not count."""
    first = sorted_out(lanes("p1", unary=run_of(4)))
    for after_s, streak in ((5.0, 5), (5.1, 1)):
        now = report("p2", targets={"bedrock": TargetReport(lanes={UNARY: run_of(1)})})
        gathered = sorted_out(
            lanes("p1", unary=run_of(4)), now, state=remembering(first), now_s=NOON_S + after_s
        )
        assert gathered.seen["bedrock"].streak == streak


def test_live_success() -> None:
    """The last success of all targets is when traffic was last known to succeed."""
    both = sorted_out(lanes(unary=Lane(last_ok_s=7.0)), lanes("p2", target="meta", unary=Lane(last_ok_s=9.0)))

    assert both.live_success_s == 9.0
    assert sorted_out().live_success_s == 0.0


# --- whose trouble


def refused(*targets: str, seq: int = 1, **fields: Any) -> Report:
    run = run_of(3, detail="connection refused", refuses=True, **fields)
    entries = {name: TargetReport(counts={"outage": 3 * seq}, lanes={UNARY: run}) for name in targets}
    return report(seq=seq, targets=entries)


def test_a_proxy_in_trouble() -> None:
    """A proxy that is refused by all while one of them answers the leader is the one in trouble: nothing counts."""
    gathered = sorted_out(refused("bedrock", "google"), state=State(paths=ANSWERING))

    assert gathered.vantages["p1"].troubled
    assert gathered.vantages["p1"].troubled_s == NOON_S
    assert gathered.seen == {}


@pytest.mark.parametrize(
    ("told", "paths"),
    [
        (refused("bedrock"), ANSWERING),
        (refused("bedrock", "nobody"), ANSWERING),
        (refused("bedrock", "google"), {}),
        (refused("bedrock", "google"), {"bedrock": Path(answered_s=NOON_S - 30.1)}),
        (refused("bedrock", "google"), {"bedrock": Path(answered_s=NOON_S - 1, silent_s=NOON_S - 1)}),
        (refused("bedrock", "google"), {"meta": Path(answered_s=NOON_S)}),
        (
            report(
                targets={
                    **refused("bedrock", "google").targets,
                    "meta": TargetReport(lanes={UNARY: Lane(last_ok_s=NOON_S)}),
                }
            ),
            ANSWERING,
        ),
        (
            report(
                targets={
                    **refused("bedrock", "google").targets,
                    "meta": TargetReport(lanes={UNARY: run_of(9)}),
                }
            ),
            ANSWERING,
        ),
    ],
    ids=[
        "one",
        "one known",
        "no answer",
        "old answer",
        "silent since",
        "another's",
        "a success",
        "no refusal",
    ],
)
def test_not_the_proxys_trouble(told: Report, paths: dict[str, Path]) -> None:
    """One provider, nobody who answers the leader, or any success or answer: then it is not the proxy."""
    assert not sorted_out(told, state=State(paths=paths)).vantages["p1"].troubled


def test_barely_the_proxys_trouble() -> None:
    """An answer to the leader counts for 30 s, and targets without a lane do not speak for the proxy."""
    told = report(targets={**refused("bedrock", "google").targets, "meta": TargetReport()})
    paths = {"bedrock": Path(answered_s=NOON_S - 30, silent_s=NOON_S - 31)}

    assert sorted_out(told, state=State(paths=paths)).vantages["p1"].troubled


def test_trouble_leaves_nothing_behind() -> None:
    """Well again, what failed in its trouble is neither counted nor a run; what fails now is."""
    first = sorted_out(refused("bedrock", "google"), state=State(paths=ANSWERING))
    well = refused("bedrock", "google", seq=2)
    well.targets["meta"] = TargetReport(lanes={UNARY: Lane(last_ok_s=NOON_S + 1)})
    second = sorted_out(well, state=remembering(first), now_s=NOON_S + 1)
    after = refused("bedrock", seq=3, since_s=NOON_S + 2)
    third = sorted_out(after, state=remembering(second), now_s=NOON_S + 2)

    assert not second.vantages["p1"].troubled
    assert second.seen["bedrock"].streak is None
    assert second.seen["bedrock"].counts == {"outage": 3}
    assert third.seen["bedrock"].streak == 3
