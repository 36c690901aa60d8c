"""Which processes belong to a folder: its path stands in their command line or in their environment."""

import contextlib
import os
import signal
from pathlib import Path


def processes_of(folder: Path) -> dict[int, str]:
    """pid → command line of every living process, but this one, that names `folder`."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if os.fsencode(folder) in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def end_processes_of(folder: Path) -> None:
    """What a failed test has left behind."""
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
