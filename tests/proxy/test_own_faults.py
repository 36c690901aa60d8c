"""Whatever fails in the proxy itself, on a request's way: its caller is never left without an answer."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from transiting import DONE, EVENT, EVENTS, GOOD, Ride, Road, ScriptedLine, answered

from pointsman.proxy import attempt, transit
from pointsman.proxy.books import Books
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.outcomes import Ledger
from pointsman.proxy.sse import Watch
from support import interpreted

pytestmark = interpreted


def broken(*_: Any, **__: Any) -> Any:
    """In place of anything that may fail."""
    raise ZeroDivisionError("planted")


def once(original: Any) -> Any:
    """Fails the first time only."""
    calls: Iterator[Any] = iter([broken])

    def either(*args: Any, **more: Any) -> Any:
        return next(calls, original)(*args, **more)

    return either


@pytest.mark.parametrize(
    ("place", "name"), [(attempt, "judged"), (transit, "answer_lines"), (transit, "goes_on")]
)
def test_a_fault_over_a_whole_answer_falls_over(
    place: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one answer does to us does not end the chain: the next target's is passed on."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(place, name, once(getattr(place, name)))
    ride = Ride(road).begin()
    ride.hears(answered(), GOOD, ended=True)
    assert ride.asked == "a b"
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.caller.end, ride.caller.body) == ("whole", GOOD)
    road.check_nothing_is_left()


def test_a_fault_in_the_books_costs_no_caller_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole answer has left by then: it is said to be done, and nothing is asked again."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(Ledger, "record", broken)
    ride = Ride(road).begin()
    ride.hears(answered(), GOOD, ended=True)
    assert (ride.asked, ride.caller.end, ride.over, ride.caller.due_s) == ("a", "whole", True, math.inf)
    road.check_nothing_is_left()


def test_a_fault_in_writing_an_answer_falls_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that could not be put together has not left: there may be a better one."""
    road = Road(max_in_flight=1)
    ride = Ride(road).begin()
    monkeypatch.setattr(ride.caller, "whole", once(ride.caller.whole))
    for _ in "ab":
        ride.hears(answered(), GOOD, ended=True)
    assert (ride.asked, ride.caller.end, ride.caller.body) == ("a b", "whole", GOOD)
    road.check_nothing_is_left()


def test_a_fault_over_every_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all targets tried the caller gets the same as if they had all failed."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(attempt, "judged", broken)
    ride = Ride(road).begin()
    for _ in "abc":
        ride.hears(answered(), GOOD, ended=True)
    assert (ride.caller.status, ride.caller.due_s) == (502, math.inf)
    road.check_nothing_is_left()


def test_a_fault_over_the_beginning_of_a_stream_falls_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been said yet: the next target may do better, and the first hears that nobody listens."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(Watch, "feed", once(Watch.feed))
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), EVENT)
    assert (ride.asked, ride.providers.lines[0].dropped) == ("a b", True)
    ride.hears(answered(200, EVENTS), EVENT + DONE, ended=True)
    assert (ride.caller.end, ride.caller.body) == ("finish", EVENT + DONE)
    road.check_nothing_is_left()


def test_a_fault_in_the_middle_of_a_stream_ends_it_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has begun, and must not look whole."""
    road = Road(max_in_flight=1)
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), EVENT)
    monkeypatch.setattr(Watch, "feed", broken)
    ride.hears(None, EVENT)
    assert (ride.caller.end, ride.line.dropped) == ("cut", True)
    assert b"stream_broken" in ride.caller.body
    road.check_nothing_is_left()


def test_a_fault_in_beginning_an_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers of a stream cannot be written: the caller hears that, and the provider that nobody listens."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(transit, "answer_lines", broken)
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), EVENT)
    assert (ride.caller.end, ride.caller.status, ride.line.dropped) == ("fail", 500, True)
    road.check_nothing_is_left()


@pytest.mark.parametrize("name", ["broke", "silence"])
def test_a_fault_over_a_broken_or_silent_stream_cuts_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no words left, and the answer still must not look whole."""
    road = Road(max_in_flight=1)
    ride = Ride(road, stream=True).begin()
    ride.hears(answered(200, EVENTS), EVENT)
    monkeypatch.setattr(transit.Relay, name, broken)
    if name == "broke":
        ride.breaks()
    else:
        ride.rings()
    assert (ride.caller.end, ride.over) == ("cut", True)
    road.check_nothing_is_left()


def test_a_fault_in_looking_whether_to_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm of an attempt fails: the caller does not wait for ever."""
    road = Road(max_in_flight=1)
    ride = Ride(road).begin()
    monkeypatch.setattr(Forwarder, "lost", broken)
    ride.rings()
    assert (ride.caller.end, ride.caller.status, ride.line.dropped) == ("fail", 500, True)
    road.check_nothing_is_left()


def test_a_fault_in_falling_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further account can be opened: the caller hears it."""
    road = Road(max_in_flight=1)
    ride = Ride(road).begin()
    monkeypatch.setattr(Books, "open", broken)
    ride.breaks()
    assert (ride.caller.end, ride.caller.status) == ("fail", 500)
    road.check_nothing_is_left()


@pytest.mark.parametrize("name", ["order", "patience_s"])
def test_a_fault_at_the_start_leaves_nothing_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who started it hears the exception, tells the caller, and says that the caller is gone."""
    road = Road(max_in_flight=1)
    monkeypatch.setattr(Forwarder, name, broken)
    ride = Ride(road)
    with pytest.raises(ZeroDivisionError):
        ride.begin()
    ride.transit.gone()
    road.check_nothing_is_left()


def under_way(road: Road, *, begun: bool) -> Ride:
    """A request that waits for its answer, or whose answer has `begun`."""
    ride = Ride(road, stream=True).begin()
    if begun:
        ride.hears(answered(200, EVENTS), EVENT)
    return ride


LOSSES = [(Ledger, "record"), (ScriptedLine, "drop")]
LOSS_IDS = ["in the books", "in telling the provider"]


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "begun"])
@pytest.mark.parametrize(("place", "name"), LOSSES, ids=LOSS_IDS)
def test_a_fault_when_the_caller_goes_leaves_nothing_behind(
    place: Any, name: str, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there to be told: the request is over, its body given back, and who says so hears no exception."""
    road = Road(max_in_flight=1)
    ride = under_way(road, begun=begun)
    monkeypatch.setattr(place, name, broken)
    ride.transit.gone()
    assert (ride.over, ride.job.record.status, ride.caller.due_s) == (True, 499, math.inf)
    road.check_nothing_is_left()


@pytest.mark.parametrize(("place", "name"), LOSSES, ids=LOSS_IDS)
def test_a_fault_when_the_proxy_goes_down_still_sends_who_waits_elsewhere(
    place: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed concerns our books: the caller gets its 503 and may ask another proxy."""
    road = Road(max_in_flight=1)
    ride = under_way(road, begun=False)
    monkeypatch.setattr(place, name, broken)
    ride.transit.cut_off()
    assert (ride.caller.end, ride.caller.status, ride.over) == ("reply", 503, True)
    road.check_nothing_is_left()


@pytest.mark.parametrize(("place", "name"), LOSSES, ids=LOSS_IDS)
def test_a_fault_when_the_proxy_goes_down_still_cuts_what_has_begun(
    place: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not look whole, and the exception does not reach who has others to end."""
    road = Road(max_in_flight=1)
    ride = under_way(road, begun=True)
    monkeypatch.setattr(place, name, broken)
    ride.transit.cut_off()
    assert (ride.caller.end, ride.over) == ("cut", True)
    road.check_nothing_is_left()
