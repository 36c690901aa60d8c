"""The word that brings a configuration."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from test_words import said

from pointsman.core.evidence import Verb, Word
from pointsman.core.model import Health, OverlayKind, Phase, State
from pointsman.core.words import obey
from world import CHAT, NOON_S, World, plan_of

PLAN = plan_of({**CHAT, "small": {"meta": 60, "google": 40}})


@pytest.fixture
def world() -> World:
    return World(PLAN)


def applied(world: World, plan: Any) -> tuple[bool, str]:
    return said(world, Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan), author="file", reason="reload")


def test_first_configuration(world: World) -> None:
    """The first configuration is revision 1, and its weights the baselines."""
    assert world.state.plan == replace(PLAN, revision=1)
    assert world.told("word.apply_plan") == ["file: configuration revision 1 is active (first start)"]
    baseline = world.state.baselines["chat"]
    assert baseline.shares_bp == baseline.file_bp == {"bedrock": 5000, "google": 3000, "meta": 2000}
    assert (baseline.author, baseline.reason, baseline.at_s, baseline.revision) == (
        "file",
        "first start",
        NOON_S,
        1,
    )


def test_first_configuration_over_what_is_known() -> None:
    """What is known of a target from before any configuration is kept."""
    word = Word(
        id="1-0", verb=Verb.APPLY_PLAN, author="f", reason="r", args={"plan": msgspec.to_builtins(PLAN)}
    )
    after, answers, _ = obey(State(health={"meta": Health(failures=3)}), [word], NOON_S)

    assert answers[0].ok
    assert after.health["meta"].failures == 3


def test_the_same_configuration(world: World) -> None:
    """The same content is no new revision."""
    before = world.state

    assert applied(world, PLAN) == (True, "the configuration is active already, as revision 1")
    assert world.state.plan == before.plan


def test_weights_of_the_file(world: World) -> None:
    """A reload changes a route's weights only where the file's own value changed."""
    said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"meta": 10_000})
    said(world, Verb.SET_WEIGHTS, route="small", shares_bp={"meta": 10_000})
    new = plan_of({**CHAT, "small": {"meta": 70, "google": 30}}, digest="second")

    assert applied(world, new) == (True, "configuration revision 2 is active")
    chat, small = world.state.baselines["chat"], world.state.baselines["small"]
    assert (chat.shares_bp, chat.author, chat.revision) == ({"meta": 10_000}, "ann", 2)
    assert (small.shares_bp, small.author, small.reason, small.revision) == (
        {"meta": 7000, "google": 3000}, "file", "reload", 3,
    )  # fmt: skip
    assert small.at_s == NOON_S + 3


def test_promoted_weights_of_all_there_is(world: World) -> None:
    """Promoted weights that use every target there is stay as long as those do."""
    shares = {"bedrock": 1000, "google": 1000, "meta": 8000}
    said(world, Verb.SET_WEIGHTS, route="chat", shares_bp=shares)
    applied(world, plan_of({**CHAT, "small": {"meta": 100}}, digest="second"))

    assert world.state.baselines["chat"].shares_bp == shares


def test_promoted_weights_of_what_is_gone(world: World) -> None:
    """Promoted weights that use a removed target give way to the file's."""
    said(world, Verb.SET_WEIGHTS, route="small", shares_bp={"bedrock": 10_000})
    new = plan_of({"small": {"meta": 60, "google": 40}}, digest="second")
    applied(world, new)

    assert world.state.baselines.keys() == {"small"}
    assert world.state.baselines["small"].shares_bp == {"meta": 6000, "google": 4000}


def test_what_is_removed_is_forgotten(world: World) -> None:
    """Health, drain and path of what is removed go with it; the rest stays."""
    for target in ("bedrock", "meta"):
        world.probe(target, "ok")
        said(world, Verb.DRAIN, target=target)
    applied(world, plan_of({"chat": {"google": 50, "meta": 50}}, digest="second"))

    assert world.state.health.keys() == {"google", "meta"}
    assert world.state.drains.keys() == {"meta"}
    assert world.state.paths.keys() == {"meta"}
    assert world.phase("meta") == "healthy"


def test_a_target_that_moved(world: World) -> None:
    """A target that is now somewhere else is a stranger; one that is not keeps its standing."""
    world.trip("bedrock")
    world.trip("google")
    targets = {**PLAN.targets, "bedrock": replace(PLAN.targets["bedrock"], model="new")}
    applied(world, replace(PLAN, targets=targets, digest="second"))
    health = world.state.health["bedrock"]

    assert (health.phase, health.generation, health.since_s) == (Phase.UNKNOWN, int(NOON_S) + 1, world.now_s)
    assert world.phase("google") == "cooldown"


