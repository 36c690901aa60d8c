"""A ramp: how one route's shares move, step by step, from where they are to where they should be.

Canary, gradual failover, failback and a distribution reached over a duration are all this machine; they differ in
their policy's steps and in what becomes of the shares at the end (core/ramping.py). Every transition is in this
file.

    from        when                                                       to
    precheck    the side to move to is in service, and what is asked       spreading, first step
                without traffic passes (approval, calendar, external)
    spreading   the table with the share is serving on every live proxy    observing
    observing   every gate passes (1)                                      spreading, next step; before the last:
                                                                           promoted, or baking (canary)
    observing   a trouble of the control too is over (3)                   spreading, the same step anew
    baking      the same                                                   baking, anew
    baking      `bake_s` watched, every gate passes                        promoted
    any live    a gate says abort; the moved side trips and the control    aborted, or blocked if the control is
                still answers (2); a hold lasts over `max_hold_s`;         out: then what was moved is kept, and
                an operator's abort                                        it says so
    blocked     the control is back in service                             aborted
    any live    no leader looked at it for `unwatched_s`                   canary, shift: aborted: unwatched;
                                                                           failover, failback: spreading, the same
                                                                           step anew
    any live    an operator's set, promote                                 spreading (that step); promoted or baking
      but blocked

(1) Hold reasons: what the gates say (core/gates), paused, frozen, overlaid by a stronger intent, out of service.
    Overruling by an operator passes the holds of one step, save that of a table not served yet.
(2) `TRIP_GRACE_S` later, so that an outage that takes the control too, a moment later, freezes the ramp and blames
    nobody; its traffic is away by health in the meantime.
(3) Frozen because the control fails too, it looks every `ANEW_S` at what the control did since. Once that is well, the
    step begins anew, so that a trouble which was everybody's is not held against it. What was watched in vain counts
    as held.

Time counts only while it is watched: of what lies between two looks, the last 10 s at most (at the default). A leap of
the clock moves nothing.
"""

from typing import Final

from msgspec.structs import replace

from pointsman.core.arms import Sides, opened, pairs, sides
from pointsman.core.gates import BEFOREHAND, FIRM, GATES, findings
from pointsman.core.gates.baseline import FLOOR
from pointsman.core.gates.sight import Facts, Sight
from pointsman.core.model import Note
from pointsman.core.ramp_model import ENDED, Finding, Ramp, RampKind, RampPhase, Step, Verdict
from pointsman.core.table import FULL_BP, percent

TRIP_GRACE_S: Final = 60.0
ANEW_S: Final = 60.0
# A look tells of so much of `unwatched_s` before it: what a new leader finds, nobody watched.
TOLD_OF: Final = 1 / 6
# A ramp is given up sooner than its overlay runs out in the proxies, so that it never goes on from another share.
WATCHED: Final = 0.8
# While one of these holds, the time of the others does not count: a person or a calendar is what is waited for, and
# the dwell ends itself.
PATIENT: Final = frozenset({"dwell", "approval", "calendar", "paused", "frozen"})
_YOUNG: Final = frozenset({"dwell", "samples", "serving"})
# What a proxy keeps by itself when nobody looks, its ramp keeps too.
_DROPS: Final = frozenset({RampKind.CANARY, RampKind.SHIFT})


def step(ramp: Ramp, facts: Facts) -> tuple[Ramp, list[Note]]:
    """The ramp at `facts.now_s`, and what there is to tell. An ended ramp stays as it is."""
    if ramp.phase in ENDED:
        return ramp, []
    ramp, elapsed_s, unwatched_s = _looked(ramp, facts)
    if ramp.aborting:
        return _abort(ramp, facts, ramp.aborting)
    if unwatched_s:
        return _unwatched(ramp, facts, unwatched_s)
    if ramp.wanted >= 0:
        return _sent(ramp, facts)
    begun = ramp.phase is not RampPhase.PRECHECK
    found = findings(sight_of(ramp, facts), GATES if begun else BEFOREHAND)
    ramp = replace(_watched(ramp, found, elapsed_s) if begun else ramp, findings=found)
    for finding in found:
        if finding.verdict is Verdict.ABORT:
            return _abort(ramp, facts, finding.why)
    ramp, tripped = _tripped(ramp, facts)
    if tripped:
        return _abort(ramp, facts, tripped)
    return _held_or_on(ramp, facts, _holds(ramp, facts, found), elapsed_s)


