"""What `status` shows, as one plain value: made purely from what the store holds."""

from typing import Any

from pointsman.cli.ramps import ramp_picture
from pointsman.core.axes import clock
from pointsman.core.evidence import Report
from pointsman.core.health import totals
from pointsman.core.model import Health, Overlay, Phase, Plan, Policy, State
from pointsman.core.overlays import winner
from pointsman.core.table import RouteEntry, Table
from pointsman.core.weights import PANIC

# A proxy hears of a table within milliseconds; one that has not after this is worth a warning.
LAG_WARN_S = 3.0


def picture(
    state: State,
    table: Table | None,
    reasons: dict[str, dict[str, str]],
    reports: list[Report],
    *,
    leader: dict[str, Any] | None,
    published_s: float,
    now_s: float,
    own_plan: Plan,
    unusable: str = "",
) -> dict[str, Any]:
    """Everything of one fleet at `now_s`; shares in percent, times in seconds from now.

    `unusable`: why there is no `table` although one is published.
    """
    plan = state.plan or own_plan
    drift = plan.digest != own_plan.digest
    proxies = [_proxy(report, state, table, now_s) for report in sorted(reports, key=lambda r: r.proxy)]
    routes = {
        name: _route(name, state, table.routes.get(name) if table else None, reasons.get(name, {}), now_s)
        for name in sorted(plan.routes)
    }
    seen = {
        "environment": plan.environment,
        "fleet": plan.fleet,
        "leader": leader,
        "table": _table(table, reports, published_s, now_s),
        "configuration": {"revision": plan.revision, "digest": plan.digest, "file_differs": drift},
        "routes": routes,
        "proxies": proxies,
        "frozen": _frozen(state, now_s),
    }
    return seen | {"warnings": _warnings(seen, state, plan, table, published_s, now_s, unusable)}


def _table(
    table: Table | None, reports: list[Report], published_s: float, now_s: float
) -> dict[str, Any] | None:
    """`converged_s`: how long after publication the last of the proxies that were there routed by it; None: not all do.

    Only what the proxies have told in their reports is known, and those come once a second.
    """
    if table is None:
        return None
    there = [report for report in reports if report.started_s <= published_s]
    waits = [max(0.0, one.served_s - published_s) for one in there if one.serving == table.version]
    return {
        "version": str(table.version),
        "hash": table.hash,
        "age_s": round(now_s - published_s, 1),
        "converged_s": round(max(waits), 3) if waits and len(waits) == len(there) else None,
    }


def _route(
    name: str, state: State, entry: RouteEntry | None, reasons: dict[str, str], now_s: float
) -> dict[str, Any]:
    shares = entry.shares_bp if entry else {}
    chain = entry.chain if entry else ()
    plan_route = state.plan.routes.get(name) if state.plan else None
    order = dict.fromkeys([*(plan_route.chain if plan_route else ()), *chain, *shares])
    overlay = winner(name, state.overlays)
    baseline = state.baselines.get(name)
    ramp = state.ramps.get(name)
    panic = any(reason.startswith(PANIC) for reason in reasons.values())
    return {
        "closed": entry.closed if entry else "",
        "ramp": ramp_picture(ramp, now_s) if ramp is not None else None,
        "overlay": _overlay(overlay, now_s) if overlay else None,
        "baseline": {t: bp / 100 for t, bp in baseline.shares_bp.items()} if baseline else {},
        "baseline_from_file": baseline is None or baseline.shares_bp == baseline.file_bp,
        "chain": list(chain),
        "safety_valve": bool(entry and entry.shares_bp and entry.last_resort == 0) and not panic,
        "panic": panic,
        "targets": [
            target_picture(target, state, now_s)
            | {"share": shares.get(target, 0) / 100, "reason": reasons.get(target, "")}
            for target in order
        ],
    }


def _frozen(state: State, now_s: float) -> dict[str, Any] | None:
    if state.freeze is None:
        return None
    freeze = state.freeze
    return {"owner": freeze.owner, "reason": freeze.reason, "left_s": _left(freeze.until_s, now_s)}


def _overlay(overlay: Overlay, now_s: float) -> dict[str, Any]:
    left = round(overlay.not_after_s - now_s, 1) if overlay.not_after_s else None
    return {
        "kind": overlay.kind.value,
        "owner": overlay.owner,
        "reason": overlay.reason,
        "left_s": left,
        "on_expiry": overlay.on_expiry.value,
        "force": overlay.force,
    }


