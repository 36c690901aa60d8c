"""From how targets stand to how closely they are looked at."""

import pytest
from msgspec.structs import replace
from steps import BACK, HEALTHY

from pointsman.core.attention import attention, pace
from pointsman.core.cadence import Attention, Mode
from pointsman.core.model import Health, Phase, State
from world import CHAT, NOON_S, plan_of

PLAN = plan_of(CHAT)
VOUCHES = {"bedrock": 30.0, "google": 10.0}


def seen(**health: Health) -> Attention:
    return attention(State(health=health), PLAN, VOUCHES, NOON_S)


def test_all_well() -> None:
    """Nobody who is healthy needs attention, and who is unheard of is unknown."""
    told = seen(bedrock=HEALTHY, google=HEALTHY)

    assert told == Attention(plan=PLAN, phases={"meta": Phase.UNKNOWN})
    assert told.active


def test_phases() -> None:
    """Every phase but healthy is told."""
    told = seen(bedrock=BACK, google=replace(HEALTHY, phase=Phase.COOLDOWN), meta=HEALTHY)

    assert told.phases == {"bedrock": Phase.RECOVERING, "google": Phase.COOLDOWN}


def test_fresh() -> None:
    """A healthy target is fresh for as long as its provider's setting says; others never are."""
    lately = replace(HEALTHY, last_live_success_s=NOON_S - 9.9)

    assert seen(bedrock=lately, google=lately, meta=lately).fresh == {"bedrock", "google"}
    assert seen(google=replace(lately, last_live_success_s=NOON_S - 10)).fresh == set()
    assert seen(bedrock=replace(lately, phase=Phase.RECOVERING)).fresh == set()


@pytest.mark.parametrize("streak", ["reach_streak", "generate_streak"])
@pytest.mark.parametrize("health", [BACK, HEALTHY])
def test_doubted(health: Health, streak: str) -> None:
    """A run of failed probes of either kind is a doubt in every phase, also in a slow start."""
    assert seen(bedrock=replace(health, **{streak: 1})).doubted == {"bedrock"}


def test_doubt_of_who_is_left_alone() -> None:
    """Only reach is asked further of a target that is left alone: its generations cannot clear it."""
    throttled = replace(HEALTHY, throttled_until_s=NOON_S + 9)

    assert seen(bedrock=replace(throttled, generate_streak=1)).doubted == set()
    assert seen(bedrock=replace(throttled, reach_streak=1)).doubted == {"bedrock"}


def barred(fault: str, until_s: float, **fields: object) -> Health:
    return replace(HEALTHY, barred="x", barred_for=fault, barred_until_s=until_s, **fields)


@pytest.mark.parametrize(
    ("health", "mode"),
    [
        (HEALTHY, None),
        (replace(HEALTHY, throttled_until_s=NOON_S + 600), Mode.OFF),
        (replace(HEALTHY, throttled_until_s=NOON_S), None),
        (replace(HEALTHY, phase=Phase.HALF_OPEN, throttled_until_s=NOON_S + 1), Mode.OFF),
        (barred("quota", NOON_S + 0.1), Mode.OFF),
        (barred("quota", NOON_S), Mode.CLOSE),
        (barred("credential", NOON_S + 300), Mode.STEADY),
        (barred("credential", NOON_S + 300, phase=Phase.HALF_OPEN), Mode.STEADY),
        (barred("credential", NOON_S - 300), Mode.STEADY),
        (barred("", NOON_S + 300), Mode.STEADY),
        (barred("credential", NOON_S + 300, throttled_until_s=NOON_S + 1), Mode.OFF),
        (replace(HEALTHY, bar_streak=1, barred_by="reach"), Mode.CLOSE),
        (replace(HEALTHY, bar_streak=2, barred_by="reach"), None),
        (replace(HEALTHY, bar_streak=1, barred_by="generate"), None),
    ],
)
def test_paces(health: Health, mode: Mode | None) -> None:
    """Off until a rate limit or a quota's time is over; steady with a refused key; close where an answer decides."""
    assert pace(health, NOON_S) is mode
    assert seen(bedrock=health).paces == ({"bedrock": mode} if mode else {})
