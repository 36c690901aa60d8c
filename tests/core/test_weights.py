"""Effective shares of one route."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.weights import Standing, Weighed, panicking, weigh

OUT = Standing(factor=0.0, returns_s=100.0, why="cooldown")
LATER = Standing(factor=0.0, returns_s=200.0, why="cooldown")
BARRED = Standing(factor=0.0, eligible=False, why="barred: HTTP 401")
REFUSING = Standing(factor=0.0, refuses=True, returns_s=50.0, why="cooldown")
UP = Standing()


def weighed(desired: dict[str, int], *chain: str, **rest: Any) -> Weighed:
    """`weigh` with standings by name; who is not named stands well."""
    options = {key: rest.pop(key) for key in ("origin", "demand_rps", "force", "panicking") if key in rest}
    names = [*chain, *desired]
    return weigh(desired, chain or desired, {**dict.fromkeys(names, UP), **rest}, **options)


def test_all_well() -> None:
    """With everybody well the shares are those desired, and the chain is the route's."""
    result = weighed({"a": 5000, "b": 3000, "c": 2000})

    assert result.shares_bp == {"a": 5000, "b": 3000, "c": 2000}
    assert result.chain == ("a", "b", "c")
    assert result.last_resort == 3
    assert result.reasons == {"a": "50 % by baseline", "b": "30 % by baseline", "c": "20 % by baseline"}
    assert (result.closed, result.valve, result.panic) == ("", "", False)


def test_one_out() -> None:
    """What a target leaves over goes to the others in proportion, and it is tried last."""
    result = weighed({"a": 5000, "b": 3000, "c": 2000}, a=OUT)

    assert result.shares_bp == {"b": 6000, "c": 4000}
    assert result.chain == ("b", "c", "a")
    assert result.last_resort == 2
    assert result.reasons["a"] == "50 % by baseline; cooldown"
    assert result.reasons["b"] == "30 % by baseline, 30 % more in place of the others"


def test_slow_start() -> None:
    """A target in slow start has its factor of its share; those at full strength share the rest."""
    result = weighed({"a": 5000, "b": 3000, "c": 2000}, a=Standing(factor=0.1, why="slow start"))

    assert result.shares_bp == {"a": 500, "b": 5700, "c": 3800}
    assert result.reasons["a"] == "50 % by baseline; slow start"


def test_everybody_in_slow_start() -> None:
    """If nobody is at full strength, all share what is left over by their desired shares."""
    half = Standing(factor=0.5, why="slow start")
    tenth = Standing(factor=0.1, why="slow start")

    assert weighed({"a": 5000, "b": 5000}, a=half, b=tenth).shares_bp == {"a": 6000, "b": 4000}


def test_chain_takes_over() -> None:
    """With no weighted target left the first of the chain that is takes everything."""
    result = weighed({"a": 10_000}, "a", "b", "c", a=OUT)

    assert result.shares_bp == {"b": 10_000}
    assert (
        result.reasons["b"] == "in the chain only, 100 % more in place of the others" or result.reasons["b"]
    )
    assert result.reasons["c"] == "in the chain only"


def test_weighted_target_outside_the_chain() -> None:
    """A weighted target that the chain forgets is tried after the chain."""
    assert weighed({"b": 10_000}, "a", b=UP).chain == ("a", "b")


def test_valve() -> None:
    """When every target is out, the one that returns first serves, and says so."""
    result = weighed({"a": 5000, "b": 5000}, a=LATER, b=OUT)

    assert result.shares_bp == {"b": 10_000}
    assert result.valve == "b"
    assert result.chain == ("b", "a")
    assert result.last_resort == 0
    assert result.reasons["b"] == "safety valve: every target is out, this one returns first (cooldown)"


def test_closed() -> None:
    """With nobody eligible the route is closed, and says why of each."""
    result = weighed({"a": 10_000}, "a", "b", a=BARRED, b=Standing(eligible=False, factor=0.0, why="drained"))

    assert (result.shares_bp, result.chain, result.last_resort) == ({}, (), 0)
    assert result.closed == "no target is eligible: a barred: HTTP 401; b drained"
    assert result.reasons == {"a": "100 % by baseline; barred: HTTP 401", "b": "in the chain only; drained"}


def test_barred_is_not_even_a_last_resort() -> None:
    """A target that is not eligible is in no chain."""
    assert weighed({"a": 5000, "b": 5000}, a=BARRED).chain == ("b",)


SMALL = Standing(capacity_rps=10.0)
OVERRUN = Standing(factor=0.0, throttled=True, returns_s=1.0, capacity_rps=10.0, why="rate limited")


def test_panic() -> None:
    """If the survivors' known capacity cannot carry the demand, cooldowns are ignored."""
    result = weighed({"a": 8000, "b": 2000}, a=OUT, b=SMALL, demand_rps=10.1)

    assert result.panic
    assert result.shares_bp == {"a": 8000, "b": 2000}
    assert result.reasons["a"] == "panic: the others cannot carry the demand, so it serves although cooldown"
    assert result.reasons["b"] == "20 % by baseline"
    assert (result.chain, result.last_resort) == (("b", "a"), 1)


