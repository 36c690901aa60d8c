"""Operators' words: each is checked, obeyed or refused with what to do instead, and answered, exactly once.

A word that removes an overlay (unpin, failback) is never refused for the state that things are in: the way back
must always be open. Words act on desired shares; health still filters what comes of them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from pointsman.core import breaker, overlays
from pointsman.core.axes import clock
from pointsman.core.evidence import Verb, Word
from pointsman.core.fitness import way_out
from pointsman.core.model import (
    Answer,
    Baseline,
    Drain,
    Health,
    Note,
    OnExpiry,
    Overlay,
    OverlayKind,
    Plan,
    State,
)
from pointsman.core.table import FULL_BP, percent


class RefusedError(Exception):
    """The word cannot be obeyed; the message says why and what to do."""


def obey(state: State, words: Iterable[Word], now_s: float) -> tuple[State, list[Answer], list[Note]]:
    """The state after the words, an answer to each, and what there is to tell."""
    answers: list[Answer] = []
    notes: list[Note] = []
    for word in words:
        try:
            after, text = _OBEY[word.verb](state, word, now_s)
        except (RefusedError, msgspec.ValidationError, KeyError) as error:
            missing = f"the word lacks {error}" if isinstance(error, KeyError) else str(error)
            answers.append(Answer(word=word.id, ok=False, text=missing))
        else:
            state = after
            answers.append(Answer(word=word.id, ok=True, text=text))
            said = f"{word.author}: {text} ({word.reason})"
            notes.append(Note(at_s=now_s, kind=f"word.{word.verb.value}", subject=word.author, text=said))
        if word.id:
            state = replace(state, words_cursor=word.id)
    return state, answers, notes


# --- what words are checked against


def _plan(state: State) -> Plan:
    if state.plan is None:
        raise RefusedError("there is no active configuration yet: start a daemon with one")
    return state.plan


def _known(kind: str, name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    if name not in known:
        raise RefusedError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return name


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RefusedError(f"{name} must be a mapping of names")
    return value


def _shares(plan: Plan, route: str, shares: object) -> dict[str, int]:
    """Checked shares of a route: known targets of its family, whole basis points that sum to 10,000."""
    family = plan.routes[_known("route", route, plan.routes)].family
    checked: dict[str, int] = {}
    for target, share in _mapping("shares_bp", shares).items():
        provider = plan.targets[_known("target", target, plan.targets)].provider
        if plan.providers[provider].family is not family:
            raise RefusedError(f"{target} speaks another protocol family than route {route} ({family.value})")
        if not isinstance(share, int) or isinstance(share, bool) or not 0 <= share <= FULL_BP:
            raise RefusedError(f"the share of {target} must be between 0 % and 100 %")
        checked[target] = share
    if sum(checked.values()) != FULL_BP:
        raise RefusedError(f"the shares of {route} sum to {percent(sum(checked.values()))}, not to 100 %")
    return {target: share for target, share in checked.items() if share}


def _until(now_s: float, for_s: object) -> float:
    """The deadline `for_s` seconds from now; 0.0 (none) for None."""
    if for_s is None:
        return 0.0
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not 0 < for_s <= 366 * 86_400:
        raise RefusedError("the duration must be more than 0 s and at most 366 days")
    return now_s + for_s


def _tell(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{target} {percent(share)}" for target, share in shares.items())


def _desired(state: State, route: str) -> dict[str, int]:
    return overlays.desired(route, state.baselines[route], state.overlays).shares_bp


# --- the active configuration


def _apply_plan(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = msgspec.convert(word.args["plan"], Plan)
    old = state.plan
    if old is not None and old.digest == plan.digest:
        return state, f"the configuration is active already, as revision {old.revision}"
    if old is not None and (old.environment, old.fleet) != (plan.environment, plan.fleet):
        raise RefusedError(
            f"the configuration is for {plan.environment}/{plan.fleet}, and this is {old.environment}/{old.fleet}"
        )
    for overlay in state.overlays:
        if not _fits(plan, overlay.route, overlay.shares_bp):
            raise RefusedError(
                f"{overlay.kind.value} on route {overlay.route} depends on what the new configuration removes: "
                f"end it first (pointsman unpin {overlay.route}, or pointsman failback {overlay.route})"
            )
    revision = old.revision + 1 if old else 1
    health = {
        name: _moved_health(name, old, plan, state.health[name], now_s)
        for name in plan.targets
        if name in state.health
    }
    baselines = {
        name: _baseline(name, state.baselines.get(name), route.weights_bp, plan, word, now_s)
        for name, route in plan.routes.items()
    }
    drains = {name: drain for name, drain in state.drains.items() if name in plan.targets}
    paths = {name: path for name, path in state.paths.items() if name in plan.providers}
    after = replace(
        state,
        plan=replace(plan, revision=revision),
        health=health,
        baselines=baselines,
        drains=drains,
        paths=paths,
    )
    return after, f"configuration revision {revision} is active"


def _moved_health(name: str, old: Plan | None, new: Plan, health: Health, now_s: float) -> Health:
    """A target that is now somewhere else is a stranger: what was known of it is forgotten."""
    if old is None or name not in old.targets:
        return health
    place = [(p.targets[name].model, p.providers[p.targets[name].provider].base_url) for p in (old, new)]
    if place[0] == place[1]:
        return health
    return Health(since_s=now_s, generation=health.generation + 1, grant=health.grant)


def _fits(plan: Plan, route: str, shares: Mapping[str, int]) -> bool:
    try:
        _shares(plan, route, shares)
    except RefusedError:
        return False
    return True


def _baseline(
    route: str, before: Baseline | None, file_bp: dict[str, int], plan: Plan, word: Word, now_s: float
) -> Baseline:
    """The file's weights count where the file's own value changed; else what was promoted or set stays."""
    if before is not None and before.file_bp == file_bp and _fits(plan, route, before.shares_bp):
        return before
    return Baseline(
        shares_bp=file_bp,
        file_bp=file_bp,
        author=word.author,
        reason=word.reason,
        at_s=now_s,
        revision=before.revision + 1 if before else 1,
    )


# --- shares


def _set_weights(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    route = str(word.args["route"])
    shares = _shares(plan, route, word.args["shares_bp"])
    before = state.baselines[route]
    baseline = replace(
        before,
        shares_bp=shares,
        author=word.author,
        reason=word.reason,
        at_s=now_s,
        revision=before.revision + 1,
    )
    after = replace(state, baselines={**state.baselines, route: baseline})
    text = f"baseline {baseline.revision} of {route}: {_tell(shares)}"
    return after, text + _covered(after, route)


def _covered(state: State, route: str, kind: OverlayKind | None = None) -> str:
    """What to add where an overlay stronger than `kind` (None: than the baseline) lies over the new shares."""
    over = overlays.winner(route, state.overlays)
    if over is None or (kind and overlays.PRECEDENCE.index(over.kind) >= overlays.PRECEDENCE.index(kind)):
        return ""
    return f"; the {over.kind.value} of {over.owner} lies over it until it ends"


def _failover(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    source = _known("target", str(word.args["from"]), plan.targets)
    goal = str(word.args.get("to") or "")
    only = str(word.args.get("route") or "")
    routes = [_known("route", only, plan.routes)] if only else sorted(plan.routes)
    if goal == source:
        raise RefusedError(f"a failover from {source} to itself moves nothing: name another with --to")
    using = [route for route in routes if _desired(state, route).get(source, 0)]
    if not using:
        raise RefusedError(f"{source} has no share of {only or 'any route'}: there is nothing to move")
    kind = OverlayKind.EMERGENCY if word.args.get("emergency") else OverlayKind.FAILOVER
    not_after_s = _until(now_s, word.args.get("for_s"))
    told: list[str] = []
    placed = state.overlays
    for route in using:
        target = goal or _choose(state, plan, route, source, now_s)
        shares = dict(_desired(state, route))
        shares[target] = shares.get(target, 0) + shares.pop(source)
        overlay = Overlay(
            id=f"{kind.value}:{route}:{word.id or round(now_s * 1000)}",
            kind=kind,
            route=route,
            shares_bp=_shares(plan, route, shares),
            owner=word.author,
            reason=word.reason,
            created_s=now_s,
            not_after_s=not_after_s,
            on_expiry=overlays.ON_EXPIRY[kind],
        )
        placed = overlays.put(placed, overlay)
        told.append(f"{route}: {source} → {target}, now {_tell(shares)}{_covered(state, route, kind)}")
    return replace(state, overlays=placed), f"{kind.value}: " + "; ".join(told)


def _choose(state: State, plan: Plan, route: str, source: str, now_s: float) -> str:
    """The first healthy target of the chain; one that does not share the source's fate before one that does."""
    fate = _fate(plan, source)
    fit: list[str] = []
    for target in plan.routes[route].chain:
        health = state.health.get(target, Health())
        out = target in state.drains or breaker.factor(health, plan.policy, now_s) < 1
        if target != source and not out:
            fit.append(target)
    apart = [target for target in fit if not fate or _fate(plan, target) != fate]
    if not fit:
        raise RefusedError(f"no other target of {route} is healthy: name one with --to if it must be")
    return (apart or fit)[0]


