"""Do more requests fail on the moved side than may, or than on the control?"""

import math
from typing import Final

from msgspec.structs import replace

from pointsman.core.brought import Brought, beyond, brought, more_than_brought
from pointsman.core.gates.sight import Sight, aborts, absent, holds, passes
from pointsman.core.ramp_model import Arm, Finding
from pointsman.core.stats import exceeds, merged, typical_failures, typical_ratio, worse

# Standard deviations by which a caller's failures must exceed those that it brought along, to be blamed on a side.
SURELY: Final = 2.0


def errors(sight: Sight) -> Finding:
    """Pass up to `pass_ratio` of failures, hold above it, abort on sequential evidence that the moved side is worse.

    The abort looks at all steps together, each with the share that was in force, and may be asked as often as one
    likes; the hold looks at the present step alone, so that a rough beginning is forgiven. After promotion the
    cutover rule holds: more than `pass_ratio` of failures, and than failed before it, is enough once that is certain
    while the control is well. What callers brought along from the control is nobody's evidence (core/brought.py), and
    what a few of them fail with wherever they are weighs little (core/stats.py).
    """
    policy, moved = sight.ramp.policy, sight.sides.moved
    limits = replace(policy, abort_ratio=policy.pass_ratio) if sight.baking else policy
    own = brought(sight.stamps, policy)
    failing = [beyond(one, its, SURELY) for (one, _), its in zip(sight.stamps, own, strict=True)]
    told = any(one.failing for one, _ in sight.stamps)
    seen = worse(sight.stamps, limits, failing if told else None)
    data = {
        "moved_rate": seen.canary_ratio,
        "control_rate": seen.control_ratio,
        "moved_requests": float(seen.canary_requests),
        "control_requests": float(seen.control_requests),
        "evidence": seen.evidence,
    }
    against = f"{_rate(seen.canary_ratio)} of {seen.canary_requests} requests failed"
    if seen.control_requests:
        against += f", {_rate(seen.control_ratio)} of {seen.control_requests} of the control"
    if seen.worse:
        why = f"{against}: worse with an evidence of {seen.evidence:.0f} : 1"
        return aborts("errors", why, **data)
    if sight.baking and _cutover_failed(sight):
        why = f"{against}: over {_rate(policy.pass_ratio)} since the cutover, and the control is well"
        return aborts("errors", why, **data)
    made = moved.synthetic_ok + moved.synthetic_failed if policy.synthetic else 0
    if moved.synthetic_failed > policy.pass_ratio * made and made:
        # By themselves: many that were made must not hide what callers met, nor the other way round.
        why = f"{moved.synthetic_failed} of {made} synthetic requests failed in this step"
        return holds("errors", why, **data)
    if not moved.requests:
        return absent(sight, "errors", "no request was seen in this step")
    rate = moved.failed / moved.requests
    data["step_rate"] = rate
    limit = _limit(sight)
    if typical_ratio(_without(moved, own[-1]), policy) > limit:
        why = f"{_rate(rate)} of {moved.requests} requests failed in this step, {_rate(limit)} pass"
        return holds("errors", why, **data)
    more = more_than_brought(moved, own[-1])
    if more > policy.pass_ratio * moved.requests:
        data["more"] = more
        why = f"{_rate(rate)} of {moved.requests} requests failed in this step, {more:.0f}"
        return holds("errors", f"{why} more than of the same callers before", **data)
    return passes("errors", f"{_rate(rate)} of {moved.requests} requests failed", **data)


def _without(moved: Arm, own: Brought) -> Arm:
    """The moved side without the failures that its callers brought along."""
    if not moved.failing:
        return moved
    failing = beyond(moved, own)
    failed = round(sum(failing.values()))
    return replace(moved, ok=moved.requests - failed, failed=failed, failing=failing)


def _limit(sight: Sight) -> float:
    """What may fail: `pass_ratio`, or what fails on the control too, for callers bring that along.

    Never more than `abort_ratio`: when both sides fail, nobody is to blame, and nothing goes on either.
    """
    policy = sight.ramp.policy
    alike = typical_ratio(sight.sides.control, policy) + policy.pass_ratio / 2
    return max(policy.pass_ratio, min(alike, policy.abort_ratio))


def _cutover_failed(sight: Sight) -> bool:
    """Surely more fail than may or did, and of several callers, while the control's requests do not.

    Not while the control has so few that it might be failing as much and not have shown it: an outage of both sides
    is seen first on the one with the traffic.
    """
    policy, moved, control = sight.ramp.policy, sight.sides.moved, sight.sides.control
    before = merged([before for before, _ in sight.stamps[:-1]])
    allowed = max(policy.pass_ratio, typical_ratio(before, policy) + policy.pass_ratio / 2)
    failed = round(typical_failures(moved, policy))
    several = moved.callers_failing.bit_count() >= min(policy.failing_callers, moved.callers.bit_count())
    alike = control.requests * failed / max(1, moved.requests)
    told_apart = control.failed < alike - SURELY * math.sqrt(alike) or not policy.control_bp
    return (
        told_apart
        and several
        and control.failed <= policy.pass_ratio * control.requests
        and exceeds(failed, moved.requests, allowed) >= policy.abort_evidence
    )


def _rate(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"
