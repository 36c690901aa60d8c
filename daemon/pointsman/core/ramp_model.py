"""The nouns of ramps: what moves, in which steps, by which rules, and what was seen of it.

Immutable, like all of core/model.py. Times ending in `_s` are seconds since 1970 by the store's clock, or say
what they are a duration of; shares are whole basis points (`_bp`).
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from pointsman.core.table import FULL_BP, Version


class RampKind(StrEnum):
    """What a ramp is for. One machine (core/ramp.py) moves them all; they differ in their policy's defaults."""

    CANARY = "canary"
    FAILOVER = "failover"
    FAILBACK = "failback"
    SHIFT = "shift"


class RampPhase(StrEnum):
    """Where a ramp stands; the transitions are in core/ramp.py."""

    PRECHECK = "precheck"
    SPREADING = "spreading"
    OBSERVING = "observing"
    BAKING = "baking"
    BLOCKED = "blocked"
    PROMOTED = "promoted"
    ABORTED = "aborted"


ENDED: Final = frozenset({RampPhase.PROMOTED, RampPhase.ABORTED})


class Step(Struct, frozen=True, kw_only=True):
    """How far to go (`progress_bp` of the way from `from_bp` to `to_bp`), for how long at least, with how much seen.

    `samples` are requests of the moved side; none of the gates passes with fewer.
    """

    progress_bp: int
    hold_s: float
    samples: int


class Calendar(Struct, frozen=True, kw_only=True):
    """When steps may be taken. `days` 0 is Monday, empty means every day; `from_`/`until` as "10:00".

    `month_end_days`: none in the last so many days of a month; `blackout`: dates as "2026-12-24".
    """

    zone: str = "UTC"
    days: tuple[int, ...] = ()
    from_: str = "00:00"
    until: str = "24:00"
    month_end_days: int = 0
    blackout: tuple[str, ...] = ()


class ExternalKind(StrEnum):
    """Who is asked: a webhook that answers pass, hold or abort; or a Prometheus query compared with bounds."""

    WEBHOOK = "webhook"
    PROMETHEUS = "prometheus"


class ExternalGate(Struct, frozen=True, kw_only=True):
    """A gate outside of pointsman, asked every `interval_s` while a ramp that names it runs.

    Webhook: POST of the ramp as JSON to `url`; the answer is {"verdict": "pass" | "hold" | "abort", "reason": …}.
    Prometheus: `query` at `url`; a value above `abort_above` aborts, above `hold_above` holds, else passes. An
    answer older than `fresh_s` counts as none.
    """

    name: str
    kind: ExternalKind
    url: str
    query: str = ""
    hold_above: float | None = None
    abort_above: float | None = None
    interval_s: float = 15.0
    timeout_s: float = 5.0
    fresh_s: float = 60.0


class RampPolicy(Struct, frozen=True, kw_only=True):
    """By which rules a ramp moves. Each is a setting of the same name under `ramp`.

    `pass_ratio`: up to this error rate a step passes; above `abort_ratio`, or `abort_excess` over the concurrent
    control, it aborts once the sequential evidence is there (`abort_evidence`, a factor by which the data must
    be likelier if the moved side is worse) with failures of `failing_callers` callers. `require`: gates without
    evidence that hold instead of abstaining. `approvals`: the progress (bp) of steps that a person must approve.
    `bake_s`: how long the comparison goes on after promotion, with `control_bp` of the old side's share kept.
    `unwatched_s`: a ramp that no leader looked at for so long is not continued. `max_hold_s`: a longer hold of one
    step rolls back.
    """

    steps: tuple[Step, ...]
    pass_ratio: float = 0.02
    abort_ratio: float = 0.05
    abort_excess: float = 0.05
    abort_evidence: float = 100.0
    failing_callers: int = 3
    latency_factor: float = 1.5
    latency_limit_ms: float = 30_000.0
    cost_factor: float = 1.2
    budget_usd: float | None = None
    accuracy_drop: float = 0.10
    cache_hit_ratio: float | None = None
    require: tuple[str, ...] = ()
    approvals: tuple[int, ...] = ()
    calendar: Calendar | None = None
    external: tuple[ExternalGate, ...] = ()
    max_hold_s: float = 14_400.0
    bake_s: float = 1_800.0
    control_bp: int = 500
    unwatched_s: float = 60.0
    synthetic: bool = False


