"""One attempt at one target: send the request, and read as much of the answer as it takes to judge it.

Nothing has reached the caller when this returns, so whatever it finds wrong can still fall over unseen.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import msgspec
from msgspec import Raw, Struct

from pointsman.config.models import TimeoutSettings
from pointsman.core.errors import Fault, Outcome, Wire, of_response, of_stream_error, of_wire
from pointsman.core.strangers import UNREADABLE
from pointsman.proxy import lenient
from pointsman.proxy.api import url_of
from pointsman.proxy.body import BodyError, decompressed
from pointsman.proxy.books import Account
from pointsman.proxy.headers import Pairs, to_provider
from pointsman.proxy.job import Job
from pointsman.proxy.ratelimits import tightest
from pointsman.proxy.sse import USAGE, Watch
from pointsman.proxy.upstream import Upstream, WireError, wire_of
from pointsman.proxy.view import Endpoint

# An answer up to this size is read whole before any of it is passed on; a larger one passes as it comes.
WHOLE_BYTES_MAX: Final = 8 << 20
# How often it is looked whether an answer that is overdue can still be hoped for.
LOOK_S: Final = 0.5
_NOT_FOUND: Final = "previous_response_not_found"


class Failed(Struct, frozen=True):
    """No answer worth passing on."""

    outcome: Outcome


class Patience(Struct, frozen=True):
    """For a whole answer, which gives no sign of life: after `overdue_s` it is given up as soon as `lost` says so."""

    overdue_s: float
    lost: Callable[[], bool]


class Whole(Struct, frozen=True):
    """A complete answer, of whatever status."""

    outcome: Outcome
    status: int
    reason: str
    headers: Pairs
    body: bytes
    response_id: str = ""

    @property
    def unknown_here(self) -> bool:
        """Does the account not have the stored response that the request names? Nothing was generated then."""
        return self.status == 404 or (self.status == 400 and self.outcome.detail.endswith(f" {_NOT_FOUND}"))


class Begun(Struct, frozen=True):
    """An answer that is still coming; `held` is what has come of it. `watch` None: it is no event stream."""

    response: aiohttp.ClientResponse
    held: bytes
    watch: Watch | None

    @property
    def headers(self) -> Pairs:
        """The provider's response headers as they came."""
        return list(self.response.headers.items())


class _Answer(Struct):
    """The parts of an unstreamed answer that are looked at; each is decoded by itself."""

    id: Raw = Raw()
    usage: Raw = Raw()
    error: Raw = Raw()


class Exchange:
    """Sends attempts over the pool; remembers which of a provider's two credentials works."""

    def __init__(self, upstream: Upstream, timeouts: TimeoutSettings) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        self._preferred: dict[str, int] = {}

    async def attempt(
        self, job: Job, account: Account, patience: Patience | None = None
    ) -> Failed | Whole | Begun:
        """Try the target of `account`. Never raises for the provider's failures."""
        endpoint = account.endpoint
        preferred = self._preferred.get(endpoint.provider, 0)
        answer = await self._once(job, account, preferred, patience)
        refused = isinstance(answer, Whole) and answer.outcome.fault is Fault.CREDENTIAL
        if refused and len(endpoint.credentials) > 1:
            other = await self._once(job, account, preferred + 1, patience)
            if not isinstance(other, Failed) and (
                isinstance(other, Begun) or other.outcome.fault is not Fault.CREDENTIAL
            ):
                self._preferred[endpoint.provider] = preferred + 1
                return other
        return answer

    async def _once(
        self, job: Job, account: Account, credential: int, patience: Patience | None
    ) -> Failed | Whole | Begun:
        response: aiohttp.ClientResponse | None = None
        answer: Failed | Whole | Begun
        keep = False
        timeouts = self._timeouts
        began_s = asyncio.get_running_loop().time()
        first_s = timeouts.first_byte_s if job.streamed else timeouts.response_s
        try:
            async with asyncio.timeout_at(began_s + first_s) as deadline:
                with _GivenUp(deadline, patience) if patience else contextlib.nullcontext():
                    response = await self._send(job, account.endpoint, credential)
                low = {name.lower(): value for name, value in response.headers.items()}
                account.rate_limit = tightest(low, time.time())
                if _is_event_stream(response, low):
                    answer = await _first_event(job, response, account)
                else:
                    answer = await _whole(response, low, account)
            keep = isinstance(answer, Begun)
            return answer
        except TimeoutError:
            wire = Wire.FIRST_BYTE_TIMEOUT if job.streamed else Wire.RESPONSE_TIMEOUT
            return Failed(of_wire(wire))
        except WireError as error:
            return Failed(of_wire(error.wire))
        except (aiohttp.ClientError, OSError) as error:
            return Failed(of_wire(wire_of(error)))
        finally:
            if response is not None and not keep:
                response.close()

    async def _send(self, job: Job, endpoint: Endpoint, credential: int) -> aiohttp.ClientResponse:
        body, keep_encoding = job.body_for(endpoint.model)
        own = endpoint.constant | endpoint.credentials[credential % len(endpoint.credentials)]
        return await self._upstream.send(
            job.method,
            url_of(endpoint.base_url, endpoint.family, job.path, job.query),
            to_provider(job.headers, own, keep_encoding=keep_encoding),
            body,
            endpoint.tls,
        )


