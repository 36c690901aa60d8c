"""Operators' words about shares."""

from typing import Any

import pytest
from msgspec.structs import replace
from test_words import said

from pointsman.core.evidence import Verb, Word
from pointsman.core.model import OnExpiry, Overlay, OverlayKind
from pointsman.core.words import obey
from world import CHAT, NOON_S, World, plan_of

PLAN = plan_of({**CHAT, "small": {"meta": 60, "google": 40}})


@pytest.fixture
def world() -> World:
    return World(PLAN)


def overlay(world: World, route: str = "chat") -> Overlay:
    return next(o for o in world.state.overlays if o.route == route)


# --- weights


def test_set_weights(world: World) -> None:
    """Promoted weights are a new baseline; what the file said is remembered."""
    assert said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"meta": 2500, "google": 7500}) == (
        True,
        "baseline 2 of chat: meta 25 %, google 75 %",
    )
    baseline = world.state.baselines["chat"]
    assert (baseline.author, baseline.reason, baseline.at_s) == ("ann", "a test", NOON_S + 1)
    assert baseline.file_bp == {"bedrock": 5000, "google": 3000, "meta": 2000}
    assert world.shares() == {"google": 75, "meta": 25}


SHARES: list[tuple[Any, str]] = [
    ({"google": 9_999}, "the shares of chat sum to 99.99 %, not to 100 %"),
    ({"google": 10_001}, "the share of google must be between 0 % and 100 %"),
    ({"google": -1, "meta": 10_001}, "the share of google must be between 0 % and 100 %"),
    ({"google": 10_000.0}, "the share of google must be between 0 % and 100 %"),
    ({"google": True}, "the share of google must be between 0 % and 100 %"),
    ({}, "the shares of chat sum to 0 %, not to 100 %"),
    ({"gogle": 10_000}, "there is no target 'gogle'; there are: bedrock, claude, google, meta"),
    ({"claude": 10_000}, "claude speaks another protocol family than route chat (openai)"),
    ([], "shares_bp must be a mapping of names"),
]


@pytest.mark.parametrize(("shares", "text"), SHARES, ids=[text for _, text in SHARES])
@pytest.mark.parametrize("verb", [Verb.SET_WEIGHTS, Verb.PIN])
def test_wrong_shares(verb: Verb, shares: Any, text: str) -> None:
    """Shares that are none are refused with what is wrong with them."""
    both = plan_of({**CHAT, "talk": {"claude": 100}}, families={"claude": "anthropic"})

    assert said(World(both), verb, route="chat", shares_bp=shares, for_s=60.0) == (False, text)


def test_unknown_route(world: World) -> None:
    """A route that is not there is refused with those that are."""
    text = "there is no route 'chta'; there are: chat, small"

    assert said(world, Verb.SET_WEIGHTS, route="chta", shares_bp={"google": 10_000}) == (False, text)
    assert said(world, Verb.UNPIN, route="chta") == (False, text)
    assert said(world, Verb.FAILBACK, route="chta") == (False, text)
    assert said(world, Verb.FAILOVER, **{"from": "google", "route": "chta"}) == (False, text)


# --- failover


def test_failover(world: World) -> None:
    """A failover moves the whole share, on every route that uses the target, until it is taken back."""
    assert said(world, Verb.FAILOVER, **{"from": "google", "to": "bedrock"}) == (
        True,
        (
            "failover: chat: google → bedrock, now bedrock 80 %, meta 20 %; "
            "small: google → bedrock, now meta 60 %, bedrock 40 %"
        ),
    )
    assert overlay(world) == Overlay(
        id="failover:chat:2-0", kind=OverlayKind.FAILOVER, route="chat", shares_bp={"bedrock": 8000, "meta": 2000},
        owner="ann", reason="a test", created_s=NOON_S + 1, not_after_s=0.0, on_expiry=OnExpiry.KEEP,
        away=("google",),
    )  # fmt: skip


def test_failover_of_one_route(world: World) -> None:
    """With a route it is that route's only, and with a duration until then."""
    said(
        world,
        Verb.FAILOVER,
        **{"from": "google", "to": "bedrock", "route": "small", "for_s": 60, "emergency": True},
    )

    assert [(o.route, o.kind, o.not_after_s) for o in world.state.overlays] == [
        ("small", OverlayKind.EMERGENCY, NOON_S + 61)
    ]


