"""What this proxy saw of each target under each stamp of a ramp: cumulative, like the targets' own accounts.

A stamp stands for one share while it was in force. Only first attempts that the share placed come here, and those
that synthetic traffic asked for: a fallback says nothing about the side that its caller was on. A stream counts
under the stamp that it began with, however long it runs, so stamps that have left the table are kept for a while.
One that was dropped does not come back, for its counts would begin again.
"""

from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from pointsman.core.evidence import ArmReport
from pointsman.core.latency import latency_cell
from pointsman.proxy.outcomes import Seen

# So many stamps that have left the table are kept, the newest.
STAMPS_KEPT: Final = 64


class Arms:
    """All arms of all stamps, in the order in which the stamps were first seen."""

    def __init__(self) -> None:
        self._stamps: dict[str, dict[str, ArmReport]] = {}

    def began(self, stamp: str) -> None:
        """An attempt of `stamp` goes out."""
        self._stamps.setdefault(stamp, {})

    def record(self, seen: Seen) -> None:
        """Count one finished attempt under its stamp, if it has one that is still kept."""
        arms = self._stamps.get(seen.stamp)
        if arms is None:
            return
        arm = arms.get(seen.target)
        if arm is None:
            arm = arms[seen.target] = ArmReport()
        counts = arm.synthetic if seen.synthetic else arm.counts
        fault = seen.outcome.fault._value_
        counts[fault] = counts.get(fault, 0) + 1
        if not seen.synthetic:
            _measure(arm, seen)

    def keep(self, present: Collection[str]) -> None:
        """`present` are the stamps of the table; of those that have left it, drop all but the newest."""
        left = [stamp for stamp in self._stamps if stamp not in present]
        for stamp in left[:-STAMPS_KEPT]:
            del self._stamps[stamp]

    def reports(self) -> dict[str, dict[str, ArmReport]]:
        """A copy of every arm, as it stands."""
        return {
            stamp: {target: _copied(arm) for target, arm in arms.items()}
            for stamp, arms in self._stamps.items()
            if arms
        }


def _measure(arm: ArmReport, seen: Seen) -> None:
    """Latencies are those of answers: whole ones by their end, streams by their first token."""
    if seen.ok and not seen.streamed:
        arm.latency_ms[seen.cell] = arm.latency_ms.get(seen.cell, 0) + 1
    elif seen.ok and seen.first_token_ms is not None:
        cell = latency_cell(seen.first_token_ms)
        arm.first_token_ms[cell] = arm.first_token_ms.get(cell, 0) + 1
    arm.cost_usd += seen.cost_usd
    arm.priced += bool(seen.tokens_in + seen.tokens_out)
    bit = 1 << (seen.caller & 63)
    arm.callers |= bit
    if seen.failing:
        arm.callers_failing |= bit
        caller = seen.caller & 63
        arm.failing[caller] = arm.failing.get(caller, 0) + 1


def _copied(arm: ArmReport) -> ArmReport:
    return replace(
        arm,
        counts=dict(arm.counts),
        synthetic=dict(arm.synthetic),
        latency_ms=dict(arm.latency_ms),
        first_token_ms=dict(arm.first_token_ms),
        failing=dict(arm.failing),
    )
