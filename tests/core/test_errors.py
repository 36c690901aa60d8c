"""The error taxonomy, row by row of the policy table."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.errors import (
    ABANDONED,
    CONSEQUENCES,
    SUCCESS,
    Effect,
    Fault,
    Wire,
    of_response,
    of_stream_error,
    of_wire,
    retry_after_s,
)


def openai(code: str = "", kind: str = "", **more: Any) -> dict[str, Any]:
    return {"error": {"message": "m", "type": kind, "code": code or None, **more}}


def anthropic(kind: str, code: str = "") -> dict[str, Any]:
    details = {"error_code": code} if code else None
    return {"type": "error", "error": {"type": kind, "message": "m", "details": details}}


def google(status: str, *details: object, code: int = 429, message: str = "Quota exceeded") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def amazon(kind: str) -> dict[str, str]:
    return {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/"}


API_KEY_INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


def quota_failure(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


BEDROCK: Mapping[str, str] = {"message": "m"}
SHOULD_RETRY = {"x-should-retry": "true"}
ROWS: list[tuple[str, int, Mapping[str, str], object, Fault]] = [
    # the caller's own
    ("bad request", 400, {}, openai(kind="invalid_request_error"), Fault.CALLER),
    ("context too long", 400, {}, openai("context_length_exceeded", "invalid_request_error"), Fault.CALLER),
    ("bedrock validation", 400, amazon("ValidationException"), BEDROCK, Fault.CALLER),
    ("not found", 404, {}, openai("model_not_found"), Fault.CALLER),
    ("conflict", 409, {}, anthropic("conflict_error"), Fault.CALLER),
    ("too large", 413, {}, anthropic("request_too_large"), Fault.CALLER),
    ("unprocessable", 422, {}, None, Fault.CALLER),
    ("client closed", 499, {}, google("CANCELLED", code=499), Fault.CALLER),
    ("bedrock model error of a caller", 424, {}, {"error": {"originalStatusCode": 400}}, Fault.CALLER),
    ("bedrock model error of nobody", 424, amazon("ModelErrorException"), BEDROCK, Fault.CALLER),
    ("bedrock model error, odd status", 424, {}, {"error": {"originalStatusCode": "500"}}, Fault.CALLER),
    ("azure content filter", 400, {}, openai("content_filter"), Fault.CONTENT_FILTER),
    ("content policy", 400, {}, openai("content_policy_violation"), Fault.CONTENT_FILTER),
    ("moderation", 403, {}, openai("moderation"), Fault.CONTENT_FILTER),
    ("openrouter moderation", 403, {}, openai("403", metadata={"reasons": ["x"]}), Fault.CONTENT_FILTER),
    ("openrouter flagged", 403, {}, openai("403", metadata={"flagged_input": "x"}), Fault.CONTENT_FILTER),
    ("image policy", 400, {}, openai("image_content_policy_violation"), Fault.CONTENT_FILTER),
    ("no member of the organization", 401, {}, openai("mismatched_organization"), Fault.CALLER),
    ("gemini bad request", 400, {}, google("INVALID_ARGUMENT", {"reason": "X"}, code=400), Fault.CALLER),
    # key and account
    ("gemini key", 400, {}, google("INVALID_ARGUMENT", {}, API_KEY_INVALID, code=400), Fault.CREDENTIAL),
    ("gemini key in a list", 400, {}, [google("INVALID_ARGUMENT", API_KEY_INVALID)], Fault.CREDENTIAL),
    ("openai key", 401, {}, openai("invalid_api_key"), Fault.CREDENTIAL),
    ("anthropic key", 401, {}, anthropic("authentication_error"), Fault.CREDENTIAL),
    ("no permission", 403, {}, anthropic("permission_error"), Fault.CREDENTIAL),
    ("bedrock denied", 403, amazon("AccessDeniedException"), BEDROCK, Fault.CREDENTIAL),
    ("openrouter, other metadata", 403, {}, openai("403", metadata={"x": 1}), Fault.CREDENTIAL),
    ("forbidden without a body", 403, {}, None, Fault.CREDENTIAL),
    ("billing", 402, {}, anthropic("billing_error"), Fault.QUOTA),
    ("linked organization", 402, {}, anthropic("x", "linked_organization_x"), Fault.QUOTA),
    ("insufficient quota", 429, {}, openai("insufficient_quota", "insufficient_quota"), Fault.QUOTA),
    ("insufficient quota by type", 429, {}, openai("", "insufficient_quota"), Fault.QUOTA),
    ("credit balance", 429, {}, openai("credit_balance_exhausted"), Fault.QUOTA),
    ("own limit", 429, {}, anthropic("rate_limit_error", "enforced_spend_limit_reached"), Fault.QUOTA),
    ("contract", 429, {}, anthropic("rate_limit_error", "contract_spend_limit_reached"), Fault.QUOTA),
    ("on hold", 400, {}, anthropic("invalid_request_error", "organization_on_hold"), Fault.QUOTA),
    ("openrouter no credit", 402, {}, openai("402"), Fault.QUOTA),
    ("gemini per day", 429, {}, google("RESOURCE_EXHAUSTED", quota_failure("RequestsPerDay")), Fault.QUOTA),
    ("gemini limit 0", 429, {}, google("RESOURCE_EXHAUSTED", message="Quota …, limit: 0"), Fault.QUOTA),
    (
        "on hold, without details",
        400,
        {},
        openai("organization_on_hold", details={"error_code": ""}),
        Fault.QUOTA,
    ),
    (
        "gemini per day in a list",
        429,
        {},
        [google("RESOURCE_EXHAUSTED", quota_failure("RequestsPerDay"))],
        Fault.QUOTA,
    ),
    # rate limits
    (
        "two errors in a list",
        429,
        {},
        [google("RESOURCE_EXHAUSTED", message="limit: 0")] * 2,
        Fault.RATE_LIMIT,
    ),
    ("in-flight budget, in ms", 402, {"retry-after-ms": "20"}, openai("402"), Fault.RATE_LIMIT),
    ("retry, with a time in ms", 429, {**SHOULD_RETRY, "retry-after-ms": "9"}, None, Fault.RATE_LIMIT),
    ("openai rate", 429, {}, openai("rate_limit_exceeded"), Fault.RATE_LIMIT),
    ("no body", 429, {}, None, Fault.RATE_LIMIT),
    ("throttling", 429, amazon("ThrottlingException"), BEDROCK, Fault.RATE_LIMIT),
    ("bedrock quota", 400, amazon("ServiceQuotaExceededException"), BEDROCK, Fault.RATE_LIMIT),
    ("in-flight budget", 402, {"retry-after": "2"}, openai("402"), Fault.RATE_LIMIT),
    ("gemini rpm", 429, {}, google("RESOURCE_EXHAUSTED", quota_failure("PerMinute")), Fault.RATE_LIMIT),
    (
        "gemini limit 10",
        429,
        {},
        google("RESOURCE_EXHAUSTED", message="Quota …, limit: 10"),
        Fault.RATE_LIMIT,
    ),
    ("gemini odd", 429, {}, google("RESOURCE_EXHAUSTED", {"violations": ["x"]}, 7), Fault.RATE_LIMIT),
    ("gemini none", 429, {}, google("RESOURCE_EXHAUSTED", {"violations": None}), Fault.RATE_LIMIT),
    ("gemini says when", 429, {}, google("RESOURCE_EXHAUSTED", {}, message="Slow"), Fault.RATE_LIMIT),
    ("retry, with a time", 429, {**SHOULD_RETRY, "retry-after": "1"}, None, Fault.RATE_LIMIT),
    ("should not retry", 429, {"x-should-retry": "false"}, None, Fault.RATE_LIMIT),
    # capacity
    ("ramp", 429, {"retry-after": "1"}, anthropic("rate_limit_error", "ramp_limit_exceeded"), Fault.CAPACITY),
    ("slow down", 429, {}, openai("slow_down", "rate_limit_error"), Fault.CAPACITY),
    ("headerless 429", 429, SHOULD_RETRY, None, Fault.CAPACITY),
    ("vertex shared", 429, {}, google("RESOURCE_EXHAUSTED", message="Resource exhausted."), Fault.CAPACITY),
    ("model not ready", 429, amazon("ModelNotReadyException"), BEDROCK, Fault.CAPACITY),
    # overload
    ("unavailable", 503, {}, None, Fault.OVERLOAD),
    ("bedrock unavailable", 503, amazon("ServiceUnavailableException"), BEDROCK, Fault.OVERLOAD),
    ("anthropic overloaded", 529, {}, anthropic("overloaded_error"), Fault.OVERLOAD),
    # outages
    ("request timeout", 408, amazon("ModelTimeoutException"), BEDROCK, Fault.OUTAGE),
    ("server error", 500, {}, openai(kind="server_error"), Fault.OUTAGE),
    ("bad gateway", 502, {}, None, Fault.OUTAGE),
    ("gateway timeout", 504, {}, None, Fault.OUTAGE),
    ("cloudflare", 520, {}, None, Fault.OUTAGE),
    ("bedrock model died", 424, {}, {"error": {"originalStatusCode": 500}}, Fault.OUTAGE),
    ("redirect", 300, {}, None, Fault.OUTAGE),
    ("redirect", 399, {}, None, Fault.OUTAGE),
    # 200
    ("success", 200, {}, {"id": "x", "choices": []}, Fault.OK),
    ("no content", 204, {}, None, Fault.OK),
    ("a null error", 200, {}, {"id": "x", "error": None}, Fault.OK),
    ("a chat message of ollama", 200, {}, {"message": {"content": "hi"}}, Fault.OK),
    ("a message with its type", 200, {}, {"type": "message", "message": "x"}, Fault.OK),
    ("a message with its id", 200, {}, {"id": "1", "message": "x"}, Fault.OK),
    ("openrouter 429 in a 200", 200, {}, openai("429"), Fault.RATE_LIMIT),
    ("openrouter 502 in a 200", 200, {}, {"error": {"code": 502, "message": "m"}}, Fault.OUTAGE),
    ("overload in a 200", 299, {}, anthropic("overloaded_error"), Fault.OVERLOAD),
    ("an error text in a 200", 200, {}, {"error": "it broke"}, Fault.OUTAGE),
    ("bedrock's message in a 200", 200, {}, BEDROCK, Fault.OUTAGE),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "fault"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_answers(status: int, headers: Mapping[str, str], body: object, fault: Fault) -> None:
    """A complete answer has the class that the policy table gives it."""
    assert of_response(status, headers, body).fault is fault


@pytest.mark.parametrize("wire", list(Wire))
def test_wires(wire: Wire) -> None:
    """A broken wire is an outage; only one that never connected refuses."""
    outcome = of_wire(wire)

    assert outcome.fault is Fault.OUTAGE
    assert outcome.refuses is (
        wire in {Wire.DNS, Wire.REFUSED, Wire.UNREACHABLE, Wire.TLS, Wire.CONNECT_TIMEOUT}
    )
    assert outcome.detail == wire.value
    assert (outcome.status, outcome.retry_after_s) == (0, None)


EFFECTS = {
    Fault.OK: (False, Effect.SUCCESS),
    Fault.CALLER: (False, Effect.NONE),
    Fault.CONTENT_FILTER: (False, Effect.NONE),
    Fault.ABANDONED: (False, Effect.NONE),
    Fault.CREDENTIAL: (True, Effect.BAR),
    Fault.QUOTA: (True, Effect.BAR),
    Fault.RATE_LIMIT: (True, Effect.THROTTLE),
    Fault.CAPACITY: (True, Effect.SOFTEN),
    Fault.OVERLOAD: (True, Effect.BREAKER),
    Fault.OUTAGE: (True, Effect.BREAKER),
}


@pytest.mark.parametrize("fault", list(Fault))
def test_consequences(fault: Fault) -> None:
    """Each class has the consequence that the table at the head of the module states."""
    assert (CONSEQUENCES[fault].falls_over, CONSEQUENCES[fault].effect) == EFFECTS[fault]


def test_outcome_properties() -> None:
    """An outcome knows its own consequence."""
    bad = of_response(503, {})

    assert (SUCCESS.ok, SUCCESS.falls_over, SUCCESS.effect, SUCCESS.status) == (
        True,
        False,
        Effect.SUCCESS,
        200,
    )
    assert (bad.ok, bad.falls_over, bad.effect) == (False, True, Effect.BREAKER)
    assert (ABANDONED.ok, ABANDONED.falls_over, ABANDONED.effect) == (False, False, Effect.NONE)


@pytest.mark.parametrize(
    ("status", "headers", "body", "detail"),
    [
        (500, {}, None, "HTTP 500"),
        (429, {}, openai("slow_down", "rate_limit_error"), "HTTP 429 slow_down"),
        (500, {}, openai(kind="server_error"), "HTTP 500 server_error"),
        (400, amazon("ThrottlingException"), BEDROCK, "HTTP 400 ThrottlingException"),
        (429, {}, anthropic("rate_limit_error", "ramp_limit_exceeded"), "HTTP 429 ramp_limit_exceeded"),
        (503, {}, google("UNAVAILABLE", code=503), "HTTP 503 503"),
        (500, {}, openai("<b>'x' y\n"), "HTTP 500"),
        (500, {}, openai("z" * 40), "HTTP 500 " + "z" * 40),
        (500, {}, openai("z" * 41, "server_error"), "HTTP 500 server_error"),
        (500, {}, openai(" error-1113\n"), "HTTP 500 error-1113"),
        (401, {}, openai("aK3y9ofOurs", "no aK3y"), "HTTP 401"),
        (200, {}, openai("aK3y9ofOurs"), "error event 500"),
        (200, {}, openai("502", "provider_error"), "error event provider_error"),
        (200, {}, openai("502"), "error event 502"),
        (200, {}, {"error": "it broke with my secret"}, "error event 500"),
        (200, {}, anthropic("overloaded_error"), "error event overloaded_error"),
    ],
)
def test_details(status: int, headers: Mapping[str, str], body: object, detail: str) -> None:
    """The detail names status and code in a name's characters, and never holds a stranger's text."""
    assert of_response(status, headers, body).detail == detail


WAITS: list[tuple[Mapping[str, str], object, float | None]] = [
    ({}, None, None),
    ({"retry-after": "7"}, None, 7.0),
    ({"retry-after": " 2.5 "}, None, 2.5),
    ({"retry-after": "0"}, None, 0.0),
    ({"retry-after": "3600"}, None, 3600.0),
    ({"retry-after": "-7"}, None, None),
    ({"retry-after": "nan"}, None, None),
    ({"retry-after": "inf"}, None, None),
    ({"retry-after": "soon"}, None, None),
    ({"retry-after": "9" * 10}, None, None),
    ({"retry-after": "", "retry-after-ms": "x"}, None, None),
    ({"retry-after-ms": "1500", "retry-after": "9"}, None, 1.5),
    ({"x-amz-retry-after": "250"}, None, 0.25),
    ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, None, 10.0),
    ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, None, 0.0),
    ({}, {"details": [7, {"@type": "x"}, {"retryDelay": "46s"}]}, 46.0),
    ({}, {"details": [{"retryDelay": "1.5s"}]}, 1.5),
    ({}, {"details": [{"retryDelay": "46"}]}, None),
    ({}, {"details": {"retryDelay": "46s"}}, None),
]


@pytest.mark.parametrize(("headers", "error", "wait_s"), WAITS)
def test_retry_after(headers: Mapping[str, str], error: dict[str, Any] | None, wait_s: float | None) -> None:
    """The provider's own word, wherever it says it, in seconds; nonsense is no word."""
    assert retry_after_s(headers, error, now_s=1_445_412_480.0) == wait_s


