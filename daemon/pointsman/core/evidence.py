"""What comes in: probe results, the proxies' reports, operators' words.

A report is cumulative since its proxy's boot. Losing one loses nothing, and reading one twice counts nothing
twice: the leader subtracts what it has already counted of the same (proxy, boot).
"""

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from pointsman.core.errors import Outcome
from pointsman.core.ramp_model import GateAnswer
from pointsman.core.rollout_model import StageNews
from pointsman.core.table import Version

EVIDENCE_FORMAT: Final = 1


class ProbeKind(StrEnum):
    """`reach` is free and shows DNS, TLS, edge and credential; `generate` costs tokens and shows the model."""

    REACH = "reach"
    GENERATE = "generate"


class ProbeResult(Struct, frozen=True, kw_only=True):
    """One probe of one target from one vantage. A failed probe is a result, not an exception.

    A reach probe concerns the provider: `target` is empty then.
    """

    provider: str
    target: str
    kind: ProbeKind
    outcome: Outcome
    at_s: float
    vantage: str
    latency_ms: float = 0.0
    first_token_ms: float | None = None


class RateLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tightest of a provider's rate-limit dimensions as last seen: fraction left (0–1), reset in seconds."""

    remaining_ratio: float
    reset_in_s: float = 0.0
    dimension: str = ""


class Lane(Struct, kw_only=True, omit_defaults=True):
    """The latest run of failures in one lane of a target: its streams, or its whole answers ("unary").

    Two lanes, because a target whose streams all break may answer unstreamed requests well, and the successes
    of the one must not hide the failures of the other. `streak` counts the failures for the breaker since the
    last success on this proxy, or since the target's `generation` grew; `since_s` is when the first of them was
    known and `last_ok_s` when the last success was, by the store's clock (0: none yet), so that the leader can
    order what several proxies saw; `times` are those of the run's last failures, `LANE_TIMES` at most. `detail`,
    `refuses` and `silent` (nothing came back, not even an error) are those of the last failure; `retry_at_s` is until
    when the provider asks to be left alone, in the latest word of the run's failures.
    """

    streak: int = 0
    since_s: float = 0.0
    last_ok_s: float = 0.0
    times: tuple[float, ...] = ()
    detail: str = ""
    refuses: bool = False
    silent: bool = False
    retry_at_s: float = 0.0


LANE_TIMES: Final = 8
UNARY: Final = "unary"
STREAM: Final = "stream"


class TargetReport(Struct, kw_only=True, omit_defaults=True):
    """What one proxy saw of one target since its boot. Counts and histograms only grow.

    `counts` by fault class ("ok", "outage", …), and in `stale` those of requests that were sent before the target
    came back into service and ended after: they say nothing of now. `generation` of the target in the table that
    the lanes were counted under; `throttled` is the detail of the last rate limit, `throttled_until_s` and
    `softened_until_s` the provider's word as a time by the store's clock; histograms as {cell: count} over
    `latency.LATENCY_EDGES_MS`; `synthetic` counts are not in `counts`; `grant` is the last trial that was used and
    `grant_outcome` how it ended (a fault class); `callers*` are 64-bit linear-counting maps of the present minute.
    """

    counts: dict[str, int] = {}
    stale: dict[str, int] = {}
    synthetic: dict[str, int] = {}
    latency_ms: dict[int, int] = {}
    first_token_ms: dict[int, int] = {}
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    generation: int = 0
    lanes: dict[str, Lane] = {}
    outstanding: int = 0
    throttled: str = ""
    throttled_until_s: float = 0.0
    softened_until_s: float = 0.0
    barred: str = ""
    rate_limit: RateLimit | None = None
    callers: int = 0
    callers_failing: int = 0
    ejected: bool = False
    grant: int = 0
    grant_outcome: str = ""


class ArmReport(Struct, kw_only=True, omit_defaults=True):
    """What one proxy saw of one target under one stamp of a ramp: only grows, like a TargetReport.

    First attempts that the table's shares sent there, under the table that carried the stamp; no trials, no
    fallbacks, nothing that a local pin or a session of the provider's decided. `counts` and `synthetic` by fault
    class; histograms and maps as in TargetReport, the maps since the stamp began. `cost_usd` is that of the `priced`
    requests, whose answers told their tokens. `failing`: failures by caller (the low six bits of its hash), where there
    are any.
    """

    counts: dict[str, int] = {}
    synthetic: dict[str, int] = {}
    latency_ms: dict[int, int] = {}
    first_token_ms: dict[int, int] = {}
    cost_usd: float = 0.0
    priced: int = 0
    callers: int = 0
    callers_failing: int = 0
    failing: dict[int, int] = {}


class Report(Struct, kw_only=True, omit_defaults=True):
    """A proxy's heartbeat, acknowledgement and outcomes in one blob, about once a second and soon after a failure.

    `accepted` is validated, `serving` is routed by since `served_s`; `rejected` is the reason for refusing a newer one;
    `missing` names targets that this proxy cannot serve (a secret that is not there) with the reason. `ramps`:
    stamp of a ramp → target → its arm, for the stamps of the present tables and the last ones before.
    """

    format: int = EVIDENCE_FORMAT
    proxy: str
    boot: str
    seq: int
    environment: str
    fleet: str
    table_formats: tuple[int, ...] = (1,)
    accepted: Version | None = None
    serving: Version | None = None
    served_s: float = 0.0
    rejected: str = ""
    missing: dict[str, str] = {}
    pinned: str = ""
    started_s: float = 0.0
    address: str = ""
    targets: dict[str, TargetReport] = {}
    ramps: dict[str, dict[str, ArmReport]] = {}


class Verb(StrEnum):
    """What an operator can ask for; the arguments are checked in core/words.py."""

    APPLY_PLAN = "apply_plan"
    SET_WEIGHTS = "set_weights"
    FAILOVER = "failover"
    FAILBACK = "failback"
    ROLLBACK = "rollback"
    PIN = "pin"
    UNPIN = "unpin"
    RESET = "reset"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    CANARY = "canary"
    RAMP_PAUSE = "ramp_pause"
    RAMP_RESUME = "ramp_resume"
    RAMP_SET = "ramp_set"
    RAMP_PROMOTE = "ramp_promote"
    RAMP_ABORT = "ramp_abort"
    RAMP_APPROVE = "ramp_approve"
    RAMP_OVERRULE = "ramp_overrule"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    ROLLOUT_START = "rollout_start"
    ROLLOUT_GO = "rollout_go"
    ROLLOUT_APPROVE = "rollout_approve"
    ROLLOUT_AGAIN = "rollout_again"
    ROLLOUT_STOP = "rollout_stop"
    ROLLOUT_OVERRULE = "rollout_overrule"


class Word(Struct, frozen=True, kw_only=True):
    """An operator's word. `id` is its place in the stream of words; `args` are the verb's own."""

    id: str
    verb: Verb
    author: str
    reason: str
    args: dict[str, Any] = {}


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything new since the last decision. `reports` are the latest of each proxy, new or not."""

    probes: tuple[ProbeResult, ...] = ()
    reports: tuple[Report, ...] = ()
    words: tuple[Word, ...] = ()
    gates: tuple[GateAnswer, ...] = ()
    stages: tuple[StageNews, ...] = ()
