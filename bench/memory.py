"""Resident memory (VmRSS) of the real processes, started as an operator starts them.

  daemon             `pointsman control` with 1,000 targets at 100 providers, 20 s after its first table (--quick: 100
                     targets, 2 s), that is after its first round of probes and a few ticks
  proxy, idle        `pointsman proxy` with a table of three targets, before its first request
  proxy, requests    after 2,000 whole answers over 20 connections
  proxy, streams     with 200 streams that have begun and are silent; divided by 200 it is the cost of one

Caveats: loopback without TLS, which costs a connection some 50 KiB more on each side; memory that Python has freed
but keeps counts too. The store is a Valkey of its own and not in these figures.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

from bench import machine, world
from bench.sheet import Sheet, Value
from pointsman.core.table import Version
from pointsman.store.client import Store

STREAMS = 200
CONNECTIONS = 20


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for as long as the block lasts, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="pm-") as made:
        yield Path(made)


@contextlib.contextmanager
def pointsman(
    role: str, config: dict[str, Any], ready: Callable[[], bool], *, core: int = machine.MEASURED
) -> Iterator[int]:
    """`pointsman <role>` with a configuration of its own state folder: its process id, once it is ready."""
    with folder() as own:
        path = own / "pointsman.yaml"
        path.write_text(json.dumps({"state_dir": str(own), "telemetry": {"log_level": "warning"}} | config))
        command = [sys.executable, "-m", "pointsman", role, "--config", str(path)]
        command += ["--name", "bench"] * (role == "proxy")
        log = own / "log"
        try:
            with machine.running(
                command, core=core, ready=ready, log=log, env={"BENCH_KEY": "bench-key"}
            ) as process:
                yield process.pid
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {log.read_text()[-500:]}") from None


@contextlib.contextmanager
def proxying(url: str, config: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """A proxy with a published table of `config`: its process id and its port."""
    port = machine.free_port()
    config = config | {"store": config["store"] | {"url": url}, "proxy": {"listen": f"127.0.0.1:{port}"}}

    async def publish() -> None:
        async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
            await world.publish_first(store, world.settings_of(config))

    anyio.run(publish)
    with pointsman("proxy", config, lambda: is_ready(port)) as pid:
        yield pid, port


def is_ready(port: int) -> bool:
    """Does a proxy route?"""
    with contextlib.suppress(OSError), machine.connected(port) as client:
        client.sendall(b"GET /-/ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b" 200 " in client.recv(64)
    return False


def chat(model: str, *, stream: bool, hold: bool = False) -> bytes:
    """A request for a chat completion, as bytes."""
    body = json.dumps(
        {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi " * 20}]}
    )
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    head += "x-bench-hold: 1\r\n" * hold
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def ask(port: int, times: int) -> None:
    """So many streams to their end, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(chat("r0", stream=True))
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()


async def hold(port: int, count: int, then: Callable[[], None]) -> None:
    """Open so many streams, wait for the first token of each, and call `then` while all are open."""
    open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in open_:
        writer.write(chat("r0", stream=True, hold=True))
    for reader, _ in open_:
        await reader.readuntil(b"data: ")
    await asyncio.sleep(1.0)
    then()
    for _, writer in open_:
        writer.close()


async def _asked(port: int, requests: int) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(CONNECTIONS):
            tasks.start_soon(ask, port, requests // CONNECTIONS)


def daemon(sheet: Sheet, upstream: int, *, quick: bool) -> None:
    """Add the daemon's row."""
    targets = 100 if quick else 1000
    config = world.sized(targets, targets // 5, base_url=f"http://127.0.0.1:{upstream}/v1")
    listen = f"127.0.0.1:{machine.free_port()}"
    with machine.valkey() as (url, _):
        version: list[Version] = []

        async def look() -> None:
            async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
                if peek := await store.peek():
                    version.append(peek.version)

        def published() -> bool:
            anyio.run(look)
            return bool(version)

        config |= {"store": config["store"] | {"url": url}, "control": {"listen": listen}}
        with pointsman("control", config, published) as pid:
            time.sleep(2 if quick else 20)
            sheet.rows.append({"process": f"daemon, {targets:,} targets", "RSS (MiB)": machine.rss_mib(pid)})


def proxy(sheet: Sheet, upstream: int, *, quick: bool) -> None:
    """Add the proxy's rows."""
    requests = 200 if quick else 2000
    config = world.sized(3, 1, base_url=f"http://127.0.0.1:{upstream}/v1")
    with machine.valkey() as (url, _), proxying(url, config) as (pid, port):
        idle = machine.rss_mib(pid)
        sheet.rows.append({"process": "proxy, idle", "RSS (MiB)": idle})
        anyio.run(_asked, port, requests)
        after = machine.rss_mib(pid)
        sheet.rows.append({"process": f"proxy, after {requests:,} requests", "RSS (MiB)": after})

        def look() -> None:
            held = machine.rss_mib(pid)
            row: dict[str, Value] = {"process": f"proxy, {STREAMS} idle streams", "RSS (MiB)": held}
            sheet.rows.append(row | {"a stream (KiB)": 1024 * (held - after) / STREAMS})

        anyio.run(hold, port, STREAMS, look)


def run(*, quick: bool) -> list[Sheet]:
    """One sheet."""
    machine.move_to(machine.OTHER)
    sheet = Sheet("memory: resident set")
    port = machine.free_port()
    server = [sys.executable, "-m", "bench.upstream", str(port)]
    with machine.running(server, core=machine.OTHER, ready=lambda: machine.listens(port)):
        daemon(sheet, port, quick=quick)
        proxy(sheet, port, quick=quick)
    return [sheet]
