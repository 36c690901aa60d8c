"""One attempt at one target: what is judged, and when, before any of it reaches the caller."""

import json
import math
from typing import Any

import pytest
from transiting import DONE, EVENT, EVENTS, GOOD, JSON, TIMEOUTS, Ride, Road, answered, error_event

from pointsman.core.errors import Wire
from pointsman.core.model import Family
from pointsman.proxy.api import Api
from pointsman.proxy.attempt import LOOK_S
from pointsman.proxy.judging import WHOLE_BYTES_MAX
from pointsman.proxy.limits import Bounds
from pointsman.proxy.local import PATIENCE_UNKNOWN_S

TOLD = error_event("invalid_request_error")
REFUSED = b'{"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "no"}}'


# --- whole answers


@pytest.mark.parametrize("place", [0, 1, len(GOOD) - 1, len(GOOD)])
def test_a_whole_answer_is_passed_on_once_it_has_ended(place: int) -> None:
    """Nothing is said before its end; then all of it at once, with the headers of the provider and of the proxy."""
    ride = Ride(Road()).begin()
    ride.hears(answered(200, JSON, (b"X-Request-Id", b"req_1")), GOOD[:place])
    ride.hears(None, GOOD[place:])
    assert not ride.caller.status
    ride.hears(None, ended=True)
    caller = ride.caller
    assert (caller.end, caller.status, caller.body) == ("whole", 200, GOOD)
    assert (caller.header("x-request-id"), caller.header("x-pointsman-target")) == ("req_1", "a")
    assert ride.faults == ["ok"]


def test_an_answer_of_the_callers_own_fault_is_passed_on() -> None:
    """A 400 would be one at any other target."""
    road = Road()
    ride = Ride(road).begin()
    ride.hears(answered(400), b'{"error": {}}', ended=True)
    assert (ride.asked, ride.caller.status, ride.caller.body) == ("a", 400, b'{"error": {}}')
    assert road.counted() == {"caller": 1}


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (500, JSON, b"{}"),
        (529, JSON, b"{}"),
        (429, JSON, b"{}"),
        (302, JSON, b""),
        (200, JSON, GOOD[:-1]),
        (200, (b"Content-Type", b"text/html"), b"<html>"),
        (204, (b"X-Mark", b"mark"), b""),
        (200, JSON, b'{"error": {"code": 502, "message": "upstream"}}'),
    ],
)
def test_a_whole_answer_that_is_none_falls_over(status: int, kind: tuple[bytes, bytes], body: bytes) -> None:
    """Another target is asked, and the caller hears nothing of the first."""
    ride = Ride(Road()).begin()
    ride.hears(answered(status, kind), body, ended=True)
    assert (ride.asked, ride.caller.status) == ("a b", 0)


def test_an_answer_too_large_to_hold_is_begun() -> None:
    """Up to the limit it is held; then what was held goes out at once and the rest as it comes; its length is told."""
    ride = Ride(Road()).begin()
    ride.hears(answered(200, length=WHOLE_BYTES_MAX + 9), b"x" * WHOLE_BYTES_MAX)
    assert not ride.caller.status
    ride.hears(None, b"y")
    assert (ride.caller.length, len(ride.caller.body)) == (WHOLE_BYTES_MAX + 9, WHOLE_BYTES_MAX + 1)
    ride.hears(None, b"z" * 8, ended=True)
    assert (ride.caller.end, ride.caller.body[-9:], ride.faults) == ("finish", b"y" + b"z" * 8, ["ok"])


# --- connections


def test_a_stale_connection_is_no_failure() -> None:
    """The request is sent again to the same target, on a fresh connection, and the answer is its first attempt's."""
    road = Road()
    ride = Ride(road).begin()
    ride.breaks(stale=True)
    assert ([line.fresh for line in ride.providers.lines], ride.asked) == ([False, True], "a a")
    assert ride.providers.lines[0].body == ride.line.body
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.caller.header("x-pointsman-attempt"), road.counted()) == ("1", {"ok": 1})


def test_a_stale_connection_is_forgiven_once() -> None:
    """What breaks a second time has failed, whatever it is called."""
    ride = Ride(Road()).begin()
    ride.breaks(stale=True)
    ride.breaks(stale=True)
    assert (ride.asked, ride.faults) == ("a a b", ["outage"])


@pytest.mark.parametrize("wire", list(Wire))
def test_whatever_breaks_before_the_first_byte_falls_over(wire: Wire) -> None:
    """Connecting, the handshake, a reset: the next target serves, and the answer says why."""
    road = Road()
    ride = Ride(road).begin()
    ride.breaks(wire)
    ride.hears(answered(), GOOD, ended=True)
    caller = ride.caller
    assert (ride.asked, caller.body, caller.header("x-pointsman-attempt")) == ("a b", GOOD, "2")
    assert caller.header("x-pointsman-reason") == f"fell over: a {wire.value}"
    assert road.counted() == {"outage": 1, "ok": 1}


