"""The axes beside a target's phase: throttled, softened, barred.

    axis        set by                                          ends
    throttled   a rate limit (429): until its Retry-After       at that time, never sooner
    softened    a ramp limit, a model still loading             at that time; until then half weight
    barred      credential or quota: 2 probes in a row (1), or  a generate probe succeeds; a reach probe too, if it was
                as many requests in a row as trip the breaker   reach that barred; or after its time (2)

None of them is the breaker: an account that is out of quota is not down, and a throttled one must be left alone
for as long as it says. Coming back from throttled or barred is a slow start.

(1) Where generation is allowed, refused reach probes alone bar nothing: a key need not have leave to list models.
The first one asks for a generate probe (core/attention.py); once that succeeds, refused reach probes say nothing.
(2) Where generation is allowed, a probe is asked first, and has `RECHECK_PATIENCE_S` to answer.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core.errors import Effect, Fault
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.health import BAR_FAULTS, Seen
from pointsman.core.model import Health, Note, Phase, Policy

# Two credential failures in a row of the known-good probe are believed; of live requests as many as trip.
_LAST_S: Final = 253_402_300_799.0  # the last second of the year 9999, which a calendar can still show
PROBE_BARS: Final = 2
_OUT: Final = frozenset({Phase.COOLDOWN, Phase.HALF_OPEN})
# How long a target whose time is over stays barred for a generate probe to tell.
RECHECK_PATIENCE_S: Final = 15.0


class Context(Struct, frozen=True, kw_only=True):
    """What a step needs beside the target's own evidence.

    `path_proven_s`: when the leader's way out was last known to work by another provider's answer or by live
    success; a run of silent probes trips only if that is after the run began (or `alone`: nobody to compare).
    `reach_is_trial`: there is no proxy to try it live, and generation is not allowed. `generates`: it is allowed.
    """

    now_s: float
    policy: Policy
    path_proven_s: float = 0.0
    alone: bool = False
    reach_is_trial: bool = False
    generates: bool = False


def clock(time_s: float) -> str:
    """A time of day for people, in UTC."""
    return datetime.fromtimestamp(min(time_s, _LAST_S), UTC).strftime("%H:%M:%S")


def note(now_s: float, kind: str, target: str, text: str, **data: str | float) -> Note:
    return Note(at_s=now_s, kind=kind, subject=target, text=text, data=data)


def back(health: Health, now_s: float) -> Health:
    """In service again on one axis: slow start, and proxies forget what they ejected by themselves."""
    return replace(health, back_s=now_s, generation=health.generation + 1)


def after_axes(target: str, health: Health, seen: Seen, context: Context, notes: list[Note]) -> Health:
    health = _throttle(target, health, seen.throttled_until_s, seen.throttled, context, notes)
    health = _soften(target, health, seen.softened_until_s, context, notes)
    for result in seen.probes:
        health = _after_probe_axes(target, health, result, context, notes)
    return _after_live_bars(target, health, seen, context, notes)


def _after_probe_axes(
    target: str, health: Health, result: ProbeResult, context: Context, notes: list[Note]
) -> Health:
    outcome, policy, now_s = result.outcome, context.policy, context.now_s
    if outcome.effect is Effect.THROTTLE:
        until_s = now_s + (outcome.retry_after_s or policy.throttle_default_s)
        return _throttle(target, health, until_s, outcome.detail, context, notes)
    if outcome.effect is Effect.SOFTEN:
        until_s = now_s + (outcome.retry_after_s or policy.soften_s)
        return _soften(target, health, until_s, context, notes)
    reach = result.kind is ProbeKind.REACH
    if outcome.effect is Effect.BAR:
        if reach and context.generates and health.barred_by in {"", ProbeKind.REACH}:
            return _reach_refused(health)
        health = _refused(health, result.kind.value, 1)
        if health.bar_streak >= PROBE_BARS or health.barred:
            wait_s = outcome.retry_after_s or policy.quota_recheck_s
            return _bar(target, health, outcome.detail, outcome.fault, wait_s, context, notes)
        return health
    if reach and outcome.ok and health.reach_refused:
        health = replace(health, reach_refused=False)
    # A reach probe answers only what reach probes began.
    if outcome.ok and (not reach or health.barred_by == ProbeKind.REACH):
        why = f"a {result.kind.value} probe succeeded"
        return _accepted(target, health, context, why, notes, reach=reach)
    return health


def _after_live_bars(target: str, health: Health, seen: Seen, context: Context, notes: list[Note]) -> Health:
    bars = sum(seen.counts.get(fault, 0) for fault in BAR_FAULTS)
    if health.barred:
        return health  # it gets no requests any more: what ends now had begun before
    if seen.counts.get(Fault.OK, 0):
        return _accepted(target, health, context, "a request succeeded", notes)
    if not bars:
        return health
    health = _refused(health, "live", bars)
    if health.bar_streak < context.policy.live_failures:
        return health
    fault = max(BAR_FAULTS, key=lambda fault: seen.counts.get(fault, 0))
    return _bar(target, health, seen.barred, fault, context.policy.quota_recheck_s, context, notes)


def _reach_refused(health: Health) -> Health:
    """Reach alone is refused: it adds to what a generation will say, unless one has said that it means nothing."""
    if health.reach_refused:
        return health
    return replace(health, bar_streak=min(health.bar_streak + 1, PROBE_BARS), barred_by=ProbeKind.REACH.value)


def _refused(health: Health, by: str, times: int) -> Health:
    """One more in the run of credential and quota failures; it is reach's as long as nothing else was refused."""
    by = by if health.barred_by in {"", ProbeKind.REACH} else health.barred_by
    return replace(health, bar_streak=health.bar_streak + times, barred_by=by)


