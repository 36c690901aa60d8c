"""A target's breaker. Every transition is in this file.

    from                        when                                              to
    unknown                     a probe or a request succeeds                     healthy
    unknown, healthy            a probe fails, or two requests in a row           suspect (probed within seconds)
    suspect                     a success that answers the suspicion (1)          healthy
    unknown, healthy, suspect,  `probe_failures` probes of a kind in a row,       cooldown
      recovering                or `live_failures` requests in a row (2),
                                or the error ratio of the recent window (3)
    cooldown                    its deadline has passed                           half_open
    half_open                   `half_open_trials` good trials (4)                recovering (slow start)
    half_open                   a trial fails                                     cooldown, one failure more
    recovering                  `slow_start_s` have passed                        healthy, failures forgotten
    any                         an operator's reset                               healthy, failures forgotten

(1) A live success, a good generation probe, or a good reach probe if nothing but reach probes ever failed: a
    free probe never overrules failing traffic.  (2) In one lane or in both, over all proxies: core/health.py.
(3) Counted anew after each trip and each return, and never from small samples.  (4) Generation probes by the
    leader; live requests by leave of the table where generation is not allowed or not possible; reach probes only
    if there is no proxy to ask.

The cooldown lasts by tier of consecutive failures: under 3 none, 3–4 30 s, 5–9 60 s, 10 and more the maximum.
A new deadline never shortens an old one, and a provider's Retry-After lengthens it, whether it comes with a rate
limit or with a failure (503, 529), before the trip or after it. During a cooldown nothing counts: suspect probes and
stragglers do not race through the tiers. The window of outcomes goes on, for people and for the demand. A recovering
target that fails is no suspect, but is probed as closely: core/attention.py.

Beside the phases stand three axes of their own: throttled (429 until its reset), softened (half weight), and
barred (credential or quota, until evidence says otherwise): core/axes.py.
"""

import math
from typing import Final

from msgspec.structs import replace

from pointsman.core.axes import Context, after_axes, axes_after_time, back, clock, note
from pointsman.core.errors import LONGEST_WAIT_S, Effect, Fault
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.health import (
    BREAKER_FAULTS,
    Seen,
    add_counts,
    failures_and_answers,
    ratio_trips,
    silent,
)
from pointsman.core.model import Health, Note, Phase, Policy

SERVING: Final = frozenset({Phase.UNKNOWN, Phase.HEALTHY, Phase.SUSPECT, Phase.RECOVERING})
# How long half-open waits for generation probes before it asks proxies, and then each proxy for its trial.
TRIAL_PATIENCE_S: Final = 15.0
TRIPS_KEPT: Final = 3
PROBE_BUCKET_S: Final = 60.0


def cooldown_s(failures: int, cooldown_max_s: float) -> float:
    """The runbook's tiers: seconds of cooldown after `failures` consecutive failures."""
    if failures < 3:
        return 0.0
    if failures < 5:
        return min(30.0, cooldown_max_s)
    if failures < 10:
        return min(60.0, cooldown_max_s)
    return cooldown_max_s


def factor(health: Health, policy: Policy, now_s: float) -> float:
    """How much of its desired share a target may have, 0–1: what the phases and axes leave of it."""
    if health.phase not in SERVING or health.barred or now_s < health.throttled_until_s:
        return 0.0
    left = 1.0
    if health.back_s and policy.slow_start_s > 0:
        # In steps of a tenth, so that a slow start is about ten tables and not a hundred.
        tenths = int((now_s - health.back_s) / policy.slow_start_s * 10 + 1e-9) / 10
        left = max(policy.slow_start_floor, min(1.0, policy.slow_start_floor + tenths))
    return left / 2 if now_s < health.softened_until_s else left


def due(health: Health, policy: Policy, now_s: float) -> bool:
    """Does time alone change this target's standing by now?"""
    return (
        (health.phase is Phase.COOLDOWN and now_s >= health.cooldown_until_s)
        or (health.phase is Phase.RECOVERING and now_s >= health.back_s + policy.slow_start_s)
        or bool(health.throttled_until_s and now_s >= health.throttled_until_s)
        or bool(health.softened_until_s and now_s >= health.softened_until_s)
        or bool(health.barred and now_s >= health.barred_until_s)
    )


