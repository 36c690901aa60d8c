"""Where callers with a sticky key are settled, and who moves when shares change."""

import itertools
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy.settling import key_hash, settle

CALLERS = [key_hash(f"caller-{number}") for number in range(20_000)]
# Chi-square is above this once in 100,000 times, by degrees of freedom; the callers are always the same, so that
# a test which passes once passes always.
CHI_SQUARE = {1: 19.5, 2: 23.0, 3: 25.9}

keys = st.integers(0, 2**64 - 1)
targets = ("a", "b", "c", "d")
shares_of_all = st.fixed_dictionaries({target: st.integers(1, 10_000) for target in targets})
two_targets = st.permutations(targets).map(lambda order: order[:2])


def settled(anchor: Mapping[str, int], shares: Mapping[str, int]) -> dict[int, str]:
    return {key: settle(key, "r", anchor, shares) for key in CALLERS}


def chi_square(counts: Counter[str], shares: Mapping[str, int], total: int) -> float:
    whole = sum(shares.values())
    return sum(
        (counts[target] - total * share / whole) ** 2 / (total * share / whole)
        for target, share in shares.items()
        if share
    )


def assert_spread(counts: Counter[str], shares: Mapping[str, int]) -> None:
    """`counts` are what chance makes of `shares`."""
    expected = {target for target, share in shares.items() if share}
    assert set(counts) == expected
    if len(expected) > 1:
        assert chi_square(counts, shares, counts.total()) < CHI_SQUARE[len(expected) - 1]


def moved(shares: Mapping[str, int], source: str, goal: str, progress: float) -> dict[str, int]:
    """A canary's shares: so much of the source's share has gone over to the goal."""
    part = round(shares[source] * progress)
    return {**shares, source: shares[source] - part, goal: shares[goal] + part}


def anchored(least: int = 1) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({target: st.integers(least, 10_000) for target in targets})


@pytest.mark.parametrize(
    ("anchor", "shares"),
    [
        ({}, {"a": 500, "b": 2_500, "c": 7_000}),
        ({"a": 6_000, "b": 3_000, "c": 1_000}, {"a": 6_000, "b": 3_000, "c": 1_000}),
        ({"a": 9_000, "c": 1_000}, {"a": 8_550, "b": 450, "c": 1_000}),
        ({"a": 5_000, "b": 2_500, "c": 2_500}, {"a": 1_500, "b": 5_500, "c": 3_000}),
        ({"a": 5_000, "b": 2_500, "c": 2_500}, {"a": 1_500, "b": 1_000, "c": 500, "d": 7_000}),
        ({"a": 6_000, "b": 3_000, "c": 1_000}, {"b": 3_000, "c": 1_000}),
        ({"a": 4_000, "b": 3_000, "c": 2_000, "d": 1_000}, {"a": 3_000, "b": 4_000, "c": 2_000, "d": 1_000}),
        ({"a": 60, "b": 30, "c": 10}, {"a": 1, "b": 1, "c": 2, "d": 3}),
        ({"a": 10_000}, {"b": 2_000, "c": 8_000}),
        ({"a": 0}, {"a": 0, "b": 2_000, "c": 8_000}),
    ],
    ids=[
        "no anchor",
        "at home",
        "canary",
        "two gain",
        "all lose",
        "dead",
        "four",
        "other scales",
        "gone",
        "empty",
    ],
)
def test_callers_spread_as_the_shares_say(anchor: dict[str, int], shares: dict[str, int]) -> None:
    """Whatever the anchor is and whichever scale the shares have."""
    assert_spread(Counter(settled(anchor, shares).values()), shares)


@given(anchor=anchored(), pair=two_targets, steps=st.tuples(st.floats(0, 1), st.floats(0, 1)), key=keys)
def test_a_growing_canary_only_adds_callers(
    anchor: dict[str, int], pair: list[str], steps: tuple[float, float], key: int
) -> None:
    """Between two steps, the only movement there is goes from the source to the canary."""
    source, goal = pair
    low, high = (moved(anchor, source, goal, progress) for progress in sorted(steps))
    was, now = settle(key, "r", anchor, low), settle(key, "r", anchor, high)
    assert now == was or (was, now) == (source, goal)