def _fate(plan: Plan, target: str) -> str:
    return plan.providers[plan.targets[target].provider].shared_fate


def _failback(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    route, target = str(word.args.get("route") or ""), str(word.args.get("target") or "")
    if route:
        _known("route", route, plan.routes)
    kinds = {OverlayKind.FAILOVER, OverlayKind.EMERGENCY}
    ending = [
        overlay
        for overlay in state.overlays
        if overlay.kind in kinds
        and (not route or overlay.route == route)
        and (not target or state.baselines[overlay.route].shares_bp.get(target, 0))
    ]
    if not ending:
        raise RefusedError(f"there is no failover on {route or 'any route'} to come back from")
    after = overlays.without(state, ending, now_s)
    told = "; ".join(f"{o.route}: {_tell(_desired(after, o.route))}" for o in ending)
    return after, f"failback by slow start to {told}"


def _rollback(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    version = str(word.args["version"])
    placed = state.overlays
    told: list[str] = []
    for route, shares in _mapping("routes", word.args["routes"]).items():
        if route not in plan.routes:
            continue  # a route of then that is no more: nothing to pin
        overlay = _manual(state, plan, str(route), shares, word, now_s)
        placed = overlays.put(placed, overlay)
        told.append(f"{route}: {_tell(overlay.shares_bp)}")
    if not told:
        raise RefusedError(f"table {version} has no route that exists today")
    return replace(state, overlays=placed), f"pinned to table {version}: " + "; ".join(told)


def _pin(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    if word.args.get("for_s") is None:
        raise RefusedError("a pin needs a duration: --for 10m")
    route = str(word.args["route"])
    overlay = _manual(state, plan, route, word.args["shares_bp"], word, now_s)
    forced = ", health ignored" if overlay.force else ""
    text = f"{route} pinned to {_tell(overlay.shares_bp)} until {clock(overlay.not_after_s)}{forced}"
    text += _covered(state, route, overlay.kind)
    return replace(state, overlays=overlays.put(state.overlays, overlay)), text


def _manual(state: State, plan: Plan, route: str, shares: object, word: Word, now_s: float) -> Overlay:
    force = word.verb is Verb.PIN and bool(word.args.get("force"))  # only what expires may be forced
    return Overlay(
        id=f"manual:{route}:{word.id or round(now_s * 1000)}",
        kind=OverlayKind.MANUAL,
        route=route,
        shares_bp=_shares(plan, route, shares),
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        not_after_s=_until(now_s, word.args.get("for_s")),
        # A forced pin feeds a target that may be dead: it must not outlive whoever watches it.
        on_expiry=OnExpiry.DROP if force else overlays.ON_EXPIRY[OverlayKind.MANUAL],
        force=force,
    )


def _unpin(state: State, word: Word, now_s: float) -> tuple[State, str]:
    route = _known("route", str(word.args["route"]), _plan(state).routes)
    left = tuple(o for o in state.overlays if (o.route, o.kind) != (route, OverlayKind.MANUAL))
    if len(left) == len(state.overlays):
        return state, f"{route} was not pinned"
    after = replace(state, overlays=left)
    return after, f"{route} unpinned, now {_tell(_desired(after, route))}"


# --- targets


def _reset(state: State, word: Word, now_s: float) -> tuple[State, str]:
    target = _known("target", str(word.args["target"]), _plan(state).targets)
    health, note = breaker.reset(target, state.health.get(target, Health()), now_s, word.reason)
    return replace(state, health={**state.health, target: health}), note.text


def _drain(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = _plan(state)
    target = _known("target", str(word.args["target"]), plan.targets)
    for name, route in plan.routes.items():
        used = {*route.chain, *_desired(state, name)}
        cure = way_out(used - {target}, state, plan, now_s)
        if target in used and cure:
            raise RefusedError(f"{target} is the last target of {name} that may serve: {cure} first")
    drain = Drain(owner=word.author, reason=word.reason, at_s=now_s)
    return replace(state, drains={**state.drains, target: drain}), f"{target} drained"


def _undrain(state: State, word: Word, now_s: float) -> tuple[State, str]:
    target = _known("target", str(word.args["target"]), _plan(state).targets)
    if target not in state.drains:
        return state, f"{target} was not drained"
    drains = {name: drain for name, drain in state.drains.items() if name != target}
    health = state.health.get(target, Health())
    back = replace(health, back_s=now_s, generation=health.generation + 1)
    return replace(
        state, drains=drains, health={**state.health, target: back}
    ), f"{target} back by slow start"


_OBEY = {
    Verb.APPLY_PLAN: _apply_plan,
    Verb.SET_WEIGHTS: _set_weights,
    Verb.FAILOVER: _failover,
    Verb.FAILBACK: _failback,
    Verb.ROLLBACK: _rollback,
    Verb.PIN: _pin,
    Verb.UNPIN: _unpin,
    Verb.RESET: _reset,
    Verb.DRAIN: _drain,
    Verb.UNDRAIN: _undrain,
}
