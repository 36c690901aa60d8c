"""Words about rollouts: what they answer, and what they refuse with what to do instead."""

import msgspec
import pytest
from msgspec.structs import replace
from rollouts import CAUSE, HOUR_S, RolloutWorld, apply, in_phase, refused, rollout_plan, stage

from pointsman.core.evidence import Verb
from pointsman.core.rollout_model import RolloutPhase
from world import CHAT, World, plan_of

START, AGAIN, STOP = Verb.ROLLOUT_START, Verb.ROLLOUT_AGAIN, Verb.ROLLOUT_STOP
WORDS = (START, AGAIN, STOP, Verb.ROLLOUT_GO, Verb.ROLLOUT_APPROVE, Verb.ROLLOUT_OVERRULE)
ANEW = 'pointsman rollout again gateway --root-cause "…"'


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
            f"rollout gateway was rolled back (stopped by ann: a test): find the root cause, then {ANEW}",
        ),
        (
            "go",
            f"rollout gateway is go here; after a rollback elsewhere: {ANEW}",
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
