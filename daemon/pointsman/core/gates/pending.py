"""Are requests of the moved side still waiting for what should have come long ago?

A hanging answer is no failure until its deadline, which for a whole answer is longer than a step: it must not look like
an answer that nobody has missed.
"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding


def pending(sight: Sight) -> Finding:
    """Hold while the moved side has overdue requests, and more of them for its traffic than the control."""
    moved = sum(sight.facts.overdue.get(target, 0) for target in sight.ramp.gainers)
    control = sum(sight.facts.overdue.get(target, 0) for target in sight.ramp.losers)
    if not moved:
        return passes("pending", "no request is overdue")
    data = {"moved_overdue": float(moved), "control_overdue": float(control)}
    told = (
        f"{moved} requests of the moved side have waited far longer than is usual, {control} of the control"
    )
    if moved * sight.sides.control.requests < control * max(1, sight.sides.moved.requests):
        return passes("pending", told, **data)
    return holds("pending", f"{told}: they may be hanging", **data)
