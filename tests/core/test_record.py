"""What is kept of a decision is enough to make it again, and a rule that changed shows."""

import zlib

import msgspec
import pytest
from msgspec.structs import replace
from recorded import asked_by, busy, stored, tripped

from pointsman.core import record
from pointsman.core.asked import Asked
from pointsman.core.deciding import decided
from pointsman.core.evidence import Evidence, TargetReport
from pointsman.core.model import Answer, Baseline, Decision, Drain, Freeze, Health, Note, State
from pointsman.core.record import (
    LARGE,
    RECORD_FORMAT,
    UNREAD,
    Record,
    RecordError,
    came_to_something,
    changed,
    decode,
    encode,
    record_of,
    thinned,
    worth_keeping,
)
from pointsman.core.replay import replay
from pointsman.core.table import Version
from world import CHAT, NOON_S, World, plan_of


@pytest.fixture
def trip() -> tuple[Asked, Decision]:
    """The decision on five refused requests, with what it was made from."""
    return tripped()


@pytest.fixture
def kept(trip: tuple[Asked, Decision]) -> Record:
    """Its record."""
    return stored(*trip)


# --- what is kept


def test_what_came_to_something_is_kept(trip: tuple[Asked, Decision]) -> None:
    """A note, a table or an answer each make a decision worth keeping at any time."""
    _, decision = trip
    nothing = replace(decision, notes=(), table=None, answers=())

    assert not came_to_something(nothing)
    assert not worth_keeping(nothing, NOON_S + 1, NOON_S)
    for part in ("notes", "table"):
        assert worth_keeping(replace(nothing, **{part: getattr(decision, part)}), NOON_S + 1, NOON_S)
    assert worth_keeping(replace(nothing, answers=(Answer(word="", ok=True, text=""),)), NOON_S, NOON_S)


@pytest.mark.parametrize(
    ("at_s", "quiet_s", "kept"),
    [
        (NOON_S + 59.9, NOON_S, False),
        (NOON_S + 60, NOON_S, True),
        (NOON_S + 60, NOON_S + 59.9, True),
        (NOON_S - 0.1, NOON_S, True),
        (NOON_S, -float("inf"), True),
    ],
)
def test_one_quiet_decision_a_minute_is_kept(at_s: float, quiet_s: float, kept: bool) -> None:
    """The first of every minute, also when the clock goes back, and the very first."""
    quiet = Decision(state=State(), table=None, reasons={})

    assert worth_keeping(quiet, at_s, quiet_s) is kept


def fleet(entries: int) -> tuple[Asked, Decision]:
    """A decision of a fleet whose proxies told of so many targets, full of what people like to know."""
    world = World(plan_of(CHAT))
    for number in range(entries):
        world.live(f"p{number}", "meta", "ok", 10)
    asked = asked_by(world, busy(Evidence(reports=tuple(world.reports.values()))))
    return asked, decided(asked)[0]


def test_a_small_fleet_is_kept_whole() -> None:
    """Everything that went in stands in the record, read by a rule or not."""
    asked, decision = fleet(LARGE)

    assert record_of(asked, decision, "x").evidence is asked.evidence


def test_of_a_large_fleet_what_no_rule_reads_is_left_out() -> None:
    """A decision that came to something is still replayed exactly."""
    asked, decision = fleet(LARGE + 1)
    told = replace(decision, notes=(Note(at_s=1.0, kind="x", subject="y", text="z"),))
    kept = stored(asked, told)
    assert kept.evidence is not None
    entry, nothing = kept.evidence.reports[0].targets["meta"], TargetReport()

    assert entry.counts == {"ok": 10}
    assert [name for name in UNREAD if getattr(entry, name) != getattr(nothing, name)] == []
    assert len(kept.evidence.reports) == LARGE + 1
    assert replay(kept) == ["note: not given now: x y: z"]


def test_of_a_large_fleet_a_quiet_decision_is_kept_in_brief() -> None:
    """Its reasons and table are there; what went in is not, and a replay says so."""
    asked, decision = fleet(LARGE + 1)
    kept = stored(asked, decision)

    assert not came_to_something(decision)
    assert (kept.state, kept.evidence, kept.came.state, kept.asked) == (None, None, {}, None)
    assert (kept.came.reasons, kept.in_force) == (decision.reasons, asked.published)
    with pytest.raises(RecordError, match="kept without its evidence"):
        replay(kept)


def test_half_of_what_went_in_is_not_enough(kept: Record) -> None:
    """Neither state nor evidence alone can be decided from."""
    assert kept.asked is not None
    assert replace(kept, state=None).asked is None
    assert replace(kept, evidence=None).asked is None


def test_thinning_takes_nothing_else() -> None:
    """Reports keep everything but the named fields, and other evidence is untouched."""
    asked, _ = fleet(2)
    thin = thinned(asked.evidence)

    assert thin != asked.evidence
    assert busy(thin) == asked.evidence
    assert thin.probes is asked.evidence.probes
    assert thin.reports[1].proxy == "p1"


def test_everything_that_came_out_is_kept(trip: tuple[Asked, Decision]) -> None:
    """Each part of a decision stands in its record as it was."""
    asked, decision = trip
    full = replace(
        decision,
        answers=(Answer(word="1-0", ok=True, text="done"),),
        deadlines={"o1": 5.0},
        urgent=True,
        yields=True,
    )
    kept = stored(asked, full)
    parts = [name for name in Decision.__struct_fields__ if name != "state"]

    assert all(getattr(full, name) for name in parts)
    assert {name: getattr(kept.came, name) for name in parts} == {name: getattr(full, name) for name in parts}
    assert kept.came.state == changed(asked.state, decision.state)
    assert kept.by == "pointsman 0.0, a test"


