"""A lease, and builders of what is stored."""

from collections.abc import Callable

import pytest

from pointsman.core.model import Decision, State
from pointsman.core.table import RouteEntry, Table, TargetEntry, Version, table_hash
from pointsman.store.client import Lease, Store


@pytest.fixture
async def lease(store: Store) -> Lease:
    """The lease of the store, for a minute."""
    taken = await store.acquire("daemon-a", 60.0, 0)
    assert taken is not None
    return taken


@pytest.fixture
def make_table() -> Callable[..., Table]:
    """(epoch, revision) → a small valid table."""

    def build(epoch: int, revision: int, base_url: str = "https://api.example.com") -> Table:
        target = TargetEntry(provider="anthropic", model="haiku", family="anthropic", base_url=base_url)
        route = RouteEntry(family="anthropic", shares_bp={"haiku": 10_000}, chain=("haiku",))
        table = Table(
            environment="development",
            fleet="default",
            version=Version(epoch, revision),
            hash="",
            issued_s=1.5,
            targets={"haiku": target},
            routes={"fast": route},
        )
        return Table(
            **{name: getattr(table, name) for name in table.__struct_fields__} | {"hash": table_hash(table)}
        )

    return build


@pytest.fixture
def decide() -> Callable[..., Decision]:
    """State and whatever else of a decision → a decision without a table."""

    def build(state: State, **rest: object) -> Decision:
        return Decision(state=state, table=None, reasons={}, **rest)

    return build
