"""The provider APIs that pass through: their paths, their error shapes, their events. Pure.

A path decides the API, and the API the protocol family; the query never matters (Claude Code sends
`/v1/messages?beta=true`). A path travels under the provider's own credential, so only plain ones do: names and ids,
nothing that climbs out of the API that it begins with.
"""

import functools
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

import msgspec
from msgspec import Struct

from pointsman.core.endpoints import join
from pointsman.core.model import Family
from pointsman.proxy.headers import written


class Api(StrEnum):
    """What a request asks for; the value is the OpenTelemetry name of the operation where there is one."""

    CHAT = "chat"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    INPUT_TOKENS = "input_tokens"  # the same of the openai family
    COMPACT = "compact"
    ACCOUNT = "account"  # files, batches, conversations, stored responses: they live at one account


FAMILY_OF: Final = {
    Api.CHAT: Family.OPENAI,
    Api.RESPONSES: Family.OPENAI,
    Api.INPUT_TOKENS: Family.OPENAI,
    Api.COMPACT: Family.OPENAI,
    Api.EMBEDDINGS: Family.OPENAI,
    Api.MESSAGES: Family.ANTHROPIC,
    Api.COUNT_TOKENS: Family.ANTHROPIC,
}
PATHS: Final = {
    "/v1/chat/completions": Api.CHAT,
    "/v1/responses": Api.RESPONSES,
    "/v1/responses/input_tokens": Api.INPUT_TOKENS,
    "/v1/responses/compact": Api.COMPACT,
    "/v1/embeddings": Api.EMBEDDINGS,
    "/v1/messages": Api.MESSAGES,
    "/v1/messages/count_tokens": Api.COUNT_TOKENS,
}
_ACCOUNT_PATH: Final = re.compile(
    r"/v1/(files|batches|uploads|conversations|responses|messages/batches)(/.*)?"
)
_ACCOUNT_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE"})
_SEGMENT: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~:@=+,-]+")
_STORED_RESPONSE: Final = re.compile(r"/v1/responses/([^/]+)")
_SECRET_PARAMETERS: Final = frozenset({"key", "api-key", "access-token", "subscription-key"})


def api_of(method: str, path: str) -> Api | None:
    """The API that `method` on `path` belongs to, or None if nothing is served there."""
    api = PATHS.get(path)
    if api is not None and method == "POST":
        return api
    of_account = method in _ACCOUNT_METHODS and _ACCOUNT_PATH.fullmatch(path) and _is_plain(path)
    return Api.ACCOUNT if of_account else None


def _is_plain(path: str) -> bool:
    """Is every segment a name or an id, however it is written? A trailing slash is harmless."""
    segments = path.removeprefix("/").removesuffix("/").split("/")
    return all(_SEGMENT.fullmatch(unquote(segment)) for segment in segments)


def stored_response_id(path: str) -> str:
    """The response that `path` names (`/v1/responses/resp_1/cancel` → "resp_1"), or ""."""
    found = _STORED_RESPONSE.match(path)
    return found.group(1) if found else ""


def looks_anthropic(path: str, has_version: bool) -> bool:
    """Whose error shape a caller reads: Anthropic's clients send `anthropic-version` with every request."""
    return has_version or path.startswith("/v1/messages")


def url_of(base_url: str, family: str, path: str, query: str = "") -> str:
    """The provider's URL for an inbound path and query. Parameters that carry a caller's key do not travel."""
    query = "&".join(part for part in query.split("&") if not _is_secret_parameter(part))
    return join(base_url, family, path) + (f"?{query}" if query else "")


@functools.lru_cache(maxsize=1024)
def target_of(base_url: str, family: str, path: str, query: str) -> bytes:
    """What stands behind the method in the request line: the path and the query of `url_of`."""
    _, _, rest = url_of(base_url, family, path, query).partition("://")
    slash = rest.find("/")
    return rest[slash:].encode() if slash >= 0 else b"/"


