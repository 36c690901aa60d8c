"""Evidence → what was seen of each target since the last decision.

Three things are sorted out here, before any rule looks at a target:

- **Counting once.** Reports are cumulative; what has been counted of the same (proxy, boot) is subtracted. A
  difference over more time than the ratio looks back on tells nothing of now, and is history.
- **Order across proxies.** Only failures since the last success of any proxy make a run: in one lane, or in both
  since a success in either. Successes elsewhere mean noise, or one proxy's own trouble, and the ratio judges those.
- **Whose trouble.** What a proxy in trouble says of providers counts for nothing; core/trouble.py says who is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import Evidence, Lane, ProbeResult, Report, TargetReport
from pointsman.core.model import Bucket, Path, Plan, Policy, State, Vantage
from pointsman.core.ramp_model import ENDED
from pointsman.core.trouble import egress_suspect, failures_since, in_trouble

BUCKET_S: Final = 10.0
# A proxy's first report to a leader that has never heard of it counts only if the proxy is about this young;
# otherwise its totals are history, and become the point from which differences are taken.
YOUNG_S: Final = 30.0
# A silent proxy's totals are remembered for this long, so that what it saw while the store was away counts.
VANTAGE_KEPT_S: Final = 600.0
# So soon after a success of any proxy, another's refused credential is taken for its own trouble.
BAR_DOUBT_S: Final = 5.0
# A ratio trips when chance alone would show it less than about once in a million looks (see `excess`).
EXCESS_TO_TRIP: Final = 14.0
BREAKER_FAULTS: Final = (Fault.OUTAGE, Fault.OVERLOAD)
BAR_FAULTS: Final = (Fault.CREDENTIAL, Fault.QUOTA)


class Seen(Struct, kw_only=True):
    """What is new of one target. `streak` is None when no live evidence about it arrived.

    `retry_at_s` is until when it asks to be left alone, in the failures of the present runs.
    """

    counts: dict[str, int] = {}
    streak: int | None = None
    streak_detail: str = ""
    refuses: bool = False
    last_ok_s: float = 0.0
    retry_at_s: float = 0.0
    probes: list[ProbeResult] = []
    throttled_until_s: float = 0.0
    throttled: str = ""
    softened_until_s: float = 0.0
    barred: str = ""
    trials: list[tuple[int, str]] = []


class Gathered(Struct, kw_only=True):
    """All that is new, by target, and what to remember of proxies and of the ways to providers."""

    seen: dict[str, Seen]
    vantages: dict[str, Vantage]
    paths: dict[str, Path]
    egress_suspect: bool
    live_success_s: float


def gather(state: State, evidence: Evidence, plan: Plan, now_s: float) -> Gathered:
    """Sort the evidence out by target (pure; `state` is only read)."""
    seen: dict[str, Seen] = {}
    paths = _paths(state.paths, evidence.probes)
    of_provider = _of_provider(plan)
    for result in evidence.probes:
        for target in _concerned(result, plan, of_provider):
            _entry(seen, target).probes.append(result)
    live = [r for r in evidence.reports if (r.environment, r.fleet) == (plan.environment, plan.fleet)]
    vantages, fresh = _vantages(state, live, seen, plan, paths, now_s)
    if fresh:
        alive = [r for r in live if _lives(vantages[r.proxy], plan.policy, now_s)]
        _streaks([r for r in alive if not vantages[r.proxy].troubled], vantages, state, plan, seen)
        _doubt_bars(seen, now_s)
    live_success_s = max((entry.last_ok_s for entry in seen.values()), default=0.0)
    return Gathered(
        seen=seen,
        vantages=vantages,
        paths=paths,
        egress_suspect=egress_suspect(paths, plan),
        live_success_s=live_success_s,
    )


def _entry(seen: dict[str, Seen], target: str) -> Seen:
    if target not in seen:
        seen[target] = Seen(counts={}, probes=[], trials=[])
    return seen[target]


def _of_provider(plan: Plan) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for name, target in plan.targets.items():
        targets.setdefault(target.provider, []).append(name)
    return targets


def _concerned(result: ProbeResult, plan: Plan, of_provider: Mapping[str, list[str]]) -> list[str]:
    """A generate probe is about its target; a reach probe is about every target of its provider."""
    if result.target:
        return [result.target] if result.target in plan.targets else []
    return of_provider.get(result.provider, [])


def silent(outcome: Outcome) -> bool:
    """Nothing came back, not even an error: the way there may be what is broken."""
    return outcome.fault is Fault.OUTAGE and outcome.status == 0


def _paths(known: Mapping[str, Path], probes: Iterable[ProbeResult]) -> dict[str, Path]:
    paths = dict(known)
    for result in probes:
        path = paths.get(result.provider, Path())
        if silent(result.outcome):
            paths[result.provider] = replace(path, silent_s=result.at_s, detail=result.outcome.detail)
        else:
            paths[result.provider] = replace(path, answered_s=result.at_s, detail="")
    return paths


def _vantages(
    state: State,
    reports: Sequence[Report],
    seen: dict[str, Seen],
    plan: Plan,
    paths: Mapping[str, Path],
    now_s: float,
) -> tuple[dict[str, Vantage], bool]:
    """What to remember of each proxy, and whether any report was new; what is new is added to `seen`."""
    known, running = state.vantages, _running_stamps(state)
    vantages = {
        name: kept
        for name, kept in known.items()
        if now_s - kept.seen_s <= VANTAGE_KEPT_S or not running.isdisjoint(kept.arms)
    }
    fresh = False
    for report in reports:
        before = known.get(report.proxy)
        if before is not None and before.boot == report.boot and report.seq <= before.seq:
            vantages[report.proxy] = before  # read again, or an older one out of a store that went back
            continue
        if before is not None and report.boot != before.boot and report.started_s < before.started_s:
            vantages[report.proxy] = replace(before, twin=True)  # of an earlier life, or of a namesake
            continue
        fresh = True
        kept = vantages[report.proxy] = _remembered(report, before, now_s)
        same = before if before is not None and before.boot == report.boot else None
        if in_trouble(report, same, reports, plan, paths, now_s):
            vantages[report.proxy] = replace(kept, troubled=True, troubled_s=now_s)
            continue
        counted = _counted(report, before, plan.policy, now_s)
        for target, new in report.targets.items():
            _count(_entry(seen, target), new, None if counted is None else counted.get(target, {}))
    return vantages, fresh


def _running_stamps(state: State) -> set[str]:
    """What ramps and rollouts under way count under: a proxy's part in it is not forgotten, to be counted again."""
    of_ramps = {s for ramp in state.ramps.values() if ramp.phase not in ENDED for s in ramp.tallies}
    return of_ramps | {one.stamp for one in state.rollouts.values() if one.stamp}


