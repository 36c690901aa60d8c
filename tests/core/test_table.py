"""The table's format, validation, hash, order and difference."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman.core.table import (
    RouteEntry,
    Stage,
    Table,
    TableError,
    TargetEntry,
    Trial,
    Version,
    check_newer,
    decode,
    diff,
    encode,
    largest_move_bp,
    negotiate,
    percent,
    table_hash,
    validate,
)


def entry(name: str, **fields: Any) -> TargetEntry:
    given = {"family": "openai", "base_url": f"https://{name}.test/v1", **fields}
    return TargetEntry(provider=name, model=f"{name}-1", **given)


def route(shares: dict[str, int], **fields: Any) -> RouteEntry:
    given = {"family": "openai", "chain": tuple(shares), "last_resort": len(shares), **fields}
    return RouteEntry(shares_bp=shares, **given)


def sealed(table: Table) -> Table:
    return replace(table, hash=table_hash(table))


def table_of(**fields: Any) -> Table:
    """A table of targets a, b, c with the route chat: a 60 %, b 40 %."""
    given: dict[str, Any] = {
        "environment": "production",
        "fleet": "default",
        "version": Version(7, 3),
        "issued_s": 1.0,
        "targets": {name: entry(name) for name in "abc"},
        "routes": {"chat": route({"a": 6000, "b": 4000})},
        **fields,
    }
    return sealed(Table(hash="", **given))


TABLE = table_of()


def moved(shares: dict[str, int], **fields: Any) -> Table:
    return table_of(routes={"chat": replace(TABLE.routes["chat"], shares_bp=shares, **fields)})


def test_versions_are_ordered() -> None:
    """A later epoch beats any revision of an earlier one."""
    assert sorted([Version(8, 1), Version(7, 10), Version(7, 9)]) == [
        Version(7, 9),
        Version(7, 10),
        Version(8, 1),
    ]
    assert str(Version(7, 10)) == "7.10"


def test_round_trip() -> None:
    """A table survives being written and read."""
    full = table_of(
        trials=(Trial(target="a", proxy="p1", grant=3),),
        routes={
            "chat": route(
                {"a": 10_000}, later=(Stage(overlay="x", shares_bp={"b": 10_000}),), sticky_by=("user",)
            )
        },
    )

    assert decode(encode(full)) == full


def test_written_the_same() -> None:
    """The same table is the same bytes, in whatever order it was put together."""
    turned = table_of(targets={name: entry(name) for name in "cba"})

    assert encode(turned) == encode(TABLE)
    assert turned.hash == TABLE.hash


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the table is empty"),
        (b"{", "the table is corrupt"),
        (b"[]", "the table is corrupt"),
        (b'{"format": 1}', "the table is corrupt"),
        (b'{"x":' * 100_000, "the table is corrupt: maximum recursion depth"),
        (encode(TABLE).replace(b"a-1", b"a-\xff"), "the table is corrupt: 'utf-8' codec can't decode"),
        (b'{"format": 1, "\xff": 1}', "the table is corrupt"),
        (b'{"format": 2}', "the table has format 2; this version reads 1: upgrade it"),
        (encode(TABLE).replace(b"a-1", b"a-2"), "the table's hash does not fit its content"),
        (encode(table_of(version=Version(10**15, 1))), "was given by no daemon"),
        (encode(table_of(version=Version(7, 10**15))), "was given by no daemon"),
        (encode(table_of(version=Version(-1, 1))), "was given by no daemon"),
        (encode(table_of(routes={})), "the table is inconsistent: it has no routes or no targets"),
    ],
)
def test_bad_bodies(body: bytes, reason: str) -> None:
    """A table that must not be routed by is refused with the reason."""
    with pytest.raises(TableError, match=reason):
        decode(body)


@given(st.binary() | st.text().map(str.encode) | st.integers(0, 400).map(lambda n: encode(TABLE)[:n]))
def test_any_bytes(body: bytes) -> None:
    """Whatever bytes there are instead of a table, the answer is TableError."""
    with pytest.raises(TableError):
        decode(body)


PROBLEMS = [
    (table_of(targets={}), "it has no routes or no targets"),
    (moved({"a": 6000, "b": 3999}), "route chat: shares sum to 9999"),
    (moved({"a": 6000, "b": 4001}), "route chat: shares sum to 10001"),
    (moved({}), "route chat has no shares and does not say why"),
    (moved({"a": 6000, "x": 4000}), "route chat: x is not a target of the table"),
    (moved({"a": 10_001, "b": -1}), "route chat: b has a negative share"),
    (moved({"a": 10_000}, chain=("a", "x")), "route chat: x is not a target of the table"),
    (moved({"a": 10_000}, chain=("b",), last_resort=1), "route chat: a has a share and is not in the chain"),
    (
        table_of(
            targets={**TABLE.targets, "b": entry("b", family="anthropic")},
            routes={"chat": route({"a": 10_000}, chain=("a", "b"))},
        ),
        "route chat: b speaks another protocol family",
    ),
    (moved({"a": 10_000}, last_resort=3), "route chat: last_resort 3 is outside the chain"),
    (moved({"a": 10_000}, last_resort=-1), "route chat: last_resort -1 is outside the chain"),
    (
        moved({"a": 10_000}, later=(Stage(overlay="o", shares_bp={"b": 1}),)),
        "route chat: shares sum to 1",
    ),
    (
        table_of(targets={**TABLE.targets, "b": entry("b", family="anthropic")}),
        "route chat: b speaks another protocol family",
    ),
    (
        table_of(trials=(Trial(target="x", proxy="p", grant=1),)),
        "the trial of x is not of a target of the table",
    ),
]


@pytest.mark.parametrize(("table", "problem"), PROBLEMS, ids=[problem for _, problem in PROBLEMS])
def test_problems(table: Table, problem: str) -> None:
    """Everything wrong with a table is said in a sentence."""
    assert validate(table) == [problem]


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        moved({}, closed="no target is eligible"),
        moved({"a": 10_000, "b": 0}),
        moved({"a": 10_000}, last_resort=0),
        table_of(trials=(Trial(target="c", proxy="p", grant=1),)),
    ],
)
def test_no_problems(table: Table) -> None:
    """A closed route that says why, a share of nothing and a valve are all in order."""
    assert validate(table) == []


def test_hash_is_over_what_routes() -> None:
    """Version and time of issue are not in the hash; shares, chain, targets and trials are."""
    assert table_of(version=Version(9, 9), issued_s=5.0).hash == TABLE.hash
    others = [
        moved({"a": 6001, "b": 3999}),
        moved({"a": 6000, "b": 4000}, chain=("b", "a")),
        table_of(targets={**TABLE.targets, "c": entry("c", generation=1)}),
        table_of(trials=(Trial(target="a", proxy="p", grant=1),)),
        table_of(environment="staging"),
        table_of(fleet="other"),
    ]
    assert len({TABLE.hash, *(other.hash for other in others)}) == 7


def test_newer() -> None:
    """The same version or a later one of this fleet may be taken; so may the first."""
    check_newer(TABLE, None, environment="production", fleet="default")
    check_newer(TABLE, TABLE, environment="production", fleet="default")
    check_newer(TABLE, table_of(version=Version(7, 2)), environment="production", fleet="default")


@pytest.mark.parametrize("version", [Version(7, 4), Version(8, 1)])
def test_older(version: Version) -> None:
    """Tables never go backwards."""
    with pytest.raises(TableError, match=f"table 7.3 is older than {version}"):
        check_newer(TABLE, table_of(version=version), environment="production", fleet="default")


@pytest.mark.parametrize(("environment", "fleet"), [("staging", "default"), ("production", "other")])
def test_strange_fleet(environment: str, fleet: str) -> None:
    """Another fleet's table is none of ours."""
    with pytest.raises(
        TableError, match=f"for production/default, and this proxy serves {environment}/{fleet}"
    ):
        check_newer(TABLE, None, environment=environment, fleet=fleet)


