"""Which headers travel. Pure.

A caller's credential never reaches a provider, whichever header it came in, nor does its choice of an account; the
provider's own credential is put in its place. Everything else passes as it came, save what belongs to one hop.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pointsman.core.headers import is_of_account, is_secret

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REPLACED: Final = frozenset({"host", "content-length", "accept-encoding", "expect"})
_DROPPED_INBOUND: Final = _HOP_BY_HOP | _REPLACED
_DROPPED_OUTBOUND: Final = _HOP_BY_HOP | {"set-cookie", "proxy-authenticate"}

Pairs = list[tuple[str, str]]


def never_from_table(name: str) -> bool:
    """Headers that a table's constant ones may not set: credentials, framing, and what belongs to the hop."""
    return name.lower() in _DROPPED_INBOUND or is_secret(name)


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Headers that the sender declared to be of this hop only."""
    return {
        part.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for part in value.split(",")
    }


def to_provider(inbound: Pairs, own: Mapping[str, str], *, keep_encoding: bool) -> Pairs:
    """A caller's headers as the provider gets them; `own` are the provider's constant ones and its credential.

    `keep_encoding` False drops content-encoding, because the body is sent decoded.
    """
    of_hop = _named_by_connection(inbound)
    overridden = {name.lower() for name in own}
    passed = [
        (name, value)
        for name, value in inbound
        if (low := name.lower()) not in _DROPPED_INBOUND
        and not is_of_account(low)
        and low not in of_hop
        and low not in overridden
        and not low.startswith("x-pointsman-")
        and (keep_encoding or low != "content-encoding")
    ]
    return [*passed, ("Accept-Encoding", "identity"), *own.items()]


def to_caller(answered: Pairs, *, keep_length: bool) -> Pairs:
    """A provider's response headers as the caller gets them."""
    of_hop = _named_by_connection(answered)
    return [
        (name, value)
        for name, value in answered
        if (low := name.lower()) not in _DROPPED_OUTBOUND
        and low not in of_hop
        and not low.startswith("x-pointsman-")
        and (keep_length or low != "content-length")
    ]
