"""Which headers are credentials, and what a header may look like: one list for configuration, tables and requests."""

import re
from typing import Final

# How callers say who they are, in the order in which it is looked for.
API_KEYS: Final = (
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-auth-token",
    "cf-aig-authorization",
)
_SECRETS: Final = frozenset({*API_KEYS, "cookie", "x-amz-security-token"})
_SECRET_ENDINGS: Final = ("-authorization", "-api-key", "-auth-token", "-subscription-key")
# Not secret, but they choose among the accounts of a credential: with another credential they name a stranger's.
_SELECTORS: Final = frozenset({"openai-organization", "openai-project", "x-goog-user-project"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def is_secret(name: str) -> bool:
    """Does the header `name` carry a credential (in any case of letters)?"""
    low = name.lower()
    return low in _SECRETS or low.endswith(_SECRET_ENDINGS)


def is_of_account(name: str) -> bool:
    """Does it belong to its sender's account: a credential, or what chooses among a credential's accounts?"""
    return name.lower() in _SELECTORS or is_secret(name)


def is_name(name: str) -> bool:
    """May a header be called that (RFC 9110's token)?"""
    return _TOKEN.fullmatch(name) is not None


def is_value(value: str) -> bool:
    """May a constant header say that: ASCII, on one line?"""
    return value.isascii() and value.isprintable()
