"""Proxies are asked where they say that they listen: over TLS, at unix sockets, and not where they must not be."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from pointsman.config.models import ProxySettings
from pointsman.control.dialing import Dialer, UnreachableError, url_of
from pointsman.control.synthetic import Reply, send
from pointsman.core.model import Family

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that only these tests trust."""
    return trustme.CA()


class Door:
    """Stands where a proxy listens, and remembers the headers that came."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[], web.StreamResponse] = lambda: web.Response(text="data: [DONE]")

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        return self.answer()

    @asynccontextmanager
    async def open(self, site: Callable[[web.ServerRunner], web.BaseSite]) -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(self.take))
        await runner.setup()
        await site(runner).start()
        yield
        await runner.cleanup()


@asynccontextmanager
async def secure(door: Door, authority: trustme.CA, *names: str) -> AsyncIterator[str]:
    """A door with a certificate for `names`; the address that a proxy would report."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    runners: list[web.ServerRunner] = []

    def site(runner: web.ServerRunner) -> web.BaseSite:
        runners.append(runner)
        return web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)

    async with door.open(site):
        yield f"https://127.0.0.1:{runners[0].addresses[0][1]}"


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """What the configuration says of the proxies' certificates."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {"cert_file": "/c.pem", "key_file": "/k.pem", "ca_file": str(tmp_path / "ca.pem")}


@pytest.fixture
def key(tmp_path: Path) -> dict[str, Any]:
    """The settings that give synthetic requests the key "pm-synthetic"."""
    (tmp_path / "key").write_text("pm-synthetic\n")
    return {"synthetic_key": f"file:{tmp_path}/key"}


async def sent(address: str, **proxy: Any) -> Reply:
    """One synthetic request to the proxy that reports `address`."""
    async with Dialer(ProxySettings.model_validate(proxy)) as dialer:
        return await send(dialer, address, Family.OPENAI, b"{}", "google", 5.0)


async def test_a_proxy_at_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    """On its own machine it is reached like any other."""
    door, path = Door(), str(tmp_path / "d.sock")
    async with door.open(lambda runner: web.UnixSite(runner, path)):
        reply = await sent(f"unix:{path}")
    assert (reply.ok, len(door.asked)) == (True, 1)


async def test_a_unix_socket_elsewhere_is_told_of(tmp_path: Path) -> None:
    """It cannot be reached from another machine, and the error says so."""
    with pytest.raises(UnreachableError, match="can be asked on its own machine only"):
        await sent(f"unix:{tmp_path}/none.sock")


async def test_a_proxy_with_tls_is_asked_over_tls(authority: trustme.CA, tls: dict[str, str]) -> None:
    """Its certificate is one for its host, by the authority of proxy.tls.ca_file."""
    door = Door()
    async with secure(door, authority, "127.0.0.1") as address:
        reply = await sent(address, tls=tls)
    assert (reply.ok, len(door.asked)) == (True, 1)


async def test_the_name_in_the_certificate_may_be_another(authority: trustme.CA, tls: dict[str, str]) -> None:
    """Proxies are known by their addresses, certificates by a name: proxy.tls.server_name."""
    door = Door()
    async with secure(door, authority, "proxy.example") as address:
        reply = await sent(address, tls=tls | {"server_name": "proxy.example"})
    assert (reply.ok, len(door.asked)) == (True, 1)


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_certificate_that_is_not_trusted_is_told_of(
    authority: trustme.CA, tls: dict[str, str], wrong: str
) -> None:
    """Nothing is asked, and the error names the two settings."""
    door = Door()
    signer = trustme.CA() if wrong == "authority" else authority
    async with secure(door, signer, "proxy.example" if wrong == "name" else "127.0.0.1") as address:
        with pytest.raises(
            UnreachableError, match=r"not trusted: say who signed it with proxy\.tls\.ca_file"
        ):
            await sent(address, tls=tls)
    assert door.asked == []


async def test_an_authority_that_cannot_be_read_is_told_of(tls: dict[str, str]) -> None:
    """The error names the file and the key."""
    with pytest.raises(UnreachableError, match=r"proxy\.tls\.ca_file: /none\.pem is no certificate"):
        await sent("https://127.0.0.1:1", tls=tls | {"ca_file": "/none.pem"})


async def test_the_key_is_sent_on_this_machine(tmp_path: Path, key: dict[str, Any]) -> None:
    """As a bearer token; without the setting there is none."""
    door, path = Door(), str(tmp_path / "d.sock")
    async with door.open(lambda runner: web.UnixSite(runner, path)):
        await sent(f"unix:{path}", **key)
        await sent(f"unix:{path}")
    assert [asked.get("authorization") for asked in door.asked] == ["Bearer pm-synthetic", None]


@pytest.mark.parametrize(
    ("address", "hosts", "named"),
    [
        ("127.0.0.1:1", (), True),
        ("10.0.0.7:8480", (), False),
        ("https://10.0.0.7:8480", (), False),
        ("10.0.0.7:8480", ("10.0.0.7",), True),
        ("10.0.0.7:8480", ("10.0.0.7:8480",), True),
        ("10.0.0.7:8480", ("10.0.0.7:8481", "10.0.0.8"), False),
    ],
)
async def test_the_key_goes_to_named_hosts_only(
    key: dict[str, Any], address: str, hosts: tuple[str, ...], named: bool
) -> None:
    """Who can write the store reports any address that he likes, and gets no key by that."""
    dialer = Dialer(ProxySettings.model_validate(key | {"synthetic_hosts": hosts}))
    if named:
        assert dialer.key_for(address) == "pm-synthetic"
    else:
        with pytest.raises(
            UnreachableError, match=r"add its host to proxy\.synthetic_hosts, or set proxy\.tls"
        ):
            dialer.key_for(address)


async def test_the_key_goes_to_who_proves_the_name(
    authority: trustme.CA, tls: dict[str, str], key: dict[str, Any]
) -> None:
    """With proxy.tls.server_name any address will do: another one's certificate ends the request before it is sent."""
    dialer = Dialer(ProxySettings.model_validate(key | {"tls": tls | {"server_name": "proxy.example"}}))
    assert dialer.key_for("https://10.0.0.7:8480") == "pm-synthetic"
    with pytest.raises(UnreachableError):
        dialer.key_for("10.0.0.7:8480")  # nothing is proven in the clear
    door = Door()
    async with secure(door, authority, "evil.example") as address:
        with pytest.raises(UnreachableError, match="is not trusted"):
            await sent(address, tls=tls | {"server_name": "proxy.example"}, **key)
    assert door.asked == []


