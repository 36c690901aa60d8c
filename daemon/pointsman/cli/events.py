"""`events`: what happened, as it was told at the time."""

import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.common import ConfigOption, Output, OutputOption, load_settings, opened, run, tell, usage
from pointsman.cli.moments import end_s, shown, start_s

if TYPE_CHECKING:
    from pointsman.core.model import Note
    from pointsman.store.client import Store

Wanted = Callable[["Note"], bool]

# So many at once are looked through for those that are wanted.
_PAGE = 1000


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as things happen, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="From then on: 10m, 14:03 …", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Up to then: 10m, 14:03 …", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Of this kind: target, target.tripped …")
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option("--subject", "-s", help="About it: a target, route, proxy.")
    ] = None,
    route: Annotated[
        list[str] | None, typer.Option("--route", help="About this route or one of its targets.")
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", "-g", help="With this text.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many of the latest.")] = 100,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what happened, the newest last.

    Each option narrows it down; one that is given twice means either. With --output json one JSON document a line.
    """
    if follow and until:
        usage("--until looks back and --follow ahead: give one of them")
    settings = load_settings(config)

    async def show() -> None:
        async with opened(settings) as store:
            now_s = await store.now_s()
            after = f"{int(start_s(since, now_s) * 1000)}-0" if since else "-"
            to = f"{int(end_s(until, now_s) * 1000)}" if until else "+"
            wanted = _wanted(kind, subject, grep, {name: await _targets(store, name) for name in route or ()})
            found, newest = await _latest(store, wanted, count, after, to)
            for place, note in found:
                _print(place, note, output)
            if follow:
                async for place, note in store.follow_events(newest or "$"):
                    if wanted is None or wanted(note):
                        _print(place, note, output)

    run(show)


async def _latest(
    store: "Store", wanted: Wanted | None, count: int, after: str, until: str
) -> tuple[list[tuple[str, "Note"]], str]:
    """The newest `count` that are wanted, and the id of the newest that there is ("" if none)."""
    found: list[tuple[str, Note]] = []
    newest, size = "", _PAGE if wanted else count
    while len(found) < count:
        page = await store.events(size, after, until)
        if not page:
            break
        newest = newest or page[-1][0]
        found = [(place, note) for place, note in page if wanted is None or wanted(note)] + found
        until = f"({page[0][0]}"
        if len(page) < size:
            break
    return found[-count:], newest


async def _targets(store: "Store", route: str) -> set[str]:
    """The targets of a route, as far as the active configuration knows it."""
    state = await store.load_state()
    found = state.plan.routes.get(route) if state is not None and state.plan is not None else None
    if found is None:
        sys.stderr.write(f"pointsman: there is no route {route!r} now: only events that name it are shown\n")
        return set()
    return {*found.chain, *found.weights_bp}


def _wanted(
    kinds: Iterable[str] | None,
    subjects: Iterable[str] | None,
    grep: str | None,
    routes: dict[str, set[str]],
) -> Wanted | None:
    """Which notes are wanted; None if all are."""
    rules: list[Wanted] = []
    if kinds:
        beginnings = tuple(kinds)
        rules.append(lambda note: note.kind.startswith(beginnings))
    if subjects:
        names = set(subjects)
        rules.append(lambda note: note.subject in names)
    if routes:
        about = {*routes}.union(*routes.values())
        named = re.compile("|".join(rf"(?<![\w/@.-]){re.escape(name)}(?![\w/@-])" for name in routes))
        rules.append(lambda note: note.subject in about or named.search(note.text) is not None)
    if grep is not None:
        text = grep.casefold()
        rules.append(lambda note: text in note.text.casefold())
    return (lambda note: all(rule(note) for rule in rules)) if rules else None


def _print(place: str, note: "Note", output: Output) -> None:
    import msgspec  # noqa: PLC0415

    if output is Output.JSON:
        line = {"id": place, **msgspec.to_builtins(note)}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        return
    tell(f"{shown(note.at_s)}  {note.kind:<18} {note.text}")