def test_the_table_in_force(kept: Record) -> None:
    """The decided one; the one before if none was decided, or if ours was one that must not be published."""
    published, table = kept.published, kept.came.table
    assert table is not None
    broken = replace(table, routes={})

    assert kept.in_force == table
    assert replace(kept, came=replace(kept.came, table=None)).in_force == published
    assert replace(kept, came=replace(kept.came, table=broken)).in_force == published


# --- what became of the state

STATE = State(
    health={"a": Health(failures=1), "b": Health(failures=2)},
    drains={"a": Drain(owner="ann", reason="x", at_s=1.0)},
)


def test_the_same_state_has_no_digests() -> None:
    """Neither the same object nor an equal one has changed."""
    again = msgspec.json.decode(msgspec.json.encode(STATE), type=State)

    assert changed(STATE, STATE) == changed(STATE, again) == {}


def test_digests_name_what_changed() -> None:
    """An entry that changed, came or went, and a part that is no mapping; nothing else, whatever parts there are."""
    after = replace(
        STATE,
        health={"a": Health(failures=1), "b": Health(failures=3), "c": Health()},
        drains={},
        words_cursor="5-0",
        freeze=Freeze(owner="ann", reason="x", until_s=9.0),
    )
    digests = changed(STATE, after)

    assert digests.keys() == {"health.b", "health.c", "drains.a", "words_cursor", "freeze"}
    assert digests["drains.a"] == "gone"
    assert changed(after, STATE)["freeze"] == "gone"
    assert {len(digest) for name, digest in digests.items() if name != "drains.a"} == {16}


def test_untouched_entries_are_not_compared() -> None:
    """The identity first: an installation of thousands of targets pays for those that changed."""

    class Untouchable(Health, frozen=True):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("an untouched entry was compared")

        __hash__ = None

    same = Untouchable()
    before = State(health={"a": same, "b": Health()})

    assert changed(before, replace(before, health={"a": same, "b": Health(failures=1)})).keys() == {
        "health.b"
    }


def test_digests_tell_values_apart() -> None:
    """Other values have other digests, equal ones the same, in whatever order a mapping was filled."""

    def digest(**shares: int) -> str:
        baseline = Baseline(shares_bp=shares, file_bp={}, author="a", reason="r", at_s=1.0, revision=1)
        return changed(State(), State(baselines={"chat": baseline}))["baselines.chat"]

    assert digest(a=1, b=2) == digest(b=2, a=1) != digest(a=2, b=1)


def test_what_a_later_version_adds_changes_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that has its default is as good as one that is not there yet, at any depth."""

    class Inner(msgspec.Struct, frozen=True, kw_only=True):
        x: int

    class More(msgspec.Struct, frozen=True, kw_only=True):
        x: int
        added: str = ""
        many: tuple[int, ...] = ()

    older = {"a": [Inner(x=1)], "b": (Inner(x=2),)}
    newer = {"a": [More(x=1)], "b": (More(x=2),)}
    other = {"a": [More(x=1, added="y")], "b": (More(x=2),)}

    assert record._digest(older) == record._digest(newer) != record._digest(other)


def test_what_is_written_often_is_written_as_it_is() -> None:
    """What leaves its defaults out by itself, or has no names, is not taken apart."""
    for value in (Health(failures=1), Version(7, 1), "text", 1):
        assert record._lean(value) is value


def test_a_field_that_must_be_given_stays_in_the_digest() -> None:
    """What is 0 and has no default is something."""

    class One(msgspec.Struct, frozen=True):
        x: int

    class Two(msgspec.Struct, frozen=True):
        y: int

    assert record._digest(One(0)) != record._digest(Two(0))


# --- written and read


def test_the_format(kept: Record) -> None:
    """Records say their format, so that another version knows whether it reads them."""
    unpacked = zlib.decompress(encode(kept))

    assert msgspec.json.decode(unpacked)["format"] == RECORD_FORMAT == 1
    with pytest.raises(RecordError, match="the record has format 2; this version reads 1"):
        decode(encode(replace(kept, format=2)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no zlib",
        zlib.compress(b"{"),
        zlib.compress(b"\xff"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'{"format":1}'),
    ],
)
def test_what_is_no_record_is_told(body: bytes) -> None:
    """Whatever somebody else wrote there is an error of one kind."""
    with pytest.raises(RecordError, match="the record is corrupt"):
        decode(body)


def test_half_a_record_is_corrupt(kept: Record) -> None:
    """A body that was cut off."""
    with pytest.raises(RecordError, match="corrupt"):
        decode(encode(kept)[:-100])


def test_a_little_that_unpacks_to_very_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store cannot fill the memory of whoever reads it."""
    monkeypatch.setattr(record, "_UNPACKED_BYTES_MAX", 1000)
    with pytest.raises(RecordError, match="unpacks to more than 1000 bytes"):
        decode(zlib.compress(b" " * 100_000))


def test_a_record_is_much_smaller_than_what_it_says(kept: Record) -> None:
    """It is compressed."""
    assert len(encode(kept)) < len(msgspec.json.encode(kept)) / 2


def test_limits() -> None:
    """How much is kept of how many, and how much a reader unpacks."""
    assert (LARGE, record.QUIET_S, record._UNPACKED_BYTES_MAX) == (300, 60, 268_435_456)


def test_what_is_left_out_is_named_as_it_is() -> None:
    """Every name is one of a report's fields about a target."""
    assert set(UNREAD) < set(TargetReport.__struct_fields__)
    assert "counts" not in UNREAD
