"""The store, as everybody else sees it.

All calls are short (`timeout_s`) and raise StoreError only (errors.py). A call that changes something is never
repeated by itself: after StoreDown nobody knows whether it was applied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio
from msgspec import Raw, Struct
from msgspec.structs import replace

from pointsman.core.evidence import Report, Verb, Word
from pointsman.core.model import Answer, Decision, Note, State
from pointsman.core.table import Table, Version
from pointsman.core.table import encode as encode_table
from pointsman.store import codec
from pointsman.store.elsewhere import Elsewhere
from pointsman.store.errors import Conflict, Fenced, StoreError, Unreadable
from pointsman.store.fence import check_fence, fence_args, shown
from pointsman.store.keys import Keys
from pointsman.store.recording import Records
from pointsman.store.records import HistoryEntry, Leader, Lease, Peek, Published
from pointsman.store.subscription import Following, Subscription, notes_of
from pointsman.store.wire import Wire, load_script

__all__ = ["HistoryEntry", "Leader", "Lease", "Peek", "Published", "Store"]

ANSWER_TTL_S: Final = 60.0
REPORT_TTL_S: Final = 60.0
# In front of the name of a proxy that wakes the leader for a failure that stands alone.
LONE: Final = "~"
WORDS_LENGTH: Final = 10_000

_ACQUIRE: Final = load_script("acquire", fenced=False)
_RENEW: Final = load_script("renew")
_RELEASE: Final = load_script("release")
_SAVE: Final = load_script("save")
_PUBLISH: Final = load_script("publish")
_BESIDE: Final = load_script("beside")

Reasons = dict[str, dict[str, str]]
Deadlines = dict[str, float]


class _Kept(Struct, frozen=True):
    """An entry of the history as publish.lua writes it."""

    version: Version
    hash: str
    published_s: float
    reasons: Reasons
    body: Raw


class Store:
    """One fleet's part of the store. `unreadable_reports` counts those that the last `reports()` left out."""

    def __init__(
        self, wire: Wire, keys: Keys, *, history_length: int, events_length: int, records_bytes: int
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._history_length = history_length
        self._events_length = events_length
        self.unreadable_reports = 0
        self.records = Records(wire, keys, records_bytes)
        self.elsewhere = Elsewhere(wire, keys)

    @classmethod
    def connect(
        cls,
        url: str,
        keys: Keys,
        *,
        password: str | None = None,
        timeout_s: float = 0.5,
        history_length: int = 500,
        events_length: int = 10_000,
        records_bytes: int = 64 * 1024 * 1024,
    ) -> Self:
        """A store at `url` (redis://, rediss:// or unix://). Nothing is sent yet; StoreError for a bad URL."""
        wire = Wire(url, password=password, timeout_s=timeout_s)
        return cls(
            wire,
            keys,
            history_length=history_length,
            events_length=events_length,
            records_bytes=records_bytes,
        )

    def __repr__(self) -> str:
        return f"Store({self._wire.place!r}, {self._keys!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()

    async def now_s(self) -> float:
        """The store's clock."""
        return _seconds(await self._wire.read("TIME"))

    # --- the lease

    async def acquire(self, owner: str, ttl_s: float, floor_epoch: int) -> Lease | None:
        """Take the lease, or keep it; None if somebody else holds it.

        A new holder gets an epoch above the last one and above `floor_epoch`; in a store that knows none, above
        the clock in seconds. Who holds the lease already keeps its epoch, unless `floor_epoch` is higher.
        """
        keys = [self._keys.lease, self._keys.epoch]
        epoch = await self._wire.run(_ACQUIRE, keys, [owner, _ms(ttl_s), floor_epoch])
        with _readable(self._keys.epoch):
            return Lease(owner, int(epoch)) if epoch else None

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Keep the lease for `ttl_s` from now; False if it is not ours any more."""
        return bool(await self._wire.run(_RENEW, self._fence_keys(), [*fence_args(lease), _ms(ttl_s)]))

    async def release(self, lease: Lease) -> None:
        """Give the lease up; nothing happens if it is not ours any more."""
        await self._wire.run(_RELEASE, self._fence_keys(), fence_args(lease))

    async def leader(self) -> Leader | None:
        """Who holds the lease."""
        key = self._keys.lease
        (owner, epoch), ttl_ms = await self._wire.read_all(("HMGET", key, "owner", "epoch"), ("PTTL", key))
        if not owner or not epoch:
            return None
        with _readable(key):
            return Leader(shown(owner), int(epoch), max(0.0, ttl_ms / 1000))

    def _fence_keys(self) -> list[str]:
        return [self._keys.lease, self._keys.epoch]

    # --- the state

    async def load_state(self) -> State | None:
        """What was saved last; None in a fresh store. StoreError if it is of a newer format."""
        fields = await self._wire.read("HGETALL", self._keys.state)
        return codec.state_of(fields, self._keys.state) if fields else None

    async def save(self, lease: Lease, previous: State | None, decision: Decision) -> State:
        """Write the decision's state, notes and answers, all or nothing; gives the state with its new revision.

        `previous` is what the store holds, as it was loaded or saved (None: nothing). Raises Conflict if the
        store holds another revision, Fenced if the lease is not ours.
        """
        expected = previous.revision if previous else 0
        changes = codec.changes(previous, decision.state)
        keys = [*self._fence_keys(), self._keys.state, self._keys.events]
        keys += [self._keys.answer(answer.word) for answer in decision.answers]
        args: list[Any] = [*fence_args(lease), expected, self._events_length, _ms(ANSWER_TTL_S)]
        args += [self._keys.answer_channel, len(changes.put), len(changes.drop), len(decision.notes)]
        for field, body in changes.put.items():
            args += [field, body]
        args += changes.drop
        args += [codec.encode(note) for note in decision.notes]
        for answer in decision.answers:
            args += [answer.word, codec.encode(answer)]
        reply = await self._wire.run(_SAVE, keys, args)
        if reply[0] == b"CONFLICT":
            raise Conflict(
                f"the state in the store has revision {shown(reply[1])}, not {expected}: somebody else has "
                "written it; load it and decide again"
            )
        check_fence(lease, reply)
        return replace(decision.state, revision=int(reply[1]))

    # --- the routing table

    async def publish(self, lease: Lease, table: Table, reasons: Reasons, deadlines: Deadlines) -> None:
        """Replace the table by a newer one, and tell the proxies. Raises Fenced if it is not newer."""
        if table.version.epoch != lease.epoch:
            raise Fenced(
                f"table {table.version} was not decided under the lease's epoch {lease.epoch}: decide again"
            )
        keys = [*self._fence_keys(), self._keys.table, self._keys.history, self._keys.revisions]
        args: list[Any] = [
            *fence_args(lease),
            table.version.epoch,
            table.version.revision,
            table.hash,
            table.format,
        ]
        args += [encode_table(table), codec.encode(reasons), codec.encode(deadlines)]
        reply = await self._wire.run(_PUBLISH, keys, [*args, self._history_length, self._keys.hint_channel])
        if reply[0] == b"STALE":
            stored = f"{shown(reply[1])}.{shown(reply[2])}"
            raise Fenced(
                f"table {table.version} is not newer than {stored}, which is published: decide again"
            )
        check_fence(lease, reply)

    async def renew_beside(self, lease: Lease, reasons: Reasons, deadlines: Deadlines) -> None:
        """Renew what travels beside the current table; proxies see it at their next poll."""
        args = [*fence_args(lease), codec.encode(reasons), codec.encode(deadlines)]
        check_fence(lease, await self._wire.run(_BESIDE, [*self._fence_keys(), self._keys.table], args))

    async def peek(self) -> Peek | None:
        """Which table is published, and until when its overlays hold; None if there is none.

        Raises Unreadable, as `table` does, for what no leader has written.
        """
        names = ("epoch", "revision", "hash", "deadlines")
        fields, time = await self._wire.read_all(("HMGET", self._keys.table, *names), ("TIME",))
        if None in fields:
            return None
        epoch, revision, digest, deadlines = fields
        with _readable(self._keys.table):
            peek = Peek(_version(epoch, revision), "", {}, _seconds(time))
        with _readable(self._keys.table, peek):
            known = codec.decode(deadlines, Deadlines, f"{self._keys.table} deadlines")
            return replace(peek, hash=digest.decode(), deadlines=known)

    async def table(self) -> Published | None:
        """The published table; None if there is none."""
        names = ("epoch", "revision", "hash", "deadlines", "reasons", "published_s", "body")
        fields, time = await self._wire.read_all(("HMGET", self._keys.table, *names), ("TIME",))
        if None in fields:
            return None
        epoch, revision, digest, deadlines, reasons, published_s, body = fields
        with _readable(self._keys.table):
            return Published(
                body=body,
                table_version=_version(epoch, revision),
                hash=digest.decode(),
                reasons=codec.decode(reasons, Reasons, f"{self._keys.table} reasons"),
                deadlines=codec.decode(deadlines, Deadlines, f"{self._keys.table} deadlines"),
                published_s=float(published_s),
                now_s=_seconds(time),
            )

    async def history(self, limit: int = 20) -> list[HistoryEntry]:
        """What was published, newest first."""
        revisions = await self._wire.read("ZRANGE", self._keys.revisions, 0, max(0, limit - 1), "REV")
        if not revisions:
            return []
        bodies = await self._wire.read("HMGET", self._keys.history, *revisions)
        return [self._entry(body) for body in bodies if body is not None]

    async def at(self, revision: int) -> HistoryEntry | None:
        """What was published as `revision`; None if it never was, or is forgotten."""
        body = await self._wire.read("HGET", self._keys.history, revision)
        return None if body is None else self._entry(body)

    def _entry(self, body: bytes) -> HistoryEntry:
        kept = codec.decode(body, _Kept, self._keys.history)
        return HistoryEntry(
            version=kept.version,
            hash=kept.hash,
            published_s=kept.published_s,
            body=bytes(kept.body),
            reasons=kept.reasons,
        )

    # --- the proxies' reports

    async def put_report(self, report: Report, *, wake: bool, lone: bool = False) -> None:
        """Replace a proxy's report. It is cumulative: putting it twice, or losing one, changes no count.

        `wake` wakes the leader; `lone` says in it (LONE) that there is time for others to join.
        """
        body = codec.encode(report)
        commands: list[tuple[Any, ...]] = [
            ("SET", self._keys.report(report.proxy), body, "PX", _ms(REPORT_TTL_S)),
            ("HSET", self._keys.proxies, report.proxy, ""),
        ]
        if wake:
            commands.append(("PUBLISH", self._keys.wake_channel, LONE * lone + report.proxy))
        await self._wire.write_all(*commands)

    async def reports(self) -> list[Report]:
        """The last report of every proxy that reported within the last 60 s; the others are forgotten."""
        names = await self._wire.read("HKEYS", self._keys.proxies)
        if not names:
            self.unreadable_reports = 0
            return []
        bodies = await self._wire.read("MGET", *(self._keys.report(shown(name)) for name in names))
        expired = [name for name, body in zip(names, bodies, strict=True) if body is None]
        if expired:
            # One that reports just now is known again with its next report.
            await self._wire.write("HDEL", self._keys.proxies, *expired)
        reports = [codec.report_of(body) for body in bodies if body is not None]
        readable = [report for report in reports if report is not None]
        self.unreadable_reports = len(reports) - len(readable)
        return readable

    # --- operators' words, and what they led to

    async def say(self, verb: Verb, author: str, reason: str, args: dict[str, Any]) -> str:
        """Put a word into the stream and wake the leader; gives the word's id."""
        body = codec.word_body(verb, author, reason, args)
        word_id, _ = await self._wire.write_all(
            ("XADD", self._keys.words, "MAXLEN", "~", WORDS_LENGTH, "*", "word", body),
            ("PUBLISH", self._keys.wake_channel, verb.value),
        )
        return str(word_id.decode())

    async def words_after(self, cursor: str, limit: int = 100) -> list[Word]:
        """The words after the one with the id `cursor`, oldest first. Words of a newer version are left out."""
        while True:
            entries = await self._wire.read("XRANGE", self._keys.words, f"({cursor}", "+", "COUNT", limit)
            words = [codec.word_of(entry.decode(), fields.get(b"word", b"")) for entry, fields in entries]
            known = [word for word in words if word is not None]
            if known or len(entries) < limit:
                return known
            cursor = entries[-1][0].decode()

    async def answer(self, word_id: str, timeout_s: float) -> Answer | None:
        """What a word led to; None if nobody answers within `timeout_s`."""
        key = self._keys.answer(word_id)
        subscription = Subscription(self._wire, self._keys.answer_channel)
        try:
            with anyio.move_on_after(timeout_s):
                async for _ in subscription:
                    if (body := await self._wire.read("GET", key)) is not None:
                        return codec.decode(body, Answer, key)
        finally:
            await subscription.aclose()
        return None

    # --- events

    async def events(self, count: int = 100, after: str = "-", until: str = "+") -> list[tuple[str, Note]]:
        """The newest `count` notes with their ids, newest last: after the one with the id `after`, up to `until`.

        `until` is an id or milliseconds since 1970, with that one; "(ID" is without it.
        """
        oldest = "-" if after == "-" else f"({after}"
        entries = await self._wire.read("XREVRANGE", self._keys.events, until, oldest, "COUNT", count)
        return notes_of(entries[::-1], self._keys.events)

    def follow_events(self, after: str = "$") -> Following:
        """The notes after the one with the id `after` ("$": from now on), as they are written; never ends."""
        return Following(self._wire, self._keys.events, "0-0" if after == "-" else after)

    # --- hints

    def hints(self) -> Subscription:
        """ "<epoch>.<revision>" of every new table; "" after every (re)subscription, since one may be lost."""
        return Subscription(self._wire, self._keys.hint_channel)

    def wakes(self) -> Subscription:
        """What wakes the leader; "" after every (re)subscription, since one may be lost."""
        return Subscription(self._wire, self._keys.wake_channel)

    async def wake(self) -> None:
        """Make the leader look at once."""
        await self._wire.write("PUBLISH", self._keys.wake_channel, "wake")

    async def clear(self) -> None:
        """Delete everything that is stored for this fleet."""
        cursor = 0
        while True:
            cursor, found = await self._wire.read("SCAN", cursor, "MATCH", self._keys.pattern, "COUNT", 1000)
            if found:
                await self._wire.write("UNLINK", *found)
            if cursor == 0:
                return


@contextmanager
def _readable(key: str, peek: Peek | None = None) -> Iterator[None]:
    """What is at `key` may have been written by anybody: what of it cannot be read is told as Unreadable."""
    try:
        yield
    except ValueError as error:
        raise Unreadable(f"{key} in the store is not readable: {error}", peek) from error
    except StoreError as error:
        raise Unreadable(str(error), peek) from error


def _version(epoch: bytes, revision: bytes) -> Version:
    """Raises ValueError for what no leader can have written."""
    version = Version(int(epoch), int(revision))
    if not version.possible:
        raise ValueError(f"no daemon gave the version {version}")
    return version


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _seconds(time: tuple[int, int]) -> float:
    return time[0] + time[1] / 1_000_000
