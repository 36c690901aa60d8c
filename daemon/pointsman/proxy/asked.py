"""The head of a request, and what follows from it alone. Pure.

A caller's connection mostly sends one head again and again, but for its length: what was found out about it once holds
for all of these requests.
"""

from collections.abc import Collection
from typing import Final

from pointsman.core.headers import API_KEYS
from pointsman.proxy.api import FAMILY_OF, PATHS, Api, api_of
from pointsman.proxy.headers import Pairs, Taken
from pointsman.proxy.settling import key_hash

# Counting tokens and keeping files say nothing about a model.
_TELL_NOTHING: Final = frozenset({Api.COUNT_TOKENS, Api.INPUT_TOKENS, Api.COMPACT, Api.ACCOUNT})


class Kind:
    """What an API is: `counts`: a model answers, and so it is evidence; of an account; and what it makes."""

    __slots__ = ("api", "counts", "embeds", "family", "makes_responses", "name", "of_account")

    def __init__(self, api: Api | None) -> None:
        self.api = api
        self.name = "" if api is None else api.value
        self.family = None if api is None else FAMILY_OF.get(api)
        self.counts = api is not None and api not in _TELL_NOTHING
        self.of_account = api is Api.ACCOUNT
        self.embeds = api is Api.EMBEDDINGS
        self.makes_responses = api is Api.RESPONSES


_KINDS: Final = {api: Kind(api) for api in (None, *Api)}
_POSTED: Final = {path: _KINDS[api] for path, api in PATHS.items()}


def _kind_of(method: str, path: str) -> Kind:
    found = _POSTED.get(path) if method == "POST" else None
    return found or _KINDS[api_of(method, path)]


# Claude Code and Codex name their sessions; any other client may.
_SESSIONS: Final = ("x-claude-code-session-id", "session_id", "x-session-id")


class Asked:
    """A request's head. `low`: lower-case name → value, as `headers.Taken` has it.

    `path` is the target without its query, and without the host if it is a whole URL; `query` what stands behind the
    question mark; `api` what is asked for, None: nothing that is served; `kind` what that is; `family` whose API it
    is, if it is one family's; `session` what a header calls it, and `credential` who the caller says it is, "" if
    nobody; `synthetic`: made for a canary, and counted apart.
    """

    __slots__ = (
        "__weakref__", "_keys", "_lines", "_taken", "api", "credential", "family", "headers", "http10",
        "is_head", "keep", "kind", "low", "method", "path", "query", "session", "synthetic", "target", "verdict",
    )  # fmt: skip

    def __init__(
        self, method: str, target: bytes, headers: Pairs, *, http10: bool = False, keep: bool = True
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http10 = http10
        self.keep = keep
        self.is_head = method == "HEAD"
        path, _, self.query = target.decode("latin-1").partition("?")
        self.path = path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]
        self.kind = kind = _kind_of(method, self.path)
        self.api = kind.api
        self.family = kind.family
        self._taken = taken = Taken(to_caller=False)
        for name, value in headers:
            taken.take(name, value)
        self.low = low = taken.low
        self.session = self.credential = ""
        for known in _SESSIONS:
            if known in low:
                self.session = self.session or low[known].decode("latin-1")
        for known in API_KEYS:
            if known in low:
                self.credential = self.credential or low[known].decode("latin-1")
        self.synthetic = low.get("x-pointsman-synthetic") == b"1"
        # What CallerKeys found: (by which of them, the name of the key).
        self.verdict: tuple[object, str] | None = None
        self._lines: dict[tuple[Collection[str], bool], bytes] = {}
        self._keys: dict[str, int] = {}

    def header(self, name: str) -> str:
        """The value of the header called `name` (in lower case), "" if there is none."""
        return self.low.get(name, b"").decode("latin-1")

    def key_of(self, text: str) -> int:
        """The hash of a sticky key, or of an identity, that these headers alone make up."""
        found = self._keys.get(text)
        if found is None:
            found = self._keys[text] = key_hash(text)
        return found

    def lines_for(self, overridden: frozenset[str], *, keep_encoding: bool) -> bytes:
        """The header lines that a provider gets; `overridden`: names that its own ones take the place of.

        `keep_encoding` False drops content-encoding, because the body is sent decoded.
        """
        kind = overridden, keep_encoding
        found = self._lines.get(kind)
        if found is None:
            without = overridden if keep_encoding else {*overridden, "content-encoding"}
            found = self._lines[kind] = self._taken.lines(without)
        return found