@pytest.mark.parametrize(
    ("desired", "rest"),
    [
        ({"a": 8000, "b": 2000}, {"a": OUT, "b": SMALL, "demand_rps": 10.0}),
        ({"a": 8000, "b": 2000}, {"a": OUT, "b": UP, "demand_rps": 1e9}),
        ({"a": 8000, "b": 2000}, {"a": REFUSING, "b": SMALL, "demand_rps": 11.0}),
        ({"a": 8000, "b": 2000}, {"a": BARRED, "b": SMALL, "demand_rps": 11.0}),
        ({"a": 0, "b": 10_000}, {"a": OUT, "b": SMALL, "demand_rps": 11.0}),
        ({"a": 8000, "b": 1000, "c": 1000}, {"a": OUT, "b": SMALL, "c": SMALL, "demand_rps": 20.0}),
        ({"a": 8000, "b": 1000, "c": 1000}, {"a": OUT, "b": SMALL, "c": UP, "demand_rps": 99.0}),
        ({"a": 8000, "b": 2000}, {"a": OUT, "b": OUT, "demand_rps": 11.0}),
        ({"a": 8000, "b": 2000}, {"a": OUT, "b": OVERRUN, "demand_rps": 10.0}),
        ({"a": 8000, "b": 2000}, {"a": OVERRUN, "b": SMALL, "demand_rps": 99.0}),
        ({"a": 8000, "b": 2000}, {"a": OUT, "b": Standing(factor=0.0, throttled=True), "demand_rps": 99.0}),
        ({"a": 8000, "b": 1000, "c": 1000}, {"a": OUT, "b": OVERRUN, "c": UP, "demand_rps": 99.0}),
        ({"a": 8000, "b": 1000, "c": 1000}, {"a": OUT, "b": OVERRUN, "c": SMALL, "demand_rps": 20.0}),
    ],
    ids=[
        "enough",
        "unknown",
        "refuses",
        "barred",
        "no weight",
        "sum is enough",
        "one unknown",
        "nobody left",
        "the throttled suffice",
        "a rate limit is no cooldown",
        "throttled and unknown",
        "throttled and one unknown",
        "sum with the throttled is enough",
    ],
)
def test_no_panic(desired: dict[str, int], rest: dict[str, Any]) -> None:
    """No panic without knowing that the survivors are too small, or with nobody who could help."""
    assert not weighed(desired, **rest).panic


@pytest.mark.parametrize(
    ("demand_rps", "panicking", "panic"), [(9.1, False, False), (9.1, True, True), (9.0, True, False)]
)
def test_a_panic_ends_with_some_room(demand_rps: float, panicking: bool, panic: bool) -> None:
    """A tenth of what the survivors can carry must be to spare."""
    result = weighed({"a": 8000, "b": 2000}, a=OUT, b=SMALL, demand_rps=demand_rps, panicking=panicking)
    assert result.panic is panic


@pytest.mark.parametrize(
    ("shares_bp", "last_resort", "panic"),
    [
        ({"a": 5000, "b": 5000, "c": 0}, 1, True),
        ({"a": 5000, "b": 5000, "c": 0}, 2, False),
        ({"a": 5000, "b": 5000}, 0, True),
        ({"a": 10_000, "b": 0}, 0, False),
    ],
    ids=["beside one that is out", "both are in", "of throttled ones alone", "safety valve"],
)
def test_what_a_panic_looks_like(shares_bp: dict[str, int], last_resort: int, panic: bool) -> None:
    """Targets that are out have shares beside others."""
    assert panicking(shares_bp, ("a", "b", "c"), last_resort) is panic


@pytest.mark.parametrize("demand_rps", [20.1, 99.0])
def test_panic_with_the_throttled(demand_rps: float) -> None:
    """A survivor that is rate limited counts with its capacity, and one of unknown capacity does not count."""
    desired = {"a": 7000, "b": 1000, "c": 1000, "d": 1000}
    unknown = Standing(factor=0.0, throttled=True)
    result = weighed(desired, a=OUT, b=OVERRUN, c=SMALL, d=unknown, demand_rps=demand_rps)

    assert result.panic
    assert weighed({"a": 8000, "b": 2000}, a=OUT, b=OVERRUN, demand_rps=10.1).shares_bp == {
        "a": 8000,
        "b": 2000,
    }


def test_no_panic_for_the_chain() -> None:
    """A target of the chain alone, with no weight, is no help in a panic."""
    assert not weighed({"b": 10_000}, "a", "b", a=OUT, b=SMALL, demand_rps=11.0).panic


