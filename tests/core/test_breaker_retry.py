"""The breaker: a provider that fails and says for how long it wants to be left alone."""

import pytest
from msgspec.structs import replace
from steps import COOLING, GENERATE, HEALTHY, OPEN, REACH, asked, live, probes, stepped

from pointsman.core.errors import LONGEST_WAIT_S, Fault, Outcome, of_response
from pointsman.core.evidence import ProbeKind
from pointsman.core.health import Seen
from pointsman.core.model import Phase
from world import CHAT, NOON_S, World, plan_of


def busy(retry_after_s: float | None = 600.0, kind: ProbeKind = GENERATE) -> Seen:
    """A probe that is answered 503 with that Retry-After."""
    return asked(Outcome(Fault.OVERLOAD, "HTTP 503", 503, retry_after_s), kind)


def live_busy(streak: int, retry_at_s: float = NOON_S + 600) -> Seen:
    """Requests that were answered so."""
    return replace(live(streak, "HTTP 503", overload=1), retry_at_s=retry_at_s)


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_probes_are_asked_to_wait(kind: ProbeKind) -> None:
    """Three probes that are answered 503 with a Retry-After of 600 s: that is how long the cooldown lasts."""
    after, told = stepped(HEALTHY, *[busy(kind=kind)] * 3)

    assert (after.phase, after.cooldown_until_s, after.retry_at_s) == (Phase.COOLDOWN, NOON_S + 600, 0.0)
    assert told[-1].endswith("(failures: 3, cooldown until 12:10:00, 600 s)")


def test_the_word_of_any_of_the_run_holds() -> None:
    """It is enough that one of the failures said so."""
    assert stepped(HEALTHY, busy(), busy(None), busy(20.0))[0].cooldown_until_s == NOON_S + 600


def test_requests_are_asked_to_wait() -> None:
    """So with requests."""
    assert stepped(HEALTHY, live_busy(5))[0].cooldown_until_s == NOON_S + 600


def test_a_short_wait_shortens_nothing() -> None:
    """A Retry-After under the tier's cooldown, or one that is over, changes nothing."""
    assert stepped(HEALTHY, live_busy(5, NOON_S + 1))[0].cooldown_until_s == NOON_S + 60
    assert stepped(HEALTHY, live_busy(2, NOON_S - 1))[0].retry_at_s == 0.0


def test_no_wait_is_longer_than_a_day() -> None:
    """What asks for more is looked at again after a day."""
    assert stepped(HEALTHY, live_busy(5, NOON_S + 1e9))[0].cooldown_until_s == NOON_S + LONGEST_WAIT_S


@pytest.mark.parametrize(
    "success", [probes("ok"), live(0, last_ok_s=NOON_S + 1, ok=1)], ids=["probe", "live"]
)
def test_a_success_ends_the_wait(success: Seen) -> None:
    """Who has answered since is not left alone any longer than others when it fails for another reason."""
    after, _ = stepped(HEALTHY, busy(), live_busy(1), success)

    assert after.retry_at_s == 0.0
    assert stepped(after, live(5, outage=5))[0].cooldown_until_s == NOON_S + 60


def test_a_free_probe_does_not_end_the_wait() -> None:
    """That the model list is served says nothing about the model."""
    assert stepped(HEALTHY, busy(), probes("ok", kind=REACH))[0].retry_at_s == NOON_S + 600


@pytest.mark.parametrize("seen", [busy(), live_busy(7)], ids=["probe", "live"])
def test_a_wait_lengthens_a_cooldown(seen: Seen) -> None:
    """What is said during a cooldown lengthens it, and counts for nothing else."""
    after, told = stepped(COOLING, seen)

    assert (after.cooldown_until_s, after.failures, told) == (NOON_S + 600, COOLING.failures, [])
    assert stepped(COOLING, busy(20.0))[0].cooldown_until_s == COOLING.cooldown_until_s


def test_a_trial_is_asked_to_wait() -> None:
    """A failed trial that says when to come again."""
    after, _ = stepped(OPEN, busy())

    assert (after.phase, after.cooldown_until_s) == (Phase.COOLDOWN, NOON_S + 600)


def test_the_whole_way() -> None:
    """From a proxy's report to the table: out for as long as the 529 said."""
    world = World(plan_of(CHAT))
    world.live("p1", "bedrock", of_response(529, {"retry-after": "300"}), 5)
    world.tick(0.2)
    world.tick_for(299.0)
    assert world.phase("bedrock") == "cooldown"

    world.tick(1.0)
    assert world.phase("bedrock") == "half_open"
