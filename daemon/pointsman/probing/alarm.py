"""The alarm clock: it rings a few times a second, and says nothing of what is due.

APScheduler follows the wall clock, so a step of it can silence the alarm. Whoever listens therefore waits with a
limit on the monotonic clock, and decides from monotonic time what is due.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler

RING_S: Final = 0.25


@contextlib.asynccontextmanager
async def alarm(ring: Callable[[], None], *, every_s: float = RING_S) -> AsyncIterator[AsyncIOScheduler]:
    """Call `ring` every `every_s` seconds while the context lasts. `ring` must not wait."""

    async def job() -> None:
        ring()

    scheduler = AsyncIOScheduler(timezone=UTC)
    scheduler.add_job(
        job,
        "interval",
        seconds=every_s,
        next_run_time=datetime.now(UTC),  # the default is one interval from now
        misfire_grace_time=None,  # a late ring is as good as a punctual one
        coalesce=True,  # and one is as good as many
        max_instances=1,
    )
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown(wait=False)
