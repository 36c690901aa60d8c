"""Who is not troubled is in: the short look never hides what the long look would find."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.errors import ABANDONED, SUCCESS, Fault, Outcome, Wire, of_wire
from pointsman.proxy.local import LOOK_S, OVERDUE_UNKNOWN_S, LocalBreaker, Standing

FAILURES = 2
OUTCOMES = (
    of_wire(Wire.RESET),
    of_wire(Wire.RESET),
    of_wire(Wire.RESET),
    SUCCESS,
    ABANDONED,
    Outcome(Fault.RATE_LIMIT, retry_after_s=7.0),
    Outcome(Fault.CAPACITY),
    Outcome(Fault.QUOTA),
)

lanes = st.sampled_from((("a", True), ("a", True), ("a", False), ("b", True)))
happenings = st.one_of(
    st.tuples(st.just("begin"), lanes),
    st.tuples(st.just("begin"), lanes),
    st.tuples(st.just("fail"), lanes),
    st.tuples(st.just("answer"), st.integers(0, 9)),
    st.tuples(st.just("end"), st.tuples(st.integers(0, 9), st.sampled_from(OUTCOMES))),
    st.tuples(st.just("wait"), st.sampled_from((LOOK_S, 1.0, 3.0, 9.0, 11.0, 40.0))),
    st.tuples(st.just("return"), st.sampled_from("ab")),
    st.tuples(st.just("look"), lanes),
)


class Played:
    """A breaker, what it is told, and what it says of every lane afterwards."""

    def __init__(self) -> None:
        self.breaker = LocalBreaker(FAILURES, 10.0)
        self.now_s = 100.0
        self.generations = {"a": 0, "b": 0}
        self.under_way: list[tuple[str, bool, int]] = []
        self._told: list[tuple[str, tuple[Any, ...], bool]] = []

    def tell(self, what: str, *arguments: Any, streamed: bool) -> Any:
        """Tell the breaker something, and remember it."""
        self._told.append((what, arguments, streamed))
        return getattr(self.breaker, what)(*arguments, streamed=streamed)

    def twin(self) -> LocalBreaker:
        """Another breaker that was told the same."""
        breaker = LocalBreaker(FAILURES, 10.0)
        for what, arguments, streamed in self._told:
            getattr(breaker, what)(*arguments, streamed=streamed)
        return breaker

    def begin(self, target: str, streamed: bool) -> tuple[str, bool, int]:
        ticket = self.tell("began", target, self.generations[target], self.now_s, streamed=streamed)
        return target, streamed, ticket

    def happens(self, what: str, value: Any) -> None:
        """One thing, if there is anything that it can happen to."""
        match what:
            case "begin":
                self.under_way.append(self.begin(*value))
            case "fail":
                target, streamed, ticket = self.begin(*value)
                self.tell("ended", target, ticket, OUTCOMES[0], self.now_s, streamed=streamed)
            case "answer" if self.under_way:
                target, streamed, ticket = self.under_way[value % len(self.under_way)]
                self.tell("answered", target, ticket, self.now_s, streamed=streamed)
            case "end" if self.under_way:
                target, streamed, ticket = self.under_way.pop(value[0] % len(self.under_way))
                self.tell("ended", target, ticket, value[1], self.now_s, streamed=streamed)
            case "wait":
                self.now_s += value
            case "return":
                self.generations[value] += 1
            case "look":
                target, streamed = value
                self.tell("standing", target, self.generations[target], self.now_s, streamed=streamed)

    def check(self) -> int:
        """How many lanes are not simply in; all of their targets are troubled."""
        troubled = set(self.breaker.troubled(self.now_s))
        found, twin = 0, self.twin()  # the long look takes notes of what it finds: those of the twin
        for target in "ab":
            for streamed in (False, True):
                generation = self.generations[target]
                if twin.standing(target, generation, self.now_s, streamed=streamed) is not Standing.IN:
                    found += 1
                    assert target in troubled
        return found


@given(st.lists(happenings, max_size=60))
def test_whoever_is_not_in_is_troubled(script: list[tuple[str, Any]]) -> None:
    """Whatever has happened to the lanes: failures, hangs, rate limits, trials, returns."""
    played = Played()
    for what, value in script:
        played.happens(what, value)
        played.check()


def test_failures_trouble_at_once() -> None:
    """Between two looks for hangs, too."""
    played = Played()
    assert played.check() == 0
    for _ in range(FAILURES):
        played.happens("fail", ("a", True))
    assert played.check() == 1


def hanging() -> Played:
    """Many streams, unanswered for so long that one moment more is a hang."""
    played = Played()
    for _ in range(FAILURES):
        played.happens("begin", ("a", True))
    played.happens("wait", OVERDUE_UNKNOWN_S)
    assert played.check() == 0
    return played


def test_a_hang_troubles_with_the_next_look() -> None:
    """Within the time between two looks."""
    played = hanging()
    played.happens("wait", LOOK_S)
    assert played.check() == 1


def test_a_hang_that_the_long_look_has_noticed_troubles_at_once() -> None:
    """Who took a note of it says so to the others."""
    played = hanging()
    played.happens("wait", LOOK_S / 2)
    played.happens("look", ("a", True))
    assert played.breaker.troubled(played.now_s) == {"a"}


def test_who_is_on_trial_is_still_troubled() -> None:
    """After the cooldown one request at a time may go there, and somebody has to see to that."""
    played = Played()
    for _ in range(FAILURES):
        played.happens("fail", ("a", True))
    played.happens("wait", 11.0)
    assert played.check() == 1


def test_who_is_back_troubles_nobody_any_more() -> None:
    """Or every request would take the long way for ever."""
    played = Played()
    for _ in range(FAILURES):
        played.happens("fail", ("a", True))
    played.happens("wait", 11.0)
    played.happens("begin", ("a", True))
    played.happens("end", (0, SUCCESS))
    played.happens("wait", LOOK_S)
    assert played.check() == 0
    assert played.breaker.troubled(played.now_s) == set()
