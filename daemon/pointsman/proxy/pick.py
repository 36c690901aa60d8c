"""Which target a request goes to, and in which order it falls over. Pure.

- A caller with a sticky key keeps its side: weighted rendezvous hashing. Each target draws a number from the
  caller's key, and its weight scales it; the best draw wins. A target whose weight grows while no other's does
  can only gain callers, never lose one.
- Without a key the pick is random by the shares.
- After the first, the chain's order; those that this proxy has ejected by itself come last, and a target that
  the proxy cannot serve at all (no credential) not at all.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from pointsman.core.table import RouteEntry, percent

_MASK: Final = (1 << 64) - 1


class Order(Struct, frozen=True):
    """The targets to try, first to last, and why the first is first; `trial`: it is one that was granted."""

    targets: tuple[str, ...]
    reason: str
    trial: bool = False


class Situation(Struct, frozen=True, kw_only=True):
    """What this proxy knows that the table does not.

    `out`: ejected locally, tried last; `unusable`: never tried; `trial`: a half-open target that this request is
    to try first, or ""; `pinned_bp`: an operator's shares for this proxy alone, with `forced` also for targets
    that are out, or that the table takes out of the chain.
    """

    out: Collection[str] = ()
    unusable: Collection[str] = ()
    trial: str = ""
    pinned_bp: Mapping[str, int] | None = None
    forced: bool = False


def key_hash(text: str) -> int:
    """64 bits of a sticky key or a caller's identity; the text itself is kept nowhere."""
    # Headers may hold bytes that are no UTF-8; they arrive as lone surrogates, which have no encoding of their own.
    written = text.encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big")


def _draw(key: int, salt: int) -> float:
    """A number in (0, 1) that (key, salt) always gives: the finaliser of SplitMix64 (public domain, S. Vigna)."""
    mixed = (key ^ salt) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return ((mixed >> 11) + 0.5) / (1 << 53)


def rendezvous(key: int, route: str, shares_bp: Mapping[str, int]) -> str:
    """The target that keeps the caller `key` on `route`; "" if no share is above zero."""
    best, best_score = "", math.inf
    for target, share in shares_bp.items():
        if share <= 0:
            continue
        score = -math.log(_draw(key, _salt(route, target))) / share
        if score < best_score or (score == best_score and target < best):
            best, best_score = target, score
    return best


_salts: dict[tuple[str, str], int] = {}


def _salt(route: str, target: str) -> int:
    """The route is part of the salt, so that one caller is not first in line for every canary at once."""
    salt = _salts.get((route, target))
    if salt is None:
        if len(_salts) > 100_000:
            _salts.clear()
        salt = _salts[route, target] = key_hash(f"{route}\0{target}")
    return salt


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
    first, reason = _first(name, route, shares_bp, situation, key, u)
    if not first:
        first = tail[0] if tail else ""
        reason = "last resort"
    targets = (first, *(target for target in tail if target != first)) if first else ()
    return Order(targets[: route.max_attempts or None], reason, trial=bool(situation.trial))


def _first(
    name: str,
    route: RouteEntry,
    shares_bp: Mapping[str, int],
    situation: Situation,
    key: int | None,
    u: float,
) -> tuple[str, str]:
    if situation.trial:
        return situation.trial, "trial"
    if situation.pinned_bp is not None:
        fit = set(situation.pinned_bp if situation.forced else steady_targets(route))
        fit -= set(() if situation.forced else situation.out)
        pinned = _left(_only(situation.pinned_bp, fit), situation.unusable)
        target = _pick(name, pinned, key, u)
        if target:
            return target, "pinned"
    healthy = _left(shares_bp, {*situation.out, *situation.unusable})
    target = _pick(name, healthy, key, u)
    if not target:
        return "", ""
    if not route.last_resort:
        return target, "last resort"
    return target, "sticky" if key is not None else f"share {percent(shares_bp[target])}"


def _pick(name: str, shares_bp: Mapping[str, int], key: int | None, u: float) -> str:
    return by_chance(u, shares_bp) if key is None else rendezvous(key, name, shares_bp)


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
