"""Where spans go: sampled, stripped of secrets, sent by OTLP over HTTP. telemetry.py loads it when wanted."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import INVALID_TRACE_ID, Link, SpanKind, Status, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from pointsman import __version__, logs, telemetry

EXPORT_TIMEOUT_S: Final = 5.0
_HEADER: Final = re.compile(r"^http\.(request|response)\.header\b|^rpc\..*\.metadata\.")
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#\"']*)[?#][^\s\"']*", re.IGNORECASE)
# A relative reference, as in url.path or http.target.
_RELATIVE: Final = re.compile(r"^(/[^\s?#]*)[?#]\S*$")


def provider(endpoint: str, ratio: float, *, service: str, instance: str) -> TracerProvider:
    """A provider that sends to `endpoint` (http://host:4318, without /v1/traces) in the background."""
    resource = Resource.create(
        {SERVICE_NAME: service, SERVICE_INSTANCE_ID: instance, SERVICE_VERSION: __version__}
    )
    # The daemon ends its telemetry itself, so nothing is left to the interpreter's end.
    made = TracerProvider(
        sampler=_ByPlane(ratio), resource=resource, shutdown_on_exit=False, id_generator=_DrawnIds(ratio)
    )
    exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_TIMEOUT_S)
    made.add_span_processor(BatchSpanProcessor(RedactingExporter(exporter)))
    return made


class _ByPlane(Sampler):
    """Requests by ratio unless their caller has decided; the control plane's spans always."""

    def __init__(self, ratio: float) -> None:
        self._requests = ParentBased(TraceIdRatioBased(ratio))
        self._control = ParentBased(ALWAYS_ON)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        of = self._requests if name.startswith(telemetry.SAMPLED_PREFIX) else self._control
        return of.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return "requests by ratio, control always"


class _DrawnIds(RandomIdGenerator):
    """Ids of traces that may be drawn ahead: whether a request is sampled follows from the id of its trace alone.

    The sampler has the last word, of the very id that was drawn, so that the two cannot disagree.
    """

    def __init__(self, ratio: float) -> None:
        self._bound = TraceIdRatioBased.get_bound_for_rate(ratio)
        self._drawn = INVALID_TRACE_ID

    def passes_over(self) -> bool:
        """Draw the next trace's id. True: a request of it would not be sampled, and the id is gone."""
        drawn = self.generate_trace_id()
        if drawn & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return True
        self._drawn = drawn
        return False

    def generate_trace_id(self) -> int:
        drawn, self._drawn = self._drawn, INVALID_TRACE_ID
        return drawn or super().generate_trace_id()


class RedactingExporter(SpanExporter):
    """Hands on copies of spans that hold nothing secret; works in the batch processor's thread."""

    def __init__(self, behind: SpanExporter) -> None:
        self._behind = behind

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._behind.export([_clean(span) for span in spans])

    def shutdown(self) -> None:
        self._behind.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._behind.force_flush(timeout_millis)


def _clean(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    said = status.description
    return ReadableSpan(
        name=_clean_text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_clean_attributes(span.attributes),
        events=[
            Event(_clean_text(event.name), _clean_attributes(event.attributes), event.timestamp)
            for event in span.events
        ],
        links=[Link(link.context, _clean_attributes(link.attributes)) for link in span.links],
        kind=span.kind,
        status=status if said is None else Status(status.status_code, _clean_text(said)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _clean_attributes(attributes: Mapping[str, object] | None) -> dict[str, AttributeValue]:
    kept = (attributes or {}).items()
    return {name: _clean_value(value) for name, value in kept if not _HEADER.match(name)}


def _clean_value(value: object) -> AttributeValue:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [str(_clean_value(inner)) for inner in value]
    return _clean_text(str(value))


def _clean_text(text: str) -> str:
    return logs.redact(_RELATIVE.sub(r"\1", _QUERY.sub(r"\1", text)))
