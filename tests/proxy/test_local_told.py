"""What a proxy's own breaker tells of itself, on a clock that the test holds."""

from test_local import FAILED, Lane

from pointsman.core.errors import SUCCESS, of_response
from pointsman.proxy.local import LocalBreaker


def test_each_change_is_told_once() -> None:
    """Out, out again after a trial that failed, and in; not for every failure of a target that is out."""
    told: list[tuple[str, bool, str, float]] = []
    lane = Lane(breaker=LocalBreaker(5, 10.0, lambda *change: told.append(change)))
    lane.outcomes(*[FAILED] * 7)
    lane.outcomes(FAILED, now_s=11.0)
    lane.outcomes(SUCCESS, now_s=22.0)
    lane.outcomes(SUCCESS, now_s=23.0)
    assert told == [
        ("a", True, "5 in a row, the last: connection reset", 10.0),
        ("a", True, "8 in a row, the last: connection reset", 10.0),
        ("a", True, "it answers", 0.0),
    ]


def test_a_run_over_both_lanes_is_told_whole() -> None:
    """Three streams and two whole answers: five in a row."""
    told: list[tuple[str, bool, str, float]] = []
    breaker = LocalBreaker(5, 10.0, lambda *change: told.append(change))
    Lane(breaker=breaker).outcomes(*[FAILED] * 3)
    Lane(breaker=breaker, streamed=False).outcomes(*[FAILED] * 2)
    assert told == [
        ("a", False, "5 in a row, the last: connection reset", 10.0),
        ("a", True, "5 in a row, the last: connection reset", 10.0),
    ]


def test_a_rate_limit_a_hang_and_a_return_by_the_table_are_told() -> None:
    """With what the provider asked for, and with how many wait."""
    told: list[tuple[str, bool, str, float]] = []
    lane = Lane(breaker=LocalBreaker(5, 10.0, lambda *change: told.append(change)), streamed=False)
    lane.outcomes(of_response(429, {"retry-after": "7"}, None, now_s=0.0))
    lane.generation = 1
    lane.warm()
    for _ in range(6):
        lane.begin(1.0)
    lane.standing(60.0)
    assert [change[1:] for change in told] == [
        (False, "HTTP 429", 7.0),
        (False, "the table brought it back", 0.0),
        (False, "6 requests are overdue and none is answered", 10.0),
    ]
