"""A cadence over a small plan, and time that is played through it."""

import math

from pointsman.core.cadence import Attention, Cadence, Probe, ProbeTiming
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Family, Phase, Plan, Provider, Target

REACH = Probe(ProbeKind.REACH, "p0")
GENERATE = Probe(ProbeKind.GENERATE, "p0", "p0-0")


def plan_of(providers: int = 1, targets: int = 1) -> Plan:
    names = [f"p{number}" for number in range(providers)]
    made = [
        Target(name=f"{name}-{number}", provider=name, model="m")
        for name in names
        for number in range(targets)
    ]
    return Plan(
        environment="e",
        fleet="f",
        providers={
            name: Provider(name=name, family=Family.OPENAI, base_url="http://127.0.0.1") for name in names
        },
        targets={target.name: target for target in made},
        routes={},
    )


def cadence_of(
    plan: Plan | None = None, *, timing: ProbeTiming | None = None, now_s: float = 0.0, seed: str = ""
) -> Cadence:
    plan = plan or plan_of()
    made = Cadence(dict.fromkeys(plan.providers, timing or ProbeTiming()), seed=seed)
    made.attend(Attention(plan=plan), now_s)
    return made


def run(cadence: Cadence, start_s: float, end_s: float, *, takes_s: float = 0.0) -> list[tuple[float, Probe]]:
    """Play time from event to event; every probe is over `takes_s` after its start."""
    started: list[tuple[float, Probe]] = []
    running: list[tuple[float, Probe]] = []
    while True:
        ends = [over_s for over_s, _ in running]
        now_s = max(start_s, min([cadence.next_due_s or math.inf, *ends]))
        if now_s > end_s:
            return started
        for over_s, probe in [item for item in running if item[0] <= now_s]:
            running.remove((over_s, probe))
            cadence.done(probe, now_s)
        for probe in cadence.due(now_s):
            started.append((now_s, probe))
            running.append((now_s + takes_s, probe))


def starts(
    cadence: Cadence, probe: Probe, start_s: float, end_s: float, *, takes_s: float = 0.0
) -> list[float]:
    return [at_s for at_s, started in run(cadence, start_s, end_s, takes_s=takes_s) if started == probe]


def with_phase(plan: Plan, phase: Phase, target: str = "p0-0") -> Attention:
    return Attention(plan=plan, phases={target: phase})
