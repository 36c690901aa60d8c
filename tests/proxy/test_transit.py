"""A request on its way: along the chain, and what its caller gets, whatever happens in between."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from transiting import (
    DONE,
    EVENT,
    EVENTS,
    GOOD,
    JSON,
    PING,
    PING_AFTER_S,
    TIMEOUTS,
    Ride,
    Road,
    answered,
    error_event,
)

from pointsman.core.errors import Wire
from pointsman.core.model import Family
from pointsman.proxy.api import Api
from pointsman.proxy.limits import Bounds
from pointsman.proxy.relay import AFTER_END_S
from pointsman.proxy.sse import HELD_BYTES_MAX


def streaming(road: Road | None = None, first: bytes = EVENT, **more: Any) -> Ride:
    """A stream that has begun."""
    ride = Ride(road or Road(), stream=True, **more).begin()
    ride.hears(answered(200, EVENTS), first)
    return ride


# --- along the chain


def test_every_target_is_asked_once_and_then_the_caller_is_told() -> None:
    """In the chain's order; the answer names each and why, and says that asking again is no use."""
    road = Road()
    ride = Ride(road).begin()
    for wire in (Wire.RESET, Wire.REFUSED, Wire.TLS):
        ride.breaks(wire)
    caller = ride.caller
    assert (ride.asked, caller.end, caller.status) == ("a b c", "reply", 502)
    assert caller.error["code"] == "fallback_exhausted"
    assert all(f"{target}: " in caller.error["message"] for target in "abc")
    assert caller.header("x-should-retry") == "false"
    assert (road.counted(), caller.due_s) == ({"outage": 3}, math.inf)


def test_an_answer_leaves_before_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller does not wait for the books; they are done when the next request may be taken."""
    road = Road(max_in_flight=1)
    ride = Ride(road).begin()
    counted: list[dict[str, int]] = []

    def noting(original: Callable[..., None]) -> Callable[..., None]:
        def noted(*args: Any) -> None:
            counted.append(road.counted())
            original(*args)

        return noted

    for name in ("whole", "done"):
        monkeypatch.setattr(ride.caller, name, noting(getattr(ride.caller, name)))
    ride.hears(answered(), GOOD, ended=True)
    assert counted == [{}, {"ok": 1}]
    road.check_nothing_is_left()


def test_when_all_are_throttled_the_first_to_be_back_says_when() -> None:
    """Retry-After is the shortest of what the targets asked for."""
    ride = Ride(Road()).begin()
    for wait in (b"30", b"7", b"60"):
        ride.hears(answered(429, JSON, (b"Retry-After", wait)), b"{}", ended=True)
    assert (ride.caller.status, ride.caller.header("retry-after")) == (502, "7")


def test_a_full_target_is_passed_over() -> None:
    """Its place is taken by the next of the chain, for as long as it is full."""
    road = Road(max_in_flight=1)
    first, second = Ride(road).begin(), Ride(road).begin()
    assert (first.asked, second.asked) == ("a", "b")
    first.hears(answered(), GOOD, ended=True)
    assert Ride(road).begin().asked == "a"


def test_with_all_targets_full_the_caller_may_ask_again() -> None:
    """503, and when; nobody is asked, and no target has failed."""
    road = Road("a b", max_in_flight=1)
    busy = [Ride(road).begin(), Ride(road).begin()]
    ride = Ride(road).begin()
    caller = ride.caller
    assert (ride.asked, caller.status, caller.header("retry-after")) == ("", 503, "1")
    assert (caller.header("x-should-retry"), road.counted()) == ("true", {})
    for one in busy:
        one.transit.gone()
    road.check_nothing_is_left()


def test_the_budget_for_falling_over_runs_out_and_comes_back() -> None:
    """When nearly everything fails each request is tried once, and says why; a good answer gives a try back."""
    road = Road(bounds=Bounds(retry_budget=2))
    ride = Ride(road).begin()
    ride.breaks()
    ride.breaks()
    assert (ride.asked, ride.caller.status) == ("a b", 502)
    assert "suspended" in ride.caller.error["message"]
    alone = Ride(road).begin()
    alone.breaks()
    assert (alone.asked, alone.caller.status) == ("a", 502)
    for _ in range(2):
        Ride(road).begin().hears(answered(), GOOD, ended=True)
    again = Ride(road).begin()
    again.breaks()
    assert again.asked == "a b"


def test_bodies_are_kept_up_to_a_bound_in_all() -> None:
    """What would be too much is sent once; when others are over, there is room again."""
    size = len(Ride(Road()).job.body)
    road = Road(bounds=Bounds(replay_bytes_in_all=2 * size))
    first, second, third = (Ride(road).begin() for _ in range(3))
    assert [ride.line.fresh for ride in (first, second, third)] == [False, False, True]
    third.breaks()
    assert third.caller.status == 502
    first.hears(answered(), GOOD, ended=True)
    fourth = Ride(road).begin()
    fourth.breaks()
    assert fourth.asked == "a b"


def test_a_begun_stream_keeps_no_body() -> None:
    """It may live for minutes, and will not be sent again."""
    road = Road()
    ride = streaming(road)
    assert (road.limits.kept_bytes, ride.job.body) == (0, b"")


# --- streams that have begun


def test_whole_events_are_passed_on_as_they_come() -> None:
    """Nothing is held back but the half of an event, until the end has passed."""
    ride = streaming()
    ride.hears(None, EVENT + EVENT[:9])
    assert ride.caller.body == EVENT * 2
    ride.hears(None, EVENT[9:] + DONE, ended=True)
    assert (ride.caller.body, ride.caller.end) == (EVENT * 3 + DONE, "finish")


def test_a_last_blank_line_may_be_missing() -> None:
    """The terminal event is passed on without it, and the stream is whole."""
    ride = streaming()
    ride.hears(None, DONE.rstrip(), ended=True)
    assert (ride.caller.body, ride.caller.end) == (EVENT + DONE.rstrip(), "finish")


def test_a_stream_is_not_given_the_length_that_its_provider_told() -> None:
    """Pings and last words may come into it."""
    ride = Ride(Road(), stream=True).begin()
    ride.hears(answered(200, EVENTS, length=len(EVENT + DONE)), EVENT)
    assert (ride.caller.status, ride.caller.length) == (200, None)


@pytest.mark.parametrize("how", [Wire.RESET, Wire.TRUNCATED, None])
def test_a_stream_that_breaks_gets_last_words_and_a_cut(how: Wire | None) -> None:
    """A break, and an end without the terminal event: an error of the family's, and no end that looks whole."""
    road = Road()
    ride = streaming(road)
    ride.hears(None, EVENT[:9])
    if how is None:
        ride.hears(None, ended=True)
    else:
        ride.breaks(how)
    caller = ride.caller
    assert (ride.asked, caller.end, road.counted()) == ("a", "cut", {"outage": 1})
    assert caller.body.startswith(EVENT + b"\n\ndata: ")
    assert b"stream_broken" in caller.body
    assert DONE not in caller.body


