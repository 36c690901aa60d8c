"""Reports and probes in few words, and what is gathered from them."""

from typing import Any

from pointsman.core.evidence import (
    Evidence,
    Lane,
    ProbeKind,
    ProbeResult,
    Report,
    TargetReport,
)
from pointsman.core.health import (
    Gathered,
    gather,
)
from pointsman.core.model import Path, State
from world import CHAT, NOON_S, outcome, plan_of

PLAN = plan_of(CHAT)
ANSWERING = {name: Path(answered_s=NOON_S) for name in PLAN.providers}


def report(
    proxy: str = "p1", seq: int = 1, targets: dict[str, TargetReport] | None = None, **fields: Any
) -> Report:
    given = {"boot": "b1", "environment": "production", "fleet": "default", "started_s": NOON_S, **fields}
    return Report(proxy=proxy, seq=seq, targets=targets or {}, **given)


def probe(
    provider: str, text: str, kind: ProbeKind = ProbeKind.REACH, at_s: float = NOON_S, **fields: Any
) -> ProbeResult:
    given = {"target": "" if kind is ProbeKind.REACH else provider, "vantage": "control", **fields}
    return ProbeResult(provider=provider, kind=kind, outcome=outcome(text), at_s=at_s, **given)


def sorted_out(
    *reports: Report, state: State | None = None, now_s: float = NOON_S, **evidence: Any
) -> Gathered:
    return gather(state or State(), Evidence(reports=reports, **evidence), PLAN, now_s)


def remembering(gathered: Gathered, **fields: Any) -> State:
    return State(vantages=gathered.vantages, paths=gathered.paths, **fields)


def seen_counts(gathered: Gathered, target: str = "bedrock") -> dict[str, int]:
    return gathered.seen[target].counts if target in gathered.seen else {}


def counts(
    seq: int = 1, proxy: str = "p1", boot: str = "b1", started_s: float = NOON_S, **more: int
) -> Report:
    return report(proxy, seq, {"bedrock": TargetReport(counts=more)}, boot=boot, started_s=started_s)


def run_of(
    streak: int, since_s: float = NOON_S, last_ok_s: float = 0.0, detail: str = "HTTP 500", **fields: Any
) -> Lane:
    return Lane(streak=streak, since_s=since_s, last_ok_s=last_ok_s, detail=detail, **fields)


def lanes(proxy: str = "p1", generation: int = 0, target: str = "bedrock", **by_lane: Lane) -> Report:
    return report(proxy, targets={target: TargetReport(lanes=by_lane, generation=generation)})
