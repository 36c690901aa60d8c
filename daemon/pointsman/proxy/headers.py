"""Which headers travel. Pure.

A caller's credential never reaches a provider, whichever header it came in, nor does its choice of an account; the
provider's own credential is put in its place. Everything else passes as it came, in its order and its case, save what
belongs to one hop.
"""

from collections.abc import Collection, Mapping
from typing import Final

from pointsman.core.headers import is_of_account, is_secret

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REPLACED: Final = frozenset({"host", "content-length", "accept-encoding", "expect", "http2-settings"})
_DROPPED_INBOUND: Final = _HOP_BY_HOP | _REPLACED
_DROPPED_OUTBOUND: Final = _HOP_BY_HOP | {"set-cookie", "content-length"}
# Stands in the name of every header that tells a rate limit.
LIMIT: Final = "ratelimit"
_OWN_PREFIX: Final = "x-pointsman-"
# What Connection nearly always says: it names no header.
_NAMES_NONE: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_NAMES_KEPT: Final = 2_000

# Name and value as they came, or as they go.
Pairs = list[tuple[bytes, bytes]]


class Name:
    """What is known of a header's name, however it is written."""

    __slots__ = ("low", "tells_limit", "to_caller", "to_provider")

    def __init__(self, low: str) -> None:
        own = low.startswith(_OWN_PREFIX)
        self.low = low
        self.to_provider = not own and low not in _DROPPED_INBOUND and not is_of_account(low)
        self.to_caller = not own and low not in _DROPPED_OUTBOUND
        self.tells_limit = LIMIT in low


_names: Final[dict[bytes, Name]] = {}


def name_of(written: bytes) -> Name:
    """What becomes of a header called that."""
    found = _names.get(written)
    if found is not None:
        return found
    name = Name(written.decode("latin-1").lower())
    if len(_names) >= _NAMES_KEPT:
        _names.clear()
    _names[written] = name
    return name


class Taken:
    """Headers, taken one after the other in the order in which they came.

    `low`: lower-case name → value; of a name that is there several times, all values with commas between.
    `tells_limit`: one is about a rate limit.
    """

    __slots__ = ("_passed", "_to_caller", "low", "tells_limit")

    def __init__(self, *, to_caller: bool) -> None:
        """`to_caller`: they are a provider's, and go to a caller; else the other way."""
        self._to_caller = to_caller
        self._passed: list[bytes] = []
        self.low: dict[str, bytes] = {}
        self.tells_limit = False

    def take(self, name: bytes, value: bytes) -> None:
        """One more."""
        known = _names.get(name) or name_of(name)
        low = self.low
        if known.low in low:
            low[known.low] += b", " + value
        else:
            low[known.low] = value
        if known.to_caller if self._to_caller else known.to_provider:
            self._passed += (name, b": ", value, b"\r\n")
        if known.tells_limit:
            self.tells_limit = True

    def lines(self, without: Collection[str] = ()) -> bytes:
        """The lines of those that travel on, but for `without` (in lower case) and for what Connection names."""
        passed = self._passed
        if without or self.low.get("connection", b"close") not in _NAMES_NONE:
            dropped = {*without, *_named(self.low.get("connection", b""))}
            pairs = zip(passed[::4], passed[2::4], strict=True)
            return b"".join([b"%b: %b\r\n" % pair for pair in pairs if name_of(pair[0]).low not in dropped])
        return b"".join(passed)


def never_from_table(name: str) -> bool:
    """Headers that a table's constant ones may not set: credentials, framing, and what belongs to the hop."""
    return name.lower() in _DROPPED_INBOUND or is_secret(name)


def written(headers: Mapping[str, str]) -> bytes:
    """Header lines as they stand in a head, each with its line end."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _named(connection: bytes) -> Collection[str]:
    """The headers that the sender declared to be of this hop only."""
    return {part.strip().lower() for part in connection.decode("latin-1").split(",")}
