"""A recorded decision is made again exactly, and a rule that changed shows."""

from typing import Any

import pytest
from msgspec.structs import replace
from recorded import SCRIPTS, Made, asked_by, busy, played, stored, tripped

from pointsman.core import breaker
from pointsman.core.asked import Asked
from pointsman.core.decide import decide
from pointsman.core.deciding import decided
from pointsman.core.evidence import Evidence, Verb
from pointsman.core.model import Answer, Decision, State
from pointsman.core.record import Came, Record, came_to_something
from pointsman.core.replay import replay
from pointsman.core.table import Table, Version, table_hash
from world import CHAT, World, plan_of


@pytest.fixture
def trip() -> tuple[Asked, Decision]:
    """The decision on five refused requests, with what it was made from."""
    return tripped()


@pytest.fixture
def kept(trip: tuple[Asked, Decision]) -> Record:
    """Its record."""
    return stored(*trip)


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def scenario(request: pytest.FixtureRequest) -> Made:
    """The decisions of a scenario: all that came to anything, and some hundreds of the quiet ones."""
    made = played(request.param)
    assert len(made) > 3
    every = 1 + len(made) // 300
    return [one for place, one in enumerate(made) if place % every == 0 or came_to_something(one[1])]


def test_every_decision_of_a_scenario_is_replayed_exactly(scenario: Made) -> None:
    """Also after the record has been written and read: the same table, notes, answers, reasons and state."""
    for asked, decision in scenario:
        assert replay(stored(asked, decision)) == []


def test_no_rule_reads_what_large_fleets_leave_out(scenario: Made) -> None:
    """Whatever stands in the fields that are left out, the decision is the same."""
    for asked, decision in scenario:
        assert decided(replace(asked, evidence=busy(asked.evidence))) == (decision, None)


