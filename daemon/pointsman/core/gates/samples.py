"""Were enough requests seen to say anything?"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding
from pointsman.core.stats import wait_s


def samples(sight: Sight) -> Finding:
    """Pass when the moved side has had the step's floor of requests; synthetic ones count where they were asked for."""
    moved, needed = sight.sides.moved, sight.step.samples
    made = moved.synthetic_ok + moved.synthetic_failed if sight.ramp.policy.synthetic else 0
    seen = moved.requests + made
    apart = f" ({made} of them synthetic)" if made else ""
    if seen >= needed:
        return passes("samples", f"{seen} requests{apart}", seen=float(seen), needed=float(needed))
    left_s = wait_s(needed, seen, sight.ramp.watched_s)
    estimate = f", about {_span(left_s)} more" if left_s is not None else ", no traffic to estimate from"
    why = f"{seen} of {needed} requests{apart}{estimate}"
    return holds("samples", why, seen=float(seen), needed=float(needed))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
