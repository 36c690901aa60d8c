"""What is shown of a target: how it stands, what was counted, and for how long."""

import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

from pointsman.cli.picture import picture, target_picture
from pointsman.cli.providers import WIDTH, lines_of
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import Report
from pointsman.core.model import Phase
from world import NOON_S, World, plan_of

SOLO = plan_of({"chat": {"bedrock": 80, "google": 20}}, capacities={"google": 10.0})


def shown(world: World, target: str = "bedrock") -> dict[str, Any]:
    return target_picture(target, world.state, world.now_s)


def told(world: World, target: str = "bedrock") -> list[str]:
    """The lines of `provider list` about it."""
    return lines_of(shown(world, target) | {"model": "m"})


def test_counts_per_class_in_the_rolling_window() -> None:
    """What came of the requests of the last five minutes, per class, also while the target is out."""
    world = World(SOLO)
    world.live("p1", "bedrock", "ok", 300)
    world.live("p1", "bedrock", "429", 2)
    world.tick(1.0)
    world.trip("bedrock", "500")
    world.live("p1", "bedrock", "500", 3)
    world.tick(1.0)

    assert shown(world)["outcomes"] == {"ok": 300, "rate_limit": 2, "outage": 8}
    assert shown(world)["outcomes_s"] == 300.0
    assert "    requests of the last 5 min 0 s: 300 ok, 8 outage, 2 rate_limit" in told(world)
    world.now_s += 310
    assert shown(world)["outcomes"] == {}


def test_runs_of_failures() -> None:
    """How often each kind of asking failed in a row, and what the next cooldown will count."""
    world = World(SOLO)
    health = world.state.health["bedrock"]
    bad = replace(health, reach_streak=2, generate_streak=1, live_streak=3, bar_streak=1, failures=5)
    world.state = replace(world.state, health=world.state.health | {"bedrock": bad})

    assert shown(world)["streaks"] == {"reach": 2, "generate": 1, "live": 3, "refused": 1}
    assert told(world)[1:3] == [
        "    failed in a row: 2 reach probes, 1 generate probe, 3 requests, 1 refusal",
        "    failures that pick the next cooldown: 5",
    ]


def test_cooldown() -> None:
    """A cooldown is shown with its deadline and what is left of it."""
    world = World(SOLO)
    world.trip("bedrock", "500")
    world.now_s += 20

    assert (shown(world)["cooldown_until"], shown(world)["cooldown_left_s"]) == ("12:01:00", 40.0)
    assert told(world)[0] == "  bedrock  m: cooldown until 12:01:00, 40 s left"
    assert "    last failure 20 s ago: HTTP 500" in told(world)


def test_softened_and_throttled() -> None:
    """Half weight and a rate limit are shown with how long they last."""
    world = World(SOLO)
    world.live("p1", "bedrock", Outcome(Fault.RATE_LIMIT, "HTTP 429", 429, 30.0))
    world.live("p1", "bedrock", "slow_down")
    world.tick()

    assert (shown(world)["softened_left_s"], shown(world)["throttled_left_s"]) == (10.0, 30.0)
    assert told(world)[0].endswith(", rate limited for 30 s, half weight for 10 s")


def test_barred_and_drained() -> None:
    """Both are shown with their reasons; a bar with the time until it is looked at again."""
    world = World(SOLO)
    for _ in range(2):
        world.probe("bedrock", "402")
        world.tick()

    assert shown(world)["barred_left_s"] == 300.0
    assert told(world)[0] == "  bedrock  m: unknown, barred for 5 min 0 s: HTTP 402"


def test_nothing_to_tell() -> None:
    """A target of which nothing is known is one line."""
    world = World(SOLO)

    assert told(world) == ["  bedrock  m: unknown"]
    assert shown(world)["cooldown_until"] == ""


def test_lines_fit() -> None:
    """However much there is to tell, no line is longer than a terminal is wide."""
    world = World(SOLO)
    for text in ("400", "401", "402", "429", "500", "503", "slow_down"):
        world.live("p1", "bedrock", text, 123_456)
    world.tick()

    assert max(map(len, told(world))) <= WIDTH
    assert len(shown(world)["outcomes"]) == 7


def test_panic_is_no_safety_valve() -> None:
    """A route whose survivor is overrun is shown as that."""
    world = World(SOLO)
    world.trip("bedrock", "500")
    world.live("p1", "google", "ok", 300)
    world.live("p1", "google", "429", 200)
    world.tick(1.0)
    assert world.decision is not None
    assert world.phase("bedrock") == Phase.COOLDOWN
    seen = picture(
        world.state, world.table, world.decision.reasons, [],
        leader={}, published_s=NOON_S, now_s=world.now_s, own_plan=SOLO,
    )  # fmt: skip

    assert (seen["routes"]["chat"]["panic"], seen["routes"]["chat"]["safety_valve"]) == (True, False)
    assert "chat: the survivors cannot carry the demand, cooldowns are ignored" in seen["warnings"]


@pytest.mark.parametrize(
    ("one", "other", "converged_s"),
    [
        ({"served_s": 0.25}, {"served_s": 1.5}, 1.5),
        ({"served_s": 0.25}, {"serving": None}, None),
        ({"served_s": 0.25}, {"served_s": 60.0, "started_s": 59.0}, 0.25),
        ({"served_s": -0.01}, {"served_s": -0.02}, 0.0),
        ({"started_s": 1.0}, {"started_s": 1.0}, None),
    ],
)
def test_when_every_proxy_routed_by_the_table(
    one: dict[str, Any], other: dict[str, Any], converged_s: float | None
) -> None:
    """The last of those that were there when it was published; unknown while one does not yet."""
    world = World(SOLO)
    world.tick()
    assert world.decision is not None
    assert world.table is not None
    told_by = {"boot": "b", "seq": 1, "environment": "development", "fleet": "default"}
    reports = [
        Report(
            **(told_by | {"proxy": name, "serving": world.table.version} | said)
            | {
                "served_s": NOON_S + said.get("served_s", 0.0),
                "started_s": NOON_S + said.get("started_s", -9.0),
            }
        )
        for name, said in (("p1", one), ("p2", other))
    ]
    seen = picture(
        world.state, world.table, world.decision.reasons, reports,
        leader={}, published_s=NOON_S, now_s=NOON_S + 70.0, own_plan=SOLO,
    )  # fmt: skip

    assert seen["table"]["converged_s"] == converged_s
