"""What clients get through a proxy beside what they get without it, seen on the wire.

Two fakes of one name stand still in time, so that the same requests in the same order get the same bytes of either;
one is asked directly, the other through a proxy whose route has the name of the model.
"""

import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from differences import compared
from tap import Exchange, Tap

from pointsman.fake import FakeProvider

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("proxy_conftest", HERE.parent / "proxy" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_proxies = importlib.util.module_from_spec(_spec)
sys.modules["proxy_conftest"] = _proxies
_spec.loader.exec_module(_proxies)
state_dir, world, running_proxy = _proxies.state_dir, _proxies.world, _proxies.running_proxy

FAMILIES = {"o": "openai", "a": "anthropic"}
MODELS = {"o": "gpt-twin", "a": "claude-twin"}
CALLERS_KEY = "sk-of-the-caller"


class Side:
    """One way to the providers: the addresses to give to a client, and what was said there."""

    def __init__(self, openai: Tap, anthropic: Tap, providers: dict[str, FakeProvider]) -> None:
        self.taps = {"o": openai, "a": anthropic}
        self.providers = providers

    @property
    def env(self) -> dict[str, str]:
        """What a driver is told."""
        return {
            "OPENAI_URL": self.taps["o"].url,
            "ANTHROPIC_URL": self.taps["a"].url,
            "CALLERS_KEY": CALLERS_KEY,
            "OPENAI_MODEL": MODELS["o"],
            "ANTHROPIC_MODEL": MODELS["a"],
        }

    def exchanges(self, name: str) -> list[Exchange]:
        """What was said to the provider "o" or "a", in order."""
        return self.taps[name].exchanges()


class Both:
    """The two ways."""

    def __init__(self, direct: Side, proxied: Side) -> None:
        self.direct = direct
        self.proxied = proxied

    async def drive(self, *command: str, env: dict[str, str] | None = None) -> list[Any]:
        """Run a driver on either way; what it printed, which has to be the same, as JSON per line."""
        printed = []
        for side in (self.direct, self.proxied):
            ended = await anyio.run_process(
                list(command), env={**os.environ, **(env or {}), **side.env}, check=False, cwd=HERE
            )
            told = ended.stdout.decode() + ended.stderr.decode()[-3000:]
            assert ended.returncode == 0, told
            printed.append([json.loads(line) for line in ended.stdout.splitlines()])
        assert printed[0] == printed[1]
        assert printed[0]
        return printed[0]

    def compare(self) -> int:
        """Check all that was said on either way against each other; how many exchanges there were."""
        return sum(
            compared(
                self.direct.exchanges(name),
                self.proxied.exchanges(name),
                list(self.direct.providers[name].requests.seen),
                list(self.proxied.providers[name].requests.seen),
            )
            for name in FAMILIES
        )


@pytest.fixture
async def both(request: pytest.FixtureRequest, world: Any, running_proxy: Any) -> AsyncIterator[Both]:
    """Both ways, with nothing said yet. The caller's key is another one than the proxy's at the provider.

    A parameter holds settings of the proxy.
    """
    alone, behind = {}, {}
    for name, family in FAMILIES.items():
        world.models[name] = MODELS[name]
        behind[name] = await world.provider(name, family, still=True)
        world.route(MODELS[name], family, chain=name)
    await world.publish()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for name, family in FAMILIES.items():
            fake = FakeProvider(name, family, api_keys=(CALLERS_KEY,), still=True)
            alone[name] = await enter(fake.running())
        caller = await enter(running_proxy(**getattr(request, "param", {})))
        sides = []
        for providers, urls in (
            (alone, {name: fake.base_url for name, fake in alone.items()}),
            (behind, {"o": f"{caller.url}/v1", "a": caller.url}),
        ):
            taps = [await enter(Tap.before(urls[name])) for name in FAMILIES]
            sides.append(Side(*taps, providers))
        yield Both(*sides)
