"""Where probe results wait for the next decision."""

from collections import deque
from collections.abc import Callable, Iterable

from pointsman import logs
from pointsman.core.evidence import ProbeResult
from pointsman.core.model import Phase

_log = logs.get("control.inbox")

CAPACITY = 20_000


class Inbox:
    """Bounded: when the loop cannot keep up, the oldest results are dropped, counted and told.

    `wake` is called when a result is not to wait for the next tick: a failure, or the trial of a target that
    is half-open or suspect (`watch` says which those are).
    """

    def __init__(self, wake: Callable[[], None], capacity: int = CAPACITY) -> None:
        self._results: deque[ProbeResult] = deque()
        self._capacity = capacity
        self._wake = wake
        self._watched: frozenset[str] = frozenset()
        self._untold = 0
        self.dropped = 0

    def emit(self, result: ProbeResult) -> None:
        """Take one result; never waits."""
        self._results.append(result)
        self._trim()
        if not result.outcome.ok or result.target in self._watched:
            self._wake()

    def watch(self, phases: dict[str, Phase]) -> None:
        """A result of one of these targets changes its standing, so it wakes the loop."""
        self._watched = frozenset(phases)

    def drain(self) -> tuple[ProbeResult, ...]:
        """Everything that waits, oldest first."""
        if self._untold:
            _log.warning(
                "decisions cannot keep up: {dropped} probe results were dropped unread", dropped=self._untold
            )
            self._untold = 0
        drained = tuple(self._results)
        self._results.clear()
        return drained

    def give_back(self, results: Iterable[ProbeResult]) -> None:
        """Put results before all others: the decision that used them was not saved."""
        self._results.extendleft(reversed(tuple(results)))
        self._trim()

    def _trim(self) -> None:
        while len(self._results) > self._capacity:
            self._results.popleft()
            self.dropped += 1
            self._untold += 1
