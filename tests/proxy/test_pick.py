"""Which target a request goes to, and in which order it falls over."""

import random
from collections import Counter

import pytest

from pointsman.core.table import RouteEntry, Stage
from pointsman.proxy.pick import Order, Situation, by_chance, order, shares_now
from pointsman.proxy.settling import key_hash, settle

KEYS = [key_hash(f"caller-{number}") for number in range(2_000)]


def entry(shares: dict[str, int], chain: str = "a b c", **more: object) -> RouteEntry:
    targets = tuple(chain.split())
    more.setdefault("last_resort", len(targets))
    return RouteEntry(family="openai", shares_bp=shares, chain=targets, **more)  # type: ignore[arg-type]


def picked(
    route: RouteEntry, situation: Situation | None = None, *, key: int | None = None, u: float = 0.5
) -> Order:
    return order("r", route, route.shares_bp, situation or Situation(), key=key, u=u)


def test_without_a_key_the_pick_follows_the_shares() -> None:
    """The number that is passed in decides, in proportion."""
    dice = random.Random(1)
    counts = Counter(by_chance(dice.random(), {"a": 2_000, "b": 8_000}) for _ in range(4_000))
    assert abs(counts["a"] / 4_000 - 0.2) < 0.03


def test_the_largest_number_still_hits_a_target() -> None:
    """u just under 1 falls on the last share above zero, not past the end."""
    assert by_chance(1 - 2**-53, {"a": 3_333, "b": 6_667, "c": 0}) == "b"


def test_after_the_first_comes_the_chain_without_repeats() -> None:
    """b is picked, then a and c in the chain's order."""
    assert picked(entry({"b": 10_000})).targets == ("b", "a", "c")


def test_the_reason_tells_sticky_from_random() -> None:
    """A key makes it sticky; no key tells the share."""
    assert picked(entry({"a": 5_000, "b": 5_000}), key=7).reason == "sticky"
    assert picked(entry({"a": 5_000, "b": 5_000}), u=0.0).reason == "share 50 %"


def test_locally_ejected_targets_come_last_but_do_come() -> None:
    """a is out: the other weighted target serves, and a is still the last to be tried."""
    chosen = picked(entry({"a": 9_000, "b": 1_000}), Situation(out={"a"}))
    assert chosen.targets == ("b", "c", "a")


def test_with_every_weighted_target_out_the_chain_serves() -> None:
    """Only a has weight and a is out: the chain's next takes over."""
    chosen = picked(entry({"a": 10_000}), Situation(out={"a"}))
    assert chosen.targets == ("b", "c", "a")
    assert chosen.reason == "last resort"


def test_an_unusable_target_is_never_tried() -> None:
    """A target without a credential is in no order."""
    assert picked(entry({"a": 10_000}), Situation(unusable={"a"})).targets == ("b", "c")
    assert picked(entry({"a": 10_000}, "a"), Situation(unusable={"a"})).targets == ()


def test_attempts_are_limited_by_the_route() -> None:
    """max_attempts 2 of a chain of three."""
    assert picked(entry({"a": 10_000}, max_attempts=2)).targets == ("a", "b")


def test_a_trial_goes_first_even_without_a_share() -> None:
    """The half-open target is tried, and the rest of the chain stands behind it."""
    chosen = picked(entry({"a": 10_000}), Situation(trial="c"))
    assert (chosen.targets, chosen.reason) == (("c", "a", "b"), "trial")


def test_a_pin_decides_and_health_filters_it() -> None:
    """A pin to b holds while b is in; when b is out the table's shares apply, unless it is forced."""
    route = entry({"a": 10_000})
    pin = {"b": 10_000}
    assert picked(route, Situation(pinned_bp=pin)).targets[0] == "b"
    assert picked(route, Situation(pinned_bp=pin, out={"b"})).targets[0] == "a"
    assert picked(route, Situation(pinned_bp=pin, out={"b"}, forced=True)).targets[0] == "b"


def test_a_pin_does_not_feed_a_target_that_is_cooling_down() -> None:
    """c is behind last_resort: cooling down by the table's word."""
    route = entry({"a": 10_000}, last_resort=2)
    assert picked(route, Situation(pinned_bp={"c": 10_000})).targets[0] == "a"
    assert picked(route, Situation(pinned_bp={"c": 10_000}, forced=True)).targets[0] == "c"


def test_when_all_cool_down_the_one_that_serves_says_so() -> None:
    """The safety valve's share is served as a last resort."""
    assert picked(entry({"b": 10_000}, last_resort=0)).reason == "last resort"


