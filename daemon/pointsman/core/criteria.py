"""Is a stage go, or no-go? Every criterion is a small pure function with its reason in words.

    criterion    go                                     no-go                                     no evidence
    requests     `min_requests` were seen               –                                         holds
    errors       up to `go.error_ratio`, also lately    evidence of more than `no_go.error_ratio`, holds
                                                        in the last hour or in all, by several
                                                        callers
    latency      p95 up to `go.latency_factor` × the    evidence that p95 is over                 holds
                 old side's                             `no_go.latency_factor` × the old side's
    cost         a request costs up to                  it costs over `no_go.cost_factor` ×, in   holds
                 `go.cost_factor` × the old side's      `min_requests` requests
    cache_hits   `go.cache_hit_ratio`                   under `no_go.cache_hit_ratio`             holds

Between go and no-go a stage holds. What is not asked is not judged. No evidence is neither: it never passes, but where
only a no-go is looked for, it does not hold either.
"""

from collections.abc import Callable, Mapping
from typing import Final

from pointsman.core.ramp_model import Arm, Finding, RampPolicy, Verdict
from pointsman.core.rollout_model import Rollout
from pointsman.core.stats import exceeds, quantile_ms, slower

# An error ratio or a 95th percentile is spoken of from so many requests on.
FLOOR: Final = 20
KINDS: Final = ("first_token_ms", "latency_ms")

Criterion = Callable[[Rollout, RampPolicy], Finding | None]


def judged(one: Rollout, policy: RampPolicy) -> tuple[Finding, ...]:
    """What every criterion that is asked says. `policy`: the canary's, for how much evidence a no-go takes."""
    found = (criterion(one, policy) for criterion in CRITERIA.values())
    return tuple(finding for finding in found if finding is not None)


def _requests(one: Rollout, _policy: RampPolicy) -> Finding:
    seen, needed = one.total.new.requests, one.stage.min_requests
    data = {"seen": float(seen), "needed": float(needed)}
    if seen < needed:
        return _found("requests", Verdict.HOLD, f"{seen} of {needed} requests seen", data)
    return _found("requests", Verdict.PASS, f"{seen} requests", data)


def _errors(one: Rollout, policy: RampPolicy) -> Finding | None:
    go, no_go = one.stage.go.error_ratio, one.stage.no_go.error_ratio
    if go is None and no_go is None:
        return None
    every, lately = one.total.new, one.hour.new
    if not every.requests:
        return _nothing("errors", "no request was seen", go)
    data = {"requests": float(every.requests), "failed": float(every.failed)}
    for arm, when in ((lately, " within the last hour"), (every, "")):
        if no_go is not None and _too_many(arm, no_go, policy):
            why = f"{_share(arm)}{when}, over {100 * no_go:g} %"
            return _found("errors", Verdict.ABORT, why, data)
    for arm, when, least in ((lately, " within the last hour", FLOOR), (every, "", 1)):
        if go is not None and arm.requests >= least and arm.failed > go * arm.requests:
            return _found("errors", Verdict.HOLD, f"{_share(arm)}{when}, {100 * go:g} % is go", data)
    return _found("errors", Verdict.PASS, _share(every), data)


def _too_many(arm: Arm, allowed: float, policy: RampPolicy) -> bool:
    """Is there evidence of more failures than are allowed, of several callers where there are several?"""
    needed = min(policy.failing_callers, arm.callers.bit_count())
    enough = arm.callers_failing.bit_count() >= needed
    return enough and exceeds(arm.failed, arm.requests, allowed) >= policy.abort_evidence


def _share(arm: Arm) -> str:
    return f"{100 * arm.failed / arm.requests:.1f} % of {arm.requests} requests failed"


