"""The openai family: Chat Completions, Responses, Embeddings, models, as OpenAI documents them.

With the kind "openrouter", errors and comments are OpenRouter's, and /v1/key tells what is left of a limit.
"""

import time
from typing import Any, Final

from pointsman.fake.chat import chunks, completion
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
from pointsman.fake.embeddings import embed
from pointsman.fake.responses import OUTPUT_TOKENS_MIN, response, response_events
from pointsman.fake.tools import forced_functions

# status → (type, code)
_ERRORS: Final[dict[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("billing_error", "credit_balance_exhausted"),
    403: ("request_forbidden", "unsupported_country_region_territory"),
    404: ("invalid_request_error", None),
    408: ("timeout", "request_timeout"),
    409: ("conflict_error", None),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    502: ("server_error", "bad_gateway"),
    503: ("service_unavailable_error", "server_is_overloaded"),
    504: ("server_error", "gateway_timeout"),
    529: ("overloaded_error", "server_is_overloaded"),
}
_MESSAGES: Final = {
    401: "Incorrect API key provided.",
    402: "Your credit balance is exhausted.",
    403: "Country, region, or territory not supported",
    404: "Not found",
    429: "Rate limit reached for requests",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The server is currently overloaded. Please try again later.",
}
# Codes that come with a type of their own, whatever the status.
_TYPE_OF_CODE: Final = {
    "insufficient_quota": "insufficient_quota",
    "credit_balance_exhausted": "insufficient_quota",
}


class OpenAI(Dialect):
    """Chat Completions, Responses and Embeddings as a provider speaks them."""

    token_paths = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/embeddings"})
    default_model = "gpt-5-nano"
    overloaded = 503
    use_prefix = "call_"

    def answer(self, call: Call) -> Answer:
        start_s = time.perf_counter()
        try:
            self.admit(call)
            answer = self._answer(call)
        except Refusal as refusal:
            return self.error(refusal.status, refusal.message, refusal.code, refusal.param)
        spent_ms = 0.0 if self.persona.still else (time.perf_counter() - start_s) * 1000
        answer.headers += self._headers()
        answer.headers.append(("openai-processing-ms", str(max(1, round(spent_ms)))))
        return answer

    def error(self, status: int, message: str = "", code: str = "", param: str | None = None) -> Answer:
        answer = json_answer(status, {"error": self._error(status, message, code, param)})
        answer.headers += self._headers(exhausted=status == 429)
        return answer

    def error_event(self, call: Call, status: int, code: str, sent: int) -> bytes:
        error = self._error(status, "", code, None)
        if call.path == "/v1/responses":
            return sse({"type": "error", "sequence_number": sent, "error": error}, "error")
        if self.openrouter:
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            return sse({"object": "chat.completion.chunk", "error": error, "choices": [choice]})
        return sse({"error": error})

    def _error(self, status: int, message: str, code: str, param: str | None) -> dict[str, Any]:
        kind, usual = _ERRORS.get(status, _ERRORS[400 if 400 <= status < 500 else 500])
        text = message or _MESSAGES.get(status, kind.replace("_", " "))
        if self.openrouter:
            metadata = {"error_type": code} if code else {}
            return {"code": status, "message": text, "metadata": metadata}
        kind = _TYPE_OF_CODE.get(code, kind)
        return {"message": text, "type": kind, "param": param, "code": code or usual}

    def _answer(self, call: Call) -> Answer:
        path = call.path
        if call.request.method in {"GET", "HEAD"}:
            if path == "/v1/models":
                return json_answer(
                    200, {"object": "list", "data": [self._model(name) for name in self.models]}
                )
            if path.startswith("/v1/models/"):
                return json_answer(200, self._model(self.model_named(path)))
            if path == "/v1/key" and self.openrouter:
                return self.key()
        elif call.request.method == "POST":
            if path == "/v1/chat/completions":
                return self._chat(call)
            if path == "/v1/responses":
                return self._response(call)
            if path == "/v1/embeddings":
                return json_answer(200, embed(self.body_of(call)))
        raise Refusal(404, f"Invalid URL ({call.request.method} {path[:200]})")

    def _chat(self, call: Call) -> Answer:
        body = self.body_of(call)
        if not isinstance(body.get("messages"), list):
            raise Refusal(
                400, "Missing required parameter: 'messages'.", "missing_required_parameter", "messages"
            )
        limit = limit_of(body, "max_tokens", "max_completion_tokens")
        said = self.said(call, limit, forced_functions(body))
        base = {"id": self.new_id("chatcmpl-"), "created": self.wall_s(), "model": call.model}
        count_in = tokens_in(body["messages"])
        if not call.stream:
            return _whole(completion(base, said, count_in), said.count)
        options = body.get("stream_options")
        usage = isinstance(options, dict) and options.get("include_usage") is True
        preamble = b": OPENROUTER PROCESSING\n\n" if self.openrouter else b""
        return Answer(
            status=200,
            headers=_stream_headers(),
            events=chunks(base, said, count_in, usage=usage, preamble=preamble),
        )

    def _response(self, call: Call) -> Answer:
        body = self.body_of(call)
        if not isinstance(body.get("input"), str | list):
            raise Refusal(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")
        limit = limit_of(body, "max_output_tokens", least=OUTPUT_TOKENS_MIN)
        previous = body.get("previous_response_id")
        if previous is not None and not str(previous).startswith(f"resp_{self.mark}"):
            raise Refusal(
                400,
                f"Previous response with id '{str(previous)[:80]}' not found.",
                "previous_response_not_found",
                "previous_response_id",
            )
        said = self.said(call, limit, forced_functions(body))
        count_in = tokens_in(body.get("instructions"), body["input"])
        base = response(self.new_id("resp_"), call.model, self.wall_s(), body, limit=limit)
        *_, last = events = list(response_events(base, self.new_id, said, count_in))
        if not call.stream:
            return _whole(last.payload["response"], said.count)
        return Answer(status=200, headers=_stream_headers(), events=iter([event.event for event in events]))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": self.persona.name}

    def _headers(self, *, exhausted: bool = False) -> list[tuple[str, str]]:
        """The request's id, and the limits: remaining, and the reset as a duration ("1s", "6m0s")."""
        allowance = self.allowance
        reset_s = round(allowance.reset_s)
        reset = f"{reset_s // 60}m{reset_s % 60}s" if reset_s >= 60 else f"{reset_s}s"
        return [
            ("x-request-id", self.new_id("req_")),
            ("x-ratelimit-limit-requests", str(allowance.requests_limit)),
            ("x-ratelimit-remaining-requests", "0" if exhausted else str(allowance.requests_left)),
            ("x-ratelimit-reset-requests", reset),
            ("x-ratelimit-limit-tokens", str(allowance.tokens_limit)),
            ("x-ratelimit-remaining-tokens", "0" if exhausted else str(allowance.tokens_left)),
            ("x-ratelimit-reset-tokens", reset),
        ]


def _whole(data: dict[str, Any], tokens_out: int) -> Answer:
    answer = json_answer(200, data)
    answer.tokens_out = tokens_out
    return answer


def _stream_headers() -> list[tuple[str, str]]:
    return [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
