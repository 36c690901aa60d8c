"""`events`: what happened, as it was told at the time."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.common import (
    ConfigOption,
    Output,
    OutputOption,
    duration_s,
    load_settings,
    opened,
    run,
    tell,
)

if TYPE_CHECKING:
    from pointsman.core.model import Note


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as things happen, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only of the last 10m, 2h …", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many of the latest.")] = 100,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what happened, the newest last.

    With --output json one JSON document a line.
    """
    settings = load_settings(config)
    span_s = duration_s(since) if since else None

    async def show() -> None:
        async with opened(settings) as store:
            after = "-" if span_s is None else f"{int((await store.now_s() - span_s) * 1000)}-0"
            found = await store.events(count, after)
            for place, note in found:
                _print(place, note, output)
            if follow:
                async for place, note in store.follow_events(found[-1][0] if found else "$"):
                    _print(place, note, output)

    run(show)


def _print(place: str, note: "Note", output: Output) -> None:
    import msgspec  # noqa: PLC0415

    if output is Output.JSON:
        line = {"id": place, **msgspec.to_builtins(note)}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        return
    at = datetime.fromtimestamp(note.at_s).astimezone()
    tell(f"{at:%Y-%m-%d %H:%M:%S}  {note.kind:<18} {note.text}")