def test_an_error_after_the_first_event_is_passed_on_as_the_end() -> None:
    """The stream told it itself: it is whole, and the target has failed all the same."""
    road = Road()
    ride = streaming(road)
    told = error_event("overloaded_error")
    ride.hears(None, told, ended=True)
    assert (ride.caller.body, ride.caller.end, road.counted()) == (EVENT + told, "finish", {"overload": 1})


def test_a_break_after_the_terminal_event_is_nobodys_loss() -> None:
    """The answer is complete."""
    ride = streaming()
    ride.hears(None, DONE)
    ride.breaks()
    assert (ride.caller.end, ride.faults) == ("finish", ["ok"])


def test_silence_after_the_terminal_event_ends_it_well() -> None:
    """A provider that forgets to end its stream is waited for a moment, without pings, and dropped."""
    ride = streaming()
    ride.hears(None, DONE)
    assert ride.rings() == pytest.approx(AFTER_END_S)
    assert (ride.caller.body, ride.caller.end) == (EVENT + DONE, "finish")
    assert (ride.faults, ride.line.dropped) == (["ok"], True)


def test_silence_is_filled_with_pings_until_it_is_too_long() -> None:
    """One after ping_after_s, and so on; after idle_s of silence the stream has stalled."""
    road = Road()
    ride = streaming(road)
    waits_s = []
    while not ride.over:
        waits_s.append(ride.rings())
    assert waits_s == [pytest.approx(PING_AFTER_S)] * 4
    assert ride.caller.body.startswith(EVENT + PING * 3 + b"\n\n")
    assert (ride.caller.end, ride.line.dropped) == ("cut", True)
    assert [one.detail for one in ride.job.record.attempts] == [Wire.STALL.value]


def test_a_ping_is_put_off_by_what_comes() -> None:
    """Silence counts from the last that came, events or comments."""
    ride = streaming()
    ride.now_s += PING_AFTER_S - 1
    ride.hears(None, b": here\n\n")
    assert ride.caller.due_s == ride.now_s + PING_AFTER_S
    ride.rings()
    assert ride.caller.body.endswith(PING)


def test_no_ping_goes_between_the_pieces_of_an_event() -> None:
    """One too large to be held passes in pieces: silence in the middle of it is borne, up to idle_s."""
    ride = streaming()
    ride.hears(None, b'data: {"x": "' + b"y" * HELD_BYTES_MAX)
    assert len(ride.caller.body) > HELD_BYTES_MAX
    assert ride.rings() == pytest.approx(TIMEOUTS.idle_s)
    assert (PING in ride.caller.body, ride.caller.end) == (False, "cut")


def test_a_message_stream_is_pinged_in_its_own_form() -> None:
    """Clients of Anthropic's skip a ping event."""
    start = b'event: message_start\ndata: {"type": "message_start", "message": {}}\n\n'
    ride = streaming(Road(family=Family.ANTHROPIC), start, api=Api.MESSAGES)
    ride.rings()
    assert ride.caller.body == start + b'event: ping\ndata: {"type": "ping"}\n\n'