def test_failover_of_nothing(world: World) -> None:
    """What has no share cannot be moved."""
    text = "bedrock has no share of small: there is nothing to move"

    assert said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "small"}) == (False, text)
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google"})
    assert said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google"}) == (
        False,
        "bedrock has no share of any route: there is nothing to move",
    )


def test_failover_to_itself(world: World) -> None:
    """From a target to itself is no failover."""
    assert said(world, Verb.FAILOVER, **{"from": "google", "to": "google"}) == (
        False,
        "a failover from google to itself moves nothing: name another with --to",
    )


@pytest.mark.parametrize("ends", [{"from": "gogle"}, {"from": "google", "to": "gogle"}])
def test_failover_of_strangers(world: World, ends: dict[str, str]) -> None:
    """Both ends must be targets."""
    ok, text = said(world, Verb.FAILOVER, **ends)

    assert not ok
    assert text.startswith("there is no target 'gogle'")


@pytest.mark.parametrize("for_s", [0, -1, 366 * 86_400 + 1, float("nan"), float("inf"), "60", True, [60]])
def test_durations(world: World, for_s: Any) -> None:
    """A duration is more than nothing and at most 366 days."""
    text = "the duration must be more than 0 s and at most 366 days"

    assert said(world, Verb.FAILOVER, **{"from": "google", "to": "meta", "for_s": for_s}) == (False, text)
    assert said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=for_s) == (False, text)


def test_the_longest_duration(world: World) -> None:
    """366 days is one."""
    assert said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=366 * 86_400)[0]


def test_failover_adds_to_failover(world: World) -> None:
    """A second failover starts from what the first one made of it."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google", "route": "chat"})
    said(world, Verb.FAILOVER, **{"from": "google", "to": "meta", "route": "chat"})

    assert [o.shares_bp for o in world.state.overlays] == [{"meta": 10_000}]


def test_failover_after_an_expired_pin(world: World) -> None:
    """A pin that is over in this very moment is not what a failover starts from."""
    said(world, Verb.PIN, route="chat", shares_bp={"bedrock": 10_000}, for_s=10)
    world.say(Verb.FAILOVER, **{"from": "bedrock", "to": "google", "route": "chat"})
    world.tick(10)

    assert overlay(world).shares_bp == {"google": 8000, "meta": 2000}


def test_covered(world: World) -> None:
    """A word that a stronger overlay lies over says so."""
    pin = {"route": "chat", "shares_bp": {"meta": 10_000}, "for_s": 60.0}
    said(world, Verb.PIN, **pin)
    said(world, Verb.FAILOVER, **{"from": "meta", "to": "google", "route": "chat"})
    assert said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"meta": 10_000})[1].endswith(
        "meta 100 %; the manual of ann lies over it until it ends"
    )
    assert said(world, Verb.FAILOVER, **{"from": "meta", "to": "google", "route": "chat"})[1].endswith(
        "now google 100 %; the manual of ann lies over it until it ends"
    )
    assert not said(world, Verb.PIN, **pin)[1].endswith("ends")
    said(world, Verb.FAILOVER, **{"from": "meta", "to": "google", "route": "chat", "emergency": True})
    assert said(world, Verb.PIN, **pin)[1].endswith("; the emergency of ann lies over it until it ends")
    assert not said(
        world, Verb.FAILOVER, **{"from": "google", "to": "meta", "route": "chat", "emergency": True}
    )[1].endswith("ends")


# --- the choice


def chosen(world: World) -> str:
    ok, text = said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "chat"})
    return next(iter(overlay(world).shares_bp.keys() - {"bedrock", "meta"}), "meta") if ok else text


def test_first_of_the_chain(world: World) -> None:
    """Without a goal, the first healthy target of the chain that is another."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "chat"})

    assert overlay(world).shares_bp == {"google": 8000, "meta": 2000}


