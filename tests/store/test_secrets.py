"""The store's password stands in no error and in no representation."""

import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.store.client import Store
from pointsman.store.errors import StoreDown, StoreError
from pointsman.store.keys import Keys
from support import ValkeyServer, free_port

pytestmark = pytest.mark.anyio

SECRET = "planted-9f31c/secret"
QUOTED = "planted-9f31c%2Fsecret"


@pytest.fixture(
    params=[("--requirepass", "another"), ("--rename-command", "AUTH", "")], ids=["auth", "no auth"]
)
def locked_server(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    """A server that takes another password; or none, and then it quotes what it does not understand."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder), *request.param)
        server.start()
        yield server
        server.kill()


async def _error_of(store: Store) -> StoreError:
    async with store:
        with pytest.raises(StoreError) as caught:
            await store.now_s()
        return caught.value


def _shown(error: BaseException) -> str:
    return str(error) + repr(error) + "".join(traceback.format_exception(error))


async def test_refused_password(locked_server: ValkeyServer, keys: Keys) -> None:
    """A password that the server refuses is told as refused, without its text."""
    for store in (
        Store.connect(locked_server.url, keys, password=SECRET),
        Store.connect(f"{locked_server.url}?password={QUOTED}", keys),
    ):
        error = await _error_of(store)
        assert "refuse" in str(error)
        assert "planted" not in _shown(error) + repr(store) + repr(store._wire)


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_wrong_password_names_its_setting(password: str | None, keys: Keys) -> None:
    """A password that is wrong or missing is a store that is down, and the setting to look at is named."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder), "--requirepass", SECRET)
        server.start()
        try:
            error = await _error_of(Store.connect(server.url, keys, password=password))
            assert isinstance(error, StoreDown)
            assert "look at store.password" in str(error)
        finally:
            server.kill()


async def test_unreachable_server(keys: Keys) -> None:
    """Nor does it stand in the error about a server that is not there; where that should be does."""
    port = free_port()
    error = await _error_of(Store.connect(f"redis://user:{QUOTED}@127.0.0.1:{port}/0", keys))
    assert isinstance(error, StoreDown)
    assert f"redis://127.0.0.1:{port}/0" in str(error)
    assert "planted" not in _shown(error)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@127.0.0.1:6379",
        f"http://:{SECRET}@127.0.0.1:6379",
        f"redis://127.0.0.1:{SECRET}",
        f"redis://[{SECRET}",
        f"redis://127.0.0.1/0?socket_timeout={SECRET}",
        "",
    ],
)
def test_bad_url(url: str, keys: Keys) -> None:
    """A URL that cannot be used is refused with what to write, and is not quoted."""
    with pytest.raises(StoreError, match="redis://host:6379/0") as caught:
        Store.connect(url, keys)
    assert "planted" not in _shown(caught.value)


async def test_password_opens_the_store(keys: Keys) -> None:
    """A password that is right works, given apart or in the URL."""
    with tempfile.TemporaryDirectory(prefix="pm-") as folder:
        server = ValkeyServer(Path(folder), "--requirepass", SECRET)
        server.start()
        try:
            for store in (
                Store.connect(server.url, keys, password=SECRET),
                Store.connect(f"{server.url}?password={QUOTED}", keys),
            ):
                async with store:
                    assert await store.now_s() > 1_000_000_000
        finally:
            server.kill()
