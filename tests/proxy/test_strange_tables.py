"""Tables, files and hints with bytes in them that nobody can read: refused or taken for what they are."""

from pathlib import Path
from typing import Any

import pytest

from support import eventually

pytestmark = pytest.mark.anyio


async def two(world: Any) -> tuple[Any, Any]:
    """Providers a and b on the route "chat", a first."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    return first, second


async def report_of(world: Any) -> Any:
    """The proxy's last report, if there is one."""
    reports = await world.store.reports()
    return reports[0] if reports else None


def repr_of_keys(bad: Any) -> str:
    """An id for a case: which fields are bad, and how long."""
    return " ".join(f"{field} of {len(value)}" for field, value in bad.items())


@pytest.mark.parametrize("body", [b'{"deadlines": {"\xe9": 1}}', b'{"x":' * 100_000])
async def test_a_file_that_is_no_text_is_no_obstacle(
    world: Any, running_proxy: Any, state_dir: Path, body: bytes
) -> None:
    """A byte that is no UTF-8, and nesting without end: the proxy starts, and takes its table from the store."""
    await two(world)
    (state_dir / "table-p1.json").write_bytes(body)
    async with running_proxy() as caller:
        assert (await caller.chat()).status == 200


@pytest.mark.parametrize(
    "bad",
    [
        {"body": b'{"format": 1, "environment": "\xff"}'},
        {"body": b'{"x":' * 100_000},
        {"reasons": b'{"chat": {"a": "\xff"}}'},
        {"hash": b"\xff"},
    ],
    ids=repr_of_keys,
)
async def test_a_table_that_is_no_text_is_refused(world: Any, running_proxy: Any, bad: Any) -> None:
    """A byte that is no UTF-8, and nesting without end: the table before it serves, and the next one is taken."""
    await two(world)
    async with running_proxy() as caller:
        await world.store._wire.write("HINCRBY", world.keys.table, "revision", 1)
        for field, value in bad.items():
            await world.store._wire.write("HSET", world.keys.table, field, value)

        async def refused() -> Any:
            report = await report_of(world)
            return report and report.rejected

        assert await eventually(refused)
        assert (await caller.chat()).status == 200
        world.table(0)  # its revision is taken
        await caller.until_table(await world.publish())


async def test_a_hint_that_is_no_text_is_a_hint(world: Any, running_proxy: Any) -> None:
    """It makes the proxy look, and the next one too: with a poll every minute both tables arrive."""
    await two(world)
    async with running_proxy(poll_interval_s=60.0) as caller:
        await world.store._wire.write("PUBLISH", world.keys.hint_channel, b"\xff")
        await caller.until_table(await world.publish())
