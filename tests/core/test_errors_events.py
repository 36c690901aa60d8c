"""Error events in a stream: classed as the status that they name."""

import pytest

from pointsman.core.errors import Fault, of_stream_error

EVENTS = [
    ("invalid_request_error", 400, Fault.CALLER),
    ("authentication_error", 401, Fault.CREDENTIAL),
    ("billing_error", 402, Fault.QUOTA),
    ("permission_error", 403, Fault.CREDENTIAL),
    ("not_found_error", 404, Fault.CALLER),
    ("request_too_large", 413, Fault.CALLER),
    ("rate_limit_error", 429, Fault.RATE_LIMIT),
    ("rate_limit_exceeded", 429, Fault.RATE_LIMIT),
    ("insufficient_quota", 429, Fault.QUOTA),
    ("api_error", 500, Fault.OUTAGE),
    ("server_error", 500, Fault.OUTAGE),
    ("timeout_error", 504, Fault.OUTAGE),
    ("overloaded_error", 529, Fault.OVERLOAD),
    ("server_is_overloaded", 503, Fault.OVERLOAD),
    ("service_unavailable_error", 503, Fault.OVERLOAD),
    ("never heard of", 500, Fault.OUTAGE),
    ("context_length_exceeded", 400, Fault.CALLER),
    ("invalid_prompt", 400, Fault.CALLER),
    ("invalid_base64_image", 400, Fault.CALLER),
    ("invalid_api_key", 401, Fault.CREDENTIAL),
    ("slow_down", 429, Fault.CAPACITY),
    ("image_content_policy_violation", 500, Fault.CONTENT_FILTER),
]


@pytest.mark.parametrize(("kind", "status", "fault"), EVENTS)
def test_events_by_type(kind: str, status: int, fault: Fault) -> None:
    """An error event in a stream is classed as the status that its type names."""
    outcome = of_stream_error({"type": "error", "error": {"type": kind}})

    assert (outcome.status, outcome.fault) == (status, fault)


@pytest.mark.parametrize(("kind", "status", "fault"), EVENTS)
def test_events_by_code(kind: str, status: int, fault: Fault) -> None:
    """Where only the code names it, the code does."""
    outcome = of_stream_error({"code": kind, "message": "m"})

    assert (outcome.status, outcome.fault) == (status, fault)


@pytest.mark.parametrize(
    ("kind", "code", "fault"),
    [
        ("invalid_request_error", "invalid_api_key", Fault.CREDENTIAL),
        ("invalid_request_error", "context_length_exceeded", Fault.CALLER),
        ("server_error", "context_length_exceeded", Fault.CALLER),
        ("tokens", "rate_limit_exceeded", Fault.RATE_LIMIT),
        ("server_error", "invalid_upstream_answer", Fault.OUTAGE),
        ("image_error", "invalid_image", Fault.CALLER),
        ("invalid_image", "x", Fault.CALLER),
    ],
)
def test_events_by_type_and_code(kind: str, code: str, fault: Fault) -> None:
    """A code that is known goes before the type; "invalid" is the caller's where neither is known."""
    assert of_stream_error({"error": {"type": kind, "code": code}}).fault is fault


def test_numeric_code_of_an_event() -> None:
    """OpenRouter's numeric code in an event is a status, and goes before the type."""
    outcome = of_stream_error({"error": {"code": 503, "type": "invalid_request_error"}})

    assert (outcome.status, outcome.fault) == (503, Fault.OVERLOAD)


def test_event_that_is_no_object() -> None:
    """An error event that cannot be read is an outage."""
    assert of_stream_error("boom").fault is Fault.OUTAGE


def test_event_with_headers() -> None:
    """The headers of the answer count for an event in it too."""
    outcome = of_stream_error({"type": "rate_limit_error"}, {"retry-after": "9"})

    assert outcome.retry_after_s == 9
