"""The nouns of staged rollouts: the plan over environments, where one environment stands, what was seen and reported.

Immutable, like all of core/model.py. Times ending in `_s` are seconds since 1970 by the store's clock, or say
what they are a duration of.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from pointsman.core.ramp_model import Arm, Finding


class Bounds(Struct, frozen=True, kw_only=True):
    """Up to where a stage is go, or from where it is no-go; None: that is not asked.

    `error_ratio`: failed of all requests. `latency_factor`: p95 as a multiple of what it was on the old side.
    `cost_factor`: the cost of a request likewise. `cache_hit_ratio`: hits of the response cache of all requests.
    """

    error_ratio: float | None = None
    latency_factor: float | None = None
    cost_factor: float | None = None
    cache_hit_ratio: float | None = None


class StagePlan(Struct, frozen=True, kw_only=True):
    """What one environment asks of a rollout. `soak_s`: how long it is watched after the canary's promotion,
    `again_soak_s` after a rollback; `approval`: a person must say yes before it is go.
    """

    environment: str
    soak_s: float
    again_soak_s: float
    min_requests: int = 0
    go: Bounds = Bounds()
    no_go: Bounds = Bounds()
    approval: bool = False


class RolloutPlan(Struct, frozen=True, kw_only=True):
    """A staged rollout: `source`'s share of `route` goes to `goal`, one environment of `stages` after the other.

    `report_hour`: the hour of the day, UTC, at which daily and weekly reports are written.
    """

    route: str
    source: str
    goal: str
    stages: tuple[StagePlan, ...]
    report_hour: int = 0

    def place(self, environment: str) -> int:
        """Which of the stages is this environment's; −1 if none is."""
        return next((i for i, stage in enumerate(self.stages) if stage.environment == environment), -1)


class RolloutPhase(StrEnum):
    """Where this environment's stage stands; the transitions are in core/rollout.py."""

    WAITING = "waiting"
    RAMPING = "ramping"
    SOAKING = "soaking"
    APPROVING = "approving"
    BLOCKED = "blocked"
    GO = "go"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


RUNNING: Final = frozenset(
    {
        RolloutPhase.WAITING,
        RolloutPhase.RAMPING,
        RolloutPhase.SOAKING,
        RolloutPhase.APPROVING,
        RolloutPhase.BLOCKED,
    }
)
# While the traffic is on the new side and is watched.
SERVING: Final = frozenset({RolloutPhase.SOAKING, RolloutPhase.APPROVING, RolloutPhase.BLOCKED})
MOVED: Final = frozenset({RolloutPhase.RAMPING, *SERVING})


class Seen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen of the new and of the old side since `since_s`, and what happened (`issues`, sentences)."""

    since_s: float
    new: Arm = Arm()
    old: Arm = Arm()
    issues: tuple[str, ...] = ()


class Rollout(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One environment's stage of a rollout, in its `attempt`-th attempt.

    `stage`: its rules, as they were when the attempt began; `previous`: the environment whose go it waits for ("":
    none), `cleared`: why that counts as given, `not_before_s`: an older go does not. `ramp`: the canary's id;
    `before_bp`, `after_bp`: the baseline before and after its promotion. `watched_s`: how long the soak was watched
    with all of the traffic where it belongs; only time between close looks counts. `before`: what the old side did
    while the canary ran, to compare with. `hour`, `day`, `week`, `total`: what was seen since then; `day` and `week`
    begin anew with each report, `hour` every hour. `hold` is why it does not go on, `held_by` what of it was told.
    `overruled`: criterion → who passed it and why. `root_cause`: of the last rollback, from the second attempt on.
    `stopping`: who takes it back, and why. `out_s`: since when the new side is out of service.
    """

    name: str
    route: str
    source: str
    goal: str
    stage: StagePlan
    report_hour: int
    owner: str
    reason: str
    created_s: float
    phase: RolloutPhase
    since_s: float
    looked_s: float
    total: Seen
    week: Seen
    day: Seen
    hour: Seen
    attempt: int = 1
    root_cause: str = ""
    previous: str = ""
    cleared: str = ""
    not_before_s: float = 0.0
    ramp: str = ""
    before_bp: dict[str, int] = {}
    after_bp: dict[str, int] = {}
    before: Arm = Arm()
    watched_s: float = 0.0
    findings: tuple[Finding, ...] = ()
    hold: str = ""
    held_by: tuple[str, ...] = ()
    overruled: dict[str, str] = {}
    approved: str = ""
    stopping: str = ""
    out_s: float = 0.0
    ended: str = ""
    decided_s: float = 0.0

    @property
    def environment(self) -> str:
        """Whose stage this is."""
        return self.stage.environment

    @property
    def soak_s(self) -> float:
        """How long it is to be watched: longer after a rollback."""
        return self.stage.again_soak_s if self.root_cause else self.stage.soak_s

    @property
    def stamp(self) -> str:
        """What requests of its route are counted under while no ramp moves it ("": they are not)."""
        return f"rollout:{self.name}#{self.attempt}" if self.phase in SERVING else ""

    @property
    def awaits(self) -> str:
        """The environment whose go it waits for now, or ""."""
        return self.previous if self.phase is RolloutPhase.WAITING and not self.cleared else ""


class StageNews(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a rollout stands in another environment, as its store tells. `told`: why there is nothing to tell."""

    rollout: str
    environment: str
    phase: str = ""
    moves: tuple[str, str, str] = ("", "", "")
    attempt: int = 0
    decided_s: float = 0.0
    told: str = ""


class ReportKind(StrEnum):
    """When a report is written: at the end of a stage, every day, every seventh day."""

    STAGE = "stage"
    DAILY = "daily"
    WEEKLY = "weekly"


class RolloutReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rollout did between `since_s` and `at_s`. Costs in US dollars; None where there is no evidence.

    `cost_before_usd`: what the same requests would have cost on the old side, by its cost per request. `p95` of whole
    answers and of first tokens, in milliseconds, each with what it was before. `cache_hit_ratio`: of the response
    cache. `number`: the day or week of the attempt that it closes.
    """

    rollout: str
    kind: ReportKind
    environment: str
    route: str
    source: str
    goal: str
    attempt: int
    phase: RolloutPhase
    began_s: float
    since_s: float
    at_s: float
    number: int = 0
    watched_s: float = 0.0
    soak_s: float = 0.0
    requests: int = 0
    failed: int = 0
    old_requests: int = 0
    old_failed: int = 0
    p95_ms: float | None = None
    p95_before_ms: float | None = None
    first_token_p95_ms: float | None = None
    first_token_p95_before_ms: float | None = None
    cost_usd: float | None = None
    cost_before_usd: float | None = None
    cache_hit_ratio: float | None = None
    root_cause: str = ""
    findings: tuple[Finding, ...] = ()
    issues: tuple[str, ...] = ()
    recommendation: str = ""

    @property
    def savings_usd(self) -> float | None:
        """What was saved; negative where it costs more."""
        if self.cost_usd is None or self.cost_before_usd is None:
            return None
        return self.cost_before_usd - self.cost_usd
