"""Verdicts + desired shares → effective shares of one route.

The rules, in the order in which they apply:

1. A target's share is its desired share × its factor (core/breaker.py: 0 when out, less than 1 in a slow start).
2. What that leaves over goes to the targets at full strength, in proportion to their desired shares; if no weighted
   one is, to the first of the chain that is; if none is at all, back to the weighted.
3. If no weighted target is left, the first of the chain that is takes everything.
4. Panic: if the survivors' known capacity cannot carry the demand, cooldowns are ignored, save for targets that
   do not even accept a connection. A rate limit is no cooldown: who is throttled has survived, and is overrun. A panic
   ends when they could carry the demand with a tenth to spare, so that it does not come and go at the edge.
5. Safety valve: if every target is out, the one whose cooldown ends first serves, and it says so.
6. A target that is barred, drained or unknown to every proxy is never used, whatever the distress; with nothing
   else left the route is closed, and says why.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from pointsman.core.table import FULL_BP, percent

_EPSILON: Final = 1e-9
PANIC: Final = "panic: "  # how the reason of a share begins that a target has in spite of its cooldown

CALM: Final = 0.9


class Standing(Struct, frozen=True, kw_only=True):
    """A target as weighing sees it. `why` is a sentence about a factor under 1; `returns_s` when it may serve.

    `throttled`: out of service for a rate limit alone.
    """

    factor: float = 1.0
    eligible: bool = True
    refuses: bool = False
    throttled: bool = False
    returns_s: float = 0.0
    capacity_rps: float | None = None
    why: str = ""


class Weighed(Struct, frozen=True, kw_only=True):
    """The effective shares of a route (empty: `closed` says why), its chain, and a sentence beside each target."""

    shares_bp: dict[str, int]
    chain: tuple[str, ...]
    last_resort: int
    reasons: dict[str, str]
    closed: str = ""
    valve: str = ""
    panic: bool = False


def weigh(
    desired_bp: Mapping[str, int],
    chain: Iterable[str],
    standings: Mapping[str, Standing],
    *,
    origin: str = "baseline",
    demand_rps: float = 0.0,
    force: bool = False,
    panicking: bool = False,
) -> Weighed:
    """The effective shares for `desired_bp` (basis points that sum to 10,000); `origin` names who desires them.

    `panicking`: the route is in a panic already.
    """
    order = list(dict.fromkeys([*chain, *desired_bp]))
    usable = [target for target in order if standings[target].eligible]
    alive = [target for target in usable if standings[target].factor > 0]
    cooling = sorted((t for t in usable if t not in alive), key=lambda t: standings[t].returns_s)
    panic = _panics(alive, cooling, desired_bp, standings, demand_rps / CALM if panicking else demand_rps)
    valve = closed = ""
    forced = {t: float(desired_bp[t]) for t in usable if force and desired_bp.get(t, 0)}
    if forced:
        parts = forced
    elif panic:
        joined = [t for t in order if t in alive or (t in cooling and not standings[t].refuses)]
        parts = {t: float(desired_bp.get(t, 0)) for t in joined}
    elif alive:
        parts = _spread(desired_bp, alive, standings)
    elif cooling:
        valve = cooling[0]
        parts = {valve: 1.0}
    else:
        parts = {}
        closed = "no target is eligible: " + "; ".join(f"{t} {standings[t].why}" for t in order)
    shares = _to_basis_points(parts)
    return Weighed(
        shares_bp=shares,
        chain=(*alive, *cooling),
        last_resort=len(alive),
        reasons={
            t: _reason(t, shares, desired_bp, standings[t], origin, valve, panic, bool(forced)) for t in order
        },
        closed=closed,
        valve=valve,
        panic=panic,
    )


def panicking(shares_bp: Mapping[str, int], chain: Sequence[str], last_resort: int) -> bool:
    """Do targets that are out, those of the chain from `last_resort` on, have shares beside others?

    That is a panic, or a force, in which none is looked for; one alone is the safety valve.
    """
    serving = {target for target, share in shares_bp.items() if share > 0}
    return len(serving) > 1 and not serving.isdisjoint(chain[last_resort:])


def _panics(
    alive: list[str],
    cooling: list[str],
    desired_bp: Mapping[str, int],
    standings: Mapping[str, Standing],
    demand_rps: float,
) -> bool:
    """Only known capacities can be known to be too small, and only weighted cooling targets could help."""
    throttled = [t for t in cooling if standings[t].throttled]
    helpers = [
        t for t in cooling if desired_bp.get(t, 0) and not (standings[t].refuses or standings[t].throttled)
    ]
    survivors = [*alive, *(t for t in throttled if standings[t].capacity_rps is not None)]
    capacities = [standings[t].capacity_rps for t in survivors]
    known = [capacity for capacity in capacities if capacity is not None]
    return bool(helpers and survivors) and len(known) == len(survivors) and demand_rps > sum(known)


def _spread(
    desired_bp: Mapping[str, int], alive: list[str], standings: Mapping[str, Standing]
) -> dict[str, float]:
    weighted = [t for t in alive if desired_bp.get(t, 0)]
    if not weighted:
        return {alive[0]: 1.0}
    parts = {t: desired_bp[t] * standings[t].factor for t in weighted}
    over = FULL_BP - sum(parts.values())
    takers = _takers(desired_bp, weighted, alive, standings)
    for target, part in takers.items():
        parts[target] = parts.get(target, 0.0) + over * part / sum(takers.values())
    return parts


def _takers(
    desired_bp: Mapping[str, int], weighted: list[str], alive: list[str], standings: Mapping[str, Standing]
) -> dict[str, int]:
    """Who takes what is left over, in which proportion: the weighted at full strength, else the chain's first."""
    strong = [t for t in alive if standings[t].factor >= 1 - _EPSILON]
    takers = {t: desired_bp[t] for t in strong if t in weighted}
    if not takers and strong:
        return {strong[0]: 1}
    return takers or {t: desired_bp[t] for t in weighted}


def _to_basis_points(parts: Mapping[str, float]) -> dict[str, int]:
    """Whole basis points that sum to 10,000, by largest remainder; ties go to the first."""
    total = sum(parts.values())
    if not total:
        return {}
    exact = {target: part * FULL_BP / total for target, part in parts.items()}
    shares = {target: int(value + _EPSILON) for target, value in exact.items()}
    by_remainder = sorted(exact, key=lambda target: shares[target] - exact[target])
    for target in by_remainder[: FULL_BP - sum(shares.values())]:
        shares[target] += 1
    return {target: share for target, share in shares.items() if share}


def _reason(
    target: str,
    shares: Mapping[str, int],
    desired_bp: Mapping[str, int],
    standing: Standing,
    origin: str,
    valve: str,
    panic: bool,
    force: bool,
) -> str:
    share, wish = shares.get(target, 0), desired_bp.get(target, 0)
    asked = f"{percent(wish)} by {origin}"
    if target == valve:
        return f"safety valve: every target is out, this one returns first ({standing.why})"
    if force and share and standing.why:
        return f"{asked}, forced although {standing.why}"
    if panic and share and standing.factor == 0:
        return f"{PANIC}the others cannot carry the demand, so it serves although {standing.why}"
    if share == 0 and not wish:
        asked = "in the chain only" if origin == "baseline" else f"nothing by {origin}"
        return f"{asked}; {standing.why}" if standing.why else asked
    if share == wish:
        return asked
    if standing.why:
        return f"{asked}; {standing.why}"
    return f"{asked}, {percent(share - wish)} more in place of the others"
