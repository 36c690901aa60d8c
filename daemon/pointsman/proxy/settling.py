"""Which target a caller with a sticky key is settled at, so that changing shares move as few callers as can be. Pure.

    1. place    by weighted rendezvous over the anchor: each target draws a number from the caller's key, its anchor
                share scales it, and the best draw wins
    2. leave    a target with less than its anchor share gives up the fraction (anchor − share) / anchor of its
                callers, those with the lowest draws: a larger fraction only adds callers to them
    3. arrive   who leaves goes to one of the targets with more than their anchor share, by weighted rendezvous over
                what each has gained
                both are done twice: from the anchor to the shares that are wanted, and from those to what health
                leaves of them, so that a death in the middle of a ramp moves the callers of the dead alone
    4. spare    who is settled at a target that this proxy cannot use now goes to one of those that it can, by weighted
                rendezvous over their shares, and nobody else moves

The share of callers that leaves its place is the total variation between anchor and shares, and no rule can do with
less (a maximal coupling). A growing canary only adds callers to itself, third targets keep theirs, an end of it puts
the same callers back, and those of a dead target spread over the others until it returns. The order of the targets
and the scale of either distribution do not matter. Without an anchor the shares are the anchor.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

_MASK: Final = (1 << 64) - 1
_PLANS_KEPT: Final = 2_048

Shares = tuple[tuple[str, int], ...]


class _Bid(Struct, frozen=True):
    """A target that may win a caller; the larger the weight, the likelier."""

    target: str
    salt: int
    weight: int


class _Hop(Struct, frozen=True):
    """From one distribution to the next. `leaving`: target → (salt, fraction of its callers that leave)."""

    leaving: dict[str, tuple[int, float]]
    gains: tuple[_Bid, ...]


class _Plan(Struct, frozen=True):
    """What does not depend on the caller."""

    places: tuple[_Bid, ...]
    hops: tuple[_Hop, ...]
    spares: tuple[_Bid, ...]


@lru_cache(1_024)
def key_hash(text: str) -> int:
    """64 bits of a sticky key or a caller's identity; of the text itself only the latest are kept, in memory alone."""
    # Headers may hold bytes that are no UTF-8; they arrive as lone surrogates, which have no encoding of their own.
    written = text.encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big")


def settle(
    key: int,
    route: str,
    anchor_bp: Mapping[str, int],
    shares_bp: Mapping[str, int],
    among: Collection[str] | None = None,
    wanted_bp: Mapping[str, int] | None = None,
) -> str:
    """The target that the caller `key` of `route` is settled at; "" if no share (of those in `among`) is above 0.

    `wanted_bp`: what the shares would be if every target were well.
    """
    wanted = tuple((wanted_bp or shares_bp).items())
    plan = _plan(route, tuple(anchor_bp.items()), wanted, tuple(shares_bp.items()))
    target = _best(key, plan.places)
    for hop in plan.hops:
        if target in hop.leaving:
            salt, fraction = hop.leaving[target]
            # Draws are above 0 and at most 1: everybody leaves for a fraction of 1.
            if _draw(key, salt) <= fraction:
                target = _best(key, hop.gains)
    if among is None or target in among:
        return target
    return _best(key, (bid for bid in plan.spares if bid.target in among))


@lru_cache(_PLANS_KEPT)
def _plan(route: str, anchor: Shares, wanted: Shares, shares: Shares) -> _Plan:
    present = _positive(shares)
    if not present:
        return _Plan((), (), ())
    aimed = _positive(wanted) or present
    anchored = _positive(anchor) or aimed
    hops = (_hop(route, "", anchored, aimed), _hop(route, "health", aimed, present))
    return _Plan(
        places=_bids(route, "", anchored.items()),
        hops=tuple(hop for hop in hops if hop.leaving),
        spares=_bids(route, "spare", present.items()),
    )


def _positive(shares: Shares) -> dict[str, int]:
    return {target: share for target, share in shares if share > 0}


def _hop(route: str, purpose: str, before: Mapping[str, int], after: Mapping[str, int]) -> _Hop:
    """In whole numbers: each side times the other's sum, so that equal shares are exactly equal."""
    before_sum, after_sum = sum(before.values()), sum(after.values())
    moved = {
        target: after.get(target, 0) * before_sum - before.get(target, 0) * after_sum
        for target in {**before, **after}
    }
    return _Hop(
        leaving={
            target: (_salt(route, target, f"{purpose}leave"), -change / (before[target] * after_sum))
            for target, change in moved.items()
            if change < 0
        },
        gains=_bids(
            route, f"{purpose}arrive", ((target, change) for target, change in moved.items() if change > 0)
        ),
    )


def _bids(route: str, purpose: str, weights: Iterable[tuple[str, int]]) -> tuple[_Bid, ...]:
    return tuple(_Bid(target, _salt(route, target, purpose), weight) for target, weight in sorted(weights))


def _salt(route: str, target: str, purpose: str) -> int:
    """The route is part of the salt, so that one caller is not first in line for every canary at once.

    The purpose is, because whoever won a place by a draw has drawn well: the next draw has to be another one.
    """
    return key_hash(f"{route}\0{target}\0{purpose}" if purpose else f"{route}\0{target}")


def _best(key: int, bids: Iterable[_Bid]) -> str:
    best, best_score = "", math.inf
    for bid in bids:
        score = -math.log(_draw(key, bid.salt)) / bid.weight
        if score < best_score:
            best, best_score = bid.target, score
    return best


def _draw(key: int, salt: int) -> float:
    """A number in (0, 1] that (key, salt) always gives: the finaliser of SplitMix64 (public domain, S. Vigna)."""
    mixed = (key ^ salt) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return ((mixed >> 11) + 0.5) / (1 << 53)