class Arm(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target's part in a ramp's traffic under one stamp: first attempts that the shares sent there, no fallbacks.

    `failed`: everything that makes a request fall over or breaks its stream; callers' faults are in neither count.
    Histograms as {cell: count} over latency.LATENCY_EDGES_MS, of answers only. `callers*`: 64-bit linear-counting
    maps; `failing`: failures by caller, as far as these can be told apart. `cost_usd` of `priced` requests.
    `synthetic_*` are counted apart.
    """

    ok: int = 0
    failed: int = 0
    latency_ms: dict[int, int] = {}
    first_token_ms: dict[int, int] = {}
    cost_usd: float = 0.0
    priced: int = 0
    callers: int = 0
    callers_failing: int = 0
    failing: dict[int, int] = {}
    synthetic_ok: int = 0
    synthetic_failed: int = 0

    @property
    def requests(self) -> int:
        """Requests of callers, answered or failed."""
        return self.ok + self.failed


class Tally(Struct, frozen=True, kw_only=True):
    """What was seen under one stamp of a ramp, that is while one share was in force: target → its arm."""

    step: int
    arms: dict[str, Arm] = {}


class Verdict(StrEnum):
    """What a gate says. ABSENT: it has no evidence, which is neither pass nor failure."""

    PASS = "pass"  # noqa: S105 – no password
    HOLD = "hold"
    ABORT = "abort"
    ABSENT = "absent"


class Finding(Struct, frozen=True, kw_only=True):
    """A gate's answer: the reason in words for people, and the numbers that it rests on."""

    gate: str
    verdict: Verdict
    why: str
    data: dict[str, float] = {}


class GateAnswer(Struct, frozen=True, kw_only=True):
    """What an external gate answered, as evidence. `at_s` by the store's clock."""

    ramp: str
    gate: str
    verdict: Verdict
    why: str
    at_s: float


class Ramp(Struct, frozen=True, kw_only=True):
    """A movement of one route's shares from `from_bp` to `to_bp`, and how far it has come.

    `step` is the index of the step in force (−1 before the first); `entry` counts entries into steps, so that
    what was seen under one share is never mixed with another's. `watched_s` is how long a leader has watched the
    present step while it was serving everywhere, `held_s` how long past its dwell; both count time only between
    looks that were close to each other, so that no leap of a clock moves a ramp. `looked_s` is the last look.
    `hold` is why it does not go on ("" if nothing keeps it), `held_by` the gates of it that were told. `trouble`:
    (watched_s, requests, failed) of the control when a ramp frozen by its trouble last looked back. `overruled`: the
    entry whose holds an operator has overruled. `wanted`: the step that an operator sent it to, −1 for none. `ended` is
    how it ended, for people. `before`: the baseline that an abort after promotion restores.
    """

    id: str
    kind: RampKind
    route: str
    source: str
    goal: str
    from_bp: dict[str, int]
    to_bp: dict[str, int]
    policy: RampPolicy
    owner: str
    reason: str
    created_s: float
    phase: RampPhase = RampPhase.PRECHECK
    step: int = -1
    entry: int = 0
    since_s: float = 0.0
    looked_s: float = 0.0
    watched_s: float = 0.0
    held_s: float = 0.0
    spread: Version | None = None
    hold: str = ""
    held_by: tuple[str, ...] = ()
    paused: str = ""
    overruled: int = -1
    approved: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    answers: dict[str, GateAnswer] = {}
    tallies: dict[str, Tally] = {}
    tripped_s: float = 0.0
    trouble: tuple[float, int, int] | None = None
    before: dict[str, int] | None = None
    aborting: str = ""
    wanted: int = -1
    wanted_why: str = ""
    ended: str = ""
    ended_s: float = 0.0

    @property
    def stamp(self) -> str:
        """What requests are counted under while the present share is in force."""
        return f"{self.id}#{self.entry}" if self.phase is not RampPhase.PRECHECK else ""

    @property
    def progress_bp(self) -> int:
        """How far of the way is in force."""
        if self.phase in {RampPhase.PRECHECK, RampPhase.ABORTED} or self.step < 0:
            return 0
        if self.phase is RampPhase.BAKING:
            return FULL_BP - self.policy.control_bp
        return self.policy.steps[min(self.step, len(self.policy.steps) - 1)].progress_bp

    @property
    def losers(self) -> tuple[str, ...]:
        """The side that traffic moves away from: the control."""
        return tuple(t for t, share in self.from_bp.items() if share > self.to_bp.get(t, 0))

    @property
    def gainers(self) -> tuple[str, ...]:
        """The side that traffic moves to."""
        return tuple(t for t, share in self.to_bp.items() if share > self.from_bp.get(t, 0))


def _steps(*plan: tuple[int, float, int]) -> tuple[Step, ...]:
    return tuple(Step(progress_bp=percent * 100, hold_s=hold, samples=n) for percent, hold, n in plan)


# The runbooks' steps. Sample floors by the rule of three: no error in 60, 150, 300 requests bounds the rate below
# 5, 2, 1 % with 95 % confidence.
CANARY_STEPS: Final = _steps(
    (5, 300, 60), (10, 120, 150), (25, 120, 300), (50, 120, 300), (75, 120, 300), (100, 0, 0)
)
FAILBACK_STEPS: Final = _steps((10, 180, 60), (25, 180, 150), (50, 180, 300), (75, 180, 300), (100, 0, 0))
FAILOVER_STEPS: Final = _steps((50, 60, 20), (75, 60, 20), (100, 0, 0))