def sight_of(ramp: Ramp, facts: Facts) -> Sight:
    """What the gates see of the ramp."""
    return Sight(
        ramp=ramp,
        step=_present(ramp),
        facts=facts,
        sides=sides(pairs(ramp, (ramp.stamp,))),
        stamps=tuple(pairs(ramp, ramp.tallies)),
    )


def _present(ramp: Ramp) -> Step:
    """The step in force; before the first one, nothing that is asked beforehand looks at it."""
    if ramp.phase is RampPhase.BAKING:
        return Step(progress_bp=FULL_BP, hold_s=ramp.policy.bake_s, samples=0)
    return ramp.policy.steps[ramp.step]


# --- time


def _looked(ramp: Ramp, facts: Facts) -> tuple[Ramp, float, float]:
    """The ramp looked at now, the watched seconds since the last look, and the unwatched ones (0: it was watched)."""
    gap_s = facts.now_s - ramp.looked_s
    after = replace(ramp, looked_s=facts.now_s)
    if gap_s > WATCHED * ramp.policy.unwatched_s:
        return after, 0.0, gap_s
    return after, max(0.0, min(gap_s, TOLD_OF * ramp.policy.unwatched_s)), 0.0


def _unwatched(ramp: Ramp, facts: Facts, gap_s: float) -> tuple[Ramp, list[Note]]:
    if ramp.kind in _DROPS and ramp.phase is not RampPhase.PRECHECK:
        return _abort(ramp, facts, f"unwatched: nobody looked at it for {gap_s:.0f} s")
    text = f"{told(ramp)} was not watched for {gap_s:.0f} s"
    if ramp.phase is RampPhase.PRECHECK:
        return ramp, [_note(ramp, facts, "ramp.unwatched", text)]
    return _enter(ramp, facts, ramp.step), [
        _note(ramp, facts, "ramp.unwatched", f"{text}: its step begins anew")
    ]


def _watched(ramp: Ramp, found: tuple[Finding, ...], elapsed_s: float) -> Ramp:
    """Dwell counts only what was served; whatever begins to be served is observed, or baked, from now on."""
    if not _serves(found):
        return ramp
    if ramp.phase is RampPhase.SPREADING:
        return replace(ramp, phase=RampPhase.OBSERVING)
    if ramp.phase is RampPhase.BAKING and not _serves(ramp.findings):
        return ramp
    return replace(ramp, watched_s=ramp.watched_s + elapsed_s)


def _serves(found: tuple[Finding, ...]) -> bool:
    return any(f.gate == "serving" and f.verdict is Verdict.PASS for f in found)


# --- holds


