"""Operators' words that begin a ramp: what each does, and every refusal."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from test_words import said

from pointsman.core.evidence import Verb
from pointsman.core.model import Bucket, Health, RampPlan
from pointsman.core.ramp_model import (
    CANARY_STEPS,
    ExternalGate,
    ExternalKind,
    RampKind,
    RampPolicy,
    Step,
)
from world import NOON_S, World, plan_of

SMOKE = ExternalGate(name="smoke", kind=ExternalKind.WEBHOOK, url="")
RATE = ExternalGate(name="rate", kind=ExternalKind.PROMETHEUS, url="")
RULES = RampPolicy(steps=CANARY_STEPS, external=(SMOKE, RATE), approvals=(2_500,), require=("cost",))
ROUTES = {"chat": {"bedrock": 50, "google": 30, "meta": 20}, "small": {"meta": 60, "google": 40}}


@pytest.fixture
def world() -> World:
    made = World(replace(plan_of(ROUTES), ramp=RampPlan(canary=RampPolicy(steps=CANARY_STEPS))))
    made.serve("p1")
    return made


def start(world: World, source: str = "bedrock", goal: str = "google", **args: Any) -> tuple[bool, str]:
    return said(world, Verb.CANARY, **{"route": "chat", "from": source, "to": goal, **args})


def steer(world: World, verb: Verb, **args: Any) -> tuple[bool, str]:
    return said(world, verb, route="chat", **args)


# --- canary start


def test_canary(world: World) -> None:
    """A canary moves a target's share to another, by the policy's steps."""
    assert start(world) == (
        True,
        (
            "canary on chat: bedrock → google by 5 % → 10 % → 25 % → 50 % → 75 % → 100 % of its 50 %"
            "; bedrock has no traffic now, and what is held for 4 h is rolled back"
        ),
    )
    ramp = world.ramp()
    assert (ramp.id, ramp.kind, ramp.source, ramp.goal) == (
        "canary:chat:2-0",
        RampKind.CANARY,
        "bedrock",
        "google",
    )
    assert ramp.from_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert ramp.to_bp == {"google": 8_000, "meta": 2_000}
    assert (ramp.owner, ramp.reason, ramp.created_s) == ("ann", "a test", NOON_S + 1)
    assert ramp.policy == RampPolicy(steps=CANARY_STEPS)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"to": "bedrock"}, "a canary from bedrock to itself moves nothing"),
        ({"route": "chta"}, "there is no route 'chta'; there are: chat, small"),
        ({"from": "gogle"}, "there is no target 'gogle'; there are: bedrock, google, meta"),
        ({"to": "gogle"}, "there is no target 'gogle'; there are: bedrock, google, meta"),
        (
            {"route": "small"},
            "bedrock has no share of small: there is nothing to move (meta 60 %, google 40 %)",
        ),
        ({"steps": [10, 5]}, "steps must grow from above 0 to 100: --steps 5,10,25,50,75,100"),
        ({"steps": [5, 5]}, "steps must grow from above 0 to 100: --steps 5,10,25,50,75,100"),
        ({"steps": [0, 5]}, "steps must grow from above 0 to 100: --steps 5,10,25,50,75,100"),
        ({"steps": [5, 101]}, "steps must grow from above 0 to 100: --steps 5,10,25,50,75,100"),
        ({"steps": [100]}, "a canary needs a step before 100 %: use weights set to move all at once"),
        ({"steps": 5}, "steps must be a list"),
        ({"steps": ["5"]}, "steps must be a number that is not negative"),
        ({"samples": 5}, "samples must be a list"),
        ({"samples": [-1]}, "samples must be a number that is not negative"),
        ({"hold_s": "5m"}, "hold_s must be a number that is not negative"),
        ({"hold_s": True}, "hold_s must be a number that is not negative"),
        ({"hold_s": float("nan")}, "hold_s must be a number that is not negative"),
        ({"first_hold_s": -1}, "first_hold_s must be a number that is not negative"),
        ({"bake_s": 1e10}, "bake_s must be a number that is not negative"),
        ({"max_hold_s": []}, "max_hold_s must be a number that is not negative"),
        ({"budget_usd": "1"}, "budget_usd must be a number that is not negative"),
        ({"require": "cost"}, "require must be a list"),
        (
            {"require": ["serving"]},
            "there is no gate to require 'serving'; there are: accuracy, cache_hits, cost, latency",
        ),
        ({"approve": 50}, "approve must be a list"),
        (
            {"approve": [20]},
            "there is no step at 20 %; the steps are: 5 %, 10 %, 25 %, 50 %, 75 %, 100 %",
        ),
        ({"gates": "smoke"}, "gates must be a list"),
        ({"gates": ["smoke"]}, "there is no external gate 'smoke'; there are: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_canary_refused(world: World, args: dict[str, Any], text: str) -> None:
    """What cannot be meant is refused with what is wrong and what there is."""
    assert start(world, **args) == (False, text)
    assert world.state.ramps == {}


def test_another_family() -> None:
    """A canary does not leave the route's protocol family."""
    both = plan_of({"chat": {"bedrock": 100}, "talk": {"claude": 100}}, families={"claude": "anthropic"})

    assert start(World(both), goal="claude") == (
        False,
        "claude speaks another protocol family than route chat (openai)",
    )


