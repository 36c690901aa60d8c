"""What a gate looks at: the ramp, and what is known around it."""

from collections.abc import Mapping

from msgspec import Struct

from pointsman.core.arms import Sides
from pointsman.core.ramp_model import Arm, Finding, Ramp, Step, Verdict


class Facts(Struct, frozen=True, kw_only=True):
    """What a ramp's next state needs beside what it remembers itself. `now_s` by the store's clock.

    `published`: the table that proxies read carries the ramp's stamp; `lagging`: live proxies that do not route by it
    yet; `proxies`: how many live. `out`: target → why it gets nothing now. `answered_s`: target → its last success.
    `overdue`: target → open requests that have waited far longer than is usual there.
    `over`: the stronger overlay that lies over the ramp's, in words.
    `frozen`: who froze all movement and why.
    """

    now_s: float
    published: bool = True
    lagging: tuple[str, ...] = ()
    proxies: int = 1
    out: Mapping[str, str] = {}
    answered_s: Mapping[str, float] = {}
    overdue: Mapping[str, int] = {}
    over: str = ""
    frozen: str = ""


class Sight(Struct, frozen=True, kw_only=True):
    """A ramp and its surroundings as gates see them.

    `sides`: what was seen since the present step began; `stamps`: of every step, each by itself, for what a growing
    share would blur.
    """

    ramp: Ramp
    step: Step
    facts: Facts
    sides: Sides
    stamps: tuple[tuple[Arm, Arm], ...]

    @property
    def baking(self) -> bool:
        """Is the ramp promoted already, and still compared?"""
        return self.ramp.before is not None


def passes(gate: str, why: str, **data: float) -> Finding:
    return Finding(gate=gate, verdict=Verdict.PASS, why=why, data=data)


def holds(gate: str, why: str, **data: float) -> Finding:
    return Finding(gate=gate, verdict=Verdict.HOLD, why=why, data=data)


def aborts(gate: str, why: str, **data: float) -> Finding:
    return Finding(gate=gate, verdict=Verdict.ABORT, why=why, data=data)


def absent(sight: Sight, gate: str, why: str) -> Finding:
    """No evidence: it abstains, or holds where the ramp was asked to insist on it."""
    if gate in sight.ramp.policy.require:
        return holds(gate, f"no evidence, and this ramp insists on it: {why}")
    return Finding(gate=gate, verdict=Verdict.ABSENT, why=f"no evidence: {why}")
