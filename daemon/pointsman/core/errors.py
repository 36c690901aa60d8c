"""The error taxonomy: what a provider answered → a class → its consequence.

The classes and who is to blame:

    class           blame       falls over  effect on the target
    ok              –           –           a success
    caller          caller      no          none, ever (400, 404, 409, 413, 422, context too long)
    content_filter  caller      no          none, ever
    abandoned       caller      no          none, ever (the caller hung up)
    credential      operator    yes         barred until a known-good probe or a live success says otherwise
    quota           operator    yes         barred until its reset, or looked at again later
    rate_limit      account     yes         throttled to Retry-After; never the breaker
    capacity        provider    yes         half weight for a while (ramp limits, a model still loading)
    overload        provider    yes         counts for the breaker (503, 529)
    outage          provider    yes         counts for the breaker (5xx, connect, timeout, stall, truncation)

A status alone never decides: the error's type and code and the headers are read too, because providers
use one status for many things (Anthropic's 429 for a spend limit, Bedrock's 400 for a quota, OpenRouter's
200 with an error in the body).
"""

import email.utils
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct


class Fault(StrEnum):
    """The class of an outcome."""

    OK = "ok"
    CALLER = "caller"
    CONTENT_FILTER = "content_filter"
    ABANDONED = "abandoned"
    CREDENTIAL = "credential"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    CAPACITY = "capacity"
    OVERLOAD = "overload"
    OUTAGE = "outage"


class Wire(StrEnum):
    """How a connection or a stream failed; the value is how people read it."""

    DNS = "name not resolved"
    REFUSED = "connection refused"
    UNREACHABLE = "network unreachable"
    RESET = "connection reset"
    TLS = "TLS handshake failed"
    CONNECT_TIMEOUT = "connect timeout"
    FIRST_BYTE_TIMEOUT = "first byte timeout"
    RESPONSE_TIMEOUT = "response timeout"
    STALL = "stream stalled"
    TRUNCATED = "stream ended without its terminal event"
    BAD_BODY = "unreadable answer"


class Effect(StrEnum):
    """What a class does to the target's standing."""

    NONE = "none"
    SUCCESS = "success"
    BREAKER = "breaker"
    THROTTLE = "throttle"
    SOFTEN = "soften"
    BAR = "bar"


class Consequence(Struct, frozen=True):
    """May another target be tried for this request, and what happens to this one."""

    falls_over: bool
    effect: Effect


CONSEQUENCES: Final[Mapping[Fault, Consequence]] = {
    Fault.OK: Consequence(False, Effect.SUCCESS),
    Fault.CALLER: Consequence(False, Effect.NONE),
    Fault.CONTENT_FILTER: Consequence(False, Effect.NONE),
    Fault.ABANDONED: Consequence(False, Effect.NONE),
    Fault.CREDENTIAL: Consequence(True, Effect.BAR),
    Fault.QUOTA: Consequence(True, Effect.BAR),
    Fault.RATE_LIMIT: Consequence(True, Effect.THROTTLE),
    Fault.CAPACITY: Consequence(True, Effect.SOFTEN),
    Fault.OVERLOAD: Consequence(True, Effect.BREAKER),
    Fault.OUTAGE: Consequence(True, Effect.BREAKER),
}

# Looked up for every answer: by plain text, because an enumeration's own hash is worked out in Python.
_BY_NAME: Final = {fault.value: consequence for fault, consequence in CONSEQUENCES.items()}

# A target that does not even accept a connection gets nothing in a panic either.
REFUSING: Final = frozenset({Wire.DNS, Wire.REFUSED, Wire.UNREACHABLE, Wire.TLS, Wire.CONNECT_TIMEOUT})

LONGEST_WAIT_S: Final = 86_400.0
_QUOTA_CODES: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "organization_on_hold",
        "billing_error",
    }
)
_CAPACITY_CODES: Final = frozenset({"ramp_limit_exceeded", "slow_down", "ModelNotReadyException"})
_FILTER_CODES: Final = frozenset(
    {"content_filter", "content_policy_violation", "image_content_policy_violation", "moderation"}
)
# A code is words and short numbers: "model_not_found", "ThrottlingException", "error-1113". A key has digits between
# its letters, or is longer than any word.
_NAME: Final = re.compile(r"(?:[A-Za-z]{1,40}\d{0,3}|\d{1,4})(?:[_.-]+(?:[A-Za-z]{1,40}\d{0,3}|\d{1,4}))*")
_NAME_LENGTH_MAX: Final = 60
# The type or the code of an error event in a stream → the status that it stands for.
_STATUS_OF_NAME: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
}