def test_a_second_canary(world: World) -> None:
    """One ramp at a time moves a route; another route is free, and so is this one after its end."""
    start(world)
    assert start(world, "meta") == (
        False,
        (
            "canary on chat (bedrock → google) is under way: wait for its end, or end it "
            "(pointsman canary abort chat)"
        ),
    )
    assert start(world, "meta", "google", route="small")[0]
    steer(world, Verb.RAMP_ABORT)
    assert start(world, "meta")[0]


def test_a_canary_under_a_failover(world: World) -> None:
    """It begins from the baseline, not from what lies over it, and says that it waits."""
    said(world, Verb.FAILOVER, **{"route": "chat", "from": "bedrock", "to": "google"})
    ok, text = start(world, "google", "meta")

    assert ok
    assert text.endswith("; the failover of ann lies over it until it ends")
    assert world.ramp().from_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}


@pytest.mark.parametrize(
    ("args", "requests", "told"),
    [
        ({}, 300, "; at the 1 requests/s of bedrock now its samples take about 82 min"),
        ({}, 15, ("; at the 0.05 requests/s of bedrock now its samples take about 27.2 h, "
         "too long at 5 %: what is held for 4 h is rolled back")),
        ({"max_hold_s": 30_000}, 15, "; at the 0.05 requests/s of bedrock now its samples take about 27.2 h"),
        ({"samples": [0]}, 15, ""),
        ({"synthetic": True}, 0, ""),
    ],
    ids=["enough", "too little", "patient", "no floor", "made"],
)  # fmt: skip
def test_how_long_its_samples_take(world: World, args: dict[str, Any], requests: int, told: str) -> None:
    """By the traffic of the side that it leaves, and whether a step is rolled back for that."""
    bucket = Bucket(start_s=NOON_S - 10, counts={"ok": requests - 1, "outage": 1, "caller": 1000})
    health = {**world.state.health, "bedrock": Health(window=(bucket,) if requests else ())}
    world.state = replace(world.state, health=health)
    ok, text = start(world, **args)
    assert ok
    assert text.partition(" of its 50 %")[2] == told


def policy(world: World, **args: Any) -> RampPolicy:
    assert start(world, **args)[0]
    return world.ramp().policy


def test_steps(world: World) -> None:
    """Own steps take hold and floor of the policy's step that is not less far, and end at 100 %."""
    assert policy(world, steps=[7, 50, 80]).steps == (
        Step(progress_bp=700, hold_s=120, samples=150),
        Step(progress_bp=5_000, hold_s=120, samples=300),
        Step(progress_bp=8_000, hold_s=0, samples=0),
        Step(progress_bp=10_000, hold_s=0, samples=0),
    )


