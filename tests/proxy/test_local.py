"""A proxy's own reaction to failures, on a clock that the test holds."""

from pointsman.core.errors import ABANDONED, SUCCESS, Fault, Outcome, Wire, of_response, of_wire
from pointsman.proxy.local import LocalBreaker, Standing

FAILED = of_wire(Wire.RESET)


class Lane:
    """One target's streams, or whole answers."""

    def __init__(self, *, streamed: bool = True, breaker: LocalBreaker | None = None) -> None:
        self.breaker = breaker or LocalBreaker(5, 10.0)
        self.streamed = streamed
        self.generation = 0

    def standing(self, now_s: float) -> Standing:
        return self.breaker.standing("a", self.generation, now_s, streamed=self.streamed)

    def begin(self, now_s: float) -> int:
        return self.breaker.began("a", self.generation, now_s, streamed=self.streamed)

    def answer(self, ticket: int, now_s: float) -> None:
        self.breaker.answered("a", ticket, now_s, streamed=self.streamed)

    def end(self, ticket: int, outcome: Outcome, now_s: float) -> None:
        self.breaker.ended("a", ticket, outcome, now_s, streamed=self.streamed)

    def late(self, ticket: int, now_s: float) -> bool:
        """It ends well: too late to say anything of now?"""
        return self.breaker.ended("a", ticket, SUCCESS, now_s, streamed=self.streamed)

    def outcomes(self, *outcomes: Outcome, now_s: float = 0.0) -> None:
        for outcome in outcomes:
            self.end(self.begin(now_s), outcome, now_s)

    def warm(self, latency_s: float = 0.1, number: int = 50) -> None:
        for _ in range(number):
            ticket = self.begin(-latency_s)
            self.answer(ticket, 0.0)
            self.end(ticket, SUCCESS, 0.0)


def test_five_failures_in_a_row_eject() -> None:
    """Four do not, the fifth does."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 4)
    assert lane.standing(0.0) is Standing.IN
    lane.outcomes(FAILED)
    assert lane.standing(0.0) is Standing.OUT


def test_a_success_in_between_starts_the_count_again() -> None:
    """2 % of noise ejects nobody."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 4, SUCCESS, *[FAILED] * 4)
    assert lane.standing(0.0) is Standing.IN


def test_callers_faults_and_hang_ups_never_eject() -> None:
    """They neither count nor clear."""
    lane = Lane()
    lane.outcomes(*[Outcome(Fault.CALLER, status=400), ABANDONED] * 20)
    assert lane.standing(0.0) is Standing.IN
    lane.outcomes(*[FAILED] * 4, ABANDONED, FAILED)
    assert lane.standing(0.0) is Standing.OUT


def test_after_the_cooldown_single_trials() -> None:
    """One request at a time; a failure puts it out again, a success brings it back."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 5)
    assert lane.standing(9.9) is Standing.OUT
    assert lane.standing(10.0) is Standing.ON_TRIAL
    trial = lane.begin(10.0)
    assert lane.standing(10.1) is Standing.OUT
    lane.end(trial, FAILED, 11.0)
    assert lane.standing(20.9) is Standing.OUT
    trial = lane.begin(21.0)
    lane.end(trial, SUCCESS, 22.0)
    assert lane.standing(22.0) is Standing.IN


def test_a_trial_that_told_nothing_makes_room_for_the_next() -> None:
    """The caller hung up: still on trial."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 5)
    lane.end(lane.begin(10.0), ABANDONED, 10.5)
    assert lane.standing(10.5) is Standing.ON_TRIAL


