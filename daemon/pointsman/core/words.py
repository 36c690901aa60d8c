"""Operators' words: each is checked, obeyed or refused with what to do instead, and answered, exactly once.

A word that removes an overlay (unpin, failback) is never refused for the state that things are in: the way back
must always be open. Words act on desired shares; health still filters what comes of them.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from pointsman.core import breaker, overlays, ramp_words, rollout_words
from pointsman.core.axes import clock
from pointsman.core.checks import (
    RefusedError,
    checked_shares,
    covered,
    desired,
    known,
    mapping,
    plan_of,
    tell,
    until,
)
from pointsman.core.evidence import Verb, Word
from pointsman.core.failover import failback, failover, free
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
from pointsman.core.ramp_model import ENDED


def obey(state: State, words: Iterable[Word], now_s: float) -> tuple[State, list[Answer], list[Note]]:
    """The state after the words, an answer to each, and what there is to tell."""
    answers: list[Answer] = []
    notes: list[Note] = []
    for word in words:
        try:
            _check_frozen(state, word)
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


def _check_frozen(state: State, word: Word) -> None:
    """Refuse what would move traffic while all movement is frozen, save for emergencies."""
    freeze = state.freeze
    if freeze is None or word.verb not in _MOVING or not word.id or word.args.get("emergency"):
        return
    raise RefusedError(
        f"all movement is frozen until {clock(freeze.until_s)} by {freeze.owner} ({freeze.reason}): "
        "pointsman unfreeze first, or make it an emergency"
    )


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
    _check_ramps(state, plan)
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
        ramps={name: ramp for name, ramp in state.ramps.items() if name in plan.routes},
        rollouts=rollout_words.kept(state, plan),
    )
    return after, f"configuration revision {revision} is active"


def _check_ramps(state: State, plan: Plan) -> None:
    """Refuse what a ramp that runs depends on."""
    for ramp in state.ramps.values():
        if ramp.phase in ENDED:
            continue
        if not ramp_words.fits(plan, ramp):
            raise RefusedError(
                f"the {ramp.kind.value} on route {ramp.route} depends on what the new configuration removes: "
                f"end it first (pointsman canary abort {ramp.route})"
            )
        if state.baselines[ramp.route].file_bp != plan.routes[ramp.route].weights_bp:
            raise RefusedError(
                f"the {ramp.kind.value} on route {ramp.route} moves its weights, and the new configuration sets them: "
                f"wait for its end, or end it (pointsman canary abort {ramp.route})"
            )


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
        checked_shares(plan, route, shares)
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
    plan = plan_of(state)
    route = str(word.args["route"])
    shares = checked_shares(plan, route, word.args["shares_bp"])
    if word.args.get("over_s"):
        return ramp_words.shift(state, word, now_s, route, shares, until(0.0, word.args["over_s"]))
    free(state, route)
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
    text = f"baseline {baseline.revision} of {route}: {tell(shares)}"
    return after, text + covered(after, route)


def _rollback(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = plan_of(state)
    version = str(word.args["version"])
    placed = state.overlays
    told: list[str] = []
    for route, shares in mapping("routes", word.args["routes"]).items():
        if route not in plan.routes:
            continue  # a route of then that is no more: nothing to pin
        overlay = _manual(state, plan, str(route), shares, word, now_s)
        placed = overlays.put(placed, overlay)
        told.append(f"{route}: {tell(overlay.shares_bp)}")
    if not told:
        raise RefusedError(f"table {version} has no route that exists today")
    return replace(state, overlays=placed), f"pinned to table {version}: " + "; ".join(told)


def _pin(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = plan_of(state)
    if word.args.get("for_s") is None:
        raise RefusedError("a pin needs a duration: --for 10m")
    route = str(word.args["route"])
    overlay = _manual(state, plan, route, word.args["shares_bp"], word, now_s)
    forced = ", health ignored" if overlay.force else ""
    text = f"{route} pinned to {tell(overlay.shares_bp)} until {clock(overlay.not_after_s)}{forced}"
    text += covered(state, route, overlay.kind)
    return replace(state, overlays=overlays.put(state.overlays, overlay)), text


def _manual(state: State, plan: Plan, route: str, shares: object, word: Word, now_s: float) -> Overlay:
    force = word.verb is Verb.PIN and bool(word.args.get("force"))  # only what expires may be forced
    return Overlay(
        id=f"manual:{route}:{word.id or round(now_s * 1000)}",
        kind=OverlayKind.MANUAL,
        route=route,
        shares_bp=checked_shares(plan, route, shares),
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        not_after_s=until(now_s, word.args.get("for_s")),
        # A forced pin feeds a target that may be dead: it must not outlive whoever watches it.
        on_expiry=OnExpiry.DROP if force else overlays.ON_EXPIRY[OverlayKind.MANUAL],
        force=force,
    )


def _unpin(state: State, word: Word, now_s: float) -> tuple[State, str]:
    route = known("route", str(word.args["route"]), plan_of(state).routes)
    left = tuple(o for o in state.overlays if (o.route, o.kind) != (route, OverlayKind.MANUAL))
    if len(left) == len(state.overlays):
        return state, f"{route} was not pinned"
    after = replace(state, overlays=left)
    return after, f"{route} unpinned, now {tell(desired(after, route))}"


# --- targets


def _reset(state: State, word: Word, now_s: float) -> tuple[State, str]:
    target = known("target", str(word.args["target"]), plan_of(state).targets)
    health, note = breaker.reset(target, state.health.get(target, Health()), now_s, word.reason)
    return replace(state, health={**state.health, target: health}), note.text


def _drain(state: State, word: Word, now_s: float) -> tuple[State, str]:
    plan = plan_of(state)
    target = known("target", str(word.args["target"]), plan.targets)
    for name, route in plan.routes.items():
        used = {*route.chain, *desired(state, name)}
        cure = way_out(used - {target}, state, plan, now_s)
        if target in used and cure:
            raise RefusedError(f"{target} is the last target of {name} that may serve: {cure} first")
    over_s = until(0.0, word.args.get("over_s"))
    drain = Drain(owner=word.author, reason=word.reason, at_s=now_s, over_s=over_s)
    gently = f", gently within {over_s:.0f} s" if over_s else ""
    return replace(state, drains={**state.drains, target: drain}), f"{target} drained{gently}"


def _undrain(state: State, word: Word, now_s: float) -> tuple[State, str]:
    target = known("target", str(word.args["target"]), plan_of(state).targets)
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
    Verb.FAILOVER: failover,
    Verb.FAILBACK: failback,
    Verb.ROLLBACK: _rollback,
    Verb.PIN: _pin,
    Verb.UNPIN: _unpin,
    Verb.RESET: _reset,
    Verb.DRAIN: _drain,
    Verb.UNDRAIN: _undrain,
    Verb.CANARY: ramp_words.canary,
    Verb.RAMP_PAUSE: ramp_words.pause,
    Verb.RAMP_RESUME: ramp_words.resume,
    Verb.RAMP_SET: ramp_words.set_step,
    Verb.RAMP_PROMOTE: ramp_words.promote,
    Verb.RAMP_ABORT: ramp_words.abort,
    Verb.RAMP_APPROVE: ramp_words.approve,
    Verb.RAMP_OVERRULE: ramp_words.overrule,
    Verb.FREEZE: ramp_words.freeze,
    Verb.UNFREEZE: ramp_words.unfreeze,
    Verb.ROLLOUT_START: rollout_words.start,
    Verb.ROLLOUT_GO: rollout_words.go,
    Verb.ROLLOUT_APPROVE: rollout_words.approve,
    Verb.ROLLOUT_AGAIN: rollout_words.again,
    Verb.ROLLOUT_STOP: rollout_words.stop,
    Verb.ROLLOUT_OVERRULE: rollout_words.overrule,
}
# What a freeze keeps from happening: words that move traffic, or would let something move it.
_MOVING = frozenset(
    {
        Verb.APPLY_PLAN,
        Verb.SET_WEIGHTS,
        Verb.FAILOVER,
        Verb.FAILBACK,
        Verb.ROLLBACK,
        Verb.PIN,
        Verb.UNPIN,
        Verb.DRAIN,
        Verb.UNDRAIN,
        Verb.CANARY,
        Verb.RAMP_SET,
        Verb.RAMP_PROMOTE,
        Verb.ROLLOUT_START,
        Verb.ROLLOUT_AGAIN,
    }
)
