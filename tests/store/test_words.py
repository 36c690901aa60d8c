"""Operators' words and what they led to, and the events."""

from collections.abc import Callable
from contextlib import aclosing

import anyio
import pytest

from pointsman.core.evidence import Verb, Word
from pointsman.core.model import Answer, Decision, Note, State
from pointsman.store.client import Lease, Store
from pointsman.store.errors import StoreError
from pointsman.store.keys import Keys
from support import eventually

pytestmark = pytest.mark.anyio

Decide = Callable[..., Decision]


async def test_word_round_trip(store: Store) -> None:
    """A word is read with everything that was said."""
    args = {"route": "fast", "shares_bp": {"a": 10_000}, "for_s": None}
    word_id = await store.say(Verb.PIN, "ops", "because", args)
    expected = Word(id=word_id, verb=Verb.PIN, author="ops", reason="because", args=args)
    assert await store.words_after("0-0") == [expected]


async def test_cursor(store: Store) -> None:
    """Words after a cursor are the later ones, oldest first, at most as many as asked for."""
    ids = [await store.say(Verb.RESET, "ops", str(number), {"target": "a"}) for number in range(5)]
    assert [word.id for word in await store.words_after("0-0")] == ids
    assert [word.id for word in await store.words_after(ids[1])] == ids[2:]
    assert [word.id for word in await store.words_after(ids[1], limit=2)] == ids[2:4]
    assert await store.words_after(ids[-1]) == []


async def test_unknown_words_do_not_block(store: Store, keys: Keys) -> None:
    """Words that this version does not know are passed over, however many there are."""
    for number in range(5):
        body = b'{"verb":"dance","author":"x","reason":"y","args":{}}' if number else b"{"
        await store._wire.write("XADD", keys.words, "*", "word", body)
    word_id = await store.say(Verb.RESET, "ops", "last", {})
    assert [word.id for word in await store.words_after("0-0", limit=2)] == [word_id]


async def test_saying_wakes_the_leader(store: Store) -> None:
    """A word is not to wait for the next tick."""
    async with aclosing(store.wakes()) as wakes:
        assert await anext(wakes) == ""
        await store.say(Verb.UNPIN, "ops", "", {"route": "fast"})
        assert await anext(wakes) == "unpin"


async def test_answer_comes_while_waiting(store: Store, lease: Lease, decide: Decide) -> None:
    """Whoever waits gets the answer as soon as it is there, and not that to another word."""
    word_id = await store.say(Verb.RESET, "ops", "", {"target": "a"})
    answers = (Answer(word="9-9", ok=True, text="other"), Answer(word=word_id, ok=False, text="no target a"))
    found: list[Answer | None] = []

    async def wait() -> None:
        found.append(await store.answer(word_id, 10.0))

    with anyio.fail_after(5.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await store.save(lease, None, decide(State(), answers=answers))
    assert found == [answers[1]]


async def test_no_answer(store: Store) -> None:
    """Without an answer the wait ends at its time."""
    assert await store.answer("1-1", 0.05) is None


async def test_events_newest_last(store: Store, lease: Lease, decide: Decide) -> None:
    """The newest events are given, oldest of them first; after an id only the later ones."""
    await store.save(lease, None, decide(State(), notes=tuple(_note(str(number)) for number in range(5))))
    events = await store.events()
    assert [note for _, note in events] == [_note(str(number)) for number in range(5)]
    assert await store.events(count=2) == events[3:]
    assert await store.events(after=events[2][0]) == events[3:]


async def test_following_events(store: Store, lease: Lease, decide: Decide) -> None:
    """Following gives what is written from then on; following an id also what was written since."""
    state = await store.save(lease, None, decide(State(), notes=(_note("before"),)))
    from_now, from_start = store.follow_events(), store.follow_events("-")
    told: list[str] = []

    async def follow() -> None:
        told.append((await anext(from_now))[1].text)

    with anyio.fail_after(5.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            # Until the server has somebody waiting: from then on nothing can be missed.
            await eventually(lambda: _blocked(store))
            await store.save(lease, state, decide(state, notes=(_note("after"), _note("later"))))
        told.append((await anext(from_now))[1].text)
        assert told == ["after", "later"]
        assert [(await anext(from_start))[1].text for _ in range(3)] == ["before", "after", "later"]


async def _blocked(store: Store) -> bool:
    return (await store._wire.read("INFO", "clients"))["blocked_clients"] > 0


async def test_unreadable_event_is_named(store: Store, keys: Keys) -> None:
    """An event that cannot be decoded is told with its key."""
    await store._wire.write("XADD", keys.events, "*", "note", "{")
    with pytest.raises(StoreError, match="default:events"):
        await store.events()


def _note(text: str) -> Note:
    return Note(at_s=1.0, kind="test", subject="a", text=text)
