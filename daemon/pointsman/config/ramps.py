"""The `ramp` section: by which rules canaries, gradual failovers and failbacks move."""

from typing import Annotated, Final, Literal

from pydantic import Field

from pointsman.config.section import Name, PositiveSeconds, SecretRef, Section
from pointsman.core.model import RampPlan
from pointsman.core.ramp_model import (
    Calendar,
    ExternalGate,
    ExternalKind,
    RampPolicy,
    Step,
)
from pointsman.core.table import FULL_BP

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Percent = Annotated[float, Field(gt=0, le=100)]
LongSeconds = Annotated[float, Field(ge=0, le=31_622_400)]
Ratio = Annotated[float, Field(gt=0, lt=1)]


class CalendarSettings(Section):
    """When steps may be taken, by the clock of `zone` (a name as Europe/Berlin). No `days` means every day."""

    zone: str = "UTC"
    days: tuple[Day, ...] = ()
    not_before: str = "00:00"
    not_after: str = "24:00"
    month_end_days: Annotated[int, Field(ge=0, le=28)] = 0
    blackout: tuple[str, ...] = ()


class ExternalGateSettings(Section):
    """A gate outside: a webhook that is POSTed the ramp, or a Prometheus query. `credential` is sent as a bearer."""

    name: Name
    kind: Literal["webhook", "prometheus"]
    url: str
    query: str = ""
    hold_above: float | None = None
    abort_above: float | None = None
    interval_s: PositiveSeconds = 15.0
    timeout_s: PositiveSeconds = 5.0
    fresh_s: PositiveSeconds = 60.0
    credential: SecretRef | None = None


class RampKindSettings(Section):
    """One kind of ramp. `steps` in percent of the way; `samples` per step, the last repeats; see RampPolicy."""

    steps: tuple[Percent, ...] = (5, 10, 25, 50, 75, 100)
    first_hold_s: LongSeconds = 300.0
    hold_s: LongSeconds = 120.0
    samples: tuple[Annotated[int, Field(ge=0, le=10_000_000)], ...] = (60, 150, 300)
    pass_ratio: Ratio = 0.02
    abort_ratio: Ratio = 0.05
    abort_excess: Ratio = 0.05
    abort_evidence: Annotated[float, Field(ge=10, le=1e6)] = 100.0
    failing_callers: Annotated[int, Field(ge=1, le=32)] = 3
    latency_factor: Annotated[float, Field(gt=1, le=100)] = 1.5
    latency_limit_ms: Annotated[float, Field(gt=0, le=600_000)] = 30_000.0
    cost_factor: Annotated[float, Field(gt=1, le=100)] = 1.2
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    require: tuple[Literal["latency", "cost", "accuracy", "cache_hits"], ...] = ()
    approvals: tuple[Percent, ...] = ()
    calendar: CalendarSettings | None = None
    gates: tuple[ExternalGateSettings, ...] = ()
    max_hold_s: LongSeconds = 14_400.0
    bake_s: LongSeconds = 1_800.0
    control: Annotated[float, Field(ge=0, le=50)] = 5
    unwatched_s: Annotated[float, Field(ge=10, le=86_400)] = 60.0
    synthetic: bool = False


class FailoverSettings(RampKindSettings):
    """A gradual failover: what is left of the share is 50, 25, 0 %."""

    steps: tuple[Percent, ...] = (50, 75, 100)
    first_hold_s: LongSeconds = 60.0
    hold_s: LongSeconds = 60.0
    samples: tuple[Annotated[int, Field(ge=0, le=10_000_000)], ...] = (20,)
    max_hold_s: LongSeconds = 900.0
    bake_s: LongSeconds = 0.0


class FailbackSettings(RampKindSettings):
    """A failback: the runbook's steps with its holds of three minutes."""

    steps: tuple[Percent, ...] = (10, 25, 50, 75, 100)
    first_hold_s: LongSeconds = 180.0
    hold_s: LongSeconds = 180.0
    max_hold_s: LongSeconds = 3_600.0
    bake_s: LongSeconds = 0.0


class RampSettings(Section):
    """The rules of each kind of ramp."""

    canary: RampKindSettings = RampKindSettings()
    failover: FailoverSettings = FailoverSettings()
    failback: FailbackSettings = FailbackSettings()


def ramp_plan(settings: RampSettings) -> RampPlan:
    """The rules as the core reads them. Credentials stay behind: a plan holds no secret and no reference to one."""
    return RampPlan(
        canary=_policy(settings.canary),
        failover=_policy(settings.failover),
        failback=_policy(settings.failback),
    )


def steps_of(kind: RampKindSettings) -> tuple[Step, ...]:
    """The steps; the last one, all the way, asks for nothing itself."""
    steps: list[Step] = []
    for place, percent in enumerate(kind.steps):
        progress_bp = round(percent * 100)
        last = progress_bp == FULL_BP
        floor = kind.samples[min(place, len(kind.samples) - 1)] if kind.samples else 0
        hold_s = kind.hold_s if place else kind.first_hold_s
        steps.append(
            Step(progress_bp=progress_bp, hold_s=0 if last else hold_s, samples=0 if last else floor)
        )
    return tuple(steps)


def _policy(kind: RampKindSettings) -> RampPolicy:
    return RampPolicy(
        steps=steps_of(kind),
        pass_ratio=kind.pass_ratio,
        abort_ratio=kind.abort_ratio,
        abort_excess=kind.abort_excess,
        abort_evidence=kind.abort_evidence,
        failing_callers=kind.failing_callers,
        latency_factor=kind.latency_factor,
        latency_limit_ms=kind.latency_limit_ms,
        cost_factor=kind.cost_factor,
        budget_usd=kind.budget_usd,
        require=kind.require,
        approvals=tuple(round(percent * 100) for percent in kind.approvals),
        calendar=_calendar(kind.calendar),
        external=tuple(_external(gate) for gate in kind.gates),
        max_hold_s=kind.max_hold_s,
        bake_s=kind.bake_s,
        control_bp=round(kind.control * 100),
        unwatched_s=kind.unwatched_s,
        synthetic=kind.synthetic,
    )


def _calendar(calendar: CalendarSettings | None) -> Calendar | None:
    if calendar is None:
        return None
    return Calendar(
        zone=calendar.zone,
        days=tuple(DAYS.index(day) for day in calendar.days),
        from_=calendar.not_before,
        until=calendar.not_after,
        month_end_days=calendar.month_end_days,
        blackout=calendar.blackout,
    )


def _external(gate: ExternalGateSettings) -> ExternalGate:
    return ExternalGate(
        name=gate.name,
        kind=ExternalKind(gate.kind),
        url=gate.url,
        query=gate.query,
        hold_above=gate.hold_above,
        abort_above=gate.abort_above,
        interval_s=gate.interval_s,
        timeout_s=gate.timeout_s,
        fresh_s=gate.fresh_s,
    )
