"""What both protocol families share: a call as it was read, an answer as it will be sent, and what is said."""

import abc
import gzip
import hmac
import itertools
import json
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from pointsman.fake.ledger import credential, digest
from pointsman.fake.schema import example
from pointsman.fake.wire import Headers, Request

MINUTE_S: Final = 60.0
# When it is, for a fake whose time stands still: the beginning of 2026.
STILL_S: Final = 1_767_225_600
JSON: Final = ("content-type", "application/json")
# What a token of JSON is here: a word, or what stands between words.
_PIECES: Final = re.compile(r"\w+|\W+")
# Words of a signal box: what a fake says after its name, one token each.
_WORDS: Final = tuple(
    re.findall(
        r" \w+",
        " the line is clear and the points are set for the down train so let it pass at caution"
        " while the signalman writes the time in the register",
    )
)


class Event(Struct, frozen=True):
    """One server-sent event with its blank line. `token`: it carries one, and waits for the time of one."""

    data: bytes
    token: bool = False


class Call(Struct, frozen=True, kw_only=True):
    """A request as its family reads it. `path` has no prefix ("/v1/messages").

    `body` is the JSON object, or None when there is none to read; `opaque`: the body is in a coding that is not
    read here (zstd), and is answered as if it were in order.
    """

    request: Request
    path: str
    body: dict[str, Any] | None = None
    model: str = ""
    stream: bool = False
    makes_tokens: bool = False
    opaque: bool = False