def test_a_new_generation_forgets() -> None:
    """The table says that the target came back into service."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 5)
    lane.generation = 1
    assert lane.standing(0.0) is Standing.IN
    lane.outcomes(*[FAILED] * 4)
    assert lane.standing(0.0) is Standing.IN


def test_the_lanes_are_apart() -> None:
    """Broken streams do not take whole answers away."""
    breaker = LocalBreaker(5, 10.0)
    Lane(breaker=breaker).outcomes(*[FAILED] * 5)
    assert Lane(breaker=breaker, streamed=False).standing(0.0) is Standing.IN


def test_a_rate_limit_puts_out_for_as_long_as_asked() -> None:
    """At most the cooldown: then the table is the judge."""
    lane = Lane()
    lane.outcomes(Outcome(Fault.RATE_LIMIT, status=429, retry_after_s=3.0))
    assert lane.standing(2.9) is Standing.OUT
    assert lane.standing(3.0) is Standing.ON_TRIAL
    lane = Lane()
    lane.outcomes(Outcome(Fault.RATE_LIMIT, status=429, retry_after_s=7999.0))
    assert lane.standing(10.0) is Standing.ON_TRIAL


def test_a_hang_is_noticed_before_its_deadlines() -> None:
    """Five streams out for over two seconds where the normal is 0.1 s, and none answered since."""
    lane = Lane()
    lane.warm()
    for _ in range(5):
        lane.begin(1.0)
    assert lane.standing(2.9) is Standing.IN
    assert lane.standing(3.1) is Standing.OUT
    assert lane.breaker.overdue("a", 3.1) == 5


def test_an_answer_among_them_means_no_hang() -> None:
    """Slow requests beside answering ones are not a hang."""
    lane = Lane()
    lane.warm()
    for _ in range(5):
        lane.begin(1.0)
    quick = lane.begin(2.0)
    lane.answer(quick, 2.1)
    assert lane.standing(4.0) is Standing.IN


def test_one_answer_ends_a_suspected_hang() -> None:
    """It was slow, not dead."""
    lane = Lane()
    lane.warm()
    tickets = [lane.begin(1.0) for _ in range(5)]
    assert lane.standing(3.1) is Standing.OUT
    lane.answer(tickets[0], 3.2)
    assert lane.standing(3.2) is Standing.IN


def test_a_slow_model_is_measured_by_its_own_normal() -> None:
    """Answers of 10 s are not overdue after 20 s."""
    lane = Lane(streamed=False)
    lane.warm(latency_s=10.0)
    for _ in range(5):
        lane.begin(1.0)
    assert lane.standing(21.0) is Standing.IN
    assert lane.standing(31.1) is Standing.OUT


def test_without_a_known_normal_whole_answers_are_waited_for() -> None:
    """A fresh proxy does not take long answers for a hang; streams get ten seconds."""
    whole, streams = Lane(streamed=False), Lane()
    for _ in range(9):
        whole.begin(0.0)
        streams.begin(0.0)
    assert whole.standing(500.0) is Standing.IN
    assert streams.standing(9.0) is Standing.IN
    assert streams.standing(10.1) is Standing.OUT


def test_failures_from_before_the_target_came_back_do_not_count() -> None:
    """Five requests were sent before it came back, and end after: it stays in."""
    lane = Lane()
    tickets = [lane.begin(0.0) for _ in range(5)]
    lane.generation = 1
    assert lane.standing(1.0) is Standing.IN
    for ticket in tickets:
        lane.end(ticket, FAILED, 2.0)
    assert lane.standing(2.0) is Standing.IN


def test_a_request_under_an_older_table_does_not_count() -> None:
    """It falls over to the target by the table that it began with, in which the target had not come back yet."""
    lane = Lane()
    lane.generation = 1
    lane.outcomes(SUCCESS)
    lane.generation = 0
    lane.outcomes(*[FAILED] * 5)
    lane.generation = 1
    assert lane.standing(0.0) is Standing.IN


def test_fast_refusals_are_not_the_normal() -> None:
    """A target refuses bad requests in 50 ms and takes six seconds to answer good ones."""
    lane = Lane()
    for number in range(2_000):
        ticket = lane.begin(number)
        lane.answer(ticket, number + (0.05 if number % 50 else 6.0))
        lane.end(ticket, of_response(400, {}) if number % 50 else SUCCESS, number + 6.0)
    for _ in range(5):
        lane.begin(9_000.0)
    assert lane.standing(9_010.0) is Standing.IN


def test_long_answers_after_short_ones_are_no_hang() -> None:
    """Whole answers of 0.2 s, then five long ones: how long they take depends on what was asked."""
    lane = Lane(streamed=False)
    lane.warm(latency_s=0.2)
    for _ in range(5):
        lane.begin(1.0)
    assert lane.standing(30.0) is Standing.IN
    assert lane.standing(31.1) is Standing.OUT


def test_a_failure_does_not_end_a_hang() -> None:
    """Six hang; one of them gets a 500: the others hang still."""
    lane = Lane(streamed=False)
    lane.warm()
    tickets = [lane.begin(1.0) for _ in range(6)]
    assert lane.standing(31.1) is Standing.OUT
    lane.answer(tickets[0], 31.2)
    lane.end(tickets[0], of_response(500, {}), 31.2)
    assert lane.standing(31.3) is Standing.OUT
    lane.end(tickets[1], SUCCESS, 31.4)
    assert lane.standing(31.4) is Standing.IN


def test_a_streamed_trial_brings_back_with_its_first_event() -> None:
    """The stream goes on for minutes; a failure after all puts it out again."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 5)
    trial = lane.begin(10.0)
    assert lane.standing(10.1) is Standing.OUT
    lane.answer(trial, 10.5)
    assert lane.standing(10.5) is Standing.IN
    lane.end(trial, FAILED, 300.0)
    assert lane.standing(300.0) is Standing.OUT


def test_an_old_streams_end_does_not_end_a_hang() -> None:
    """It began long before: only a first event since then shows that the target answers."""
    lane = Lane()
    lane.warm()
    old = lane.begin(0.5)
    lane.answer(old, 0.6)
    for _ in range(5):
        lane.begin(1.0)
    assert lane.standing(3.1) is Standing.OUT
    lane.end(old, SUCCESS, 3.2)
    assert lane.standing(3.2) is Standing.OUT


# --- both lanes


def both() -> tuple[Lane, Lane]:
    """The streams and the whole answers of one target."""
    breaker = LocalBreaker(5, 10.0)
    return Lane(breaker=breaker), Lane(breaker=breaker, streamed=False)


