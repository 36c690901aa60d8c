"""What the store gives back. Times are seconds since 1970 by the store's clock."""

from msgspec import Struct

from pointsman.core.table import Version


class Lease(Struct, frozen=True):
    """The right to write, until it expires or somebody else takes it. `epoch` is the fencing token."""

    owner: str
    epoch: int


class Leader(Struct, frozen=True):
    """Who holds the lease, and for how many more seconds."""

    owner: str
    epoch: int
    ttl_s: float


class Peek(Struct, frozen=True):
    """What is published, without its body. `deadlines`: overlay → when it ends."""

    version: Version
    hash: str
    deadlines: dict[str, float]
    now_s: float


class Published(Struct, frozen=True, kw_only=True):
    """The current table. `body` is exactly what was published: core.table decodes and checks it."""

    body: bytes
    table_version: Version
    hash: str
    reasons: dict[str, dict[str, str]]
    deadlines: dict[str, float]
    published_s: float
    now_s: float


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """A table as it was published, and the reasons of that moment (route → target → sentence)."""

    version: Version
    hash: str
    published_s: float
    body: bytes
    reasons: dict[str, dict[str, str]]
