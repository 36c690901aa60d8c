"""Is the moved side slower than it may be, or than the control?

Streams are compared by their first token and whole answers by their whole time, each kind with its own: what callers
ask for differs, and so do the two.
"""

from collections.abc import Mapping
from typing import Final

from pointsman.core.gates.sight import Sight, aborts, absent, holds, passes
from pointsman.core.ramp_model import Arm, Finding
from pointsman.core.stats import quantile_at_most_ms, quantile_ms, slower

# A 95th percentile is spoken of from so many answers on.
FLOOR: Final = 20
# "Latency doubled" is what the runbooks' cutover rule rolls back for.
DOUBLED: Final = 2.0


def latency(sight: Sight) -> Finding:
    """Hold over `latency_factor` × the control's p95 or over `latency_limit_ms`; abort when it has surely doubled: over
    twice what the control's surely is at most, for the p95 of a few answers is luck.

    A control of too few answers is no evidence; where there is none at all, the limit alone is asked.
    """
    policy, told = sight.ramp.policy, []
    data: dict[str, float] = {}
    holding = ""
    for kind in ("first_token_ms", "latency_ms"):
        moved, control = _histogram(sight.sides.moved, kind), _histogram(sight.sides.control, kind)
        if sum(moved.values()) < FLOOR:
            continue
        p95 = quantile_ms(moved, 0.95) or 0.0
        before = quantile_ms(control, 0.95) if sum(control.values()) >= FLOOR else None
        data[f"moved_{kind}_p95"] = p95
        what = f"p95 {'first token' if kind == 'first_token_ms' else 'answer'} {p95:.0f} ms"
        if before is not None:
            data[f"control_{kind}_p95"] = before
            what += f" against {before:.0f} ms"
            if slower(moved, DOUBLED * quantile_at_most_ms(control, 0.95)) >= policy.abort_evidence:
                return aborts("latency", f"{what}: it has doubled", **data)
            if p95 > policy.latency_factor * before:
                holding = holding or f"{what}: over {policy.latency_factor:g} ×"
        if p95 > policy.latency_limit_ms:
            holding = holding or f"{what}: over {policy.latency_limit_ms:.0f} ms"
        if before is not None or not sight.sides.control.requests:
            told.append(what)
    if holding:
        return holds("latency", holding, **data)
    if not told:
        whose = "of the control" if data else "of one kind"
        return absent(sight, "latency", f"fewer than {FLOOR} answers {whose}")
    return passes("latency", "; ".join(told), **data)


def _histogram(arm: Arm, kind: str) -> Mapping[int, int]:
    return arm.first_token_ms if kind == "first_token_ms" else arm.latency_ms
