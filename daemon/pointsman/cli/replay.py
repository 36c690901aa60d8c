"""`replay`: does this version decide as the recorded decisions were decided?"""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman import __version__
from pointsman.cli.common import (
    REFUSED,
    CommandError,
    ConfigOption,
    Output,
    OutputOption,
    load_settings,
    opened,
    print_json,
    run,
    tell,
    usage,
)
from pointsman.cli.moments import shown

if TYPE_CHECKING:
    from pointsman.core.record import Came
    from pointsman.store.client import Store
    from pointsman.store.recording import Entry

LAST: Final = 100
COLUMNS: Final = 80


def replay(
    at: Annotated[
        str | None,
        typer.Option("--at", help="Only the decision in force then: 14:03, 10m.", show_default=False),
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", "-n", min=1, help=f"The last so many; {LAST} if not said.")
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Decide recorded decisions again, with the rules of this version.

    Says for each whether it comes out the same, and what differs. Exit code 1 if any does, so a new version can be
    tried against yesterday's decisions before it leads. It only reads. Recorded is every decision that came to
    anything, and the first quiet one of every minute (control.records_mb).
    """
    if at and last:
        usage("--at is one record, --last are several: give one of them")
    settings = load_settings(config)

    async def decide_again() -> None:
        async with opened(settings) as store:
            entries = await _wanted(store, at, last or LAST)
        rows: list[dict[str, Any]] = []
        for entry in entries:
            rows.append(_row(entry))
            if output is Output.TEXT:
                _tell(rows[-1])
        counts = {
            verdict: sum(row["verdict"] == verdict for row in rows)
            for verdict in ("same", "differs", "unreadable", "without evidence")
        }
        if output is Output.JSON:
            print_json({"version": __version__, "counts": counts, "records": rows})
        else:
            counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
            tell(f"{len(rows)} decided again by pointsman {__version__}: {counted}")
        if counts["differs"] or counts["unreadable"]:
            raise typer.Exit(REFUSED)

    run(decide_again)


async def _wanted(store: "Store", at: str | None, last: int) -> "list[Entry]":
    from pointsman.cli.past import entry_at, nothing_recorded  # noqa: PLC0415

    if at is not None:
        return [(await entry_at(store, at))[1]]
    entries = await store.records.before("+", last)
    if not entries:
        raise CommandError(nothing_recorded(store))
    return entries[::-1]


def _row(entry: "Entry") -> dict[str, Any]:
    from pointsman.core.replay import replay as replayed  # noqa: PLC0415
    from pointsman.store.errors import Unreadable  # noqa: PLC0415

    row: dict[str, Any] = {"id": entry.id, "at_s": entry.time_s, "by": "", "what": "", "differences": []}
    try:
        record = entry.record()
    except Unreadable as error:
        return row | {"verdict": "unreadable", "differences": [str(error)]}
    row |= {"at_s": record.at_s, "by": record.by, "what": _what(record.came)}
    if record.asked is None:
        return row | {"verdict": "without evidence"}
    differences = replayed(record)
    return row | {"verdict": "differs" if differences else "same", "differences": differences}


def _what(came: "Came") -> str:
    """A decision in a few words."""
    told = [note.text for note in came.notes]
    told += [f"refused: {answer.text}" for answer in came.answers if not answer.ok]
    return "; ".join(told) or "quiet"


def _tell(row: dict[str, Any]) -> None:
    line = f"{shown(row['at_s'])}  {row['verdict']:<10} {row['what']}".rstrip()
    tell(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…")
    for difference in row["differences"]:
        tell(f"  {difference}")
    if row["verdict"] == "differs":
        tell(f"  (decided by {row['by']})")