def test_a_slow_caller_is_no_silent_provider() -> None:
    """While the caller reads nothing, no silence counts and no ping is sent, however long it takes."""
    ride = streaming()
    ride.caller.paused = True
    for _ in range(20):
        ride.rings()
    assert (ride.caller.body, ride.caller.end) == (EVENT, "")
    ride.caller.paused = False
    waited_s = 0.0
    while not ride.over:
        waited_s += ride.rings()
    assert waited_s == pytest.approx(TIMEOUTS.idle_s)


def test_an_answer_that_is_no_stream_is_never_pinged() -> None:
    """One too large to be held is begun: silence cuts it, and no words are put into it."""
    ride = Ride(Road()).begin()
    ride.hears(answered(200, length=None), b"x" * (9 << 20))
    assert ride.rings() == pytest.approx(TIMEOUTS.idle_s)
    assert (len(ride.caller.body), ride.caller.end) == (9 << 20, "cut")


def test_the_provider_is_read_no_faster_than_the_caller_reads() -> None:
    """`hold` reaches the line of the present attempt, before and after the answer has begun."""
    ride = Ride(Road(), stream=True).begin()
    ride.breaks()
    for head in (answered(200, EVENTS), None):
        ride.hears(head, EVENT)
        ride.transit.hold(held=True)
        assert ride.line.held
        ride.transit.hold(held=False)
        assert not ride.line.held


def test_a_caller_who_still_reads_another_answer_holds_the_next_one() -> None:
    """Its connection was full before this request began: the provider is not read on, until it has room again."""
    ride = Ride(Road(), stream=True)
    ride.caller.paused = True
    ride.begin()
    ride.hears(answered(200, EVENTS), EVENT)
    assert ride.line.held
    ride.caller.paused = False
    ride.transit.hold(held=False)
    assert not ride.line.held


# --- callers that go, and a proxy that does


def sent(road: Road) -> Ride:
    return Ride(road, stream=True).begin()


def fallen_over(road: Road) -> Ride:
    ride = sent(road)
    ride.breaks()
    return ride


def resent(road: Road) -> Ride:
    ride = sent(road)
    ride.breaks(stale=True)
    return ride


def whole_half(road: Road) -> Ride:
    ride = Ride(road).begin()
    ride.hears(answered(), GOOD[:9])
    return ride


def first_awaited(road: Road) -> Ride:
    ride = sent(road)
    ride.hears(answered(200, EVENTS), EVENT[:9])
    return ride


def passing(road: Road) -> Ride:
    return streaming(road)


def passing_ended(road: Road) -> Ride:
    ride = streaming(road)
    ride.hears(None, DONE)
    return ride


TRYING = [sent, fallen_over, resent, whole_half, first_awaited]
STAGES = [*TRYING, passing, passing_ended]
Stage = Callable[[Road], Ride]


@pytest.mark.parametrize("stage", STAGES)
def test_a_caller_who_goes_takes_the_request_with_it(stage: Stage) -> None:
    """Wherever it was: the provider hears of it at once, the caller nothing, and the attempt is nobody's failure."""
    road = Road(max_in_flight=1)
    ride = stage(road)
    body = ride.caller.body
    ride.transit.gone()
    assert (ride.over, ride.line.dropped, ride.caller.due_s) == (True, True, math.inf)
    assert (ride.faults[-1], ride.job.record.status) == ("abandoned", 499)
    assert (ride.caller.body, ride.caller.end) == (body, "")
    road.check_nothing_is_left()


@pytest.mark.parametrize("stage", TRYING)
def test_a_proxy_that_goes_down_sends_who_waits_elsewhere(stage: Stage) -> None:
    """503 with leave to try again; the provider hears of it."""
    road = Road(max_in_flight=1)
    ride = stage(road)
    ride.transit.cut_off()
    caller = ride.caller
    assert (caller.end, caller.status, ride.line.dropped) == ("reply", 503, True)
    assert (caller.header("x-should-retry"), caller.header("retry-after")) == ("true", "1")
    assert ride.faults[-1] == "abandoned"
    road.check_nothing_is_left()


@pytest.mark.parametrize("stage", [passing, passing_ended])
def test_a_proxy_that_goes_down_ends_what_has_begun_with_a_word(stage: Stage) -> None:
    """An error event and a cut; it is no fault of the target's."""
    road = Road(max_in_flight=1)
    ride = stage(road)
    ride.transit.cut_off()
    assert (ride.caller.end, ride.line.dropped, ride.faults) == ("cut", True, ["abandoned"])
    assert b"going down" in ride.caller.body
    road.check_nothing_is_left()


def test_who_is_over_hears_and_says_nothing_more() -> None:
    """Late words of a provider, of the alarm, of the caller and of the operator change nothing."""
    road = Road()
    ride = Ride(road).begin()
    ride.hears(answered(), GOOD, ended=True)
    way, now_s = ride.transit, ride.now_s
    way.heard(answered(), GOOD, now_s, ended=True)
    way.failed(Wire.RESET, now_s)
    way.ring(now_s)
    way.hold(held=True)
    way.gone()
    way.cut_off()
    assert (ride.asked, ride.caller.body, ride.job.record.status) == ("a", GOOD, 200)
    assert road.counted() == {"ok": 1}
