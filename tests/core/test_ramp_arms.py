"""From reports to the two sides of a ramp: each request counts once, whoever tells of it and however often."""

import msgspec
import pytest
from msgspec.structs import replace

from pointsman.core.arms import FAILING, STAMPS_KEPT, news, opened, pairs, sides, with_news
from pointsman.core.evidence import ArmReport, Verb
from pointsman.core.model import RampPlan, Vantage
from pointsman.core.ramp_model import Arm, Tally, Verdict
from pointsman.core.ramping import fresh
from pointsman.core.stats import merged
from ramps import CANARY, POLICY, a_ramp, begun, seen
from world import NOON_S, World, plan_of


@pytest.fixture
def world() -> World:
    plan = plan_of({"chat": {"bedrock": 100, "google": 0}})
    made = World(replace(plan, ramp=RampPlan(canary=POLICY)))
    made.serve("p1")
    return made


def canary(world: World) -> None:
    world.say(Verb.CANARY, route="chat", **{"from": "bedrock", "to": "google"})
    world.tick()


# --- what is new in a report


def test_what_counts_as_failed() -> None:
    """Everything that a caller suffers from is a failure; what is the caller's own fault is in neither count."""
    counts = {"ok": 1, "caller": 2, "content_filter": 3, "abandoned": 4, "outage": 5, "overload": 6, "rate_limit": 7,
              "capacity": 8, "credential": 9, "quota": 10}  # fmt: skip
    arm = news([(ArmReport(counts=counts, synthetic={"ok": 3, "outage": 2, "caller": 1}), None)])

    assert (arm.ok, arm.failed, arm.requests) == (1, 45, 46)
    assert (arm.synthetic_ok, arm.synthetic_failed) == (3, 2)
    assert len(FAILING) == 6


def test_failures_by_caller() -> None:
    """Failures are known by caller, each counted once, and together where two proxies saw the same caller."""
    first, second = ArmReport(failing={3: 2}), ArmReport(failing={3: 5, 9: 1})

    assert news([(second, first)]).failing == {3: 3, 9: 1}
    assert news([(first, None), (second, None)]).failing == {3: 7, 9: 1}
    assert merged([Arm(failing={3: 1}), Arm(failing={3: 1, 4: 2})]).failing == {3: 2, 4: 2}


def test_what_is_new() -> None:
    """Of what grows only the difference counts; maps of callers are as they are."""
    old = ArmReport(counts={"ok": 5, "outage": 1}, latency_ms={3: 5, 4: 1}, cost_usd=1.0, priced=5, callers=3)
    new = ArmReport(
        counts={"ok": 7, "outage": 1, "overload": 1}, latency_ms={3: 5, 4: 2, 9: 1}, first_token_ms={2: 1},
        cost_usd=1.5, priced=7, callers=7, callers_failing=4, synthetic={"ok": 2},
    )  # fmt: skip

    assert news([(new, old)]) == Arm(
        ok=2, failed=1, latency_ms={4: 1, 9: 1}, first_token_ms={2: 1}, cost_usd=0.5, priced=2, callers=7,
        callers_failing=4, synthetic_ok=2,
    )  # fmt: skip


def test_nothing_is_ever_taken_away() -> None:
    """A report that tells less than the one before tells nothing."""
    old = ArmReport(counts={"ok": 5}, latency_ms={3: 5}, cost_usd=1.0, priced=5)

    assert news([(ArmReport(), old)]) == Arm()


def test_several_reports() -> None:
    """What several proxies tell of one target is summed, and their callers are those of all."""
    one = ArmReport(counts={"ok": 1}, latency_ms={3: 1}, cost_usd=0.5, priced=1, callers=1)
    other = ArmReport(counts={"ok": 2, "outage": 1}, latency_ms={3: 2}, callers=6, callers_failing=2)

    assert news([(one, None), (other, one)]) == Arm(
        ok=2, failed=1, latency_ms={3: 2}, cost_usd=0.5, priced=1, callers=7, callers_failing=2
    )
    assert news([]) == Arm()


# --- tallies


def test_an_unknown_stamp() -> None:
    """What was seen under another ramp's stamp, or under none that is known, is left out."""
    ramp = begun()

    assert with_news(ramp, {"other#1": {"google": Arm(ok=5)}}) is ramp
    assert with_news(ramp, {"r#1": {"google": Arm()}}) is ramp
    assert with_news(ramp, {}) is ramp


def test_an_older_stamp() -> None:
    """A straggler counts under the share that it was sent by."""
    ramp = begun(seen(begun(), (5, 0)), 1)
    after = with_news(
        ramp, {"r#1": {"google": Arm(ok=2), "meta": Arm(ok=1)}, "r#2": {"google": Arm(failed=1)}}
    )

    assert after.tallies["r#1"].arms["google"].ok == 7
    assert after.tallies["r#1"].arms["meta"] == Arm(ok=1)
    assert after.tallies["r#2"].arms == {"google": Arm(failed=1)}


