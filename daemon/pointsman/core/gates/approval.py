"""Has a person said yes, where one was to be asked?"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding
from pointsman.core.table import percent


def approval(sight: Sight) -> Finding:
    """Hold before a step that the policy names until somebody approves it."""
    ramp = sight.ramp
    following = ramp.step + 1
    goal = ramp.policy.steps[following].progress_bp if following < len(ramp.policy.steps) else 0
    if goal not in ramp.policy.approvals:
        return passes("approval", "nobody is to be asked")
    if goal in ramp.approved:
        return passes("approval", f"the step to {percent(goal)} is approved")
    return holds(
        "approval", f"the step to {percent(goal)} waits for a person: pointsman canary approve {ramp.route}"
    )
