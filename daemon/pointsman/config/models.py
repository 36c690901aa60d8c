"""The configuration file as the operator writes it. Every default is here, with its unit in its name.

What one field can say is checked here; what several fields say together is checked in `rules.py`.
"""

from typing import Annotated, Literal

from pydantic import Field

from pointsman.config.ramps import RampSettings
from pointsman.config.rollouts import RolloutSettings
from pointsman.config.section import Name, PositiveSeconds, SecretRef, Section

# A route is the model name that callers send, so it may look like one ("anthropic/claude-haiku-4-5").
RouteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]

# What `pointsman keys new` prints: a caller's key stands nowhere.
KeyHash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ProbeSettings(Section):
    """How a provider is probed. `generate: false` spares its tokens; half-open then uses live trials."""

    reach_interval_s: PositiveSeconds = 10.0
    generate_interval_s: PositiveSeconds = 30.0
    # A target that swallows packets takes the whole deadline three times: it is found after at most
    # 10 × 1.1 + 3 × 4 = 23 s, under the bound of 30 s (policy.detection_bound_s).
    reach_timeout_s: PositiveSeconds = 4.0
    generate_timeout_s: PositiveSeconds = 10.0
    suspect_gap_s: PositiveSeconds = 2.0
    generate: bool = True
    # Under 16 some APIs answer 400, and reasoning models with nothing: a healthy target would be ejected.
    generate_max_tokens: Annotated[int, Field(ge=16, le=4096)] = 16
    budget_usd_per_day: Annotated[float, Field(ge=0)] = 1.0


class PriceSettings(Section):
    """US dollars per million tokens."""

    input_usd_per_mtok: Annotated[float, Field(ge=0)] = 0.0
    output_usd_per_mtok: Annotated[float, Field(ge=0)] = 0.0


class ProviderSettings(Section):
    """One account at one endpoint in one region. Two credentials may be valid at once, for rotation.

    A credential is sent to the host of `base_url` and to `credential_hosts` ("host" or "host:port") only.
    `headers` are constant, stand in the routing table, and must not be secret. Outside loopback, `base_url`
    is https unless `allow_plain_http` says that the network between is trusted. `max_connections` is how many each
    proxy may have to it at once (0: any number); a request that finds none free goes along the chain.
    """

    family: Literal["anthropic", "openai"]
    base_url: str
    kind: Literal[
        "anthropic", "openai", "azure", "bedrock", "gemini", "meta", "openrouter", "mistral", "compatible"
    ] = "compatible"
    credentials: Annotated[tuple[SecretRef, ...], Field(max_length=2)] = ()
    credential_header: Literal["authorization", "x-api-key", "api-key", "x-goog-api-key"] | None = None
    credential_hosts: tuple[str, ...] = ()
    ca_file: str | None = None
    allow_plain_http: bool = False
    max_connections: Annotated[int, Field(ge=0)] = 0
    shared_fate: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 – pydantic copies it
    probe: ProbeSettings = ProbeSettings()


class TargetSettings(Section):
    """A provider's model. Health, cooldown and statistics are kept for each.

    `serves` is what it is probed with: a few tokens of a completion, or the embedding of a word. `max_in_flight` is how
    many requests each proxy may have under way there at once (0: any number); one more goes along the chain.
    """

    provider: Name
    model: Annotated[str, Field(min_length=1, max_length=256)]
    serves: Literal["completions", "embeddings"] = "completions"
    capacity_rps: Annotated[float, Field(gt=0)] | None = None
    max_in_flight: Annotated[int, Field(ge=0)] = 0
    prices: PriceSettings = PriceSettings()


class RouteSettings(Section):
    """The model name that callers ask for. Weights sum to 100 (in percent, at most two decimals).

    A request falls over along `chain`; targets that it does not name follow it by falling weight, and a target
    that only `chain` names is a pure fallback. `sticky_by` is tried in order: session, user, api_key,
    header:NAME, random. `max_attempts` 0 tries every eligible target.
    """

    weights: dict[Name, Annotated[float, Field(ge=0, le=100)]]
    chain: tuple[Name, ...] = ()
    sticky_by: tuple[str, ...] = ("session",)
    max_attempts: Annotated[int, Field(ge=0, le=20)] = 0


class PolicySettings(Section):
    """The thresholds of health; the defaults are the runbooks'. `failover_after_s` 0: no failover by itself."""

    probe_failures: Annotated[int, Field(ge=1, le=100)] = 3
    live_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    error_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.05
    error_ratio_window_s: PositiveSeconds = 60.0
    error_ratio_min_samples: Annotated[int, Field(ge=1)] = 20
    window_s: PositiveSeconds = 300.0
    cooldown_max_s: PositiveSeconds = 300.0
    half_open_trials: Annotated[int, Field(ge=1, le=100)] = 2
    slow_start_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    slow_start_floor: Annotated[float, Field(gt=0, le=1)] = 0.10
    quota_recheck_s: PositiveSeconds = 300.0
    throttle_default_s: PositiveSeconds = 10.0
    soften_s: PositiveSeconds = 10.0
    proxy_lost_s: PositiveSeconds = 5.0
    publish_min_change_bp: Annotated[int, Field(ge=1, le=10_000)] = 50
    publish_min_gap_s: PositiveSeconds = 0.5
    detection_bound_s: PositiveSeconds = 30.0
    failover_after_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    failback_auto: bool = True
    failback_window_s: PositiveSeconds = 1_800.0
    failback_threshold: Annotated[float, Field(gt=0, le=1)] = 0.99
    failback_min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 150
    failback_min_stay_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    failback_per_hour: Annotated[int, Field(ge=1, le=100)] = 2