def test_five_failures_in_either_lane_eject_from_both() -> None:
    """Half of the traffic is streamed: the fifth failure of all puts out the lanes that it was in."""
    streams, whole = both()
    streams.outcomes(*[FAILED] * 3)
    whole.outcomes(FAILED)
    assert (streams.standing(0.0), whole.standing(0.0)) == (Standing.IN, Standing.IN)
    whole.outcomes(FAILED)
    assert (streams.standing(0.0), whole.standing(0.0)) == (Standing.OUT, Standing.OUT)


def test_a_success_in_either_lane_ends_the_run_of_both() -> None:
    """Not that of the other lane alone: its fifth failure ejects it, and it only."""
    streams, whole = both()
    streams.outcomes(*[FAILED] * 3)
    whole.outcomes(FAILED, SUCCESS, FAILED)
    streams.outcomes(FAILED)
    assert (streams.standing(0.0), whole.standing(0.0)) == (Standing.IN, Standing.IN)
    streams.outcomes(FAILED)
    assert (streams.standing(0.0), whole.standing(0.0)) == (Standing.OUT, Standing.IN)


def test_a_lane_of_before_is_not_in_the_run_of_both() -> None:
    """Failures of before the target came back do not add to those of now."""
    streams, whole = both()
    streams.outcomes(*[FAILED] * 4)
    whole.generation = 1
    whole.outcomes(FAILED)
    assert whole.standing(0.0) is Standing.IN


# --- successes that began before the failures


def draining(old: int = 20) -> tuple[Lane, list[int]]:
    """A target with so many streams open, all of them answered."""
    lane = Lane()
    tickets = [lane.begin(-30.0) for _ in range(old)]
    for ticket in tickets:
        lane.answer(ticket, -29.0)
    return lane, tickets


def test_old_streams_that_end_well_do_not_hide_a_dead_target() -> None:
    """It is drained: old streams finish one after the other, and every new one fails."""
    lane, old = draining()
    for number in range(5):
        now_s = float(number)
        failed = lane.begin(now_s)
        under_way = lane.begin(now_s)
        lane.end(failed, FAILED, now_s + 0.1)
        assert lane.late(old.pop(), now_s + 0.1)
        lane.end(under_way, FAILED, now_s + 0.1)
    assert lane.standing(5.0) is Standing.OUT


def test_old_streams_that_end_well_do_not_hide_failing_answers() -> None:
    """Nor do they end the run of both lanes while none of the new streams has failed."""
    streams, whole = both()
    old = [streams.begin(-30.0) for _ in range(3)]
    for ticket in old:
        streams.answer(ticket, -29.0)
    whole.outcomes(*[FAILED] * 3)
    assert streams.late(old.pop(), 0.0)
    streams.outcomes(FAILED)
    assert streams.late(old.pop(), 0.0)
    streams.outcomes(FAILED)
    assert (streams.standing(0.0), whole.standing(0.0)) == (Standing.OUT, Standing.OUT)


def test_a_success_that_began_after_the_first_failure_ends_the_run() -> None:
    """It met the target as it is now."""
    lane = Lane()
    lane.outcomes(*[FAILED] * 2)
    later = lane.begin(0.0)
    lane.outcomes(*[FAILED] * 2)
    assert not lane.late(later, 0.0)
    lane.outcomes(*[FAILED] * 4)
    assert lane.standing(0.0) is Standing.IN


def test_noise_among_long_streams() -> None:
    """A few fail at once while those sent since are let in: the old ones' good end still tells that it is noise."""
    lane, old = draining()
    for number in range(20):
        failed = lane.begin(float(number))
        newer = lane.begin(number + 0.3)
        lane.answer(newer, number + 0.4)
        lane.end(failed, FAILED, number + 0.5)
        assert not lane.late(old.pop(), number + 0.6)
    assert lane.standing(20.0) is Standing.IN


def test_noise_among_long_answers() -> None:
    """Whole answers tell nothing until they are over; who is out for longer than it took to fail fares better."""
    lane = Lane(streamed=False)
    old = [lane.begin(-1.0) for _ in range(2)]
    lane.end(lane.begin(0.0), FAILED, 0.5)
    lane.begin(0.6)
    assert lane.late(old[0], 1.0)
    assert not lane.late(old[1], 1.2)


def test_half_as_many_that_fare_better_do_not_make_noise() -> None:
    """Two failed and one got in: not enough; two that got in are."""
    lane, old = draining()
    lane.outcomes(*[FAILED] * 2)
    for late in (True, False):
        lane.answer(lane.begin(0.0), 0.1)
        assert lane.late(old.pop(), 0.2) is late


def test_only_the_latest_failures_are_remembered() -> None:
    """A run may be long: what it takes to tell an old success from a new one is bounded."""
    lane, old = draining()
    first = lane.begin(0.0)
    lane.end(first, FAILED, 0.0)
    lane.outcomes(*[FAILED] * 50)
    assert len(lane.breaker._lanes["a", True].failed) == 8
    assert lane.late(old[0], 0.0)
