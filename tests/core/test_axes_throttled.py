"""Throttled and softened: beside the breaker."""

import pytest
from msgspec.structs import replace
from steps import HEALTHY, asked, context, probes, stepped

from pointsman.core.breaker import factor, step
from pointsman.core.errors import Fault, Outcome
from pointsman.core.health import Seen
from pointsman.core.model import Health, Phase, Policy
from world import NOON_S


def limited(until_s: float, detail: str = "HTTP 429") -> Seen:
    return Seen(counts={}, throttled_until_s=until_s, throttled=detail, probes=[], trials=[])


# --- throttled


def test_throttled_by_traffic() -> None:
    """A rate limit takes the target out until its Retry-After, and touches no phase and no count."""
    after, told = stepped(HEALTHY, limited(NOON_S + 20))

    assert after == replace(HEALTHY, throttled_until_s=NOON_S + 20, throttled="HTTP 429", throttles=1)
    assert told == ["target.throttled: t rate limited (HTTP 429) until 12:00:20, 20 s"]
    assert step("t", HEALTHY, limited(NOON_S + 0.12345), context())[1][0].data == {"wait_s": 0.123}
    assert factor(after, Policy(), NOON_S + 19.9) == 0
    assert factor(after, Policy(), NOON_S + 20) == 1


def test_throttled_by_a_probe() -> None:
    """A probe's 429 counts from now, for as long as it says, or ten seconds."""
    said, _ = stepped(HEALTHY, asked(Outcome(Fault.RATE_LIMIT, "x", 429, 33.0)))
    unsaid, _ = stepped(HEALTHY, probes("429"))

    assert said.throttled_until_s == NOON_S + 33
    assert unsaid.throttled_until_s == NOON_S + 10


def test_throttle_only_lengthens() -> None:
    """A later deadline lengthens, and is not told again; an earlier or the same one changes nothing."""
    first, _ = stepped(HEALTHY, limited(NOON_S + 20))
    longer, told = stepped(first, limited(NOON_S + 30, "more"))

    assert (longer.throttled_until_s, longer.throttled, told) == (NOON_S + 30, "more", [])
    assert stepped(longer, limited(NOON_S + 25), limited(NOON_S + 30)) == (longer, [])


def test_throttle_in_the_past() -> None:
    """A deadline that is over already is none."""
    assert stepped(HEALTHY, limited(NOON_S)) == (HEALTHY, [])


def test_unthrottled() -> None:
    """At its time the target is back by slow start."""
    first, _ = stepped(HEALTHY, limited(NOON_S + 20))
    early, _ = stepped(first, None, now_s=NOON_S + 19.9)
    after, told = stepped(first, None, now_s=NOON_S + 20)

    assert early == first
    assert (after.throttled_until_s, after.throttled, after.back_s, after.generation) == (
        0,
        "",
        NOON_S + 20,
        1,
    )
    assert told == ["target.unthrottled: t is no longer rate limited"]
    assert factor(after, Policy(), NOON_S + 20) == 0.1


def every_second(health: Health, seconds: int, until: int = 1) -> tuple[Health, list[str]]:
    """A rate limit of a second that is hit anew in each of so many seconds, and then no more."""
    told: list[str] = []
    for second in range(seconds):
        health, more = stepped(health, limited(NOON_S + second + until), now_s=NOON_S + second)
        told += more
    return health, told


def test_throttled_every_second() -> None:
    """A limit that is hit every second is told twice, and its end when a slow start has gone by without it."""
    health, told = every_second(HEALTHY, 60)
    over, last = stepped(health, None, now_s=NOON_S + 60)
    still, silence = stepped(over, probes("ok"), now_s=NOON_S + 119.9)
    after, end = stepped(still, probes("ok"), now_s=NOON_S + 120)

    unsaid = "; the next ones are not told until the last is over"
    assert told == [
        "target.throttled: t rate limited (HTTP 429) until 12:00:01, 1 s",
        "target.unthrottled: t is no longer rate limited",
        f"target.throttled: t rate limited (HTTP 429) until 12:00:02, 1 s{unsaid}",
    ]
    assert (over.throttled_until_s, over.back_s, over.throttles) == (0, NOON_S + 60, 60)
    assert (last, silence, still.throttles) == ([], [], 60)
    assert (end, after.throttles) == (["target.unthrottled: t is no longer rate limited"], 0)