def _accepted(
    target: str, health: Health, context: Context, why: str, notes: list[Note], *, reach: bool = False
) -> Health:
    if health.barred_by == ProbeKind.REACH and not reach:
        health = replace(health, reach_refused=True)
    if health.barred:
        return _unbarred(target, health, context, why, notes)
    return replace(health, bar_streak=0, barred_by="") if health.bar_streak else health


def _throttle(
    target: str, health: Health, until_s: float, detail: str, context: Context, notes: list[Note]
) -> Health:
    if until_s <= max(health.throttled_until_s, context.now_s):
        return health
    if not health.throttled_until_s:
        _tell_throttled(target, health, until_s, detail, context, notes)
        health = replace(health, throttles=health.throttles + 1)
    if health.phase is Phase.COOLDOWN:
        health = replace(health, cooldown_until_s=max(health.cooldown_until_s, until_s))
    return replace(health, throttled_until_s=until_s, throttled=detail)


def _tell_throttled(
    target: str, health: Health, until_s: float, detail: str, context: Context, notes: list[Note]
) -> None:
    """Told for the first time and for the second; a limit that is hit every second is then known."""
    again = {0: "", 1: "; the next ones are not told until the last is over"}.get(health.throttles)
    if again is not None:
        wait_s = until_s - context.now_s
        text = f"{target} rate limited ({detail}) until {clock(until_s)}, {wait_s:.0f} s{again}"
        notes.append(note(context.now_s, "target.throttled", target, text, wait_s=round(wait_s, 3)))


def _soften(target: str, health: Health, until_s: float, context: Context, notes: list[Note]) -> Health:
    if until_s <= max(health.softened_until_s, context.now_s):
        return health
    if not health.softened_until_s:
        text = (
            f"{target} asks to go slower: half weight until {clock(until_s)}, {until_s - context.now_s:.0f} s"
        )
        notes.append(note(context.now_s, "target.softened", target, text))
    return replace(health, softened_until_s=until_s)


def _bar(
    target: str, health: Health, detail: str, fault: Fault, wait_s: float, context: Context, notes: list[Note]
) -> Health:
    if not health.barred:
        text = f"{target} barred: {detail}. Check its credential, account and limits"
        notes.append(note(context.now_s, "target.barred", target, text))
    until_s = max(health.barred_until_s, context.now_s + wait_s)
    return replace(health, barred=detail, barred_for=fault.value, barred_until_s=until_s)


def axes_after_time(target: str, health: Health, context: Context, notes: list[Note]) -> Health:
    """What time alone ends, at its deadline."""
    now_s = context.now_s
    if health.throttled_until_s and now_s >= health.throttled_until_s:
        if health.throttles < 2:
            notes.append(_unthrottled(target, now_s))
        health = back(replace(health, throttled_until_s=0.0, throttled=""), now_s)
    elif health.throttles and not (health.throttled_until_s or health.back_s or health.phase in _OUT):
        if health.throttles > 1:
            notes.append(_unthrottled(target, now_s))
        health = replace(health, throttles=0)
    if health.softened_until_s and now_s >= health.softened_until_s:
        notes.append(note(now_s, "target.unsoftened", target, f"{target} has its full weight again"))
        health = replace(health, softened_until_s=0.0)
    patience_s = RECHECK_PATIENCE_S if context.generates else 0.0
    if health.barred and now_s >= health.barred_until_s + patience_s:
        health = _unbarred(target, health, context, "looked at again after its time", notes)
    return health


def _unthrottled(target: str, now_s: float) -> Note:
    return note(now_s, "target.unthrottled", target, f"{target} is no longer rate limited")


def _unbarred(target: str, health: Health, context: Context, why: str, notes: list[Note]) -> Health:
    notes.append(note(context.now_s, "target.unbarred", target, f"{target} no longer barred: {why}"))
    free = replace(health, barred="", barred_by="", barred_for="", barred_until_s=0.0, bar_streak=0)
    return back(free, context.now_s)
