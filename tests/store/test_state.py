"""Saving the state: fenced, compared and set, and only what changed."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from pointsman.core.model import (
    Answer,
    Baseline,
    Bucket,
    Decision,
    Drain,
    Freeze,
    Health,
    Note,
    OnExpiry,
    Overlay,
    OverlayKind,
    Path,
    Phase,
    Plan,
    State,
    Vantage,
)
from pointsman.core.ramp_model import CANARY_STEPS, Ramp, RampKind, RampPolicy
from pointsman.core.rollout_model import (
    ReportKind,
    Rollout,
    RolloutPhase,
    RolloutReport,
    Seen,
    StagePlan,
)
from pointsman.store import codec
from pointsman.store.client import Lease, Store
from pointsman.store.errors import Conflict, Fenced, StoreError
from pointsman.store.keys import Keys

pytestmark = pytest.mark.anyio

Decide = Callable[..., Decision]

BASELINE = Baseline(
    shares_bp={"a": 10_000}, file_bp={"a": 10_000}, author="ops", reason="first", at_s=1.0, revision=1
)
OVERLAY = Overlay(
    id="o1",
    kind=OverlayKind.MANUAL,
    route="fast/one:2",
    shares_bp={"a": 10_000},
    owner="ops",
    reason="pinned",
    created_s=1.0,
    not_after_s=2.0,
    on_expiry=OnExpiry.KEEP,
)
RAMP = Ramp(
    id="canary:fast/one:2:1", kind=RampKind.CANARY, route="fast/one:2", source="a", goal="b", from_bp={"a": 10_000},
    to_bp={"b": 10_000}, policy=RampPolicy(steps=CANARY_STEPS), owner="ops", reason="cheaper", created_s=1.0,
)  # fmt: skip
NOTHING = Seen(since_s=1.0)
ROLLOUT = Rollout(
    name="gateway", route="fast/one:2", source="a", goal="b",
    stage=StagePlan(environment="development", soak_s=60.0, again_soak_s=90.0), report_hour=9, owner="ops",
    reason="cheaper", created_s=1.0, phase=RolloutPhase.SOAKING, since_s=2.0, looked_s=2.0, total=NOTHING,
    week=NOTHING, day=NOTHING, hour=NOTHING,
)  # fmt: skip
REPORT = RolloutReport(
    rollout="gateway", kind=ReportKind.DAILY, environment="development", route="fast/one:2", source="a", goal="b",
    attempt=1, phase=RolloutPhase.SOAKING, began_s=1.0, since_s=1.0, at_s=7.0, p95_ms=500.0,
)  # fmt: skip
FULL = State(
    health={
        "a": Health(phase=Phase.COOLDOWN, failures=3, window=(Bucket(10.0, {"outage": 3}),)),
        "b": Health(),
    },
    baselines={"fast/one:2": BASELINE},
    overlays=(OVERLAY,),
    drains={"b": Drain(owner="ops", reason="repair", at_s=3.0)},
    vantages={
        "proxy-1": Vantage(boot="x", seq=4, seen_s=5.0, counts={"a": {"ok": 9}}, missing={"b": "no key"})
    },
    words_cursor="5-1",
    paths={"anthropic": Path(answered_s=1.0, silent_s=2.0, detail="connection refused")},
    egress_suspect=True,
    plan=Plan(environment="development", fleet="default", providers={}, targets={}, routes={}, revision=3),
    ramps={"fast/one:2": RAMP},
    freeze=Freeze(owner="ops", reason="holidays", until_s=9.0),
    rollouts={"gateway": ROLLOUT},
    reports={"gateway": (REPORT,)},
)


async def test_round_trip(store: Store, lease: Lease, decide: Decide) -> None:
    """Every field of a state comes back as it was saved, with the next revision."""
    saved = await store.save(lease, None, decide(FULL))
    assert saved == replace(FULL, revision=1)
    assert await store.load_state() == saved


def test_the_round_trip_covers_every_field() -> None:
    """No field of the state above has its default: one that is added later must be added there."""
    plain = State()
    same = [name for name in State.__struct_fields__ if getattr(FULL, name) == getattr(plain, name)]
    assert same == ["format", "revision"]


async def test_nothing_stored(store: Store) -> None:
    """A fresh store has no state."""
    assert await store.load_state() is None


async def test_removed_entries_are_gone(store: Store, lease: Lease, decide: Decide) -> None:
    """What is no longer in the state is no longer in the store either."""
    saved = await store.save(lease, None, decide(FULL))
    less = replace(saved, health={"a": saved.health["a"]}, vantages={}, plan=None, overlays=(), drains={})
    saved = await store.save(lease, saved, decide(less))
    assert await store.load_state() == saved == replace(less, revision=2)


async def test_moved_state_is_a_conflict(store: Store, lease: Lease, decide: Decide) -> None:
    """A decision made from an older revision is refused with both revisions named, and changes nothing."""
    first = await store.save(lease, None, decide(FULL))
    second = await store.save(lease, first, decide(replace(first, words_cursor="6-0")))
    with pytest.raises(Conflict, match=r"has revision 2, not 1"):
        await store.save(lease, first, decide(replace(first, words_cursor="7-0"), notes=(_note(),)))
    assert await store.load_state() == second
    assert await store.events() == []


async def test_first_save_over_something_is_a_conflict(store: Store, lease: Lease, decide: Decide) -> None:
    """Who thinks that the store is fresh does not overwrite what is there."""
    await store.save(lease, None, decide(FULL))
    with pytest.raises(Conflict):
        await store.save(lease, None, decide(State()))


async def test_old_epoch_is_refused(store: Store, lease: Lease, decide: Decide) -> None:
    """A leader that was replaced while it was paused cannot save; the message names both epochs."""
    await store.release(lease)
    successor = await store.acquire("daemon-b", 60.0, 0)
    assert successor is not None
    with pytest.raises(
        Fenced, match=rf"epoch {lease.epoch} of daemon-a .* daemon-b leads with epoch {successor.epoch}"
    ):
        await store.save(lease, None, decide(FULL))
    assert await store.load_state() is None


async def test_over_lease_is_refused(store: Store, lease: Lease, decide: Decide) -> None:
    """A lease that is over does not write, even if nobody took it."""
    await store.release(lease)
    with pytest.raises(Fenced, match=rf"its lease is over, and the last epoch is {lease.epoch}"):
        await store.save(lease, None, decide(FULL))


async def test_newer_format_is_not_read(store: Store, keys: Keys, lease: Lease, decide: Decide) -> None:
    """An older daemon does not lead what a newer one has written."""
    await store.save(lease, None, decide(FULL))
    await store._wire.write("HSET", keys.state, "format", "999")
    with pytest.raises(StoreError, match="newer format"):
        await store.load_state()


async def test_unreadable_part_is_named(store: Store, keys: Keys, lease: Lease, decide: Decide) -> None:
    """What cannot be decoded is told with the key that holds it."""
    await store.save(lease, None, decide(FULL))
    await store._wire.write("HSET", keys.state, "h:a", "{")
    with pytest.raises(StoreError, match=r"default:state h:a in the store is not readable"):
        await store.load_state()


async def test_part_of_another_version_is_left_alone(
    store: Store, keys: Keys, lease: Lease, decide: Decide
) -> None:
    """A field that this version does not know is no error, and stays."""
    saved = await store.save(lease, None, decide(FULL))
    await store._wire.write("HSET", keys.state, "z:new", "1")
    assert await store.load_state() == saved
    await store.save(lease, saved, decide(replace(saved, egress_suspect=False)))
    assert await store._wire.read("HGET", keys.state, "z:new") == b"1"


async def test_notes_and_answers_are_written_with_the_state(
    store: Store, lease: Lease, decide: Decide
) -> None:
    """One save writes state, events and answers."""
    answers = (Answer(word="1-1", ok=True, text="done"), Answer(word="1-2", ok=False, text="no such route"))
    await store.save(lease, None, decide(FULL, notes=(_note("one"), _note("two")), answers=answers))
    assert [note.text for _, note in await store.events()] == ["one", "two"]
    assert await store.answer("1-1", 1.0) == answers[0]
    assert await store.answer("1-2", 1.0) == answers[1]


async def test_event_stream_is_trimmed(store_url: str, keys: Keys, decide: Decide) -> None:
    """The event stream does not grow for ever."""
    async with Store.connect(store_url, keys, timeout_s=5.0, events_length=10) as store:
        lease = await store.acquire("daemon-a", 60.0, 0)
        assert lease is not None
        await store.save(
            lease, None, decide(State(), notes=tuple(_note(str(number)) for number in range(1000)))
        )
        kept = await store.events(1000)
        assert len(kept) < 250
        assert kept[-1][1].text == "999"
        await store.clear()


async def test_ten_thousand_targets(store: Store, lease: Lease, decide: Decide) -> None:
    """A state of 10,000 targets is saved and read whole."""
    large = State(health={f"t{number}": Health(failures=number) for number in range(10_000)})
    saved = await store.save(lease, None, decide(large))
    assert await store.load_state() == saved


def test_only_what_changed_is_written() -> None:
    """One target of 10,000 changed: one field is written, and no untouched one is compared or encoded."""
    health = {f"t{number}": _Untouchable() for number in range(10_000)}
    before = State(health=health, words_cursor="1-0")
    after = replace(before, health={**health, "t7": Health(failures=1)}, words_cursor="2-0")
    changes = codec.changes(before, after)
    assert set(changes.put) == {"h:t7", "words_cursor"}
    assert changes.drop == ()


class _Untouchable(Health, frozen=True):
    """Fails when it is compared, so that only its identity can have been looked at."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("an untouched entry was compared")

    __hash__ = None


def test_equal_parts_are_not_written() -> None:
    """What was built anew but is equal is not written again."""
    again = msgspec.json.decode(msgspec.json.encode(FULL), type=State)
    assert codec.changes(FULL, again) == codec.Changes({}, ())


def _note(text: str = "it happened") -> Note:
    return Note(at_s=1.0, kind="test", subject="a", text=text, data={"count": 3})
