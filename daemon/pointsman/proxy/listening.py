"""The door of a proxy: the sockets that callers connect to, and the certificate that they see.

A unix socket that a dead process left behind is replaced; one that somebody answers at is not, nor is any other file.
"""

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pointsman import logs
from pointsman.config.addresses import Listen, parse_door
from pointsman.config.errors import ConfigError, Problem
from pointsman.config.models import ProxySettings, TlsSettings

log = logs.get("proxy")

BACKLOG: Final = 1024
SOCKET_MODE: Final = 0o660
HANDSHAKE_S: Final = 15.0
_ASK_S: Final = 1.0

Factory = Callable[[], asyncio.Protocol]


class Certificate:
    """The certificate that callers see. `take` another one at any time: it counts for who connects from then on.

    Raises ConfigError, and keeps what was, when the files are no certificate with its key.
    """

    def __init__(self, tls: TlsSettings) -> None:
        self._now = _context(tls)
        self.context = _context(tls)
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in every handshake, also of callers who name no server."""
        connection.context = self._now

    def take(self, tls: TlsSettings) -> None:
        """Show this one from now on."""
        self._now = _context(tls)


def _context(tls: TlsSettings) -> ssl.SSLContext:
    for key, path in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            why = f"the file cannot be read: {error.strerror}"
            cure = "check the path, and let this process read the file"
            raise ConfigError([Problem(path, None, f"proxy.tls.{key}", why, cure)]) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "it is encrypted with a password"
        cure = "cert_file is the certificate with its chain, key_file its own key without a password, both as PEM"
        why = f"it is no certificate with the key in {tls.key_file} ({reason})"
        raise ConfigError([Problem(tls.cert_file, None, "proxy.tls", why, cure)]) from None
    return context


def _no_password() -> str:
    """Nobody is asked for one: a proxy starts by itself."""
    raise ValueError("the key is encrypted")


class Place(NamedTuple):
    """An address that several processes listen at: their own sockets beside each other, or one unix socket of all."""

    listen: Listen
    shared: socket.socket | None = None


class Door:
    """Where a proxy listens. `open` it once; at a `place`, others do so too."""

    def __init__(self, settings: ProxySettings, place: Place | None = None) -> None:
        """Raises ConfigError for a certificate that is none."""
        self._listen = place.listen if place else parse_door(settings.listen)
        self._reuse_port = True if place and not place.shared else None
        self._shared = place.shared if place else None
        self._made = ""
        self._certificate = Certificate(settings.tls) if settings.tls is not None else None

    def take(self, settings: ProxySettings) -> None:
        """Another certificate, for who connects from now on. Raises ConfigError, and keeps the old one."""
        if self._certificate is not None and settings.tls is not None:
            self._certificate.take(settings.tls)

    async def open(self, factory: Factory) -> tuple[asyncio.Server, str]:
        """(the server, the address as proxies report it). Raises OSError if nobody can connect there."""
        loop = asyncio.get_running_loop()
        listen = self._listen
        if listen.path:
            bound = self._shared.dup() if self._shared else bind_unix(listen.path)
            self._made = "" if self._shared else listen.path
            return await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG), str(listen)
        tls = self._certificate.context if self._certificate else None
        server = await loop.create_server(
            factory,
            listen.host,
            listen.port,
            backlog=BACKLOG,
            reuse_port=self._reuse_port,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
        )
        host, port = server.sockets[0].getsockname()[:2]
        return server, f"{'https://' if tls else ''}{Listen(host, port)}"

    def gone(self) -> None:
        """Nobody listens any more."""
        if self._made:
            Path(self._made).unlink(missing_ok=True)


def warn_if_open(settings: ProxySettings, *, keys: bool) -> None:
    """Say what to do if anybody in reach could use the providers through this proxy, and read along."""
    if settings.tls is None and not keys and parse_door(settings.listen).open:
        log.warning(
            "{listen} is open to other machines, in the clear and without callers' keys: everybody in reach can spend "
            "your money. Set proxy.tls and proxy.keys (`pointsman keys new`), or listen on 127.0.0.1 or unix:/PATH",
            listen=settings.listen,
        )


@contextmanager
def claimed(settings: ProxySettings) -> Iterator[Place]:
    """Inside the block the address is held for the processes that get the place, against everybody else.

    Raises OSError if somebody has it.
    """
    listen = parse_door(settings.listen)
    with ExitStack() as stack:
        if listen.path:
            bound = stack.enter_context(bind_unix(listen.path))
            stack.callback(Path(listen.path).unlink, missing_ok=True)
            yield Place(listen, bound)
            return
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, address in dict.fromkeys(found):
            if listen.port:  # beside whoever shares it we could bind as well: so ask for it alone first
                _bound(family, (address[0], listen.port), shared=False).close()
            held = stack.enter_context(_bound(family, (address[0], listen.port), shared=True))
            listen = listen._replace(port=held.getsockname()[1])
        yield Place(listen)


def _bound(family: int, address: tuple[Any, int], *, shared: bool) -> socket.socket:
    """A socket that holds an address without listening there."""
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        why = f"proxy.listen: nobody can listen on {address[0]}, port {address[1]}: {error.strerror}"
        raise OSError(error.errno, why) from None
    return made


def bind_unix(path: str) -> socket.socket:
    """A unix socket at `path`, for its owner and its group. Raises OSError if something else is there."""
    _clear(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(path)
        Path(path).chmod(SOCKET_MODE)  # before it listens: nobody can have connected
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"proxy.listen: {path} cannot be made: {error.strerror}") from None
    return bound


def _clear(path: str) -> None:
    """Take away what a dead process left behind. Raises OSError if somebody answers there, or it is no socket."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(
            errno.EEXIST, f"proxy.listen: {path} is there already, and is no socket: choose another path"
        )
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_ASK_S)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
            return
        except OSError as error:
            why = f"proxy.listen: it cannot be told whether anybody listens at {path}: {error.strerror or error}"
            raise OSError(errno.EADDRINUSE, why) from None
    why = f"proxy.listen: somebody listens at {path} already: end that process, or choose another path"
    raise OSError(errno.EADDRINUSE, why)
