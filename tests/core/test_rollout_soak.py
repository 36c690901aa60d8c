"""Soaks of rollouts: watched time, criteria, a person's yes."""

from typing import Any

import pytest
from msgspec.structs import replace
from rollouts import HOUR_S, RolloutWorld, overlaid, rebased

from pointsman.core.evidence import Verb
from pointsman.core.rollout_model import Rollout, RolloutPhase

# --- soaking


def test_it_is_go_after_its_time() -> None:
    """Four watched hours, not less; then the stage is go, and says what that rests on."""
    world = RolloutWorld()
    world.soaking()
    left_s = 4 * HOUR_S - world.one.watched_s
    world.pass_(left_s - 10.0)
    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.hold == "soak: 4 h must be watched"
    world.pass_(10.0)

    assert world.one.phase is RolloutPhase.GO
    assert world.told("rollout.go") == ["rollout gateway in development is go: watched for 4 h; 0 requests"]
    assert world.filed[-1].recommendation == "Go on: development is go."
    assert world.table is not None
    world.tick(61.0)
    assert world.table.routes["chat"].ramp == ""
    assert world.shares() == {"google": 100.0}


@pytest.mark.parametrize("leap_s", [61.0, HOUR_S, 30 * 86_400.0, -7.0, -86_400.0])
def test_no_leap_of_the_clock_ends_a_soak(leap_s: float) -> None:
    """Nor does an absence of the daemon: only what was looked at counts."""
    world = RolloutWorld()
    world.soaking()
    before_s = world.one.watched_s
    world.watched()
    world.tick(leap_s)

    assert world.one.watched_s == before_s
    assert world.one.phase is RolloutPhase.SOAKING
    assert bool(world.told("rollout.unwatched")) is (leap_s > 60.0)


def test_an_absence_is_told() -> None:
    """It stands in the next report."""
    world = RolloutWorld()
    world.soaking()
    world.watched()
    world.tick(7200.0)

    text = "was not watched for 2 h, which does not count"
    assert world.told("rollout.unwatched") == [f"rollout gateway in development {text}"]
    assert any(text in issue for issue in world.one.total.issues)


def test_a_minute_between_looks_is_still_watched() -> None:
    """The longest gap that counts."""
    world = RolloutWorld()
    world.soaking()
    before_s = world.one.watched_s
    world.watched()
    world.tick(60.0)

    assert world.one.watched_s == before_s + 60.0


def deserted(world: RolloutWorld) -> None:
    world.reports.clear()
    world.state = replace(world.state, vantages={})


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (overlaid, "overlaid: the manual of ann lies over it (a test)"),
        (rebased, "shares: the baseline is not the promoted one any more: google 90 %, bedrock 10 % by ann"),
        (deserted, "serving: no proxy is alive, so nothing is known of the traffic"),
    ],
)
def test_time_counts_only_while_the_traffic_is_where_it_belongs(what: Any, why: str) -> None:
    """Pinned, set otherwise, unseen: it holds, with the reason, told once."""
    world = RolloutWorld()
    world.soaking()
    what(world)
    world.tick(1.0)
    before_s = world.one.watched_s
    for _ in range(3):
        for proxy in list(world.reports):
            world.beat(proxy)
        world.tick(10.0)

    assert world.one.hold.startswith(why)
    assert world.one.watched_s == before_s
    assert len(world.told("rollout.hold")) == 1


def test_a_young_soak_is_nothing_to_tell() -> None:
    """That the time is not over is no news."""
    world = RolloutWorld(min_requests=10)
    world.soaking()
    world.pass_(600.0)

    assert world.one.hold == "soak: 4 h must be watched; requests: 0 of 10 requests seen"
    assert world.told("rollout.hold") == []


def test_what_keeps_it_after_its_time_is_told() -> None:
    """And it holds for as long as that is so."""
    world = RolloutWorld(min_requests=10)
    world.soaking()
    world.pass_(5 * HOUR_S)
    assert world.told("rollout.hold") == ["rollout gateway in development holds: 0 of 10 requests seen"]
    assert world.one.phase is RolloutPhase.SOAKING
    world.traffic(ok=10)
    world.tick(1.0)

    assert world.one.phase is RolloutPhase.GO
    assert (world.one.hold, world.one.held_by) == ("", ())


def test_a_quiet_soak_is_seldom_saved() -> None:
    """A look without news changes no state; every ten seconds the time does."""
    world = RolloutWorld()
    world.soaking()
    world.watched()
    world.tick(10.0)
    seen: list[Rollout] = []
    for _ in range(20):
        world.tick(1.0)
        seen.append(world.one)
        world.serve("p1")

    assert len({id(one) for one in seen}) == 3
    assert seen[-1].watched_s - seen[0].watched_s == 20.0


def test_a_short_soak_is_looked_at_closely() -> None:
    """A twentieth of its time at most goes by between two looks that are saved."""
    world = RolloutWorld(soak_s=100.0)
    world.soaking()
    world.tick(10.0)
    world.tick(4.0)
    assert world.one.looked_s == world.now_s - 4.0
    world.tick(1.0)

    assert world.one.looked_s == world.now_s


# --- approval


def approving(**fields: Any) -> RolloutWorld:
    """One whose time is over, waiting for a person."""
    world = RolloutWorld(approval=True, **fields)
    world.soaking()
    world.pass_(4 * HOUR_S)
    assert world.one.phase is RolloutPhase.APPROVING
    return world


def test_a_person_is_asked() -> None:
    """Every criterion is go, and still nobody but a person makes the stage go."""
    world = approving()
    assert world.now_s - world.one.since_s < 60.0
    assert world.told("rollout.approval") == [
        "rollout gateway in development waits for a person: every criterion is go (watched for 4 h; 0 requests)"
    ]
    world.pass_(HOUR_S)
    assert world.one.phase is RolloutPhase.APPROVING
    assert world.one.hold == "a person must approve it: pointsman rollout approve gateway"
    assert len(world.told("rollout.approval")) == 1
    assert world.word(Verb.ROLLOUT_APPROVE) == "rollout gateway in development is approved"

    assert world.one.phase is RolloutPhase.GO
    assert world.one.ended.endswith("; 0 requests; approved by ann: a test")


def test_what_is_not_go_any_more_is_not_asked_for() -> None:
    """A person is asked anew when it is go again, and an approval of before does not count."""
    world = approving()
    overlaid(world)
    world.word(Verb.ROLLOUT_APPROVE)
    assert world.one.phase is RolloutPhase.SOAKING
    assert world.one.approved == ""
    world.say(Verb.UNPIN, route="chat")
    world.pass_(10.0)

    assert world.one.phase is RolloutPhase.APPROVING
    assert len(world.told("rollout.approval")) == 2