async def test_a_key_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    """The error names the setting and the cure."""
    with pytest.raises(UnreachableError, match=r"proxy\.synthetic_key: file:.*cannot be read.*Cure"):
        await sent("127.0.0.1:1", synthetic_key=f"file:{tmp_path}/none")


async def test_a_proxy_that_wants_a_key_is_no_failure_of_a_target(tmp_path: Path) -> None:
    """Its 401 is told with what to do; the 401 of a provider behind it stays a failed sample."""
    door, path = Door(), str(tmp_path / "d.sock")
    door.answer = lambda: web.Response(status=401)
    async with door.open(lambda runner: web.UnixSite(runner, path)):
        with pytest.raises(
            UnreachableError, match=r"refuses synthetic requests: make a key \(`pointsman keys new"
        ):
            await sent(f"unix:{path}")
        door.answer = lambda: web.Response(status=401, headers={"x-pointsman-table": "1.1"})
        assert (await sent(f"unix:{path}")).why == "HTTP 401"


def test_where_a_proxy_is() -> None:
    """One that listens on every address is asked on this machine; what is no address is asked nowhere."""
    assert url_of("https://0.0.0.0:8480") == "https://127.0.0.1:8480"
    assert url_of("https://[::]:8480") == "https://[::1]:8480"
    with pytest.raises(UnreachableError, match="an address that is none"):
        url_of("https://evil/path")
