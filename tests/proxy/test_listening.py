"""Where a proxy listens: TCP, a unix socket, TLS; and what it says and refuses there."""

import contextlib
import logging
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from opentelemetry.trace import NoOpTracer

from pointsman.config.errors import ConfigError
from pointsman.config.models import ProxySettings
from pointsman.proxy.listening import warn_if_open
from pointsman.proxy.process import Proxy

pytestmark = pytest.mark.anyio

Issue = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture
def issue(authority: trustme.CA, tmp_path: Path) -> Issue:
    """`issue("a")` writes another certificate for 127.0.0.1 to the same two files, with "a.example" in it too."""

    def write(mark: str) -> dict[str, str]:
        made = authority.issue_cert("127.0.0.1", f"{mark}.example")
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        cert.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return {"cert_file": str(cert), "key_file": str(key)}

    return write


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def with_another_key(tls: dict[str, str]) -> dict[str, str]:
    """The same files, but the key is another certificate's."""
    Path(tls["key_file"]).write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    return tls


def without(tls: dict[str, str], missing: str) -> dict[str, str]:
    """One of the files is gone."""
    Path(tls[missing]).unlink()
    return tls


def encrypted(tls: dict[str, str]) -> dict[str, str]:
    """The key cannot be read without a password."""
    path = Path(tls["key_file"])
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"x")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    return tls


def proxy_of(world: Any, state_dir: Path, **settings: Any) -> Proxy:
    """A proxy that has not begun to run."""
    return Proxy(
        world.settings(**settings),
        name="p9",
        boot="b",
        store=world.store,
        state_dir=state_dir,
        tracer=NoOpTracer(),
    )


@contextlib.asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[str]:
    """Run it; the address that it reports."""

    async def run(*, task_status: Any) -> None:
        await proxy.run(task_status=task_status)

    async with anyio.create_task_group() as tasks:
        address = await tasks.start(run)
        yield address
        proxy.stop()


def names_seen(address: str, context: ssl.SSLContext) -> list[str]:
    """The names in the certificate that a new connection gets."""
    host, _, port = address.removeprefix("https://").rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=5.0) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        shown = secure.getpeercert() or {}
    return [str(value) for kind, value in shown["subjectAltName"] if kind == "DNS"]


# --- unix sockets


async def test_callers_are_served_at_a_unix_socket(world: Any, state_dir: Path) -> None:
    """For the owner and the group, reported as unix:PATH, and gone when the proxy is."""
    await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    path = state_dir / "callers.sock"
    proxy = proxy_of(world, state_dir, listen=f"unix:{path}")
    async with (
        running(proxy) as address,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        assert address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with session.get("http://proxy/-/health") as response:
            assert (response.status, await response.text()) == (200, "pointsman\n")
    assert not path.exists()


async def test_what_a_dead_process_left_is_replaced(world: Any, state_dir: Path) -> None:
    """A socket that nobody answers at is in nobody's way."""
    path = state_dir / "callers.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with running(proxy_of(world, state_dir, listen=f"unix:{path}")) as address:
        assert address == f"unix:{path}"


async def test_a_living_socket_is_left_alone(world: Any, state_dir: Path) -> None:
    """The second proxy says why it does not start, and the first one still listens."""
    path = state_dir / "callers.sock"
    async with running(proxy_of(world, state_dir, listen=f"unix:{path}")):
        with pytest.raises(ExceptionGroup) as caught, anyio.fail_after(10):
            await proxy_of(world, state_dir, listen=f"unix:{path}").run()
        assert caught.group_contains(OSError, match=f"somebody listens at {path} already: end that process")
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))


async def test_a_file_is_never_taken_for_a_socket(world: Any, state_dir: Path) -> None:
    """What is no socket stays, and is named."""
    path = state_dir / "precious"
    path.write_text("text")
    with pytest.raises(ExceptionGroup) as caught:
        await proxy_of(world, state_dir, listen=f"unix:{path}").run()
    assert caught.group_contains(OSError, match="is no socket: choose another path")
    assert path.read_text() == "text"


# --- TLS