class Outcome(Struct, frozen=True):
    """One answered, failed or abandoned attempt.

    `detail` is for people and never holds a body or a header's value; `retry_after_s` is the provider's own
    word in seconds; `refuses` says that not even a connection came about.
    """

    fault: Fault
    detail: str = ""
    status: int = 0
    retry_after_s: float | None = None
    refuses: bool = False

    @property
    def ok(self) -> bool:
        return self.fault is Fault.OK

    @property
    def falls_over(self) -> bool:
        return _BY_NAME[self.fault._value_].falls_over

    @property
    def effect(self) -> Effect:
        return _BY_NAME[self.fault._value_].effect


SUCCESS: Final = Outcome(Fault.OK, status=200)
ABANDONED: Final = Outcome(Fault.ABANDONED, "caller hung up")


def of_wire(wire: Wire) -> Outcome:
    """The outcome of a connection or stream that failed as `wire` says."""
    return Outcome(Fault.OUTAGE, wire.value, refuses=wire in REFUSING)


def of_response(
    status: int, headers: Mapping[str, str], body: object = None, *, now_s: float = 0.0
) -> Outcome:
    """The outcome of a complete answer.

    `headers` have lower-case names; `body` is the decoded JSON, or None where there was none to read; `now_s`
    (seconds since 1970) is only for a Retry-After that is a date.
    """
    error = _error_of(body)
    if status < 300:
        if error is None:
            return Outcome(Fault.OK, status=status)
        return of_stream_error(error, headers, now_s=now_s)
    kind, code = _kind_and_code(error, headers)
    fault = _fault(status, kind, code, headers, error)
    named = _spoken(code) or _spoken(kind)
    detail = f"HTTP {status}" + (f" {named}" if named else "")
    wait_s = retry_after_s(headers, error, now_s=now_s)
    return Outcome(fault, detail, status, wait_s)


def of_stream_error(
    error: object, headers: Mapping[str, str] | None = None, *, now_s: float = 0.0
) -> Outcome:
    """The outcome of an error event (or an error inside a 200): classed as the status that it names."""
    inner = _error_of(error) or (error if isinstance(error, dict) else {})
    kind, code = _kind_and_code(inner, {})
    numeric = int(code) if code.isdigit() and len(code) == 3 else 0
    status = numeric or _status_named(code, kind)
    fault = _fault(status, kind, code, headers or {}, inner)
    named = ("" if numeric else _spoken(code)) or _spoken(kind)
    detail = f"error event {named or status}"
    return Outcome(fault, detail, status, retry_after_s(headers or {}, inner, now_s=now_s))


def _status_named(code: str, kind: str) -> int:
    """The code tells more than the type. What is called invalid is the caller's; what has no known name, nobody's."""
    known = _STATUS_OF_NAME.get(code) or _STATUS_OF_NAME.get(kind)
    return known or (400 if code.startswith("invalid_") or kind.startswith("invalid_") else 500)


def _error_of(body: object) -> dict[str, Any] | None:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # Gemini's OpenAI-compatible API: a list of one error
    if isinstance(body, dict):
        inner = body.get("error")
        if isinstance(inner, dict):
            return inner
        if isinstance(inner, str):
            return {"message": inner}
        if isinstance(body.get("message"), str) and "type" not in body and "id" not in body:
            return body  # Bedrock: {"message": …} and the type in a header
    return None


def _kind_and_code(error: Mapping[str, Any] | None, headers: Mapping[str, str]) -> tuple[str, str]:
    """(error.type, the most telling code) as strings, "" where absent."""
    error = error or {}
    details = error.get("details")
    code = error.get("code")
    if isinstance(details, dict) and details.get("error_code"):
        code = details["error_code"]
    amazon = headers.get("x-amzn-errortype", "").partition(":")[0]
    kind = error.get("type") or error.get("status") or ""
    return _short(kind), _short(amazon or ("" if code is None else code))


