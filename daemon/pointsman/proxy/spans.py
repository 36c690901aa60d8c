"""What the spans of requests and attempts say. They are only made where there is somewhere to send them to.

Nearly every request is not sampled: that is found out before anything is made for one.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.propagate import extract, get_global_textmap
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from pointsman import telemetry as t
from pointsman.core.errors import Outcome
from pointsman.proxy.api import Api
from pointsman.proxy.job import Job
from pointsman.proxy.routing import Endpoint
from pointsman.proxy.tokens import Tokens

_PARENT: Final = "traceparent"
_SERVERS_FAULT: Final = 500
# The fields of what is understood where OTEL_PROPAGATORS says nothing else.
_W3C: Final = frozenset({_PARENT, "tracestate", "baggage"})
# A parent, sound beyond doubt, that is not sampled: the last bit of its flags is 0.
_UNSAMPLED: Final = re.compile(
    rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
).fullmatch


class Sampled:
    """Spans of those requests that are sampled: as their caller says who traces them, and else by lot."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        ids = getattr(tracer, "id_generator", None)
        # None: it takes the tracer itself, and all headers, to find out.
        self._passes_over: Callable[[], bool] | None = None
        if isinstance(ids, t.DrawsAhead) and get_global_textmap().fields <= _W3C:
            self._passes_over = ids.passes_over

    def span(self, low: Mapping[str, bytes]) -> Span | None:
        """The span of a request with these headers (names in lower case), begun; None if it is not sampled."""
        if self._passes_over is not None:
            parent = low.get(_PARENT)
            if self._passes_over() if parent is None else _UNSAMPLED(parent):
                return None
        context = extract({name: value.decode("latin-1") for name, value in low.items()})
        span = self._tracer.start_span(t.PROXY_REQUEST, context=context, kind=SpanKind.SERVER)
        return span if span.is_recording() else None


# What the conventions call it; other APIs go by their own names.
_OPERATIONS: Final = {Api.MESSAGES: "chat", Api.RESPONSES: "chat"}


def end_request(span: Span, job: Job) -> None:
    """The request is answered."""
    if span.is_recording():
        span.set_attribute(t.GEN_AI_OPERATION_NAME, _operation(job))
        span.set_attribute(t.GEN_AI_REQUEST_MODEL, job.route)
        span.set_attribute(t.ROUTE, job.route)
        span.set_attribute(t.REQUEST_ID, job.id)
        span.set_attribute(t.TABLE_VERSION, job.view.version)
        status = job.record.status
        span.set_attribute(t.HTTP_STATUS, status)
        if status >= _SERVERS_FAULT:
            span.set_attribute(t.ERROR_TYPE, str(status))
            span.set_status(StatusCode.ERROR)
        if job.synthetic:
            span.set_attribute(t.SYNTHETIC, True)
    span.end()


def end_attempt(
    span: Span, job: Job, endpoint: Endpoint, reason: str, outcome: Outcome, tokens: Tokens
) -> None:
    """One attempt is over, as `outcome` says."""
    if span.is_recording():
        span.set_attribute(t.GEN_AI_OPERATION_NAME, _operation(job))
        # By whose conventions it speaks, as other tools read this; the name in the file is ours.
        span.set_attribute(t.GEN_AI_PROVIDER_NAME, endpoint.family)
        span.set_attribute(t.PROVIDER, endpoint.provider)
        span.set_attribute(t.GEN_AI_REQUEST_MODEL, endpoint.model)
        if tokens.into or tokens.out:
            span.set_attribute(t.GEN_AI_USAGE_INPUT_TOKENS, tokens.into)
            span.set_attribute(t.GEN_AI_USAGE_OUTPUT_TOKENS, tokens.out)
        span.set_attribute(t.TARGET, endpoint.target)
        span.set_attribute(t.REASON, reason)
        span.set_attribute(t.FAULT, outcome.fault.value)
        if job.synthetic:
            span.set_attribute(t.SYNTHETIC, True)
        if outcome.status:
            span.set_attribute(t.HTTP_STATUS, outcome.status)
        if not outcome.ok:
            span.set_attribute(t.ERROR_TYPE, outcome.fault.value)
            span.set_attribute(t.DETAIL, outcome.detail)
            span.set_status(Status(StatusCode.ERROR, outcome.detail))
    span.end()


def _operation(job: Job) -> str:
    return _OPERATIONS.get(job.api, job.api.value)
