"""What can go wrong with the store. Every message says what happened and what cures it; none holds a secret."""

from pointsman.store.records import Peek


class StoreError(Exception):
    """The store was used wrongly, or holds something that this version cannot read."""


class StoreDown(StoreError):  # noqa: N818 - a state of the world, named as one
    """The store did not do it in time: unreachable, frozen, loading, read-only, full. Trying later may help.

    Whether a write was applied is unknown.
    """


class Fenced(StoreError):  # noqa: N818 - likewise
    """Refused: the lease is not ours any more. Nothing was written."""


class Unreadable(StoreError):  # noqa: N818 - likewise
    """Somebody else has written there: what stands in the place of the table, or of the lease, cannot be read.

    `peek` is what of the table can be read: its version, so that another can be put above it.
    """

    def __init__(self, text: str, peek: Peek | None = None) -> None:
        super().__init__(text)
        self.peek = peek


class Conflict(StoreError):  # noqa: N818 - likewise
    """Refused: the state has moved since it was read. Nothing was written; load it and decide again."""