def test_overlays_give_way_in_order() -> None:
    """Canary over drill over baseline: each stage applies only when those before it have run out."""
    route = entry(
        {"a": 5_000, "b": 5_000},
        later=(
            Stage(overlay="canary", shares_bp={"b": 10_000}),
            Stage(overlay="drill", shares_bp={"a": 10_000}),
        ),
    )
    assert shares_now(route, ()) == {"a": 5_000, "b": 5_000}
    assert shares_now(route, ("canary",)) == {"b": 10_000}
    assert shares_now(route, ("canary", "drill")) == {"a": 10_000}
    assert shares_now(route, ("drill",)) == {"a": 5_000, "b": 5_000}


def test_a_pin_keeps_within_the_chain_unless_it_is_forced() -> None:
    """c was drained or barred since: the table took it out of the chain. Only a forced pin still feeds it."""
    route = entry({"a": 10_000}, chain="a b")
    pin = {"c": 10_000}
    assert picked(route, Situation(pinned_bp=pin)).targets == ("a", "b")
    assert picked(route, Situation(pinned_bp=pin, forced=True)).targets[0] == "c"
    assert picked(route, Situation(pinned_bp=pin, forced=True, unusable={"c"})).targets == ("a", "b")


def test_a_trial_is_told_from_the_reason_it_gives() -> None:
    """Whoever keeps the books asks for the fact, not for its words."""
    assert picked(entry({"a": 10_000}), Situation(trial="c")).trial
    assert not picked(entry({"a": 10_000})).trial


def test_a_target_that_is_out_loses_its_callers_and_no_other_does() -> None:
    """Not even those whom a canary has moved: they stay with the canary."""
    route = entry({"a": 3_000, "b": 3_000, "c": 4_000}, anchor_bp={"a": 6_000, "c": 4_000})
    out = Situation(out={"a"})
    for key in KEYS:
        was, now = picked(route, key=key).targets[0], picked(route, out, key=key).targets[0]
        assert now != "a"
        assert was in {"a", now}


def test_a_pin_settles_callers_by_the_routes_anchor() -> None:
    """This proxy's callers are where they would be if the table said the pin's shares."""
    route = entry({"a": 10_000}, anchor_bp={"a": 7_000, "c": 3_000})
    pin = {"a": 2_000, "b": 5_000, "c": 3_000}
    for key in KEYS:
        pinned = picked(route, Situation(pinned_bp=pin), key=key).targets[0]
        assert pinned == settle(key, "r", route.anchor_bp, pin)


def test_what_the_shares_placed_counts_under_the_stamp() -> None:
    """With a key and without one."""
    route = entry({"a": 5_000, "b": 5_000}, ramp="r1#2")
    assert picked(route).ramp == "r1#2"
    assert picked(route, key=7).ramp == "r1#2"


@pytest.mark.parametrize(
    "situation",
    [
        Situation(trial="c"),
        Situation(pinned_bp={"b": 10_000}),
        Situation(out={"a"}),
        Situation(unusable={"a"}),
    ],
    ids=["trial", "pin", "out", "unusable"],
)
def test_what_the_shares_did_not_place_counts_under_no_stamp(situation: Situation) -> None:
    """A granted trial, a pin by hand, and the chain's next when nothing with a share is left."""
    assert picked(entry({"a": 10_000}, ramp="r1#2"), situation).ramp == ""


def test_a_last_resort_counts_under_no_stamp() -> None:
    """All cool down: whoever serves was not chosen by the ramp."""
    assert picked(entry({"a": 10_000}, last_resort=0, ramp="r1#2")).ramp == ""


def test_other_shares_than_the_stamps_count_under_no_stamp() -> None:
    """The canary has run out on this proxy, and the shares after it hold."""
    route = entry({"a": 9_500, "b": 500}, ramp="r1#2")
    assert order("r", route, {"a": 10_000}, Situation(), key=None, u=0.5).ramp == ""


def test_synthetic_traffic_goes_where_it_asks_to() -> None:
    """First, without a share; the rest of the chain stands behind it, and it counts under the stamp."""
    chosen = picked(entry({"a": 10_000}, ramp="r1#2"), Situation(asked="b"))
    assert (chosen.targets, chosen.reason, chosen.ramp) == (("b", "a", "c"), "synthetic", "r1#2")


def test_synthetic_traffic_measures_what_is_out() -> None:
    """Of a target that fails here, the measurement is wanted most; nor does a pin divert it."""
    asked = Situation(asked="b", out={"b"}, pinned_bp={"c": 10_000})
    assert picked(entry({"a": 10_000}), asked).targets[0] == "b"


@pytest.mark.parametrize(("asked", "unusable"), [("x", ""), ("b", "b")])
def test_a_wish_that_cannot_be_met_is_placed_like_any_other(asked: str, unusable: str) -> None:
    """No target of the chain, or one that this proxy cannot serve."""
    chosen = picked(entry({"a": 10_000}), Situation(asked=asked, unusable={unusable}))
    assert (chosen.targets[0], chosen.reason) == ("a", "share 100 %")