def test_a_break_in_the_middle_of_an_answer_that_is_held_falls_over() -> None:
    """Nothing of it has reached the caller, and nothing of it will."""
    ride = Ride(Road()).begin()
    ride.hears(answered(), GOOD[:9])
    ride.breaks(Wire.TRUNCATED)
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.asked, ride.caller.body) == ("a b", GOOD)


# --- credentials


def test_a_refused_credential_gives_way_to_the_other() -> None:
    """At the same target, at once; it is tried first from then on."""
    road = Road(credentials=2)
    ride = Ride(road).begin()
    ride.hears(answered(401), REFUSED, ended=True)
    assert [line.credential for line in ride.providers.lines] == ["key-1", "key-2"]
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.asked, ride.caller.body, ride.faults) == ("a a", GOOD, ["ok"])
    later = Ride(road).begin()
    assert later.line.credential == "key-2"


def test_a_refused_credential_gives_way_for_a_stream_too() -> None:
    """What the other begins is passed on, and it is preferred as soon as it has begun."""
    road = Road(credentials=2)
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(401), REFUSED, ended=True)
    ride.hears(answered(200, EVENTS), EVENT)
    assert ride.caller.body == EVENT
    assert Ride(road, stream=True).begin().line.credential == "key-2"


def test_with_both_credentials_refused_the_first_answer_counts() -> None:
    """The attempt ends as the first refusal says; there is no third try, and nothing is preferred."""
    road = Road("a", credentials=2)
    ride = Ride(road).begin()
    ride.hears(answered(401), REFUSED, ended=True)
    ride.hears(answered(403), b"{}", ended=True)
    assert (ride.asked, ride.caller.status, ride.faults) == ("a a", 502, ["credential"])
    assert "HTTP 401 invalid_api_key" in ride.caller.error["message"]
    assert Ride(road).begin().line.credential == "key-1"


def test_a_second_credential_that_breaks_leaves_the_first_answer() -> None:
    """It was only a try: what the target said to the first stands."""
    road = Road(credentials=2)
    ride = Ride(road).begin()
    ride.hears(answered(401), REFUSED, ended=True)
    ride.breaks()
    assert (ride.asked, ride.faults) == ("a a b", ["credential"])


def test_one_credential_is_not_tried_twice() -> None:
    """With nothing to exchange it for, the next target is asked."""
    ride = Ride(Road()).begin()
    ride.hears(answered(401), REFUSED, ended=True)
    assert ride.asked == "a b"


# --- streams, until they have begun


def test_a_stream_is_held_back_until_its_first_real_event() -> None:
    """Comments and halves of events reach nobody before that; then everything goes out in its order."""
    ride = Ride(Road(), stream=True).begin()
    ride.hears(answered(200, EVENTS), b": processing\n\n")
    ride.hears(None, EVENT[:9])
    assert not ride.caller.status
    ride.hears(None, EVENT[9:] + EVENT[:5])
    assert (ride.caller.status, ride.caller.length) == (200, None)
    assert ride.caller.body == b": processing\n\n" + EVENT


def test_an_error_before_the_first_event_falls_over() -> None:
    """An overloaded provider answers 200 and then says so: the next one is asked."""
    ride = Ride(Road(), stream=True).begin()
    ride.hears(answered(200, EVENTS), b": processing\n\n" + error_event("overloaded_error"))
    assert (ride.asked, ride.caller.status, ride.faults) == ("a b", 0, ["overload"])
    assert ride.providers.lines[0].dropped


@pytest.mark.parametrize("told", [TOLD, TOLD.rstrip()])
def test_an_error_of_the_callers_own_kind_is_passed_on(told: bytes) -> None:
    """No target would do better: the caller gets the event, and a whole answer, also without its last blank line."""
    road = Road()
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), told, ended=True)
    caller = ride.caller
    assert (ride.asked, caller.status, caller.body, caller.end) == ("a", 200, told, "finish")
    assert road.counted() == {"caller": 1}


@pytest.mark.parametrize("sent", [b"", b": processing\n\n", EVENT[:9]])
def test_a_stream_that_ends_before_it_began_falls_over(sent: bytes) -> None:
    """Whether it was empty or cut off: there is nothing to pass on."""
    ride = Ride(Road(), stream=True).begin()
    ride.hears(answered(200, EVENTS), sent, ended=True)
    assert (ride.asked, ride.faults) == ("a b", ["outage"])


def test_a_stream_that_comes_at_once_is_passed_on_at_once() -> None:
    """Head, events and end in one piece."""
    road = Road()
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), EVENT + DONE, ended=True)
    assert (ride.caller.body, ride.caller.end, road.counted()) == (EVENT + DONE, "finish", {"ok": 1})