def test_steps_beyond_the_policys(world: World) -> None:
    """A step further than any of the policy's is as its last."""
    short = RampPolicy(steps=(Step(progress_bp=1_000, hold_s=9.0, samples=9),))
    plan = replace(plan_of(ROUTES, digest="second"), ramp=RampPlan(canary=short))
    said(world, Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan))

    assert policy(world, steps=[50, 100]).steps[0] == Step(progress_bp=5_000, hold_s=9, samples=9)


def test_holds_and_floors(world: World) -> None:
    """Holds and floors may be said, the first hold apart; the last step asks for nothing."""
    steps = policy(world, steps=[10, 20, 30], first_hold_s=0, hold_s=30, samples=[5, 0]).steps

    assert [(step.hold_s, step.samples) for step in steps] == [(0, 5), (30, 0), (30, 0), (0, 0)]


def test_a_hold_for_all(world: World) -> None:
    """One hold is all steps'."""
    assert [step.hold_s for step in policy(world, steps=[10, 20], hold_s=30).steps] == [30, 30, 0]


def test_a_first_hold_alone(world: World) -> None:
    """The first hold is the first step's alone."""
    assert [step.hold_s for step in policy(world, steps=[5, 10], first_hold_s=7).steps] == [7, 120, 0]


def test_other_rules(world: World) -> None:
    """What else differs from the policy may be said too, zeros as well."""
    changed = policy(
        world,
        bake_s=0,
        max_hold_s=0,
        budget_usd=0,
        synthetic=True,
        require=["cost", "latency"],
        approve=[50, 100],
    )

    assert (changed.bake_s, changed.max_hold_s, changed.budget_usd, changed.synthetic) == (0, 0, 0, True)
    assert changed.require == ("cost", "latency")
    assert changed.approvals == (5_000, 10_000)


def ruled() -> World:
    return World(replace(plan_of(ROUTES), ramp=RampPlan(canary=RULES)))


def test_which_gates() -> None:
    """Of the configured external gates all are asked, or those that are named, or none."""
    assert policy(ruled()).external == (SMOKE, RATE)
    assert policy(ruled(), gates=["rate"]).external == (RATE,)
    assert policy(ruled(), gates=[]).external == ()


def test_what_is_not_said() -> None:
    """What is not said is the policy's."""
    rules = policy(ruled(), require=[], approve=[], steps=[], samples=[], synthetic=False, bake_s=None)

    assert rules == RULES


# --- weights over a duration


def test_shift(world: World) -> None:
    """Weights over a duration go there in ten steps of a tenth each, asking nobody."""
    made = ruled()
    assert said(made, Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000}, over_s=300.0) == (
        True,
        "chat: step by step within 300 s to google 100 %",
    )
    ramp = made.ramp()

    assert (ramp.kind, ramp.source, ramp.goal) == (RampKind.SHIFT, "", "")
    assert ramp.from_bp == {"bedrock": 5_000, "google": 3_000, "meta": 2_000}
    assert ramp.to_bp == {"google": 10_000}
    assert [step.progress_bp for step in ramp.policy.steps] == list(range(1_000, 10_001, 1_000))
    assert {(step.hold_s, step.samples) for step in ramp.policy.steps} == {(30.0, 0)}
    assert (ramp.policy.approvals, ramp.policy.external, ramp.policy.require, ramp.policy.bake_s) == (
        (),
        (),
        (),
        0,
    )


def test_shift_refused(world: World) -> None:
    """Not to where it is already, nor in no time, nor while something moves."""
    here = {"bedrock": 5_000, "google": 3_000, "meta": 2_000}

    assert said(world, Verb.SET_WEIGHTS, route="chat", shares_bp=here, over_s=60.0) == (
        False,
        "chat has these shares already: bedrock 50 %, google 30 %, meta 20 %",
    )
    assert not said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"meta": 10_000}, over_s=-1.0)[0]
    start(world)
    for over_s in (None, 60.0):
        ok, text = said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"meta": 10_000}, over_s=over_s)
        assert (ok, text[:45]) == (False, "canary on chat (bedrock → google) is under wa")


def test_shift_under_a_pin(world: World) -> None:
    """It says what lies over it."""
    said(world, Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=60.0)

    assert said(world, Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000}, over_s=60.0)[1].endswith(
        "to google 100 %; the manual of ann lies over it until it ends"
    )