class Answer(Struct, kw_only=True):
    """What to send: a whole body, or events. `tokens_out` is what a whole body holds."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    events: Iterator[Event] | None = None
    tokens_out: int = 0


class Tool(Struct, frozen=True):
    """A tool that the caller offers, and the JSON schema of its arguments as the caller gave it."""

    name: str
    schema: object


class Use(Struct, frozen=True, kw_only=True):
    """A call of a tool. `pieces` are the JSON of its arguments, a token each; `whole`: no limit cut them."""

    id: str
    name: str
    pieces: list[str]
    whole: bool

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class Said(Struct, frozen=True, kw_only=True):
    """What an answer says: a text, a token each, or calls of tools. `cut`: a limit cut it short."""

    tokens: list[str] = []
    uses: list[Use] = []
    cut: bool

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def count(self) -> int:
        """Its tokens."""
        return len(self.tokens) + sum(len(use.pieces) for use in self.uses)


class Refusal(Exception):  # noqa: N818 - an answer that cuts the making of another one short
    """The request is answered with an error of the family's."""

    def __init__(self, status: int, message: str, code: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


class Allowance:
    """Requests and tokens of the present minute against their limits, for the rate-limit headers."""

    TOKENS_PER_REQUEST: Final = 200

    def __init__(self, rpm: int, *, still: bool = False) -> None:
        self._still = still
        self.enforced = rpm > 0
        self.requests_limit = rpm or 10_000
        self.tokens_limit = self.requests_limit * self.TOKENS_PER_REQUEST
        self._start_s = time.monotonic()
        self._requests = 0
        self._tokens = 0

    def spend(self, tokens: int) -> bool:
        """Count a request; False when it is over an enforced limit (and is not counted)."""
        now_s = time.monotonic()
        if now_s - self._start_s >= MINUTE_S:
            self._start_s, self._requests, self._tokens = now_s, 0, 0
        if self.enforced and self._requests >= self.requests_limit:
            return False
        self._requests += 1
        self._tokens += tokens
        return True

    @property
    def reset_s(self) -> float:
        """Seconds until the next minute begins."""
        if self._still:
            return MINUTE_S
        return max(0.0, MINUTE_S - (time.monotonic() - self._start_s))

    @property
    def requests_left(self) -> int:
        return max(0, self.requests_limit - self._requests)

    @property
    def tokens_left(self) -> int:
        return max(0, self.tokens_limit - self._tokens)


class Persona(Struct, frozen=True, kw_only=True):
    """Who a fake is. `models` empty: any model is served; `api_keys` empty: no credential is asked for.

    `still`: time stands still in what it says; `echo`: it says what it was last asked.
    """

    name: str
    kind: str = ""
    models: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    tokens: int = 20
    still: bool = False
    echo: bool = False


class Dialect(abc.ABC):
    """One protocol family: pure but for a serial number; who answers when is the server's business."""

    token_paths: frozenset[str]
    default_model: str
    overloaded: int  # the status by which the family says so
    use_prefix: str  # of the identifiers of calls of tools

    def __init__(self, persona: Persona, allowance: Allowance) -> None:
        self.persona = persona
        self.allowance = allowance
        self.mark = digest(persona.name)[:8]
        self._serial = itertools.count(1)

    @abc.abstractmethod
    def answer(self, call: Call) -> Answer:
        """The answer to a call, errors included."""

    @abc.abstractmethod
    def error(self, status: int, message: str = "", code: str = "", param: str | None = None) -> Answer:
        """An error answer in the family's shape; what is left empty is as the family has it for that status."""

    @abc.abstractmethod
    def error_event(self, call: Call, status: int, code: str, sent: int) -> bytes:
        """The family's error in a stream, after `sent` events."""

    def call(self, request: Request, path: str) -> Call:
        """Read a request. What cannot be read is left out, for `answer` to complain of."""
        makes_tokens = request.method == "POST" and path in self.token_paths
        if request.method != "POST":
            return Call(request=request, path=path)
        try:
            plain = _decoded(request)
            body = None if plain is None else msgspec.json.decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError, EOFError, zlib.error):
            return Call(request=request, path=path, makes_tokens=makes_tokens)
        if plain is None:
            return Call(
                request=request, path=path, model=self.default_model, makes_tokens=makes_tokens, opaque=True
            )
        if not isinstance(body, dict):
            return Call(request=request, path=path, makes_tokens=makes_tokens)
        model = body.get("model")
        return Call(
            request=request,
            path=path,
            body=body,
            model=model if isinstance(model, str) else "",
            stream=makes_tokens and body.get("stream") is True,
            makes_tokens=makes_tokens,
        )

    def wall_s(self) -> int:
        """Seconds since 1970, for the timestamps of answers."""
        return STILL_S if self.persona.still else int(time.time())

    def new_id(self, prefix: str) -> str:
        """An identifier that tells which provider gave it: it holds the mark of the provider's name."""
        return f"{prefix}{self.mark}{next(self._serial):016x}"

    def admit(self, call: Call) -> None:
        """Raise Refusal unless the credential is one of those that are asked for."""
        keys = self.persona.api_keys
        brought = credential(call.request).encode()
        known = [hmac.compare_digest(brought, key.encode()) for key in keys]
        if keys and not any(known):
            raise Refusal(401, "missing credential" if not brought else "invalid credential")

    def body_of(self, call: Call) -> dict[str, Any]:
        """The body of a call, with a model that is served. Raises Refusal."""
        if call.opaque:
            return {"model": call.model, "messages": [], "input": "", "max_tokens": 1024}
        if call.body is None:
            raise Refusal(400, "We could not parse the JSON body of your request.")
        if not call.model:
            raise Refusal(400, "model: field required", param="model")
        if self.persona.models and call.model not in self.persona.models:
            raise Refusal(404, f"model: {call.model[:200]}", "model_not_found", "model")
        return call.body

    @property
    def openrouter(self) -> bool:
        """Is it OpenRouter, which speaks both families."""
        return self.persona.kind == "openrouter"

    def key(self) -> Answer:
        """OpenRouter's word on a credential, and on what is left of its limit."""
        data = {
            "label": self.persona.name,
            "limit": 100.0,
            "limit_remaining": 99.0,
            "usage": 1.0,
            "is_free_tier": False,
            "effective_budget": {"remaining_usd": 99.0},
        }
        return json_answer(200, {"data": data})

    @property
    def models(self) -> tuple[str, ...]:
        return self.persona.models or (self.default_model,)

    def model_named(self, path: str) -> str:
        """The model that "/v1/models/…" names. Raises Refusal for one that is not served."""
        name = unquote(path.removeprefix("/v1/models/"))
        if name not in self.models:
            raise Refusal(404, f"model: {name[:200]}", "model_not_found", "model")
        return name

    def said(self, call: Call, limit: int | None, tools: Sequence[Tool] = ()) -> Said:
        """What the answer says, cut at `limit` tokens: a text, or calls of `tools`. It names who speaks.

        The caller may ask for another length than the usual with the header x-fake-tokens. An echo says, a word a
        token, the last text of what it was asked, whatever the length.
        """
        if tools:
            return self._used(call, limit, tools)
        if self.persona.echo:
            tokens = [f"{self.persona.name} says:", *(f" {word}" for word in last_text(call.body).split())]
            return Said(tokens=tokens[:limit], cut=limit is not None and limit < len(tokens))
        asked = call.request.header("x-fake-tokens")
        count = max(1, min(int(asked), 100_000)) if asked.isdecimal() else self.persona.tokens
        cut = limit is not None and limit < count
        count = limit if limit is not None and cut else count
        words = itertools.islice(itertools.cycle(_WORDS), count - 1)
        return Said(tokens=[f"{self.persona.name} says:", *words], cut=cut)

    def _used(self, call: Call, limit: int | None, tools: Sequence[Tool]) -> Said:
        """Calls of tools with the provider's name, or what an echo was asked, wherever a string is wanted."""
        text = last_text(call.body) if self.persona.echo else self.persona.name
        uses: list[Use] = []
        left = limit
        for tool in tools:
            if left == 0:
                return Said(uses=uses, cut=True)
            arguments = json.dumps(example(tool.schema, text), ensure_ascii=False, separators=(",", ":"))
            pieces = _PIECES.findall(arguments)
            whole = left is None or len(pieces) <= left
            uses.append(
                Use(id=self.new_id(self.use_prefix), name=tool.name, pieces=pieces[:left], whole=whole)
            )
            left = None if left is None else max(0, left - len(pieces))
        return Said(uses=uses, cut=not uses[-1].whole)


