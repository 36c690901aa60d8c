"""What a run of the proxy's bench has found, and the sheets that are made of it. Pure but for starting ways."""

import contextlib
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import goals, machine
from bench.goals import GOALS, Measure
from bench.peers.starting import ALL, DIRECT, OURS, Scene, Way
from bench.sheet import Sheet, Value

# What a way that breaks, or a program that does not start, raises; anything else is a bug of the bench.
BROKEN: Final = (
    RuntimeError,
    OSError,
    EOFError,
    TimeoutError,
    ValueError,
    subprocess.SubprocessError,
    ExceptionGroup,
)


@dataclass
class Book:
    """Measured values by measure and way, one a round; what is missing, and what failed although it was there."""

    values: dict[Measure, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def ways(self, scene: Scene, names: Sequence[str], check: Callable[[Way], None]) -> Iterator[list[Way]]:
        """Those of `names` that are installed, start and pass `check`."""
        with contextlib.ExitStack() as stack:
            found = []
            for name in names:
                try:
                    way = stack.enter_context(ALL[name](scene))
                    check(way)
                    found.append(way)
                except machine.MissingError as error:
                    self.missing[name] = str(error)
                except BROKEN as error:
                    self.failures.append(f"{name} did not start as it should: {_told(error)}")
            yield found

    def rounds(self, measures: Sequence[Measure], ways: list[Way], count: int, look: "Look") -> None:
        """Measure every way `count` times, interleaved. A way that breaks is left out of these measures."""
        left = list(ways)
        for _ in range(count):
            for way in list(left):
                try:
                    seen = look(way)
                except BROKEN as error:
                    left.remove(way)
                    for measure in measures:
                        self.values.get(measure, {}).pop(way.name, None)
                    self.failures.append(f"{measures[0].name}, {way.name}: {_told(error)}")
                    continue
                for measure, value in zip(measures, seen, strict=True):
                    if value is not None:
                        self.values.setdefault(measure, {}).setdefault(way.name, []).append(value)

    def less_direct(self, measure: Measure) -> None:
        """Turn what every way took into what it added to the direct one in the same round."""
        taken = self.values.get(measure, {})
        direct = taken.pop(DIRECT, [])
        self.values[measure] = {
            name: [value - base for value, base in zip(values, direct, strict=False)]
            for name, values in taken.items()
        }

    def folded(self, measure: Measure, slices: int) -> None:
        """Make one round of every `slices` of them: what is the middle of what they say."""
        self.values[measure] = {
            name: [statistics.median(values[at : at + slices]) for at in range(0, len(values), slices)]
            for name, values in self.values.get(measure, {}).items()
        }

    def judged(self, rounds: int) -> Sheet:
        """Every measure with a goal."""
        sheet = Sheet(f"proxy, what it is to reach: median of {rounds}")
        for measure, goal in GOALS.items():
            found = self.values.get(measure, {})
            ours, theirs = found.get(OURS, []), found.get(goal.peer, [])
            ratio = goals.ratios(ours, theirs) if ours and theirs else []
            judged = goals.middle(ratio) if goal.peer else goals.middle(ours)
            sheet.rows.append(
                {
                    "measured": measure.name,
                    "unit": measure.unit,
                    "ours": goals.middle(ours),
                    "beside": goal.peer or None,
                    "theirs": goals.middle(theirs),
                    "ratio": judged if goal.peer else None,
                    "of rounds": f"{min(ratio):.3g}…{max(ratio):.3g}" if len(ratio) > 1 else None,
                    "by CPU": self._by_cpu(measure, goal.peer),
                    "floor": f"{goal.sign} {goal.floor:g}",
                    "aim": f"{goal.sign} {goal.aim:g}",
                    "": goal.reached(judged),
                }
            )
            if judged is None and ours and theirs:
                sheet.remarks.append(
                    f"{measure.name}: {goal.peer} adds nothing that can be told from noise: no ratio"
                )
            elif judged is None and goal.peer not in self.missing:
                self.failures.append(f"{measure.name} could not be measured")
        sheet.remarks += [f"not measured, {name}: {why}" for name, why in self.missing.items()]
        sheet.failures = self.failures
        return sheet

    def _by_cpu(self, measure: Measure, peer: str) -> float | None:
        """How many times less CPU a request takes than at the peer: what other programs on the core hardly change."""
        found = self.values.get(goals.by_cpu(measure), {})
        if not found.get(OURS) or not found.get(peer):
            return None
        return goals.middle(goals.ratios(found[peer], found[OURS]))

    def everyone(self) -> Sheet:
        """Every measure of every way, in its unit."""
        sheet = Sheet("proxy, every way: medians")
        for measure, found in self.values.items():
            row: dict[str, Value] = {"measured": f"{measure.name} ({measure.unit})"}
            row |= {name: goals.middle(found.get(name, [])) for name in ALL}
            sheet.rows.append(row)
        return sheet


Look = Callable[[Way], Sequence[float | None]]


def _told(error: BaseException) -> str:
    """An error in one line; of a group its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())