class StoreSettings(Section):
    """Where Redis (7.0 or newer) or Valkey is. With no `url`, a private Valkey runs as a child process."""

    url: str | None = None
    password: SecretRef | None = None
    key_prefix: Name = "pointsman"
    timeout_s: PositiveSeconds = 0.5
    embedded_binary: str | None = None


class ControlSettings(Section):
    """The daemon. A tick is also made at once when evidence or an operator's word arrives.

    `records_mb`: how much of its decisions is kept for `explain --at` and `replay`; 0 keeps none.
    """

    listen: str = "127.0.0.1:8470"
    tick_interval_s: PositiveSeconds = 1.0
    lease_ttl_s: PositiveSeconds = 6.0
    history_length: Annotated[int, Field(ge=2, le=100_000)] = 500
    events_length: Annotated[int, Field(ge=10, le=10_000_000)] = 10_000
    records_mb: Annotated[int, Field(ge=0, le=10_240)] = 64


class TimeoutSettings(Section):
    """`first_byte_s` and `idle_s` are for streams, `response_s` for a whole answer that is not streamed.

    `first_byte_s` is how long the first real event of a stream may take, from the request on: comments and pings
    are signs of life, not answers, and do not extend it. `idle_s` is the longest silence after that.
    """

    connect_s: PositiveSeconds = 5.0
    first_byte_s: PositiveSeconds = 30.0
    idle_s: PositiveSeconds = 60.0
    response_s: PositiveSeconds = 600.0


class TlsSettings(Section):
    """The certificate that callers see, with its chain, and its key; both PEM.

    `ca_file` and `server_name` are for requests of our own (synthetic ones): who must have signed the certificate
    (else: one that the system trusts), and the name in it (else: the host of the proxy's address).
    """

    cert_file: str
    key_file: str
    ca_file: str | None = None
    server_name: str | None = None


class ProxySettings(Section):
    """A proxy. It listens on HOST:PORT or unix:/PATH. `poll_interval_s` finds a new table when the hint was lost.

    `advertise`: the HOST:PORT at which the daemon and commands reach it, where that is not what it listens on.
    `workers`: so many processes on one address, each a proxy of its own called NAME.1 and so on.

    `keys`: name → hash of a caller's key; with none, everybody may. `synthetic_key` is the one that requests of our
    own carry, to proxies on this machine, those that prove to be `tls.server_name`, and `synthetic_hosts`.
    `access_log`: a line of JSON per request, to standard error or to `access_log_file`.

    A body of up to `replay_mb` is kept until the answer begins, so that the request can fall over, as long as all that
    are kept are no more than `replay_total_mb`; any other is sent once. `retry_budget` is by how many failed attempts
    may outnumber the good answers before a request is tried only once (0: any number). A table that the store has not
    confirmed for `stale_after_s` (0: never) makes `/-/ready` answer 503; `when_stale` says whether it serves on.
    """

    name: Name | None = None
    listen: str = "127.0.0.1:8480"
    advertise: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    tls: TlsSettings | None = None
    keys: dict[Name, KeyHash] = {}  # noqa: RUF012 – pydantic copies it
    synthetic_key: SecretRef | None = None
    synthetic_hosts: tuple[str, ...] = ()
    report_interval_s: PositiveSeconds = 1.0
    poll_interval_s: PositiveSeconds = 1.0
    local_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    local_cooldown_s: PositiveSeconds = 10.0
    max_body_mb: Annotated[int, Field(ge=1, le=1024)] = 64
    replay_mb: Annotated[int, Field(ge=0, le=1024)] = 16
    replay_total_mb: Annotated[int, Field(ge=0, le=65_536)] = 256
    retry_budget: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    stale_after_s: Annotated[float, Field(ge=0)] = 0.0
    when_stale: Literal["serve", "refuse"] = "serve"
    ping_after_s: PositiveSeconds = 15.0
    drain_s: PositiveSeconds = 30.0
    access_log: bool = False
    access_log_file: str | None = None
    timeouts: TimeoutSettings = TimeoutSettings()


class TelemetrySettings(Section):
    """OTLP over HTTP when `otlp_endpoint` is set (http://127.0.0.1:4318); logs go to standard error."""

    otlp_endpoint: str | None = None
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole file."""

    environment: Literal["development", "staging", "production"] = "production"
    fleet: Name = "default"
    state_dir: str | None = None
    providers: dict[Name, ProviderSettings]
    targets: dict[Name, TargetSettings]
    routes: dict[RouteName, RouteSettings]
    policy: PolicySettings = PolicySettings()
    ramp: RampSettings = RampSettings()
    rollouts: dict[Name, RolloutSettings] = {}  # noqa: RUF012 – pydantic copies it
    store: StoreSettings = StoreSettings()
    control: ControlSettings = ControlSettings()
    proxy: ProxySettings = ProxySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
