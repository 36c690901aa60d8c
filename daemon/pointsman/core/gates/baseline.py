"""Is the side that traffic leaves well enough to compare with?"""

from typing import Final

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding, RampKind
from pointsman.core.stats import typical_ratio

# A rate of failures is only spoken of from so many requests on.
FLOOR: Final = 20


def baseline(sight: Sight) -> Finding:
    """Hold while the control side fails too: what hits both is the providers', and blames nobody.

    A few callers with bad requests are no trouble of the side. A failover moves away from one that is in trouble, so
    there is nothing to hold for.
    """
    ramp = sight.ramp
    if ramp.kind is RampKind.FAILOVER or not ramp.losers:
        return passes("baseline", "not asked: the ramp leaves it")
    out = {target: why for target, why in sight.facts.out.items() if target in ramp.losers}
    if len(out) == len(ramp.losers):
        told = "; ".join(f"{target} {why}" for target, why in out.items())
        return holds("baseline", f"the control is out itself ({told}): frozen, nobody is blamed")
    control = sight.sides.control
    if control.requests >= FLOOR and typical_ratio(control, ramp.policy) > ramp.policy.abort_ratio:
        rate = control.failed / control.requests
        why = f"{100 * rate:.1f} % of {control.requests} requests of the control fail too: frozen, nobody is blamed"
        return holds("baseline", why, control_rate=rate)
    return passes("baseline", "the control is well")
