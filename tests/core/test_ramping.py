"""What becomes of a ramp's shares: on the way, overlaid, promoted, aborted, and when nobody renews them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman.core.evidence import Verb
from pointsman.core.model import OnExpiry, Overlay, OverlayKind, RampPlan
from pointsman.core.ramp_model import RampKind, RampPhase
from pointsman.core.ramping import NEVER, running, shares_at, stamp_of
from pointsman.core.table import FULL_BP
from ramps import CANARY, POLICY, a_ramp
from world import CHAT, NOON_S, World, plan_of

NAMES = ("a", "b", "c", "d", "e")
WEIGHTS = st.lists(st.integers(0, 300), min_size=5, max_size=5).filter(any)
RAMPS = RampPlan(canary=POLICY, failover=POLICY, failback=POLICY)


def normal(weights: list[int]) -> dict[str, int]:
    """Shares in proportion to these weights, whole basis points that sum to 10,000."""
    shares = [weight * FULL_BP // sum(weights) for weight in weights]
    shares[shares.index(max(shares))] += FULL_BP - sum(shares)
    return {name: share for name, share in zip(NAMES, shares, strict=True) if share}


@given(WEIGHTS, WEIGHTS, st.lists(st.integers(0, FULL_BP), min_size=2, max_size=6))
def test_shares_on_the_way(before: list[int], after: list[int], places: list[int]) -> None:
    """They sum to the whole, no loser ever gains and no gainer ever loses, and the ends are the ends."""
    ramp = a_ramp(from_bp=normal(before), to_bp=normal(after))
    way = [shares_at(ramp, place) for place in (0, *sorted(places), FULL_BP)]

    assert way[0] == ramp.from_bp
    assert way[-1] == ramp.to_bp
    assert {sum(shares.values()) for shares in way} == {FULL_BP}
    for earlier, later in pairwise(way):
        assert all(later.get(t, 0) <= earlier.get(t, 0) for t in ramp.losers)
        assert all(later.get(t, 0) >= earlier.get(t, 0) for t in ramp.gainers)
        assert all(later[t] == earlier[t] for t in later if t not in {*ramp.losers, *ramp.gainers})


def test_no_rounding_goes_back() -> None:
    """A small gainer between two large ones keeps the basis point that it has."""
    ramp = a_ramp(from_bp={"x": 10_000}, to_bp={"a": 3_000, "b": 1_000, "c": 6_000})
    parts = [shares_at(ramp, place).get("b", 0) for place in range(101)]

    assert parts == sorted(parts)
    assert parts[:6] == [0, 0, 0, 0, 0, 0]
    assert (parts[10], parts[20], parts[100]) == (1, 2, 10)


def test_in_proportion() -> None:
    """What is given goes to those who gain in proportion to what they gain."""
    ramp = a_ramp(from_bp={"x": 8_000, "y": 2_000}, to_bp={"a": 7_500, "b": 2_500})

    assert shares_at(ramp, 1_000) == {"x": 7_200, "y": 1_800, "a": 750, "b": 250}


# --- in a world


def new_world() -> World:
    plan = plan_of({"chat": {"bedrock": 100, "google": 0, "meta": 0}, "small": {"meta": 60, "google": 40}})
    return World(replace(plan, ramp=RAMPS))


@pytest.fixture
def world() -> World:
    made = new_world()
    made.serve("p1")
    return made


def go(world: World, seconds: float = 1.0) -> None:
    """Time with a hundred good requests of each side of chat in each second."""
    for _ in range(round(seconds)):
        world.serve("p1")
        world.moved("p1", "google", 100)
        world.moved("p1", "bedrock", 100)
        world.tick(1.0)


def canary(world: World, **fields: object) -> None:
    world.say(Verb.CANARY, route="chat", **{"from": "bedrock", "to": "google", **fields})
    world.tick()


def over(world: World, route: str = "chat") -> Overlay:
    return next(o for o in world.state.overlays if o.route == route)


def test_a_canary_is_an_overlay(world: World) -> None:
    """While it runs its shares are an overlay that drops by itself; the table says under which stamp, and what then."""
    canary(world)

    assert over(world) == Overlay(
        id="canary:chat:2-0", kind=OverlayKind.CANARY, route="chat", shares_bp={"bedrock": 9_000, "google": 1_000},
        owner="ann", reason="a test", created_s=NOON_S, not_after_s=NOON_S + 60, on_expiry=OnExpiry.DROP,
    )  # fmt: skip
    assert world.table is not None
    assert world.table.routes["chat"].ramp == "canary:chat:2-0#1"
    assert world.table.routes["chat"].later[0].shares_bp == {"bedrock": 10_000}
    assert world.table.routes["small"].ramp == ""
    assert world.state.baselines["chat"].shares_bp == {"bedrock": 10_000, "google": 0, "meta": 0}


def test_it_is_renewed(world: World) -> None:
    """Its deadline moves on when a fifth of it is gone, without another table."""
    canary(world)
    go(world, 11)
    assert over(world).not_after_s == NOON_S + 60
    tables = len(world.tables)
    go(world, 2)

    assert over(world).not_after_s == NOON_S + 72
    assert world.decision is not None
    assert world.decision.deadlines == {"canary:chat:2-0": NOON_S + 72}
    assert len(world.tables) == tables


def test_a_deadline_after_a_clock_that_went_back(world: World) -> None:
    """A deadline too far ahead is brought back to what it may be."""
    canary(world)
    world.tick(-1_000)

    assert over(world).not_after_s == NOON_S - 940


def test_it_is_promoted(world: World) -> None:
    """The end of the way is a new baseline, with its author and reason, and no overlay."""
    canary(world)
    go(world, 110)
    baseline = world.state.baselines["chat"]

    assert world.ramp().phase is RampPhase.PROMOTED
    assert world.state.overlays == ()
    assert (baseline.shares_bp, baseline.author, baseline.reason, baseline.revision) == (
        {"google": 10_000},
        "ann",
        "canary promoted: a test",
        2,
    )
    assert baseline.file_bp == {"bedrock": 10_000, "google": 0, "meta": 0}
    assert world.shares() == {"google": 100}
    assert running(world.state) == []


def test_it_is_aborted(world: World) -> None:
    """An abort puts the weight back in the same decision."""
    canary(world)
    go(world, 70)
    assert world.shares() == {"bedrock": 50, "google": 50}
    world.say(Verb.RAMP_ABORT, route="chat")
    world.tick()

    assert world.shares() == {"bedrock": 100}
    assert world.state.overlays == ()


def test_an_abort_after_promotion(world: World) -> None:
    """While it bakes the baseline is the new one already, under a small control; an abort restores the old one."""
    canary(world, bake_s=600.0)
    go(world, 110)
    assert world.ramp().phase is RampPhase.BAKING
    assert over(world).shares_bp == {"bedrock": 500, "google": 9_500}
    assert world.state.baselines["chat"].shares_bp == {"google": 10_000}
    world.say(Verb.RAMP_ABORT, route="chat", reason="wrong tone")
    world.tick()
    baseline = world.state.baselines["chat"]

    assert world.shares() == {"bedrock": 100}
    assert baseline.shares_bp == {"bedrock": 10_000, "google": 0, "meta": 0}
    assert (baseline.reason, baseline.revision) == ("rolled back: ann: wrong tone", 3)


def test_a_bake_that_ends(world: World) -> None:
    """After its bake the control's share goes over too, and nothing is promoted twice."""
    canary(world, bake_s=60.0)
    go(world, 180)

    assert world.shares() == {"google": 100}
    assert world.state.overlays == ()
    assert world.state.baselines["chat"].revision == 2


