"""A proxy's account of each target, on a clock that the test holds."""

from typing import Any

from pointsman.core.errors import SUCCESS, Fault, Outcome, Wire, of_response, of_wire
from pointsman.core.evidence import STREAM, UNARY, Lane, TargetReport
from pointsman.proxy.outcomes import Ledger, Seen

NOW_S = 1_800_000_000.0
FAILED = of_response(500, {})


class Book:
    """The account of the target a."""

    def __init__(self) -> None:
        self.ledger = Ledger(throttle_default_s=10.0, soften_s=10.0)

    def record(self, outcome: Outcome, at_s: float = 0.0, *, streamed: bool = False, **fields: Any) -> bool:
        seen = Seen(target="a", outcome=outcome, streamed=streamed, latency_ms=100.0, **fields)
        return self.ledger.record(seen, NOW_S + at_s)

    @property
    def report(self) -> TargetReport:
        return self.ledger.reports(NOW_S)["a"]

    def lane(self, name: str = UNARY) -> Lane:
        return self.report.lanes[name]


def test_a_run_and_its_end() -> None:
    """A success forgets everything of the run but when it was itself."""
    book = Book()
    book.record(FAILED, 1.0)
    book.record(of_wire(Wire.REFUSED), 2.0)
    assert book.lane() == Lane(
        streak=2,
        since_s=NOW_S + 1.0,
        times=(NOW_S + 1.0, NOW_S + 2.0),
        detail="connection refused",
        refuses=True,
        silent=True,
    )
    book.record(SUCCESS, 3.0)
    assert book.lane() == Lane(last_ok_s=NOW_S + 3.0)


def test_silence_is_told_from_errors() -> None:
    """Nothing came back at all, or an error did: that of the last failure is told."""
    book = Book()
    book.record(of_wire(Wire.RESET))
    assert (book.lane().silent, book.lane().refuses) == (True, False)
    book.record(FAILED)
    assert not book.lane().silent


def test_a_late_success_ends_no_run() -> None:
    """It is counted, and says nothing of the target as it is now."""
    book = Book()
    for _ in range(3):
        book.record(FAILED, streamed=True)
    book.record(Outcome(Fault.CREDENTIAL, "HTTP 401", 401))
    book.record(SUCCESS, 1.0, streamed=True, late=True)

    assert (book.lane(STREAM).streak, book.lane(STREAM).last_ok_s) == (3, 0.0)
    assert book.report.counts == {"outage": 3, "credential": 1, "ok": 1}
    assert book.report.barred == "HTTP 401"


def test_what_was_sent_before_the_return_is_counted_apart() -> None:
    """Requests that were sent before the target came back, and end after, are in no count that decides."""
    book = Book()
    book.record(FAILED, generation=1)
    book.ledger.generations({"a": 2})
    book.record(FAILED, generation=1)
    book.record(SUCCESS, generation=1)
    book.record(SUCCESS, generation=2)

    assert book.report.counts == {"outage": 1, "ok": 1}
    assert book.report.stale == {"outage": 1, "ok": 1}
    assert book.lane() == Lane(last_ok_s=NOW_S)


def test_the_first_thing_heard_of_a_target_may_be_old() -> None:
    """So too when the request from before is the first that ends at all."""
    book = Book()
    book.ledger.generations({"a": 2})
    book.record(FAILED, generation=1)

    assert (book.report.generation, book.report.counts, book.report.stale) == (2, {}, {"outage": 1})


def test_a_report_is_a_copy() -> None:
    """What is counted later does not change a report that is being written."""
    book = Book()
    book.record(SUCCESS, generation=2)
    before = book.report
    book.record(FAILED, generation=1)
    book.record(FAILED, generation=2)

    assert (before.counts, before.stale, before.lanes[UNARY].streak) == ({"ok": 1}, {}, 0)


def test_a_failure_that_says_when_to_come_again() -> None:
    """As a time by the store's clock, the latest of the run; the run's end ends it too."""
    book = Book()
    book.record(of_response(503, {"retry-after": "600"}), 1.0)
    book.record(of_response(529, {"retry-after": "5"}), 2.0)
    book.record(FAILED, 3.0)
    assert book.lane().retry_at_s == NOW_S + 601.0
    book.record(SUCCESS, 4.0)
    assert book.lane().retry_at_s == 0.0