def _holds(ramp: Ramp, facts: Facts, found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """(gate, why) of all that keeps the ramp where it is, the strongest first."""
    held = _outer_holds(ramp, facts)
    for finding in found:
        overruled = ramp.overruled == ramp.entry and finding.gate not in FIRM
        if finding.verdict is Verdict.HOLD and not overruled:
            held.append((finding.gate, finding.why))
    return held


def _outer_holds(ramp: Ramp, facts: Facts) -> list[tuple[str, str]]:
    held: list[tuple[str, str]] = []
    if ramp.paused:
        held.append(("paused", ramp.paused))
    if facts.frozen:
        held.append(("frozen", facts.frozen))
    if facts.over:
        held.append(("overlaid", facts.over))
    out = [f"{target} {facts.out[target]}" for target in ramp.gainers if target in facts.out]
    if out:
        held.append(("out", "; ".join(out)))
    return held


def _held_or_on(
    ramp: Ramp, facts: Facts, held: list[tuple[str, str]], elapsed_s: float
) -> tuple[Ramp, list[Note]]:
    if not held:
        return _on(ramp, facts)
    gates = {gate for gate, _ in held}
    # What is not served is not watched, so that its dwell does not end itself.
    if not gates & (PATIENT - {"dwell"} if "serving" in gates else PATIENT):
        ramp = replace(ramp, held_s=ramp.held_s + elapsed_s)
    if ramp.held_s > ramp.policy.max_hold_s:
        return _abort(ramp, facts, f"held for over {ramp.policy.max_hold_s:.0f} s: {_told(held)}")
    worth = _worth_telling(held)
    held_by = tuple(gate for gate, _ in worth) or ramp.held_by
    text = f"{told(ramp)} holds: {_told(worth)}"
    notes = [_note(ramp, facts, "ramp.hold", text)] if held_by != ramp.held_by else []
    ramp = replace(ramp, hold="; ".join(f"{gate}: {why}" for gate, why in held), held_by=held_by)
    if ramp.phase in {RampPhase.OBSERVING, RampPhase.BAKING} and "baseline" in gates:
        return _frozen(ramp, facts, notes)
    return ramp, notes


def _frozen(ramp: Ramp, facts: Facts, notes: list[Note]) -> tuple[Ramp, list[Note]]:
    control = sides(pairs(ramp, (ramp.stamp,))).control
    now = (ramp.watched_s, control.requests, control.failed)
    if ramp.trouble is None:
        return replace(ramp, trouble=now), notes
    watched_s, requests, failed = ramp.trouble
    more = control.requests - requests
    if ramp.watched_s - watched_s < ANEW_S or more < FLOOR:
        return ramp, notes
    if control.failed - failed > ramp.policy.abort_ratio * more:
        return replace(ramp, trouble=now), notes
    text = f"{told(ramp)} begins its step anew: the control is well again"
    anew = _enter(ramp, facts, ramp.step)
    phase = RampPhase.BAKING if ramp.phase is RampPhase.BAKING else anew.phase
    # What was watched in vain was a hold, and how long it was held goes on: a control that is well now and then must
    # not hold a ramp for ever.
    anew = replace(anew, phase=phase, held_s=ramp.held_s + min(ramp.watched_s, _present(ramp).hold_s))
    return anew, [*notes, _note(ramp, facts, "ramp.anew", text)]


def _worth_telling(held: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a person should hear of: not that a step which has just begun is still young."""
    gates = {gate for gate, _ in held}
    obvious = _YOUNG if "dwell" in gates else {"serving"} if "overlaid" in gates else set()
    if "baseline" in gates:
        obvious = obvious | {"errors"}  # nobody is blamed, so nobody's rate is told
    return [(gate, why) for gate, why in held if gate not in obvious]


def _told(held: list[tuple[str, str]]) -> str:
    return "; ".join(why for _, why in held)


def _tripped(ramp: Ramp, facts: Facts) -> tuple[Ramp, str]:
    """Why a side that does not serve any more is an abort, or ""; what it remembers of when that began."""
    out = [target for target in ramp.gainers if target in facts.out]
    if not out:
        return (replace(ramp, tripped_s=0.0) if ramp.tripped_s else ramp), ""
    if not ramp.tripped_s or ramp.tripped_s > facts.now_s:
        return replace(ramp, tripped_s=facts.now_s), ""
    if facts.now_s - ramp.tripped_s < TRIP_GRACE_S or ramp.kind is RampKind.FAILOVER:
        return ramp, ""
    well = [t for t in ramp.losers if t not in facts.out and facts.answered_s.get(t, 0.0) >= ramp.tripped_s]
    if not well:
        return ramp, ""
    why = "; ".join(f"{target} {facts.out[target]}" for target in out)
    return ramp, f"{why}, while {well[0]} answers"


# --- on


def _on(ramp: Ramp, facts: Facts) -> tuple[Ramp, list[Note]]:
    said = [f.why for f in ramp.findings if f.verdict is Verdict.PASS and f.data]
    said += [f"overruled: {f.why}" for f in ramp.findings if f.verdict is Verdict.HOLD]
    passed = "; ".join(said)
    if ramp.phase is RampPhase.PRECHECK:
        passed = "the side to move to is in service"
    if ramp.phase is RampPhase.BAKING:
        return _ended(ramp, facts, RampPhase.PROMOTED, passed)
    return advance(ramp, facts, ramp.step + 1, passed)


def _sent(ramp: Ramp, facts: Facts) -> tuple[Ramp, list[Note]]:
    """Where an operator sent it, past the gates."""
    to, why = ramp.wanted, ramp.wanted_why
    ramp = replace(ramp, wanted=-1, wanted_why="")
    if to >= len(ramp.policy.steps):
        return _ended(ramp, facts, RampPhase.PROMOTED, why)
    return advance(ramp, facts, to, why)


def advance(ramp: Ramp, facts: Facts, to: int, why: str) -> tuple[Ramp, list[Note]]:
    """To the step `to`; the one that goes all the way is the promotion."""
    if ramp.policy.steps[to].progress_bp < FULL_BP:
        return _entered(ramp, facts, to, why)
    if ramp.kind is not RampKind.CANARY or not ramp.policy.bake_s:
        return _ended(replace(ramp, step=to, before=ramp.from_bp), facts, RampPhase.PROMOTED, why)
    baking = replace(_enter(replace(ramp, before=ramp.from_bp), facts, to), phase=RampPhase.BAKING)
    baking = opened(baking)
    kept = percent(ramp.policy.control_bp)
    text = f"{told(ramp)} is promoted; {kept} stay for comparison for {ramp.policy.bake_s:.0f} s: {why}"
    return baking, [_note(ramp, facts, "ramp.baking", text)]


def _entered(ramp: Ramp, facts: Facts, to: int, why: str) -> tuple[Ramp, list[Note]]:
    after = _enter(ramp, facts, to)
    progress = percent(after.policy.steps[to].progress_bp)
    text = f"{told(ramp)} goes to {progress} (step {to + 1} of {len(ramp.policy.steps)}): {why}"
    data: dict[str, str | int | float] = {"step": to, "progress_bp": after.progress_bp}
    return after, [_note(ramp, facts, "ramp.step", text, data)]


def _enter(ramp: Ramp, facts: Facts, to: int) -> Ramp:
    """The ramp at the beginning of a step: nothing seen, nothing watched."""
    return opened(
        replace(
            ramp,
            phase=RampPhase.SPREADING,
            step=to,
            entry=ramp.entry + 1,
            since_s=facts.now_s,
            watched_s=0.0,
            held_s=0.0,
            spread=None,
            hold="",
            held_by=(),
            findings=(),
            tripped_s=0.0,
            trouble=None,
        )
    )


# --- the end


def _abort(ramp: Ramp, facts: Facts, why: str) -> tuple[Ramp, list[Note]]:
    """Back to where it came from; if that is dead, what was moved is kept until it is not."""
    dead = [t for t in ramp.losers if t in facts.out]
    if dead and len(dead) == len(ramp.losers) and ramp.progress_bp:
        told_dead = "; ".join(f"{target} {facts.out[target]}" for target in dead)
        after = replace(ramp, aborting=why, hold=f"blocked: {told_dead}", phase=RampPhase.BLOCKED)
        if ramp.phase is RampPhase.BLOCKED:
            return after, []
        text = f"{told(ramp)} should go back ({why}) and cannot: {told_dead}; what was moved stays"
        return after, [_note(ramp, facts, "ramp.blocked", text)]
    return _ended(replace(ramp, aborting=why), facts, RampPhase.ABORTED, why)


def _ended(ramp: Ramp, facts: Facts, phase: RampPhase, why: str) -> tuple[Ramp, list[Note]]:
    ended = why if phase is RampPhase.ABORTED else (why or "every gate passed")
    after = replace(ramp, phase=phase, ended=ended, ended_s=facts.now_s, hold="", paused="")
    moved = sides(pairs(ramp, ramp.tallies))
    text = f"{told(ramp)} {phase.value}: {ended}"
    return after, [_note(ramp, facts, f"ramp.{phase.value}", text, _evidence(moved))]


def _evidence(seen: Sides) -> dict[str, str | int | float]:
    return {
        "moved_requests": seen.moved.requests,
        "moved_failed": seen.moved.failed,
        "control_requests": seen.control.requests,
        "control_failed": seen.control.failed,
    }


def told(ramp: Ramp) -> str:
    """The ramp as people call it."""
    way = (
        f"{ramp.source} → {ramp.goal}" if ramp.source and ramp.goal else ramp.source or ramp.goal or "shares"
    )
    return f"{ramp.kind.value} on {ramp.route} ({way})"


def _note(
    ramp: Ramp, facts: Facts, kind: str, text: str, data: dict[str, str | int | float] | None = None
) -> Note:
    return Note(at_s=facts.now_s, kind=kind, subject=ramp.route, text=text, data=data or {})
