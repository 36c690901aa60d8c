"""From the proxies' reports to a ramp's two sides: what was seen of the traffic that moved, and of what stayed.

Reports are cumulative per proxy and boot, as all of them are (core/evidence.py): what has been counted of the same
(proxy, boot, stamp) is subtracted, so that a report read twice counts nothing twice.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core.errors import CONSEQUENCES, Effect, Fault
from pointsman.core.evidence import ArmReport
from pointsman.core.ramp_model import Arm, Ramp, Tally
from pointsman.core.stats import merged

# What a caller sees as a failure of the target: everything that falls over, or breaks a stream.
FAILING: Final = frozenset(
    fault.value
    for fault, consequence in CONSEQUENCES.items()
    if consequence.effect not in {Effect.NONE, Effect.SUCCESS}
)
STAMPS_KEPT: Final = 40


class Sides(Struct, frozen=True, kw_only=True):
    """The two sides of a comparison, each summed over its targets."""

    moved: Arm
    control: Arm

    @property
    def share(self) -> float:
        """The moved side's part of the requests, as observed."""
        both = self.moved.requests + self.control.requests
        return self.moved.requests / both if both else 0.0


# A report, and what was counted of the same proxy, boot, stamp and target before.
Told = tuple[ArmReport, ArmReport | None]


def news(told: Iterable[Told]) -> Arm:
    """What these reports of one target say, all together, beyond what was counted already.

    One pass that makes nothing in between: with 20 ramps and 50 proxies it sees 2,000 reports a second.
    """
    ok = failed = synthetic_ok = synthetic_failed = priced = callers = callers_failing = 0
    cost_usd = 0.0
    latency_ms: dict[int, int] = {}
    first_token_ms: dict[int, int] = {}
    failing: dict[int, int] = {}
    for report, counted in told:
        old = counted or _NOTHING
        good, bad = _more(report.counts, old.counts)
        ok, failed = ok + good, failed + bad
        if report.synthetic:
            good, bad = _more(report.synthetic, old.synthetic)
            synthetic_ok, synthetic_failed = synthetic_ok + good, synthetic_failed + bad
        _add_cells(latency_ms, report.latency_ms, old.latency_ms)
        _add_cells(first_token_ms, report.first_token_ms, old.first_token_ms)
        if report.failing:
            _add_cells(failing, report.failing, old.failing)
        cost_usd += max(0.0, report.cost_usd - old.cost_usd)
        priced += max(0, report.priced - old.priced)
        callers |= report.callers
        callers_failing |= report.callers_failing
    return Arm(
        ok=ok,
        failed=failed,
        latency_ms=latency_ms,
        first_token_ms=first_token_ms,
        cost_usd=cost_usd,
        priced=priced,
        callers=callers,
        callers_failing=callers_failing,
        failing=failing,
        synthetic_ok=synthetic_ok,
        synthetic_failed=synthetic_failed,
    )


_NOTHING: Final = ArmReport()


def _more(new: Mapping[str, int], old: Mapping[str, int]) -> tuple[int, int]:
    """How many more there are: (good, failed)."""
    ok = failed = 0
    for fault, count in new.items():
        more = count - old.get(fault, 0)
        if more <= 0:
            continue
        if fault == Fault.OK:
            ok += more
        elif fault in FAILING:
            failed += more
    return ok, failed


def _add_cells(cells: dict[int, int], new: Mapping[int, int], old: Mapping[int, int]) -> None:
    for cell, count in new.items():
        more = count - old.get(cell, 0)
        if more > 0:
            cells[cell] = cells.get(cell, 0) + more


def with_news(ramp: Ramp, seen: Mapping[str, Mapping[str, Arm]]) -> Ramp:
    """The ramp with `seen` (stamp → target → what is new) in its tallies. Stamps of other ramps are left out."""
    own = {stamp: arms for stamp, arms in seen.items() if stamp in ramp.tallies}
    if not any(any(arm != _EMPTY for arm in arms.values()) for arms in own.values()):
        return ramp
    tallies = dict(ramp.tallies)
    for stamp, arms in own.items():
        tally = tallies[stamp]
        summed = {**tally.arms, **{t: merged((tally.arms.get(t, _EMPTY), arm)) for t, arm in arms.items()}}
        tallies[stamp] = replace(tally, arms=summed)
    return replace(ramp, tallies=tallies)


_EMPTY: Final = Arm()


def opened(ramp: Ramp) -> Ramp:
    """The ramp with an empty tally under its present stamp; histograms of older ones are not needed any more."""
    kept = list(ramp.tallies.items())[-STAMPS_KEPT:]
    tallies = {stamp: replace(tally, arms=_counts_only(tally.arms)) for stamp, tally in kept}
    return replace(ramp, tallies={**tallies, ramp.stamp: Tally(step=ramp.step)})


def _counts_only(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    return {target: replace(arm, latency_ms={}, first_token_ms={}) for target, arm in arms.items()}


def pairs(ramp: Ramp, stamps: Iterable[str]) -> list[tuple[Arm, Arm]]:
    """(moved side, control side) under each of these stamps."""
    gainers, losers = set(ramp.gainers), set(ramp.losers)
    found: list[tuple[Arm, Arm]] = []
    for stamp in stamps:
        arms = ramp.tallies[stamp].arms if stamp in ramp.tallies else {}
        moved = merged(arm for target, arm in arms.items() if target in gainers)
        control = merged(arm for target, arm in arms.items() if target in losers)
        found.append((moved, control))
    return found


def sides(of_stamps: Iterable[tuple[Arm, Arm]]) -> Sides:
    """The two sides summed over stamps."""
    stamps = list(of_stamps)
    return Sides(moved=merged(moved for moved, _ in stamps), control=merged(control for _, control in stamps))
