"""Words about rollouts: what they answer, and what they refuse with what to do instead."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rollouts import CAUSE, HOUR_S, RolloutWorld, go_of, rollout_plan, stage

from pointsman.core.evidence import Verb
from pointsman.core.model import Plan
from pointsman.core.rollout_model import RolloutPhase
from world import CHAT, World, plan_of

START, AGAIN, STOP = Verb.ROLLOUT_START, Verb.ROLLOUT_AGAIN, Verb.ROLLOUT_STOP
WORDS = (START, AGAIN, STOP, Verb.ROLLOUT_GO, Verb.ROLLOUT_APPROVE, Verb.ROLLOUT_OVERRULE)


def refused(world: RolloutWorld, verb: Verb, **args: object) -> str:
    """What the word was refused with; it changes nothing."""
    before = world.state.rollouts
    text = world.word(verb, **args)
    assert world.decision is not None
    assert not world.decision.answers[-1].ok
    assert {n: replace(o, looked_s=0.0, watched_s=0.0) for n, o in world.state.rollouts.items()} == {
        n: replace(o, looked_s=0.0, watched_s=0.0) for n, o in before.items()
    }
    return text


def in_phase(phase: str, environment: str = "development", **fields: Any) -> RolloutWorld:
    """A rollout that has come to stand there by itself."""
    world = RolloutWorld(environment, **fields)
    if phase == "none":
        return world
    world.word(START)
    if phase == "waiting":
        return world
    if phase in {"soaking", "approving", "go", "rolled_back"}:
        world.pass_(120.0)
    if phase in {"approving", "go"}:
        world.pass_(4 * HOUR_S)
    if phase == "rolled_back":
        world.word(STOP)
    if phase == "stopped":
        world.pass_(120.0)
        world.word(STOP, keep=True)
    assert world.one.phase.value == phase
    return world


@pytest.mark.parametrize("verb", WORDS)
def test_an_unknown_rollout(verb: Verb) -> None:
    """The refusal names those that there are."""
    text = refused(RolloutWorld(), verb, name="gatway")

    assert text == "there is no rollout 'gatway'; there are: elsewhere, gateway"


@pytest.mark.parametrize("verb", WORDS)
def test_no_rollout_is_configured(verb: Verb) -> None:
    """The refusal says where one is written."""
    world = World(plan_of(CHAT))
    world.say(verb, name="gateway")
    world.tick()

    assert world.answer() == "no rollout is configured: write one under rollouts: in the file"


@pytest.mark.parametrize("verb", WORDS)
def test_a_word_without_a_name(verb: Verb) -> None:
    """Is refused like one with a name that nobody knows."""
    world = RolloutWorld()
    world.say(verb)
    world.tick()

    assert world.answer().startswith("there is no rollout ''")


@pytest.mark.parametrize("verb", [START, AGAIN])
def test_a_freeze_keeps_rollouts_from_beginning(verb: Verb) -> None:
    """A stop acts all the same."""
    world = in_phase("soaking")
    world.say(Verb.FREEZE, for_s=600.0)
    assert refused(world, verb, root_cause=CAUSE).startswith("all movement is frozen until")
    world.word(STOP)

    assert world.one.phase is RolloutPhase.ROLLED_BACK


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("ramping", "rollout gateway runs already: it is ramping (nothing holds it)"),
        ("soaking", "rollout gateway runs already: it is soaking (soak: 4 h must be watched)"),
        (
            "rolled_back",
            "rollout gateway was rolled back (stopped by ann: a test): find the root cause, then "
            'pointsman rollout again gateway --root-cause "…"',
        ),
        (
            "go",
            "rollout gateway is go here; after a rollback elsewhere: "
            'pointsman rollout again gateway --root-cause "…"',
        ),
    ],
)
def test_a_start_that_is_none(phase: str, text: str) -> None:
    """What runs does not start, and after a rollback the root cause is the gate."""
    assert refused(in_phase(phase), START) == text


def test_an_environment_without_a_stage() -> None:
    """The plan says nothing of it."""
    text = refused(RolloutWorld(), START, name="elsewhere")

    assert text == "rollout elsewhere has no stage for development; its stages are: none"


def test_two_rollouts_of_one_route() -> None:
    """The second waits for the first one's end."""
    plan = rollout_plan()
    both = dict.fromkeys(("gateway", "second"), plan.rollouts["gateway"])
    world = RolloutWorld()
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(replace(plan, rollouts=both, digest="both")))
    world.word(START)
    text = refused(world, START, name="second")
    assert text == "rollout gateway moves chat already: wait for its end, or stop it"
    world.word(STOP)
    world.word(START, name="second")

    assert world.state.rollouts["second"].phase is RolloutPhase.RAMPING


