"""`table`: what is published, what was, and the way back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from pointsman.cli.common import (
    CommandError,
    ConfigOption,
    DryRunOption,
    Output,
    OutputOption,
    ReasonOption,
    age,
    change,
    decoded,
    load_settings,
    opened,
    optional_duration_s,
    print_json,
    run,
    table_of,
    tell,
    usage,
)
from pointsman.core.evidence import Verb
from pointsman.core.table import Table, TableError, decode, diff

if TYPE_CHECKING:
    from pointsman.store.client import Store

# Route → target → sentence.
Reasons = dict[str, dict[str, str]]

app = typer.Typer(help="The published routing table, its history, and the way back.", no_args_is_help=True)

RevisionArgument = Annotated[
    str, typer.Argument(help='A revision ("12") or version ("1760000000.12") of the history.')
]


@app.command()
def show(
    revision: Annotated[
        str, typer.Argument(help="A revision of the history; left out: the present table.")
    ] = "",
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the published table, or an older one, with the reason for every share."""
    settings = load_settings(config)

    async def show_table() -> None:
        async with opened(settings) as store:
            table, reasons = await (_at(store, revision) if revision else _present(store))
        if output is Output.JSON:
            print_json({**to_builtins(table), "reasons": reasons})
            return
        tell(f"table {table.version} of {table.environment}/{table.fleet}")
        for name, route in sorted(table.routes.items()):
            shares = ", ".join(f"{t} {bp / 100:.2f} %" for t, bp in route.shares_bp.items())
            tell(f"{name}: {shares or 'closed: ' + route.closed}")
            for target, why in reasons.get(name, {}).items():
                tell(f"  {target}: {why}")
            tell(f"  falls over along {' > '.join(route.chain)}")

    run(show_table)


@app.command()
def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what was published and what changed."""
    settings = load_settings(config)

    async def show_history() -> None:
        async with opened(settings) as store:
            entries = await store.history(limit + 1)
            now_s = await store.now_s()
        rows: list[dict[str, Any]] = []
        for place, entry in enumerate(entries[:limit]):
            before = _decoded(entries[place + 1].body) if place + 1 < len(entries) else None
            after = _decoded(entry.body)
            changes = diff(before, after) if after else ["unreadable by this version"]
            rows.append(
                {"version": str(entry.version), "age_s": now_s - entry.published_s, "changes": changes}
            )
        if output is Output.JSON:
            print_json(rows)
            return
        for row in rows:
            tell(f"{row['version']}  {age(row['age_s'])} ago")
            for line in row["changes"]:
                tell(f"  {line}")

    run(show_history)


@app.command(name="diff")
def diff_tables(
    older: RevisionArgument,
    newer: Annotated[str, typer.Argument(help="Left out: the present table.")] = "",
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what changed between two tables."""
    settings = load_settings(config)

    async def show_diff() -> None:
        async with opened(settings) as store:
            before, _ = await _at(store, older)
            after = (await _at(store, newer))[0] if newer else await table_of(store)
        if after is None:
            raise CommandError("no table is published yet: pointsman status")
        lines = diff(before, after)
        if output is Output.JSON:
            print_json({"from": str(before.version), "to": str(after.version), "changes": lines})
        else:
            tell("\n".join(lines) or "they route the same")

    run(show_diff)


@app.command()
def rollback(
    revision: RevisionArgument,
    lasting: Annotated[
        str | None,
        typer.Option("--for", help="How long: 10m, 2h; left out: until unpinned.", show_default=False),
    ] = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Pin every route to its shares at REVISION.

    That is published as a new table, and ended with `pointsman unpin ROUTE`.
    """
    settings = load_settings(config)

    async def roll_back() -> None:
        async with opened(settings) as store:
            table, _ = await _at(store, revision)
        args = {
            "version": str(table.version),
            "routes": {name: route.shares_bp for name, route in table.routes.items() if route.shares_bp},
            "for_s": optional_duration_s(lasting),
        }
        await change(config, Verb.ROLLBACK, args, reason=reason, dry_run=dry_run, output=output)

    run(roll_back)


async def _present(store: "Store") -> "tuple[Table, Reasons]":
    published = await store.table()
    if published is None:
        raise CommandError("no table is published yet: pointsman status")
    return decoded(published), published.reasons


async def _at(store: "Store", written: str) -> "tuple[Table, Reasons]":
    """The table of "12" or "1760000000.12" and its reasons; a CommandError names the cure if the history has none."""
    number = written.rpartition(".")[2]
    if not number.isdigit():
        usage(f"{written!r} is no revision: pointsman table history lists them")
    entry = await store.at(int(number))
    if entry is None or ("." in written and str(entry.version) != written):
        raise CommandError(f"table {written} is not in the history: pointsman table history lists what is")
    try:
        return decode(entry.body), entry.reasons
    except TableError as error:
        raise CommandError(f"table {written} cannot be used: {error}") from error


def _decoded(body: bytes) -> Table | None:
    try:
        return decode(body)
    except TableError:
        return None
