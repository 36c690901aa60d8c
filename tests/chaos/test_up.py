"""`pointsman up` without a store: it brings its own, which dies with it and keeps everything; and it is traced."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import pytest
import yaml
from callers import Callers
from ears import Heard, otlp_receiver
from installation import Process
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import end_processes_of, processes_of
from storm import Measured, cli, local_status, proxies_went_back

from pointsman.fake import FakeProvider
from pointsman.store.client import Store
from pointsman.store.embedded import socket_url
from pointsman.store.errors import StoreError
from pointsman.store.keys import Keys
from support import eventually, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


class Up(Struct):
    """A `pointsman up` with one provider of two targets, its store, and its configuration."""

    process: Process
    store: Store
    state_dir: Path
    config: Path
    env: dict[str, str]
    traces: Heard
    url: str

    async def ready(self) -> None:
        async def leads() -> bool:
            try:
                leader, table = await self.store.leader(), await self.store.table()
                return (
                    leader is not None
                    and table is not None
                    and (await self._serving()) == str(table.table_version)
                )
            except (StoreError, OSError):
                return False

        await eventually(leads, 30.0)

    async def _serving(self) -> str | None:
        return (await local_status(self.state_dir / "proxy-one.sock"))["table"]


@pytest.fixture
async def up(folder: Path) -> AsyncIterator[Up]:
    state_dir, config = folder / "state", folder / "pointsman.yaml"
    async with (
        FakeProvider("fake", "openai", api_keys=("a-key",)).running() as fake,
        otlp_receiver() as traces,
    ):
        targets = {name: {"provider": "fake", "model": name} for name in ("large", "small")}
        document = {
            "environment": "development",
            "state_dir": str(state_dir),
            "providers": {
                "fake": {"family": "openai", "base_url": fake.base_url, "credentials": ["env:UP_KEY"]}
            },
            "targets": targets,
            "routes": {"chat": {"weights": {"large": 60, "small": 40}}},
            "control": {"listen": "127.0.0.1:0", "lease_ttl_s": 3.0},
            "proxy": {"listen": (listen := f"127.0.0.1:{free_port()}"), "name": "one"},
            "telemetry": {"otlp_endpoint": traces.url},
        }
        config.write_text(yaml.safe_dump(document, sort_keys=False))
        env = {"UP_KEY": "a-key", "OTEL_BSP_SCHEDULE_DELAY": "200"}
        process = Process("up", ["up", "--config", str(config)], env, folder / "up.log")
        process.start()
        url = socket_url(state_dir)
        async with Store.connect(url, Keys("pointsman", "development", "default"), timeout_s=1.0) as store:
            made = Up(process, store, state_dir, config, env, traces, f"http://{listen}")
            try:
                await made.ready()
                yield made
            finally:
                process.end()
                end_processes_of(folder)


async def test_a_killed_up_leaves_no_store_behind_and_loses_nothing(
    up: Up, folder: Path, measured: Measured
) -> None:
    """kill -9 of `up`: its Valkey ends with it; a restart has the weights that were set, and goes on counting."""
    said = await cli(
        "weights", "set", "chat", "large=10,small=90", "--reason", "a trial", config=up.config, env=up.env
    )
    before = await up.store.table()
    children = {pid: command for pid, command in processes_of(folder).items() if "valkey" in command}
    began = time.monotonic()
    up.process.kill()
    await eventually(lambda: not processes_of(folder), 10.0)
    measured("gone_s", time.monotonic() - began)
    up.process.start()
    began = time.monotonic()
    await up.ready()
    measured("back_s", time.monotonic() - began)
    after, state = await up.store.table(), await up.store.load_state()

    assert said.code == 0, said
    assert len(children) == 1
    assert before is not None
    assert after is not None
    assert state is not None
    assert after.table_version >= before.table_version
    assert state.baselines["chat"].shares_bp == {"large": 1_000, "small": 9_000}
    assert state.baselines["chat"].reason == "a trial"


async def test_a_killed_store_of_up_is_brought_up_again(up: Up, folder: Path, measured: Measured) -> None:
    """kill -9 of the embedded store: `up` starts another, with everything in it, and leads on; no request fails."""
    before, table = await up.store.leader(), await up.store.table()
    (child,) = [pid for pid, command in processes_of(folder).items() if "valkey" in command]

    async def another() -> bool:
        try:
            leader = await up.store.leader()
        except StoreError:
            return False
        return leader is not None and child not in processes_of(folder)

    async with Callers.of([up.url]) as callers, anyio.create_task_group() as traffic:
        traffic.start_soon(lambda: callers.send_many(120, per_s=40))
        await callers.more(20)
        os.kill(child, signal.SIGKILL)
        began = time.monotonic()
        await eventually(another, 10.0)
        measured("back_s", time.monotonic() - began)
    after, leader = await up.store.table(), await up.store.leader()

    assert before is not None
    assert leader is not None
    assert after is not None
    assert table is not None
    assert up.process.running
    assert (callers.tally.ok, callers.tally.failed) == (120, [])
    assert proxies_went_back(callers) == []
    assert leader.owner == before.owner
    assert after.table_version >= table.table_version


async def test_everything_that_happens_is_traced(up: Up) -> None:
    """Probe rounds, decisions, publications and a request reach an OTLP receiver, the request in its caller's trace."""
    proxy = yaml.safe_load(up.config.read_text())["proxy"]["listen"]
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with (
        aiohttp.ClientSession(headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}) as session,
        session.post(f"http://{proxy}/v1/chat/completions", json={"model": "chat", "messages": []}) as answer,
    ):
        assert answer.status == 200

    everything = {
        "probe.round", "probe", "control.decide", "control.publish", "proxy.request", "proxy.attempt",
    }  # fmt: skip
    await eventually(lambda: {span.name for span in spans_of(up.traces)} == everything, 20.0)
    in_trace = {span.name for span in spans_of(up.traces) if span.trace_id.hex() == trace}
    assert in_trace == {"proxy.request", "proxy.attempt"}


def spans_of(heard: Heard) -> list[Span]:
    """All that came. Messages that are written one after the other read as one."""
    sent = ExportTraceServiceRequest.FromString(heard.bodies)
    return [
        span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]