@pytest.mark.parametrize("trouble", ["drained", "cooling", "slow start", "softened"])
def test_not_who_is_unwell(world: World, trouble: str) -> None:
    """Who is drained or not at full strength is not chosen."""
    if trouble == "drained":
        world.say(Verb.DRAIN, target="google")
    elif trouble == "cooling":
        world.live("p1", "google", "refused", 5)
    elif trouble == "softened":
        world.live("p1", "google", "slow_down")
    else:
        health = replace(world.state.health["google"], back_s=NOON_S)
        world.state = replace(world.state, health={**world.state.health, "google": health})
    world.tick()
    said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "chat"})

    assert overlay(world).shares_bp == {"google": 3000, "meta": 7000}


def test_nobody_is_well(world: World) -> None:
    """With nobody well to choose it is refused, and says how to insist."""
    world.trip("google")
    world.trip("meta")

    assert said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "chat"}) == (
        False,
        "no other target of chat is healthy: name one with --to if it must be",
    )


@pytest.mark.parametrize(
    ("fates", "shares"),
    [
        ({"bedrock": "claude", "google": "claude"}, {"google": 3000, "meta": 7000}),
        ({"bedrock": "claude", "google": "claude", "meta": "claude"}, {"google": 8000, "meta": 2000}),
        ({"google": "claude"}, {"google": 8000, "meta": 2000}),
        ({"bedrock": "claude", "google": "gemini"}, {"google": 8000, "meta": 2000}),
    ],
)
def test_shared_fate(fates: dict[str, str], shares: dict[str, int]) -> None:
    """One that does not share the source's fate goes before one that does; that one before nobody."""
    world = World(plan_of(CHAT, fates=fates))
    said(world, Verb.FAILOVER, **{"from": "bedrock", "route": "chat"})

    assert overlay(world).shares_bp == shares


def test_choice_of_a_stranger(world: World) -> None:
    """A target of which nothing is known yet may be chosen."""
    word = Word(id="", verb=Verb.FAILOVER, author="a", reason="r", args={"from": "bedrock", "route": "chat"})
    after = obey(replace(world.state, health={}), [word], 12.3456)[0]

    assert after.overlays[0].id == "failover:chat:12346"


# --- failback


def test_failback(world: World) -> None:
    """A failback now ends every failover, and who gains comes back by slow start as a new generation."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google"})
    assert said(world, Verb.FAILBACK, now=True) == (
        True,
        "failback by slow start to chat: bedrock 50 %, google 30 %, meta 20 %",
    )
    health = world.state.health

    assert world.state.overlays == ()
    assert (health["bedrock"].back_s, health["bedrock"].generation) == (NOON_S + 2, int(NOON_S) + 1)
    assert (health["google"].back_s, health["google"].generation) == (0, int(NOON_S))
    assert world.shares() == {"bedrock": 5, "google": 57, "meta": 38}


def test_failback_of_one(world: World) -> None:
    """By route or by the target whose share comes back, only those."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "bedrock"})
    said(world, Verb.FAILBACK, target="bedrock", now=True)
    assert [o.route for o in world.state.overlays] == ["small"]

    said(world, Verb.FAILOVER, **{"from": "google", "to": "bedrock", "route": "chat", "emergency": True})
    said(world, Verb.FAILBACK, route="small", now=True)
    assert [o.route for o in world.state.overlays] == ["chat"]

    said(world, Verb.FAILBACK, target="google", now=True)
    assert world.state.overlays == ()


def test_failback_leaves_pins(world: World) -> None:
    """A pin is no failover: it ends by unpin, and stays over what comes back."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google", "route": "chat"})
    said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)

    assert said(world, Verb.FAILBACK, now=True) == (True, "failback by slow start to chat: meta 100 %")
    assert [o.kind for o in world.state.overlays] == [OverlayKind.MANUAL]


@pytest.mark.parametrize(
    ("args", "where"), [({}, "any route"), ({"route": "chat"}, "chat"), ({"target": "nobody"}, "any route")]
)
def test_failback_of_nothing(world: World, args: dict[str, str], where: str) -> None:
    """With no failover there is nothing to come back from; a pin is none."""
    said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)

    assert said(world, Verb.FAILBACK, **args) == (False, f"there is no failover on {where} to come back from")


def test_failback_of_a_stranger(world: World) -> None:
    """Who gains and is not known yet begins with a slow start too."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google", "route": "chat"})
    word = Word(id="9-0", verb=Verb.FAILBACK, author="a", reason="r", args={"now": True})

    assert obey(replace(world.state, health={}), [word], NOON_S)[0].health["bedrock"].generation == 1


