"""Calls to proxies at the addresses that they report: "host:port", "https://host:port" or "unix:/path".

What a proxy reports comes from the store, which is not trusted. So a certificate is asked for what this process's own
configuration says (`proxy.tls`: who signs it, which name is in it), and the key (`proxy.synthetic_key`) goes to this
machine, to who proves to be `proxy.tls.server_name`, and to `proxy.synthetic_hosts` only.
"""

import ssl
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from pointsman import logs
from pointsman.config.addresses import UNIX, Listen, parse_door, parse_host
from pointsman.config.models import ProxySettings
from pointsman.config.secrets import SecretError, resolve

_HTTPS: Final = "https://"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, never listened on


class UnreachableError(Exception):
    """No proxy answers at the address, or none may be asked there."""


def place_of(address: str) -> Listen:
    """Where the proxy is that reports `address`; one that listens everywhere is asked on this machine."""
    try:
        place = parse_door(address.removeprefix(_HTTPS))
    except ValueError:
        raise UnreachableError("a proxy reports an address that is none") from None
    return place._replace(host=_WILDCARDS.get(place.host, place.host))


def url_of(address: str) -> str:
    """The base URL to ask there."""
    place = place_of(address)
    if place.path:
        return "http://proxy"
    return f"{_HTTPS if address.startswith(_HTTPS) else 'http://'}{place}"


class Dialer:
    """Asks proxies; an asynchronous context manager, which keeps connections open."""

    def __init__(self, settings: ProxySettings) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self.reconfigure(settings)

    def reconfigure(self, settings: ProxySettings) -> None:
        """From now on ask like this."""
        self._tls = settings.tls
        self._key = settings.synthetic_key or ""
        self._hosts = [parse_host(text) for text in settings.synthetic_hosts]
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def post(self, address: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """POST to the proxy at `address`; an asynchronous context manager as aiohttp has it, without a deadline.

        Raises UnreachableError, here or when it is entered, if it must not or cannot be asked (see `unreachable`).
        """
        place = place_of(address)
        if self._key:
            headers = headers | {"authorization": f"Bearer {self.key_for(address)}"}
        tls: dict[str, Any] = {}
        if address.startswith(_HTTPS):
            tls["ssl"] = self._trust()
            if self._tls is not None and self._tls.server_name is not None:
                tls["server_hostname"] = self._tls.server_name
        url = url_of(address) + path
        return self._session(place).post(url, data=body, headers=headers, allow_redirects=False, **tls)

    def key_for(self, address: str) -> str:
        """The key of synthetic requests for the proxy at `address`. Raises UnreachableError if it must not have it."""
        place = place_of(address)
        proven = address.startswith(_HTTPS) and self._tls is not None and self._tls.server_name is not None
        named = any(host == place.host.lower() and port in {None, place.port} for host, port in self._hosts)
        if not (proven or named or not place.open):
            raise UnreachableError(
                f"the key of proxy.synthetic_key is not sent to {address}, which a proxy reports to the store: add its "
                "host to proxy.synthetic_hosts, or set proxy.tls.server_name"
            )
        try:
            key = resolve(self._key).reveal()
        except SecretError as error:
            raise UnreachableError(f"proxy.synthetic_key: {error}") from None
        logs.register_secret(key)
        return key

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            ca_file = self._tls.ca_file if self._tls else None
            try:
                self._context = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                why = f"proxy.tls.ca_file: {ca_file} is no certificate that can be read: {error.strerror}"
                raise UnreachableError(f"{why}. Cure: name the PEM file of who signed cert_file") from None
        return self._context

    def _session(self, place: Listen) -> aiohttp.ClientSession:
        found = self._sessions.get(place.path)
        if found is None:
            connector = aiohttp.UnixConnector(place.path) if place.path else None
            timeout = aiohttp.ClientTimeout(total=None)
            found = self._sessions[place.path] = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return found


def unreachable(address: str, error: aiohttp.ClientConnectorError) -> UnreachableError:
    """What `error` says of the proxy at `address`, with what to do where that is known."""
    why = f"no proxy answers at {address}: {type(error).__name__}"
    if isinstance(error, aiohttp.ClientSSLError):
        why = (
            f"the certificate of the proxy at {address} is not trusted: say who signed it with proxy.tls.ca_file, and "
            "which name is in it with proxy.tls.server_name"
        )
    elif address.startswith(UNIX):
        why += " (a unix socket can be asked on its own machine only)"
    return UnreachableError(why)
