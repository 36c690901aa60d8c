"""Fake providers over TLS."""

import json
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import anyio
import anyio.to_thread
import openai
import pytest
import trustme

from pointsman.fake import FakeProvider, Fault
from support import eventually

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def fake(authority: trustme.CA) -> AsyncIterator[FakeProvider]:
    """A fake with a certificate for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FakeProvider("secure", ssl_context=context).running() as running:
        yield running


async def test_official_client_over_tls(fake: FakeProvider, client_tls: ssl.SSLContext) -> None:
    """The official client streams over TLS."""
    assert fake.base_url.startswith("https://127.0.0.1:")
    async with (
        openai.DefaultAsyncHttpxClient(verify=client_tls) as transport,
        openai.AsyncOpenAI(
            base_url=fake.base_url, api_key="x", max_retries=0, http_client=transport
        ) as client,
    ):
        stream = await client.chat.completions.create(**BODY, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.startswith("secure says:")


async def test_distrust(fake: FakeProvider) -> None:
    """A client that does not trust the authority gets no connection, and the failure is counted."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{fake.base_url}/models")
    await eventually(lambda: fake.tls_failures == 1)
    assert fake.requests.total == 0


async def test_faults_over_tls(fake: FakeProvider, client_tls: ssl.SSLContext) -> None:
    """Resets, aborted streams and refusals are the same over TLS."""
    connector = aiohttp.TCPConnector(ssl=client_tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"{fake.base_url}/chat/completions"
        fake.set_faults(Fault(kind="reset"))
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await session.post(url, json=BODY)
        fake.set_faults(Fault(kind="abort", after_events=2))
        async with session.post(url, json=BODY | {"stream": True}) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        fake.die("refuse")
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, json=BODY)
        fake.clear()
        fake.revive()
        async with session.post(url, json=BODY) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("faults", [(), (Fault(kind="abort"),)])
async def test_ends_at_once_with_a_silent_caller(
    authority: trustme.CA, client_tls: ssl.SSLContext, faults: tuple[Fault, ...]
) -> None:
    """A provider stops at once, also when a caller never answers the farewell of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    body = json.dumps(BODY | {"stream": True}).encode()

    def ask(port: int) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port))
        secure = client_tls.wrap_socket(plain, server_hostname="127.0.0.1")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        secure.sendall(head % len(body) + body)
        return secure

    with anyio.fail_after(5):
        async with FakeProvider(ssl_context=context).running() as fake:
            fake.set_faults(*faults)
            silent = await anyio.to_thread.run_sync(ask, fake.port)
            await eventually(lambda: fake.requests.total == 1 and fake.requests.open == 0)
            assert fake.connections == 1
    silent.close()
