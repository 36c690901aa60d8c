"""Runs of failures over several proxies."""

from typing import Any

from pointsman.core.evidence import (
    STREAM,
    UNARY,
    Lane,
    Report,
    TargetReport,
)
from pointsman.core.model import Health, State
from reports import (
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


def test_a_lane_is_a_run_of_its_own() -> None:
    """Whole answers that succeed do not end the run of the streams."""
    ends = {UNARY: Lane(last_ok_s=NOON_S + 9), STREAM: run_of(3, detail="stream stalled")}

    assert streak_of(lanes(**ends)) == (3, "stream stalled", False, NOON_S + 9)
    assert streak_of(lanes(**dict(reversed(ends.items())))) == (3, "stream stalled", False, NOON_S + 9)


def test_both_lanes_make_one_run() -> None:
    """Failures in either lane add up if neither has had a success since; the longer lane's detail is told."""
    lane = {STREAM: run_of(3, detail="stream stalled"), UNARY: run_of(2)}

    assert streak_of(lanes(**lane)) == (5, "stream stalled", False, 0.0)
    assert streak_of(lanes(**dict(reversed(lane.items())))) == (5, "stream stalled", False, 0.0)


def test_the_run_of_both_lanes_begins_with_the_last_success_in_either() -> None:
    """What failed in one lane before a success in the other is not in the run of both."""
    streams = run_of(4, times=tuple(NOON_S + at_s for at_s in (1, 2, 3, 4)))
    whole = run_of(3, since_s=NOON_S + 5, last_ok_s=NOON_S + 2.5)

    assert streak_of(lanes(stream=streams, unary=whole))[0] == 2 + 3


def test_what_a_run_asks_for() -> None:
    """The latest time until which failures of a run ask to be left alone; a run that ended asks for nothing."""
    one = lanes("p1", unary=run_of(1, retry_at_s=NOON_S + 60))
    two = lanes("p2", stream=run_of(1, retry_at_s=NOON_S + 30))
    ended = lanes("p2", unary=Lane(last_ok_s=NOON_S + 1))

    assert sorted_out(one, two).seen["bedrock"].retry_at_s == NOON_S + 60
    assert sorted_out(one, ended).seen["bedrock"].retry_at_s == 0.0


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
