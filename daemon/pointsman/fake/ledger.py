"""What a fake provider saw, counted at the server: the only honest measure of what a client did.

A credential is never kept: only its SHA-256, so that a test can prove which one arrived.
"""

import hashlib
import time
from collections import Counter, deque
from typing import Final

from msgspec import Struct

from pointsman.fake.wire import Request

KEPT: Final = 1000
CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_SECRET_HEADERS: Final = frozenset({*CREDENTIAL_HEADERS, "proxy-authorization", "cookie"})


def digest(secret: str | bytes) -> str:
    """The SHA-256 of a credential or a body, in hex."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def credential(request: Request) -> str:
    """The first credential that a request brings, bare; "" if it brings none."""
    for name in CREDENTIAL_HEADERS:
        value = request.header(name)
        if value:
            scheme, _, rest = value.partition(" ")
            return rest.strip() if name == "authorization" and scheme.lower() == "bearer" else value
    return ""


class Seen(Struct, kw_only=True):
    """One request. `outcome` is "open" until it is known.

    It becomes "ok", "http 404", the kind of the fault that befell it, or "abandoned" when the caller hung up.
    `headers` are as they came, with `sha256:…` in place of credentials; `path` is as the family names it
    ("/v1/messages"), `target` as on the request line; `at_s` and `took_s` are seconds of a monotonic clock.
    """

    method: str
    target: str
    path: str
    model: str
    stream: bool
    headers: tuple[tuple[str, str], ...]
    credential_sha256: str
    body_sha256: str
    body_bytes: int
    at_s: float
    took_s: float = 0.0
    outcome: str = "open"
    status: int = 0
    events: int = 0
    tokens_out: int = 0

    def header(self, name: str) -> str:
        """The first value of a header, "" if it is absent. `name` in lower case."""
        return next((value for known, value in self.headers if known == name), "")


class Snapshot(Struct, frozen=True, kw_only=True):
    """The counts at one moment."""

    total: int
    open: int
    open_streams: int
    tokens_out: int
    by_path: dict[str, int]
    by_model: dict[str, int]
    by_outcome: dict[str, int]
    by_credential: dict[str, int]


class Ledger:
    """Counts since the start, and the last requests themselves in `seen` (oldest first, 1,000 at most).

    `by_outcome` counts a request when its outcome is known: a hanging one as soon as it hangs.
    """

    def __init__(self) -> None:
        self.total = 0
        self.open = 0
        self.open_streams = 0
        self.tokens_out = 0
        self.by_path: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_outcome: Counter[str] = Counter()
        self.by_credential: Counter[str] = Counter()
        self.seen: deque[Seen] = deque(maxlen=KEPT)

    @property
    def last(self) -> Seen:
        """The latest request. Raises IndexError before the first."""
        return self.seen[-1]

    def begin(self, request: Request, path: str, model: str, *, stream: bool) -> Seen:
        """Count a request in."""
        secret = credential(request)
        seen = Seen(
            method=request.method,
            target=request.target,
            path=path,
            model=model,
            stream=stream,
            headers=tuple((name, _safe(name, value)) for name, value in request.headers),
            credential_sha256=digest(secret) if secret else "",
            body_sha256=digest(request.body),
            body_bytes=len(request.body),
            at_s=time.monotonic(),
        )
        self.total += 1
        self.open += 1
        self.by_path[path] += 1
        if model:
            self.by_model[model] += 1
        if secret:
            self.by_credential[seen.credential_sha256] += 1
        self.seen.append(seen)
        return seen

    def settle(self, seen: Seen, outcome: str) -> None:
        """Note the outcome; the first one noted stands."""
        if seen.outcome == "open":
            seen.outcome = outcome
            self.by_outcome[outcome] += 1

    def end(self, seen: Seen) -> None:
        """Count a request out. One that nothing is known of was cut off by the end of the provider itself."""
        self.settle(seen, "cut off")
        seen.took_s = time.monotonic() - seen.at_s
        self.tokens_out += seen.tokens_out
        self.open -= 1

    def snapshot(self) -> Snapshot:
        """A copy of the counts."""
        return Snapshot(
            total=self.total,
            open=self.open,
            open_streams=self.open_streams,
            tokens_out=self.tokens_out,
            by_path=dict(self.by_path),
            by_model=dict(self.by_model),
            by_outcome=dict(self.by_outcome),
            by_credential=dict(self.by_credential),
        )

    def reset(self) -> None:
        """Count from zero again; what is open stays open."""
        for counter in (self.by_path, self.by_model, self.by_outcome, self.by_credential):
            counter.clear()
        self.total = self.tokens_out = 0
        self.seen.clear()


def _safe(name: str, value: str) -> str:
    return f"sha256:{digest(value)}" if name in _SECRET_HEADERS else value
