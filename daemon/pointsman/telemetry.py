"""OpenTelemetry set-up, and the name of every span and attribute.

The SDK is only loaded when there is somewhere to send spans to; without an endpoint the tracer does nothing
and costs nothing. Every span passes a filter on its way out, in the exporter's thread: no URL keeps its query
string, no header becomes an attribute, and no secret leaves (see `logs.redact`).
"""

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, runtime_checkable

import anyio
import anyio.to_thread
from opentelemetry.trace import NoOpTracer, Tracer

from pointsman.config.models import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Spans.
PROBE_ROUND: Final = "probe.round"
PROBE: Final = "probe"
CONTROL_DECIDE: Final = "control.decide"
CONTROL_PUBLISH: Final = "control.publish"
GATE_ASKED: Final = "gate.asked"
SYNTHETIC_ASKED: Final = "synthetic.request"
PROXY_REQUEST: Final = "proxy.request"
PROXY_ATTEMPT: Final = "proxy.attempt"
# Only these are sampled by `sample_ratio`; the control plane's own spans are few and always kept.
SAMPLED_PREFIX: Final = "proxy."

# Attributes of the GenAI conventions (status: development), which Langfuse and the like read.
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
HTTP_STATUS: Final = "http.response.status_code"

# pointsman's own attributes.
PROVIDER: Final = "pointsman.provider"
TARGET: Final = "pointsman.target"
ROUTE: Final = "pointsman.route"
FAULT: Final = "pointsman.fault"
DETAIL: Final = "pointsman.detail"
VANTAGE: Final = "pointsman.vantage"
PROBE_KIND: Final = "pointsman.probe.kind"
PROBE_COUNT: Final = "pointsman.probe.count"
PROBE_COST_USD: Final = "pointsman.probe.cost_usd"
FIRST_TOKEN_MS: Final = "pointsman.first_token_ms"  # noqa: S105  tokens of text, not of access
TABLE_VERSION: Final = "pointsman.table.version"
REQUEST_ID: Final = "pointsman.request_id"
REASON: Final = "pointsman.reason"
SYNTHETIC: Final = "pointsman.synthetic"
CHANGES: Final = "pointsman.changes"

FLUSH_TIMEOUT_S: Final = 5.0


@runtime_checkable
class DrawsAhead(Protocol):
    """The `id_generator` of a tracer that samples requests as their parents are, and those without one by lot."""

    def passes_over(self) -> bool:
        """Draw. True: this request without a parent is not sampled; else its span, if it is begun now, will be."""


class Telemetry:
    """A process's tracer and what it takes to end it well: `async with`, or `await shutdown()`."""

    def __init__(self, tracer: Tracer, provider: "TracerProvider | None" = None) -> None:
        self.tracer = tracer
        self._provider = provider

    @property
    def enabled(self) -> bool:
        """False when spans go nowhere."""
        return self._provider is not None

    async def force_flush(self) -> bool:
        """Send what is waiting; False if it was not all taken within five seconds."""
        if self._provider is None:
            return True
        flush = functools.partial(self._provider.force_flush, int(FLUSH_TIMEOUT_S * 1000))
        with anyio.move_on_after(FLUSH_TIMEOUT_S):
            return await anyio.to_thread.run_sync(flush, abandon_on_cancel=True)
        return False

    async def shutdown(self) -> None:
        """Send what is waiting and stop. Takes five seconds at most, also when nobody listens any more."""
        provider, self._provider = self._provider, None
        if provider is not None:
            with anyio.move_on_after(FLUSH_TIMEOUT_S, shield=True):
                await anyio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()


def setup(settings: TelemetrySettings, *, service: str, instance: str) -> Telemetry:
    """One process's telemetry: `service` is "pointsman-control" or "pointsman-proxy", `instance` its name."""
    if settings.otlp_endpoint is None:
        return Telemetry(NoOpTracer())
    from pointsman import _otlp  # noqa: PLC0415  the SDK takes a third of a second to load

    provider = _otlp.provider(
        settings.otlp_endpoint, settings.sample_ratio, service=service, instance=instance
    )
    return Telemetry(provider.get_tracer("pointsman"), provider)
