"""Were enough requests seen to say anything?"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding
from pointsman.core.stats import span, wait_s


def samples(sight: Sight) -> Finding:
    """Pass when the moved side has had the step's floor of requests; synthetic ones count where they were asked for.

    Where they will take longer than the step may be held, it says so: then it is rolled back.
    """
    moved, needed = sight.sides.moved, sight.step.samples
    made = moved.synthetic_ok + moved.synthetic_failed if sight.ramp.policy.synthetic else 0
    seen = moved.requests + made
    apart = f" ({made} of them synthetic)" if made else ""
    if seen >= needed:
        return passes("samples", f"{seen} requests{apart}", seen=float(seen), needed=float(needed))
    left_s = wait_s(needed, seen, sight.ramp.watched_s)
    estimate = f", about {span(left_s)} more" if left_s is not None else ", no traffic to estimate from"
    why = f"{seen} of {needed} requests{apart}{estimate}{_in_vain(sight, left_s)}"
    return holds("samples", why, seen=float(seen), needed=float(needed))


def _in_vain(sight: Sight, left_s: float | None) -> str:
    """That it will be rolled back first, at this rate; before the dwell is over, no traffic at all says nothing yet."""
    ramp = sight.ramp
    dwell_s = sight.step.hold_s - ramp.watched_s
    if left_s is None and dwell_s > 0:
        return ""
    if left_s is not None and left_s <= max(0.0, dwell_s) + ramp.policy.max_hold_s - ramp.held_s:
        return ""
    return f", and what is held for {span(ramp.policy.max_hold_s)} is rolled back"
