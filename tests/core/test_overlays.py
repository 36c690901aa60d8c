"""Who wins."""

from typing import Any

import pytest

from pointsman.core.model import Baseline, OnExpiry, Overlay, OverlayKind, State
from pointsman.core.overlays import ON_EXPIRY, PRECEDENCE, desired, expired, later, put, winner
from world import NOON_S

BASELINE = Baseline(
    shares_bp={"a": 10_000}, file_bp={"a": 10_000}, author="file", reason="first", at_s=NOON_S, revision=1
)


def overlay(kind: OverlayKind, route: str = "chat", **fields: Any) -> Overlay:
    given = {
        "id": f"{kind.value}:{route}",
        "shares_bp": {kind.value: 10_000},
        "owner": "ann",
        "reason": "a test",
        "created_s": NOON_S,
        "not_after_s": 0.0,
        "on_expiry": ON_EXPIRY[kind],
        **fields,
    }
    return Overlay(kind=kind, route=route, **given)


ALL = [overlay(kind) for kind in OverlayKind]


def test_precedence() -> None:
    """Emergency > manual > failover > canary > drill."""
    assert [kind.value for kind in PRECEDENCE] == ["emergency", "manual", "failover", "canary", "drill"]


@pytest.mark.parametrize("strongest", range(len(ALL)))
def test_winner(strongest: int) -> None:
    """The strongest kind present wins, wherever it stands."""
    assert winner("chat", reversed(ALL[strongest:])) is ALL[strongest]


def test_nobody_wins() -> None:
    """An overlay of another route wins nothing."""
    assert winner("other", ALL) is None
    assert winner("chat", []) is None


def test_what_expiry_means() -> None:
    """Canary and drill drop by themselves; an operator's words are kept."""
    assert ON_EXPIRY == {
        OverlayKind.EMERGENCY: OnExpiry.KEEP,
        OverlayKind.MANUAL: OnExpiry.KEEP,
        OverlayKind.FAILOVER: OnExpiry.KEEP,
        OverlayKind.CANARY: OnExpiry.DROP,
        OverlayKind.DRILL: OnExpiry.DROP,
    }


def test_desired_baseline() -> None:
    """Without an overlay the baseline is wanted."""
    wanted = desired("chat", BASELINE, [])

    assert (wanted.shares_bp, wanted.origin, wanted.force) == ({"a": 10_000}, "baseline", False)


def test_desired_overlay() -> None:
    """With one, its shares are, under its owner's name, forced or not."""
    wanted = desired("chat", BASELINE, [overlay(OverlayKind.MANUAL, force=True)])

    assert wanted.shares_bp == {"manual": 10_000}
    assert wanted.origin == "manual of ann (a test)"
    assert wanted.force


def test_put_replaces() -> None:
    """A newer overlay takes the place of the older one of its kind and route, and of no other."""
    new = overlay(OverlayKind.MANUAL, id="new")
    elsewhere = overlay(OverlayKind.MANUAL, "other")

    assert put((*ALL, elsewhere), new) == (ALL[0], *ALL[2:], elsewhere, new)


def test_expired() -> None:
    """An overlay is over at its time, not before, and one without a time never."""
    timed = overlay(OverlayKind.MANUAL, not_after_s=NOON_S)
    state = State(
        overlays=(timed, overlay(OverlayKind.DRILL), overlay(OverlayKind.CANARY, not_after_s=NOON_S + 9))
    )

    assert expired(state, NOON_S - 0.1) == ()
    assert expired(state, NOON_S) == (timed,)


def test_later_stages() -> None:
    """Each dropping winner leaves a stage with what is wanted after it, in the order of their deadlines."""
    drill = overlay(OverlayKind.DRILL, not_after_s=NOON_S + 30)
    canary = overlay(OverlayKind.CANARY, not_after_s=NOON_S + 20)
    pin = overlay(OverlayKind.MANUAL, not_after_s=NOON_S + 10, on_expiry=OnExpiry.DROP)
    stages = later("chat", BASELINE, [drill, canary, pin])

    assert [(name, wanted.origin.split()[0]) for name, wanted in stages] == [
        ("manual:chat", "canary"),
        ("canary:chat", "drill"),
        ("drill:chat", "baseline"),
    ]


def test_a_loser_that_drops_first() -> None:
    """An overlay that drops while a stronger one lies over it changes nothing."""
    canary = overlay(OverlayKind.CANARY, not_after_s=NOON_S + 10)
    pin = overlay(OverlayKind.MANUAL, not_after_s=NOON_S + 20, on_expiry=OnExpiry.DROP)

    assert [(name, wanted.origin) for name, wanted in later("chat", BASELINE, [canary, pin])] == [
        ("manual:chat", "baseline")
    ]


def test_what_is_kept_has_no_stage() -> None:
    """What an operator said is kept past its time by a proxy alone; so is what has no time; others' are not ours."""
    timed = overlay(OverlayKind.MANUAL, not_after_s=NOON_S + 10)
    elsewhere = overlay(OverlayKind.CANARY, "other", not_after_s=NOON_S + 10)

    assert later("chat", BASELINE, [timed, elsewhere]) == []
    assert later("chat", BASELINE, [overlay(OverlayKind.CANARY)]) == []
