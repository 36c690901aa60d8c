"""Operators' words about staged rollouts. A stop is never refused while there is something to take back."""

from typing import Final

from msgspec.structs import replace

from pointsman.core import ramp_words
from pointsman.core.checks import RefusedError, checked_shares, known, plan_of
from pointsman.core.criteria import OVERRULABLE
from pointsman.core.evidence import Verb, Word
from pointsman.core.model import Plan, State
from pointsman.core.ramp_model import Verdict
from pointsman.core.rollout_model import RUNNING, SERVING, Rollout, RolloutPhase, Seen
from pointsman.core.rollout_seen import span
from pointsman.core.table import FULL_BP

# A cause in fewer letters explains nothing.
CAUSE_LENGTH_MIN: Final = 10


def start(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """ROLLOUT_START: name. This environment's stage of it begins, once the environment before is go."""
    name = _named(state, word)
    old = state.rollouts.get(name)
    again = f'pointsman rollout again {name} --root-cause "…"'
    if old is not None and old.phase in RUNNING:
        raise RefusedError(
            f"rollout {name} runs already: it is {_phase(old)} ({old.hold or 'nothing holds it'})"
        )
    if old is not None and old.phase is RolloutPhase.ROLLED_BACK:
        raise RefusedError(f"rollout {name} was rolled back ({old.ended}): find the root cause, then {again}")
    if old is not None and old.phase is RolloutPhase.GO:
        raise RefusedError(f"rollout {name} is go here; after a rollback elsewhere: {again}")
    return _begun(state, word, now_s, name, old, old.root_cause if old else "")


def again(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """ROLLOUT_AGAIN: name, root_cause (in words). A new attempt after a rollback, here or in another environment."""
    name = _named(state, word)
    old = state.rollouts.get(name)
    if old is None or old.phase is RolloutPhase.STOPPED:
        raise RefusedError(f"rollout {name} has not run to an end: pointsman rollout start {name}")
    if old.phase in RUNNING:
        raise RefusedError(f"rollout {name} still runs: it is {_phase(old)}")
    cause = str(word.args.get("root_cause") or "").strip()
    if len(cause) < CAUSE_LENGTH_MIN:
        raise RefusedError(
            f"a new attempt needs the root cause in words ({CAUSE_LENGTH_MIN} letters at least): what went wrong, "
            'and what was done about it: --root-cause "…"'
        )
    return _begun(state, word, now_s, name, old, cause)


def _begun(
    state: State, word: Word, now_s: float, name: str, old: Rollout | None, cause: str
) -> tuple[State, str]:
    plan = plan_of(state)
    rollout = plan.rollouts[name]
    place = rollout.place(plan.environment)
    if place < 0:
        there = ", ".join(stage.environment for stage in rollout.stages)
        raise RefusedError(f"rollout {name} has no stage for {plan.environment}; its stages are: {there}")
    for other in state.rollouts.values():
        if other.route == rollout.route and other.name != name and other.phase in RUNNING:
            raise RefusedError(
                f"rollout {other.name} moves {rollout.route} already: wait for its end, or stop it"
            )
    new = Seen(since_s=now_s)
    one = Rollout(
        name=name,
        route=rollout.route,
        source=rollout.source,
        goal=rollout.goal,
        stage=rollout.stages[place],
        report_hour=rollout.report_hour,
        owner=word.author,
        reason=word.reason,
        created_s=now_s,
        phase=RolloutPhase.WAITING,
        since_s=now_s,
        looked_s=now_s,
        total=new,
        week=new,
        day=new,
        hour=new,
        attempt=old.attempt + 1 if old else 1,
        root_cause=cause,
        previous=rollout.stages[place - 1].environment if place else "",
        not_before_s=_not_before_s(old),
    )
    if old is not None and (old.route, old.source, old.goal) == (one.route, one.source, one.goal):
        one = replace(one, before=old.before, before_bp=old.before_bp)
    waits = f", once {one.previous} is go" if one.previous else ""
    careful = f" after a rollback ({cause})" if cause else ""
    who = f"rollout {name} in {one.environment}, attempt {one.attempt}{careful}"
    way = f"{one.source} → {one.goal} on {one.route}, then watched for {span(one.soak_s)}"
    return _with(state, one), f"{who}: {way}{waits}"


def _not_before_s(old: Rollout | None) -> float:
    """The environment before must be go after this: the end of the last attempt, whatever it was."""
    if old is None:
        return 0.0
    return old.not_before_s if old.phase is RolloutPhase.STOPPED else old.decided_s


def go(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """ROLLOUT_GO: name, stage. The environment before is go, says an operator: its store is another one."""
    one = _running(state, word)
    stage = str(word.args.get("stage") or "")
    if not one.awaits:
        raise RefusedError(f"rollout {one.name} waits for no other environment: it is {_phase(one)}")
    if stage != one.awaits:
        raise RefusedError(f"rollout {one.name} waits for {one.awaits}, not for {stage or 'nothing'}")
    cleared = f"{word.author} says that {stage} is go: {word.reason}"
    return _with(state, replace(one, cleared=cleared)), f"rollout {one.name} may begin: {stage} is go"


def approve(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """ROLLOUT_APPROVE: name. Only what can be seen can be approved: at the end of the soak."""
    one = _running(state, word)
    if one.phase is not RolloutPhase.APPROVING:
        raise RefusedError(
            f"there is nothing to approve yet: rollout {one.name} is {_phase(one)} ({one.hold})"
        )
    return _with(
        state, replace(one, approved=_said(word))
    ), f"rollout {one.name} in {one.environment} is approved"


def overrule(state: State, word: Word, _now_s: float) -> tuple[State, str]:
    """ROLLOUT_OVERRULE: name, criterion (left out: those that hold now, save the time). Its no-go still acts."""
    one = _running(state, word)
    if one.phase not in {RolloutPhase.SOAKING, RolloutPhase.APPROVING}:
        raise RefusedError(f"no criterion is judged yet: rollout {one.name} is {_phase(one)} ({one.hold})")
    asked = str(word.args.get("criterion") or "")
    names = [known("criterion", asked, OVERRULABLE)] if asked else _holding(one)
    if not names:
        raise RefusedError(f"no criterion of rollout {one.name} holds ({one.hold or 'nothing holds it'})")
    passed = {**one.overruled, **dict.fromkeys(names, _said(word))}
    return _with(state, replace(one, overruled=passed)), f"rollout {one.name}: {', '.join(names)} overruled"


def _holding(one: Rollout) -> list[str]:
    return [f.gate for f in one.findings if f.verdict is Verdict.HOLD and f.gate not in one.overruled]


def stop(state: State, word: Word, now_s: float) -> tuple[State, str]:
    """ROLLOUT_STOP: name, keep. What was moved goes back at once; with `keep` it stays, and is watched no more."""
    name = str(word.args.get("name") or "")
    one = state.rollouts.get(name)
    if one is None or one.phase in {RolloutPhase.STOPPED, RolloutPhase.ROLLED_BACK}:
        _named(state, word)
        return state, f"rollout {name} does not run: nothing to stop"
    if one.route not in state.baselines:
        raise RefusedError(f"there is no route {one.route} any more: nothing to take back")
    if one.phase is RolloutPhase.WAITING:
        return _with(state, _stopped(one, word, now_s)), f"rollout {name} stopped before anything moved"
    if word.args.get("keep"):
        if one.phase is RolloutPhase.RAMPING:
            raise RefusedError(
                f"the canary of rollout {name} still runs: stop without keeping, or promote it first "
                f"(pointsman canary promote {one.route})"
            )
        return _with(state, _stopped(one, word, now_s)), f"rollout {name} stopped; what was moved stays"
    if one.phase is RolloutPhase.RAMPING:
        aborted = replace(word, verb=Verb.RAMP_ABORT, args={"route": one.route})
        state, _ = ramp_words.abort(state, aborted, now_s)
        return state, f"rollout {name} stopped: its canary is aborted"
    stopping = replace(one, stopping=one.stopping or f"stopped by {_said(word)}")
    return _with(state, stopping), f"rollout {name} stopped: {one.route} goes back to {one.source}"


def _stopped(one: Rollout, word: Word, now_s: float) -> Rollout:
    why = f"stopped by {_said(word)}"
    return replace(
        one, phase=RolloutPhase.STOPPED, since_s=now_s, ended=why, stopping="", hold="", held_by=()
    )


# --- what the words share, and the configuration


def _named(state: State, word: Word) -> str:
    plan = plan_of(state)
    if not plan.rollouts:
        raise RefusedError("no rollout is configured: write one under rollouts: in the file")
    return known("rollout", str(word.args.get("name") or ""), plan.rollouts)


def _running(state: State, word: Word) -> Rollout:
    name = str(word.args.get("name") or "")
    one = state.rollouts.get(name)
    if one is None:
        name = _named(state, word)
        raise RefusedError(f"rollout {name} has not begun: pointsman rollout start {name}")
    if one.phase not in RUNNING:
        raise RefusedError(f"rollout {name} is over: it is {_phase(one)} ({one.ended})")
    return one


def _with(state: State, one: Rollout) -> State:
    return replace(state, rollouts={**state.rollouts, one.name: one})


def _phase(one: Rollout) -> str:
    return one.phase.value.replace("_", " ")


def _said(word: Word) -> str:
    return f"{word.author}: {word.reason}"


def kept(state: State, plan: Plan) -> dict[str, Rollout]:
    """The rollouts that a new configuration keeps. Refuses one that removes what a running one depends on."""
    for one in state.rollouts.values():
        if (one.phase in RUNNING or one.stopping) and not fits(plan, one):
            raise RefusedError(
                f"rollout {one.name} on route {one.route} depends on what the new configuration removes: "
                f"end it first (pointsman rollout stop {one.name})"
            )
    return state.rollouts


def fits(plan: Plan, one: Rollout) -> bool:
    """Does everything that the rollout moves between exist in `plan`?"""
    try:
        for target in (one.source, one.goal):
            checked_shares(plan, one.route, {target: FULL_BP})
        for shares in (one.before_bp, one.after_bp) if one.phase in SERVING else ():
            checked_shares(plan, one.route, shares or {one.goal: FULL_BP})
    except RefusedError:
        return False
    return True
