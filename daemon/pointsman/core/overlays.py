"""Who wins: emergency > manual > failover > canary > drill > baseline.

The order chooses *desired* shares; health filters every layer (core/weights.py), save for a forced pin. A route
has at most one overlay of a kind: a newer one takes the place of the older.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core.model import Baseline, Health, OnExpiry, Overlay, OverlayKind, State

PRECEDENCE: Final = tuple(OverlayKind)
ON_EXPIRY: Final = {
    OverlayKind.EMERGENCY: OnExpiry.KEEP,
    OverlayKind.MANUAL: OnExpiry.KEEP,
    OverlayKind.FAILOVER: OnExpiry.KEEP,
    OverlayKind.CANARY: OnExpiry.DROP,
    OverlayKind.DRILL: OnExpiry.DROP,
}


class Desired(Struct, frozen=True, kw_only=True):
    """What is wanted of a route, and by whom (`origin`, for people)."""

    shares_bp: dict[str, int]
    origin: str
    force: bool = False


def winner(route: str, overlays: Iterable[Overlay]) -> Overlay | None:
    """The overlay whose shares are wanted, or None for the baseline."""
    of_route = [overlay for overlay in overlays if overlay.route == route]
    return min(of_route, key=lambda overlay: PRECEDENCE.index(overlay.kind), default=None)


def desired(route: str, baseline: Baseline, overlays: Iterable[Overlay]) -> Desired:
    """The shares that are wanted of `route`."""
    overlay = winner(route, overlays)
    if overlay is None:
        return Desired(shares_bp=baseline.shares_bp, origin="baseline")
    origin = f"{overlay.kind.value} of {overlay.owner} ({overlay.reason})"
    return Desired(shares_bp=overlay.shares_bp, origin=origin, force=overlay.force)


def put(overlays: tuple[Overlay, ...], new: Overlay) -> tuple[Overlay, ...]:
    """The overlays with `new` in place of an older one of its kind and route."""
    others = (o for o in overlays if (o.route, o.kind) != (new.route, new.kind))
    return (*others, new)


def expired(state: State, now_s: float) -> tuple[Overlay, ...]:
    """Overlays whose time is over (`not_after_s` 0: they have none)."""
    return tuple(o for o in state.overlays if o.not_after_s and now_s >= o.not_after_s)


def without(state: State, ending: Iterable[Overlay], now_s: float) -> State:
    """The state without these overlays; what a failover took share from gets it back by slow start."""
    gone = tuple(ending)
    after = replace(state, overlays=tuple(o for o in state.overlays if o not in gone))
    health = dict(state.health)
    for overlay in gone:
        if overlay.kind not in {OverlayKind.FAILOVER, OverlayKind.EMERGENCY}:
            continue
        back = desired(overlay.route, state.baselines[overlay.route], after.overlays).shares_bp
        for name, share in back.items():
            if share > overlay.shares_bp.get(name, 0):
                known = health.get(name, Health())
                health[name] = replace(known, back_s=now_s, generation=known.generation + 1)
    return replace(after, health=health)


def later(route: str, baseline: Baseline, overlays: Iterable[Overlay]) -> list[tuple[str, Desired]]:
    """What is wanted after each overlay that drops away by itself, in the order of their deadlines."""
    remaining = [overlay for overlay in overlays if overlay.route == route]
    dropping = [o for o in remaining if o.on_expiry is OnExpiry.DROP and o.not_after_s]
    stages: list[tuple[str, Desired]] = []
    for overlay in sorted(dropping, key=lambda o: o.not_after_s):
        was_winner = winner(route, remaining) is overlay
        remaining.remove(overlay)
        if was_winner:
            stages.append((overlay.id, desired(route, baseline, remaining)))
    return stages