@pytest.mark.parametrize(
    ("announced", "format_"),
    [([], 1), ([(1,)], 1), ([(1, 2), (1,)], 1), ([(2,)], None), ([(1,), (2,)], None)],
)
def test_negotiation(announced: list[tuple[int, ...]], format_: int | None) -> None:
    """The highest format that all announce, or none."""
    assert negotiate(announced) == format_


@pytest.mark.parametrize(
    ("table", "move_bp"),
    [
        (table_of(version=Version(8, 1)), 0),
        (moved({"a": 6050, "b": 3950}), 50),
        (moved({"a": 6000, "c": 4000}), 4000),
        (moved({"a": 2000, "b": 4000, "c": 4000}), 4000),
        (moved({"a": 5900, "b": 3900, "c": 200}), 200),
        (moved({"a": 10_000}), 4000),
        (moved({"a": 6000, "b": 4000}, later=(Stage(overlay="x", shares_bp={"a": 10_000}),)), 0),
        (moved({"a": 6000, "b": 4000}, chain=("b", "a")), 10_000),
        (moved({"a": 6000, "b": 4000}, last_resort=1), 10_000),
        (table_of(targets={**TABLE.targets, "c": entry("c", generation=1)}), 10_000),
        (table_of(trials=(Trial(target="a", proxy="p", grant=1),)), 10_000),
        (table_of(environment="staging"), 10_000),
        (table_of(fleet="other"), 10_000),
    ],
)
def test_largest_move(table: Table, move_bp: int) -> None:
    """The largest change of a share in basis points; anything else that differs is everything."""
    assert largest_move_bp(TABLE, table) == move_bp


