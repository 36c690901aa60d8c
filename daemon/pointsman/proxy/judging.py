"""What a provider's answer amounts to: whose fault it is, what it used, and what it is called."""

import time
from typing import Final

import msgspec
from msgspec import Raw, Struct

from pointsman.core.errors import Outcome, Wire, of_response, of_wire
from pointsman.core.strangers import UNREADABLE
from pointsman.proxy import lenient
from pointsman.proxy.body import BodyError, decompressed
from pointsman.proxy.headers import LIMIT
from pointsman.proxy.tokens import Tokens
from pointsman.proxy.usage import ANSWER, USAGE

# An answer up to this size is read whole before any of it is passed on; a larger one passes as it comes.
WHOLE_BYTES_MAX: Final = 8 << 20
_JSON: Final = b"application/json"
_NOT_FOUND: Final = "previous_response_not_found"


class Head:
    """The head of a provider's answer.

    `low`: lower-case name → value; `lines`: those of its headers that the caller gets; `tells_limit`: one is about a
    rate limit; `length` of its body in bytes, None: not known beforehand.
    """

    __slots__ = ("length", "lines", "low", "reason", "status", "tells_limit")

    def __init__(
        self,
        status: int,
        reason: bytes,
        low: dict[str, bytes],
        lines: bytes,
        *,
        tells_limit: bool = False,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.low = low
        self.lines = lines
        self.tells_limit = tells_limit
        self.length = length

    @property
    def ok(self) -> bool:
        """Is it a success."""
        return self.status < 300

    def limits(self) -> dict[str, str]:
        """Those of `low` that tell a rate limit, as text."""
        return {name: value.decode("latin-1") for name, value in self.low.items() if LIMIT in name}

    def text(self) -> dict[str, str]:
        """`low` as text."""
        return {name: value.decode("latin-1") for name, value in self.low.items()}

    @property
    def is_event_stream(self) -> bool:
        """A successful stream of events in plain bytes."""
        kind = self.low.get("content-type", b"")
        if not self.ok or kind == _JSON:
            return False
        plain = self.low.get("content-encoding", b"identity").lower() == b"identity"
        return plain and kind.strip().lower().startswith(b"text/event-stream")


class Whole:
    """A complete answer, of whatever status; `id` is what it calls itself, as it stands there; `ok`: a success."""

    __slots__ = ("body", "head", "id", "ok", "outcome")

    def __init__(self, outcome: Outcome, head: Head, body: bytes, id_: Raw) -> None:
        self.outcome = outcome
        self.ok = outcome is _OK or outcome.ok
        self.head = head
        self.body = body
        self.id = id_

    @property
    def unknown_here(self) -> bool:
        """Does the account not have the stored response that the request names? Nothing was generated then."""
        status = self.head.status
        return status == 404 or (status == 400 and self.outcome.detail.endswith(f" {_NOT_FOUND}"))


class _Loose(Struct):
    """The same where one of them is not as it should be; each is decoded by itself."""

    id: Raw = Raw()
    usage: Raw = Raw()
    error: Raw = Raw()


_LOOSE: Final = msgspec.json.Decoder(_Loose)
_NO_ID: Final = Raw()
_OK: Final = Outcome(of_response(200, {}).fault, status=200)


def judged(head: Head, body: bytes, tokens: Tokens, *, of_model: bool) -> tuple[Outcome, Raw]:
    """The outcome of a whole answer, and its id as it stands there; `tokens` learn how many were used.

    A success that calls itself JSON and is not was broken on its way, and a page of HTML comes from something
    in between. Where a model was to answer (`of_model`), only JSON and events are an answer.
    """
    encoding = head.low.get("content-encoding")
    if encoding:
        try:
            body = decompressed(body, encoding.decode("latin-1"), WHOLE_BYTES_MAX)
        except BodyError:
            return _plain(head), _NO_ID
    if not head.ok:
        return _plain(head, lenient.value(body)), _NO_ID
    kind = head.low.get("content-type", b"")
    if kind != _JSON and b"json" not in kind and (kind or not of_model):
        strange = not kind.startswith(b"text/event-stream") if of_model else kind.startswith(b"text/html")
        return (of_wire(Wire.BAD_BODY) if strange else _plain(head)), _NO_ID
    try:
        answer = ANSWER.decode(body)
    except msgspec.ValidationError:
        return _judged_loosely(head, body, tokens)
    except UNREADABLE:
        return of_wire(Wire.BAD_BODY), _NO_ID
    tokens.learn(answer.usage)
    return _told(head, answer.error), answer.id


def _judged_loosely(head: Head, body: bytes, tokens: Tokens) -> tuple[Outcome, Raw]:
    """A field that cannot be read says nothing; the others still do."""
    try:
        answer = _LOOSE.decode(body)
    except msgspec.ValidationError:  # no object: seen at its first byte, whatever comes after that
        other = lenient.value(body)
        return (of_wire(Wire.BAD_BODY) if other is None else _plain(head, other)), _NO_ID
    except UNREADABLE:
        return of_wire(Wire.BAD_BODY), _NO_ID
    if answer.usage:
        tokens.learn(lenient.typed(USAGE, answer.usage))
    return _told(head, answer.error), answer.id


def _told(head: Head, raw: Raw) -> Outcome:
    """The outcome of a success that names an error, or none."""
    error = lenient.value(raw) if raw else None
    return _plain(head, {"error": error} if error else None)


def _plain(head: Head, body: object = None) -> Outcome:
    if head.status == 200 and body is None:
        return _OK
    return of_response(head.status, head.text(), body, now_s=time.time())