def step(target: str, health: Health, seen: Seen | None, context: Context) -> tuple[Health, list[Note]]:
    """The target's standing after `seen` (None: only time passed), and what there is to tell."""
    notes: list[Note] = []
    after = _after_time(target, health, context, notes)
    if seen is not None:
        after = after_axes(target, after, seen, context, notes)
        after = _after_counts(after, seen, context)
        after = _after_phase(target, after, seen, context, notes)
    return after, notes


def reset(target: str, health: Health, now_s: float, why: str) -> tuple[Health, Note]:
    """Forget everything that keeps the target out of service; one that was out comes back by slow start."""
    was_out = health.phase not in SERVING or bool(health.barred or health.throttled_until_s)
    fresh = Health(
        phase=Phase.HEALTHY,
        since_s=now_s,
        generation=health.generation + 1,
        grant=health.grant,
        back_s=now_s if was_out else 0.0,
        reason=why,
    )
    return fresh, note(now_s, "target.reset", target, f"{target} reset: {why}")


# --- time


def _after_time(target: str, health: Health, context: Context, notes: list[Note]) -> Health:
    now_s = context.now_s
    if health.phase is Phase.COOLDOWN and now_s >= health.cooldown_until_s:
        text = f"{target} half-open: cooldown is over, {context.policy.half_open_trials} good trials needed"
        notes.append(note(now_s, "target.half_open", target, text))
        health = replace(
            health,
            phase=Phase.HALF_OPEN,
            since_s=now_s,
            trials_ok=0,
            grant=health.grant + 1,
            grant_s=now_s,
            grant_counted=health.grant,
        )
    if health.phase is Phase.HALF_OPEN and now_s - health.grant_s >= TRIAL_PATIENCE_S:
        health = replace(health, grant=health.grant + 1, grant_s=now_s)
    if health.phase is Phase.RECOVERING and now_s >= health.back_s + context.policy.slow_start_s:
        notes.append(note(now_s, "target.healthy", target, f"{target} healthy: slow start is over"))
        health = replace(
            health,
            phase=Phase.HEALTHY,
            since_s=now_s,
            failures=0,
            back_s=0.0,
            cooldown_until_s=0.0,
            reason="",
        )
    elif health.back_s and now_s >= health.back_s + context.policy.slow_start_s:
        health = replace(health, back_s=0.0)
    return axes_after_time(target, health, context, notes)


# --- counts


def _after_counts(health: Health, seen: Seen, context: Context) -> Health:
    """Streaks, times and the window; no transition."""
    now_s, policy = context.now_s, context.policy
    counting = health.phase in SERVING
    window = add_counts(health.window, seen.counts, now_s, policy.window_s, health.ratio_since_s)
    if window != health.window:
        health = replace(health, window=window)
    if seen.last_ok_s > health.last_live_success_s:
        health = replace(
            health,
            last_live_success_s=seen.last_ok_s,
            last_success_s=max(seen.last_ok_s, health.last_success_s),
            retry_at_s=0.0,
        )
        if counting and seen.last_ok_s >= health.doubt_s:
            health = replace(health, reach_streak=0, generate_streak=0, doubt_s=0.0, doubt_silent=False)
    if counting and seen.streak is not None and seen.streak != health.live_streak:
        health = replace(health, live_streak=seen.streak)
        if seen.streak:
            health = replace(
                health, last_failure_s=now_s, last_failure=seen.streak_detail, refuses=seen.refuses
            )
    for result in seen.probes:
        health = _after_probe_counts(health, result, now_s, counting=counting)
    health = _with_probes(health, seen.probes, context)
    return _asked(health, seen.retry_at_s, now_s)


def _with_probes(health: Health, results: list[ProbeResult], context: Context) -> Health:
    """The window of good and failed probes, by which a failback is earned: those that say something of the target.

    What bars says nothing of how well it answers, and is an axis of its own.
    """
    told = [r for r in results if r.outcome.ok or r.outcome.effect not in {Effect.NONE, Effect.BAR}]
    if not told:
        return health
    good = sum(r.outcome.ok for r in told)
    counts = {name: n for name, n in (("ok", good), ("failed", len(told) - good)) if n}
    window_s = context.policy.failback_window_s
    return replace(
        health, probes=add_counts(health.probes, counts, context.now_s, window_s, bucket_s=PROBE_BUCKET_S)
    )