def _is_secret_parameter(part: str) -> bool:
    name = unquote_plus(part.partition("=")[0]).strip().lower().replace("_", "-")
    return name in _SECRET_PARAMETERS


# --- errors in the caller's own shape

_ANTHROPIC_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
}
_OPENAI_KINDS: Final = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
}
FALLBACK_EXHAUSTED: Final = "fallback_exhausted"


def error_body(
    family: Family, status: int, message: str, *, kind: str = "", code: str = "", request_id: str = ""
) -> bytes:
    """An error as `family`'s own clients read it; `kind` "" takes the family's usual type of `status`."""
    if family is Family.ANTHROPIC:
        kind = kind or _ANTHROPIC_KINDS.get(status, "api_error")
        return msgspec.json.encode(
            {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
        )
    kind = kind or _OPENAI_KINDS.get(status, "server_error")
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": None, "code": code or kind}}
    )


class Reply(Struct, frozen=True):
    """An answer of the proxy's own; `lines` are header lines, each with its line end."""

    status: int
    body: bytes
    lines: bytes = b""
    kind: bytes = b"application/json"


def error_response(
    family: Family,
    status: int,
    message: str,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    code: str = "",
) -> Reply:
    """An error of the proxy's own, in the family's shape."""
    headers = headers or {}
    request_id = headers.get("x-pointsman-request-id", "")
    body = error_body(family, status, message, kind=kind, code=code, request_id=request_id)
    return Reply(status, body, written(headers))


def stream_error(api: Api, message: str, *, events: int = 0, response_id: str = "") -> bytes:
    """The events that end a broken stream, after a blank line that closes whatever was cut off.

    Chat gets no [DONE], and no API gets its terminal event of success: a truncated answer must not look whole.
    `events` is how many the caller has seen: the next number of a Responses stream's sequence.
    """
    if api is Api.MESSAGES:
        return _event("error", {"type": "error", "error": {"type": "api_error", "message": message}})
    if api is Api.RESPONSES:
        inner = {"code": "server_error", "message": message}
        response = {"id": response_id, "object": "response", "status": "failed", "error": inner, "output": []}
        failed = {"type": "response.failed", "sequence_number": events, "response": response}
        nested = {"type": "server_error", **inner}
        error = {"type": "error", "sequence_number": events + 1, **inner, "param": None, "error": nested}
        return _event("response.failed", failed) + _event("error", error)
    error_data = {
        "error": {"message": message, "type": "server_error", "param": None, "code": "stream_broken"}
    }
    return _event("", error_data)


def _event(name: str, data: dict[str, Any]) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return b"\n\n" + head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def ping(api: Api) -> bytes:
    """A sign of life that every client of `api` skips."""
    return b'event: ping\ndata: {"type": "ping"}\n\n' if api is Api.MESSAGES else b": ping\n\n"


# --- the list of models: the routes


class _AnthropicModel(Struct, tag_field="type", tag="model"):
    id: str
    display_name: str
    created_at: str


def _anthropic_model(route: str) -> _AnthropicModel:
    return _AnthropicModel(route, route, "1970-01-01T00:00:00Z")


def _openai_model(route: str) -> dict[str, Any]:
    return {"id": route, "object": "model", "created": 0, "owned_by": "pointsman"}


def models_body(family: Family, routes: list[str]) -> bytes:
    """GET /v1/models: the routes of a family, as its clients read a list of models."""
    if family is Family.ANTHROPIC:
        ends = (
            {"first_id": routes[0], "last_id": routes[-1]} if routes else {"first_id": None, "last_id": None}
        )
        models = [_anthropic_model(route) for route in routes]
        return msgspec.json.encode({"data": models, "has_more": False, **ends})
    return msgspec.json.encode({"object": "list", "data": [_openai_model(route) for route in routes]})


def model_body(family: Family, route: str) -> bytes:
    """GET /v1/models/{route}."""
    return msgspec.json.encode(
        _anthropic_model(route) if family is Family.ANTHROPIC else _openai_model(route)
    )