# --- pins


def test_pin(world: World) -> None:
    """A pin holds exactly its shares until its time."""
    assert said(world, Verb.PIN, route="chat", shares_bp={"google": 2500, "meta": 7500}, for_s=60) == (
        True,
        "chat pinned to google 25 %, meta 75 % until 12:01:01",
    )
    assert overlay(world) == Overlay(
        id="manual:chat:2-0", kind=OverlayKind.MANUAL, route="chat", shares_bp={"google": 2500, "meta": 7500},
        owner="ann", reason="a test", created_s=NOON_S + 1, not_after_s=NOON_S + 61, on_expiry=OnExpiry.KEEP,
    )  # fmt: skip


def test_forced_pin(world: World) -> None:
    """A forced pin drops by itself: it must not outlive whoever watches it."""
    _, text = said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60, force=True)

    assert text == "chat pinned to meta 100 % until 12:01:01, health ignored"
    assert (overlay(world).force, overlay(world).on_expiry) == (True, OnExpiry.DROP)


def test_pin_without_end(world: World) -> None:
    """A pin needs a duration."""
    args = {"route": "chat", "shares_bp": {"meta": 10_000}}

    assert said(world, Verb.PIN, **args) == (False, "a pin needs a duration: --for 10m")
    assert said(world, Verb.PIN, **args, for_s=None) == (False, "a pin needs a duration: --for 10m")


def test_unpin(world: World) -> None:
    """Unpin ends this route's pin, and nothing else."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "bedrock", "route": "chat"})
    for route in ("chat", "small"):
        said(world, Verb.PIN, route=route, shares_bp={"meta": 10_000}, for_s=60.0)

    assert said(world, Verb.UNPIN, route="chat") == (True, "chat unpinned, now bedrock 80 %, meta 20 %")
    assert [(o.kind.value, o.route) for o in world.state.overlays] == [
        ("failover", "chat"),
        ("manual", "small"),
    ]


def test_unpin_of_the_unpinned(world: World) -> None:
    """The way back is never refused: unpinning what is not pinned is no mistake."""
    said(world, Verb.FAILOVER, **{"from": "google", "to": "bedrock", "route": "chat"})

    assert said(world, Verb.UNPIN, route="chat") == (True, "chat was not pinned")
    assert len(world.state.overlays) == 1


# --- rollback

THEN = {"chat": {"meta": 10_000}, "gone": {"nobody": 10_000}, "small": {"google": 10_000}}


def test_rollback(world: World) -> None:
    """A rollback pins the weights of then, on the routes that there are, without an end unless one is said."""
    assert said(world, Verb.ROLLBACK, version="7.1", routes=THEN) == (
        True,
        "pinned to table 7.1: chat: meta 100 %; small: google 100 %",
    )
    assert [(o.kind.value, o.route, o.not_after_s) for o in world.state.overlays] == [
        ("manual", "chat", 0), ("manual", "small", 0),
    ]  # fmt: skip


def test_rollback_for_a_while(world: World) -> None:
    """With a duration it ends then."""
    said(world, Verb.ROLLBACK, version="7.1", routes={"chat": {"meta": 10_000}}, for_s=60.0)

    assert overlay(world).not_after_s == NOON_S + 61


def test_rollback_is_not_forced(world: World) -> None:
    """Only what expires may be forced: a rollback never is."""
    said(world, Verb.ROLLBACK, version="7.1", routes=THEN, force=True)

    assert (overlay(world).force, overlay(world).on_expiry) == (False, OnExpiry.KEEP)


def test_rollback_to_what_is_gone(world: World) -> None:
    """A table with no route of today cannot be gone back to; one with a target that is gone is refused whole."""
    assert said(world, Verb.ROLLBACK, version="7.1", routes={"gone": {"x": 10_000}}) == (
        False, "table 7.1 has no route that exists today",
    )  # fmt: skip
    assert not said(world, Verb.ROLLBACK, version="7.1", routes={**THEN, "small": {"nobody": 10_000}})[0]
    assert world.state.overlays == ()
