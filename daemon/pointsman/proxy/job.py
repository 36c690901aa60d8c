"""One request on its way: what was asked, by whom, and under which table."""

from collections.abc import Sequence
from random import getrandbits
from typing import Final

from pointsman.core.model import Family
from pointsman.proxy.api import Api, target_of
from pointsman.proxy.asked import Asked
from pointsman.proxy.body import Head, OpaqueError, Pieces, decompressed, read_head, sum_of, with_model
from pointsman.proxy.http1 import request_head
from pointsman.proxy.requests import Record
from pointsman.proxy.routing import Endpoint, View
from pointsman.proxy.settling import key_hash

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class Job:
    """A request as forwarding needs it. `plain` is the body decoded, if it came compressed."""

    __slots__ = (
        "api", "asked", "body", "caller", "counts", "embeds", "family", "head", "id", "kept", "key", "makes_responses",
        "of_account", "plain", "record", "route", "spent", "streamed", "synthetic", "view",
    )  # fmt: skip

    def __init__(self, asked: Asked, api: Api, family: Family, body: bytes, view: View) -> None:
        self.id = getrandbits(96).to_bytes(12, "big").hex()
        self.asked = asked
        self.api = api
        kind = asked.kind
        self.counts = kind.counts
        self.of_account = kind.of_account
        self.embeds = kind.embeds
        self.makes_responses = kind.makes_responses
        self.synthetic = asked.synthetic  # made for a canary, and counted apart
        self.family = family
        self.body = body
        self.view = view
        self.route = ""
        self.head: Head | None = None
        self.plain: bytes | None = None
        self.key: int | None = None
        self.caller = 0
        self.kept = True  # for a second attempt
        self.spent = False  # the body is gone
        self.streamed = False  # does the caller ask for a stream
        self.record: Record

    @property
    def arm(self) -> str:
        """The target that synthetic traffic asks for, or "": callers have no say in it."""
        return self.asked.header("x-pointsman-arm") if self.asked.synthetic else ""

    @property
    def own_headers(self) -> dict[str, str]:
        """The headers of every answer to it, whoever gave it."""
        return {"x-pointsman-request-id": self.id, "x-pointsman-table": self.view.version}

    def read_head(self, limit: int) -> None:
        """Find the model (and the like) in the body, or else the route in a header. Raises BodyError."""
        encoding = self.asked.header("content-encoding")
        if encoding and encoding.lower() != "identity":
            try:
                self.plain = decompressed(self.body, encoding, limit)
            except OpaqueError:
                self.route = self.asked.header("x-pointsman-route")
                if not self.route:
                    raise
                self.streamed = "text/event-stream" in self.asked.header("accept")
                return
        self.head = read_head(self.body if self.plain is None else self.plain)
        self.route = self.head.model
        self.streamed = self.head.stream

    def written_for(self, endpoint: Endpoint, credential: int) -> tuple[bytes, Pieces]:
        """(head, body) of the request as `endpoint` gets it, with one of its credentials."""
        body, keep_encoding = self._body_for(endpoint)
        asked = self.asked
        lines = asked.lines_for(endpoint.overridden, keep_encoding=keep_encoding)
        own = endpoint.own_lines[credential % len(endpoint.own_lines)]
        target = target_of(endpoint.base_url, endpoint.family, asked.path, asked.query)
        size = sum_of(body)
        length = size if size or asked.method in _WITH_BODY else None
        return request_head(asked.method, target, lines, own, length), body

    def _body_for(self, endpoint: Endpoint) -> tuple[Pieces, bool]:
        """(the body with the model of `endpoint` in it, may its content-encoding stay)."""
        if self.head is None or self.head.model == endpoint.model:
            return [self.body], True
        if self.plain is not None:
            return with_model(self.plain, self.head.places, endpoint.model_json), False
        return with_model(self.body, self.head.places, endpoint.model_json), True

    def spend_body(self) -> None:
        """It will not be sent again."""
        self.body, self.plain, self.spent = b"", None, True

    def identify(self, sticky_by: Sequence[str], remote: str) -> None:
        """Set the sticky key (the first of `sticky_by` that the request has) and the caller's identity."""
        asked, head = self.asked, self.head
        credential, user = asked.credential, head.user if head else ""
        session = asked.session or (head.session if head else "")
        # What the headers alone say is the same for the next request of this connection.
        of = key_hash if head and (head.user or head.session) else asked.key_of
        for what in sticky_by:
            if what == "session":
                value = session
            elif what == "user":
                value = user
            elif what == "api_key":
                value = credential
            else:
                value = asked.header(what.removeprefix("header:").lower()) if ":" in what else ""
            if value:
                self.key = of(f"{what}={value}")
                break
        self.caller = of(f"{credential}\x00{user}\x00{session}" if credential or user or session else remote)
