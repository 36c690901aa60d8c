"""What a decision is made from, as one value."""

from msgspec import Struct

from pointsman.core.evidence import Evidence
from pointsman.core.model import State
from pointsman.core.table import Table


class Asked(Struct, frozen=True, kw_only=True):
    """Everything that `decide` is given; `at_s` is its `now_s`."""

    at_s: float
    epoch: int
    published: Table | None
    published_s: float
    state: State
    evidence: Evidence
