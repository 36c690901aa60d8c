"""Several workers on one address: real processes, killed, stopped, orphaned and reloaded under traffic."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import yaml
from crews import Crew, alive

from pointsman.config.caller_keys import hashed
from support import eventually, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


Start = Callable[..., Any]


@pytest.fixture
async def crew(world: Any, keys: Any, state_dir: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """`await crew(**settings_of_the_proxy)`: a running crew of two, and the address; ended with the test."""
    started: list[tuple[Crew, list[int]]] = []

    async def start(
        *, ready: bool = True, env: dict[str, str] | None = None, **settings: Any
    ) -> tuple[Crew, str]:
        listen = settings.setdefault("listen", f"127.0.0.1:{free_port()}")
        path = configured(tmp_path, world, keys, state_dir, **settings)
        made = Crew(path, state_dir, "--workers", "2", env=env)
        children: list[int] = []
        started.append((made, children))
        if ready:
            await made.both_ready()
            children += made.children()
        return made, listen

    yield start
    for made, children in started:
        if made.process.poll() is None:
            children.extend(made.children())
        made.kill(children)


def configured(tmp_path: Path, world: Any, where: Any, state_dir: Path, **settings: Any) -> Path:
    """A file with the providers of `world`."""
    document = world.settings(**settings).model_dump(mode="json", exclude_defaults=True)
    document |= {
        "state_dir": str(state_dir),
        "store": {"url": world.store_url, "key_prefix": where.prefix, "timeout_s": 5.0},
    }
    path = tmp_path / "pointsman.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def chat(world: Any, **options: Any) -> None:
    """One provider behind the route "chat"."""
    await world.provider("a", **options)
    world.route("chat", chain="a")
    await world.publish()


async def ask(address: str) -> int:
    """The status of one request on a connection of its own."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/chat/completions", json=BODY) as response,
    ):
        await response.read()
        return response.status


async def served(crew: Crew) -> list[int]:
    """How many requests each worker remembers."""
    found = [await crew.status(name) for name in ("p.1", "p.2")]
    return [one["requests_kept"] if one else 0 for one in found]


async def test_both_serve(world: Any, crew: Start) -> None:
    """Connections are spread over both; each reports by itself, and nothing is counted twice or lost."""
    await chat(world)
    running, address = await crew()
    asked = 0
    while min(await served(running)) == 0:
        assert await ask(address) == 200
        asked += 1
        assert asked < 200

    async def summed() -> bool:
        reports = {report.proxy: report for report in await world.store.reports()}
        counts = [
            report.targets["a"].counts.get("ok", 0) for report in reports.values() if "a" in report.targets
        ]
        return set(reports) == {"p.1", "p.2"} and sum(counts) == asked

    await eventually(summed)


async def test_one_that_is_killed_loses_nothing_and_comes_back(world: Any, crew: Start) -> None:
    """Every request after its death is served, meanwhile by the other one, and later by both."""
    await chat(world)
    running, address = await crew()
    before = await running.both_ready()
    victim = running.children()[0]
    os.kill(victim, signal.SIGKILL)
    # A process that is seen dying may still hold its socket: the parent hears of it when all of it is gone.
    await eventually(lambda: "has ended (SIGKILL)" in running.log)
    for _ in range(20):
        assert await ask(address) == 200

    async def back() -> bool:
        now = await running.boots()
        return len(now) == 2 and now != before

    await eventually(back, 20.0)
    assert len(set((await running.boots()).values()) & set(before.values())) == 1
    assert "and is started again in 0.1 s" in running.log
    assert [await ask(address) for _ in range(10)] == [200] * 10


async def test_sigterm_drains_both(world: Any, crew: Start) -> None:
    """Streams on either worker come to their end, and then the parent ends well, with nobody left."""
    await chat(world, token_delay_ms=50.0, tokens=20)
    running, address = await crew()
    children = running.children()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        streams: list[aiohttp.ClientResponse] = []

        async def in_flight() -> list[int]:
            return [one["in_flight"] for one in [await running.status("p.1"), await running.status("p.2")]]

        while min(await in_flight()) == 0:
            streams.append(
                await session.post(f"http://{address}/v1/chat/completions", json=BODY | {"stream": True})
            )
            assert len(streams) < 100
        running.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*(stream.text() for stream in streams))
    assert all("[DONE]" in end for end in ends)
    assert await running.ended() == 0
    assert [pid for pid in children if alive(pid)] == []
    assert list(running.state_dir.glob("*.sock")) == []


async def test_every_process_of_the_group_may_get_the_signal(world: Any, crew: Start) -> None:
    """A service manager that signals all of them, the parent too: each child hears it twice and drains all the same."""
    await chat(world, token_delay_ms=50.0, tokens=20)
    running, address = await crew()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/chat/completions", json=BODY | {"stream": True}) as stream,
    ):
        await stream.content.readany()
        for pid in running.children():
            os.kill(pid, signal.SIGTERM)
        await eventually(lambda: running.log.count("SIGTERM: stopping") == 2)
        running.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" in await stream.content.read()
    assert await running.ended() == 0


async def test_a_second_signal_ends_them_at_once(world: Any, crew: Start) -> None:
    """Whoever cannot wait for the drain need not."""
    await chat(world, token_delay_ms=1000.0, tokens=1000)
    running, address = await crew()
    children = running.children()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/chat/completions", json=BODY | {"stream": True}) as stream,
    ):
        await stream.content.readany()
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "SIGTERM: stopping" in running.log)
        running.process.send_signal(signal.SIGINT)
        await running.ended()
    assert [pid for pid in children if alive(pid)] == []


