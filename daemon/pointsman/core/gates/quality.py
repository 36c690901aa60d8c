"""Are the answers as good, and the cache as warm? Nobody measures either yet, and nothing is passed on no evidence."""

from pointsman.core.gates.sight import Sight, absent
from pointsman.core.ramp_model import Finding


def accuracy(sight: Sight) -> Finding:
    """Quality probes are what will tell; until they do, this abstains."""
    return absent(sight, "accuracy", "no quality probes run")


def cache_hits(sight: Sight) -> Finding:
    """The response cache is what will tell; until it does, this abstains."""
    return absent(sight, "cache_hits", "no response cache reports")