def _asked(health: Health, until_s: float, now_s: float) -> Health:
    """It failed, and asked to be left alone until then: no cooldown of it is shorter."""
    until_s = min(until_s, now_s + LONGEST_WAIT_S)
    if health.phase is Phase.COOLDOWN:
        return replace(health, cooldown_until_s=max(health.cooldown_until_s, until_s))
    return replace(health, retry_at_s=until_s) if until_s > max(health.retry_at_s, now_s) else health


def _after_probe_counts(health: Health, result: ProbeResult, now_s: float, *, counting: bool) -> Health:
    outcome = result.outcome
    if outcome.ok:
        health = replace(health, last_success_s=max(health.last_success_s, result.at_s))
        if result.kind is ProbeKind.GENERATE:
            health = replace(health, retry_at_s=0.0)
            return replace(health, reach_streak=0, generate_streak=0, doubt_s=0.0, doubt_silent=False)
        if health.generate_streak == 0:
            return replace(health, reach_streak=0, doubt_s=0.0, doubt_silent=False)
        return replace(health, reach_streak=0)
    if outcome.effect is not Effect.BREAKER:
        return health
    health = replace(health, last_failure_s=result.at_s, last_failure=outcome.detail, refuses=outcome.refuses)
    health = _asked(health, now_s + (outcome.retry_after_s or 0.0), now_s)
    if not counting:
        return health
    in_doubt = bool(health.reach_streak or health.generate_streak)
    reach = result.kind is ProbeKind.REACH
    return replace(
        health,
        reach_streak=health.reach_streak + reach,
        generate_streak=health.generate_streak + (not reach),
        doubt_s=health.doubt_s if in_doubt else result.at_s,
        doubt_silent=silent(outcome) and (health.doubt_silent or not in_doubt),
    )


# --- phases


def _after_phase(target: str, health: Health, seen: Seen, context: Context, notes: list[Note]) -> Health:
    if health.phase is Phase.HALF_OPEN:
        return _after_trials(target, health, seen, context, notes)
    if health.phase not in SERVING:
        return health
    why, failures = _trip(health, seen, context)
    if why:
        return _tripped(target, health, why, failures, context, notes)
    doubted = bool(health.reach_streak or health.generate_streak or health.live_streak > 1)
    failed, answered = failures_and_answers(seen.counts)
    new_failure = bool(failed) or any(r.outcome.effect is Effect.BREAKER for r in seen.probes)
    succeeded = answered > failed or any(r.outcome.ok for r in seen.probes)
    cleared = not (health.reach_streak or health.generate_streak) and (
        not health.live_streak or _generated(seen)
    )
    if health.phase in {Phase.UNKNOWN, Phase.HEALTHY} and doubted and new_failure:
        text = f"{target} suspect: {health.last_failure}"
        notes.append(note(context.now_s, "target.suspect", target, text))
        return replace(health, phase=Phase.SUSPECT, since_s=context.now_s, reason=health.last_failure)
    if health.phase in {Phase.UNKNOWN, Phase.SUSPECT} and succeeded and cleared:
        if health.phase is Phase.SUSPECT:
            notes.append(note(context.now_s, "target.healthy", target, f"{target} healthy again"))
        return replace(health, phase=Phase.HEALTHY, since_s=context.now_s, reason="")
    return health


def _generated(seen: Seen) -> bool:
    return any(r.outcome.ok and r.kind is ProbeKind.GENERATE for r in seen.probes)


def _trip(health: Health, seen: Seen, context: Context) -> tuple[str, int]:
    """(why the target trips or "", how many failures that counts for).

    A trip counts as many as it takes to trip, however many requests were under way: forty streams that break at
    once are one event, and must not race to the longest cooldown.
    """
    policy = context.policy
    if health.live_streak >= policy.live_failures:
        return f"{health.live_streak} × {health.last_failure}", policy.live_failures
    # Only on a new failure: what fell silent together with everybody else gets another look first.
    probed = any(r.outcome.effect is Effect.BREAKER for r in seen.probes) and _path_believed(health, context)
    for kind, streak in (("generate", health.generate_streak), ("reach", health.reach_streak)):
        if probed and streak >= policy.probe_failures:
            return f"{streak} {kind} probes failed: {health.last_failure}", policy.probe_failures
    return ratio_trips(health.window, policy, context.now_s, health.ratio_since_s), 0


