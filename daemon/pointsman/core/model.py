"""The nouns: what the operator wants (Plan), what is remembered (State), what is decided (Decision).

All of them are immutable. Times ending in `_s` are seconds since 1970 by the store's clock; durations say
what they are a duration of. Shares are whole basis points (`_bp`), 10,000 to a route.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from pointsman.core.evidence import ArmReport
from pointsman.core.ramp_model import CANARY_STEPS, FAILBACK_STEPS, FAILOVER_STEPS, Ramp, RampPolicy
from pointsman.core.rollout_model import Rollout, RolloutPlan, RolloutReport
from pointsman.core.table import Table, Version

STATE_FORMAT: Final = 1


class Family(StrEnum):
    """A protocol family; a route serves one."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


# --- the plan: the active configuration, as far as deciding needs it. It holds no secret and no reference to one.


class Provider(Struct, frozen=True, kw_only=True):
    """One account at one endpoint. `generate` allows probes that cost tokens."""

    name: str
    family: Family
    base_url: str
    shared_fate: str = ""
    generate: bool = True
    adapter: str = ""  # the kind of provider, as probing knows it ("openai", "anthropic", "openrouter", …)
    headers: dict[str, str] = {}  # constant, not secret: sent with every request to it


class Target(Struct, frozen=True, kw_only=True):
    """A model at a provider: what is healthy or not. `capacity_rps` in requests per second, None if unknown.

    `embeds`: it makes embeddings, and is probed with one; the others make completions.
    """

    name: str
    provider: str
    model: str
    capacity_rps: float | None = None
    embeds: bool = False


class Route(Struct, frozen=True, kw_only=True):
    """The model name that callers ask for. `weights_bp` sum to 10,000; `chain` is the order of falling over."""

    name: str
    family: Family
    weights_bp: dict[str, int]
    chain: tuple[str, ...]
    sticky_by: tuple[str, ...] = ("session",)
    max_attempts: int = 0  # 0: every eligible target


class Policy(Struct, frozen=True, kw_only=True):
    """The thresholds. Defaults are the runbooks'; each is a setting of the same name under `policy`."""

    probe_failures: int = 3
    live_failures: int = 5
    error_ratio: float = 0.05
    error_ratio_window_s: float = 60.0
    error_ratio_min_samples: int = 20
    window_s: float = 300.0
    cooldown_max_s: float = 300.0
    half_open_trials: int = 2
    slow_start_s: float = 60.0
    slow_start_floor: float = 0.10
    quota_recheck_s: float = 300.0
    throttle_default_s: float = 10.0
    soften_s: float = 10.0
    proxy_lost_s: float = 5.0
    publish_min_change_bp: int = 50
    publish_min_gap_s: float = 0.5
    failover_after_s: float = 120.0
    failback_auto: bool = True
    failback_window_s: float = 1800.0
    failback_threshold: float = 0.99
    failback_min_samples: int = 150
    failback_min_stay_s: float = 600.0
    failback_per_hour: int = 2


class RampPlan(Struct, frozen=True, kw_only=True):
    """By which rules the ramps of this installation move; `ramp` in the file."""

    canary: RampPolicy = RampPolicy(steps=CANARY_STEPS)
    failover: RampPolicy = RampPolicy(steps=FAILOVER_STEPS, bake_s=0.0, max_hold_s=900.0)
    failback: RampPolicy = RampPolicy(steps=FAILBACK_STEPS, bake_s=0.0, max_hold_s=3600.0)


class Plan(Struct, frozen=True, kw_only=True):
    """The active configuration. `revision` is the store's; `digest` identifies the content."""

    environment: str
    fleet: str
    providers: dict[str, Provider]
    targets: dict[str, Target]
    routes: dict[str, Route]
    policy: Policy = Policy()
    ramp: RampPlan = RampPlan()
    rollouts: dict[str, RolloutPlan] = {}
    revision: int = 0
    digest: str = ""


# --- the state: what is remembered between two decisions


class Phase(StrEnum):
    """Where a target's breaker stands; the transitions are in core/breaker.py."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    COOLDOWN = "cooldown"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


class Bucket(Struct, frozen=True, array_like=True):
    """Outcomes per class that fell into one slice of the rolling window (`start_s` + 10 s)."""

    start_s: float
    counts: dict[str, int]


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one target.

    `failures` picks the cooldown's tier and is cleared only by a completed recovery. `throttled_until_s`,
    `softened_until_s` and `barred` are separate axes, not phases. `back_s` is when it last came back into
    service on any axis, and starts its slow start; `generation` grows with it, so that a proxy which ejected
    it by itself knows to forget that. `doubt_s` is when the present run of failed probes began; `retry_at_s`
    until when the target asks to be left alone, in failures since its last success.
    `throttles` counts the rate limits that followed each other within a slow start. `barred_for` is the class of
    what bars; `reach_refused`: reach probes are refused and generations succeed. `window` counts in every phase;
    the error ratio is that of what came in since `ratio_since_s`. `probes`: good and failed ones by minute, for the
    failback; `out_since_s`: since when it is out of service by its breaker; `trips`: the times of its last trips.
    """

    phase: Phase = Phase.UNKNOWN
    since_s: float = 0.0
    reach_streak: int = 0
    generate_streak: int = 0
    live_streak: int = 0
    doubt_s: float = 0.0
    doubt_silent: bool = False
    failures: int = 0
    trials_ok: int = 0
    grant: int = 0
    grant_s: float = 0.0
    grant_counted: int = 0
    cooldown_until_s: float = 0.0
    throttled_until_s: float = 0.0
    softened_until_s: float = 0.0
    throttled: str = ""
    throttles: int = 0
    barred: str = ""
    barred_by: str = ""
    barred_for: str = ""
    barred_until_s: float = 0.0
    bar_streak: int = 0
    reach_refused: bool = False
    refuses: bool = False
    generation: int = 0
    back_s: float = 0.0
    retry_at_s: float = 0.0
    last_success_s: float = 0.0
    last_live_success_s: float = 0.0
    last_failure_s: float = 0.0
    last_failure: str = ""
    reason: str = ""
    ratio_since_s: float = 0.0
    window: tuple[Bucket, ...] = ()
    probes: tuple[Bucket, ...] = ()
    out_since_s: float = 0.0
    trips: tuple[float, ...] = ()


