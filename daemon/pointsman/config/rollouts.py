"""The `rollouts` section: plans over environments, with what is go and what is no-go at each."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from pointsman.config.ramps import LongSeconds, Ratio
from pointsman.config.section import Name, Section
from pointsman.core.rollout_model import Bounds, RolloutPlan, StagePlan

Environment = Literal["development", "staging", "production"]
Factor = Annotated[float, Field(gt=0, le=100)]
ENVIRONMENTS: Final[tuple[Environment, ...]] = ("development", "staging", "production")
HOUR_S: Final = 3_600.0
# The runbooks' times, and those after a rollback.
SOAK_S: Final[Mapping[str, tuple[float, float]]] = {
    "development": (24 * HOUR_S, 24 * HOUR_S),
    "staging": (48 * HOUR_S, 72 * HOUR_S),
    "production": (7 * 24 * HOUR_S, 14 * 24 * HOUR_S),
}


class BoundSettings(Section):
    """Bounds of one stage; null: not asked. Latency and cost as multiples of the old side's."""

    error_ratio: Ratio | None = None
    latency_factor: Factor | None = None
    cost_factor: Factor | None = None
    cache_hit_ratio: Ratio | None = None


class GoSettings(BoundSettings):
    """Up to where a stage is go."""

    error_ratio: Ratio | None = 0.02
    latency_factor: Factor | None = 1.5


class NoGoSettings(BoundSettings):
    """From where it is no-go, and rolled back; between the two it holds."""

    error_ratio: Ratio | None = 0.05
    latency_factor: Factor | None = 2.0


class StageSettings(Section):
    """One environment. null: 24 h, 48 h and 7 days by environment; after a rollback 24 h, 72 h and 14 days."""

    environment: Environment
    soak_s: LongSeconds | None = None
    again_soak_s: LongSeconds | None = None
    min_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100
    go: GoSettings = GoSettings()
    no_go: NoGoSettings = NoGoSettings()
    approval: bool = False


class RolloutSettings(Section):
    """A staged rollout: the share of target `from` in `route` goes to target `to`, environment after environment."""

    model_config = ConfigDict(serialize_by_alias=True)

    route: str
    source: Annotated[Name, Field(alias="from")]
    goal: Annotated[Name, Field(alias="to")]
    stages: tuple[StageSettings, ...] = tuple(StageSettings(environment=name) for name in ENVIRONMENTS)
    report_hour: Annotated[int, Field(ge=0, le=23)] = 9


def rollout_plans(settings: Mapping[str, RolloutSettings]) -> dict[str, RolloutPlan]:
    """The rollouts as the core reads them."""
    return {name: _plan(rollout) for name, rollout in settings.items()}


def _plan(rollout: RolloutSettings) -> RolloutPlan:
    return RolloutPlan(
        route=rollout.route,
        source=rollout.source,
        goal=rollout.goal,
        stages=tuple(_stage(stage) for stage in rollout.stages),
        report_hour=rollout.report_hour,
    )


def _stage(stage: StageSettings) -> StagePlan:
    soak_s, again_soak_s = SOAK_S[stage.environment]
    if stage.soak_s is not None:
        # Whoever shortens the one has not lengthened the other: it never gets shorter after a rollback.
        soak_s, again_soak_s = stage.soak_s, max(stage.soak_s, again_soak_s)
    return StagePlan(
        environment=stage.environment,
        soak_s=soak_s,
        again_soak_s=again_soak_s if stage.again_soak_s is None else stage.again_soak_s,
        min_requests=stage.min_requests,
        go=_bounds(stage.go),
        no_go=_bounds(stage.no_go),
        approval=stage.approval,
    )


def _bounds(bounds: BoundSettings) -> Bounds:
    return Bounds(
        error_ratio=bounds.error_ratio,
        latency_factor=bounds.latency_factor,
        cost_factor=bounds.cost_factor,
        cache_hit_ratio=bounds.cache_hit_ratio,
    )
