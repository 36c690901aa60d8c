"""Who may use this proxy: callers' keys, of which only hashes are known."""

import hmac
import time
from collections.abc import Iterator, Mapping
from typing import Final

from pointsman import logs
from pointsman.config.caller_keys import SCHEME, digest_of
from pointsman.core.model import Family
from pointsman.proxy.api import Reply, error_response
from pointsman.proxy.asked import Asked

log = logs.get("proxy")

# A proxy that refuses somebody says so, but not for every request of theirs.
TELL_S: Final = 60.0
_HEADERS: Final = ("x-api-key", "api-key")
_BEARER: Final = "bearer "
_MESSAGE: Final = (
    "this proxy wants a key of its own, and the request has none that it knows: send it as Authorization: Bearer, "
    "x-api-key or api-key, where your client puts the provider's"
)


class CallerKeys:
    """The keys of one configuration; a reload makes another one of these.

    A verdict is kept on the head of the request, which lives for as long as its connection sends the same head; one
    that another configuration gave counts for nothing.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        """`hashes`: name → "sha256:…". Without any, nobody is let in."""
        self._known = tuple((name, bytes.fromhex(text.removeprefix(SCHEME))) for name, text in hashes.items())

    def name_of(self, asked: Asked) -> str:
        """Whose key the request has, "" if it has none that is known."""
        verdict = asked.verdict
        if verdict is None or verdict[0] is not self:
            verdict = asked.verdict = (self, self._look(asked))
        return verdict[1]

    def _look(self, asked: Asked) -> str:
        """Every key is compared with all that are known, so that the time taken tells nothing."""
        found = ""
        for text in _given(asked):
            digest = digest_of(text)
            for name, known in self._known:
                if hmac.compare_digest(digest, known):
                    found = name
        return found


def _given(asked: Asked) -> Iterator[str]:
    said = asked.header("authorization")
    if said[: len(_BEARER)].lower() == _BEARER:
        yield said[len(_BEARER) :].strip()
    for name in _HEADERS:
        if name in asked.low:
            yield asked.header(name)


class Doorkeeper:
    """Refuses strangers, and says so now and then."""

    def __init__(self) -> None:
        self._refused = 0
        self._told_s = -TELL_S

    def refuse(self, family: Family, remote: str) -> Reply:
        """What a request without a key gets, in the family's own shape."""
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_S:
            log.warning(
                "{requests} requests without a key that is known were refused, the last one from {remote}",
                requests=self._refused,
                remote=remote or "this machine",
            )
            self._refused, self._told_s = 0, now_s
        headers = {"www-authenticate": "Bearer", "x-should-retry": "false"}
        return error_response(family, 401, _MESSAGE, headers=headers, code="invalid_api_key")
