"""One ramp and what surrounds it, in few words."""

from typing import Any

from msgspec.structs import replace

from pointsman.core import ramp as machine
from pointsman.core.arms import opened
from pointsman.core.gates.sight import Facts, Sight
from pointsman.core.ramp_model import Arm, Finding, Ramp, RampKind, RampPhase, RampPolicy, Step, Tally
from world import NOON_S

MANY = (1 << 63) - 1
STEPS = (
    Step(progress_bp=1_000, hold_s=60.0, samples=50),
    Step(progress_bp=5_000, hold_s=30.0, samples=50),
    Step(progress_bp=10_000, hold_s=0.0, samples=0),
)
POLICY = RampPolicy(steps=STEPS, bake_s=0.0, max_hold_s=600.0)
CANARY = Ramp(
    id="r", kind=RampKind.CANARY, route="chat", source="bedrock", goal="google",
    from_bp={"bedrock": 10_000}, to_bp={"google": 10_000}, policy=POLICY, owner="ann", reason="a test",
    created_s=NOON_S, looked_s=NOON_S,
)  # fmt: skip
OUT = {"bedrock": "cooldown until 12:10:00"}
GOAL_OUT = {"google": "cooldown until 12:10:00"}


def a_ramp(kind: RampKind = RampKind.CANARY, **fields: Any) -> Ramp:
    """A ramp that has not begun; what is not of a Ramp is of its policy."""
    own = {name: value for name, value in fields.items() if name in Ramp.__struct_fields__}
    rules = {name: value for name, value in fields.items() if name not in own}
    return replace(CANARY, kind=kind, policy=replace(POLICY, **rules), **own)


def begun(ramp: Ramp = CANARY, step: int = 0, **fields: Any) -> Ramp:
    """The ramp, observed in a step that is served everywhere."""
    return replace(
        opened(replace(ramp, phase=RampPhase.OBSERVING, step=step, entry=ramp.entry + 1, since_s=NOON_S)),
        **fields,
    )


def seen(
    ramp: Ramp, moved: tuple[int, int] = (0, 0), control: tuple[int, int] = (0, 0), **fields: Any
) -> Ramp:
    """The ramp after (good, failed) requests of each side under its present stamp; `fields` are of both arms."""
    arms = {
        target: Arm(
            ok=ok, failed=failed, **{"callers": MANY, "callers_failing": MANY if failed else 0, **fields}
        )
        for target, (ok, failed) in ((ramp.goal, moved), (ramp.source, control))
    }
    return replace(ramp, tallies={**ramp.tallies, ramp.stamp: Tally(step=ramp.step, arms=arms)})


def ready(ramp: Ramp = CANARY, step: int = 0, **fields: Any) -> Ramp:
    """A ramp whose step has nothing left to wait for."""
    return seen(begun(ramp, step, watched_s=1e4, **fields), (100, 0), (100, 0))


def facts(now_s: float = NOON_S, **fields: Any) -> Facts:
    """Served everywhere, nobody out, nobody over it."""
    return Facts(now_s=now_s, **fields)


def looked(ramp: Ramp, after_s: float = 1.0, **fields: Any) -> tuple[Ramp, list[str]]:
    """The ramp one look later, and what was told, as "kind: text"."""
    after, notes = machine.step(ramp, facts(ramp.looked_s + after_s, **fields))
    assert all(note.subject == ramp.route and note.at_s == ramp.looked_s + after_s for note in notes)
    return after, [f"{note.kind}: {note.text}" for note in notes]


def sight(ramp: Ramp, now_s: float = NOON_S, **fields: Any) -> Sight:
    return machine.sight_of(ramp, facts(now_s, **fields))


def found(ramp: Ramp, gate: str) -> Finding:
    return next(finding for finding in ramp.findings if finding.gate == gate)
