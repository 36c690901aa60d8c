"""What callers bring along: failures that they had on the control before they moved, and so will have anywhere.

A canary only gains callers, and each of them was on the control under earlier stamps. What a caller failed with there
says what it will fail with on the moved side, if that is no worse: as many for as many requests of both sides
together. So a caller with bad requests is compared with itself, not with others.

Of callers that were on the moved side from its first request on nothing is known, nor is where callers keep to no
side: they turn up on both at once. Stamps under which the control itself was in trouble tell nothing of a caller.
"""

import math
from collections.abc import Iterator, Sequence

from msgspec import Struct

from pointsman.core.ramp_model import Arm, RampPolicy
from pointsman.core.stats import typical_ratio


class Brought(Struct, frozen=True, kw_only=True):
    """Under one stamp: caller (bit of its hash) → failures to expect of it on the moved side, and their variance.

    `known`: the map of callers on the moved side that are known from the control, those that never failed too.
    """

    expected: dict[int, float]
    variance: dict[int, float]
    known: int


def brought(stamps: Sequence[tuple[Arm, Arm]], policy: RampPolicy) -> list[Brought]:
    """What callers bring along under each of the stamps, (moved side, control) of each, oldest first."""
    moved_callers = kept_callers = known = 0
    requests_before = 0
    before: dict[int, int] = {}
    # Caller → (failures, requests of both sides) under all stamps before it moved.
    records: dict[int, tuple[int, int]] = {}
    found: list[Brought] = []
    for moved, control in stamps:
        came = moved.callers & ~moved_callers & kept_callers
        moved_callers |= moved.callers
        known |= came
        records |= {bit: (before[bit], requests_before) for bit in bits_of(came) if bit in before}
        requests = moved.requests + control.requests
        found.append(_under(records, control, requests, known & moved.callers))
        if typical_ratio(control, policy) <= policy.abort_ratio:
            kept_callers |= control.callers
            requests_before += requests
            for bit, failed in control.failing.items():
                before[bit] = before.get(bit, 0) + failed
    return found


def _under(records: dict[int, tuple[int, int]], control: Arm, requests: int, known: int) -> Brought:
    """Under one stamp with so many requests. What the control fails with now, it did not move."""
    expected: dict[int, float] = {}
    variance: dict[int, float] = {}
    for bit, (failed, of) in records.items():
        factor = requests / of
        expected[bit] = max(0.0, failed * factor - control.failing.get(bit, 0))
        variance[bit] = failed * factor * (1 + factor)
    return Brought(expected=expected, variance=variance, known=known)


def beyond(moved: Arm, own: Brought, deviations: float = 0.0) -> dict[int, float]:
    """The moved side's failures by caller beyond what it brought, give or take so many standard deviations of it."""
    found: dict[int, float] = {}
    for bit, failed in moved.failing.items():
        expected = own.expected.get(bit)
        if expected is None:
            found[bit] = failed
            continue
        left = failed - expected - deviations * math.sqrt(own.variance[bit])
        if left > 0:
            found[bit] = left
    return found


def more_than_brought(moved: Arm, own: Brought) -> float:
    """How many more failures than they brought those callers have that are known from the control; may be negative."""
    return sum(moved.failing.get(bit, 0) - own.expected.get(bit, 0.0) for bit in bits_of(own.known))


def bits_of(callers: int) -> Iterator[int]:
    """The places of the bits that are set."""
    while callers:
        lowest = callers & -callers
        yield lowest.bit_length() - 1
        callers ^= lowest
