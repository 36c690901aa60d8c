"""One process with many feeds, for the bench `feeds`: python -m bench.feed_holder URL CONFIG FIRST COUNT FOLDER

Writes a line for every swap: the feed's number, the table's revision, the monotonic time in nanoseconds (which is
the same clock in every process of a machine).
"""

import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from bench import world
from pointsman.config import sources
from pointsman.config.models import Settings
from pointsman.proxy.clock import StoreClock
from pointsman.proxy.feed import Feed
from pointsman.proxy.view import Trust
from pointsman.store.client import Store


def held(number: int, store: Store, settings: Settings, trust: Trust, folder: Path) -> Feed:
    """One feed as a proxy has it, telling of its swaps."""
    served = 0

    def changed(_wake: bool) -> None:
        nonlocal served
        at_ns = time.monotonic_ns()
        revision = feed.view.table.version.revision if feed.view else 0
        if revision != served:
            served = revision
            sys.stdout.write(f"{number} {revision} {at_ns}\n")
            sys.stdout.flush()

    feed = Feed(
        store,
        trust,
        StoreClock(),
        proxy=f"proxy-{number}",
        environment=settings.environment,
        fleet=settings.fleet,
        path=folder / f"table-{number}.json",
        poll_interval_s=settings.proxy.poll_interval_s,
        changed=changed,
    )
    return feed


async def main(url: str, config: str, first: int, count: int, folder: Path) -> None:
    """Hold the feeds until the process is ended."""
    settings = sources.load(Path(config))
    trust = Trust.of(settings)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for number in range(first, first + count):
            store = await stack.enter_async_context(Store.connect(url, world.KEYS))
            tasks.start_soon(held(number, store, settings, trust, folder).run)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
