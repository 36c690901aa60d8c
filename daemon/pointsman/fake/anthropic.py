"""The anthropic family: Messages, token counting, models, as Anthropic documents them.

With the kind "openrouter", /v1/key tells what is left of a limit.
"""

import datetime as dt
from typing import Any, Final

from pointsman.fake.dialect import (
    Answer,
    Call,
    Dialect,
    Refusal,
    json_answer,
    limit_of,
    sse,
    tokens_in,
)
from pointsman.fake.messages import blocks, message_events, stop_reason
from pointsman.fake.tools import forced_tools

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MESSAGES: Final = {
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the API.",
    403: "Your API key does not have permission to use the specified resource.",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit.",
    500: "Internal server error",
    503: "Service unavailable",
    504: "Request timed out",
    529: "Overloaded",
}


class Anthropic(Dialect):
    """Messages as a provider speaks it."""

    token_paths = frozenset({"/v1/messages"})
    default_model = "claude-haiku-4-5"
    overloaded = 529
    use_prefix = "toolu_"

    def answer(self, call: Call) -> Answer:
        try:
            self.admit(call)
            answer = self._answer(call)
        except Refusal as refusal:
            # In this family the type tells; the codes are for what a type leaves open.
            answer = self.error(refusal.status, refusal.message)
        return answer

    def error(self, status: int, message: str = "", code: str = "", param: str | None = None) -> Answer:
        request_id = self.new_id("req_")
        body = {"type": "error", "error": _error(status, message, code), "request_id": request_id}
        answer = json_answer(status, body, [("request-id", request_id)])
        if status == 429:
            answer.headers += self._limits(exhausted=True)
        return answer

    def error_event(self, call: Call, status: int, code: str, sent: int) -> bytes:
        return sse({"type": "error", "error": _error(status, "", code)}, "error")

    def _answer(self, call: Call) -> Answer:
        method, path = call.request.method, call.path
        if method == "GET" and path == "/v1/key" and self.openrouter:
            return self.key()
        if not call.request.header("anthropic-version"):
            raise Refusal(400, "anthropic-version: header is required")
        if method in {"GET", "HEAD"} and path == "/v1/models":
            return self._ok(self._models())
        if method in {"GET", "HEAD"} and path.startswith("/v1/models/"):
            return self._ok(_model(self.model_named(path)))
        if method == "POST" and path == "/v1/messages/count_tokens":
            body = self.body_of(call)
            _messages_of(body)
            return self._ok({"input_tokens": _tokens_in(body)})
        if method == "POST" and path == "/v1/messages":
            return self._messages(call)
        raise Refusal(404, "Not found")

    def _models(self) -> dict[str, Any]:
        listed = [_model(name) for name in self.models]
        return {
            "data": listed,
            "has_more": False,
            "first_id": listed[0]["id"],
            "last_id": listed[-1]["id"],
        }

    def _messages(self, call: Call) -> Answer:
        body = self.body_of(call)
        _messages_of(body)
        limit = limit_of(body, "max_tokens")
        if limit is None:
            raise Refusal(400, "max_tokens: Field required")
        said = self.said(call, limit, forced_tools(body))
        message: dict[str, Any] = {
            "id": self.new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(_tokens_in(body), 1),
        }
        if call.stream:
            headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
            headers += self._headers()
            return Answer(status=200, headers=headers, events=message_events(message, said))
        message["content"] = [block.whole for block in blocks(said)]
        message["stop_reason"] = stop_reason(said)
        message["usage"] = _usage(_tokens_in(body), said.count)
        answer = self._ok(message)
        answer.tokens_out = said.count
        return answer

    def _ok(self, data: object) -> Answer:
        return json_answer(200, data, self._headers())

    def _headers(self) -> list[tuple[str, str]]:
        return [
            ("request-id", self.new_id("req_")),
            ("anthropic-organization-id", f"org-{self.mark}"),
            *self._limits(),
        ]

    def _limits(self, *, exhausted: bool = False) -> list[tuple[str, str]]:
        """Limit, remaining (tokens to the nearest thousand) and reset (RFC 3339) of each dimension."""
        allowance = self.allowance
        moment = dt.datetime.fromtimestamp(self.wall_s(), dt.UTC) + dt.timedelta(seconds=allowance.reset_s)
        reset = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        tokens = allowance.tokens_limit
        dimensions = {
            "requests": (allowance.requests_limit, allowance.requests_left),
            "tokens": (tokens, allowance.tokens_left),
            "input-tokens": (tokens // 2, min(tokens // 2, allowance.tokens_left)),
            "output-tokens": (tokens // 2, min(tokens // 2, allowance.tokens_left)),
        }
        headers = []
        for name, (limit, left) in dimensions.items():
            remaining = left if name == "requests" else round(left, -3)
            headers += [
                (f"anthropic-ratelimit-{name}-limit", str(limit)),
                (f"anthropic-ratelimit-{name}-remaining", "0" if exhausted else str(remaining)),
                (f"anthropic-ratelimit-{name}-reset", reset),
            ]
        return headers


def _messages_of(body: dict[str, Any]) -> None:
    if not isinstance(body.get("messages"), list):
        raise Refusal(400, "messages: Field required")


def _tokens_in(body: dict[str, Any]) -> int:
    return tokens_in(body.get("system"), body["messages"])


def _usage(count_in: int, count_out: int) -> dict[str, Any]:
    return {
        "input_tokens": count_in,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": count_out,
        "service_tier": "standard",
    }


def _model(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    }


def _error(status: int, message: str, code: str) -> dict[str, Any]:
    """The inner error. A code that is a type of the family's takes its place; another goes to the details."""
    usual = _TYPES.get(status, _TYPES[400 if 400 <= status < 500 else 500])
    kind = code if code in _TYPES.values() else usual
    text = message or _MESSAGES.get(status, kind.replace("_", " "))
    error: dict[str, Any] = {"type": kind, "message": text}
    if code and code != kind:
        error["details"] = {"error_code": code}
    return error
