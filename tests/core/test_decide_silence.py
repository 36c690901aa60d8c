"""The whole policy in silence: is it the target, or the leader's own way out?"""

import pytest

from pointsman.core.evidence import ProbeKind
from world import CHAT, World, plan_of

REACH = ProbeKind.REACH


@pytest.fixture
def world() -> World:
    return World(plan_of(CHAT))


def silence(world: World, *providers: str) -> None:
    for provider in providers:
        world.probe(provider, "unreachable", REACH)


def test_everybody_is_silent(world: World) -> None:
    """If every provider falls silent at once, the leader's own way out is suspected, and nobody ejected."""
    for _ in range(5):
        silence(world, "bedrock", "google", "meta")
        world.tick(2.0)

    assert world.state.egress_suspect
    assert world.told("egress") == [
        "every provider is silent at once: this daemon's own way out is suspected, nobody is ejected by probes"
    ]
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}


def test_an_answer_ends_the_suspicion(world: World) -> None:
    """One answer, and the way out is fine; what was silent is not ejected for what was before."""
    for _ in range(3):
        silence(world, "bedrock", "google", "meta")
        world.tick(2.0)
    world.probe("google", "ok", REACH)
    world.live("p1", "bedrock", "400")
    world.tick(2.0)

    assert world.told("egress")[1:] == ["providers answer again: the daemon's way out is fine"]
    assert world.phase("bedrock") == "suspect"
    silence(world, "bedrock")
    world.tick(2.0)
    assert world.phase("bedrock") == "cooldown"


def test_silence_with_an_answer_before(world: World) -> None:
    """Not even one that fell silent first is ejected while everybody is silent."""
    silence(world, "bedrock")
    world.tick(2.0)
    world.probe("google", "ok", REACH)
    world.probe("meta", "ok", REACH)
    world.tick(2.0)
    silence(world, "google", "meta", "bedrock")
    world.tick(2.0)
    silence(world, "bedrock")
    world.tick(2.0)

    assert world.phase("bedrock") == "suspect"


def test_one_is_silent(world: World) -> None:
    """Silence of one while another answers is its own."""
    for _ in range(3):
        world.tick(2.0)
        silence(world, "bedrock")
        world.probe("google", "ok", REACH)
    world.tick(0.5)

    assert world.phase("bedrock") == "cooldown"


def test_its_own_answer_proves_nothing(world: World) -> None:
    """That it had answered itself does not prove the way for its silence."""
    world.probe("bedrock", "ok", REACH)
    world.probe("google", "ok", REACH)
    world.tick(1.0)
    for _ in range(3):
        silence(world, "bedrock")
        world.tick(2.0)

    assert world.phase("bedrock") == "suspect"


def test_an_older_answer_of_another_proves_enough(world: World) -> None:
    """An answer of another since the run began counts, though it has itself answered later, with a refusal."""
    silence(world, "bedrock")
    world.tick(1.0)
    for provider, text in (("google", "ok"), ("bedrock", "429")):
        world.probe(provider, text, REACH)
        world.tick(1.0)
    for _ in range(2):
        silence(world, "bedrock")
        world.tick(1.0)

    assert world.phase("bedrock") == "cooldown"


def test_traffic_proves_the_way(world: World) -> None:
    """Traffic that succeeds elsewhere since the run began is proof enough."""
    for _ in range(3):
        silence(world, "bedrock")
        world.live("p1", "google", "ok")
        world.tick(2.0)

    assert world.phase("bedrock") == "cooldown"


def test_a_single_provider() -> None:
    """With a single provider there is nobody to compare: silence is believed."""
    world = World(plan_of({"chat": {"bedrock": 100}}))
    for _ in range(3):
        silence(world, "bedrock")
        world.tick(2.0)

    assert world.phase("bedrock") == "cooldown"
    assert not world.state.egress_suspect


def test_a_blind_leader_yields(world: World) -> None:
    """A leader whose probes find nobody while traffic succeeds yields; and ejects nobody who has no traffic."""
    for _ in range(4):
        silence(world, "bedrock", "google", "meta")
        world.live("p1", "google", "ok")
        yields = world.tick(1.0).yields
        assert yields

    assert world.phase("bedrock") == "suspect"
    assert not world.tick(0.5).yields


@pytest.mark.parametrize(("old_s", "yields"), [(5.0, True), (5.1, False)])
def test_an_old_success_is_no_reason_to_yield(world: World, old_s: float, yields: bool) -> None:
    """A success counts for five seconds."""
    silence(world, "bedrock", "google", "meta")
    world.live("p1", "google", "ok")

    assert world.tick(old_s).yields is yields


def test_seeing_leader_does_not_yield(world: World) -> None:
    """A leader that sees somebody leads on."""
    silence(world, "bedrock", "google")
    world.probe("meta", "ok", REACH)
    world.live("p1", "google", "ok")

    assert not world.tick().yields
