"""A record, decided again: what the present rules, or others, decide otherwise.

Exact for the rules that recorded; for other rules it says where they differ. What a later version adds to a shape is no
difference while it has its default, nor is another hash of the same table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from pointsman.core.decide import decide
from pointsman.core.deciding import Rules, decided
from pointsman.core.record import Record, RecordError, came_of, changed
from pointsman.core.table import Table, diff, table_hash

T = TypeVar("T")


def replay(record: Record, rules: Rules = decide) -> list[str]:
    """What `rules` decide otherwise than the record says, a line each; empty if they decide the same.

    Raises RecordError for a record that was kept without its evidence.
    """
    asked = record.asked
    if asked is None:
        raise RecordError("a quiet decision of a large fleet, which is kept without its evidence")
    if asked.published is not None and asked.published.hash:
        rehashed = replace(asked.published, hash=table_hash(asked.published))
        asked = replace(asked, published=rehashed)
    try:
        decision, _ = decided(asked, rules)
    except Exception as error:  # noqa: BLE001  whatever other rules fail with, they decide otherwise
        return [f"the decision fails: {type(error).__name__}: {error}"]
    then, now = record.came, came_of(decision, changed(asked.state, decision.state))
    return [
        *_tables(then.table, now.table, asked.published),
        *_told("note", then.notes, now.notes, lambda note: f"{note.kind} {note.subject}: {note.text}"),
        *_told("answer", then.answers, now.answers, lambda answer: answer.text),
        *_entries("reason", _flat(then.reasons), _flat(now.reasons)),
        *_entries("deadline", then.deadlines, now.deadlines),
        *_entries("", {"urgent": then.urgent}, {"urgent": now.urgent}),
        *_entries("", {"yields": then.yields}, {"yields": now.yields}),
        *(f"state: {entry} comes out otherwise" for entry in _differing(then.state, now.state)),
    ]


def _tables(then: Table | None, now: Table | None, published: Table | None) -> list[str]:
    if now is None:
        return [] if then is None else [f"table: {then.version} was published, now none is"]
    if then is None:
        moves = "; ".join(diff(published, now)) or "a new form of the same routes"
        return [f"table: none was published, now {now.version} is: {moves}"]
    lines = [f"table: {line}" for line in diff(then, now)]
    if then.version != now.version:
        lines.append(f"table: {then.version} → {now.version}")
    if not lines and table_hash(then) != now.hash:
        lines.append("table: routes otherwise in a way that has no words")
    return lines


def _told(what: str, then: Sequence[T], now: Sequence[T], text: Callable[[T], str]) -> Iterator[str]:
    gone, new = [one for one in then if one not in now], [one for one in now if one not in then]
    yield from (f"{what}: not given now: {text(one)}" for one in gone)
    yield from (f"{what}: given now: {text(one)}" for one in new)
    if then != now and not gone and not new:
        yield f"{what}: given now in another order or number"


def _flat(reasons: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {f"{route}, {target}": why for route, entry in reasons.items() for target, why in entry.items()}


def _entries(what: str, then: Mapping[str, object], now: Mapping[str, object]) -> Iterator[str]:
    for entry in _differing(then, now):
        yield f"{what} {entry}: {then.get(entry, 'none')} → {now.get(entry, 'none')}".strip()


def _differing(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [entry for entry in {**then, **now} if then.get(entry) != now.get(entry)]
