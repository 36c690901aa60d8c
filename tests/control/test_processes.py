"""Real daemons: signals, takeover, reload, the service manager, and what is left behind."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from control_daemons import shares_in, table_in
from control_processes import Command, document_of, read, write

from pointsman.core.evidence import Verb
from pointsman.fake import FakeProvider
from pointsman.store.client import Store
from pointsman.store.embedded import socket_url
from pointsman.store.keys import Keys
from support import eventually

pytestmark = pytest.mark.anyio


async def leader_owner(store: Store) -> str:
    leader = await store.leader()
    return leader.owner if leader else ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_the_daemon_well(
    store: Store, commands: Callable[..., Command], config: Path, number: signal.Signals
) -> None:
    """Exit code 0, and the lease is free at once."""
    daemon = commands("control", "--config", config)
    await eventually(lambda: leader_owner(store), timeout_s=10.0)

    assert daemon.end(number) == 0
    assert await store.leader() is None
    assert "Traceback" not in daemon.log


async def test_a_frozen_leader_is_replaced_and_cannot_publish(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """SIGSTOP of the leader: the other leads within the ttl; SIGCONT: the first one finds itself standing by."""
    first = commands("control", "--config", config)
    owner = await eventually(lambda: leader_owner(store), timeout_s=10.0)
    second = commands("control", "--config", config)
    await eventually(lambda: "standing by" in second.log, timeout_s=10.0)
    first.send(signal.SIGSTOP)
    began = time.monotonic()

    async def replaced() -> bool:
        return await leader_owner(store) not in {"", owner}

    await eventually(replaced, timeout_s=5.0)
    assert time.monotonic() - began < 2.0 + 1.0, "the ttl is 2 s"
    word = await store.say(
        Verb.SET_WEIGHTS, "ann@host", "test", {"route": "chat", "shares_bp": {"meta": 10_000}}
    )
    assert (await store.answer(word, 5.0)).ok
    version = (await eventually(lambda: table_in(store))).version
    first.send(signal.SIGCONT)
    await eventually(lambda: "no longer leading" in first.log or "refused" in first.log, timeout_s=5.0)

    assert await leader_owner(store) != owner
    assert (await table_in(store)).version >= version
    assert first.end() == 0
    assert second.end() == 0


async def test_a_killed_leader_is_replaced(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """kill -9 of the leader: the standby leads when the lease has run out, with a higher epoch."""
    first = commands("control", "--config", config)
    await eventually(lambda: leader_owner(store), timeout_s=10.0)
    second = commands("control", "--config", config)
    await eventually(lambda: "standing by" in second.log, timeout_s=10.0)
    before = await store.leader()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    async def replaced() -> bool:
        leader = await store.leader()
        return leader is not None and leader.owner != before.owner and leader.epoch > before.epoch

    await eventually(replaced, timeout_s=3.0)


async def test_reload_makes_the_file_active(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """SIGHUP: the leader applies what changed, and says it."""
    daemon = commands("control", "--config", config)
    await eventually(lambda: shares_in(store), timeout_s=10.0)
    document = read(config)
    document["routes"]["chat"]["weights"] = {"bedrock": 10, "google": 10, "meta": 80}
    write(config, document)
    daemon.send(signal.SIGHUP)

    async def applied() -> bool:
        state = await store.load_state()
        return state.baselines["chat"].shares_bp["meta"] == 8000

    assert await eventually(applied)
    await eventually(lambda: "reloaded: configuration revision 2 is active" in daemon.log)
    assert "is not the active configuration" not in daemon.log


async def test_a_bad_file_changes_nothing(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """SIGHUP with two typos: a clear line for each, and the daemon leads on with the old one."""
    daemon = commands("control", "--config", config)
    await eventually(lambda: shares_in(store), timeout_s=10.0)
    document = read(config)
    document["policy"] = {"probe_failurs": 7, "live_failurs": 7}
    write(config, document)
    daemon.send(signal.SIGHUP)
    await eventually(lambda: daemon.log.count("the old configuration stays") == 2)
    state = await store.load_state()

    told = [line for line in daemon.log.splitlines() if "the old configuration stays" in line]
    assert [line.endswith("_failures?") for line in told] == [True, True]
    assert state.plan.revision == 1
    assert daemon.process.poll() is None


async def test_a_reload_that_would_break_an_overlay_is_refused(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """SIGHUP with a file that removes a pinned target: the log says which pin to end first."""
    daemon = commands("control", "--config", config)
    await eventually(lambda: shares_in(store), timeout_s=10.0)
    pin = {"route": "chat", "shares_bp": {"bedrock": 10_000}, "for_s": 600.0, "force": False}
    word = await store.say(Verb.PIN, "ann@host", "test", pin)
    assert (await store.answer(word, 5.0)).ok
    document = read(config)
    del document["targets"]["bedrock"], document["providers"]["bedrock"]
    document["routes"]["chat"]["weights"] = {"google": 50, "meta": 50}
    write(config, document)
    daemon.send(signal.SIGHUP)
    await eventually(lambda: "the active configuration stays" in daemon.log)

    assert "pointsman unpin chat" in daemon.log
    assert (await store.load_state()).plan.revision == 1


async def test_a_refused_reload_takes_nothing_away(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """Chat is pinned to bedrock, the file has it no more: daemon and proxy keep it, and let go of it after the pin."""
    async with FakeProvider(api_keys=("sk-bedrock",)) as bedrock:
        document = read(config)
        document["providers"]["bedrock"] |= {
            "base_url": bedrock.base_url,
            "credentials": ["env:BEDROCK_KEY"],
            "probe": {"reach_interval_s": 0.3, "reach_timeout_s": 0.2, "generate": False},
        }
        write(config, document)
        env = {"BEDROCK_KEY": "sk-bedrock"}
        daemon = commands("control", "--config", config, env=env)
        proxy = commands("proxy", "--config", config, "--name", "p1", env=env)
        await eventually(lambda: "serving a table" in proxy.log, timeout_s=15.0)
        await said(store, Verb.PIN, {"route": "chat", "shares_bp": {"bedrock": 10_000}, "for_s": 600.0})
        await eventually(lambda: shares_are(store, {"bedrock": 10_000}))
        del document["targets"]["bedrock"], document["providers"]["bedrock"]
        document["routes"]["chat"]["weights"] = {"google": 50, "meta": 50}
        write(config, document)
        for process in (daemon, proxy):
            process.send(signal.SIGHUP)
        await eventually(lambda: "the active configuration stays" in daemon.log)
        probed, version = bedrock.requests.total, (await table_in(store)).version
        await eventually(lambda: bedrock.requests.total > probed + 3)
        await eventually(lambda: "the table still has what the file has no more" in proxy.log)
        [report] = await store.reports()
        async with aiohttp.ClientSession() as session:
            body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
            async with session.post(f"http://{report.address}/v1/chat/completions", json=body) as response:
                assert (response.status, response.headers["x-pointsman-target"]) == (200, "bedrock")
        assert [report.missing for report in await store.reports()] == [{}]
        assert "cannot probe" not in daemon.log

        await said(store, Verb.UNPIN, {"route": "chat"})
        daemon.send(signal.SIGHUP)

        async def applied() -> bool:
            table = await table_in(store)
            return table.version > version and "bedrock" not in table.targets

        await eventually(applied)
        await anyio.sleep(0.5)  # a probe that was under way
        probed = bedrock.requests.total
        await anyio.sleep(1.0)
        assert bedrock.requests.total == probed


async def said(store: Store, verb: Verb, args: dict[str, Any]) -> None:
    answer = await store.answer(await store.say(verb, "ann@host", "test", {"force": False, **args}), 5.0)
    assert answer is not None
    assert answer.ok, answer.text


async def shares_are(store: Store, shares: dict[str, int]) -> bool:
    return await shares_in(store) == shares


async def test_only_the_leader_reacts_to_a_reload(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """Reloading the whole fleet makes one new configuration revision, not one per daemon."""
    first = commands("control", "--config", config)
    await eventually(lambda: shares_in(store), timeout_s=10.0)
    second = commands("control", "--config", config)
    await eventually(lambda: "standing by" in second.log, timeout_s=10.0)
    document = read(config)
    document["policy"] = {"probe_failures": 2}
    write(config, document)
    for daemon in (first, second):
        daemon.send(signal.SIGHUP)
    await eventually(lambda: "this daemon stands by" in second.log)

    async def applied() -> bool:
        return (await store.load_state()).plan.policy.probe_failures == 2

    await eventually(applied)
    assert (await store.load_state()).plan.revision == 2


async def test_the_service_manager_is_told(
    store: Store, commands: Callable[..., Command], config: Path, tmp_path: Path
) -> None:
    """READY when it works, WATCHDOG with every tick, RELOADING with its moment, STOPPING at the end."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        daemon = commands("control", "--config", config, env={"NOTIFY_SOCKET": str(path)})
        heard: list[str] = []

        def hear(*wanted: str) -> bool:
            while True:
                try:
                    heard.append(manager.recv(4096).decode())
                except BlockingIOError:
                    return all(any(word in message for message in heard) for word in wanted)

        await eventually(lambda: hear("READY=1", "WATCHDOG=1", "STATUS=leading"), timeout_s=10.0)
        heard.clear()
        daemon.send(signal.SIGHUP)
        await eventually(lambda: hear("RELOADING=1\nMONOTONIC_USEC=", "READY=1"))
        daemon.send(signal.SIGTERM)
        await eventually(lambda: hear("STOPPING=1"))


