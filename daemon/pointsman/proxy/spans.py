"""What the spans of requests and attempts say. They are only made where there is somewhere to send them to."""

from opentelemetry.trace import Span, Status, StatusCode

from pointsman import telemetry as t
from pointsman.core.errors import Outcome
from pointsman.proxy.job import Job
from pointsman.proxy.routing import Endpoint
from pointsman.proxy.tokens import Tokens


def end_request(span: Span, job: Job) -> None:
    """The request is answered."""
    if span.is_recording():
        span.set_attribute(t.GEN_AI_OPERATION_NAME, job.api.value)
        span.set_attribute(t.GEN_AI_REQUEST_MODEL, job.route)
        span.set_attribute(t.ROUTE, job.route)
        span.set_attribute(t.REQUEST_ID, job.id)
        span.set_attribute(t.TABLE_VERSION, job.view.version)
        span.set_attribute(t.HTTP_STATUS, job.record.status)
        if job.synthetic:
            span.set_attribute(t.SYNTHETIC, True)
    span.end()


def end_attempt(
    span: Span, job: Job, endpoint: Endpoint, reason: str, outcome: Outcome, tokens: Tokens
) -> None:
    """One attempt is over, as `outcome` says."""
    if span.is_recording():
        span.set_attribute(t.GEN_AI_PROVIDER_NAME, endpoint.provider)
        span.set_attribute(t.GEN_AI_REQUEST_MODEL, endpoint.model)
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
            span.set_attribute(t.DETAIL, outcome.detail)
            span.set_status(Status(StatusCode.ERROR, outcome.detail))
    span.end()