def test_a_provider_that_moved(world: World) -> None:
    """So is one whose provider has another address."""
    world.trip("bedrock")
    providers = {
        **PLAN.providers,
        "bedrock": replace(PLAN.providers["bedrock"], base_url="https://else.test"),
    }
    applied(world, replace(PLAN, providers=providers, digest="second"))

    assert world.phase("bedrock") == "unknown"


def test_a_target_that_is_new(world: World) -> None:
    """Health that stands for a target from before the plan knew it is kept."""
    health = {**world.state.health, "fresh": replace(world.state.health["meta"], failures=3)}
    world.state = replace(world.state, health=health)

    assert applied(world, plan_of({"chat": {"fresh": 100}}, digest="second"))[0]
    assert world.state.health["fresh"].failures == 3


@pytest.mark.parametrize("routes", [{"other": {"bedrock": 100, "google": 0}}, {"chat": {"bedrock": 100}}])
def test_refused_while_a_failover_depends(world: World, routes: dict[str, dict[str, int]]) -> None:
    """Neither the route nor the target that a failover uses can be taken away under it."""
    said(world, Verb.FAILOVER, **{"from": "bedrock", "to": "google", "route": "chat"})

    assert applied(world, plan_of(routes, digest="second")) == (
        False,
        (
            "failover on route chat depends on what the new configuration removes: "
            "end it first (pointsman unpin chat, or pointsman failback chat)"
        ),
    )
    assert world.state.plan is not None
    assert world.state.plan.digest == "first"


def test_what_an_overlay_does_not_use(world: World) -> None:
    """A target with nothing in the overlay may go."""
    said(world, Verb.PIN, route="chat", shares_bp={"google": 10_000, "meta": 0}, for_s=600.0)

    assert applied(world, plan_of({"chat": {"bedrock": 50, "google": 50}}, digest="second"))[0]
    assert world.state.overlays[0].kind is OverlayKind.MANUAL


def test_a_broken_configuration(world: World) -> None:
    """Something that is no configuration is refused."""
    ok, text = said(world, Verb.APPLY_PLAN, plan={"environment": "production"})

    assert not ok
    assert "missing required field" in text


# --- ramps


MOVES = {"from": "bedrock", "to": "google"}


def test_a_ramp_in_the_way(world: World) -> None:
    """What a ramp that runs moves between must stay; how to go on is said."""
    said(world, Verb.CANARY, route="chat", **MOVES)
    without = plan_of(
        {"chat": {"bedrock": 50, "meta": 50}, "small": {"meta": 60, "bedrock": 40}}, digest="second"
    )

    assert applied(world, without) == (
        False,
        (
            "the canary on route chat depends on what the new configuration removes: "
            "end it first (pointsman canary abort chat)"
        ),
    )


def test_a_route_that_a_ramp_moves(world: World) -> None:
    """So must its route."""
    said(world, Verb.CANARY, route="chat", **MOVES)

    assert not applied(world, plan_of({"small": {"meta": 50, "google": 40, "bedrock": 10}}, digest="second"))[
        0
    ]


def test_weights_that_a_ramp_moves(world: World) -> None:
    """A file that sets the weights of a route that a ramp moves waits for its end; other routes' do not."""
    said(world, Verb.CANARY, route="chat", **MOVES)
    other = plan_of(
        {"chat": {"bedrock": 40, "google": 40, "meta": 20}, "small": {"meta": 60, "google": 40}}, digest="2"
    )
    elsewhere = plan_of({**CHAT, "small": {"meta": 50, "google": 50}}, digest="3")

    assert applied(world, other) == (
        False,
        (
            "the canary on route chat moves its weights, and the new configuration sets them: "
            "wait for its end, or end it (pointsman canary abort chat)"
        ),
    )
    assert applied(world, elsewhere)[0]
    assert world.ramp().phase.value == "spreading"


def test_ramps_that_are_over(world: World) -> None:
    """A ramp that is over is in nobody's way, and is forgotten with its route."""
    said(world, Verb.CANARY, route="chat", **MOVES)
    said(world, Verb.RAMP_ABORT, route="chat")
    said(world, Verb.CANARY, route="small", **{"from": "meta", "to": "google"})
    said(world, Verb.RAMP_ABORT, route="small")

    assert applied(world, plan_of(CHAT, digest="second"))[0]
    assert set(world.state.ramps) == {"chat"}