def tokens_in(*texts: object) -> int:
    """A count of input tokens: a quarter of the letters, at least 1."""
    return max(1, sum(map(_letters, texts)) // 4)


def last_text(value: object) -> str:
    """The last text in a body's messages or input, "" if there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((text for entry in reversed(value) if (text := last_text(entry))), "")
    if isinstance(value, dict):
        return next(
            (text for key in ("messages", "input", "content", "text") if (text := last_text(value.get(key)))),
            "",
        )
    return ""


def _letters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_letters, value))
    if isinstance(value, dict):
        return sum(_letters(value[key]) for key in ("text", "content", "input") if key in value)
    return 0


def limit_of(body: dict[str, Any], *names: str, least: int = 1) -> int | None:
    """The smallest token limit that the body gives under one of `names`. Raises Refusal for what is no limit."""
    limits: list[int] = []
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refusal(400, f"Invalid type for '{name}': expected an integer.", "invalid_type", name)
        if value < least:
            raise Refusal(
                400,
                f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value}"
                " instead.",
                "integer_below_min_value",
                name,
            )
        limits.append(value)
    return min(limits, default=None)


def sse(data: object, event: str = "") -> bytes:
    """One server-sent event with `data` as JSON."""
    body = b"data: %b\n\n" % msgspec.json.encode(data)
    return b"event: %b\n%b" % (event.encode(), body) if event else body


def json_answer(status: int, data: object, headers: Headers = ()) -> Answer:
    """An answer with `data` as its JSON body."""
    return Answer(status=status, headers=[JSON, *headers], body=msgspec.json.encode(data))


def _decoded(request: Request) -> bytes | None:
    """The body without its content coding, None for a coding that is not read here."""
    match request.header("content-encoding").lower():
        case "" | "identity":
            return request.body
        case "gzip":
            return gzip.decompress(request.body)
        case "deflate":
            return zlib.decompress(request.body)
        case _:
            return None