def test_panic_leaves_out_who_refuses() -> None:
    """In a panic a target that accepts no connection still gets nothing."""
    desired = {"a": 4000, "b": 2000, "c": 4000}
    result = weighed(desired, a=OUT, b=SMALL, c=REFUSING, demand_rps=11.0)

    assert result.shares_bp == {"a": 6667, "b": 3333}
    assert result.reasons["c"] == "40 % by baseline; cooldown"
    assert result.reasons["b"] == "20 % by baseline, 13.33 % more in place of the others"


def test_force() -> None:
    """Force feeds a target that is out, and says so; the chain stays honest."""
    result = weighed({"a": 10_000}, "a", "b", a=OUT, force=True, origin="manual of ann (x)")

    assert result.shares_bp == {"a": 10_000}
    assert result.chain == ("b", "a")
    assert result.reasons["a"] == "100 % by manual of ann (x), forced although cooldown"
    assert result.reasons["b"] == "nothing by manual of ann (x)"


def test_force_of_what_is_well() -> None:
    """Forcing a target that is well needs no excuse."""
    assert weighed({"a": 10_000}, force=True).reasons["a"] == "100 % by baseline"


def test_force_does_not_feed_the_barred() -> None:
    """Not even force feeds a target that is not eligible: the others take its part."""
    result = weighed({"a": 5000, "b": 5000}, a=BARRED, b=OUT, force=True)

    assert result.shares_bp == {"b": 10_000}
    assert result.reasons["a"] == "50 % by baseline; barred: HTTP 401"


def test_force_on_nothing_but_the_barred() -> None:
    """A forced pin with nobody eligible in it falls back to the chain."""
    result = weighed({"a": 10_000}, "a", "b", a=BARRED, force=True)

    assert result.shares_bp == {"b": 10_000}
    assert not result.closed


def test_force_ignores_slow_start() -> None:
    """Forced shares are exact."""
    desired = {"a": 2500, "b": 7500}

    assert weighed(desired, a=Standing(factor=0.1, why="slow"), force=True).shares_bp == desired


def test_overlay_without_the_target() -> None:
    """A target to which an overlay gives nothing says whose doing it is."""
    result = weighed({"b": 10_000}, "a", "b", origin="failover of ann (x)")

    assert result.reasons == {"a": "nothing by failover of ann (x)", "b": "100 % by failover of ann (x)"}


def test_largest_remainder() -> None:
    """Shares that do not divide are rounded by largest remainder; ties go to the first."""
    result = weighed({"a": 3333, "b": 3333, "c": 3334, "d": 0}, "a", "b", "c", "d")
    thirds = weighed({"x": 7000, "a": 1000, "b": 1000, "c": 1000}, "x", "a", "b", "c", x=OUT)

    assert result.shares_bp == {"a": 3333, "b": 3333, "c": 3334}
    assert thirds.shares_bp == {"a": 3334, "b": 3333, "c": 3333}


STANDINGS = st.builds(
    Standing,
    factor=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]),
    eligible=st.booleans(),
    refuses=st.booleans(),
    throttled=st.booleans(),
    returns_s=st.floats(0, 1e9),
    capacity_rps=st.none() | st.floats(0.1, 100),
    why=st.just("why"),
)


@st.composite
def routes(draw: st.DrawFn) -> tuple[dict[str, int], list[str], dict[str, Standing]]:
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=7, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=len(names) - 1, max_size=len(names) - 1)))
    bounds = [0, *cuts, 10_000]
    desired = {name: bounds[i + 1] - bounds[i] for i, name in enumerate(names)}
    chain = draw(st.permutations(names))
    return desired, chain[: draw(st.integers(0, len(chain)))], {name: draw(STANDINGS) for name in names}


@given(routes(), st.floats(0, 500), st.booleans())
def test_invariants(
    route: tuple[dict[str, int], list[str], dict[str, Standing]], demand_rps: float, force: bool
) -> None:
    """Shares are whole and full or the route is closed; nobody unfit is fed; nobody out without a reason."""
    desired, chain, standings = route
    # A target is out of service by its factor alone; who is not eligible has none.
    standings = {
        n: s if s.eligible else Standing(factor=0.0, eligible=False, why="x") for n, s in standings.items()
    }
    result = weigh(desired, chain, standings, demand_rps=demand_rps, force=force)

    assert sum(result.shares_bp.values()) == (0 if result.closed else 10_000)
    assert all(isinstance(share, int) and share > 0 for share in result.shares_bp.values())
    assert bool(result.closed) == (not any(s.eligible for s in standings.values()))
    assert set(result.chain) == {name for name, s in standings.items() if s.eligible}
    assert all(standings[name].factor > 0 for name in result.chain[: result.last_resort])
    assert all(standings[name].factor == 0 for name in result.chain[result.last_resort :])
    assert set(result.reasons) == set(desired)
    for name in result.shares_bp:
        assert standings[name].eligible
        assert standings[name].factor > 0 or force or result.panic or result.valve == name
    if result.panic and not force:
        assert not any(standings[name].refuses and not standings[name].factor for name in result.shares_bp)
