"""One step of one target in few words."""

from typing import Any

from pointsman.core.axes import Context
from pointsman.core.breaker import step
from pointsman.core.errors import Outcome
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.health import Seen
from pointsman.core.model import Health, Phase, Policy
from reports import probe
from world import NOON_S

GENERATE, REACH = ProbeKind.GENERATE, ProbeKind.REACH
HEALTHY = Health(phase=Phase.HEALTHY, since_s=NOON_S - 100)
NEW = Health(since_s=NOON_S)
SUSPECT = Health(phase=Phase.SUSPECT, since_s=NOON_S)
COOLING = Health(
    phase=Phase.COOLDOWN, failures=5, cooldown_until_s=NOON_S + 60, grant=3, reason="x", refuses=True
)
OPEN = Health(
    phase=Phase.HALF_OPEN, failures=5, grant=4, grant_s=NOON_S, since_s=NOON_S, refuses=True, reason="x"
)
BACK = Health(phase=Phase.RECOVERING, failures=5, back_s=NOON_S, since_s=NOON_S, cooldown_until_s=NOON_S - 9)


def context(now_s: float = NOON_S, **fields: Any) -> Context:
    """Of a leader whose way out is proven, unless said otherwise."""
    return Context(**{"policy": Policy(), "path_proven_s": NOON_S + 1e6, "now_s": now_s, **fields})


def probes(*texts: str, kind: ProbeKind = GENERATE, at_s: float = NOON_S) -> Seen:
    return Seen(counts={}, probes=[probe("t", text, kind, at_s) for text in texts], trials=[])


def asked(outcome: Outcome, kind: ProbeKind = GENERATE) -> Seen:
    result = ProbeResult(provider="t", target="t", kind=kind, outcome=outcome, at_s=NOON_S, vantage="control")
    return Seen(counts={}, probes=[result], trials=[])


def live(streak: int | None = None, detail: str = "HTTP 500", last_ok_s: float = 0.0, **counts: int) -> Seen:
    return Seen(
        counts=counts,
        streak=streak,
        streak_detail=detail if streak else "",
        last_ok_s=last_ok_s,
        probes=[],
        trials=[],
    )


def stepped(health: Health, *seen: Seen | None, **fields: Any) -> tuple[Health, list[str]]:
    """The health after each of `seen`, and all that was told, as "kind: text"."""
    told: list[str] = []
    for entry in seen or (None,):
        health, notes = step("t", health, entry, context(**fields))
        told += [f"{note.kind}: {note.text}" for note in notes]
    return health, told