async def test_nobody_outlives_the_parent(world: Any, crew: Start) -> None:
    """A parent that is killed leaves no child behind."""
    await chat(world)
    running, _ = await crew()
    children = running.children()
    assert len(children) == 2
    running.process.kill()
    await eventually(lambda: not any(alive(pid) for pid in children), 15.0)


async def test_an_orphan_waits_for_no_other(world: Any, crew: Start) -> None:
    """The last one's drain, after the parent was killed, keeps no other from ending; what it drains is whole."""
    await chat(world, token_delay_ms=100.0, tokens=30)
    running, address = await crew()
    first, last = running.children()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while True:
            stream = await session.post(f"http://{address}/v1/chat/completions", json=BODY | {"stream": True})
            status = await running.status("p.2")
            if status["in_flight"]:
                break
            stream.close()
        running.process.kill()
        await eventually(lambda: not alive(first))
        assert alive(last)
        assert "[DONE]" in await stream.text()
    await eventually(lambda: not alive(last))


async def test_sighup_reaches_both(
    world: Any, crew: Start, keys: Any, state_dir: Path, tmp_path: Path
) -> None:
    """A key that is gone from the file is refused by every worker, and by one that starts after a bad edit."""
    await chat(world)
    running, address = await crew(keys={"ann": hashed("pm-a"), "bob": hashed("pm-b")})
    path = configured(tmp_path, world, keys, state_dir, listen=address, keys={"bob": hashed("pm-b")})
    running.process.send_signal(signal.SIGHUP)
    await eventually(lambda: running.log.count("reloaded: proxy.keys.ann: removed") == 2)
    assert await statuses(address, "pm-a") == {401}
    assert await statuses(address, "pm-b") == {200}

    path.write_text("nonsense: [")
    running.process.send_signal(signal.SIGHUP)
    await eventually(lambda: running.log.count("the old configuration stays") == 2)
    before = await running.both_ready()
    os.kill(running.children()[0], signal.SIGKILL)

    async def back() -> bool:
        now = await running.boots()
        return len(now) == 2 and now != before

    await eventually(back, 20.0)
    assert await statuses(address, "pm-a") == {401}
    assert await statuses(address, "pm-b") == {200}


async def statuses(address: str, key: str) -> set[int]:
    """What requests with a key get, on connections enough to meet both workers."""
    found = set()
    for _ in range(20):
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://{address}/v1/chat/completions", json=BODY, headers={"x-api-key": key}
            ) as response,
        ):
            found.add(response.status)
    return found


async def test_workers_share_a_unix_socket(world: Any, crew: Start, state_dir: Path) -> None:
    """It is the parent's: a worker that dies takes nothing with it, and the end takes the socket away."""
    await chat(world)
    path = state_dir / "callers.sock"
    running, _ = await crew(listen=f"unix:{path}")

    async def ask_there() -> int:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.post("http://proxy/v1/chat/completions", json=BODY) as response,
        ):
            return response.status

    assert await ask_there() == 200
    os.kill(running.children()[0], signal.SIGKILL)
    for _ in range(10):
        assert await ask_there() == 200
    running.process.send_signal(signal.SIGTERM)
    assert await running.ended() == 0
    assert not await anyio.Path(path).exists()


async def test_an_address_that_is_taken_is_told_of(world: Any, crew: Start) -> None:
    """Nobody is joined by accident: not another crew, nor any other server."""
    await chat(world)
    _, address = await crew()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for where in (address, f"127.0.0.1:{taken.getsockname()[1]}"):
            other, _ = await crew(ready=False, listen=where)
            assert await other.ended() == 1
            assert "proxy.listen: nobody can listen on 127.0.0.1" in other.log
    assert await ask(address) == 200


async def test_the_service_manager_hears_of_the_whole(world: Any, crew: Start, state_dir: Path) -> None:
    """Ready once both are, ready again after a reload, alive meanwhile, stopping at the end: all from the parent."""
    await chat(world)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(state_dir / "notify"))
        manager.setblocking(False)
        said: list[str] = []

        def heard(what: str, times: int = 1) -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(manager.recv(4096).decode())
            return sum(what in one for one in said) >= times

        env = {"NOTIFY_SOCKET": str(state_dir / "notify"), "WATCHDOG_USEC": "2000000"}
        running, _ = await crew(env=env)
        await eventually(lambda: heard("READY=1\nSTATUS=2 workers"))
        await eventually(lambda: heard("WATCHDOG=1", 3))
        running.process.send_signal(signal.SIGHUP)
        await eventually(lambda: heard("RELOADING=1"))
        assert next(one for one in said if "READY=1" in one or "RELOADING=1" in one).startswith("READY=1")
        await eventually(lambda: heard("READY=1", 2))
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert heard("STOPPING=1")
        assert sum(one.startswith("READY=1") for one in said) == 2


async def test_a_worker_that_hangs_is_replaced(world: Any, crew: Start) -> None:
    """Silent for as long as the watchdog would wait, it is ended, and the other one serves meanwhile."""
    await chat(world)
    running, address = await crew(env={"WATCHDOG_USEC": "1000000"})
    victim = running.children()[0]
    os.kill(victim, signal.SIGSTOP)
    await eventually(lambda: "gives no sign of life and is ended" in running.log, 10.0)
    await eventually(lambda: "has ended (SIGKILL)" in running.log)
    await running.both_ready()
    assert [await ask(address) for _ in range(5)] == [200] * 5


async def test_what_cannot_start_ends_the_whole(world: Any, crew: Start) -> None:
    """Workers that fail before they were ever ready are no case for patience: the exit code is theirs."""
    await chat(world)
    running, _ = await crew(ready=False, env={"POINTSMAN_STORE__PASSWORD": "env:NOWHERE_TO_BE_FOUND"})
    assert await running.ended() == 2
    assert "NOWHERE_TO_BE_FOUND: the variable is not set" in running.log
