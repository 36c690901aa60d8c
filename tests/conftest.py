"""Fixtures of every part: the event loop, a real Valkey, and a store connected to it."""

import itertools
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import ValkeyServer

_numbers = itertools.count(1)

# A shell that starts a job in the background has it ignore Ctrl-C, and so would every process that tests start and
# interrupt: what is ignored is inherited, what is handled is not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio, because aiohttp is."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey for the whole session: leave it running. Take `own_valkey` for one to kill or to freeze."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey for one test, which may kill, freeze and restart it."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def store_url(valkey_server: ValkeyServer) -> str:
    """The URL of the session's Valkey."""
    return valkey_server.url


@pytest.fixture
def keys() -> Keys:
    """Keys that no other test of this session uses."""
    return Keys(prefix=f"test-{next(_numbers)}", environment="development", fleet="default")


@pytest.fixture
async def store(store_url: str, keys: Keys) -> AsyncIterator[Store]:
    """A connected store of its own key space, emptied at the end."""
    async with Store.connect(store_url, keys, timeout_s=5.0) as connected:
        yield connected
        await connected.clear()
