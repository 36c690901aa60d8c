"""How the story looks: a live picture in a terminal, plain lines anywhere else."""

import time
from collections import deque
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from pointsman.core.table import Table, percent
from pointsman.demo.stage import SHORTENED
from pointsman.demo.summary import Event, Summary
from pointsman.demo.traffic import Tally

BAR: Final = 30
STATUS_EVERY_S: Final = 5.0
COLOURS: Final = {
    "bedrock": "dark_orange",
    "google": "dodger_blue1",
    "meta": "medium_purple",
    "anthropic": "sandy_brown",
    "openrouter": "cyan",
}


class View:
    """Shows lines as they are told, and the state of things. `plain` where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.plain = not console.is_terminal or console.is_dumb_terminal
        self._lines: deque[Text] = deque(maxlen=12)
        self._began = time.monotonic()
        self._status_due = STATUS_EVERY_S
        self.live = None if self.plain else Live(console=console, refresh_per_second=8, transient=True)

    def tell(self, line: str) -> None:
        """One thing that happened."""
        stamp = f"{time.monotonic() - self._began:5.1f} s  "
        if self.plain:
            self.console.print(Text(stamp + line), soft_wrap=True)
            return
        style = "bold" if line.startswith("—") else ""
        self._lines.append(Text.assemble((stamp, "dim"), (line, style), overflow="ellipsis", no_wrap=True))

    def show(self, table: Table | None, tally: Tally, store_away: bool) -> None:
        """The present state: redrawn in a terminal, a line every few seconds elsewhere."""
        if self.live is not None:
            self.live.update(self._picture(table, tally, store_away))
            return
        if time.monotonic() - self._began >= self._status_due:
            self._status_due += STATUS_EVERY_S
            shares = table.routes["chat"].shares_bp if table else {}
            told = ", ".join(f"{target} {percent(share)}" for target, share in shares.items())
            self.tell(f"{tally.requests} requests, {tally.failed} failed; chat: {told}")

    def _picture(self, table: Table | None, tally: Tally, store_away: bool) -> RenderableType:
        grid = Grid.grid(padding=(0, 1))
        for route in ("chat", "claude"):
            shares = table.routes[route].shares_bp if table else {}
            known = [t for t in COLOURS if table and t in table.routes[route].chain]
            for index, target in enumerate(known):
                share = shares.get(target, 0)
                full = round(share * BAR / 10_000)
                grid.add_row(
                    Text(route if index == 0 else "", "bold"),
                    target,
                    Text("█" * full + "·" * (BAR - full), COLOURS[target]),
                    f"{percent(share):>8}",
                    f"{tally.served_by.get(target, 0):>6} served",
                )
        failed = Text(f"{tally.failed} failed", "bold green" if not tally.failed else "bold red")
        counts = Text.assemble(
            f"{tally.requests} requests   ",
            failed,
            f"   {tally.broken_streams} streams broken   {tally.open_streams} open   {tally.fell_over} fell over",
        )
        version = f"table {table.version}" if table else "no table yet"
        title = "pointsman demo · " + ("the store is away" if store_away else version)
        return Panel(Group(grid, Text(), counts, Text(), *self._lines), title=title, subtitle=_shortened())

    def intro(self) -> None:
        """What is about to be seen, and what is not as in real life."""
        self.console.print(
            "pointsman demo: five fake providers, a daemon, its store, two proxies, steady traffic.",
            soft_wrap=True,
        )
        for what, how in SHORTENED.items():
            self.console.print(f"  shortened: {what} {how}", style="dim", soft_wrap=True)

    def end(self, summary: Summary) -> None:
        """The figures, for people: a table in a terminal, a line for each event elsewhere."""
        if self.plain:
            for event in summary.events:
                self.console.print(Text(f"  {event.name}: {_told(event)}"), soft_wrap=True)
        else:
            self._table(summary)
        colour = "green" if not summary.failed else "red"
        self.console.print(
            f"\n{summary.requests} requests in {summary.duration_s:.0f} s, [bold {colour}]{summary.failed} failed[/], "
            f"{summary.broken_streams} streams broken (begun when their provider died), "
            f"{summary.fell_over} served by another target; {summary.tables} tables, the last {summary.table_version}",
            soft_wrap=True,
        )
        for failure in summary.failures:
            self.console.print(f"  {failure}", style="red", markup=False, soft_wrap=True)

    def _table(self, summary: Summary) -> None:
        grid = Grid(title="what happened", title_justify="left", show_edge=False, pad_edge=False)
        for heading in ("event", "detected", "shifted", "took", ""):
            grid.add_column(heading, justify="left" if heading in {"event", ""} else "right")
        for event in summary.events:
            seconds = (_seconds(s) for s in (event.detection_s, event.shift_s, event.recovery_s))
            grid.add_row(event.name, *seconds, _remark(event))
        self.console.print(grid)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _remark(event: Event) -> str:
    return event.note or (f"{event.open_streams} streams were open" if event.open_streams else "")


def _told(event: Event) -> str:
    """What was measured of an event, in a line."""
    parts = [
        event.detection_s is not None and f"detected after {_seconds(event.detection_s)}",
        event.shift_s is not None and f"shifted {_seconds(event.shift_s)} later",
        event.recovery_s is not None and f"took {_seconds(event.recovery_s)}",
        _remark(event),
    ]
    return ", ".join(part for part in parts if part)


def _shortened() -> str:
    return "timings are shortened: " + ", ".join(SHORTENED)