def test_a_shift(world: World) -> None:
    """Weights over a duration are the same machine, and a baseline in the end."""
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 5_000, "meta": 5_000}, over_s=100.0)
    world.tick()
    assert world.shares() == {"bedrock": 90, "google": 5, "meta": 5}
    assert over(world).kind is OverlayKind.CANARY
    go(world, 120)

    assert world.shares() == {"google": 50, "meta": 50}
    assert world.state.baselines["chat"].reason == "shift promoted: a test"


def test_a_gradual_failover(world: World) -> None:
    """It is a failover overlay that proxies keep, and stays one at the end of its way."""
    world.say(Verb.FAILOVER, route="chat", mode="gradual", **{"from": "bedrock", "to": "google"})
    world.tick()
    assert (over(world).kind, over(world).on_expiry, over(world).not_after_s) == (
        OverlayKind.FAILOVER,
        OnExpiry.KEEP,
        0.0,
    )
    assert over(world).away == ()
    go(world, 110)

    assert world.ramp().phase is RampPhase.PROMOTED
    assert (over(world).shares_bp, over(world).away) == ({"google": 10_000}, ("bedrock",))
    assert world.state.baselines["chat"].revision == 1


def test_a_gradual_failover_is_aborted(world: World) -> None:
    """Aborted, it leaves no overlay."""
    world.say(Verb.FAILOVER, route="chat", mode="gradual", **{"from": "bedrock", "to": "google"})
    world.tick()
    world.say(Verb.RAMP_ABORT, route="chat")
    world.tick()

    assert world.state.overlays == ()
    assert world.shares() == {"bedrock": 100}


@pytest.mark.parametrize("ends", [True, False])
def test_a_failover_over_a_failover(world: World, ends: bool) -> None:
    """One that began from another failover goes back to that one; at its end both targets are left."""
    world.say(Verb.FAILOVER, route="chat", **{"from": "bedrock", "to": "google"})
    world.say(Verb.FAILOVER, route="chat", mode="gradual", **{"from": "google", "to": "meta"})
    world.tick()
    assert world.shares() == {"google": 90, "meta": 10}
    for _ in range(110):
        world.serve("p1")
        world.moved("p1", "meta", 100)
        world.tick(1.0)
        if world.now_s > NOON_S + 50 and not ends:
            break
    if not ends:
        world.say(Verb.RAMP_ABORT, route="chat")
        world.tick()

    assert over(world).shares_bp == ({"meta": 10_000} if ends else {"google": 10_000})
    assert over(world).away == (("bedrock", "google") if ends else ("bedrock",))