async def test_the_health_endpoint_says_who_leads(
    store: Store, commands: Callable[..., Command], config: Path
) -> None:
    """GET /-/ready: 200 with role and epoch while the store answers."""
    daemon = commands("control", "--config", config)
    await eventually(lambda: shares_in(store), timeout_s=10.0)
    address = daemon.log.partition("control listens on ")[2].split()[0]
    async with aiohttp.ClientSession() as session:

        async def ready() -> Any:
            async with session.get(f"http://{address}/-/ready") as response:
                body = await response.json()
                return body if response.status == 200 else None

        body = await eventually(ready)

    assert body["role"] == "leader"
    assert body["epoch"] == (await store.leader()).epoch
    assert body["last_tick_age_s"] < 5


async def test_a_port_that_is_taken_is_said_in_one_line(
    commands: Callable[..., Command], store_url: str, keys: Keys, tmp_path: Path
) -> None:
    """What keeps the daemon from starting is one sentence and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        control = {"listen": listen, "tick_interval_s": 0.2, "lease_ttl_s": 2.0}
        config = write(tmp_path / "c.yaml", document_of(store_url, keys, tmp_path / "s", control=control))
        daemon = commands("control", "--config", config)
        await eventually(lambda: daemon.process.poll() is not None, timeout_s=10.0)

    assert daemon.process.returncode == 1
    assert "Traceback" not in daemon.log
    assert "address already in use" in daemon.log


def test_ctrl_c_leaves_no_child(commands: Callable[..., Command], keys: Keys, tmp_path: Path) -> None:
    """`up` with its own store: after SIGINT to the whole foreground group nothing of it runs any more."""
    state_dir = tmp_path / "s"
    config = write(tmp_path / "c.yaml", document_of(None, keys, state_dir))
    up = commands("up", "--config", config, "--name", "p1")

    async def scenario() -> None:
        async with Store.connect(socket_url(state_dir), keys) as store:

            async def works() -> bool:
                try:
                    return bool(await shares_in(store)) and len(await store.reports()) == 1
                except Exception:  # noqa: BLE001  the store is only just being started
                    return False

            await eventually(works, timeout_s=15.0)
        children = children_of(up.pid)
        assert children, "the embedded store is a child"
        os.killpg(up.pid, signal.SIGINT)
        await eventually(lambda: up.process.poll() is not None, timeout_s=10.0)
        await eventually(lambda: not any(alive(child) for child in children))

    anyio.run(scenario)
    assert up.process.returncode == 0, up.log
    assert "Traceback" not in up.log


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
