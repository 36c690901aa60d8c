"""Which target a request goes to, and in which order it falls over."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.table import RouteEntry, Stage
from pointsman.proxy.pick import (
    Order,
    Situation,
    by_chance,
    key_hash,
    order,
    rendezvous,
    shares_now,
)

KEYS = [key_hash(f"caller-{number}") for number in range(4000)]


def entry(shares: dict[str, int], chain: str = "a b c", **more: object) -> RouteEntry:
    targets = tuple(chain.split())
    more.setdefault("last_resort", len(targets))
    return RouteEntry(family="openai", shares_bp=shares, chain=targets, **more)  # type: ignore[arg-type]


def picked(
    route: RouteEntry, situation: Situation | None = None, *, key: int | None = None, u: float = 0.5
) -> Order:
    return order("r", route, route.shares_bp, situation or Situation(), key=key, u=u)


@given(grown=st.integers(1, 9_999), before=st.integers(0, 9_998), key=st.integers(0, 2**64 - 1))
def test_a_growing_weight_only_adds_callers(grown: int, before: int, key: int) -> None:
    """Whoever was on the canary stays on it while its weight grows."""
    low, high = sorted((before, grown))
    if rendezvous(key, "r", {"base": 10_000 - low, "canary": low}) == "canary":
        assert rendezvous(key, "r", {"base": 10_000 - high, "canary": high}) == "canary"


@given(
    shares=st.lists(st.integers(1, 5_000), min_size=3, max_size=5),
    more=st.integers(1, 5_000),
    key=st.integers(0, 2**64 - 1),
)
def test_a_caller_moves_only_to_the_target_that_grew(shares: list[int], more: int, key: int) -> None:
    """When one weight grows and the others stay, nobody moves between the others."""
    before = {f"t{number}": share for number, share in enumerate(shares)}
    after = before | {"t0": before["t0"] + more}
    was, now = rendezvous(key, "r", before), rendezvous(key, "r", after)
    assert now in {was, "t0"}


def test_sticky_shares_are_what_the_table_says() -> None:
    """5 %, 25 % and 70 % of many callers land where they should, within two points."""
    counts = Counter(rendezvous(key, "r", {"a": 500, "b": 2_500, "c": 7_000}) for key in KEYS)
    assert abs(counts["a"] / len(KEYS) - 0.05) < 0.02
    assert abs(counts["b"] / len(KEYS) - 0.25) < 0.02


def test_a_caller_is_not_first_in_line_on_every_route() -> None:
    """The buckets of two routes are independent."""
    shares = {"base": 9_000, "canary": 1_000}
    both = sum(rendezvous(key, "one", shares) == rendezvous(key, "two", shares) == "canary" for key in KEYS)
    assert both / len(KEYS) < 0.03


@given(key=st.integers(0, 2**64 - 1))
def test_a_target_without_a_share_gets_no_caller(key: int) -> None:
    """Zero is zero."""
    assert rendezvous(key, "r", {"a": 0, "b": 10_000}) == "b"


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


def test_any_text_has_a_hash() -> None:
    """Bytes of a header that are no UTF-8 arrive as lone surrogates."""
    assert key_hash("session=\udce9") != key_hash("session=e")
