"""Which headers travel. Pure.

A caller's credential never reaches a provider, whichever header it came in, nor does its choice of an account; the
provider's own credential is put in its place. Everything else passes as it came, in its order and its case, save what
belongs to one hop.
"""

from collections.abc import Collection, Iterable, Mapping
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


def lowered(headers: Pairs) -> dict[str, bytes]:
    """Lower-case name → value; of a name that is there several times, all values with commas between."""
    found = {name_of(name).low: value for name, value in headers}
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            low = name_of(name).low
            found[low] = found[low] + b", " + value if low in found else value
    return found


def never_from_table(name: str) -> bool:
    """Headers that a table's constant ones may not set: credentials, framing, and what belongs to the hop."""
    return name.lower() in _DROPPED_INBOUND or is_secret(name)


def written(headers: Mapping[str, str]) -> bytes:
    """Header lines as they stand in a head, each with its line end."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _of_hop(low: Mapping[str, bytes]) -> Collection[str]:
    """Headers that the sender declared to be of this hop only."""
    named = low.get("connection", b"keep-alive")
    if named in _NAMES_NONE:
        return ()
    return {part.strip().lower() for part in named.decode("latin-1").split(",")}


def of_request(headers: Pairs) -> tuple[dict[str, bytes], bytes | None]:
    """(`lowered`, the lines that a provider gets) of a caller's headers; None: `to_provider` has to look closer."""
    low: dict[str, bytes] = {}
    passed: list[bytes] = []
    for name, value in headers:
        known = _names.get(name) or name_of(name)
        low[known.low] = value
        if known.to_provider:
            passed += (name, b": ", value, b"\r\n")
    if len(low) < len(headers):
        low = lowered(headers)
    return low, None if _of_hop(low) else b"".join(passed)


def to_provider(
    headers: Pairs, low: Mapping[str, bytes], overridden: Collection[str] = (), *, keep_encoding: bool = True
) -> bytes:
    """The lines of a caller's headers that the provider gets; `overridden`: names that its own ones take the place of.

    `keep_encoding` False drops content-encoding, because the body is sent decoded.
    """
    without = {*overridden, *_of_hop(low)}
    if not keep_encoding:
        without.add("content-encoding")
    return _lines(
        pair for pair in headers if (known := name_of(pair[0])).to_provider and known.low not in without
    )


def of_answer(answered: Pairs) -> tuple[dict[str, bytes], bytes, bool]:
    """(`lowered`, the lines that the caller gets, does one tell a rate limit) of a provider's headers.

    The framing is the proxy's own.
    """
    low: dict[str, bytes] = {}
    passed: list[bytes] = []
    tells_limit = False
    for name, value in answered:
        known = _names.get(name) or name_of(name)
        low[known.low] = value
        if known.to_caller:
            passed += (name, b": ", value, b"\r\n")
        if known.tells_limit:
            tells_limit = True
    if len(low) < len(answered):
        low = lowered(answered)
    without = _of_hop(low)
    if without:
        pairs = [pair for pair in answered if (one := name_of(pair[0])).to_caller and one.low not in without]
        return low, _lines(pairs), tells_limit
    return low, b"".join(passed), tells_limit


def _lines(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])
