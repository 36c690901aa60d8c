"""Addresses as the configuration writes them: where to listen, and where providers are."""

import functools
import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})")


WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, never listened on
UNIX: Final = "unix:"


class Listen(NamedTuple):
    """Where to listen: `host` without brackets; port 0 lets the system choose. With a `path` it is a unix socket."""

    host: str
    port: int
    path: str = ""

    @property
    def open(self) -> bool:
        """Can other machines connect?"""
        return not self.path and not is_loopback(self.host)

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """ "127.0.0.1:8470", "[::1]:8470", "localhost:0". Raises ValueError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        return Listen(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if not _HOST.fullmatch(host):
        raise ValueError("not HOST:PORT")
    return Listen(host, int(port))


def parse_door(text: str) -> Listen:
    """As `parse_listen`, or "unix:/path/to/socket". Raises ValueError for anything else."""
    if not text.startswith(UNIX):
        return parse_listen(text)
    path = text.removeprefix(UNIX)
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("not unix:/PATH")
    return Listen("", 0, path)


def overlap(one: Listen, other: Listen) -> bool:
    """Would listening on both fail? A wildcard takes every host's port; port 0 never collides."""
    if one.path or other.path:
        return one.path == other.path
    same_host = one.host == other.host or bool({one.host, other.host} & WILDCARDS)
    return same_host and one.port == other.port != 0


def is_loopback(host: str) -> bool:
    """Is `host` this machine by name or number, without asking a resolver?"""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_url(url: str) -> SplitResult:
    """The parts of an http or https URL. Raises ValueError, with a reason that repeats nothing of it."""
    if any(not "!" <= letter <= "~" for letter in url):
        raise ValueError("it has a space, a line break or a letter outside ASCII")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("it does not begin with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has a user name or a password in it")
    if "?" in url or "#" in url:
        raise ValueError("it has a query or a fragment")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is not a number from 1 to 65535") from None
    if not parts.hostname or port == 0:
        raise ValueError("it names no host")
    return parts


@functools.lru_cache(maxsize=4096)  # asked of every target of every new table
def origin(url: str) -> str:
    """The scheme, host and port that a URL leads to: "https://api.openai.com:443". Raises ValueError."""
    parts = split_url(url)
    return origin_of(parts.scheme, parts.hostname or "", parts.port)


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """The same from its parts, with the scheme's port where none is given."""
    bare = host.lower().rstrip(".")
    name = f"[{bare}]" if ":" in bare else bare
    return f"{scheme}://{name}:{port or DEFAULT_PORTS[scheme]}"


def parse_host(text: str) -> tuple[str, int | None]:
    """ "host" or "host:port" → (host in lower case, port). Raises ValueError for anything else."""
    parts = urlsplit(f"//{text}")
    if (
        not parts.hostname
        or parts.netloc != text
        or "@" in text
        or any(not "!" <= letter <= "~" for letter in text)
    ):
        raise ValueError("not HOST or HOST:PORT")
    return parts.hostname.rstrip("."), parts.port