def _counted(
    report: Report, before: Vantage | None, policy: Policy, now_s: float
) -> Mapping[str, Mapping[str, int]] | None:
    """The totals from which differences are taken; None: all of it is history."""
    if before is None:
        return {} if now_s - report.started_s <= YOUNG_S else None
    same = before.boot == report.boot
    since_s = before.seen_s if same else max(before.seen_s, report.started_s)
    if now_s - since_s > policy.error_ratio_window_s:
        return None
    return before.counts if same else {}


def _remembered(report: Report, before: Vantage | None, now_s: float) -> Vantage:
    return Vantage(
        boot=report.boot,
        seq=report.seq,
        seen_s=now_s,
        started_s=report.started_s,
        twin=before is not None and before.twin,
        counts={target: entry.counts for target, entry in report.targets.items()},
        missing=report.missing,
        formats=report.table_formats,
        serving=report.serving,
        arms=report.ramps,
        troubled_s=before.troubled_s if before else 0.0,
    )


def _count(entry: Seen, new: TargetReport, counted: Mapping[str, int] | None) -> None:
    known = new.counts if counted is None else counted
    more = {fault: total - known.get(fault, 0) for fault, total in new.counts.items()}
    for fault, count in more.items():
        if count > 0:
            entry.counts[fault] = entry.counts.get(fault, 0) + count
    # A deadline stands in every report until it is over: taken in once, it must not undo an operator's reset.
    if (counted is None or more.get(Fault.RATE_LIMIT)) and new.throttled_until_s > entry.throttled_until_s:
        entry.throttled_until_s, entry.throttled = new.throttled_until_s, new.throttled
    if counted is None or more.get(Fault.CAPACITY):
        entry.softened_until_s = max(entry.softened_until_s, new.softened_until_s)
    if new.barred:
        entry.barred = new.barred
    if new.grant_outcome:
        entry.trials.append((new.grant, new.grant_outcome))


def _streaks(
    reports: list[Report], vantages: Mapping[str, Vantage], state: State, plan: Plan, seen: dict[str, Seen]
) -> None:
    """Set each target's run of live failures, over all proxies, to the longest: of a lane, or of both together."""
    lanes: dict[str, dict[str, list[Lane]]] = {}
    for report in reports:
        for target, entry in report.targets.items():
            health = state.health.get(target)
            if target not in plan.targets or (health is not None and entry.generation < health.generation):
                continue  # counted before the target came back into service
            for name, lane in entry.lanes.items():
                if lane.streak and lane.since_s <= vantages[report.proxy].troubled_s:
                    continue  # it began when the proxy itself was in trouble
                lanes.setdefault(target, {}).setdefault(name, []).append(lane)
    both: dict[str, list[Lane]] = {}
    for target, by_name in lanes.items():
        both[target] = [lane for runs in by_name.values() for lane in runs]
        for runs in (*by_name.values(), both[target]):
            _note_run(_entry(seen, target), runs, _last_ok_s(runs))
        _entry(seen, target).last_ok_s = _last_ok_s(both[target])
    _provider_wide(both, plan, seen)


def _last_ok_s(lanes: Iterable[Lane]) -> float:
    return max(lane.last_ok_s for lane in lanes)