def _path_believed(health: Health, context: Context) -> bool:
    """Silence is the target's only if the leader's own way out is known to have worked since it began."""
    return not health.doubt_silent or context.alone or context.path_proven_s >= health.doubt_s


def _tripped(
    target: str, health: Health, why: str, failures: int, context: Context, notes: list[Note]
) -> Health:
    now_s = context.now_s
    failures = max(health.failures + 1, failures, 3)
    wait_s = cooldown_s(failures, context.policy.cooldown_max_s)
    until_s = max(health.cooldown_until_s, now_s + wait_s, health.throttled_until_s, health.retry_at_s)
    cooldown = f"cooldown until {clock(until_s)}, {until_s - now_s:.0f} s"
    text = f"marked {target} failed: {why} (failures: {failures}, {cooldown})"
    data: dict[str, str | float] = {
        "failures": failures,
        "cooldown_s": round(until_s - now_s, 3),
        "why": why,
    }
    notes.append(Note(at_s=now_s, kind="target.tripped", subject=target, text=text, data=data))
    return replace(
        health,
        phase=Phase.COOLDOWN,
        since_s=now_s,
        failures=failures,
        cooldown_until_s=until_s,
        reason=why,
        reach_streak=0,
        generate_streak=0,
        live_streak=0,
        doubt_s=0.0,
        doubt_silent=False,
        trials_ok=0,
        back_s=0.0,
        retry_at_s=0.0,
        ratio_since_s=_from_now(now_s),
        out_since_s=health.out_since_s or now_s,
        trips=health.trips if health.phase is Phase.HALF_OPEN else (*health.trips, now_s)[-TRIPS_KEPT:],
    )


def _after_trials(target: str, health: Health, seen: Seen, context: Context, notes: list[Note]) -> Health:
    for good, detail in _trials(health, seen, context):
        if not good:
            return _tripped(target, health, f"trial failed: {detail}", 0, context, notes)
        health = replace(health, trials_ok=health.trials_ok + 1)
    ended = [number for number, _ in seen.trials if health.grant_counted < number <= health.grant]
    if ended:
        health = replace(
            health,
            grant=health.grant + 1,
            grant_s=context.now_s,
            grant_counted=max(health.grant_counted, *ended),
        )
    if health.trials_ok < context.policy.half_open_trials:
        return health
    text = f"{target} recovering: {health.trials_ok} good trials, slow start over {context.policy.slow_start_s:.0f} s"
    notes.append(note(context.now_s, "target.recovering", target, text))
    return replace(
        back(health, context.now_s),
        phase=Phase.RECOVERING,
        since_s=context.now_s,
        refuses=False,
        reason="",
        ratio_since_s=_from_now(context.now_s),
        out_since_s=0.0,
        probes=(),  # what a failback is earned by begins now
    )


def _from_now(now_s: float) -> float:
    """The next instant: what was counted at `now_s` itself led here, and is over."""
    return math.nextafter(now_s, math.inf)


def _trials(health: Health, seen: Seen, context: Context) -> list[tuple[bool, str]]:
    """The verdict of each trial that has one, with its detail: a rate limit or a caller's fault gives none."""
    verdicts: list[tuple[bool, str]] = []
    own_way_doubted = not context.alone and context.path_proven_s == 0.0
    for result in seen.probes:
        if silent(result.outcome) and own_way_doubted:
            continue
        if result.outcome.effect is Effect.BREAKER:
            verdicts.append((False, result.outcome.detail))
        elif result.outcome.ok and (result.kind is ProbeKind.GENERATE or context.reach_is_trial):
            verdicts.append((True, ""))
    for grant, fault in seen.trials:
        # A trial may last longer than the patience after which another proxy is asked; each counts once.
        if health.grant_counted < grant <= health.grant and fault in {Fault.OK, *BREAKER_FAULTS}:
            verdicts.append((fault == Fault.OK, f"live request: {fault}"))
    return verdicts