def test_two_rollouts_of_two_routes() -> None:
    """They do not concern each other."""
    plan = rollout_plan()
    other = replace(plan.rollouts["gateway"], route="other")
    world = RolloutWorld()
    rollouts = {"gateway": plan.rollouts["gateway"], "second": other}
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(replace(plan, rollouts=rollouts, digest="both")))
    world.word(START)
    world.word(START, name="second")
    world.pass_(120.0)

    assert world.table is not None
    stamps = {name: route.ramp for name, route in world.table.routes.items()}
    assert stamps == {"chat": "rollout:gateway#1", "other": "rollout:second#1"}
    assert world.shares("other") == {"google": 100.0}
    world.word(STOP, name="second")
    assert world.shares("other") == {"bedrock": 50.0, "google": 50.0}
    assert world.one.phase is RolloutPhase.SOAKING


# --- go


def test_a_go_that_nobody_waits_for() -> None:
    """Nothing is before the first environment, and what has begun waits no more."""
    assert refused(in_phase("soaking"), Verb.ROLLOUT_GO, stage="staging") == (
        "rollout gateway waits for no other environment: it is soaking"
    )


@pytest.mark.parametrize(("said", "told"), [("development", "development"), (None, "nothing")])
def test_a_go_of_another_stage(said: str | None, told: str) -> None:
    """Only the environment just before counts."""
    world = in_phase("waiting", "production")
    args = {"stage": said} if said else {}

    assert refused(world, Verb.ROLLOUT_GO, **args) == f"rollout gateway waits for staging, not for {told}"


@pytest.mark.parametrize("verb", [Verb.ROLLOUT_GO, Verb.ROLLOUT_APPROVE, Verb.ROLLOUT_OVERRULE])
@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("none", "rollout gateway has not begun: pointsman rollout start gateway"),
        ("rolled_back", "rollout gateway is over: it is rolled back (stopped by ann: a test)"),
        ("go", "rollout gateway is over: it is go (watched for 4 h; 0 requests)"),
    ],
)
def test_what_does_not_run_is_not_steered(verb: Verb, phase: str, text: str) -> None:
    """The refusal says how it stands."""
    assert refused(in_phase(phase), verb) == text


# --- approve


def test_nothing_is_approved_beforehand() -> None:
    """Only what can be seen can be approved."""
    assert refused(in_phase("soaking", approval=True), Verb.ROLLOUT_APPROVE) == (
        "there is nothing to approve yet: rollout gateway is soaking (soak: 4 h must be watched)"
    )


# --- overrule


def test_what_holds_is_overruled() -> None:
    """All that holds now, save the time; with who and why, which the go tells."""
    world = in_phase("soaking", min_requests=10)
    assert world.word(Verb.ROLLOUT_OVERRULE) == "rollout gateway: requests overruled"
    assert world.one.hold == "soak: 4 h must be watched"
    world.pass_(4 * HOUR_S)

    assert world.one.phase is RolloutPhase.GO
    assert world.one.ended == "watched for 4 h; requests overruled by ann: a test"


def test_the_time_is_overruled_only_by_name() -> None:
    """It is the one criterion that passes by itself."""
    world = in_phase("soaking")
    assert refused(world, Verb.ROLLOUT_OVERRULE) == (
        "no criterion of rollout gateway holds (soak: 4 h must be watched)"
    )
    world.word(Verb.ROLLOUT_OVERRULE, criterion="soak")

    assert world.one.phase is RolloutPhase.GO


def test_what_is_overruled_is_not_overruled_again() -> None:
    """The second word finds nothing that holds."""
    world = in_phase("soaking", min_requests=10)
    world.word(Verb.ROLLOUT_OVERRULE)

    assert refused(world, Verb.ROLLOUT_OVERRULE).startswith("no criterion of rollout gateway holds")


def test_an_unknown_criterion() -> None:
    """Those that there are stand in the refusal."""
    text = refused(in_phase("soaking"), Verb.ROLLOUT_OVERRULE, criterion="luck")

    assert text == (
        "there is no criterion 'luck'; there are: cache_hits, cost, errors, latency, requests, soak"
    )


def test_nothing_to_overrule_at_an_approval() -> None:
    """A person is asked, not overruled."""
    text = refused(in_phase("approving", approval=True), Verb.ROLLOUT_OVERRULE)

    assert text == (
        "no criterion of rollout gateway holds (a person must approve it: pointsman rollout approve gateway)"
    )


