"""Orders that are worked out once are those that would be worked out every time."""

from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.core.table import FULL_BP, RouteEntry
from pointsman.proxy.pick import SETTLED_MAX, Calm, Situation, order

NAMES = ("a", "b", "c", "d")
THREE = {"a": 5_000, "b": 2_500, "c": 2_500}


@st.composite
def shares(draw: st.DrawFn, names: tuple[str, ...] = NAMES) -> dict[str, int]:
    """Shares of some targets that sum to 10,000, zeros among them."""
    targets = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    edges = draw(st.lists(st.sampled_from((0, 1, 100, 3_333, 5_000, FULL_BP)), min_size=len(targets) - 1))
    ends = [0, *sorted(edges[: len(targets) - 1]), FULL_BP]
    return {target: ends[place + 1] - ends[place] for place, target in enumerate(targets)}


@st.composite
def routes(draw: st.DrawFn) -> RouteEntry:
    """A route as a table may have it."""
    chain = tuple(draw(st.permutations(NAMES)))[: draw(st.integers(0, 4))]
    return RouteEntry(
        family="openai",
        shares_bp=draw(shares()),
        chain=chain,
        last_resort=draw(st.integers(0, len(chain))),
        max_attempts=draw(st.integers(0, 3)),
        anchor_bp=draw(st.one_of(st.just({}), shares())),
        wanted_bp=draw(st.one_of(st.just({}), shares())),
        ramp=draw(st.sampled_from(("", "stamp"))),
    )


keys = st.one_of(st.none(), st.integers(0, 7), st.integers(0, (1 << 64) - 1))
# Exactly on an edge as well: those decide by a hair.
chances = st.one_of(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, FULL_BP - 1).map(lambda part: part / FULL_BP),
    st.sampled_from((0.0, 0.01, 0.5, 1 - 2**-53)),
)


@example(RouteEntry(family="openai", shares_bp=THREE, chain=tuple(THREE), last_resort=3), {"a"}, [])
@given(routes(), st.sets(st.sampled_from(NAMES)), st.lists(st.tuples(keys, chances), min_size=1, max_size=20))
def test_the_calm_order_is_the_order(
    route: RouteEntry, unusable: set[str], asked: list[tuple[int | None, float]]
) -> None:
    """For every caller and every draw, the first time and again, and whatever was asked before."""
    calm = Calm("chat", route, route.shares_bp, unusable)
    situation = Situation(unusable=unusable)
    everywhere: list[tuple[int | None, float]] = [(None, part / 16) for part in range(16)]
    for key, u in (*asked, *everywhere, *((key, 0.0) for key in range(16))):
        assert calm.order(key, u) == order("chat", route, route.shares_bp, situation, key=key, u=u)


def test_an_order_is_worked_out_once() -> None:
    """The same object comes back for the next caller of the same kind."""
    route = RouteEntry(family="openai", shares_bp={"a": 5_000, "b": 5_000}, chain=("a", "b"), last_resort=2)
    calm = Calm("chat", route, route.shares_bp, ())
    assert calm.order(None, 0.1) is calm.order(None, 0.2)
    assert calm.order(None, 0.9) is not calm.order(None, 0.1)
    assert calm.order(7, 0.1).reason == "sticky"


def test_callers_beyond_those_who_are_remembered_are_settled_the_same() -> None:
    """Their number is bounded, and it makes no difference who is among them."""
    route = RouteEntry(family="openai", shares_bp={"a": 5_000, "b": 5_000}, chain=("a", "b"), last_resort=2)
    calm = Calm("chat", route, route.shares_bp, ())
    first = [calm.order(key, 0.0) for key in range(100)]
    for key in range(SETTLED_MAX + 100):
        calm.order(key, 0.0)
        assert len(calm._settled) <= SETTLED_MAX
    assert [calm.order(key, 0.0) for key in range(100)] == first
