"""What operators' words are checked against, and how their answers are told."""

from collections.abc import Iterable, Mapping
from typing import Any

from pointsman.core import overlays
from pointsman.core.model import OverlayKind, Plan, State
from pointsman.core.table import FULL_BP, percent


class RefusedError(Exception):
    """The word cannot be obeyed; the message says why and what to do."""


def plan_of(state: State) -> Plan:
    if state.plan is None:
        raise RefusedError("there is no active configuration yet: start a daemon with one")
    return state.plan


def known(kind: str, name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    if name not in known:
        raise RefusedError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return name


def mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RefusedError(f"{name} must be a mapping of names")
    return value


def checked_shares(plan: Plan, route: str, shares: object) -> dict[str, int]:
    """Checked shares of a route: known targets of its family, whole basis points that sum to 10,000."""
    family = plan.routes[known("route", route, plan.routes)].family
    checked: dict[str, int] = {}
    for target, share in mapping("shares_bp", shares).items():
        provider = plan.targets[known("target", target, plan.targets)].provider
        if plan.providers[provider].family is not family:
            raise RefusedError(f"{target} speaks another protocol family than route {route} ({family.value})")
        if not isinstance(share, int) or isinstance(share, bool) or not 0 <= share <= FULL_BP:
            raise RefusedError(f"the share of {target} must be between 0 % and 100 %")
        checked[target] = share
    if sum(checked.values()) != FULL_BP:
        raise RefusedError(f"the shares of {route} sum to {percent(sum(checked.values()))}, not to 100 %")
    return {target: share for target, share in checked.items() if share}


def until(now_s: float, for_s: object) -> float:
    """The deadline `for_s` seconds from now; 0.0 (none) for None."""
    if for_s is None:
        return 0.0
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not 0 < for_s <= 366 * 86_400:
        raise RefusedError("the duration must be more than 0 s and at most 366 days")
    return now_s + for_s


def tell(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{target} {percent(share)}" for target, share in shares.items())


def desired(state: State, route: str) -> dict[str, int]:
    return overlays.desired(route, state.baselines[route], state.overlays).shares_bp


def covered(state: State, route: str, kind: OverlayKind | None = None) -> str:
    """What to add where an overlay stronger than `kind` (None: than the baseline) lies over the new shares."""
    over = overlays.winner(route, state.overlays)
    if over is None or (kind and overlays.PRECEDENCE.index(over.kind) >= overlays.PRECEDENCE.index(kind)):
        return ""
    return f"; the {over.kind.value} of {over.owner} lies over it until it ends"