async def test_callers_are_served_over_tls(
    world: Any, state_dir: Path, issue: Issue, client_tls: ssl.SSLContext
) -> None:
    """A whole answer and a stream over TLS, at an address that says so."""
    await world.provider("a", tokens=50)
    world.route("chat", chain="a")
    await world.publish()
    proxy = proxy_of(world, state_dir, tls=issue("a"))
    async with running(proxy) as address, aiohttp.ClientSession() as session:
        assert address.startswith("https://127.0.0.1:")
        while not proxy.ready:
            await anyio.lowlevel.checkpoint()
        for stream in (False, True):
            body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
            async with session.post(f"{address}/v1/chat/completions", json=body, ssl=client_tls) as response:
                assert response.status == 200
                text = await response.text()
            assert ("[DONE]" in text) is stream


async def test_old_tls_is_refused(
    world: Any, state_dir: Path, issue: Issue, client_tls: ssl.SSLContext
) -> None:
    """TLS 1.1 is not spoken, 1.2 is."""
    async with running(proxy_of(world, state_dir, tls=issue("a"))) as address:
        client_tls.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await anyio.to_thread.run_sync(names_seen, address, client_tls)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await anyio.to_thread.run_sync(names_seen, address, old)


async def test_a_new_certificate_counts_for_new_connections(
    world: Any, state_dir: Path, issue: Issue, client_tls: ssl.SSLContext
) -> None:
    """After a reload who connects sees it; who is connected goes on."""
    proxy = proxy_of(world, state_dir, tls=issue("old"))
    async with running(proxy) as address, aiohttp.ClientSession() as session:
        async with session.get(f"{address}/-/health", ssl=client_tls) as response:
            await response.read()
        assert await anyio.to_thread.run_sync(names_seen, address, client_tls) == ["old.example"]
        failed = proxy.reload(world.settings(tls=issue("new")))
        assert failed == []
        assert await anyio.to_thread.run_sync(names_seen, address, client_tls) == ["new.example"]
        async with session.get(f"{address}/-/health", ssl=client_tls) as response:
            assert response.status == 200
            assert len(session.connector._conns or {}) <= 1  # the connection from before


async def test_a_bad_certificate_changes_nothing(
    world: Any, state_dir: Path, issue: Issue, client_tls: ssl.SSLContext
) -> None:
    """It is refused in words, and callers see the old one."""
    proxy = proxy_of(world, state_dir, tls=issue("old"))
    async with running(proxy) as address:
        tls = with_another_key(issue("new"))
        [why] = proxy.reload(world.settings(tls=tls))
        assert why.startswith(
            f"callers still get the old certificate: {tls['cert_file']}: proxy.tls: it is no"
        )
        assert "Cure: cert_file is the certificate with its chain" in why
        assert await anyio.to_thread.run_sync(names_seen, address, client_tls) == ["old.example"]


@pytest.mark.parametrize("missing", ["cert_file", "key_file"])
async def test_a_proxy_without_its_certificate_does_not_start(
    world: Any, state_dir: Path, issue: Issue, missing: str
) -> None:
    """The error names the file, the key and the cure."""
    tls = without(issue("a"), missing)
    with pytest.raises(
        ConfigError, match=f"proxy.tls.{missing}: the file cannot be read: No such file"
    ) as caught:
        proxy_of(world, state_dir, tls=tls)
    assert tls[missing] in str(caught.value)
    assert "Cure: check the path" in str(caught.value)


async def test_an_encrypted_key_asks_nobody(world: Any, state_dir: Path, issue: Issue) -> None:
    """A proxy starts by itself: no prompt for a password, an error."""
    tls = encrypted(issue("a"))
    with pytest.raises(ConfigError, match="its own key without a password"):
        proxy_of(world, state_dir, tls=tls)


# --- open doors


@pytest.mark.parametrize(
    ("listen", "tls", "keys", "warned"),
    [
        ("127.0.0.1:8480", False, False, False),
        ("[::1]:8480", False, False, False),
        ("unix:/run/pointsman.sock", False, False, False),
        ("0.0.0.0:8480", False, False, True),
        ("proxy.internal:8480", False, False, True),
        ("0.0.0.0:8480", True, False, False),
        ("0.0.0.0:8480", False, True, False),
    ],
)
def test_an_open_door_is_told_of(
    listen: str, tls: bool, keys: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In the clear and without keys, to other machines: one warning with what to do; otherwise none."""
    files = {"cert_file": "/c", "key_file": "/k"} if tls else None
    settings = ProxySettings.model_validate({"listen": listen, "tls": files})
    with caplog.at_level(logging.WARNING, "pointsman"):
        warn_if_open(settings, keys=keys)
    assert [("proxy.tls and proxy.keys" in record.message) for record in caplog.records] == [True] * warned
