"""A crew of workers as an operator starts it: real processes, with their log and their pids."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from support import eventually


class Crew:
    """`pointsman proxy --workers 2` as an operator starts it, and its children."""

    def __init__(
        self, config: Path, state_dir: Path, *arguments: str, env: dict[str, str] | None = None
    ) -> None:
        self.state_dir = state_dir
        self._log = state_dir / "log"
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pointsman",
                    "proxy",
                    "--config",
                    str(config),
                    "--name",
                    "p",
                    *arguments,
                ],
                stderr=file,
                stdout=file,
                env=os.environ | (env or {}),
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def children(self) -> list[int]:
        """Their process ids, as the system knows them."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    async def status(self, name: str) -> Any:
        """What the worker `name` says of itself at its own socket, None if it does not answer."""
        connector = aiohttp.UnixConnector(str(self.state_dir / f"proxy-{name}.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with session.get("http://proxy/status") as response:
                    return await response.json()
            except aiohttp.ClientError:
                return None

    async def boots(self) -> dict[str, str]:
        """The boot of each worker that has a table."""
        found = {name: await self.status(name) for name in ("p.1", "p.2")}
        return {name: one["boot"] for name, one in found.items() if one and one["table"]}

    async def both_ready(self) -> dict[str, str]:
        """Once both have a table: their boots."""

        async def both() -> dict[str, str]:
            assert self.process.poll() is None, self.log
            boots = await self.boots()
            return boots if len(boots) == 2 else {}

        return dict(await eventually(both, 20.0))

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        return (
            int(await eventually(lambda: self.process.poll() is not None and self.process.poll() + 1, 15.0))
            - 1
        )

    def kill(self, children: list[int]) -> None:
        for pid in (self.process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def alive(pid: int) -> bool:
    """Is there such a process, not counting what has ended and was not asked for yet?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
