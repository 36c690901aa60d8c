"""Do more requests fail on the moved side than may, or than on the control?"""

from msgspec.structs import replace

from pointsman.core.gates.sight import Sight, aborts, absent, holds, passes
from pointsman.core.ramp_model import Finding
from pointsman.core.stats import worse


def errors(sight: Sight) -> Finding:
    """Pass up to `pass_ratio` of failures, hold above it, abort on sequential evidence that the moved side is worse.

    The abort looks at all steps together, each with the share that was in force, and may be asked as often as one
    likes; the hold looks at the present step alone, so that a rough beginning is forgiven. After promotion the
    cutover rule holds: evidence, and more than `pass_ratio` of failures, is enough.
    """
    policy, moved = sight.ramp.policy, sight.sides.moved
    limits = replace(policy, abort_ratio=policy.pass_ratio) if sight.baking else policy
    seen = worse(sight.stamps, limits)
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
    if not moved.requests:
        return absent(sight, "errors", "no request was seen in this step")
    rate = moved.failed / moved.requests
    data["step_rate"] = rate
    if rate > policy.pass_ratio:
        why = (
            f"{_rate(rate)} of {moved.requests} requests failed in this step, {_rate(policy.pass_ratio)} pass"
        )
        return holds("errors", why, **data)
    return passes("errors", f"{_rate(rate)} of {moved.requests} requests failed", **data)


def _rate(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"
