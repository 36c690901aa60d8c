"""The age of the table, and of what is remembered of heads: both are bounded."""

from typing import Any

import pytest

from pointsman.proxy.reader import KNOWN_BYTES_MAX, Known, RequestReader, around_length
from support import eventually

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("when_stale", "status"), [("serve", 200), ("refuse", 503)])
async def test_a_table_that_nobody_confirms(
    world: Any, running_proxy: Any, when_stale: str, status: int
) -> None:
    """The proxy is not ready by it any more, and serves on or refuses as its settings say."""
    await world.provider("a")
    world.route("chat", chain="a")
    await world.publish()
    settings = {"stale_after_s": 0.2, "when_stale": when_stale, "poll_interval_s": 60.0}
    async with running_proxy(table=False, **settings) as caller:

        async def stale() -> bool:
            ready = await caller.get("/-/ready")
            return bool(ready.status == 503 and ready.body.startswith(b"stale"))

        await eventually(stale)
        assert (await caller.chat()).status == status


@pytest.mark.parametrize(("padding", "is_known"), [(100, True), (KNOWN_BYTES_MAX, False)])
def test_only_small_heads_are_remembered(padding: int, is_known: bool) -> None:
    """Whoever sends large ones has them read each time, and fills no memory."""
    head = b"POST / HTTP/1.1\r\nHost: p\r\nX-P: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * padding)
    heads = Known()
    RequestReader(100, heads).feed(head)
    around = around_length(head)
    assert around is not None
    assert (heads.get(around) is not None) is is_known
