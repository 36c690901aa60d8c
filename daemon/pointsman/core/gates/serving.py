"""Is the share that is to be judged the one that every live proxy routes by?"""

from pointsman.core.gates.sight import Sight, holds, passes
from pointsman.core.ramp_model import Finding


def serving(sight: Sight) -> Finding:
    """Pass when the table with this step's share is serving on every live proxy."""
    facts = sight.facts
    if not facts.proxies:
        return holds("serving", "no proxy is alive, so nothing is known of this share")
    if not facts.published:
        return holds("serving", "the table with this share is not published yet")
    if facts.lagging:
        missing = ", ".join(facts.lagging)
        return holds("serving", f"not serving yet on {missing}", lagging=float(len(facts.lagging)))
    proxies = "1 live proxy" if facts.proxies == 1 else f"{facts.proxies} live proxies"
    return passes("serving", f"serving on {proxies}", proxies=float(facts.proxies))
