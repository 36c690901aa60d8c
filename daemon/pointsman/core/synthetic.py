"""Synthetic traffic for ramps: which step lacks samples that may be made, and when the next request may go out.

It costs money at the provider, so it is made only for a ramp whose policy asks for it, only while the present step
is observed and short of its floor, slowly, and not without end: requests that are never counted (a provider that
blames their caller, a proxy that is pinned by hand) stop at `SENT_MAX` times the floor. None is made while the ramp
is paused or frozen, while something stronger lies over it, or while the side to try is out of service: what was asked
would count for nothing, or change nothing.
"""

from collections.abc import Collection, Iterable
from typing import Final

from msgspec import Struct

from pointsman.core.arms import pairs, sides
from pointsman.core.model import Plan, State
from pointsman.core.ramp_model import ENDED, Arm, Ramp, RampPhase
from pointsman.core.table import Table

GAP_S: Final = 2.0
# A result takes a report and a tick to be seen; until then it counts as still to come.
SETTLE_S: Final = 4.0
UNDER_WAY_MAX: Final = 8
SENT_MAX: Final = 2


class Wanted(Struct, frozen=True, kw_only=True):
    """A step that is short of `missing` of its `floor` of samples, and the target that the next one is to go to."""

    ramp: str
    stamp: str
    route: str
    target: str
    missing: int
    floor: int


def wanted(state: State, published: Table | None) -> list[Wanted]:
    """What is to be made at present. `published`: the table that proxies read."""
    plan = state.plan
    if plan is None or published is None or state.freeze is not None:
        return []
    found = [_of(one, plan, published) for one in state.ramps.values() if one.policy.synthetic]
    return [one for one in found if one is not None]


def unended(state: State) -> set[str]:
    """The ids of the ramps that are not over."""
    return {one.id for one in state.ramps.values() if one.phase not in ENDED}


def _of(one: Ramp, plan: Plan, published: Table) -> Wanted | None:
    if one.phase is not RampPhase.OBSERVING or one.paused or one.aborting:
        return None
    floor = one.policy.steps[one.step].samples
    missing = floor - _seen(sides(pairs(one, (one.stamp,))).moved)
    entry = published.routes.get(one.route)
    if missing <= 0 or entry is None or entry.ramp != one.stamp:
        return None
    steady = entry.chain[: entry.last_resort]
    fit = [t for t in one.gainers if t in steady and t in plan.targets and not plan.targets[t].embeds]
    if not fit:
        return None
    arms = one.tallies[one.stamp].arms if one.stamp in one.tallies else {}

    def had(target: str) -> float:
        """What it has had for each basis point that it gains."""
        return _seen(arms.get(target, Arm())) / (one.to_bp[target] - one.from_bp.get(target, 0))

    return Wanted(
        ramp=one.id,
        stamp=one.stamp,
        route=one.route,
        target=min(fit, key=had),
        missing=missing,
        floor=floor,
    )


def _seen(arm: Arm) -> int:
    return arm.requests + arm.synthetic_ok + arm.synthetic_failed


class _Sending(Struct):
    """What was sent for one ramp under one stamp."""

    stamp: str
    next_s: float
    under_way: int = 0
    sent: int = 0
    ended: list[float] = []
    told: bool = False


class Pace:
    """One ramp's requests go out `GAP_S` apart at least. `now_s` is monotonic seconds and never falls."""

    def __init__(self) -> None:
        self._ramps: dict[str, _Sending] = {}

    def keep(self, ramps: Collection[str]) -> None:
        """Only these ramps are not over."""
        self._ramps = {ramp: sending for ramp, sending in self._ramps.items() if ramp in ramps}

    def due(self, wanted: Iterable[Wanted], now_s: float) -> list[Wanted]:
        """What to send now. Each counts as under way until `ended`."""
        found: list[Wanted] = []
        for one in wanted:
            sending = self._sending(one, now_s)
            sending.ended = [at_s for at_s in sending.ended if now_s - at_s < SETTLE_S]
            to_come = sending.under_way + len(sending.ended)
            if (
                now_s < sending.next_s
                or to_come >= min(one.missing, UNDER_WAY_MAX)
                or sending.sent >= SENT_MAX * one.floor
            ):
                continue
            sending.under_way += 1
            sending.sent += 1
            sending.next_s = now_s + GAP_S
            found.append(one)
        return found

    def ended(self, one: Wanted, now_s: float) -> None:
        """One that was due has ended, however it did."""
        sending = self._ramps.get(one.ramp)
        if sending is not None and sending.stamp == one.stamp:
            sending.under_way -= 1
            sending.ended.append(now_s)

    def exhausted(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Those for which no more will be sent although samples are missing; each is given once."""
        found: list[Wanted] = []
        for one in wanted:
            sending = self._ramps.get(one.ramp)
            if sending is None or sending.stamp != one.stamp or sending.told:
                continue
            if sending.sent >= SENT_MAX * one.floor and not sending.under_way and not sending.ended:
                sending.told = True
                found.append(one)
        return found

    def _sending(self, one: Wanted, now_s: float) -> _Sending:
        sending = self._ramps.get(one.ramp)
        if sending is None or sending.stamp != one.stamp:
            next_s = sending.next_s if sending is not None else now_s
            sending = self._ramps[one.ramp] = _Sending(stamp=one.stamp, next_s=next_s, ended=[])
        return sending
