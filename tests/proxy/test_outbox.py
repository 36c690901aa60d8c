"""When what is written leaves."""

import asyncio

import pytest

from pointsman.proxy.outbox import Outbox

pytestmark = pytest.mark.anyio


class Writer:
    """A connection with something to write: `left` says what has left, in order."""

    def __init__(self, outbox: Outbox, left: list[str], name: str) -> None:
        self._outbox = outbox
        self._left = left
        self._name = name
        self._kept = 0

    def write(self) -> None:
        if self._kept or self._outbox.holds(self):
            self._kept += 1
        else:
            self._left.append(self._name)

    def flush(self) -> None:
        self._left += [self._name] * self._kept
        self._kept = 0


def writers() -> tuple[list[str], Writer, Writer, Writer]:
    """(what has left, three connections of one outbox)."""
    outbox, left = Outbox(), list[str]()
    return left, Writer(outbox, left, "a"), Writer(outbox, left, "b"), Writer(outbox, left, "c")


async def turn() -> None:
    """One turn of the loop, and what was put off until its end."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_where_little_comes_nothing_waits() -> None:
    """One in each turn leaves at once, and so does whatever else it has in that turn."""
    left, a, b, _ = writers()
    for writer in (a, b, a):
        writer.write()
        writer.write()
        assert left == ["a", "a", "b", "b", "a", "a"][: len(left)]
        assert len(left) % 2 == 0
        await turn()
    assert len(left) == 6


async def test_others_of_the_same_turn_leave_at_its_end() -> None:
    """The first is written at once; those that come on top wait for each other."""
    left, a, b, c = writers()
    for writer in (a, b, c, b):
        writer.write()
    assert left == ["a"]
    await turn()
    assert left == ["a", "b", "b", "c"]


async def test_after_a_turn_of_many_the_first_waits_too() -> None:
    """What comes in at once leaves together: everybody has been looked at by then."""
    left, a, b, _ = writers()
    a.write()
    b.write()
    await turn()
    left.clear()
    a.write()
    assert left == []
    b.write()
    await turn()
    assert left == ["a", "b"]


async def test_when_it_is_quiet_again_nothing_waits() -> None:
    """One turn with a single connection is enough to say so."""
    left, a, b, _ = writers()
    a.write()
    b.write()
    await turn()
    a.write()
    await turn()
    left.clear()
    b.write()
    assert left == ["b"]