def failed_over(world: World) -> None:
    world.say(Verb.FAILOVER, route="chat", **{"from": "bedrock", "to": "google"})
    world.say(Verb.FAILBACK, route="chat")
    world.tick()


def test_a_failback(world: World) -> None:
    """A failback moves the failover's overlay, share by share, and takes it away at its end."""
    failed_over(world)
    assert over(world).kind is OverlayKind.FAILOVER
    assert over(world).shares_bp == {"google": 9_000, "bedrock": 1_000}
    go(world, 110)

    assert world.state.overlays == ()
    assert world.shares() == {"bedrock": 100}
    assert world.state.baselines["chat"].revision == 1


def test_a_failback_is_aborted(world: World) -> None:
    """Aborted, the failover is back as it was."""
    failed_over(world)
    go(world, 70)
    world.say(Verb.RAMP_ABORT, route="chat")
    world.tick()

    assert (over(world).shares_bp, over(world).away) == ({"google": 10_000}, ("bedrock",))


def test_a_stronger_overlay(world: World) -> None:
    """Under a stronger overlay it holds and counts nothing; once that ends it goes on from where it was."""
    canary(world)
    go(world, 10)
    world.say(Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=20.0)
    world.tick()
    watched_s = world.ramp().watched_s
    assert world.table is not None
    assert stamp_of("chat", world.state) == world.table.routes["chat"].ramp == ""
    assert world.ramp().hold.startswith("overlaid: the manual of ann lies over it (a test)")
    go(world, 15)
    assert world.ramp().watched_s == watched_s
    assert world.shares() == {"meta": 100}
    go(world, 7)

    assert world.shares() == {"bedrock": 90, "google": 10}
    assert world.ramp().watched_s > watched_s


@pytest.mark.parametrize(
    ("ramp", "kind", "overlaid"),
    [
        (RampKind.CANARY, OverlayKind.FAILOVER, True),
        (RampKind.CANARY, OverlayKind.CANARY, False),
        (RampKind.CANARY, OverlayKind.DRILL, False),
        (RampKind.FAILBACK, OverlayKind.FAILOVER, False),
        (RampKind.FAILBACK, OverlayKind.MANUAL, True),
    ],
)
def test_what_is_stronger(world: World, ramp: RampKind, kind: OverlayKind, overlaid: bool) -> None:
    """Stronger is what comes before the ramp's own overlay in the order of intent."""
    canary(world)
    strong = replace(over(world), kind=kind)
    one = replace(world.ramp(), kind=ramp)
    state = replace(world.state, ramps={"chat": one}, overlays=(strong,))

    assert (stamp_of("chat", state) == "") is overlaid


def test_no_stamp() -> None:
    """Where nothing moves, or does not yet, or not any more, there is none."""
    state = World(plan_of(CHAT)).state

    assert stamp_of("chat", state) == ""
    for phase in (RampPhase.PRECHECK, RampPhase.PROMOTED, RampPhase.ABORTED):
        assert stamp_of("chat", replace(state, ramps={"chat": replace(CANARY, phase=phase, entry=2)})) == ""
    assert stamp_of("chat", replace(state, ramps={"chat": replace(CANARY, phase=RampPhase.BLOCKED)})) == "r#0"


# --- who serves it


def test_every_live_proxy(world: World) -> None:
    """It waits for all proxies that live, and for those that are lost no longer than it takes to lose them."""
    world.serve("p2")
    world.tick()
    canary(world)
    go(world, 3)
    assert world.ramp().hold.startswith("serving: not serving yet on p2")
    go(world, 5)

    assert world.ramp().phase is RampPhase.OBSERVING


def test_a_proxy_that_never_served(world: World) -> None:
    """A proxy that tells no version serves nothing."""
    world.beat("p3")
    canary(world)
    world.beat("p3")
    go(world, 2)

    assert "p3" in world.ramp().hold
    assert world.table.version > NEVER  # type: ignore[union-attr, operator]


def test_a_table_that_was_not_published(world: World) -> None:
    """Nothing is observed as long as no table carries the share."""
    canary(world)
    world.table = world.tables[0]
    world.beat("p1", serving=world.table.version)
    world.state = replace(world.state, ramps={"chat": replace(world.ramp(), spread=None)})
    decision = world.tick(0.1)

    assert decision.state.ramps["chat"].hold.startswith("serving: the table with this share is not published")
    world.table = None
    assert world.tick(0.1).state.ramps["chat"].phase is RampPhase.SPREADING
