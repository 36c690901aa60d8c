"""What the settings of the processes say together: where they listen, to whom, and how often they speak."""

from collections.abc import Iterator
from typing import Final

from pointsman.config import addresses
from pointsman.config.errors import Finding, KeyPath, plain
from pointsman.config.models import ProxySettings, Settings

SOCKET_PATH_BYTES_MAX: Final = 103  # macOS allows 104 with the closing zero, Linux 108


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Every finding about the daemon and the proxies."""
    control, proxy = settings.control, settings.proxy
    yield from _listen(settings)
    yield from _proxy(proxy)
    ramps = (settings.ramp.canary, settings.ramp.failover, settings.ramp.failback)
    if proxy.keys and proxy.synthetic_key is None and any(ramp.synthetic for ramp in ramps):
        text = "the proxies want a key, and synthetic requests (ramp: synthetic: true) have none"
        cure = "make one (`pointsman keys new synthetic`), and write synthetic_key: env:NAME or file:/PATH"
        yield Finding(("proxy", "keys"), text, cure, (("ramp",),))
    if control.lease_ttl_s < 2 * control.tick_interval_s:
        text = f"the lease of {plain(control.lease_ttl_s)} s could run out between two ticks"
        cure = f"write at least twice tick_interval_s: {plain(2 * control.tick_interval_s)}"
        yield Finding(("control", "lease_ttl_s"), text, cure)
    if settings.policy.proxy_lost_s < 2 * proxy.report_interval_s:
        text = "a healthy proxy would be lost between two of its reports"
        cure = f"write at least twice proxy.report_interval_s: {plain(2 * proxy.report_interval_s)}"
        yield Finding(("policy", "proxy_lost_s"), text, cure, (("proxy",),))
    if settings.state_dir is not None:
        number = f".{proxy.workers}" if proxy.workers > 1 else ""
        yield from _state_dir(settings.state_dir, f"{proxy.name or ''}{number}")


def absolute(path: KeyPath, value: str) -> Iterator[Finding]:
    """A file's path has to be a whole one: processes start in other folders than people stand in."""
    if not value.startswith("/") or not value.isprintable():
        yield Finding(path, "the path is not absolute", "write the whole path, from /")


def _listen(settings: Settings) -> Iterator[Finding]:
    control, proxy = settings.control, settings.proxy
    daemon = door = None
    try:
        daemon = addresses.parse_listen(control.listen)
    except ValueError:
        cure = "write HOST:PORT, as 127.0.0.1:8470 or [::1]:8470"
        yield Finding(("control", "listen"), "this is no address to listen on", cure)
    try:
        door = addresses.parse_door(proxy.listen)
    except ValueError:
        cure = "write HOST:PORT, as 127.0.0.1:8480 or [::1]:8480, or unix:/path/to/socket"
        yield Finding(("proxy", "listen"), "this is no address to listen on", cure)
    if daemon is not None and door is not None and addresses.overlap(daemon, door):
        text = "the daemon listens on this address too (control.listen)"
        yield Finding(("proxy", "listen"), text, "give each its own port", (("control",),))
    if door is not None and len(door.path.encode()) > SOCKET_PATH_BYTES_MAX:
        text = f"the path is too long for a unix socket ({SOCKET_PATH_BYTES_MAX} bytes)"
        yield Finding(("proxy", "listen"), text, "choose a shorter path")
    if door is not None and door.path and proxy.tls is not None:
        text = "TLS on a unix socket protects nothing: it never leaves this machine"
        yield Finding(("proxy", "tls"), text, "remove tls, or listen on HOST:PORT")


def _advertise(text: str | None) -> Iterator[Finding]:
    if text is None:
        return
    try:
        reached = addresses.parse_listen(text)
    except ValueError:
        reached = addresses.Listen("", 0)
    if not reached.port or reached.host in addresses.WILDCARDS:
        cure = "write the HOST:PORT that others reach this proxy at, as proxy-1:8480"
        yield Finding(("proxy", "advertise"), "this is no address to be reached at", cure)


def _proxy(proxy: ProxySettings) -> Iterator[Finding]:
    yield from _advertise(proxy.advertise)
    if proxy.access_log_file is not None:
        yield from absolute(("proxy", "access_log_file"), proxy.access_log_file)
        if not proxy.access_log:
            text = "nothing is written there, for there is no access log"
            yield Finding(("proxy", "access_log_file"), text, "write access_log: true, or remove this")
    names: dict[str, str] = {}
    for name, text in proxy.keys.items():
        if names.setdefault(text, name) != name:
            cure = "give each caller a key of its own (`pointsman keys new NAME`), or remove one"
            yield Finding(("proxy", "keys", name), "another name has the same key", cure)
    for index, host in enumerate(proxy.synthetic_hosts):
        try:
            addresses.parse_host(host)
        except ValueError:
            place = ("proxy", "synthetic_hosts", index)
            yield Finding(place, "this is no host", "write HOST or HOST:PORT")
    if proxy.tls is not None:
        for name in ("cert_file", "key_file", "ca_file"):
            value = getattr(proxy.tls, name)
            if value is not None:
                yield from absolute(("proxy", "tls", name), value)


def _state_dir(path: str, proxy_name: str) -> Iterator[Finding]:
    if not path.startswith("~/"):
        yield from absolute(("state_dir",), path)
    if len(f"{path}/proxy-{proxy_name}.sock".encode()) > SOCKET_PATH_BYTES_MAX:
        text = f"the path is too long for a unix socket in it ({SOCKET_PATH_BYTES_MAX} bytes with its name)"
        yield Finding(("state_dir",), text, "choose a shorter path", (("proxy",),))