def test_a_throttling_that_was_the_only_one() -> None:
    """After a slow start without another one it is forgotten without a word, and the next is told."""
    once, _ = stepped(HEALTHY, limited(NOON_S + 1))
    back_, _ = stepped(once, None, now_s=NOON_S + 1)
    after, silence = stepped(back_, probes("ok"), now_s=NOON_S + 61)
    again, told = stepped(after, limited(NOON_S + 70), now_s=NOON_S + 62)

    assert (back_.throttles, after.throttles, silence) == (1, 0, [])
    assert (again.throttles, len(told)) == (1, 1)


@pytest.mark.parametrize("phase", [Phase.COOLDOWN, Phase.HALF_OPEN])
def test_throttles_are_remembered_while_out(phase: Phase) -> None:
    """A target that is out cannot show that its limit is over."""
    health = Health(phase=phase, throttles=3, cooldown_until_s=NOON_S + 60, grant_s=NOON_S)

    assert stepped(health, None) == (health, [])


def test_throttle_lengthens_a_cooldown() -> None:
    """While it cools down, a provider's Retry-After lengthens the cooldown and never shortens it."""
    cooling = Health(phase=Phase.COOLDOWN, cooldown_until_s=NOON_S + 30)

    assert stepped(cooling, limited(NOON_S + 90))[0].cooldown_until_s == NOON_S + 90
    assert stepped(cooling, limited(NOON_S + 10))[0].cooldown_until_s == NOON_S + 30
    assert stepped(HEALTHY, limited(NOON_S + 90))[0].cooldown_until_s == 0


# --- softened


def slower(until_s: float) -> Seen:
    return Seen(counts={}, softened_until_s=until_s, probes=[], trials=[])


def test_softened() -> None:
    """Asked to go slower, a target has half its weight until the time, and then all of it at once."""
    after, told = stepped(HEALTHY, slower(NOON_S + 10))
    over, end = stepped(after, None, now_s=NOON_S + 10)

    assert after == replace(HEALTHY, softened_until_s=NOON_S + 10)
    assert told == ["target.softened: t asks to go slower: half weight until 12:00:10, 10 s"]
    assert factor(after, Policy(), NOON_S + 9.9) == 0.5
    assert factor(after, Policy(), NOON_S + 10) == 1
    assert stepped(after, None, now_s=NOON_S + 9.9) == (after, [])
    assert (over, end) == (HEALTHY, ["target.unsoftened: t has its full weight again"])


def test_softened_by_a_probe() -> None:
    """A probe may hear it too, with a time or without."""
    said, _ = stepped(HEALTHY, asked(Outcome(Fault.CAPACITY, "x", 429, 4.0)))
    unsaid, _ = stepped(HEALTHY, probes("slow_down"))

    assert (said.softened_until_s, unsaid.softened_until_s) == (NOON_S + 4, NOON_S + 10)


def test_soften_only_lengthens() -> None:
    """A shorter word does not shorten it, one in the past is none, and a longer one is not told again."""
    first, _ = stepped(HEALTHY, slower(NOON_S + 10))

    assert stepped(first, slower(NOON_S + 5), slower(NOON_S + 10)) == (first, [])
    assert stepped(HEALTHY, slower(NOON_S)) == (HEALTHY, [])
    assert stepped(first, slower(NOON_S + 15)) == (replace(first, softened_until_s=NOON_S + 15), [])


def test_softened_in_slow_start() -> None:
    """Half of what the slow start allows."""
    health = replace(HEALTHY, back_s=NOON_S - 30, softened_until_s=NOON_S + 1)

    assert factor(health, Policy(), NOON_S) == pytest.approx(0.3)