def _latency(one: Rollout, policy: RampPolicy) -> Finding | None:
    """Streams by their first token, whole answers by their end, each kind with its own."""
    go, no_go = one.stage.go.latency_factor, one.stage.no_go.latency_factor
    if go is None and no_go is None:
        return None
    told: list[str] = []
    data: dict[str, float] = {}
    holding = missing = ""
    for kind in KINDS:
        new, lately = _cells(one.total.new, kind), _cells(one.hour.new, kind)
        before = p95(_cells(one.before, kind))
        now = p95(new)
        if now is None:
            continue
        what = f"p95 {'first token' if kind == 'first_token_ms' else 'answer'} {now:.0f} ms"
        if before is None:
            missing = f"{what}, and nothing of the old side to compare with"
            continue
        data |= {f"{kind}_p95": now, f"{kind}_p95_before": before}
        what += f" against {before:.0f} ms"
        if no_go is not None and any(
            slower(c, no_go * before) >= policy.abort_evidence for c in (lately, new)
        ):
            return _found("latency", Verdict.ABORT, f"{what}: over {no_go:g} ×", data)
        if go is not None and now > go * before:
            holding = f"{what}: up to {go:g} × is go"
        told.append(what)
    if holding:
        return _found("latency", Verdict.HOLD, holding, data)
    if missing:
        return _nothing("latency", missing, go)
    if not told:
        return _nothing("latency", f"fewer than {FLOOR} answers of one kind", go)
    return _found("latency", Verdict.PASS, "; ".join(told), data)


def p95(cells: Mapping[int, int]) -> float | None:
    """The 95th percentile in ms; None of too few answers."""
    return quantile_ms(cells, 0.95) if sum(cells.values()) >= FLOOR else None


def _cells(arm: Arm, kind: str) -> Mapping[int, int]:
    return arm.first_token_ms if kind == "first_token_ms" else arm.latency_ms


def _cost(one: Rollout, _policy: RampPolicy) -> Finding | None:
    go, no_go = one.stage.go.cost_factor, one.stage.no_go.cost_factor
    if go is None and no_go is None:
        return None
    new, before = one.total.new, one.before
    each, was = each_usd(new), each_usd(before)
    if each is None or was is None:
        side = "new" if each is None else "old"
        return _nothing("cost", f"no request of the {side} side has a price", go)
    data = {"new_usd": each, "old_usd": was}
    why = f"{each:.5f} USD a request against {was:.5f} USD"
    if no_go is not None and each > no_go * was and new.priced >= max(1, one.stage.min_requests):
        return _found("cost", Verdict.ABORT, f"{why}: over {no_go:g} ×", data)
    if go is not None and each > go * was:
        return _found("cost", Verdict.HOLD, f"{why}: up to {go:g} × is go", data)
    return _found("cost", Verdict.PASS, why, data)


def each_usd(arm: Arm) -> float | None:
    """What an answered request costs; None where none has a price."""
    return arm.cost_usd / arm.priced if arm.priced else None


def _cache_hits(one: Rollout, _policy: RampPolicy) -> Finding | None:
    """The response cache is what will tell; until it does there is no evidence."""
    go = one.stage.go.cache_hit_ratio
    if go is None and one.stage.no_go.cache_hit_ratio is None:
        return None
    return _nothing("cache_hits", "no response cache reports", go)


def _found(criterion: str, verdict: Verdict, why: str, data: dict[str, float]) -> Finding:
    return Finding(gate=criterion, verdict=verdict, why=why, data=data)


def _nothing(criterion: str, why: str, go: float | None) -> Finding:
    """No evidence: it holds where it is to be go, and abstains where only a no-go is looked for."""
    verdict = Verdict.ABSENT if go is None else Verdict.HOLD
    return Finding(gate=criterion, verdict=verdict, why=f"no evidence: {why}")


CRITERIA: Final[Mapping[str, Criterion]] = {
    "requests": _requests,
    "errors": _errors,
    "latency": _latency,
    "cost": _cost,
    "cache_hits": _cache_hits,
}
SOAK: Final = "soak"
# What an operator may pass with a reason: every criterion, and, named, the time.
OVERRULABLE: Final = (*CRITERIA, SOAK)
