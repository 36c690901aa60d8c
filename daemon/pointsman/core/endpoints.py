"""Where a path of a protocol family is at a provider: one rule for probes and for forwarded requests."""

import re

from pointsman.core.model import Family

_VERSIONED = re.compile(r"/v\d\w*$")


def join(base_url: str, family: str, path: str) -> str:
    """The provider's URL of a path that starts with /v1.

    A base URL of the openai family names its version itself ("https://h/api/v1", ".../v1beta/openai"), one of
    the anthropic family does not, as the official clients have it; a version never appears twice. `base_url` has
    no query (the configuration refuses one).
    """
    base = base_url.rstrip("/")
    prefix = base.partition("://")[2].partition("/")[2]
    versioned = prefix and _VERSIONED.search(f"/{prefix}") is not None
    if path.startswith("/v1/") and (versioned or (family == Family.OPENAI and prefix)):
        path = path.removeprefix("/v1")
    return base + path
