"""`pointsman demo` as a process: its summary, and that nothing is left of it however early it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from processes import end_processes_of, processes_of
from storm import Measured

from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

COMMAND = [sys.executable, "-m", "pointsman", "demo", "--duration", "30", "--output", "json"]


@pytest.fixture
def own_tmp(folder: Path) -> Iterator[Path]:
    """The folder for temporary files of a demo; whatever of it still runs is ended."""
    (folder / "tmp").mkdir()
    yield folder / "tmp"
    end_processes_of(folder)


class Demo:
    """A running demo; `err` is what it has written to standard error."""

    def __init__(self, process: anyio.abc.Process, err: Path) -> None:
        self.process = process
        self._err = err

    @classmethod
    @asynccontextmanager
    async def running(cls, tmp: Path) -> AsyncIterator["Demo"]:
        err = tmp.parent / "err"
        with err.open("wb") as file:
            process = await anyio.open_process(
                COMMAND,
                stdin=subprocess.DEVNULL,
                stderr=file,
                env={**os.environ, "TMPDIR": str(tmp)},
                start_new_session=True,
            )
        async with process:
            yield cls(process, err)

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")


async def test_the_demo_ends_with_its_figures(own_tmp: Path, measured: Measured) -> None:
    """Exit code 0, one JSON document: a thousand requests, none failed, twenty streams open at the kill."""
    async with Demo.running(own_tmp) as demo:
        assert demo.process.stdout is not None
        out = b"".join([part async for part in demo.process.stdout])
        code = await demo.process.wait()
    summary = json.loads(out)
    measured("detection_s", summary["detection_s"])
    measured("shift_s", summary["shift_s"])

    assert code == 0, demo.err
    assert summary["requests"] >= 1_000
    assert (summary["failed"], summary["failures"]) == (0, [])
    assert summary["broken_streams"] <= summary["events"][0]["open_streams"]
    assert 0 <= summary["detection_s"] < 2
    assert 0 <= summary["shift_s"] < 1
    assert summary["events"][0]["open_streams"] >= 20
    assert summary["table_version"].count(".") == 1
    assert nothing_left(own_tmp)


def nothing_left(tmp: Path) -> bool:
    assert processes_of(tmp) == {}
    assert list(tmp.iterdir()) == []
    return True


async def after(seconds: float, _demo: Demo) -> None:
    await anyio.sleep(seconds)  # the moment itself is what is tested


async def at_the_store_kill(_seconds: float, demo: Demo) -> None:
    await eventually(lambda: "the store is killed" in demo.err, 60.0)


@pytest.mark.parametrize(
    ("moment", "seconds", "times"),
    [(after, 0.3, 1), (after, 1.5, 1), (after, 2.3, 2), (after, 6.0, 1), (at_the_store_kill, 0.0, 1)],
    ids=["0.3 s", "1.5 s", "twice at 2.3 s", "6 s", "store kill"],
)
async def test_an_interrupted_demo_leaves_nothing(
    own_tmp: Path, moment: Callable[[float, Demo], object], seconds: float, times: int
) -> None:
    """Ctrl-C at any moment, also an impatient one: no process and no folder is left."""
    async with Demo.running(own_tmp) as demo:
        await moment(seconds, demo)
        for _ in range(times):
            demo.process.send_signal(signal.SIGINT)
            await anyio.sleep(0.1 if times > 1 else 0)
        with anyio.fail_after(15):
            code = await demo.process.wait()

    assert nothing_left(own_tmp)
    assert code in {130, -signal.SIGINT}, demo.err
