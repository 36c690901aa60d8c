"""A decision as it is kept: what went in, what came out.

    worth keeping   every decision that came to anything (a note, a table, an answer), and the first quiet one of
                    every minute, so that there is one near every time
    large fleets    above `LARGE` entries in the proxies' reports (proxies × targets) a record leaves out what no rule
                    reads of them (`UNREAD`), and a quiet one keeps its reasons and table only
    of the state    the whole of what went in; of what came out a digest of every entry that changed

It holds no secret, because state, evidence and table hold none. `core/replay.py` decides it again; a proxy, which only
shares the store's client with the daemon, does not load the rules.
"""

import functools
import hashlib
import zlib
from typing import Any, Final, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields, replace

from pointsman.core.asked import Asked
from pointsman.core.evidence import Evidence, Report, TargetReport
from pointsman.core.model import Answer, Decision, Note, State
from pointsman.core.strangers import UNREADABLE
from pointsman.core.table import Table, validate

# To be raised with any of the formats of state, evidence and table that it holds.
RECORD_FORMAT: Final = 1
QUIET_S: Final = 60.0
LARGE: Final = 300
# What proxies say of a target for people, and no rule reads (tests/core/test_replay.py holds them to it).
UNREAD: Final = (
    "latency_ms",
    "first_token_ms",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "callers",
    "callers_failing",
    "synthetic",
    "rate_limit",
    "ejected",
)
_COMPRESSION: Final = 3
# The store is not trusted to be honest: a little of it may unpack to very much.
_UNPACKED_BYTES_MAX: Final = 256 * 1024 * 1024
_GONE: Final = "gone"

T = TypeVar("T")


class Came(Struct, frozen=True, kw_only=True):
    """What came out. `state`: "part.entry" or "part" → the digest of its new value, for whatever changed."""

    table: Table | None
    reasons: dict[str, dict[str, str]]
    notes: tuple[Note, ...] = ()
    answers: tuple[Answer, ...] = ()
    deadlines: dict[str, float] = {}
    urgent: bool = False
    yields: bool = False
    state: dict[str, str] = {}


class Record(Struct, frozen=True, kw_only=True):
    """One decision at `at_s`, by the daemon and version `by`. Without `state` and `evidence` it cannot be replayed."""

    format: int = RECORD_FORMAT
    by: str
    at_s: float
    epoch: int
    published: Table | None
    published_s: float
    state: State | None
    evidence: Evidence | None
    came: Came

    @property
    def asked(self) -> Asked | None:
        """What the decision was made from; None for one that was kept without it."""
        if self.state is None or self.evidence is None:
            return None
        return Asked(
            at_s=self.at_s,
            epoch=self.epoch,
            published=self.published,
            published_s=self.published_s,
            state=self.state,
            evidence=self.evidence,
        )

    @property
    def in_force(self) -> Table | None:
        """The table that was published when the decision had been acted on."""
        table = self.came.table
        return table if table is not None and not validate(table) else self.published


class RecordError(Exception):
    """A record that this version cannot read or replay; the message says why, for people."""


def came_to_something(decision: Decision | Came) -> bool:
    """Is there more to tell of a decision than that it was made?"""
    return bool(decision.notes or decision.answers or decision.table is not None)


def worth_keeping(decision: Decision, at_s: float, quiet_s: float) -> bool:
    """Is a decision to be recorded, if the last quiet one was recorded at `quiet_s`?"""
    return came_to_something(decision) or at_s // QUIET_S != quiet_s // QUIET_S


def record_of(asked: Asked, decision: Decision, by: str) -> Record:
    """The record of a decision."""
    large = sum(len(report.targets) for report in asked.evidence.reports) > LARGE
    brief = large and not came_to_something(decision)
    return Record(
        by=by,
        at_s=asked.at_s,
        epoch=asked.epoch,
        published=asked.published,
        published_s=asked.published_s,
        state=None if brief else asked.state,
        evidence=None if brief else thinned(asked.evidence) if large else asked.evidence,
        came=came_of(decision, {} if brief else changed(asked.state, decision.state)),
    )


def thinned(evidence: Evidence) -> Evidence:
    """The evidence without what no rule reads."""
    return replace(evidence, reports=tuple(map(_thin_report, evidence.reports)))


def _thin_report(report: Report) -> Report:
    defaults = _defaults(TargetReport)
    nothing = {name: defaults[name] for name in UNREAD}
    return replace(
        report, targets={name: replace(entry, **nothing) for name, entry in report.targets.items()}
    )


def came_of(decision: Decision, state: dict[str, str]) -> Came:
    return Came(
        table=decision.table,
        reasons=decision.reasons,
        notes=decision.notes,
        answers=decision.answers,
        deadlines=decision.deadlines,
        urgent=decision.urgent,
        yields=decision.yields,
        state=state,
    )


# --- what became of the state


def changed(before: State, after: State) -> dict[str, str]:
    """The digest of every part, and of every entry of a part that is a mapping, that is not what it was."""
    digests: dict[str, str] = {}
    for name in State.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if new is old:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            entries = ((entry, old.get(entry), new.get(entry)) for entry in {**old, **new})
            # The identity first: ten thousand untouched targets must not cost ten thousand comparisons.
            differing = ((entry, b) for entry, a, b in entries if b is not a and b != a)
            digests.update({f"{name}.{entry}": _digest(value) for entry, value in differing})
        elif new != old:
            digests[name] = _digest(new)
    return digests


def _digest(value: object) -> str:
    if value is None:
        return _GONE
    plain = msgspec.to_builtins(_lean(value), str_keys=True)  # histograms have numbers for keys
    body = msgspec.json.encode(plain, order="deterministic")
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def _lean(value: Any) -> Any:
    """`value` without what has its default, so that a field that a later version adds changes no digest."""
    match value:
        case Struct() if not (value.__struct_config__.omit_defaults or value.__struct_config__.array_like):
            defaults = _defaults(type(value))
            entries = ((name, getattr(value, name)) for name in value.__struct_fields__)
            return {name: _lean(it) for name, it in entries if name not in defaults or it != defaults[name]}
        case dict():
            return {key: _lean(it) for key, it in value.items()}
        case list() | tuple():
            return [_lean(it) for it in value]
    return value


@functools.cache
def _defaults(kind: type[Struct]) -> dict[str, Any]:
    """The fields of `kind` that may be left out, and what they are then."""
    return {
        field.name: field.default if field.default is not NODEFAULT else field.default_factory()
        for field in fields(kind)
        if not field.required
    }


# --- written and read


def encode(record: Record) -> bytes:
    """The record as it is stored: JSON, compressed."""
    return zlib.compress(msgspec.json.encode(record), _COMPRESSION)


def decode(body: bytes) -> Record:
    """The record in `body`. Raises RecordError for one that is corrupt or of another format."""
    try:
        unpacking = zlib.decompressobj()
        unpacked = unpacking.decompress(body, _UNPACKED_BYTES_MAX)
        if unpacking.unconsumed_tail:
            raise RecordError(f"the record unpacks to more than {_UNPACKED_BYTES_MAX} bytes")
        written = msgspec.json.decode(unpacked, type=_Format).format
        if written != RECORD_FORMAT:
            raise RecordError(f"the record has format {written}; this version reads {RECORD_FORMAT}")
        return msgspec.json.decode(unpacked, type=Record)
    except (zlib.error, *UNREADABLE) as error:
        raise RecordError(f"the record is corrupt: {error}") from error


class _Format(Struct):
    format: int
