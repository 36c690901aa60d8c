"""The gates: before each step of a ramp every one of them says pass, hold or abort, and why in words.

A gate is a pure function of what a ramp is and what is known (`Sight`), in a file of its own; `GATES` is the order
in which they are asked and told. To add one, write the file and name it here.

    gate       holds when                                        aborts when
    serving    a live proxy does not route by this share yet     –
    baseline   the side that traffic leaves is itself in         –
               trouble: a provider-wide one is nobody's fault
    dwell      the step's time is not over                       –
    samples    too few requests of the moved side                –
    errors     the moved side's error rate is over its limit     sequential evidence that it is worse
    pending    requests of the moved side hang, longer than is   –
               usual and more of them than of the control
    latency    p95 over 1.5 × the control's, or over 30 s        evidence that it has doubled
    cost       a request costs over 1.2 × the control's          the ramp's budget is spent
    quality    no evidence yet (accuracy, cache hits): absent    –
    approval   a person must approve the step and has not        –
    calendar   this is not an hour or a day for steps            –
    external   a webhook or a query says so, or says nothing     it says so

No data is neither failure nor success: a gate without evidence says ABSENT, and holds only where `require` asks
for it.
"""

from collections.abc import Callable
from typing import Final

from pointsman.core.gates.approval import approval
from pointsman.core.gates.baseline import baseline
from pointsman.core.gates.calendar import calendar
from pointsman.core.gates.cost import cost
from pointsman.core.gates.dwell import dwell
from pointsman.core.gates.errors import errors
from pointsman.core.gates.external import external
from pointsman.core.gates.latency import latency
from pointsman.core.gates.pending import pending
from pointsman.core.gates.quality import accuracy, cache_hits
from pointsman.core.gates.samples import samples
from pointsman.core.gates.serving import serving
from pointsman.core.gates.sight import Sight
from pointsman.core.ramp_model import Finding

Gate = Callable[[Sight], Finding]

GATES: Final[tuple[Gate, ...]] = (
    serving,
    baseline,
    dwell,
    samples,
    errors,
    pending,
    latency,
    cost,
    accuracy,
    cache_hits,
    approval,
    calendar,
    external,
)
# A gate's function is called like the gate.
NAMES: Final = tuple(gate.__name__ for gate in GATES)
# What an operator can ask a ramp to insist on, although it abstains without evidence by itself.
REQUIRABLE: Final = frozenset({"latency", "cost", "accuracy", "cache_hits"})
# What no operator can overrule: nothing is known about the share that is not served yet.
FIRM: Final = frozenset({"serving"})


# What is asked before the first step: everything else judges traffic that there is none of yet.
BEFOREHAND: Final[tuple[Gate, ...]] = (approval, calendar, external)


def findings(sight: Sight, gates: tuple[Gate, ...] = GATES) -> tuple[Finding, ...]:
    """What each of the gates says, in their order."""
    return tuple(gate(sight) for gate in gates)