def _short(text: object) -> str:
    """A stranger's text as a code: cut, and with ? for anything but a name's characters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", str(text).strip())[: _NAME_LENGTH_MAX + 1]


def _spoken(code: str) -> str:
    """`code` where people may read it, "" if it is no name: a provider may repeat the key that it was sent."""
    return code if len(code) <= _NAME_LENGTH_MAX and _NAME.fullmatch(code) else ""


def _fault(
    status: int, kind: str, code: str, headers: Mapping[str, str], error: Mapping[str, Any] | None
) -> Fault:
    named = {kind, code}
    if named & _QUOTA_CODES:
        return Fault.QUOTA
    if named & _FILTER_CODES:
        return Fault.CONTENT_FILTER
    if code == "ServiceQuotaExceededException":
        return Fault.RATE_LIMIT
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in _google_details(error)):
        return Fault.CREDENTIAL  # Google's 400
    if status == 429:
        return _fault_of_429(named, headers, error)
    if status == 402:
        return Fault.RATE_LIMIT if _says_when(headers) else Fault.QUOTA
    if status == 401:
        return Fault.CALLER if code == "mismatched_organization" else Fault.CREDENTIAL
    if status == 403:
        metadata = (error or {}).get("metadata")
        flagged = isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata)
        return Fault.CONTENT_FILTER if flagged else Fault.CREDENTIAL
    if status == 424:
        original = (error or {}).get("originalStatusCode", 0)
        return Fault.OUTAGE if isinstance(original, int) and original >= 500 else Fault.CALLER
    if status in {503, 529}:
        return Fault.OVERLOAD
    if status == 408 or status >= 500 or 300 <= status < 400:
        return Fault.OUTAGE
    return Fault.CALLER


def _fault_of_429(named: set[str], headers: Mapping[str, str], error: Mapping[str, Any] | None) -> Fault:
    if named & _CAPACITY_CODES:
        return Fault.CAPACITY
    if not _says_when(headers) and headers.get("x-should-retry") == "true":
        return Fault.CAPACITY
    if "RESOURCE_EXHAUSTED" in named:
        return _fault_of_exhausted(error or {})
    return Fault.RATE_LIMIT


def _fault_of_exhausted(error: Mapping[str, Any]) -> Fault:
    """Google's three cures: wait a day or pay (per day, limit 0), wait a little (per minute), go slower (shared)."""
    details, message = _google_details(error), str(error.get("message", ""))
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId", "")):
                return Fault.QUOTA
    if re.search(r"\blimit: 0\b", message):
        return Fault.QUOTA
    # Vertex without a quota of the account's own: the capacity that everybody shares is exhausted.
    return Fault.RATE_LIMIT if details or "uota" in message else Fault.CAPACITY


def _google_details(error: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    details = (error or {}).get("details")
    return [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []


def retry_after_s(
    headers: Mapping[str, str], error: Mapping[str, Any] | None = None, *, now_s: float = 0.0
) -> float | None:
    """How long the provider asks to be left alone, in seconds, or None.

    An honest hour stays an hour; what asks for more than a day is looked at again after one.
    """
    asked_s = _asked_s(headers, error, now_s=now_s)
    return None if asked_s is None else min(asked_s, LONGEST_WAIT_S)


def _asked_s(headers: Mapping[str, str], error: Mapping[str, Any] | None, *, now_s: float) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("x-amz-retry-after", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return seconds * unit_s
    if headers.get("retry-after"):
        try:
            return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - now_s)
        except (TypeError, ValueError):
            return None
    for detail in _google_details(error):
        delay = str(detail.get("retryDelay", ""))
        if delay.endswith("s"):
            return _number(delay[:-1])
    return None


def _says_when(headers: Mapping[str, str]) -> bool:
    return "retry-after" in headers or "retry-after-ms" in headers


def _number(text: str) -> float | None:
    """A number ≥ 0 in plain decimal, else None (no nan, no infinity, no sign)."""
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()) else None