def target_picture(target: str, state: State, now_s: float) -> dict[str, Any]:
    """The standing of one target; spans in seconds from now, 0 where there is nothing to wait for; clock times in UTC.

    `streaks`: failures in a row by where they were seen; `outcomes`: how many per class within the last `outcomes_s`.
    """
    health = state.health.get(target, Health())
    drain = state.drains.get(target)
    cooling = health.phase is Phase.COOLDOWN
    window_s = (state.plan.policy if state.plan else Policy()).window_s
    return {
        "target": target,
        "phase": health.phase.value,
        "failures": health.failures,
        "cooldown_left_s": _left(health.cooldown_until_s, now_s) if cooling else 0.0,
        "cooldown_until": clock(health.cooldown_until_s) if cooling else "",
        "throttled_left_s": _left(health.throttled_until_s, now_s),
        "softened_left_s": _left(health.softened_until_s, now_s),
        "barred": health.barred,
        "barred_left_s": _left(health.barred_until_s, now_s),
        "drained": f"{drain.owner}: {drain.reason}" if drain else "",
        "last_failure": health.last_failure,
        "last_failure_age_s": round(now_s - health.last_failure_s, 1) if health.last_failure_s else None,
        "last_success_age_s": round(now_s - health.last_success_s, 1) if health.last_success_s else None,
        "streaks": {
            "reach": health.reach_streak,
            "generate": health.generate_streak,
            "live": health.live_streak,
            "refused": health.bar_streak,
        },
        "outcomes": totals(health.window, now_s - window_s),
        "outcomes_s": window_s,
    }


def _left(until_s: float, now_s: float) -> float:
    return round(max(0.0, until_s - now_s), 1)


def _proxy(report: Report, state: State, table: Table | None, now_s: float) -> dict[str, Any]:
    vantage = state.vantages.get(report.proxy)
    behind = table is not None and (report.serving is None or report.serving < table.version)
    return {
        "proxy": report.proxy,
        "address": report.address,
        "accepted": str(report.accepted) if report.accepted else None,
        "serving": str(report.serving) if report.serving else None,
        "behind": behind,
        "rejected": report.rejected,
        "missing": report.missing,
        "pinned": report.pinned,
        "silent_s": round(max(0.0, now_s - vantage.seen_s), 1) if vantage else None,
    }


def _warnings(
    seen: dict[str, Any],
    state: State,
    plan: Plan,
    table: Table | None,
    published_s: float,
    now_s: float,
    unusable: str,
) -> list[str]:
    warnings: list[str] = []
    if seen["leader"] is None:
        warnings.append("no daemon leads: nothing is probed or decided (pointsman control)")
    if table is None:
        warnings.append(unusable or "no table is published yet")
    if state.egress_suspect:
        warnings.append("every provider is silent at once: the daemon's own way out is suspected")
    for name, route in seen["routes"].items():
        if route["closed"]:
            warnings.append(f"{name} is closed: {route['closed']}")
        elif route["safety_valve"]:
            warnings.append(f"{name}: every target is out, the safety valve serves")
        elif route["panic"]:
            warnings.append(f"{name}: the survivors cannot carry the demand, cooldowns are ignored")
    for proxy in seen["proxies"]:
        # Only a leader notes when it heard of a proxy: without one, silence would be everybody's.
        led = seen["leader"] is not None
        warnings += _proxy_warnings(proxy, plan, now_s - published_s, led=led)
    if seen["configuration"]["file_differs"]:
        warnings.append("the file differs from the active configuration (pointsman config apply --dry-run)")
    return warnings


def _proxy_warnings(proxy: dict[str, Any], plan: Plan, table_age_s: float, *, led: bool) -> list[str]:
    name, silent_s = proxy["proxy"], proxy["silent_s"]
    warnings: list[str] = []
    if led and silent_s is not None and silent_s > plan.policy.proxy_lost_s:
        warnings.append(f"proxy {name} is stale: no heartbeat for {silent_s:.0f} s")
    if proxy["rejected"]:
        warnings.append(f"proxy {name} rejects the table: {proxy['rejected']}")
    elif proxy["behind"] and table_age_s > LAG_WARN_S:
        warnings.append(f"proxy {name} still serves {proxy['serving'] or 'no table'}")
    if proxy["pinned"]:
        warnings.append(f"proxy {name} is pinned by hand: {proxy['pinned']}")
    warnings += [f"proxy {name} cannot serve {target}: {why}" for target, why in proxy["missing"].items()]
    return warnings