def test_nothing_is_judged_before_the_soak() -> None:
    """A canary has an overrule of its own."""
    assert refused(in_phase("ramping"), Verb.ROLLOUT_OVERRULE) == (
        "no criterion is judged yet: rollout gateway is ramping ()"
    )


def test_an_overruled_criterion_still_rolls_back() -> None:
    """An operator passes a hold, never a no-go."""
    limit = replace(stage("").no_go, error_ratio=0.05)
    world = in_phase("soaking", no_go=limit)
    world.word(Verb.ROLLOUT_OVERRULE, criterion="errors")
    world.traffic(failed=40)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.ROLLED_BACK


# --- stop


def test_a_stop_before_anything_moved() -> None:
    """It is over without a rollback, and may start again."""
    world = in_phase("waiting", "staging")
    assert world.word(STOP, reason="another day") == "rollout gateway stopped before anything moved"
    assert (world.one.phase, world.one.ended) == (RolloutPhase.STOPPED, "stopped by ann: another day")
    world.word(START)

    assert (world.one.phase, world.one.attempt) == (RolloutPhase.WAITING, 2)


def test_a_stop_of_a_canary_aborts_it() -> None:
    """In the same decision."""
    world = in_phase("ramping")
    world.pass_(30.0)
    assert world.word(STOP) == "rollout gateway stopped: its canary is aborted"

    assert world.one.phase is RolloutPhase.ROLLED_BACK
    assert world.shares() == {"bedrock": 100.0}


@pytest.mark.parametrize("phase", ["none", "rolled_back", "stopped"])
def test_a_stop_of_what_does_not_run(phase: str) -> None:
    """Is no refusal: it is so already."""
    world = in_phase(phase)
    assert world.word(STOP) == "rollout gateway does not run: nothing to stop"
    assert world.decision is not None
    assert world.decision.answers[-1].ok


def test_a_stop_that_keeps() -> None:
    """What was moved stays; nothing is watched any more."""
    world = in_phase("soaking")
    assert world.word(STOP, keep=True) == "rollout gateway stopped; what was moved stays"
    world.tick(61.0)

    assert world.one.phase is RolloutPhase.STOPPED
    assert world.shares() == {"google": 100.0}
    assert world.table is not None
    assert world.table.routes["chat"].ramp == ""


def test_a_running_canary_is_not_kept() -> None:
    """It would go on alone."""
    assert refused(in_phase("ramping"), STOP, keep=True) == (
        "the canary of rollout gateway still runs: stop without keeping, or promote it first "
        "(pointsman canary promote chat)"
    )


def test_a_stop_when_the_route_is_gone() -> None:
    """After the go a configuration may remove it: then nothing can be taken back."""
    world = in_phase("go")
    apply(world, replace(rollout_plan(), routes={"other": rollout_plan().routes["other"]}, digest="fewer"))

    assert refused(world, STOP) == "there is no route chat any more: nothing to take back"


def test_a_stop_does_not_lose_its_reason() -> None:
    """A second one changes nothing of why."""
    world = in_phase("soaking")
    world.say(STOP, name="gateway", reason="users complain")
    world.say(STOP, name="gateway", reason="again")
    world.tick()

    assert world.one.ended == "stopped by ann: users complain"


# --- again


@pytest.mark.parametrize("cause", [None, "", "   ", "fixed it.", "  fixed it.  "])
def test_the_root_cause_is_the_gate(cause: str | None) -> None:
    """Without one, in words, nothing begins again."""
    args = {} if cause is None else {"root_cause": cause}
    text = refused(in_phase("rolled_back"), AGAIN, **args)

    assert text.startswith("a new attempt needs the root cause in words (10 letters at least)")


def test_ten_letters_are_a_cause() -> None:
    """The shortest that is taken."""
    world = in_phase("rolled_back")
    world.word(AGAIN, root_cause=" 0123456789 ")

    assert world.one.root_cause == "0123456789"


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("none", "rollout gateway has not run to an end: pointsman rollout start gateway"),
        ("stopped", "rollout gateway has not run to an end: pointsman rollout start gateway"),
        ("soaking", "rollout gateway still runs: it is soaking"),
    ],
)
def test_what_has_not_been_rolled_back_does_not_begin_again(phase: str, text: str) -> None:
    """The refusal says what does."""
    assert refused(in_phase(phase), AGAIN, root_cause=CAUSE) == text


def test_what_is_go_here_begins_again_after_a_rollback_elsewhere() -> None:
    """The traffic is there already, and is watched for the longer time, against what the old side was then."""
    world = in_phase("go")
    old = world.one
    world.word(AGAIN, root_cause=CAUSE)

    assert world.one.phase is RolloutPhase.SOAKING
    assert (world.one.attempt, world.one.soak_s) == (2, 8 * HOUR_S)
    assert (world.one.before, world.one.before_bp) == (old.before, old.before_bp)
    assert world.one.not_before_s == old.decided_s


