"""Operators' words about targets, and what all words have in common."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.evidence import Verb, Word
from pointsman.core.model import Drain, Phase, State
from pointsman.core.words import obey
from world import CHAT, NOON_S, World, plan_of

PLAN = plan_of({**CHAT, "small": {"meta": 60, "google": 40}})


@pytest.fixture
def world() -> World:
    return World(PLAN)


def said(world: World, verb: Verb, **args: Any) -> tuple[bool, str]:
    """What the word was answered with."""
    world.say(verb, **args)
    answer = world.tick(1.0).answers[-1]
    return answer.ok, answer.text


# --- what all have in common


def test_an_answer_and_a_note() -> None:
    """A word that is obeyed is answered, and told with who said it and why; the cursor moves."""
    word = Word(id="5-0", verb=Verb.DRAIN, author="ann", reason="because", args={"target": "meta"})
    state, answers, notes = obey(World(PLAN).state, [word], NOON_S)

    assert [(a.word, a.ok, a.text) for a in answers] == [("5-0", True, "meta drained")]
    assert [(n.at_s, n.kind, n.subject, n.text) for n in notes] == [
        (NOON_S, "word.drain", "ann", "ann: meta drained (because)")
    ]
    assert state.words_cursor == "5-0"


def test_a_refusal() -> None:
    """A word that is refused is answered too, moves the cursor, and nothing else."""
    before = World(PLAN).state
    word = Word(id="5-0", verb=Verb.DRAIN, author="ann", reason="because", args={"target": "nobody"})
    state, answers, notes = obey(before, [word], NOON_S)

    assert answers[0].ok is False
    assert notes == []
    assert state == replace(before, words_cursor="5-0")


def test_words_follow_each_other() -> None:
    """The second word sees what the first one did; a refused one in between does no harm."""
    args = [{"target": "meta"}, {"target": "nobody"}, {"target": "google"}, {"target": "bedrock"}]
    words = [
        Word(id=f"{i}-0", verb=Verb.DRAIN, author="a", reason="r", args=given) for i, given in enumerate(args)
    ]
    state, answers, _ = obey(World(plan_of(CHAT)).state, words, NOON_S)

    assert [answer.ok for answer in answers] == [True, False, True, False]
    assert set(state.drains) == {"meta", "google"}
    assert state.words_cursor == "3-0"


def test_a_word_without_a_place() -> None:
    """A word that is only tried has no place in the stream: the cursor stays."""
    before = World(PLAN).state
    state, _, _ = obey(
        before, [Word(id="", verb=Verb.DRAIN, author="a", reason="r", args={"target": "meta"})], 1.0
    )

    assert state.words_cursor == before.words_cursor


EVERY_ARGUMENT: dict[str, Any] = {
    "route": "chat", "target": "meta", "from": "meta", "to": "google", "shares_bp": {"meta": 10_000}, "for_s": 60.0,
    "routes": {"chat": {"meta": 10_000}}, "version": "7.1",
}  # fmt: skip


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.APPLY_PLAN])
def test_no_plan_yet(verb: Verb) -> None:
    """Before the first configuration every other word is refused, and says so."""
    _, answers, _ = obey(
        State(), [Word(id="1-0", verb=verb, author="a", reason="r", args=EVERY_ARGUMENT)], NOON_S
    )

    assert (answers[0].ok, answers[0].text) == (
        False,
        "there is no active configuration yet: start a daemon with one",
    )


@pytest.mark.parametrize(
    ("verb", "missing"),
    [
        (Verb.APPLY_PLAN, "plan"),
        (Verb.SET_WEIGHTS, "route"),
        (Verb.FAILOVER, "from"),
        (Verb.ROLLBACK, "version"),
        (Verb.PIN, "route"),
        (Verb.UNPIN, "route"),
        (Verb.RESET, "target"),
        (Verb.DRAIN, "target"),
        (Verb.UNDRAIN, "target"),
    ],
)
def test_a_word_that_lacks_something(world: World, verb: Verb, missing: str) -> None:
    """A word without one of its arguments is refused, and says which."""
    args = {"for_s": 60.0} if verb is Verb.PIN else {}

    assert said(world, verb, **args) == (False, f"the word lacks '{missing}'")


ODD = [
    None,
    7,
    "chat",
    [],
    ["meta"],
    {"meta": "all"},
    {"meta": None},
    {"meta": [1]},
    {"meta": {}},
    {7: 10_000},
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("verb", list(Verb))
def test_nonsense_is_refused(world: World, verb: Verb, odd: Any) -> None:
    """Whatever stands in a word, it is answered: a word that raised would be read again for ever."""
    before = world.state
    for argument in EVERY_ARGUMENT:
        world.say(verb, **{**EVERY_ARGUMENT, "plan": odd, argument: odd})
    answers = world.tick().answers

    assert len(answers) == len(EVERY_ARGUMENT)
    assert world.state.plan == before.plan


# --- targets


@pytest.mark.parametrize("verb", [Verb.RESET, Verb.DRAIN, Verb.UNDRAIN])
def test_unknown_target(world: World, verb: Verb) -> None:
    """A target that is not there is refused with those that are."""
    assert said(world, verb, target="gogle") == (
        False,
        "there is no target 'gogle'; there are: bedrock, google, meta",
    )


def test_drain(world: World) -> None:
    """A drained target has no share and is in no chain until it is undrained."""
    assert said(world, Verb.DRAIN, target="google") == (True, "google drained")
    assert world.state.drains == {"google": Drain(owner="ann", reason="a test", at_s=NOON_S + 1)}
    assert world.shares() == {"bedrock": 71.43, "meta": 28.57}
    assert world.table is not None
    assert world.table.routes["chat"].chain == ("bedrock", "meta")


def test_undrain(world: World) -> None:
    """An undrained target is back by slow start, as a new generation."""
    said(world, Verb.DRAIN, target="google")

    assert said(world, Verb.UNDRAIN, target="google") == (True, "google back by slow start")
    assert world.shares() == {"bedrock": 69.29, "google": 3, "meta": 27.71}
    assert world.state.health["google"].back_s == NOON_S + 2
    assert world.state.health["google"].generation == int(NOON_S) + 1
    assert world.state.drains == {}


def test_undrain_of_the_undrained(world: World) -> None:
    """Undraining what was not drained changes nothing, and is no mistake."""
    before = world.state.health

    assert said(world, Verb.UNDRAIN, target="google") == (True, "google was not drained")
    assert world.state.health == before


def test_the_last_target_is_not_drained(world: World) -> None:
    """The last target of a route that may serve stays, and the answer names the cure."""
    said(world, Verb.DRAIN, target="meta")

    assert said(world, Verb.DRAIN, target="google") == (
        False,
        "google is the last target of small that may serve: undrain meta (drained by ann: a test) first",
    )
    assert said(world, Verb.DRAIN, target="bedrock") == (True, "bedrock drained")


def test_a_target_that_is_being_drained_is_none_that_is_left(world: World) -> None:
    """It serves for a while yet, and then nobody would."""
    said(world, Verb.DRAIN, target="meta", over_s=600.0)

    assert said(world, Verb.DRAIN, target="google") == (
        False,
        "google is the last target of small that may serve: undrain meta (it is being drained) first",
    )


def test_drain_twice(world: World) -> None:
    """Draining again is obeyed, if there is another left."""
    said(world, Verb.DRAIN, target="meta")

    assert said(world, Verb.DRAIN, target="meta") == (True, "meta drained")


def test_a_pin_outside_the_chain_counts(world: World) -> None:
    """A target that only an overlay uses is one that may serve."""
    said(world, Verb.PIN, route="small", shares_bp={"bedrock": 10_000}, for_s=60.0)
    said(world, Verb.DRAIN, target="meta")

    assert said(world, Verb.DRAIN, target="google")[0]
    ok, text = said(world, Verb.DRAIN, target="bedrock")
    cure = "undrain google (drained by ann: a test) or undrain meta (drained by ann: a test)"
    assert (ok, text) == (False, f"bedrock is the last target of chat that may serve: {cure} first")


def test_a_barred_target_is_none_that_is_left(world: World) -> None:
    """With the other one barred, draining would close the route to every caller."""
    for _ in range(2):
        world.probe("meta", "401")
        world.tick(1.0)

    assert said(world, Verb.DRAIN, target="google") == (
        False,
        "google is the last target of small that may serve: mend meta (barred: HTTP 401) first",
    )
    assert world.shares("small") == {"google": 100}


def test_a_target_that_no_proxy_can_serve_is_none_that_is_left(world: World) -> None:
    """Nor is one that every proxy rejects."""
    world.beat("p1", missing={"meta": "no secret"})

    assert said(world, Verb.DRAIN, target="bedrock")[0]
    world.beat("p1")
    ok, text = said(world, Verb.DRAIN, target="google")
    cure = "undrain bedrock (drained by ann: a test) or mend meta (rejected by every proxy: no secret)"
    assert (ok, text) == (False, f"google is the last target of chat that may serve: {cure} first")


def test_a_cooling_target_is_one_that_is_left(world: World) -> None:
    """One that cools down serves if need be."""
    world.trip("meta")

    assert said(world, Verb.DRAIN, target="google")[0]
    assert world.shares("small") == {"meta": 100}


def test_the_only_target_is_not_drained() -> None:
    """A target that a route has alone is drained after another is added."""
    assert said(World(plan_of({"chat": {"meta": 100}})), Verb.DRAIN, target="meta") == (
        False,
        "meta is the last target of chat that may serve: add another first",
    )


def test_reset(world: World) -> None:
    """A reset ends a cooldown at once, and forgets the failures; the target comes back by slow start."""
    world.trip("bedrock")
    assert said(world, Verb.RESET, target="bedrock") == (True, "bedrock reset: a test")

    health = world.state.health["bedrock"]
    assert (health.phase, health.failures, health.generation) == (Phase.HEALTHY, 0, int(NOON_S) + 1)
    assert world.shares() == {"bedrock": 5, "google": 57, "meta": 38}


def test_a_reset_lasts(world: World) -> None:
    """What a proxy still reports from before a reset does not undo it."""
    world.trip("bedrock")
    world.live("p1", "bedrock", "429")
    world.tick(1.0)
    said(world, Verb.RESET, target="bedrock")
    world.beat("p1")
    world.tick(1.0)

    assert world.phase("bedrock") == "healthy"
    assert world.state.health["bedrock"].throttled_until_s == 0


def test_reset_of_a_stranger(world: World) -> None:
    """A target of which nothing is known yet can be reset."""
    bare = replace(world.state, health={})
    word = Word(id="9-0", verb=Verb.RESET, author="a", reason="r", args={"target": "meta"})

    assert obey(bare, [word], NOON_S)[0].health["meta"].generation == 1


def test_undrain_of_a_stranger(world: World) -> None:
    """And undrained."""
    drains = {
        "meta": Drain(owner="a", reason="r", at_s=1.0),
        "google": Drain(owner="a", reason="r", at_s=1.0),
    }
    word = Word(id="9-0", verb=Verb.UNDRAIN, author="a", reason="r", args={"target": "meta"})
    after = obey(replace(world.state, health={}, drains=drains), [word], NOON_S)[0]

    assert (after.health["meta"].back_s, set(after.drains)) == (NOON_S, {"google"})
