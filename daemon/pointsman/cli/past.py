"""`explain ROUTE --at TIME`: what routed then, and why, as the recorded decisions have it."""

from typing import TYPE_CHECKING, Any, Final

from pointsman.cli.common import CommandError, age, usage
from pointsman.cli.moments import end_s, shown, shown_in_utc

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pointsman.core.record import Record
    from pointsman.core.table import RouteEntry
    from pointsman.store.client import Store
    from pointsman.store.recording import Entry

# So many records before a quiet one are looked through for what had been decided last.
LOOKED_BACK: Final = 60
SHOWN: Final = 10
# While somebody decides and records, no two records are further apart.
GAP_S: Final = 90.0


async def explained_at(store: "Store", route: str, written: str) -> dict[str, Any]:
    """The shares of the moment `written`, their reasons, and what had been decided; a CommandError if nobody knows."""
    moment_s, entry = await entry_at(store, written)
    record = entry.record()
    table = record.in_force
    if table is None or route not in table.routes:
        known = ", ".join(table.routes) if table else "none"
        raise CommandError(f"there was no route {route!r} at {shown(moment_s)}; there were: {known}")
    found = table.routes[route]
    return {
        "route": route,
        "at_s": moment_s,
        "closed": found.closed,
        "chain": list(found.chain),
        "targets": _targets(found, record.came.reasons.get(route, {})),
        "table": {"version": str(table.version), "hash": table.hash, "issued_s": table.issued_s},
        "decided": await _last_decided(store, entry, record, {route, *found.chain}),
        "record": {"id": entry.id, "at_s": record.at_s, "by": record.by},
    }


async def entry_at(store: "Store", written: str) -> tuple[float, "Entry"]:
    """The moment `written`, and the record in force then; a CommandError says what is recorded if there is none."""
    now_s = await store.now_s()
    moment_s = end_s(written, now_s)
    if moment_s > now_s + 1:
        usage(f"{written!r} is still to come")
    entry = await store.records.at(moment_s)
    if entry is None:
        span = await store.records.span()
        if span is None:
            raise CommandError(nothing_recorded(store))
        raise CommandError(
            f"no decision is recorded at {shown(moment_s)} or before: "
            f"the records go from {shown(span[0])} to {shown(span[1])}"
        )
    return min(moment_s, now_s), entry


def nothing_recorded(store: "Store") -> str:
    """Why there is no record at all, and what to do."""
    if not store.records.cap_bytes:
        return "decisions are not recorded: control.records_mb is 0"
    return "no decision is recorded yet: is a daemon running? pointsman status"


def _targets(route: "RouteEntry", reasons: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "target": target,
            "share": route.shares_bp.get(target, 0) / 100,
            "reason": reasons.get(target, ""),
        }
        for target in dict.fromkeys([*reasons, *route.shares_bp, *route.chain])
    ]


async def _last_decided(
    store: "Store", entry: "Entry", record: "Record", names: set[str]
) -> dict[str, Any] | None:
    """What the last decision that came to anything told, most of it about `names` first; None if it is too long ago."""
    from pointsman.store.errors import Unreadable  # noqa: PLC0415

    looked = 0
    while True:
        if told := _told(record, names):
            return {"at_s": record.at_s, "told": told}
        looked += 1
        older = await store.records.before(f"({entry.id}", 1)
        if not older or looked > LOOKED_BACK:
            return None
        entry = older[0]
        try:
            record = entry.record()
        except Unreadable:
            return None


def _told(record: "Record", names: set[str]) -> list[dict[str, str]]:
    told = [
        {"kind": note.kind, "subject": note.subject, "text": note.text}
        for note in sorted(record.came.notes, key=lambda note: note.subject not in names)
    ]
    refused = (answer.text for answer in record.came.answers if not answer.ok)
    return told + [{"kind": "word.refused", "subject": "", "text": f"refused: {text}"} for text in refused]


def rendered(seen: dict[str, Any]) -> "RenderableType":
    """What `explained_at` found, for people."""
    from rich.console import Group  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    at_s, record, table, decided = (seen[name] for name in ("at_s", "record", "table", "decided"))
    parts: list[RenderableType] = [Text(f"{seen['route']} at {shown_in_utc(at_s)}", style="bold")]
    if seen["closed"]:
        parts.append(Text(f"closed: {seen['closed']}", style="red"))
    for target in seen["targets"]:
        line = Text(f"  {target['target']} {target['share']:.2f} %", style="bold")
        line.append(f": {target['reason'] or 'not in the table'}", style="not bold")
        parts.append(line)
    parts.append(Text(f"  falls over along: {' > '.join(seen['chain']) or 'nothing'}"))
    parts.append(Text(f"  table {table['version']}, {age(at_s - table['issued_s'])} old then", style="dim"))
    if decided is not None:
        parts.append(Text(f"  decided {age(at_s - decided['at_s'])} before:"))
        lines = [one["text"] for one in decided["told"]]
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"… and {len(lines) - SHOWN} more (--output json has all)"]
        parts += [Padding.indent(Text(line), 4) for line in lines]
    old_s = at_s - record["at_s"]
    parts.append(Text(f"  from a record {age(old_s)} older, by {record['by']}", style="dim"))
    if old_s > GAP_S:
        parts.append(Text("  ! nobody decided in between, or nobody recorded it", style="yellow"))
    return Group(*parts)