def test_a_new_stamp() -> None:
    """A new step has an empty tally; of older ones the counts stay, without their histograms, the last forty."""
    ramp = replace(
        CANARY,
        tallies={"r#1": Tally(step=0, arms={"google": Arm(ok=5, latency_ms={3: 5}, first_token_ms={1: 1})})},
    )
    after = opened(begun(replace(ramp, entry=1), 1))

    assert after.tallies["r#1"] == Tally(step=0, arms={"google": Arm(ok=5)})
    assert after.tallies["r#2"] == Tally(step=1)
    many = begun(replace(CANARY, tallies={f"r#{n}": Tally(step=0) for n in range(90)}, entry=99))
    assert len(many.tallies) == STAMPS_KEPT + 1
    assert "r#89" in many.tallies


def test_the_two_sides() -> None:
    """Who gains is the moved side, who loses the control; who does neither is no part of it."""
    ramp = begun(a_ramp(from_bp={"a": 6_000, "b": 2_000, "c": 2_000}, to_bp={"d": 8_000, "c": 2_000}))
    arms = {"a": Arm(ok=1), "b": Arm(ok=2), "c": Arm(ok=4), "d": Arm(failed=8), "e": Arm(ok=16)}
    ramp = replace(ramp, tallies={"r#1": Tally(step=0, arms=arms)})

    assert pairs(ramp, ("r#1",)) == [(Arm(failed=8), Arm(ok=3))]
    assert pairs(ramp, ("r#7",)) == [(Arm(), Arm())]
    both = sides([(Arm(ok=1), Arm(ok=2)), (Arm(ok=1, failed=1), Arm())])
    assert (both.moved, both.control) == (Arm(ok=2, failed=1), Arm(ok=2))
    assert both.share == 0.6
    assert sides([]).share == 0


# --- which reports count


def vantage(boot: str = "b1", seq: int = 1, troubled: bool = False, **arms: ArmReport) -> Vantage:
    return Vantage(boot=boot, seq=seq, seen_s=NOON_S, troubled=troubled, arms={"r#1": arms} if arms else {})


def ok(count: int) -> ArmReport:
    return ArmReport(counts={"ok": count})


def counted(known: dict[str, Vantage], now: dict[str, Vantage]) -> int:
    return sum(arm.ok for arms in fresh(known, now).values() for arm in arms.values())


def test_read_twice() -> None:
    """What was counted of the same proxy and boot is not counted again."""
    before = {"p1": vantage(google=ok(5))}

    assert counted({}, before) == 5
    assert counted(before, before) == 0
    assert counted(before, {"p1": vantage(seq=2, google=ok(7))}) == 2
    assert counted(before, {"p1": vantage(seq=2, google=ok(5), meta=ok(3))}) == 3


def test_another_boot() -> None:
    """After a reboot its counts begin from nothing."""
    assert counted({"p1": vantage(google=ok(5))}, {"p1": vantage("b2", google=ok(4))}) == 4


def test_several_proxies() -> None:
    """What several proxies saw of one target is summed."""
    seen = fresh({}, {"p1": vantage(google=ok(5)), "p2": vantage(google=ok(4))})

    assert seen["r#1"]["google"].ok == 9


def test_a_troubled_proxy() -> None:
    """What a proxy in trouble of its own saw counts nothing, also when it is well again."""
    troubled = {"p1": vantage(troubled=True, google=ok(50))}

    assert counted({}, troubled) == 0
    assert counted(troubled, {"p1": vantage(seq=2, google=ok(51))}) == 1


def test_a_proxy_that_was_silent_for_long(world: World) -> None:
    """Its part in a ramp that is under way is remembered, and not counted twice when it comes back."""
    world.say(Verb.CANARY, route="chat", hold_s=5_000.0, **{"from": "bedrock", "to": "google"})
    world.tick()
    world.serve("p2")
    world.moved("p2", "google", 100)
    world.tick(1)
    for _ in range(70):
        world.serve("p1")
        world.tick(10)
    world.moved("p2", "google", 1)
    world.tick(1)

    assert world.ramp().tallies[world.ramp().stamp].arms["google"].ok == 101
    assert "p2" in world.state.vantages


def test_a_lost_save(world: World) -> None:
    """A decision that was not saved is made again from the same reports, and comes to the same."""
    canary(world)
    world.moved("p1", "google", 100)
    world.tick(1)
    state = world.state
    world.moved("p1", "google", 3, 2)
    world.tick(1)
    lost, world.state = world.state, msgspec.json.decode(msgspec.json.encode(state), type=type(state))
    world.tick()

    assert world.ramp().tallies == lost.ramps["chat"].tallies


def test_an_external_answer(world: World) -> None:
    """An answer reaches the ramp that it is for, and takes the place of the one before."""

    canary(world)
    world.gate("smoke", Verdict.HOLD, "late")
    world.gate("smoke", Verdict.PASS, "fine")
    world.tick(1)
    assert world.ramp().answers["smoke"].why == "fine"
    world.say(Verb.RAMP_ABORT, route="chat")
    world.tick()
    canary(world)

    assert world.ramp().answers == {}
