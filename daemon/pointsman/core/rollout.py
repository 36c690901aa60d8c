"""Staged rollouts: one environment's stage of a plan, from the go of the environment before to its own.

Every daemon moves the stage of its own environment only. The traffic is moved by a canary (core/ramp.py), whose bake
is the cutover rule; what comes after it is here. Every transition of a rollout is in this file, save those that are an
operator's word (core/rollout_words.py): a start or an attempt anew begins in `waiting`, a stop before anything moved
ends in `stopped`.

    from        when                                                          to
    waiting     the environment before is go (1), nothing is frozen and       ramping; soaking, if all of the share is
                no other ramp moves the route                                 on the new side already
    ramping     the canary is promoted, its bake over                         soaking
                the canary is aborted                                         rolled_back
                the canary is lost (the store was, and the backup is older)   waiting, which begins anew; soaking, if
                                                                              it was promoted
    soaking     watched for its time, every criterion is go (2)               approving, or go where nobody is asked
    approving   a person approves                                             go
                a criterion is not go any more                                soaking
    soaking,    a criterion says no-go; the new side is out of service for    rolled_back: the old baseline is back;
    approving   `TRIP_GRACE_S` while the old one answers; an operator's stop  blocked, if the old side is out or
                                                                              another ramp must be taken back first
    blocked     the old side is in service, nothing else moves                rolled_back
    go          an operator's stop                                            rolled_back, or blocked

(1) By its own state in this store, decided after our last rollback and about the same route and targets; or by an
    operator's word, where its store is another one.
(2) core/criteria.py. An operator may overrule a criterion with a reason, never a no-go.

Time counts only while it is watched, that is between looks close together, while the baseline is the promoted one,
nothing lies over it, the new side is in service and a proxy is alive: no leap of a clock ends a soak.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core import overlays, ramping
from pointsman.core.checks import RefusedError, tell
from pointsman.core.criteria import SOAK, judged
from pointsman.core.evidence import Evidence, Verb, Word
from pointsman.core.model import Note, Plan, State, Vantage
from pointsman.core.ramp import TRIP_GRACE_S
from pointsman.core.ramp_model import ENDED, Arm, RampKind, RampPhase, Verdict
from pointsman.core.ramp_words import canary
from pointsman.core.rollout_model import RUNNING, SERVING, Rollout, RolloutPhase, Seen, StageNews
from pointsman.core.rollout_reports import due, filed
from pointsman.core.rollout_seen import begun, counted, noted, span
from pointsman.core.rollout_shares import nonzero, restored

# Looks further apart than this do not count as watched; closer together than LOOK_S, a look with no news is not saved.
WATCH_GAP_S: Final = 60.0
LOOK_S: Final = 10.0
# What stands in reports as an issue.
ISSUES: Final = frozenset({"hold", "unwatched", "lost", "blocked", "rolled_back"})


class Look(Struct, frozen=True, kw_only=True):
    """What a stage's next state needs beside what it remembers itself; `notes` are filled on the way.

    `live`: the proxies heard of lately; `out`: target → why it is not in service; `stages`: news of other environments.
    """

    now_s: float
    elapsed_s: float
    plan: Plan
    live: Collection[str]
    out: Mapping[str, str]
    stages: Sequence[StageNews]
    notes: list[Note]


def advance(
    state: State,
    known: Mapping[str, Vantage],
    evidence: Evidence,
    plan: Plan,
    live: Collection[str],
    out: Mapping[str, str],
    now_s: float,
) -> tuple[State, list[Note]]:
    """Every rollout that runs one look further. `known`: the vantages of the last decision."""
    running = [one for one in state.rollouts.values() if one.phase in RUNNING or one.stopping]
    notes: list[Note] = []
    seen = ramping.fresh(known, state.vantages) if running else {}
    for before in running:
        gap_s = now_s - before.looked_s
        elapsed_s = gap_s if 0 < gap_s <= WATCH_GAP_S else 0.0
        look = Look(
            now_s=now_s,
            elapsed_s=elapsed_s,
            plan=plan,
            live=live,
            out=out,
            stages=evidence.stages,
            notes=notes,
        )
        one = replace(counted(before, seen, now_s), looked_s=now_s)
        if gap_s > WATCH_GAP_S and one.phase in SERVING:
            one = _told(one, look, "unwatched", f"was not watched for {span(gap_s)}, which does not count")
        after, one = _stepped(state, one, look)
        for kind in due(one, now_s):
            after, one = filed(after, one, kind, now_s, notes)
        if after is not state or _worth_saving(before, one, gap_s):
            state = replace(after, rollouts={**after.rollouts, one.name: one})
    return state, notes


def _worth_saving(before: Rollout, after: Rollout, gap_s: float) -> bool:
    """Is there more new than the time? A soak of days is not to be saved every second."""
    same = replace(after, looked_s=before.looked_s, watched_s=before.watched_s) == before
    return not same or not 0 <= gap_s < min(LOOK_S, before.soak_s / 20)


def _stepped(state: State, one: Rollout, look: Look) -> tuple[State, Rollout]:
    match one.phase:
        case RolloutPhase.WAITING:
            return _waiting(state, one, look)
        case RolloutPhase.RAMPING:
            return _ramping(state, one, look)
        case RolloutPhase.SOAKING | RolloutPhase.APPROVING if not one.stopping:
            return _soaking(state, one, look)
    return _taken_back(state, one, look, one.stopping)


# --- towards the new side


def _waiting(state: State, one: Rollout, look: Look) -> tuple[State, Rollout]:
    if one.awaits:
        cleared, why = _cleared(one, look.stages)
        if not cleared:
            unknown = not any(news.rollout == one.name for news in look.stages)
            return state, _held(one, look, [(one.previous, why)], worth=[] if unknown else None)
        one = _told(replace(one, cleared=cleared), look, "cleared", f"may begin: {cleared}")
    if state.freeze is not None:
        why = f"{state.freeze.owner} froze all movement: {state.freeze.reason}"
        return state, _held(one, look, [("frozen", why)])
    shares = nonzero(state.baselines[one.route].shares_bp)
    if one.goal in shares and one.source not in shares:
        there = f"{one.goal} has the share already"
        return _to_soak(state, begun(one, look.now_s), look, after_bp=shares, why=there)
    word = Word(
        id="",
        verb=Verb.CANARY,
        author=one.owner,
        reason=f"rollout {one.name}: {one.reason}",
        args={"route": one.route, "from": one.source, "to": one.goal},
    )
    try:
        state, text = canary(state, word, look.now_s)
    except RefusedError as error:
        return state, _held(one, look, [("canary", str(error))])
    ramp = state.ramps[one.route]
    began = replace(
        begun(one, look.now_s),
        phase=RolloutPhase.RAMPING,
        since_s=look.now_s,
        ramp=ramp.id,
        before=Arm(),
        before_bp=nonzero(ramp.from_bp),
        after_bp=ramp.to_bp,
        hold="",
        held_by=(),
    )
    return state, _told(began, look, "begun", f"begins: {text}")


def _cleared(one: Rollout, stages: Sequence[StageNews]) -> tuple[str, str]:
    """(why the environment before counts as go, why it does not); one of them is empty."""
    news = next((s for s in stages if (s.rollout, s.environment) == (one.name, one.previous)), None)
    say = f"pointsman rollout go {one.name} --stage {one.previous}"
    if news is None:
        return "", f"nothing is known of {one.previous} yet"
    if news.told:
        return "", f"{news.told}; where its store is another one, say {say}"
    if news.moves != (one.route, one.source, one.goal):
        route, source, goal = news.moves
        return "", f"in {one.previous} it moves {route} from {source} to {goal}, which is another rollout"
    if news.phase != RolloutPhase.GO:
        return "", f"{one.previous} is {news.phase.replace('_', ' ')}"
    if news.decided_s <= one.not_before_s:
        return "", f"{one.previous} was go before the last rollback: it must be go again"
    return f"{one.previous} is go (attempt {news.attempt})", ""


def _ramping(state: State, one: Rollout, look: Look) -> tuple[State, Rollout]:
    ramp = state.ramps.get(one.route)
    promoted = nonzero(state.baselines[one.route].shares_bp) == one.after_bp
    if ramp is None or ramp.id != one.ramp:
        if promoted:
            why = "its canary was promoted and is lost"
            return _to_soak(state, one, look, after_bp=one.after_bp, why=why)
        lost = replace(
            one, phase=RolloutPhase.WAITING, since_s=look.now_s, cleared=one.cleared or "begun before"
        )
        return state, _told(lost, look, "lost", "has lost its canary, and begins anew")
    if ramp.phase is RampPhase.PROMOTED:
        return _to_soak(state, one, look, after_bp=ramp.to_bp, why=f"the canary is promoted: {ramp.ended}")
    if ramp.phase is RampPhase.ABORTED:
        return state, _ended(one, look, RolloutPhase.ROLLED_BACK, f"the canary is aborted: {ramp.ended}")
    return state, replace(one, hold=f"the canary: {ramp.hold}" if ramp.hold else "")


def _to_soak(
    state: State, one: Rollout, look: Look, *, after_bp: dict[str, int], why: str
) -> tuple[State, Rollout]:
    soaking = replace(
        one,
        phase=RolloutPhase.SOAKING,
        since_s=look.now_s,
        watched_s=0.0,
        after_bp=after_bp,
        hour=Seen(since_s=look.now_s),
        hold="",
        held_by=(),
    )
    soaking = _told(soaking, look, "soaking", f"soaks for {span(one.soak_s)}: {why}")
    return _soaking(state, soaking, replace(look, elapsed_s=0.0))


# --- on the new side


def _soaking(state: State, one: Rollout, look: Look) -> tuple[State, Rollout]:
    found = judged(one, look.plan.ramp.canary)
    one = replace(one, findings=found)
    for finding in found:
        if finding.verdict is Verdict.ABORT:
            return _taken_back(state, one, look, f"{finding.gate}: {finding.why}")
    one, tripped = _tripped(state, one, look)
    if tripped:
        return _taken_back(state, one, look, tripped)
    held = _outer_holds(state, one, look)
    if not held:
        one = replace(one, watched_s=one.watched_s + look.elapsed_s)
    return state, _held_or_on(one, look, held, _criteria_holds(one))


def _outer_holds(state: State, one: Rollout, look: Look) -> list[tuple[str, str]]:
    """(what, why) of all that keeps the traffic from where it is to be watched."""
    held: list[tuple[str, str]] = []
    baseline = state.baselines[one.route]
    if nonzero(baseline.shares_bp) != one.after_bp:
        why = (
            f"the baseline is not the promoted one any more: {tell(baseline.shares_bp)} by {baseline.author}"
        )
        held.append(("shares", why))
    over = overlays.winner(one.route, state.overlays)
    if over is not None:
        held.append(("overlaid", f"the {over.kind.value} of {over.owner} lies over it ({over.reason})"))
    if one.goal in look.out:
        held.append(("out", f"{one.goal} {look.out[one.goal]}"))
    if not look.live:
        held.append(("serving", "no proxy is alive, so nothing is known of the traffic"))
    return held


def _criteria_holds(one: Rollout) -> list[tuple[str, str]]:
    held: list[tuple[str, str]] = []
    if one.watched_s < one.soak_s:
        held.append((SOAK, f"{span(one.soak_s)} must be watched"))
    held += [(f.gate, f.why) for f in one.findings if f.verdict is Verdict.HOLD]
    return [(name, why) for name, why in held if name not in one.overruled]


def _held_or_on(
    one: Rollout, look: Look, outer: list[tuple[str, str]], criteria: list[tuple[str, str]]
) -> Rollout:
    if outer or criteria:
        if one.phase is RolloutPhase.APPROVING:
            one = replace(one, phase=RolloutPhase.SOAKING, since_s=look.now_s, approved="")
        young = any(name == SOAK for name, _ in criteria)
        return _held(one, look, [*outer, *criteria], worth=outer if young else None)
    if one.stage.approval and not one.approved:
        if one.phase is RolloutPhase.APPROVING:
            return one
        asking = replace(one, phase=RolloutPhase.APPROVING, since_s=look.now_s, held_by=())
        asking = replace(asking, hold=f"a person must approve it: pointsman rollout approve {one.name}")
        return _told(asking, look, "approval", f"waits for a person: every criterion is go ({_why(one)})")
    yes = f"; approved by {one.approved}" if one.approved else ""
    return _ended(one, look, RolloutPhase.GO, f"{_why(one)}{yes}")


def _why(one: Rollout) -> str:
    """What the go rests on."""
    passed = [f.why for f in one.findings if f.verdict is Verdict.PASS]
    overruled = [f"{name} overruled by {who}" for name, who in one.overruled.items()]
    return "; ".join([f"watched for {span(one.watched_s)}", *passed, *overruled])


def _tripped(state: State, one: Rollout, look: Look) -> tuple[Rollout, str]:
    """Why a new side that does not serve any more is a no-go, or ""; what it remembers of when that began."""
    if one.goal not in look.out:
        return replace(one, out_s=0.0), ""
    if not one.out_s or one.out_s > look.now_s:
        return replace(one, out_s=look.now_s), ""
    health = state.health.get(one.source)
    answers = health is not None and one.source not in look.out and health.last_success_s >= one.out_s
    if look.now_s - one.out_s < TRIP_GRACE_S or not answers:
        return one, ""
    return one, f"{one.goal} {look.out[one.goal]}, while {one.source} answers"


# --- back


def _taken_back(state: State, one: Rollout, look: Look, why: str) -> tuple[State, Rollout]:
    """The old baseline again; while the old side is dead or something else moves, what was moved stays."""
    one = replace(one, stopping=why)
    ramp = state.ramps.get(one.route)
    hold = ""
    if one.source in look.out:
        hold = f"{one.source} {look.out[one.source]}"
    elif ramp is not None and ramp.kind in {RampKind.CANARY, RampKind.SHIFT} and ramp.phase not in ENDED:
        hold = f"the {ramp.kind.value} on {one.route} must be taken back first"
        if not ramp.aborting:
            aborting = replace(ramp, aborting=f"rollout {one.name}: {why}")
            state = replace(state, ramps={**state.ramps, one.route: aborting})
    if hold:
        blocked = replace(one, phase=RolloutPhase.BLOCKED, hold=hold)
        if one.phase is RolloutPhase.BLOCKED:
            return state, blocked
        text = f"is no-go ({why}) and cannot go back yet: {hold}; what was moved stays"
        return state, _told(replace(blocked, since_s=look.now_s), look, "blocked", text)
    state, back = restored(state, one, look.plan, why, look.now_s)
    return state, _ended(one, look, RolloutPhase.ROLLED_BACK, why, back)


# --- told


def _ended(one: Rollout, look: Look, phase: RolloutPhase, why: str, more: str = "") -> Rollout:
    ended = replace(
        one,
        phase=phase,
        since_s=look.now_s,
        decided_s=look.now_s,
        ended=why,
        stopping="",
        hold="",
        held_by=(),
        out_s=0.0,
    )
    kind = phase.value
    return _told(ended, look, kind, f"is {phase.value.replace('_', ' ')}: {why}{more}")


def _held(
    one: Rollout, look: Look, held: list[tuple[str, str]], worth: list[tuple[str, str]] | None = None
) -> Rollout:
    """`held` as the reason why it does not go on; `worth` (all, if not said) is told when it is another one."""
    worth = held if worth is None else worth
    names = tuple(name for name, _ in worth)
    fresh = bool(worth) and names != one.held_by
    one = replace(one, hold="; ".join(f"{name}: {why}" for name, why in held), held_by=names)
    return _told(one, look, "hold", f"holds: {'; '.join(why for _, why in worth)}") if fresh else one


def _told(one: Rollout, look: Look, kind: str, what: str) -> Rollout:
    """The rollout with what happened among its issues; a note of it is added."""
    text = f"rollout {one.name} in {one.environment} {what}"
    look.notes.append(Note(at_s=look.now_s, kind=f"rollout.{kind}", subject=one.name, text=text))
    return noted(one, what, look.now_s) if kind in ISSUES else one
