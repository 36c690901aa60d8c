"""Was the step watched for long enough?"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding


def dwell(sight: Sight) -> Finding:
    """Pass when a leader has watched the step, serving everywhere, for as long as it asks."""
    needed_s, watched_s = sight.step.hold_s, sight.ramp.watched_s
    if watched_s < needed_s:
        why = f"watched for {watched_s:.0f} of {needed_s:.0f} s"
        return holds("dwell", why, watched_s=watched_s, needed_s=needed_s)
    return passes("dwell", f"watched for {watched_s:.0f} s", watched_s=watched_s, needed_s=needed_s)
