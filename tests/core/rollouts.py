"""A world with a staged rollout: one environment's daemon, and what the one before it tells."""

from typing import Any

import msgspec
from msgspec.structs import replace

from pointsman.core.evidence import Evidence, ProbeKind, Verb
from pointsman.core.latency import latency_cell
from pointsman.core.model import Decision, Plan
from pointsman.core.ramp_model import Step
from pointsman.core.rollout_model import (
    Bounds,
    Rollout,
    RolloutPhase,
    RolloutPlan,
    RolloutReport,
    StageNews,
    StagePlan,
)
from world import World, plan_of

HOUR_S = 3600.0
MOVES = ("chat", "bedrock", "google")
# Two minutes until a canary is promoted, and no bake.
QUICK = (
    Step(progress_bp=5_000, hold_s=60.0, samples=0),
    Step(progress_bp=10_000, hold_s=0.0, samples=0),
)
CAUSE = "the gateway had no pool of connections; it has one now"


def stage(environment: str, **fields: Any) -> StagePlan:
    """A stage that asks for nothing but its time: four hours, eight after a rollback."""
    return replace(StagePlan(environment=environment, soak_s=4 * HOUR_S, again_soak_s=8 * HOUR_S), **fields)


def rollout_plan(environment: str = "development", **fields: Any) -> Plan:
    """bedrock's share of chat to google in three stages; `fields` are of this environment's stage, or of the plan."""
    own = {name: fields.pop(name) for name in ("steps", "report_hour", "bake_s") if name in fields}
    stages = tuple(
        stage(name, **(fields if name == environment else {}))
        for name in ("development", "staging", "production")
    )
    plan = plan_of({"chat": {"bedrock": 100, "google": 0}, "other": {"bedrock": 50, "google": 50}})
    canary = replace(plan.ramp.canary, steps=own.get("steps", QUICK), bake_s=own.get("bake_s", 0.0))
    moves = dict(zip(("route", "source", "goal"), MOVES, strict=True))
    gateway = RolloutPlan(stages=stages, report_hour=own.get("report_hour", 9), **moves)
    return replace(
        plan,
        environment=environment,
        ramp=replace(plan.ramp, canary=canary),
        rollouts={"gateway": gateway, "elsewhere": replace(gateway, stages=(stage("none"),))},
    )


class RolloutWorld(World):
    """`stages` is what other environments tell, at every decision."""

    def __init__(self, environment: str = "development", **fields: Any) -> None:
        self.stages: tuple[StageNews, ...] = ()
        self.environment = environment
        super().__init__(rollout_plan(environment, **fields))
        self.watched()

    def decide(self, evidence: Evidence) -> Decision:
        here = self.environment
        reports = tuple(replace(report, environment=here) for report in evidence.reports)
        return super().decide(replace(evidence, reports=reports, stages=self.stages))

    @property
    def one(self) -> Rollout:
        return self.state.rollouts["gateway"]

    @property
    def filed(self) -> tuple[RolloutReport, ...]:
        return self.state.reports.get("gateway", ())

    def word(self, verb: Verb, **args: object) -> str:
        """Say it of the rollout, decide, and give the answer."""
        self.say(verb, **{"name": "gateway", **args})
        self.tick()
        return self.answer()

    def watched(self) -> None:
        """Probes are good, and a proxy is alive and routes by the table."""
        for target in ("bedrock", "google"):
            self.probe(target, "ok", ProbeKind.GENERATE)
        if self.table is not None:
            self.serve("p1")

    def pass_(self, duration_s: float, step_s: float = 10.0) -> None:
        """Time that is watched: a decision every `step_s`, with proxies and probes well."""
        for _ in range(round(duration_s / step_s)):
            self.watched()
            self.tick(step_s)

    def traffic(self, target: str = "google", ok: int = 0, failed: int = 0, **extra: Any) -> None:
        """First attempts at `target`; `at_ms` is how long the answers took, `usd` what each of them cost."""
        stamp = self.table.routes["chat"].ramp if self.table else ""
        old = self.reports["p1"].ramps.get(stamp, {}).get(target)
        usd, at_ms = extra.pop("usd", None), extra.pop("at_ms", None)
        if usd is not None:
            extra["cost_usd"] = (old.cost_usd if old else 0.0) + usd * ok
            extra["priced"] = (old.priced if old else 0) + ok
        cells = {latency_cell(at_ms): ok} if at_ms is not None else None
        if extra.pop("streamed", False):
            before = old.first_token_ms if old else {}
            extra["first_token_ms"] = {c: n + before.get(c, 0) for c, n in (cells or {}).items()}
            cells = None
        self.moved("p1", target, ok, failed, latency_ms=cells, **extra)

    def soaking(self, **before: Any) -> None:
        """Start it, and let its canary be promoted; `before` is traffic of the old side meanwhile."""
        self.word(Verb.ROLLOUT_START)
        self.pass_(30.0)
        if before:
            self.traffic("bedrock", **before)
        self.pass_(90.0)
        assert self.one.phase is RolloutPhase.SOAKING, self.one


def go_of(environment: str, decided_s: float, **fields: Any) -> StageNews:
    """That environment's rollout is go since `decided_s`."""
    return StageNews(
        rollout="gateway",
        environment=environment,
        **{"phase": "go", "moves": MOVES, "attempt": 1, "decided_s": decided_s, **fields},
    )


STRICT = Bounds(error_ratio=0.02, latency_factor=1.5, cost_factor=1.0)
LIMIT = Bounds(error_ratio=0.05, latency_factor=2.0, cost_factor=1.5)


def refused(world: RolloutWorld, verb: Verb, **args: object) -> str:
    """What the word was refused with; it changes nothing."""
    before = world.state.rollouts
    text = world.word(verb, **args)
    assert world.decision is not None
    assert not world.decision.answers[-1].ok
    assert {n: replace(o, looked_s=0.0, watched_s=0.0) for n, o in world.state.rollouts.items()} == {
        n: replace(o, looked_s=0.0, watched_s=0.0) for n, o in before.items()
    }
    return text


def in_phase(phase: str, environment: str = "development", **fields: Any) -> RolloutWorld:
    """A rollout that has come to stand there by itself."""
    world = RolloutWorld(environment, **fields)
    if phase == "none":
        return world
    world.word(Verb.ROLLOUT_START)
    if phase == "waiting":
        return world
    if phase in {"soaking", "approving", "go", "rolled_back"}:
        world.pass_(120.0)
    if phase in {"approving", "go"}:
        world.pass_(4 * HOUR_S)
    if phase == "rolled_back":
        world.word(Verb.ROLLOUT_STOP)
    if phase == "stopped":
        world.pass_(120.0)
        world.word(Verb.ROLLOUT_STOP, keep=True)
    assert world.one.phase.value == phase
    return world


def apply(world: RolloutWorld, plan: Plan) -> None:
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan))
    world.tick()


def overlaid(world: RolloutWorld) -> None:
    world.say(Verb.PIN, route="chat", shares_bp={"bedrock": 10_000}, for_s=3600.0)


def rebased(world: RolloutWorld) -> None:
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 9_000, "bedrock": 1_000})