def test_another_way_is_compared_with_nothing_of_before() -> None:
    """What the old side was belongs to the targets that it was about."""
    world = in_phase("go")
    plan = rollout_plan()
    turned = replace(plan.rollouts["gateway"], source="google", goal="bedrock")
    apply(world, replace(plan, rollouts={"gateway": turned}, digest="turned"))
    world.word(AGAIN, root_cause=CAUSE)

    assert world.one.phase is RolloutPhase.RAMPING
    assert world.one.before_bp == {"google": 10_000}


def test_a_stop_does_not_open_the_gate() -> None:
    """Stopped after a rollback and started anew: the longer times stay, and so does what must be go again."""
    world = RolloutWorld("staging")
    world.word(START)
    world.word(Verb.ROLLOUT_GO, stage="development")
    world.pass_(120.0)
    world.word(STOP)
    rolled_back_s = world.one.decided_s
    world.tick(60.0)
    world.word(AGAIN, root_cause=CAUSE)
    world.word(STOP)
    world.stages = (go_of("development", rolled_back_s),)
    world.word(START)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.WAITING
    assert (world.one.root_cause, world.one.soak_s) == (CAUSE, 8 * HOUR_S)
    assert world.one.hold.startswith("development: development was go before the last rollback")


# --- the configuration


def apply(world: RolloutWorld, plan: Plan) -> None:
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan))
    world.tick()


def without(*targets: str, **fields: Any) -> Plan:
    """The plan without these targets in its routes and at all."""
    plan = rollout_plan()
    left = {name: target for name, target in plan.targets.items() if name not in targets}
    routes = {
        name: replace(route, weights_bp={next(iter(left)): 10_000}, chain=tuple(left))
        for name, route in plan.routes.items()
    }
    return replace(plan, targets=left, routes=routes, digest="fewer", **fields)


@pytest.mark.parametrize(("phase", "target"), [("soaking", "bedrock"), ("soaking", "google")])
def test_a_configuration_does_not_take_a_rollout_its_targets(phase: str, target: str) -> None:
    """Neither the new side nor the way back."""
    world = in_phase(phase)
    apply(world, without(target))

    assert world.answer() == (
        "rollout gateway on route chat depends on what the new configuration removes: "
        "end it first (pointsman rollout stop gateway)"
    )


def test_a_configuration_does_not_take_a_rollout_its_old_shares() -> None:
    """What the way back leads to has to be there."""
    world = in_phase("soaking")
    odd = replace(world.one, before_bp={"gone": 10_000})
    world.state = replace(world.state, rollouts={"gateway": odd})
    apply(world, replace(rollout_plan(), digest="second"))

    assert world.answer().startswith("rollout gateway on route chat depends on")


def test_a_rollout_that_is_being_taken_back_keeps_its_targets() -> None:
    """Also when it was go already: the word of the stop came first."""
    world = in_phase("go")
    world.say(STOP, name="gateway")
    world.say(Verb.APPLY_PLAN, plan=msgspec.to_builtins(without("bedrock")))
    world.tick()

    assert "end it first" in world.answer()
    assert world.one.phase is RolloutPhase.ROLLED_BACK


@pytest.mark.parametrize("phase", ["go", "rolled_back", "stopped"])
def test_what_is_over_keeps_no_target(phase: str) -> None:
    """It is remembered all the same."""
    world = in_phase(phase)
    apply(world, without("bedrock"))

    assert "is active" in world.answer()
    assert world.one.phase.value == phase


def test_what_is_watched_fits_while_its_old_shares_are_not_known() -> None:
    """One that was never moved needs its targets only."""
    world = RolloutWorld()
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"google": 10_000})
    world.word(START)
    apply(world, replace(rollout_plan(), digest="second"))

    assert "is active" in world.answer()


def test_a_waiting_rollout_needs_its_targets() -> None:
    """Though nothing has moved yet."""
    world = in_phase("waiting", "staging")
    apply(world, replace(without("google"), environment="staging"))

    assert "end it first" in world.answer()


def test_the_rules_of_an_attempt_stay() -> None:
    """A new configuration counts from the next attempt on."""
    world = in_phase("soaking")
    gateway = replace(rollout_plan().rollouts["gateway"], stages=(stage("development", soak_s=60.0),))
    apply(world, replace(rollout_plan(), rollouts={"gateway": gateway}, digest="second"))
    world.pass_(HOUR_S)

    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.soak_s == 4 * HOUR_S