def test_a_ping_begins_no_stream() -> None:
    """A message that pings and then breaks has not begun: the next target is asked."""
    ride = Ride(Road(family=Family.ANTHROPIC), api=Api.MESSAGES, stream=True).begin()
    ride.hears(answered(200, EVENTS), b'event: ping\ndata: {"type": "ping"}\n\n')
    ride.breaks()
    assert (ride.asked, ride.caller.status) == ("a b", 0)


# --- deadlines


@pytest.mark.parametrize(
    ("stream", "after_s", "wire"),
    [
        (True, TIMEOUTS.first_byte_s, Wire.FIRST_BYTE_TIMEOUT),
        (False, TIMEOUTS.response_s, Wire.RESPONSE_TIMEOUT),
    ],
)
def test_a_deadline_ends_an_attempt(stream: bool, after_s: float, wire: Wire) -> None:
    """The alarm rings when it is over, the provider hears of it, and the next target has its own time."""
    ride = Ride(Road("a b"), stream=stream).begin()
    waited_s = 0.0
    while len(ride.providers.lines) == 1:
        waited_s += ride.rings()
    assert waited_s == pytest.approx(after_s)
    assert ride.providers.lines[0].dropped
    assert [attempt.detail for attempt in ride.job.record.attempts] == [wire.value]
    assert ride.caller.due_s == pytest.approx(ride.now_s + after_s)


def test_pings_do_not_put_off_the_deadline_of_the_first_event() -> None:
    """A stream that only shows signs of life is given up in time."""
    ride = Ride(Road("a b"), stream=True).begin()
    due_s = ride.caller.due_s
    ride.hears(answered(200, EVENTS), b": processing\n\n")
    ride.now_s += TIMEOUTS.first_byte_s - 1
    ride.hears(None, b": processing\n\n")
    assert ride.caller.due_s == due_s
    ride.rings()
    assert ride.asked == "a b"


def test_a_new_credential_has_its_own_time() -> None:
    """The deadline counts from when the request was sent with it."""
    ride = Ride(Road(credentials=2), stream=True).begin()
    ride.now_s += 20
    ride.hears(answered(401), REFUSED, ended=True)
    assert ride.caller.due_s == ride.now_s + TIMEOUTS.first_byte_s
    ride.now_s += TIMEOUTS.first_byte_s - 1
    ride.transit.ring(ride.now_s)
    assert ride.asked == "a a"


def overdue(road: Road) -> Ride:
    """A whole answer that takes longer than any should."""
    ride = Ride(road).begin()
    while ride.now_s < road.now_s + PATIENCE_UNKNOWN_S:
        ride.rings()
    return ride


def test_who_is_overdue_and_lost_is_given_up() -> None:
    """Its target is out by the newest table: the next one is asked, long before the deadline."""
    road = Road()
    road.lose("a")
    ride = overdue(road)
    assert (ride.asked, ride.now_s) == ("a b", road.now_s + PATIENCE_UNKNOWN_S)
    assert ride.providers.lines[0].dropped


def test_who_is_only_overdue_is_waited_for() -> None:
    """It is looked at again and again; once its target is out it is given up."""
    road = Road()
    ride = overdue(road)
    for _ in range(3):
        assert ride.rings() == pytest.approx(LOOK_S)
    assert ride.asked == "a"
    road.lose("a")
    ride.rings()
    assert ride.asked == "a b"


def test_an_answer_that_has_begun_to_come_is_not_given_up() -> None:
    """From its head on, nothing but its deadline ends it."""
    road = Road()
    ride = Ride(road).begin()
    ride.hears(answered(), GOOD[:9])
    road.lose("a")
    waited_s = 0.0
    while ride.asked == "a":
        waited_s += ride.rings()
    assert waited_s == TIMEOUTS.response_s


def test_the_last_target_is_never_given_up_early() -> None:
    """With nobody left to ask there is only the deadline."""
    road = Road("a")
    road.lose("a")
    ride = Ride(road).begin()
    assert ride.caller.due_s == road.now_s + TIMEOUTS.response_s


# --- bodies that are not kept


def test_a_body_that_is_not_kept_is_sent_on_a_fresh_connection_once() -> None:
    """Neither a stale connection nor a second credential sends it again."""
    for head, data in ((None, b""), (answered(401), REFUSED)):
        ride = Ride(Road(credentials=2, bounds=Bounds(replay_bytes=9))).begin()
        assert ride.line.fresh
        assert json.loads(ride.line.body)["model"] == "a-model"
        if head is None:
            ride.breaks(stale=True)
        else:
            ride.hears(head, data, ended=True)
        assert (ride.asked, ride.caller.status) == ("a", 502)
        assert "too large to be kept" in ride.caller.error["message"]


def test_our_own_fault_in_sending_falls_over() -> None:
    """What cannot be sent to one target may well be sent to the next."""

    def refuse(line: Any) -> None:
        if line.target == "a":
            raise ValueError("planted")

    ride = Ride(Road())
    ride.providers.refuse = refuse
    ride.begin()
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.asked, ride.caller.body, ride.caller.due_s) == ("b", GOOD, math.inf)