class OverlayKind(StrEnum):
    """Who asks for other shares than the baseline's; stronger ones first."""

    EMERGENCY = "emergency"
    MANUAL = "manual"
    FAILOVER = "failover"
    CANARY = "canary"
    DRILL = "drill"


class OnExpiry(StrEnum):
    """What a proxy does by itself when an overlay's time is over."""

    DROP = "drop"
    KEEP = "keep"


class Overlay(Struct, frozen=True, kw_only=True):
    """A temporary change of one route's shares over its baseline. `force` feeds dead targets too.

    Of a failover: `away` are the targets that were left, `auto_back` lets the failback begin by itself, `returns` are
    the times when failbacks from it began.
    """

    id: str
    kind: OverlayKind
    route: str
    shares_bp: dict[str, int]
    owner: str
    reason: str
    created_s: float
    not_after_s: float
    on_expiry: OnExpiry
    force: bool = False
    away: tuple[str, ...] = ()
    auto_back: bool = False
    returns: tuple[float, ...] = ()


class Baseline(Struct, frozen=True, kw_only=True):
    """A route's shares when nothing temporary applies. `file_bp` is what the file said when it was last read."""

    shares_bp: dict[str, int]
    file_bp: dict[str, int]
    author: str
    reason: str
    at_s: float
    revision: int


class Drain(Struct, frozen=True, kw_only=True):
    """A target that an operator takes out of service, gently: its share goes down to nothing within `over_s`."""

    owner: str
    reason: str
    at_s: float
    over_s: float = 0.0


class Freeze(Struct, frozen=True, kw_only=True):
    """Until `until_s` nothing moves that is not an abort or an emergency."""

    owner: str
    reason: str
    until_s: float


class Vantage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the leader remembers of one proxy: its last report, so that the next gives differences.

    `started_s`: its boot; `twin`: another proxy reports under the same name. `troubled`: it fails at every provider
    (core/trouble.py), and what it says of them counts for nothing; `troubled_s` is when a report last showed that.
    """

    boot: str
    seq: int
    seen_s: float
    started_s: float = 0.0
    twin: bool = False
    counts: dict[str, dict[str, int]] = {}
    missing: dict[str, str] = {}
    formats: tuple[int, ...] = (1,)
    troubled: bool = False
    troubled_s: float = 0.0
    serving: Version | None = None
    arms: dict[str, dict[str, ArmReport]] = {}


class Path(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The way from the leader to one provider: when a probe last got an answer, and when it last got none."""

    answered_s: float = 0.0
    silent_s: float = 0.0
    detail: str = ""


class State(Struct, frozen=True, kw_only=True):
    """Everything that a decision needs from the last one. `words_cursor` makes a word act exactly once.

    `ramps`: route → the ramp that moves it, or the last one that did. `rollouts`: name → this environment's stage of
    it; `reports`: name → its last reports, the newest last.
    """

    format: int = STATE_FORMAT
    revision: int = 0
    health: dict[str, Health] = {}
    baselines: dict[str, Baseline] = {}
    overlays: tuple[Overlay, ...] = ()
    drains: dict[str, Drain] = {}
    vantages: dict[str, Vantage] = {}
    words_cursor: str = "0-0"
    paths: dict[str, Path] = {}
    egress_suspect: bool = False
    plan: Plan | None = None
    ramps: dict[str, Ramp] = {}
    freeze: Freeze | None = None
    rollouts: dict[str, Rollout] = {}
    reports: dict[str, tuple[RolloutReport, ...]] = {}


# --- the decision


class Note(Struct, frozen=True, kw_only=True):
    """Something that happened, for the event stream and the log. `text` is a sentence with its numbers."""

    at_s: float
    kind: str
    subject: str
    text: str
    data: dict[str, str | int | float] = {}


class Answer(Struct, frozen=True, kw_only=True):
    """What an operator's word led to. `ok` False: refused, and `text` says why and what to do."""

    word: str
    ok: bool
    text: str


class Decision(Struct, frozen=True, kw_only=True):
    """What to save, what to publish (None: nothing new), what to tell.

    `reasons[route][target]` is a sentence beside each share; `urgent` says that the publication is not to wait
    for the minimum gap.
    """

    state: State
    table: Table | None
    reasons: dict[str, dict[str, str]]
    notes: tuple[Note, ...] = ()
    answers: tuple[Answer, ...] = ()
    urgent: bool = False
    yields: bool = False
    deadlines: dict[str, float] = field(default_factory=dict)