def test_an_answer_carries_its_wait() -> None:
    """The wait stands in the outcome, in a failed answer as in an error inside a 200."""
    body = google("RESOURCE_EXHAUSTED", {"retryDelay": "46s"})

    assert of_response(429, {"retry-after": "3"}).retry_after_s == 3
    assert of_response(429, {}, body).retry_after_s == 46
    assert of_response(200, {}, body).retry_after_s == 46
    assert of_response(429, {}, [body]).retry_after_s == 46
    assert of_stream_error([body]).retry_after_s == 46
    assert of_response(200, {"retry-after": "3"}, openai("429")).retry_after_s == 3
    assert (
        of_response(
            429, {"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, now_s=1_445_412_480.0
        ).retry_after_s
        == 10
    )


def test_a_date_without_a_clock() -> None:
    """Without the time of day a date counts from 1970: never too short, and never more than a day."""
    date = {"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}

    assert retry_after_s(date) == 86_400
    assert of_response(429, date).retry_after_s == 86_400
    assert of_stream_error({"type": "rate_limit_error"}, date).retry_after_s == 86_400


def test_the_longest_wait() -> None:
    """Two hours are obeyed, and what asks for years is looked at again after a day."""
    assert retry_after_s({"retry-after": "7999"}) == 7_999
    assert retry_after_s({"retry-after": "999999999"}) == 86_400


def test_violations_that_are_no_list() -> None:
    """A stranger's details may be of any type."""
    body = {"error": {"status": "RESOURCE_EXHAUSTED", "message": "Quota", "details": [{"violations": 1}]}}

    assert of_response(429, {}, body).fault is Fault.RATE_LIMIT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "type", "code", "details", "violations", "metadata", "retryDelay"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(["retry-after", "x"]), st.text()), JSON)