class _GivenUp:
    """Inside `with` the deadline is over as soon as an overdue answer is lost. Keeps nothing alive afterwards."""

    def __init__(self, deadline: asyncio.Timeout, patience: Patience) -> None:
        self._deadline = deadline
        self._patience = patience
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        self._timer = self._loop.call_later(self._patience.overdue_s, self._look)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if not self._patience.lost():
            self._timer = self._loop.call_later(LOOK_S, self._look)
        elif not self._deadline.expired():
            self._deadline.reschedule(self._loop.time())


async def _whole(
    response: aiohttp.ClientResponse, low: Mapping[str, str], account: Account
) -> Whole | Begun | Failed:
    parts: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        parts.append(chunk)
        size += len(chunk)
        if size > WHOLE_BYTES_MAX:
            if response.status < 300:
                account.answered()
            return Begun(response, b"".join(parts), None)
    body = b"".join(parts)
    outcome, response_id = judged(response.status, low, body, account)
    if outcome.ok:
        account.answered()
    pairs = list(response.headers.items())
    if outcome.status == 0:
        return Failed(outcome)
    return Whole(outcome, response.status, response.reason or "", pairs, body, response_id)


async def _first_event(job: Job, response: aiohttp.ClientResponse, account: Account) -> Begun | Failed:
    """Hold a stream back until its first real event: a stream that begins with an error is not begun."""
    watch = Watch(job.api)
    held: list[bytes] = []
    while not watch.begun and watch.error is None:
        chunk = await response.content.readany()
        held.append(watch.feed(chunk) if chunk else watch.finish())
        if not chunk:
            break
    if watch.error is not None and not watch.begun:
        outcome = of_stream_error(watch.error)
        if outcome.falls_over:
            return Failed(outcome)
    elif not watch.begun:
        return Failed(of_wire(Wire.TRUNCATED))
    account.tokens = watch.tokens
    if watch.begun:
        account.answered()
    return Begun(response, b"".join(held), watch)


def _is_event_stream(response: aiohttp.ClientResponse, low: Mapping[str, str]) -> bool:
    """A successful stream of events in plain bytes."""
    kind = low.get("content-type", "").strip().lower()
    plain = low.get("content-encoding", "identity").lower() == "identity"
    return response.status < 300 and plain and kind.startswith("text/event-stream")


def judged(status: int, low: Mapping[str, str], body: bytes, account: Account) -> tuple[Outcome, str]:
    """The outcome of a whole answer, and its id; the account learns how many tokens were used.

    A success that calls itself JSON and is not was broken on its way, and a page of HTML comes from something
    in between.
    """
    encoding = low.get("content-encoding", "")
    if encoding:
        try:
            body = decompressed(body, encoding, WHOLE_BYTES_MAX)
        except BodyError:
            return of_response(status, low, None, now_s=time.time()), ""
    if status >= 300:
        return of_response(status, low, lenient.value(body), now_s=time.time()), ""
    kind = low.get("content-type", "")
    if "json" not in kind:
        return (of_wire(Wire.BAD_BODY) if kind.startswith("text/html") else of_response(status, low)), ""
    try:
        answer = _ANSWER.decode(body)
    except msgspec.ValidationError:  # no object: seen at its first byte, whatever comes after that
        other = lenient.value(body)
        bad = other is None
        return of_wire(Wire.BAD_BODY) if bad else of_response(status, low, other, now_s=time.time()), ""
    except UNREADABLE:
        return of_wire(Wire.BAD_BODY), ""
    error = lenient.value(answer.error)
    account.tokens.learn(lenient.typed(USAGE, answer.usage))
    told = {"error": error} if error else None
    return of_response(status, low, told, now_s=time.time()), lenient.text(answer.id)


_ANSWER: Final = msgspec.json.Decoder(_Answer)
