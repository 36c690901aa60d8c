"""The deadlines beside a table: what is over in the state may still be what proxies route by."""

from collections.abc import Callable
from typing import Any

import pytest
from control_daemons import SLOW, settings_of, shares_in, table_in
from msgspec.structs import replace

from pointsman.core.evidence import Verb
from pointsman.store.client import Store
from support import eventually

pytestmark = pytest.mark.anyio


async def test_what_a_table_names_keeps_its_deadline(store: Store, daemons: Callable[..., Any]) -> None:
    """The end of an overlay is told by the next table, not by its deadline vanishing from beside the present one."""
    async with daemons(settings=settings_of(control=SLOW)) as daemon:
        await eventually(lambda: shares_in(store))
        args = {"route": "chat", "from": "bedrock", "to": "google"}
        word = await store.say(Verb.CANARY, "ann@host", "a trial", args)
        assert (await store.answer(word, 5.0)).ok

        async def moved() -> bool:
            await store.wake()
            table = await table_in(store)
            return table is not None and bool(table.routes["chat"].later)

        await eventually(moved)
        loop = daemon.control.loop
        before = dict(loop.shown.beside.deadlines)
        loop._beside_at = 0.0
        over = replace(loop.shown.beside, reasons={"chat": {"google": "over"}}, deadlines={})
        await loop._renew_beside(daemon.control.leadership.lease, over)
        published = await store.table()

    assert before
    assert published.deadlines.keys() == before.keys()
