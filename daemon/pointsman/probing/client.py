"""HTTP as a probe needs it: one deadline, a bounded body, no redirect, and every way to fail by its name."""

import contextlib
import errno
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self

import aiohttp
import anyio
import msgspec

from pointsman import __version__
from pointsman.core.errors import Wire
from pointsman.core.strangers import UNREADABLE

BODY_BYTES_MAX: Final = 1_000_000
# Longer than a probe's interval, so that a probe does not pay for a new handshake each time.
KEEPALIVE_S: Final = 75.0
# After the terminal event a stream is given a moment to end, so that its connection can be used again.
END_GRACE_S: Final = 0.1

_UNREACHABLE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)


@dataclass(slots=True)
class Progress:
    """How far a request has come; a failure means another thing at each stage."""

    connected: bool = False
    reused: bool = False
    answered: bool = False
    streaming: bool = False


@dataclass(slots=True)
class Answer:
    """What came back. `wire` says how it failed, None if it did not; `status` 0 if there was no answer.

    `headers` have lower-case names; `body` is empty for a stream, whose bytes went to the sink.
    """

    started: float  # on the monotonic clock
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    wire: Wire | None = None
    latency_ms: float = 0.0

    def json(self) -> object:
        """The decoded body, None if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except UNREADABLE:
            return None


class Client:
    """Two connection pools: one keeps connections for the next probe, the other is for a second try."""

    def __init__(self) -> None:
        self._kept: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._kept = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._kept.close()
            await self._fresh.close()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        sink: Callable[[bytes], bool] | None = None,
    ) -> Answer:
        """One request. Never raises for what the other side does.

        The chunks of an event stream go to `sink` until it says that it has seen enough. A kept connection
        that the server closed under the request is the timing's fault, and tried once more on a new one.
        """
        started = time.monotonic()
        progress, answer = Progress(), Answer(started)
        with anyio.move_on_after(timeout_s) as scope:
            for session in (self._kept, self._fresh):
                progress, answer = Progress(), Answer(started)
                try:
                    await self._exchange(session, method, url, progress, answer, headers, body, tls, sink)
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    answer.wire = wire_of(error, progress)
                if not (answer.wire is Wire.RESET and progress.reused and not progress.answered):
                    break
        if not answer.latency_ms:  # a stream that had told enough is over, whatever came after it
            answer.latency_ms = (time.monotonic() - started) * 1000
            if scope.cancelled_caught:
                answer.wire = _late(progress)
        return answer

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        progress: Progress,
        answer: Answer,
        headers: Mapping[str, str],
        body: bytes | None,
        tls: ssl.SSLContext | None,
        sink: Callable[[bytes], bool] | None,
    ) -> None:
        request = session.request(
            method,
            url,
            data=body,
            headers=headers if body is None else {**headers, "Content-Type": "application/json"},
            allow_redirects=False,
            ssl=tls or True,
            trace_request_ctx=progress,
        )
        async with request as response:
            progress.answered = True
            answer.status = response.status
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            if sink is not None and response.status == 200 and response.content_type == "text/event-stream":
                progress.streaming = True
                await _stream(response, answer, sink)
            else:
                answer.body = await _bounded(response)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    async def created(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        context.trace_request_ctx.connected = True

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        context.trace_request_ctx.connected = context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"pointsman/{__version__} (probe)"},
        trace_configs=[trace],
    )


async def _stream(response: aiohttp.ClientResponse, answer: Answer, sink: Callable[[bytes], bool]) -> None:
    taken = 0
    async for chunk in response.content.iter_any():
        taken += len(chunk)
        if sink(chunk):
            answer.latency_ms = (time.monotonic() - answer.started) * 1000
            with anyio.move_on_after(END_GRACE_S), contextlib.suppress(aiohttp.ClientError, OSError):
                await response.content.readany()
            return
        if taken > BODY_BYTES_MAX:
            answer.wire = Wire.BAD_BODY
            return


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            break
    return bytes(body)


def _late(progress: Progress) -> Wire:
    """What the deadline cut off."""
    if not progress.connected:
        return Wire.CONNECT_TIMEOUT
    if not progress.answered:
        return Wire.FIRST_BYTE_TIMEOUT
    return Wire.STALL if progress.streaming else Wire.RESPONSE_TIMEOUT


def wire_of(error: Exception, progress: Progress) -> Wire:
    """The name of a failure that aiohttp or the operating system reported."""
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.InvalidURL | UnicodeError):
        return Wire.DNS
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Wire.TLS
    if progress.answered:
        return Wire.TRUNCATED if _is_cut(error) else Wire.BAD_BODY
    if isinstance(error, aiohttp.ClientConnectorError):
        return _wire_of_connect(error.os_error)
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return Wire.RESET
    return Wire.BAD_BODY


def _is_cut(error: Exception) -> bool:
    """Did the connection end before the body did, in contrast to a body that makes no sense?"""
    if isinstance(error, aiohttp.ContentTypeError) or "decode" in str(error).lower():
        return False
    return isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError)


def _wire_of_connect(error: OSError) -> Wire:
    if isinstance(error, ssl.SSLError):
        return Wire.TLS
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return Wire.RESET
    if error.errno in _UNREACHABLE:
        return Wire.UNREACHABLE
    if error.errno == errno.ETIMEDOUT:
        return Wire.CONNECT_TIMEOUT
    return Wire.REFUSED
