"""Which target a request goes to, and in which order it falls over. Pure.

- Synthetic traffic goes first to the target that it asks for.
- A caller with a sticky key keeps its side: `proxy/settling.py` settles it by the route's anchor and its shares.
- Without a key the pick is random by the shares.
- After the first, the chain's order; those that this proxy has ejected by itself come last, and a target that
  the proxy cannot serve at all (no credential) not at all.
"""

import bisect
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from pointsman.core.table import RouteEntry, percent
from pointsman.proxy.settling import settle

# Of so many callers of a route it is remembered where they are settled, as long as the table is the same.
SETTLED_MAX: Final = 10_000


class Order(Struct, frozen=True):
    """The targets to try, first to last, and why the first is first; `trial`: it is one that was granted.

    `ramp`: the stamp that the first attempt counts under, "" if it counts under none: only what the table's
    shares placed does, and what synthetic traffic asked for.
    """

    targets: tuple[str, ...]
    reason: str
    trial: bool = False
    ramp: str = ""


class Situation(Struct, frozen=True, kw_only=True):
    """What this proxy knows that the table does not.

    `out`: ejected locally, tried last; `unusable`: never tried; `trial`: a half-open target that this request is
    to try first, or ""; `asked`: a target of the chain that synthetic traffic asks for, also if it is out;
    `pinned_bp`: an operator's shares for this proxy alone, with `forced` also for targets that are out, or that
    the table takes out of the chain.
    """

    out: Collection[str] = ()
    unusable: Collection[str] = ()
    trial: str = ""
    asked: str = ""
    pinned_bp: Mapping[str, int] | None = None
    forced: bool = False


def by_chance(u: float, shares_bp: Mapping[str, int]) -> str:
    """The target that the number `u` in [0, 1) falls on; "" if no share is above zero."""
    left = u * sum(share for share in shares_bp.values() if share > 0)
    last = ""
    for target, share in shares_bp.items():
        if share > 0:
            last = target
            left -= share
            if left < 0:
                break
    return last


def shares_now(route: RouteEntry, run_out: Collection[str]) -> Mapping[str, int]:
    """The shares that apply when the overlays in `run_out` are over.

    The stages stand in the order in which overlays would give way to each other: those that have run out, from
    the first on, are taken one after the other; one that still holds ends the walk.
    """
    shares: Mapping[str, int] = route.shares_bp
    for stage in route.later:
        if stage.overlay not in run_out:
            break
        shares = stage.shares_bp
    return shares


def order(
    name: str,
    route: RouteEntry,
    shares_bp: Mapping[str, int],
    situation: Situation,
    *,
    key: int | None,
    u: float,
) -> Order:
    """The order of attempts of one request on the route `name`; empty targets if none can be tried."""
    tail = _tail(route, situation)
    first, reason, placed = _first(name, route, shares_bp, situation, key, u)
    if not first:
        first = tail[0] if tail else ""
        reason = "last resort"
    targets = (first, *(target for target in tail if target != first)) if first else ()
    # Once an overlay has run out, the shares in force are no more those that the stamp stands for.
    ramp = route.ramp if placed and shares_bp == route.shares_bp else ""
    return Order(targets[: route.max_attempts or None], reason, trial=bool(situation.trial), ramp=ramp)


class Calm:
    """The orders of a route while nothing stands against any of its targets: each is worked out once.

    `unusable` are the targets that the proxy can never try.
    """

    def __init__(
        self, name: str, route: RouteEntry, shares_bp: Mapping[str, int], unusable: Collection[str]
    ) -> None:
        self._name = name
        self._route = route
        self._shares_bp = shares_bp
        self._situation = Situation(unusable=unusable)
        self._left_bp = _left(shares_bp, unusable)
        self._targets = list(self._left_bp)
        self._edges = list(itertools.accumulate(self._left_bp.values()))
        self._orders: dict[tuple[str, bool], Order] = {}
        self._settled: dict[int, Order] = {}

    def order(self, key: int | None, u: float) -> Order:
        """The same as `order` says."""
        if not self._targets:
            first = ""
        elif key is None:
            first = self._targets[bisect.bisect(self._edges, u * self._edges[-1])]
        else:
            known = self._settled.get(key)
            if known is not None:
                return known
            first = _pick(self._name, self._route, self._shares_bp, self._left_bp, key, u)
        found = self._orders.get((first, key is None))
        if found is None:
            found = order(self._name, self._route, self._shares_bp, self._situation, key=key, u=u)
            self._orders[first, key is None] = found
        if key is not None:
            if len(self._settled) >= SETTLED_MAX:
                self._settled.clear()
            self._settled[key] = found
        return found


def _first(
    name: str,
    route: RouteEntry,
    shares_bp: Mapping[str, int],
    situation: Situation,
    key: int | None,
    u: float,
) -> tuple[str, str, bool]:
    """(the target or "", why, does it count under the route's stamp)."""
    if situation.trial:
        return situation.trial, "trial", False
    if situation.asked in route.chain and situation.asked not in situation.unusable:
        return situation.asked, "synthetic", True
    if situation.pinned_bp is not None:
        fit = set(situation.pinned_bp if situation.forced else steady_targets(route))
        fit -= set(() if situation.forced else situation.out)
        pinned = _left(_only(situation.pinned_bp, fit), situation.unusable)
        target = _pick(name, route, situation.pinned_bp, pinned, key, u)
        if target:
            return target, "pinned", False
    healthy = _left(shares_bp, {*situation.out, *situation.unusable})
    target = _pick(name, route, shares_bp, healthy, key, u)
    if not target:
        return "", "", False
    if not route.last_resort:
        return target, "last resort", False
    return target, "sticky" if key is not None else f"share {percent(shares_bp[target])}", True


def _pick(
    name: str,
    route: RouteEntry,
    shares_bp: Mapping[str, int],
    left_bp: Mapping[str, int],
    key: int | None,
    u: float,
) -> str:
    """One of those that are left of the shares."""
    if key is None:
        return by_chance(u, left_bp)
    wanted_bp = route.wanted_bp if shares_bp == route.shares_bp else shares_bp
    return settle(key, name, route.anchor_bp, shares_bp, left_bp, wanted_bp)


def _left(shares_bp: Mapping[str, int], without: Collection[str]) -> dict[str, int]:
    return {target: share for target, share in shares_bp.items() if share > 0 and target not in without}


def steady_targets(route: RouteEntry) -> Sequence[str]:
    """The part of the chain that is not cooling down; what is barred or drained is not in the chain at all."""
    return route.chain[: route.last_resort]


def _tail(route: RouteEntry, situation: Situation) -> tuple[str, ...]:
    usable = [target for target in route.chain if target not in situation.unusable]
    steady = [target for target in usable if target not in situation.out]
    return (*steady, *(target for target in usable if target in situation.out))


def _only(shares_bp: Mapping[str, int], allowed: Collection[str]) -> dict[str, int]:
    return {target: share for target, share in shares_bp.items() if target in allowed}
