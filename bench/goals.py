"""What the proxy is to reach beside its peers: a floor and an aim for each measurement. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["aim met", "floor met", "missed", "not measured", "–"]
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True)
class Goal:
    """`at_least` or at most: for speeds and for costs. `peer` "": the value itself is judged, not a ratio."""

    floor: float
    aim: float
    peer: str = ""
    at_least: bool = False

    def reached(self, value: float | None) -> Verdict:
        """What a ratio, or a value, comes to."""
        if value is None:
            return NOT_MEASURED
        if self._holds(value, self.aim):
            return "aim met"
        return "floor met" if self._holds(value, self.floor) else "missed"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound

    @property
    def sign(self) -> str:
        """As it stands before a bound."""
        return "≥" if self.at_least else "≤"


@dataclass(frozen=True)
class Measure:
    """One thing that is measured of every way: its name and unit."""

    name: str
    unit: str


SMALL: Final = Measure("small bodies", "1/s")
VARIED: Final = Measure("small bodies, every request different", "1/s")
CLIENT: Final = Measure("small bodies, heads as of the OpenAI client", "1/s")
LARGE: Final = Measure("32 KB request bodies", "1/s")
TLS_SMALL: Final = Measure("TLS to the provider, small bodies", "1/s")
TLS_LARGE: Final = Measure("TLS to the provider, 32 KB request bodies", "1/s")
MANY_TIMES: Final = Measure("small bodies, beside LiteLLM", "1/s")
P50: Final = Measure("added latency at 1,000 requests/s, p50", "ms")
P99: Final = Measure("added latency at 1,000 requests/s, p99", "ms")
FIRST_EVENT: Final = Measure("20 streams, added time to first event, p50", "ms")
EVENT_COST: Final = Measure("20 streams, CPU per event", "µs")
IDLE_STREAM: Final = Measure("2,000 idle streams, memory of each", "KiB")
LOADED: Final = Measure("memory of one worker, small bodies", "MiB")

_E: Final = "Envoy"
GOALS: Final[dict[Measure, Goal]] = {
    SMALL: Goal(1.2, 1.7, _E, at_least=True),
    VARIED: Goal(1.2, 1.7, _E, at_least=True),
    LARGE: Goal(0.9, 1.2, _E, at_least=True),
    TLS_SMALL: Goal(1.0, 1.4, _E, at_least=True),
    TLS_LARGE: Goal(0.8, 1.0, _E, at_least=True),
    MANY_TIMES: Goal(100, 200, "LiteLLM", at_least=True),
    P50: Goal(0.8, 0.6, _E),
    P99: Goal(1.2, 1.0, _E),
    FIRST_EVENT: Goal(1.5, 1.0, _E),
    EVENT_COST: Goal(1.5, 1.0, _E),
    IDLE_STREAM: Goal(64, 24),
    LOADED: Goal(80, 60),
}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, round by round: neighbours in time, so that what slows a whole round cancels out.

    A round in which theirs is not above zero (an added latency within the noise) says nothing and is left out.
    """
    return [own / their for own, their in zip(ours, theirs, strict=True) if their > 0]


def by_cpu(measure: Measure) -> Measure:
    """The same requests, in CPU time of the process for each."""
    return Measure(f"{measure.name}, CPU per request", "µs")


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None