def test_a_changed_rule_shows(kept: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as long a cooldown: what is told, why, and what became of the target are named, and nothing else."""
    whole = breaker.cooldown_s
    monkeypatch.setattr(breaker, "cooldown_s", lambda failures, most_s: whole(failures, most_s) / 2)
    differences = replay(kept)

    assert [line.partition(":")[0] for line in differences] == [
        "note",
        "note",
        "reason chat, bedrock",
        "state",
    ]
    assert "not given now: target.tripped bedrock: marked bedrock failed" in differences[0]
    assert "given now: target.tripped bedrock: marked bedrock failed" in differences[1]
    assert "cooldown until 12:01:00" in differences[2]
    assert " → " in differences[2]
    assert differences[3] == "state: health.bedrock comes out otherwise"


def test_a_changed_table_shows(kept: Record) -> None:
    """Other shares are told as the difference of two tables."""

    def rules(*given: Any, **rest: Any) -> Decision:
        decision = decide(*given, **rest)
        return replace(decision, table=reshared(decision.table, {"meta": 10_000}))

    assert replay(kept, rules) == ["table: route chat: google 60 % → 0 %, meta 40 % → 100 %"]


def reshared(table: Table | None, shares_bp: dict[str, int]) -> Table:
    assert table is not None
    other = replace(
        table, routes={name: replace(route, shares_bp=shares_bp) for name, route in table.routes.items()}
    )
    return replace(other, hash=table_hash(other))


def test_another_version_of_the_table_shows(kept: Record) -> None:
    """The revision counts publications."""

    def rules(*given: Any, **rest: Any) -> Decision:
        decision = decide(*given, **rest)
        assert decision.table is not None
        return replace(decision, table=replace(decision.table, version=Version(7, 9)))

    assert replay(kept, rules) == ["table: 7.2 → 7.9"]


def test_a_difference_of_tables_without_words_shows(kept: Record) -> None:
    """What `diff` does not tell, the hash does."""

    def rules(*given: Any, **rest: Any) -> Decision:
        decision = decide(*given, **rest)
        assert decision.table is not None
        other = replace(decision.table, fleet="another")
        return replace(decision, table=replace(other, hash=table_hash(other)))

    assert replay(kept, rules) == ["table: routes otherwise in a way that has no words"]


def test_a_table_too_few_and_one_too_many_show(kept: Record, trip: tuple[Asked, Decision]) -> None:
    """None where one was published, and the other way round with what it changes."""
    asked, decision = trip

    def publishes_nothing(*given: Any, **rest: Any) -> Decision:
        return replace(decide(*given, **rest), table=None)

    none = stored(asked, replace(decision, table=None))
    assert replay(kept, publishes_nothing) == ["table: 7.2 was published, now none is"]
    assert replay(none, publishes_nothing) == []
    (line,) = replay(none)
    assert line == (
        "table: none was published, now 7.2 is: "
        "route chat: bedrock 50 % → 0 %, google 30 % → 60 %, meta 20 % → 40 %; "
        "route chat: chain bedrock > google > meta → google > meta > bedrock"
    )


def test_the_same_routes_published_again_show(kept: Record) -> None:
    """A table that changes nothing in words."""
    again = replace(kept, published=kept.came.table, came=replace(kept.came, table=None))

    def rules(*given: Any, **rest: Any) -> Decision:
        return replace(decide(*given, **rest), table=rest["published"], notes=kept.came.notes)

    assert replay(again, rules) == ["table: none was published, now 7.2 is: a new form of the same routes"]


def test_other_answers_show(trip: tuple[Asked, Decision]) -> None:
    """What an operator was answered, then and now."""
    asked, decision = trip
    kept = stored(asked, replace(decision, answers=(Answer(word="1-0", ok=True, text="done"),)))

    assert replay(kept) == ["answer: not given now: done"]


def test_another_order_of_notes_shows(trip: tuple[Asked, Decision]) -> None:
    """The same notes in another order are not the same."""
    asked, decision = trip
    kept = stored(asked, replace(decision, notes=decision.notes[::-1]))

    assert len(decision.notes) == 2
    assert replay(kept) == ["note: given now in another order or number"]


@pytest.mark.parametrize(
    ("came", "line"),
    [
        ({"urgent": False}, "urgent: False → True"),
        ({"yields": True}, "yields: True → False"),
        ({"deadlines": {"o1": 5.0}}, "deadline o1: 5.0 → none"),
        ({"reasons": {}}, "reason chat, bedrock: none → "),
        ({"state": {}}, "state: health.bedrock comes out otherwise"),
    ],
)
def test_whatever_came_out_otherwise_shows(kept: Record, came: dict[str, Any], line: str) -> None:
    """Nothing of a decision is left out of the comparison."""
    differences = replay(replace(kept, came=replace(kept.came, **came)))

    assert differences
    assert differences[0].startswith(line)


def test_every_part_of_a_decision_is_compared() -> None:
    """A part that is added to decisions must be recorded too."""
    assert set(Came.__struct_fields__) == set(Decision.__struct_fields__)


def test_rules_that_fail_show(kept: Record) -> None:
    """A version that cannot decide at all says so instead of failing the replay."""

    def rules(*_: Any, **__: Any) -> Decision:
        raise ArithmeticError("planted")

    assert replay(kept, rules) == ["the decision fails: ArithmeticError: planted"]


def test_a_decision_without_its_words_is_replayed_so() -> None:
    """Words that broke the decision break it again, and are refused again."""
    world = World(plan_of(CHAT))
    asked = asked_by(world, Evidence(words=(world_word(world),)))

    def rules(state: State, evidence: Evidence, **rest: Any) -> Decision:
        if evidence.words:
            raise ArithmeticError("planted")
        return decide(state, evidence, **rest)

    decision, failure = decided(asked, rules)
    kept = stored(asked, decision)

    assert failure is not None
    assert replay(kept, rules) == []
    assert any(line.startswith("note: given now: word.drain ann: ") for line in replay(kept))


def world_word(world: World) -> Any:
    world.say(Verb.DRAIN, target="meta")
    return world._words[-1]


def test_the_hash_of_another_version_is_no_difference(trip: tuple[Asked, Decision]) -> None:
    """A version that hashes the same routes otherwise does not see a new table in every one of them."""
    asked, decision = trip
    assert decision.table is not None
    asked = replace(
        asked, published=decision.table, published_s=0.0, state=decision.state, evidence=Evidence()
    )
    quiet, _ = decided(asked)
    assert quiet.table is None
    older = replace(decision.table, hash="of another version")

    assert replay(stored(replace(asked, published=older), quiet)) == []


def test_an_empty_table_in_place_of_none_stays_without_a_hash(trip: tuple[Asked, Decision]) -> None:
    """A store that lost its table is given a new one by a replay too."""
    asked, _ = trip
    assert asked.published is not None
    empty = replace(asked, published=replace(asked.published, routes={}, targets={}, hash=""))
    seen: list[str] = []

    def rules(*given: Any, **rest: Any) -> Decision:
        seen.append(rest["published"].hash)
        return decide(*given, **rest)

    decision, _ = decided(empty)
    assert replay(stored(empty, decision), rules) == []
    assert seen == [""]
