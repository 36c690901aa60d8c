"""One request on its way: what was asked, by whom, and under which table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pointsman.core.headers import API_KEYS
from pointsman.core.model import Family
from pointsman.proxy.api import Api, target_of
from pointsman.proxy.body import Head, decompressed, read_head, with_model
from pointsman.proxy.headers import Pairs, to_provider
from pointsman.proxy.http1 import request_head
from pointsman.proxy.requests import Record
from pointsman.proxy.settling import key_hash
from pointsman.proxy.view import Endpoint, View

# Claude Code and Codex name their sessions; any other client may.
_SESSIONS: Final = ("x-claude-code-session-id", "session_id", "x-session-id")


@dataclass(slots=True)
class Job:
    """A request as forwarding needs it. `plain` is the body decoded, if it came compressed."""

    id: str
    api: Api
    family: Family
    method: str
    path: str
    query: str
    headers: Pairs
    low: Mapping[str, bytes]
    body: bytes
    view: View
    route: str = ""
    head: Head | None = None
    plain: bytes | None = None
    key: int | None = None
    caller: int = 0
    record: Record = field(default_factory=lambda: Record(id="", at_s=0.0, route="", api=""))

    @property
    def streamed(self) -> bool:
        """Does the caller ask for a stream."""
        return self.head is not None and self.head.stream

    @property
    def synthetic(self) -> bool:
        """Traffic made for a canary, counted apart."""
        return self.low.get("x-pointsman-synthetic") == b"1"

    @property
    def asked(self) -> str:
        """The target that synthetic traffic asks for, or "": callers have no say in it."""
        return self.header("x-pointsman-arm") if self.synthetic else ""

    def header(self, name: str) -> str:
        """The value of the header called `name` (in lower case), "" if there is none."""
        return self.low.get(name, b"").decode("latin-1")

    @property
    def counts(self) -> bool:
        """Only what a model answers is evidence: counting tokens and keeping files say nothing about it."""
        return self.api not in {Api.COUNT_TOKENS, Api.INPUT_TOKENS, Api.COMPACT, Api.ACCOUNT}

    @property
    def own_headers(self) -> dict[str, str]:
        """The headers of every answer to it, whoever gave it."""
        return {"x-pointsman-request-id": self.id, "x-pointsman-table": self.view.version}

    @property
    def own_lines(self) -> bytes:
        """The same as they are written."""
        return f"x-pointsman-request-id: {self.id}\r\nx-pointsman-table: {self.view.version}\r\n".encode()

    def read_head(self, limit: int) -> None:
        """Find the model (and the like) in the body. Raises BodyError."""
        encoding = self.header("content-encoding")
        if encoding and encoding.lower() != "identity":
            self.plain = decompressed(self.body, encoding, limit)
        self.head = read_head(self.body if self.plain is None else self.plain)
        self.route = self.head.model

    def written_for(self, endpoint: Endpoint, credential: int) -> tuple[bytes, bytes]:
        """(head, body) of the request as `endpoint` gets it, with one of its credentials."""
        body, keep_encoding = self._body_for(endpoint.model)
        lines = to_provider(self.headers, self.low, endpoint.overridden, keep_encoding=keep_encoding)
        own = endpoint.own_lines[credential % len(endpoint.own_lines)]
        target = target_of(endpoint.base_url, endpoint.family, self.path, self.query)
        length = len(body) if body or self.method in {"POST", "PUT", "PATCH"} else None
        return request_head(self.method, target, lines, own, length), body

    def _body_for(self, model: str) -> tuple[bytes, bool]:
        """(the body with `model` in it, may its content-encoding stay)."""
        if self.head is None or self.head.model == model:
            return self.body, True
        if self.plain is not None:
            return with_model(self.plain, self.head.places, model), False
        return with_model(self.body, self.head.places, model), True

    def forget_body(self) -> None:
        """Nothing will be sent again: a stream may live for minutes, and bodies are large."""
        self.body, self.plain = b"", None

    def identify(self, sticky_by: Sequence[str], remote: str) -> None:
        """Set the sticky key (the first of `sticky_by` that the request has) and the caller's identity."""
        head = self.head
        session = next((self.low[name] for name in _SESSIONS if name in self.low), b"").decode("latin-1")
        credential = next((self.low[name] for name in API_KEYS if name in self.low), b"").decode("latin-1")
        user = head.user if head else ""
        session = session or (head.session if head else "")
        known = {"session": session, "user": user, "api_key": credential}
        for what in sticky_by:
            value = self.header(what.removeprefix("header:").lower()) if ":" in what else known.get(what, "")
            if value:
                self.key = key_hash(f"{what}={value}")
                break
        self.caller = key_hash(
            f"{credential}\x00{user}\x00{session}" if credential or user or session else remote
        )
