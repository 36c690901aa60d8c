"""A measured table: shown on the terminal, kept as JSON in bench/out/."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.machine import CORES

Value = str | float | int | None


@dataclass
class Sheet:
    """Rows whose column names carry the unit; the first column says what the row is about.

    None is a value that was not measured; `remarks` are sentences that belong to the figures; `failures` say what
    could not be measured although everything for it was there.
    """

    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print it."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(_shown(row.get(column)) for column in columns))
        if self.rows:
            console.print(table)
        for remark in self.remarks:
            console.print(f"  {remark}", style="dim", highlight=False, markup=False)
        for failure in self.failures:
            console.print(f"  failed: {failure}", style="red", highlight=False, markup=False)


def _shown(value: Value) -> str:
    match value:
        case None:
            return "–"
        case float() if abs(value) >= 1000:
            return f"{value:,.0f}"
        case float():
            return f"{value:.3g}"
        case int():
            return f"{value:,}"
    return value


def keep(folder: Path, name: str, sheets: list[Sheet], *, quick: bool) -> Path:
    """Write the sheets to <folder>/<name>.json (over those of the last run)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    body = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": {
            "cpu": _cpu_model(),
            "cores": len(CORES),
            "load": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "sheets": [asdict(sheet) for sheet in sheets],
    }
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
