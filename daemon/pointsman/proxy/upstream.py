"""Connections to providers, and the names of their failures."""

import errno
import io
import re
import socket
import ssl
from typing import Any, Final, Self

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from pointsman.config.models import TimeoutSettings
from pointsman.core.errors import Wire
from pointsman.proxy.headers import Pairs

KEEP_ALIVE_S: Final = 75.0
_READ_BUFFER_BYTES: Final = 1 << 16
_FIELD_BYTES_MAX: Final = 1 << 16
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_LARGE_BYTES: Final = 1 << 20


class WireError(Exception):
    """A connection or an answer that broke; `wire` says how."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.value)
        self.wire = wire


class _Sent:
    """Filled in by the connector: did the request go out on a connection that had been idle in the pool."""

    reused = False


async def _on_reuse(
    _: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


class Upstream:
    """The pool. Inside `async with`."""

    def __init__(self, timeouts: TimeoutSettings) -> None:
        self._timeouts = timeouts
        self._pooled: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._pooled = self._session(aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S))
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._pooled.close()
            await self._fresh.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_on_reuse)
        connect_s = self._timeouts.connect_s
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s),
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_FIELD_BYTES_MAX,
            max_field_size=_FIELD_BYTES_MAX,
            trace_configs=[trace],
        )

    async def send(
        self, method: str, url: str, headers: Pairs, body: bytes, tls: ssl.SSLContext | None
    ) -> aiohttp.ClientResponse:
        """The answer's head has come. Raises WireError; the caller of this sets the deadline around it.

        A connection that the provider closed while it lay idle in the pool is nobody's failure: the request is
        sent once more on a fresh one.
        """
        sent = _Sent()
        try:
            return await self._send(self._pooled, method, url, headers, body, tls, sent)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not sent.reused or isinstance(error, aiohttp.ClientConnectorError):
                raise WireError(wire_of(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise WireError(wire_of(error)) from error
        try:
            return await self._send(self._fresh, method, url, headers, body, tls, sent)
        except (aiohttp.ClientError, OSError) as error:
            raise WireError(wire_of(error)) from error

    @staticmethod
    async def _send(
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        headers: Pairs,
        body: bytes,
        tls: ssl.SSLContext | None,
        sent: _Sent,
    ) -> aiohttp.ClientResponse:
        data = io.BytesIO(body) if len(body) > _LARGE_BYTES else body
        return await session.request(
            method,
            URL(url, encoded=True),
            headers=sendable(headers),
            data=data if body or method in {"POST", "PUT", "PATCH"} else None,
            ssl=True if tls is None else tls,
            allow_redirects=False,
            trace_request_ctx=sent,
        )


def sendable(headers: Pairs) -> CIMultiDict[str]:
    """`headers` as the client or the server writes them.

    They read bytes that are no UTF-8 as surrogates, and write those as nothing. Taken for Latin-1, which such
    bytes nearly always are, no character is lost.
    """
    return CIMultiDict((name, value if value.isascii() else _readable(value)) for name, value in headers)


def _readable(value: str) -> str:
    read = value.encode("utf-8", "surrogateescape")
    try:
        return read.decode("utf-8")
    except UnicodeDecodeError:
        return read.decode("latin-1")


_BY_ERRNO: Final = {
    errno.ECONNREFUSED: Wire.REFUSED,
    errno.ENETUNREACH: Wire.UNREACHABLE,
    errno.EHOSTUNREACH: Wire.UNREACHABLE,
    errno.ETIMEDOUT: Wire.CONNECT_TIMEOUT,
}

# An answer cut short is told in words: what was missing, and what the transport said if it did not end cleanly.
_LOST: Final = re.compile(r"\bConnection(Reset|Aborted)Error\(")


def wire_of(error: Exception) -> Wire:
    """What a client's exception says about the wire."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Wire.CONNECT_TIMEOUT
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return Wire.DNS
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError() | ssl.SSLError():
            return Wire.TLS
        case aiohttp.ClientPayloadError():
            return Wire.RESET if _LOST.search(str(error)) else Wire.TRUNCATED
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return Wire.BAD_BODY
        case OSError():
            return _BY_ERRNO.get(error.errno or 0, Wire.RESET)
        case _:
            return Wire.RESET
