"""The whole policy in one pure function: (state, evidence, time) → decision.

Called on every tick; what it returns is saved first and published afterwards. The table is derived from the
state alone, so a crash between the two heals on the next tick: what routes then differs from what is published.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from pointsman.core import automatic, breaker, overlays, ramping, rollout, words
from pointsman.core.axes import Context
from pointsman.core.errors import Fault
from pointsman.core.evidence import Evidence
from pointsman.core.health import BREAKER_FAULTS, BUCKET_S, Gathered, gather, live_proxies, totals
from pointsman.core.model import Decision, Health, Note, Path, Phase, Plan, Provider, State, Vantage
from pointsman.core.standing import standings_of
from pointsman.core.table import (
    TABLE_FORMAT,
    RouteEntry,
    Stage,
    Table,
    TargetEntry,
    Trial,
    Version,
    diff,
    largest_move_bp,
    negotiate,
    table_hash,
)
from pointsman.core.weights import Standing, Weighed, panicking, weigh

DEMAND_WINDOW_S: Final = 30.0
# What a target is asked for in earnest: answered, failed, or more than it can carry.
DEMANDS: Final = (Fault.OK, *BREAKER_FAULTS, Fault.RATE_LIMIT, Fault.CAPACITY)
# A change too small to publish is published after this long, so that a slow start ends at the baseline.
SETTLES_S: Final = 60.0
# What is published at once, whatever the size of the change and the age of the present table.
URGENT: Final = frozenset(
    {
        "target.tripped",
        "target.throttled",
        "target.barred",
        "overlay.expired",
        "ramp.aborted",
        "rollout.rolled_back",
    }
)


def decide(
    state: State,
    evidence: Evidence,
    *,
    now_s: float,
    epoch: int,
    published: Table | None,
    published_s: float,
) -> Decision:
    """What follows from `evidence` at `now_s` (seconds since 1970, the store's clock).

    `epoch` is the leader's fencing token; `published` the table that proxies read now, since `published_s`.
    """
    # What is over is gone before a word is read, so that no failover starts from the shares of an old pin.
    state, expired_notes = _without_expired(state, now_s)
    state, answers, notes = words.obey(state, evidence.words, now_s)
    urgent = bool(notes)
    plan = state.plan
    if plan is None:
        return Decision(state=state, table=None, reasons={}, notes=tuple(notes), answers=tuple(answers))
    gathered = gather(state, evidence, plan, now_s)
    state, health_notes = _with_health(state, gathered, plan, now_s)
    notes += expired_notes + health_notes + _egress_notes(state, gathered, now_s)
    notes += _trouble_notes(state, gathered, now_s)
    known = state.vantages
    state = replace(
        state, vantages=gathered.vantages, paths=gathered.paths, egress_suspect=gathered.egress_suspect
    )
    standings = standings_of(state, plan, now_s)
    state, moved = _moved(state, known, evidence, plan, standings, published, now_s)
    notes += moved
    urgent = urgent or any(note.kind in URGENT for note in notes)
    derived, reasons, table_notes = _table(state, plan, standings, now_s, epoch, published)
    table = _worth_publishing(derived, published, plan, urgent, now_s - published_s)
    if table is not None:
        notes += table_notes
        text = f"table {table.version}: " + (
            "; ".join(diff(published, table)) or "the same routes, a new form"
        )
        notes.append(Note(at_s=now_s, kind="table.published", subject=str(table.version), text=text))
    return Decision(
        state=state,
        table=table,
        reasons=reasons,
        notes=tuple(notes),
        answers=tuple(answers),
        urgent=urgent,
        yields=gathered.egress_suspect and now_s - gathered.live_success_s <= plan.policy.proxy_lost_s,
        deadlines={overlay.id: overlay.not_after_s for overlay in state.overlays if overlay.not_after_s},
    )


def _moved(
    state: State,
    known: Mapping[str, Vantage],
    evidence: Evidence,
    plan: Plan,
    standings: Mapping[str, Standing],
    published: Table | None,
    now_s: float,
) -> tuple[State, list[Note]]:
    """Every ramp is looked at, and what fails over or back by itself begins to. `known`: the vantages of before."""
    live = live_proxies(state.vantages, plan.policy, now_s)
    out = {
        name: s.why or "is out of service" for name, s in standings.items() if not (s.eligible and s.factor)
    }
    state, moved = ramping.advance(state, known, evidence, live, out, published, now_s)
    routed = {name: entry.shares_bp for name, entry in published.routes.items()} if published else {}
    state, begun = automatic.automatic(state, plan, routed, out, now_s)
    state, rolled = rollout.advance(state, known, evidence, plan, live, out, now_s)
    return state, moved + begun + rolled


def _without_expired(state: State, now_s: float) -> tuple[State, list[Note]]:
    over = overlays.expired(state, now_s)
    notes = [
        Note(
            at_s=now_s,
            kind="overlay.expired",
            subject=overlay.route,
            text=f"{overlay.kind.value} on {overlay.route} by {overlay.owner} is over: {overlay.reason}",
        )
        for overlay in over
    ]
    state = overlays.without(state, over, now_s) if over else state
    if state.freeze is not None and now_s >= state.freeze.until_s:
        text = f"the freeze of {state.freeze.owner} is over: movement is free again"
        notes.append(Note(at_s=now_s, kind="freeze.over", subject="control", text=text))
        state = replace(state, freeze=None)
    return state, notes


# --- health


def _with_health(state: State, gathered: Gathered, plan: Plan, now_s: float) -> tuple[State, list[Note]]:
    """Every target one step further. What did not change stays the same object, so that saving is cheap."""
    notes: list[Note] = []
    changed: dict[str, Health] = {}
    no_proxies = not live_proxies(gathered.vantages, plan.policy, now_s)
    heard_of = [name for name in plan.providers if name in gathered.paths]
    # Two are enough to know of every provider when another one answered last.
    latest = heapq.nlargest(2, gathered.paths.items(), key=lambda path: path[1].answered_s)
    for target, entry in plan.targets.items():
        before = state.health.get(target)
        seen = gathered.seen.get(target)
        health = before or _stranger(now_s)
        if before is not None and seen is None and not _due(before, plan, now_s):
            continue
        context = Context(
            now_s=now_s,
            policy=plan.policy,
            path_proven_s=_path_proven_s(entry.provider, latest, gathered),
            alone=len(heard_of) < 2,
            generates=plan.providers[entry.provider].generate,
            reach_is_trial=no_proxies and _asks_proxies(health, plan.providers[entry.provider], now_s),
        )
        after, told = breaker.step(target, health, seen, context)
        notes += told
        if after != before:
            changed[target] = after
    if not changed:
        return state, notes
    return replace(state, health={**state.health, **changed}), notes


def _stranger(now_s: float) -> Health:
    """A target never heard of: its counters begin at the clock, above any that proxies may remember of its name."""
    return Health(since_s=now_s, generation=int(now_s), grant=int(now_s))


def _asks_proxies(health: Health, provider: Provider, now_s: float) -> bool:
    """Is a half-open target to be tried live: no generate probe may vouch for it, or none has for too long."""
    return not provider.generate or now_s - health.since_s >= breaker.TRIAL_PATIENCE_S


def _due(health: Health, plan: Plan, now_s: float) -> bool:
    waits_for_trial = health.phase is Phase.HALF_OPEN and now_s - health.grant_s >= breaker.TRIAL_PATIENCE_S
    return waits_for_trial or breaker.due(health, plan.policy, now_s)


def _path_proven_s(provider: str, latest: Sequence[tuple[str, Path]], gathered: Gathered) -> float:
    """When the leader's way out was last seen to work by another provider; 0 while it is in doubt.

    What proxies reach says nothing of what the leader reaches.
    """
    if gathered.egress_suspect:
        return 0.0
    return max((path.answered_s for name, path in latest if name != provider), default=0.0)


def _egress_notes(state: State, gathered: Gathered, now_s: float) -> list[Note]:
    if gathered.egress_suspect == state.egress_suspect:
        return []
    if gathered.egress_suspect:
        text = "every provider is silent at once: this daemon's own way out is suspected, nobody is ejected by probes"
    else:
        text = "providers answer again: the daemon's way out is fine"
    return [Note(at_s=now_s, kind="egress", subject="control", text=text)]


def _trouble_notes(state: State, gathered: Gathered, now_s: float) -> list[Note]:
    notes: list[Note] = []
    for name, vantage in gathered.vantages.items():
        before = state.vantages.get(name)
        if vantage.twin and not (before is not None and before.twin):
            text = f"two proxies call themselves {name}: only the younger one counts, give each a name of its own"
            notes.append(Note(at_s=now_s, kind="proxy.twin", subject=name, text=text))
        if vantage.troubled == (before is not None and before.troubled):
            continue
        if vantage.troubled:
            text = f"{name} fails at every provider while they answer others: it is the one in trouble"
            if gathered.egress_suspect:
                text = f"{name} gets no answer from any provider, nor does this daemon: what it sees counts for nothing"
        else:
            text = f"{name} is out of trouble: what it sees counts again"
        notes.append(Note(at_s=now_s, kind="proxy.trouble", subject=name, text=text))
    return notes


# --- the table


def _table(
    state: State,
    plan: Plan,
    standings: Mapping[str, Standing],
    now_s: float,
    epoch: int,
    published: Table | None,
) -> tuple[Table, dict[str, dict[str, str]], list[Note]]:
    routes: dict[str, RouteEntry] = {}
    reasons: dict[str, dict[str, str]] = {}
    notes: list[Note] = []
    for name, route in plan.routes.items():
        baseline = state.baselines[name]
        demand_rps = _demand_rps(route.chain, state, now_s)
        wanted = overlays.desired(name, baseline, state.overlays)
        now = weigh(
            wanted.shares_bp, route.chain, standings,
            origin=wanted.origin, demand_rps=demand_rps, force=wanted.force, panicking=_panicking(name, published),
        )  # fmt: skip
        routes[name] = RouteEntry(
            family=route.family.value,
            shares_bp=now.shares_bp,
            chain=now.chain,
            last_resort=now.last_resort,
            sticky_by=route.sticky_by,
            max_attempts=route.max_attempts,
            later=_stages(name, route.chain, state, standings),
            closed=now.closed,
            anchor_bp=baseline.file_bp,
            wanted_bp=wanted.shares_bp,
            ramp=ramping.stamp_of(name, state),
        )
        reasons[name] = now.reasons
        notes += _distress(name, now, published, now_s)
    table = Table(
        environment=plan.environment,
        fleet=plan.fleet,
        version=Version(epoch, (published.version.revision if published else 0) + 1),
        hash="",
        issued_s=now_s,
        targets={name: _entry(name, state, plan) for name in plan.targets},
        routes=routes,
        trials=_trials(state, plan, now_s),
        format=_format(state, plan, now_s),
    )
    return replace(table, hash=table_hash(table)), reasons, notes


def _stages(
    name: str, chain: tuple[str, ...], state: State, standings: Mapping[str, Standing]
) -> tuple[Stage, ...]:
    """What proxies route by when overlays drop away and nobody is there to say so."""
    return tuple(
        Stage(overlay=overlay, shares_bp=weigh(then.shares_bp, chain, standings, force=then.force).shares_bp)
        for overlay, then in overlays.later(name, state.baselines[name], state.overlays)
    )


def _format(state: State, plan: Plan, now_s: float) -> int:
    """The highest format that all live proxies read; ours, if there is none, and they refuse it with a reason."""
    live = live_proxies(state.vantages, plan.policy, now_s)
    return negotiate(state.vantages[name].formats for name in live) or TABLE_FORMAT


def _demand_rps(targets: tuple[str, ...], state: State, now_s: float) -> float:
    """What was asked of the targets, turned away or not; one request that fell over counts at each that it asked."""
    windows = [totals(state.health[target].window, now_s - DEMAND_WINDOW_S) for target in targets]
    asked = sum(window.get(fault, 0) for window in windows for fault in DEMANDS)
    return asked / (DEMAND_WINDOW_S + now_s % BUCKET_S)  # what whole buckets really reach back


def _panicking(route: str, published: Table | None) -> bool:
    entry = published.routes.get(route) if published else None
    return entry is not None and panicking(entry.shares_bp, entry.chain, entry.last_resort)


def _distress(route: str, weighed: Weighed, published: Table | None, now_s: float) -> list[Note]:
    """What an operator must hear about a route whose targets are all out; said when it begins."""
    before = published.routes.get(route) if published else None
    if weighed.valve and (before is None or before.last_resort > 0 or before.shares_bp != weighed.shares_bp):
        text = f"all targets of {route} are out, using safety valve: {weighed.valve}"
        return [Note(at_s=now_s, kind="route.valve", subject=route, text=text)]
    if weighed.closed and (before is None or not before.closed):
        return [Note(at_s=now_s, kind="route.closed", subject=route, text=f"{route}: {weighed.closed}")]
    if weighed.panic and (before is None or before.shares_bp != weighed.shares_bp):
        text = f"{route}: the survivors cannot carry the demand, cooldowns are ignored"
        return [Note(at_s=now_s, kind="route.panic", subject=route, text=text)]
    return []


def _entry(name: str, state: State, plan: Plan) -> TargetEntry:
    target = plan.targets[name]
    provider = plan.providers[target.provider]
    return TargetEntry(
        provider=target.provider,
        model=target.model,
        family=provider.family.value,
        base_url=provider.base_url,
        generation=state.health[name].generation,
        headers=provider.headers,
    )


def _trials(state: State, plan: Plan, now_s: float) -> tuple[Trial, ...]:
    """Leave for one proxy each to try half-open targets that no generation probe can vouch for."""
    proxies = live_proxies(state.vantages, plan.policy, now_s)
    if not proxies:
        return ()
    granted: list[Trial] = []
    for name, target in plan.targets.items():
        health = state.health[name]
        left_alone = name in state.drains or health.barred or now_s < health.throttled_until_s
        if health.phase is not Phase.HALF_OPEN or left_alone:
            continue
        if _asks_proxies(health, plan.providers[target.provider], now_s):
            proxy = proxies[health.grant % len(proxies)]
            granted.append(Trial(target=name, proxy=proxy, grant=health.grant))
    return tuple(granted)


def _worth_publishing(
    table: Table, published: Table | None, plan: Plan, urgent: bool, age_s: float
) -> Table | None:
    """The table if it routes otherwise than the published one, by enough, and not too soon after it."""
    if published is None:
        return table
    if table.hash == published.hash:
        return None
    if urgent or published.routes.keys() != table.routes.keys():
        return table
    small = largest_move_bp(published, table) < plan.policy.publish_min_change_bp
    return table if age_s >= (SETTLES_S if small else plan.policy.publish_min_gap_s) else None