def _note_run(entry: Seen, lanes: list[Lane], last_ok_s: float) -> None:
    """Keep the longest run of failures since the last success, wherever that was."""
    failures = [failures_since(lane, last_ok_s) for lane in lanes]
    streak = sum(failures)
    asked_s = [lane.retry_at_s for lane, number in zip(lanes, failures, strict=True) if number]
    entry.retry_at_s = max(entry.retry_at_s, *asked_s, 0.0)
    if entry.streak is not None and streak <= entry.streak:
        return
    entry.streak = streak
    latest = lanes[failures.index(max(failures))]
    entry.streak_detail = latest.detail if streak else ""
    entry.refuses = latest.refuses if streak else False


def _provider_wide(lanes: Mapping[str, list[Lane]], plan: Plan, seen: dict[str, Seen]) -> None:
    """A provider that refuses connections refuses for every model: its targets share one run."""
    for targets in _of_provider(plan).values():
        runs = [lane for target in targets for lane in lanes.get(target, ())]
        refusing = [lane for lane in runs if lane.refuses and lane.streak]
        for target in targets if refusing else ():
            _note_run(_entry(seen, target), refusing, _last_ok_s(runs))


def _doubt_bars(seen: Mapping[str, Seen], now_s: float) -> None:
    """Refused credentials count only where no proxy is accepted: else it is one proxy's own key that is wrong."""
    for entry in seen.values():
        if now_s - entry.last_ok_s <= BAR_DOUBT_S:
            for fault in BAR_FAULTS:
                entry.counts.pop(fault, None)


def add_counts(
    window: tuple[Bucket, ...],
    counts: Mapping[str, int],
    now_s: float,
    window_s: float,
    since_s: float = 0.0,
    *,
    bucket_s: float = BUCKET_S,
) -> tuple[Bucket, ...]:
    """The rolling window with `counts` added to its newest bucket and buckets older than `window_s` gone.

    A new bucket begins at `since_s`, so that what came before can be told from what came after.
    """
    kept = tuple(bucket for bucket in window if _end_s(bucket, bucket_s) > now_s - window_s)
    if not counts:
        return kept
    start_s = max(now_s - now_s % bucket_s, since_s)
    if kept and kept[-1].start_s == start_s:
        merged = dict(kept[-1].counts)
        for fault, count in counts.items():
            merged[fault] = merged.get(fault, 0) + count
        return (*kept[:-1], Bucket(start_s, merged))
    return (*kept, Bucket(start_s, dict(counts)))


def _end_s(bucket: Bucket, bucket_s: float = BUCKET_S) -> float:
    return bucket.start_s - bucket.start_s % bucket_s + bucket_s


def totals(window: Iterable[Bucket], since_s: float) -> dict[str, int]:
    """Outcomes per class of the buckets that reach past `since_s`."""
    summed: dict[str, int] = {}
    for bucket in window:
        if _end_s(bucket) > since_s:
            for fault, count in bucket.counts.items():
                summed[fault] = summed.get(fault, 0) + count
    return summed


def failures_and_answers(counts: Mapping[str, int]) -> tuple[int, int]:
    """(failures that count for the breaker, those and the successes). Callers' faults are in neither."""
    failed = sum(counts.get(fault, 0) for fault in BREAKER_FAULTS)
    return failed, failed + counts.get(Fault.OK, 0)


def excess(failed: int, answered: int, allowed_ratio: float) -> float:
    """How hard it is to see `failed` of `answered` if the true ratio is no more than `allowed_ratio`.

    answered × KL(failed/answered ‖ allowed): by Chernoff's bound chance alone shows such an excess with a
    probability of at most e^−excess. 0 when the ratio is not above what is allowed. Small samples cannot reach
    `EXCESS_TO_TRIP` unless nearly everything failed, and 2 % of noise never does at a limit of 5 %.
    """
    if answered == 0 or failed / answered <= allowed_ratio:
        return 0.0
    ratio = failed / answered
    gain = ratio * math.log(ratio / allowed_ratio)
    if ratio < 1:
        gain += (1 - ratio) * math.log((1 - ratio) / (1 - allowed_ratio))
    return answered * gain


def ratio_trips(window: Iterable[Bucket], policy: Policy, now_s: float, since_s: float = 0.0) -> str:
    """Why the error ratio of the recent window, as far as it is after `since_s`, trips the breaker, or ""."""
    recent = (bucket for bucket in window if bucket.start_s >= since_s)
    failed, answered = failures_and_answers(totals(recent, now_s - policy.error_ratio_window_s))
    if answered < policy.error_ratio_min_samples:
        return ""
    if excess(failed, answered, policy.error_ratio) < EXCESS_TO_TRIP:
        return ""
    share, limit = 100 * failed / answered, 100 * policy.error_ratio
    return f"{failed} of {answered} requests failed ({share:.0f} %, limit {limit:g} %)"


def live_proxies(vantages: Mapping[str, Vantage], policy: Policy, now_s: float) -> list[str]:
    """The names of the proxies that were heard of lately, in order."""
    return sorted(name for name, vantage in vantages.items() if _lives(vantage, policy, now_s))


def _lives(vantage: Vantage, policy: Policy, now_s: float) -> bool:
    """Heard of lately; before a clock that went back is not lately."""
    return abs(now_s - vantage.seen_s) <= policy.proxy_lost_s
