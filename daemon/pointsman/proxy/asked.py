"""The head of a request, and what follows from it alone. Pure.

A caller's connection mostly sends one head again and again, but for its length: what was found out about it once holds
for all of these requests.
"""

import functools
from collections.abc import Collection
from typing import Final

from pointsman.core.headers import API_KEYS
from pointsman.proxy.api import Api, api_of
from pointsman.proxy.headers import Pairs, lowered, to_provider
from pointsman.proxy.settling import key_hash

# Claude Code and Codex name their sessions; any other client may.
_SESSIONS: Final = ("x-claude-code-session-id", "session_id", "x-session-id")


class Asked:
    """A request's head. `low`: lower-case name → value, of a name that is there twice the last."""

    def __init__(
        self, method: str, target: bytes, headers: Pairs, *, http10: bool = False, keep: bool = True
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.low = lowered(headers)
        self.http10 = http10
        self.keep = keep
        self.is_head = method == "HEAD"
        # What CallerKeys found: (by which of them, the name of the key).
        self.verdict: tuple[object, str] | None = None
        self._lines: dict[tuple[Collection[str], bool], bytes] = {}
        self._keys: dict[str, int] = {}

    def header(self, name: str) -> str:
        """The value of the header called `name` (in lower case), "" if there is none."""
        return self.low.get(name, b"").decode("latin-1")

    @functools.cached_property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    @functools.cached_property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition(b"?")[2].decode("latin-1")

    @functools.cached_property
    def api(self) -> Api | None:
        """What is asked for; None: nothing that is served."""
        return api_of(self.method, self.path)

    @functools.cached_property
    def synthetic(self) -> bool:
        """Traffic made for a canary, counted apart."""
        return self.header("x-pointsman-synthetic") == "1"

    @functools.cached_property
    def session(self) -> str:
        """The session that a header names, or ""."""
        return next((self.header(name) for name in _SESSIONS if self.low.get(name)), "")

    @functools.cached_property
    def credential(self) -> str:
        """What the caller says who it is by, or ""."""
        return next((self.header(name) for name in API_KEYS if self.low.get(name)), "")

    def key_of(self, text: str) -> int:
        """The hash of a sticky key, or of an identity, that these headers alone make up."""
        found = self._keys.get(text)
        if found is None:
            found = self._keys[text] = key_hash(text)
        return found

    def lines_for(self, overridden: Collection[str], *, keep_encoding: bool) -> bytes:
        """The header lines that a provider gets; `overridden`: names that its own ones take the place of."""
        kind = overridden, keep_encoding
        found = self._lines.get(kind)
        if found is None:
            found = self._lines[kind] = to_provider(
                self.headers, self.low, overridden, keep_encoding=keep_encoding
            )
        return found