def test_no_move_without_shares() -> None:
    """Two closed routes are the same."""
    assert largest_move_bp(moved({}, closed="x"), moved({}, closed="x")) == 0


DIFFS: list[tuple[Table | None, Table, list[str]]] = [
    (TABLE, TABLE, []),
    (None, TABLE, ["route chat: a 0 % → 60 %, b 0 % → 40 %"]),
    (TABLE, moved({"a": 5950, "b": 4000, "c": 50}), ["route chat: a 60 % → 59.5 %, c 0 % → 0.5 %"]),
    (TABLE, moved({"a": 6000, "b": 4000}, chain=("b", "a")), ["route chat: chain a > b → b > a"]),
    (
        TABLE,
        moved({}, chain=(), closed="all gone"),
        [
            "route chat: a 60 % → 0 %, b 40 % → 0 %",
            "route chat: chain a > b → –",
            "route chat: closed: all gone",
        ],
    ),
    (moved({}, chain=(), closed="all gone"), moved({}, chain=(), closed="all gone"), []),
    (
        moved({}, chain=(), closed="x"),
        moved({"b": 10_000}, chain=("b",)),
        ["route chat: b 0 % → 100 %", "route chat: chain – → b"],
    ),
    (None, moved({}, closed="x"), ["route chat: closed: x"]),
    (
        TABLE,
        table_of(routes={"new": route({"c": 10_000})}),
        ["route chat: removed", "route new: c 0 % → 100 %"],
    ),
    (
        TABLE,
        table_of(targets={**TABLE.targets, "b": entry("b", base_url="https://else.test")}),
        ["target b: b-1 at https://b.test/v1 → b-1 at https://else.test"],
    ),
    (TABLE, table_of(targets={**TABLE.targets, "d": entry("d")}), []),
    (
        TABLE,
        table_of(trials=(Trial(target="b", proxy="p1", grant=4),)),
        ["target b: trial 4 granted to p1"],
    ),
    (table_of(trials=(Trial(target="b", proxy="p1", grant=4),)), TABLE, []),
    (
        None,
        table_of(trials=(Trial(target="b", proxy="p1", grant=4),)),
        ["route chat: a 0 % → 60 %, b 0 % → 40 %", "target b: trial 4 granted to p1"],
    ),
]


@pytest.mark.parametrize(("old", "new", "lines"), DIFFS)
def test_diff(old: Table | None, new: Table, lines: list[str]) -> None:
    """What another table would change, a line each."""
    assert diff(old, new) == lines


@pytest.mark.parametrize(
    ("share_bp", "text"), [(0, "0 %"), (10_000, "100 %"), (3750, "37.5 %"), (1, "0.01 %"), (1000, "10 %")]
)
def test_percent(share_bp: int, text: str) -> None:
    """Basis points as people read them."""
    assert percent(share_bp) == text


def test_unknown_fields_pass() -> None:
    """A field of a later version does not make a table unreadable."""
    raw = msgspec.json.decode(encode(TABLE))
    raw["later_invention"] = 1

    assert decode(msgspec.json.encode(raw)) == TABLE
