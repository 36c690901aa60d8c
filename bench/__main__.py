"""`python -m bench [name …] [--quick]`: run benches, show their tables, keep them in bench/out/."""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import machine
from bench.sheet import keep

OUT: Final = Path(__file__).parent / "out"
BENCHES: Final = {
    "decide": "what one decision costs",
    "records": "what recording a decision costs, and reading and replaying it",
    "feeds": "from publication to the last proxy that routes by it",
    "reports": "what the proxies' reports cost the store and the leader",
    "probing": "10,000 targets every 30 s on one core",
    "proxy": "throughput, added latency, streams and memory, beside Envoy, nginx, HAProxy and LiteLLM's proxy",
    "memory": "resident memory of daemon and proxy",
    "ramps": "false aborts, missed and found regressions of simulated canaries",
}
# Only when asked for by name: it takes some fifteen minutes, and installs what it compares with.
BY_NAME: Final = frozenset({"proxy"})


def main() -> int:
    """0 when everything ran or was skipped for want of a program, 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    told = "; ".join(f"{name}: {what}" for name, what in BENCHES.items())
    parser.add_argument("name", nargs="*", help=f"{told} (default: all but proxy)")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, for a rough look")
    parser.add_argument(
        "--out", type=Path, default=OUT, help="where <name>.json is kept (default: bench/out)"
    )
    chosen = parser.parse_args()
    unknown = [name for name in chosen.name if name not in BENCHES]
    if unknown:
        parser.error(f"there is no bench {unknown[0]}; there are {', '.join(BENCHES)}")
    console = Console(width=None if sys.stdout.isatty() else 150)
    if len(machine.CORES) < 2:
        console.print("one core only: load and what it loads share it, so the figures say little")
    failed = False
    for name in chosen.name or [name for name in BENCHES if name not in BY_NAME]:
        began = time.monotonic()
        os.sched_setaffinity(0, set(machine.CORES))  # a bench may have moved us
        try:
            sheets = importlib.import_module(f"bench.{name}").run(quick=chosen.quick)
        except machine.MissingError as error:
            console.print(f"{name}: skipped, {error}")
            continue
        for sheet in sheets:
            sheet.show(console)
            failed |= bool(sheet.failures)
        path = keep(chosen.out, name, sheets, quick=chosen.quick)
        console.print(f"  {name}: {time.monotonic() - began:.0f} s, kept in {os.path.relpath(path)}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
