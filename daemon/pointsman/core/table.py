"""The routing table: its format, validation, hash and difference.

A table is immutable. Its version is (epoch, revision): the epoch is the leader's fencing token, the revision
counts publications. Its hash is over what routes; reasons and renewed deadlines travel beside it.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from pointsman.core.strangers import UNREADABLE

FULL_BP: Final = 10_000
TABLE_FORMAT: Final = 1
TABLE_FORMATS: Final = (1,)


# Epochs begin with the clock in seconds. From sixteen digits on the store's scripts cannot count exactly.
NUMBER_END: Final = 10**15


class Version(Struct, frozen=True, order=True, array_like=True):
    """Ordered: a later epoch beats any revision of an earlier one."""

    epoch: int
    revision: int

    @property
    def possible(self) -> bool:
        """Can a leader have given it? One of a stranger must not be above all that leaders will ever give."""
        return 0 <= self.epoch < NUMBER_END and 0 <= self.revision < NUMBER_END

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"


class TargetEntry(Struct, frozen=True, kw_only=True):
    """Where a target is. No credential and no reference to one: the proxy binds those to hosts by itself.

    `generation` grows when the target comes back into service: a proxy then forgets its own ejection of it.
    """

    provider: str
    model: str
    family: str
    base_url: str
    generation: int = 0
    headers: dict[str, str] = {}


class Stage(Struct, frozen=True, kw_only=True):
    """Shares that a proxy takes by itself once the overlay named has run out.

    When that is stands beside the table (`deadlines`: overlay → seconds since 1970 by the store's clock), so
    that a renewed deadline is not a new table.
    """

    overlay: str
    shares_bp: dict[str, int]


class RouteEntry(Struct, frozen=True, kw_only=True):
    """How a route's requests are spread, and in which order they fall over.

    `shares_bp` sum to 10,000, or are empty when no target is eligible (`closed` then says why, and the proxy
    answers `fallback_exhausted`). `chain` holds every target that may be tried, best first; those after
    `last_resort` places are cooling down and only tried when all before them failed. `anchor_bp`: the shares that
    sticky callers are settled by first, so that later shares move as few of them as can be; `wanted_bp`: what the
    shares would be if every target were well. `ramp`: the stamp that proxies count the route's first attempts under,
    "" if no ramp asks for it.
    """

    family: str
    shares_bp: dict[str, int]
    chain: tuple[str, ...]
    last_resort: int = 0
    sticky_by: tuple[str, ...] = ()
    max_attempts: int = 0
    later: tuple[Stage, ...] = ()
    closed: str = ""
    anchor_bp: dict[str, int] = {}
    wanted_bp: dict[str, int] = {}
    ramp: str = ""


class Trial(Struct, frozen=True, kw_only=True):
    """Leave for one proxy to send one live request to a half-open target; a new `grant` is a new leave."""

    target: str
    proxy: str
    grant: int


class Table(Struct, frozen=True, kw_only=True):
    """What a proxy routes by."""

    environment: str
    fleet: str
    version: Version
    hash: str
    issued_s: float
    targets: dict[str, TargetEntry]
    routes: dict[str, RouteEntry]
    trials: tuple[Trial, ...] = ()
    format: int = TABLE_FORMAT


class TableError(Exception):
    """A table that must not be routed by; the message is the reason, for people."""


def table_hash(table: Table) -> str:
    """The hash over what routes: equal for two tables that send every request the same way."""
    routed = (table.environment, table.fleet, table.targets, table.routes, table.trials)
    return hashlib.sha256(msgspec.json.encode(routed, order="sorted")).hexdigest()


def encode(table: Table) -> bytes:
    """The table as it is stored: JSON, the same bytes for the same table."""
    return msgspec.json.encode(table, order="sorted")


def decode(body: bytes) -> Table:
    """The table in `body`. Raises TableError for one that is empty, corrupt, inconsistent or of another format."""
    if not body:
        raise TableError("the table is empty")
    try:
        written = msgspec.json.decode(body, type=_Format).format
    except UNREADABLE as error:
        raise TableError(f"the table is corrupt: {error}") from error
    if written not in TABLE_FORMATS:
        known = ", ".join(map(str, TABLE_FORMATS))
        raise TableError(f"the table has format {written}; this version reads {known}: upgrade it")
    try:
        table = msgspec.json.decode(body, type=Table)
    except UNREADABLE as error:
        raise TableError(f"the table is corrupt: {error}") from error
    if not table.version.possible:
        raise TableError(f"the table's version {table.version} was given by no daemon")
    problems = validate(table)
    if problems:
        raise TableError(f"the table is inconsistent: {problems[0]}")
    if table.hash != table_hash(table):
        raise TableError("the table's hash does not fit its content")
    return table


class _Format(Struct):
    format: int


def validate(table: Table) -> list[str]:
    """Everything that is wrong with a table, in sentences; empty if it may be published and routed by."""
    if not table.routes or not table.targets:
        return ["it has no routes or no targets"]
    problems: list[str] = []
    for name, route in table.routes.items():
        all_shares = (route.shares_bp, *(stage.shares_bp for stage in route.later))
        for shares in all_shares:
            problems += _wrong_shares(name, route, shares)
        for target in dict.fromkeys([*route.chain, *(name for shares in all_shares for name in shares)]):
            problems += _wrong_target(name, route, target, table)
        if not 0 <= route.last_resort <= len(route.chain):
            problems.append(f"route {name}: last_resort {route.last_resort} is outside the chain")
    problems += [
        f"the trial of {trial.target} is not of a target of the table"
        for trial in table.trials
        if trial.target not in table.targets
    ]
    return problems


def _wrong_shares(name: str, route: RouteEntry, shares: dict[str, int]) -> list[str]:
    if not shares:
        return [] if route.closed else [f"route {name} has no shares and does not say why"]
    problems = (
        [] if sum(shares.values()) == FULL_BP else [f"route {name}: shares sum to {sum(shares.values())}"]
    )
    return problems + [
        f"route {name}: {target} has a negative share" for target, share in shares.items() if share < 0
    ]


def _wrong_target(name: str, route: RouteEntry, target: str, table: Table) -> list[str]:
    if target not in table.targets:
        return [f"route {name}: {target} is not a target of the table"]
    if table.targets[target].family != route.family:
        return [f"route {name}: {target} speaks another protocol family"]
    if target in route.shares_bp and target not in route.chain:
        return [f"route {name}: {target} has a share and is not in the chain"]
    return []


def check_newer(new: Table, old: Table | None, *, environment: str, fleet: str) -> None:
    """Raise TableError unless `new` is of this fleet and not older than `old`: tables never go backwards."""
    if (new.environment, new.fleet) != (environment, fleet):
        raise TableError(
            f"the table is for {new.environment}/{new.fleet}, and this proxy serves {environment}/{fleet}"
        )
    if old is not None and new.version < old.version:
        raise TableError(f"table {new.version} is older than {old.version}, which is being served")


def negotiate(announced: Iterable[tuple[int, ...]]) -> int | None:
    """The highest format that all live proxies announce; None if there is none (tell, and publish the oldest)."""
    common = set(TABLE_FORMATS)
    for formats in announced:
        common &= set(formats)
    return max(common) if common else None


def largest_move_bp(old: Table, new: Table) -> int:
    """The largest change of any target's share in any route, in basis points; 10,000 if anything else differs."""
    if _but_shares(old) != _but_shares(new):
        return FULL_BP
    moves = [
        abs(route.shares_bp.get(target, 0) - old.routes[name].shares_bp.get(target, 0))
        for name, route in new.routes.items()
        for target in {*route.shares_bp, *old.routes[name].shares_bp}
    ]
    return max(moves, default=0)


def _but_shares(table: Table) -> object:
    routes = {
        name: msgspec.structs.replace(route, shares_bp={}, later=()) for name, route in table.routes.items()
    }
    return (table.environment, table.fleet, table.targets, routes, table.trials)


def diff(old: Table | None, new: Table) -> list[str]:
    """What another table would change, a line each; empty if it routes the same."""
    lines: list[str] = []
    before = old.routes if old else {}
    for name in sorted({*before, *new.routes}):
        lines += _route_diff(name, before.get(name), new.routes.get(name))
    for target, entry in sorted(new.targets.items()):
        was = old.targets.get(target) if old else None
        if was is not None and (was.base_url, was.model) != (entry.base_url, entry.model):
            lines.append(
                f"target {target}: {was.model} at {was.base_url} → {entry.model} at {entry.base_url}"
            )
    trials = {(trial.target, trial.proxy, trial.grant) for trial in new.trials}
    known = {(trial.target, trial.proxy, trial.grant) for trial in old.trials} if old else set()
    lines += [
        f"target {target}: trial {grant} granted to {proxy}"
        for target, proxy, grant in sorted(trials - known)
    ]
    return lines


def _route_diff(name: str, old: RouteEntry | None, new: RouteEntry | None) -> list[str]:
    if new is None:
        return [f"route {name}: removed"]
    was = old.shares_bp if old else {}
    moves = [
        f"{target} {percent(was.get(target, 0))} → {percent(new.shares_bp.get(target, 0))}"
        for target in sorted({*was, *new.shares_bp})
        if was.get(target, 0) != new.shares_bp.get(target, 0)
    ]
    lines = [f"route {name}: {', '.join(moves)}"] if moves else []
    if old is not None and old.chain != new.chain:
        lines.append(f"route {name}: chain {' > '.join(old.chain) or '–'} → {' > '.join(new.chain) or '–'}")
    if new.closed and (old is None or old.closed != new.closed):
        lines.append(f"route {name}: closed: {new.closed}")
    return lines


def percent(share_bp: int) -> str:
    """Basis points as people read them: 3750 → "37.5 %"."""
    return f"{share_bp / 100:.2f}".rstrip("0").rstrip(".") + " %"