@given(anchor=anchored(), goals=shares_of_all, steps=st.tuples(st.floats(0, 1), st.floats(0, 1)), key=keys)
def test_a_shift_of_many_shares_moves_nobody_twice(
    anchor: dict[str, int], goals: dict[str, int], steps: tuple[float, float], key: int
) -> None:
    """Stepwise from the anchor to any other shares, a caller moves at most once, and not back."""
    scale = 1_000_000
    anchor_sum, goal_sum = sum(anchor.values()), sum(goals.values())

    def at(progress: float) -> dict[str, int]:
        part = round(progress * scale)
        return {
            target: anchor[target] * goal_sum * (scale - part) + goals[target] * anchor_sum * part
            for target in targets
        }

    way = [settle(key, "r", anchor, at(progress)) for progress in (0.0, *sorted(steps), 1.0)]
    assert len(list(itertools.groupby(way))) <= 2


@given(anchor=anchored(), pair=two_targets, progress=st.floats(0, 1), key=keys)
def test_third_targets_keep_their_callers(
    anchor: dict[str, int], pair: list[str], progress: float, key: int
) -> None:
    """A canary between two targets moves nobody to, from or between the others."""
    home = settle(key, "r", {}, anchor)
    now = settle(key, "r", anchor, moved(anchor, *pair, progress))
    assert now == home or (home, now) == tuple(pair)


@given(anchor=anchored(), factor=st.integers(1, 1_000), key=keys)
def test_shares_back_at_the_anchor_put_every_caller_back(
    anchor: dict[str, int], factor: int, key: int
) -> None:
    """An abort, and a promotion to the shares that there are, at whatever scale they are written."""
    back = {target: share * factor for target, share in anchor.items()}
    assert settle(key, "r", anchor, back) == settle(key, "r", {}, anchor)


@given(anchor=anchored(), dead=st.sampled_from(targets), key=keys)
def test_the_callers_of_the_living_stay(anchor: dict[str, int], dead: str, key: int) -> None:
    """Only a dead target's callers move."""
    home = settle(key, "r", {}, anchor)
    now = settle(key, "r", anchor, anchor | {dead: 0})
    assert now == home or home == dead != now


def test_the_callers_of_the_dead_spread_over_all_who_gain() -> None:
    """By what each has gained, not by who would have been next at the anchor."""
    anchor = {"a": 5_000, "b": 4_000, "c": 1_000}
    home, now = settled({}, anchor), settled(anchor, {"b": 5_000, "c": 5_000})
    assert_spread(Counter(now[key] for key in CALLERS if home[key] == "a"), {"b": 1_000, "c": 4_000})


@given(anchor=anchored(), shares=shares_of_all, out=st.permutations(targets), key=keys)
def test_only_the_callers_of_what_cannot_be_used_move(
    anchor: dict[str, int], shares: dict[str, int], out: list[str], key: int
) -> None:
    """One target after the other: at each, only those who are at it go to another one."""
    among = [out[number:] for number in range(len(out) + 1)]
    way = [settle(key, "r", anchor, shares, left) for left in among]
    assert way[0] == settle(key, "r", anchor, shares)
    for gone, was, now in zip(out, way, way[1:], strict=False):
        assert was in {gone, now}
    assert way[-1] == ""


def test_the_callers_of_what_cannot_be_used_spread_as_the_shares_say() -> None:
    """Also those whom the shares had moved there."""
    anchor, shares = {"a": 5_000, "b": 4_000, "c": 1_000}, {"a": 2_000, "b": 3_000, "c": 4_000, "d": 1_000}
    was = settled(anchor, shares)
    spread = Counter(settle(key, "r", anchor, shares, {"a", "b", "d"}) for key in CALLERS if was[key] == "c")
    assert_spread(spread, {"a": 2_000, "b": 3_000, "d": 1_000})


