"""A staged rollout over two environments: two daemons and two proxies on one store, with times in seconds."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import anyio
import pytest
import yaml
from callers import Callers
from installation import Process

from pointsman.core.rollout_model import Rollout, RolloutReport
from pointsman.core.table import decode
from pointsman.fake import FakeProvider
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from support import ValkeyServer, eventually, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

ENVIRONMENTS = ("staging", "production")
WHY = ("--reason", "the new gateway")
WAIT_S = 40.0
STAGE = {
    "soak_s": 4,
    "again_soak_s": 6,
    "min_requests": 10,
    "go": {"error_ratio": 0.05, "latency_factor": None},
}


class Environments:
    """Staging and production of one configuration file; each has its daemon, its proxy and its keys."""

    def __init__(self, folder: Path, valkey: ValkeyServer) -> None:
        self.folder = folder
        self.config = folder / "pointsman.yaml"
        self.valkey = valkey
        self.daemons: dict[str, Process] = {}
        self.urls: dict[str, str] = {}
        self.stores: dict[str, Store] = {}
        self.fakes: dict[str, FakeProvider] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[Self]:
        here = cls(folder, ValkeyServer(folder))
        async with AsyncExitStack() as stack:
            for name in ("direct", "gateway"):
                fake = FakeProvider(name, "openai", tokens=4, token_delay_ms=1)
                here.fakes[name] = await stack.enter_async_context(fake.running())
            here.config.write_text(yaml.safe_dump(here.document()))
            here.valkey.start()
            stack.callback(here.valkey.kill)
            for environment in ENVIRONMENTS:
                port = free_port()
                here.urls[environment] = f"http://127.0.0.1:{port}"
                listen = {
                    "POINTSMAN_PROXY__LISTEN": f"127.0.0.1:{port}",
                    "POINTSMAN_PROXY__NAME": environment,
                }
                for role in ("control", "proxy"):
                    env = {**here.env(environment), **listen}
                    arguments = [role, "--config", str(here.config)]
                    process = Process(role, arguments, env, folder / f"{role}-{environment}.log")
                    process.start()
                    stack.callback(process.end)
                    if role == "control":
                        here.daemons[environment] = process
                keys = Keys(prefix="two", environment=environment, fleet="default")
                store = Store.connect(here.valkey.url, keys, timeout_s=5.0)
                here.stores[environment] = await stack.enter_async_context(store)
            try:
                await eventually(here.ready, WAIT_S)
            except TimeoutError as error:
                logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
                raise TimeoutError(logs) from error
            yield here

    def document(self) -> dict[str, Any]:
        names = list(self.fakes)
        canary = {
            "steps": [50, 100], "first_hold_s": 1, "hold_s": 1, "samples": [5], "bake_s": 1, "unwatched_s": 30,
        }  # fmt: skip
        prices = {
            "direct": {"output_usd_per_mtok": 400_000.0},
            "gateway": {"output_usd_per_mtok": 100_000.0},
        }
        stages = [
            {"environment": "staging", "approval": True, **STAGE},
            {"environment": "production", **STAGE},
        ]
        return {
            "store": {"url": self.valkey.url, "key_prefix": "two"},
            "control": {"listen": "127.0.0.1:0", "tick_interval_s": 0.2, "lease_ttl_s": 2.0},
            "providers": {
                n: {"family": "openai", "base_url": self.fakes[n].base_url, "probe": {"generate": False}}
                for n in names
            },
            "targets": {n: {"provider": n, "model": "m", "prices": prices[n]} for n in names},
            "routes": {"chat": {"weights": {"direct": 100}}},
            "ramp": {"canary": canary},
            "rollouts": {"gateway": {"route": "chat", "from": "direct", "to": "gateway", "stages": stages}},
        }

    def env(self, environment: str) -> dict[str, str]:
        state = str(self.folder / f"state-{environment}")
        return {"POINTSMAN_ENVIRONMENT": environment, "POINTSMAN_STATE_DIR": state}

    async def ready(self) -> bool:
        async with aiohttp.ClientSession() as session:
            for url in self.urls.values():
                try:
                    async with session.get(f"{url}/-/ready") as response:
                        if response.status != 200:
                            return False
                except aiohttp.ClientError:
                    return False
        return True

    async def say(self, environment: str, *words: str, code: int = 0) -> str:
        """`pointsman rollout …` as an operator of that environment; what it answered."""
        command = [sys.executable, "-m", "pointsman", "rollout", *words, "--config", str(self.config)]
        env = {**os.environ, **self.env(environment)}
        answer = await anyio.run_process(command, env=env, check=False)
        said = answer.stdout.decode() + answer.stderr.decode()
        assert answer.returncode == code, said
        return said

    async def rollout(self, environment: str) -> Rollout | None:
        state = await self.stores[environment].load_state()
        return state.rollouts.get("gateway") if state else None

    async def phase(self, environment: str) -> str:
        one = await self.rollout(environment)
        return one.phase.value if one else ""

    async def comes_to(self, environment: str, phase: str) -> Rollout:
        async def there() -> bool:
            return await self.phase(environment) == phase

        try:
            await eventually(there, WAIT_S)
        except TimeoutError as error:
            raise TimeoutError(f"{await self.rollout(environment)} is not {phase}") from error
        one = await self.rollout(environment)
        assert one is not None
        return one

    async def shares(self, environment: str) -> dict[str, int]:
        published = await self.stores[environment].table()
        assert published is not None
        return dict(decode(published.body).routes["chat"].shares_bp)

    async def reports(self, environment: str) -> tuple[RolloutReport, ...]:
        state = await self.stores[environment].load_state()
        return state.reports.get("gateway", ()) if state else ()


async def test_a_rollout_goes_from_environment_to_environment(folder: Path) -> None:
    """Production waits for staging's go, which a person approves; a rollback asks for a root cause and for all anew."""
    async with (
        Environments.running(folder) as here,
        Callers.of(list(here.urls.values())) as callers,
        anyio.create_task_group() as traffic,
    ):
        traffic.start_soon(lambda: callers.send_many(100_000, per_s=20))
        await here.say("production", "start", "gateway", *WHY)
        assert await here.phase("production") == "waiting"
        assert "staging has not begun" in await here.say("production", "status")
        await here.say("staging", "start", "gateway", *WHY)
        staging = await here.comes_to("staging", "approving")
        assert staging.watched_s >= 4.0
        assert await here.phase("production") == "waiting"
        await here.say("staging", "approve", "gateway", *WHY)
        await here.comes_to("staging", "go")

        # By itself, from here on; the daemon may die meanwhile.
        await here.comes_to("production", "soaking")
        here.daemons["production"].kill()
        here.daemons["production"].start()
        production = await here.comes_to("production", "go")
        assert production.cleared == "staging is go (attempt 1)"
        assert await here.shares("production") == {"gateway": 10_000}
        (report,) = await here.reports("production")
        assert report.requests >= 10
        assert report.savings_usd is not None
        assert report.savings_usd > 0
        written = await here.say("production", "report", "gateway")
        assert "# Rollout gateway, production: the stage is go" in written
        assert "- Cache hit rate: no evidence" in written

        # A day later it turns out to be bad.
        await here.say("production", "stop", "gateway", *WHY)
        await here.comes_to("production", "rolled_back")
        await eventually(lambda: _is(here, "production", {"direct": 10_000}))
        assert "root cause" in await here.say("production", "start", "gateway", *WHY, code=1)
        cause = ("--root-cause", "its pool of connections ran dry; it has a larger one")
        await here.say("production", "again", "gateway", *cause, *WHY)

        async def told() -> bool:
            one = await here.rollout("production")
            return one is not None and "it must be go again" in one.hold

        await eventually(told, WAIT_S)
        await here.say("staging", "again", "gateway", *cause, *WHY)
        again = await here.comes_to("staging", "approving")
        assert (again.attempt, again.soak_s) == (2, 6.0)
        await here.say("staging", "approve", "gateway", *WHY)
        production = await here.comes_to("production", "go")
        assert (production.attempt, production.soak_s) == (2, 6.0)
        picture = json.loads(await here.say("production", "status", "--output", "json"))
        assert picture[0]["cleared"] == "staging is go (attempt 2)"
        traffic.cancel_scope.cancel()

    assert (callers.tally.failed, callers.tally.broken, callers.tally.silent) == ([], 0, 0)


async def _is(here: Environments, environment: str, shares: dict[str, int]) -> bool:
    return await here.shares(environment) == shares