def test_strangers_never_break_it(status: int, headers: dict[str, str], body: object) -> None:
    """Whatever a provider answers, it has a class, and a short detail fit for a log."""
    outcome = of_response(status, headers, body)
    event = of_stream_error(body, headers)

    assert len(outcome.detail) < 90 > len(event.detail)
    assert (outcome.detail + event.detail).isprintable()
    assert outcome.retry_after_s is None or outcome.retry_after_s >= 0


@pytest.mark.parametrize(
    "code",
    [
        "rate_limit_exceeded", "ThrottlingException", "503", "context_length_exceeded", "error.http2", "o1-limit",
        "PERMISSION_DENIED", "AccountQuotaExceeded.RateLimit429",
    ],
)  # fmt: skip
def test_a_code_is_told(code: str) -> None:
    """Words and short numbers, however they are joined."""
    assert of_response(500, {}, {"error": {"code": code}}).detail == f"HTTP 500 {code}"


@pytest.mark.parametrize(
    "key",
    [
        "sk-ant-api03-a1B2c3D4e5F6", "sk-0123456789abcdef", "planted6oursx7Qvx7Qvx7Qv", "0123456789",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "Bearer sk-0123456789abcdef", "A" * 41, "word_" * 13,
    ],
)  # fmt: skip
def test_what_looks_like_a_key_is_no_code(key: str) -> None:
    """Whoever repeats what was sent to him does not get it into reasons, events and tables."""
    said = {"error": {"type": key, "code": key, "details": {"error_code": key}}}
    assert of_response(500, {"x-amzn-errortype": key}, said).detail == "HTTP 500"
    assert of_stream_error({"type": "error", **said}).detail == "error event 500"