def test_as_few_callers_move_as_can_be() -> None:
    """The part that moves is the total variation between the two distributions: 30 % here."""
    anchor, shares = {"a": 6_000, "b": 3_000, "c": 1_000}, {"a": 3_000, "b": 4_000, "c": 3_000}
    home, now = settled({}, anchor), settled(anchor, shares)
    moves = Counter("moved" if home[key] != now[key] else "stayed" for key in CALLERS)
    assert_spread(moves, {"moved": 3_000, "stayed": 7_000})


def test_routes_choose_their_canaries_callers_independently() -> None:
    """One caller is not first in line for every canary at once."""
    anchor, shares = {"a": 10_000}, {"a": 9_000, "b": 1_000}
    both = Counter(
        "both" if {settle(key, route, anchor, shares) for route in ("one", "two")} == {"b"} else "not both"
        for key in CALLERS
    )
    assert_spread(both, {"both": 100, "not both": 9_900})


@given(
    anchor=shares_of_all,
    shares=shares_of_all,
    order=st.permutations(targets),
    key=keys,
)
def test_the_order_of_the_targets_does_not_matter(
    anchor: dict[str, int], shares: dict[str, int], order: list[str], key: int
) -> None:
    """Two proxies that read the same table in another order settle a caller alike."""
    other = settle(key, "r", {t: anchor[t] for t in order}, {t: shares[t] for t in reversed(order)})
    assert other == settle(key, "r", anchor, shares)


def test_every_proxy_settles_a_caller_alike() -> None:
    """Today's answers, written down: by another hash, a rolling upgrade would move every caller."""
    anchor, shares = {"a": 5_000, "b": 3_000, "c": 2_000}, {"a": 2_000, "b": 5_000, "c": 3_000}
    callers = [key_hash(f"session=s{number}") for number in range(24)]
    assert "".join(settle(key, "chat", {}, anchor) for key in callers) == "bbaabcbaabaacaaacbbbabcb"
    assert "".join(settle(key, "chat", anchor, shares) for key in callers) == "bbbabcbcbbbccccccbbbbbcb"
    assert "".join(settle(key, "chat", anchor, shares, "ac") for key in callers) == "accaccccccaccccccaaccaca"


@given(
    anchor=st.dictionaries(st.sampled_from(targets), st.integers(0, 3)),
    shares=st.dictionaries(st.sampled_from(targets), st.integers(0, 3)),
    key=keys,
)
def test_a_target_without_a_share_gets_no_caller(
    anchor: dict[str, int], shares: dict[str, int], key: int
) -> None:
    """Zero is zero, and without any share there is no target."""
    fed = {target for target, share in shares.items() if share}
    assert settle(key, "r", anchor, shares) in (fed or {""})


@given(
    before=shares_of_all,
    more=st.integers(1, 5_000),
    key=keys,
)
def test_without_an_anchor_a_caller_moves_only_to_the_target_that_grew(
    before: dict[str, int], more: int, key: int
) -> None:
    """When one share grows and the others stay, nobody moves between the others."""
    was, now = settle(key, "r", {}, before), settle(key, "r", {}, before | {"a": before["a"] + more})
    assert now in {was, "a"}


def test_any_text_has_a_hash() -> None:
    """Bytes of a header that are no UTF-8 arrive as lone surrogates."""
    assert key_hash("session=\udce9") != key_hash("session=e")


@pytest.mark.parametrize("dead", ["a", "b", "c"])
def test_a_death_in_the_middle_of_a_ramp_moves_its_own_callers_alone(dead: str) -> None:
    """With the shares that are wanted named, health moves nobody whose target lives, and puts the others back."""
    anchor, wanted = {"a": 6000, "c": 4000}, {"a": 3000, "b": 3000, "c": 4000}
    left = {target: share for target, share in wanted.items() if target != dead}
    whole = sum(left.values())
    present = {target: share * 10_000 // whole for target, share in left.items()}
    before = {key: settle(key, "r", anchor, wanted, None, wanted) for key in CALLERS}
    after = {key: settle(key, "r", anchor, present, None, wanted) for key in CALLERS}
    rounding = sum(was != after[key] for key, was in before.items() if was != dead)

    assert rounding <= len(CALLERS) * 0.001
    assert dead not in after.values()
