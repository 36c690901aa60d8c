"""Tables that change faster than answers are given."""

import asyncio
import secrets
from typing import Any

import anyio
import pytest

from pointsman.core.table import Table
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SWAPS = 200
SWAP_S = 0.01
CALLERS = 8


async def test_swapped_a_hundred_times_a_second(world: Any, running_proxy: Any) -> None:
    """Whole answers and streams under way while routes move: each is the right one, whole, and from a chosen target."""
    for name in "ab":
        await world.provider(name, echo=True, token_delay_ms=3)
    world.route("chat", chain="a b")
    await world.publish()
    served: list[str] = []
    tables: set[str] = set()
    async with running_proxy() as caller:
        done = anyio.Event()

        async def ask(number: int) -> None:
            while not done.is_set():
                nonce = " ".join(secrets.token_hex(4) for _ in range(6))
                messages = [{"role": "user", "content": nonce}]
                got = await caller.chat(messages=messages, stream=bool(number % 2))
                assert got.status == 200
                assert got.whole
                assert got.target in {"a", "b"}
                text = got.body.decode()
                words = [f"{got.target} says:", f'"{got.target}-model"', *nonce.split()]
                assert all(word in text for word in words), (got.target, nonce, text)
                assert number % 2 == 0 or text.endswith("data: [DONE]\n\n")
                served.append(got.target)
                tables.add(got.headers["x-pointsman-table"])

        async with anyio.create_task_group() as group:
            for number in range(CALLERS):
                group.start_soon(ask, number)
            last = await swap(world)
            await eventually(lambda: len(served) > 100, 20.0)
            done.set()
        await caller.until_table(last)
    assert {*served} == {"a", "b"}
    assert len(tables) > 10


async def swap(world: Any) -> Table:
    """Publish as often as that, everything to the one and everything to the other in turn; the last table."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    table = None
    for turn in range(SWAPS):
        world.route("chat", chain="a b", shares_bp={"ab"[turn % 2]: 10_000})
        table = await world.publish()
        due_s += SWAP_S
        await anyio.sleep(max(0.0, due_s - loop.time()))
    assert table is not None
    return table
