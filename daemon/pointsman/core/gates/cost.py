"""Does a request cost more than it did?"""

from pointsman.core.gates.sight import Sight, aborts, absent, holds, passes
from pointsman.core.ramp_model import Finding


def cost(sight: Sight) -> Finding:
    """Hold when an answered request costs over `cost_factor` × the control's; abort only over the ramp's budget."""
    policy, moved, control = sight.ramp.policy, sight.sides.moved, sight.sides.control
    spent_usd = sum(before.cost_usd for before, _ in sight.stamps)
    if policy.budget_usd is not None and spent_usd > policy.budget_usd:
        why = f"{spent_usd:.2f} USD spent of a budget of {policy.budget_usd:.2f} USD"
        return aborts("cost", why, spent_usd=spent_usd, budget_usd=policy.budget_usd)
    if not (moved.cost_usd and control.cost_usd):
        return absent(sight, "cost", "no prices are configured for both sides, or nothing was answered yet")
    each, before = moved.cost_usd / moved.priced, control.cost_usd / control.priced
    data = {"moved_usd": each, "control_usd": before}
    why = f"{each:.5f} USD a request against {before:.5f} USD"
    if each > policy.cost_factor * before:
        return holds("cost", f"{why}: over {policy.cost_factor:g} ×", **data)
    return passes("cost", why, **data)
