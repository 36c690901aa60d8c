"""The access log: a line for each request, whole or not, that says nothing that it should not."""

import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawhttp import connected, post

from pointsman.config.caller_keys import fresh_key, hashed
from pointsman.config.errors import ConfigError
from pointsman.fake import Fault, Kind
from pointsman.proxy.access_log import LINES_MAX, AccessLog, Line
from support import eventually

pytestmark = pytest.mark.anyio

LINE = Line(
    time="2026-01-31T03:12:09.120Z", proxy="p1", method="POST", path="/v1/chat/completions", status=200, end="whole",
    latency_ms=1.0, bytes_in=1, bytes_out=1, attempts=1,
)  # fmt: skip


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What is in the file by now."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def lines(path: Path, count: int = 1) -> list[dict[str, Any]]:
    """All lines once there are so many, without those of the fixture, which asks whether the proxy is ready."""

    def asked() -> list[dict[str, Any]]:
        return [line for line in lines_of(path) if line["path"] != "/-/ready"]

    found = await eventually(lambda: len(one := asked()) >= count and one)
    assert len(found) == count
    return list(found)


async def chat(world: Any, **options: Any) -> Any:
    """Two providers behind the route "chat"; the first one."""
    fake = await world.provider("a", **options)
    await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    return fake


def logged(path: Path, **more: Any) -> dict[str, Any]:
    """The settings for a log in `path`."""
    return {"access_log": True, "access_log_file": str(path), **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "access.log"


async def test_a_whole_answer(world: Any, running_proxy: Any, path: Path) -> None:
    """Everything that is known of it, in bytes of the bodies, and no query."""
    await chat(world)
    body = b'{"model":"chat","messages":[]}'
    async with running_proxy(**logged(path)) as caller:
        before = time.time()
        answer = await caller.ask("/v1/chat/completions?secret=1", body)
        [line] = await lines(path)
    assert line.pop("latency_ms") > 0
    assert abs(before - _seconds(line.pop("time"))) < 30
    assert line == {
        "proxy": "p1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "route": "chat",
        "target": "a",
        "status": 200,
        "end": "whole",
        "attempts": 1,
        "bytes_in": len(body),
        "bytes_out": len(answer.body),
        "request_id": answer.headers["x-pointsman-request-id"],
    }


def _seconds(text: str) -> float:
    from datetime import datetime

    assert text.endswith("Z")
    return datetime.fromisoformat(text).timestamp()


async def test_a_stream(world: Any, running_proxy: Any, path: Path) -> None:
    """The first token has a time of its own, and the bytes are all of its events'."""
    await chat(world, token_delay_ms=20.0, tokens=10)
    async with running_proxy(**logged(path)) as caller:
        answer = await caller.chat(stream=True)
        [line] = await lines(path)
    assert (line["status"], line["end"], line["bytes_out"]) == (200, "whole", len(answer.body))
    assert 0 < line["first_token_ms"] < line["latency_ms"]


async def test_a_request_that_fell_over(world: Any, running_proxy: Any, path: Path) -> None:
    """Who served it, how many were tried, and what was wrong with the others."""
    (await chat(world)).set_faults(Fault(kind=Kind.STATUS, status=503))
    async with running_proxy(**logged(path)) as caller:
        await caller.chat()
        [line] = await lines(path)
    assert (line["status"], line["target"], line["attempts"]) == (200, "b", 2)
    assert line["failed"] == ["a: HTTP 503 server_is_overloaded"]


async def test_an_answer_of_the_proxys_own(world: Any, running_proxy: Any, path: Path) -> None:
    """Health, unknown paths and routes, and what is refused for its form: no target, the status that it got."""
    await chat(world)
    async with running_proxy(**logged(path, max_body_mb=1)) as caller, connected(caller.url) as wire:
        await caller.get("/-/health")
        await caller.get("/nothing?x=1")
        await caller.chat(model="none")
        await wire.send(post(b"", "Content-Length: 9999999", length=False))
        assert (await wire.reply()).status == 413
        found = await lines(path, 4)
    assert [(line["method"], line["path"], line["status"]) for line in found] == [
        ("GET", "/-/health", 200),
        ("GET", "/nothing", 404),
        ("POST", "/v1/chat/completions", 404),
        ("POST", "/v1/chat/completions", 413),
    ]
    assert all("target" not in line and line["attempts"] == 0 for line in found)


async def test_a_caller_who_hangs_up(world: Any, running_proxy: Any, path: Path) -> None:
    """Its status is 499, and its line is written all the same."""
    await chat(world, latency_ms=5000.0)
    async with running_proxy(**logged(path)) as caller, connected(caller.url) as wire:
        await wire.send(post(b'{"model":"chat","messages":[]}'))
        await eventually(lambda: world.providers["a"].requests.total == 1)
        wire.close()
        [line] = await lines(path)
    assert (line["status"], line["end"], line["attempts"], line["bytes_out"]) == (499, "gone", 1, 0)


async def test_a_stream_that_breaks(world: Any, running_proxy: Any, path: Path) -> None:
    """It had begun with 200, and was cut."""
    (await chat(world, tokens=20)).set_faults(Fault(kind=Kind.ABORT, after_events=5))
    async with running_proxy(**logged(path)) as caller:
        answer = await caller.chat(stream=True)
        assert not answer.whole
        [line] = await lines(path)
    assert (line["status"], line["end"], line["target"]) == (200, "cut", "a")
    assert line["failed"] == ["a: stream ended without its terminal event"]


async def test_pipelined_requests_have_a_line_each(world: Any, running_proxy: Any, path: Path) -> None:
    """In their order, each with its own numbers."""
    await chat(world)
    async with running_proxy(**logged(path)) as caller, connected(caller.url) as wire:
        bodies = [b'{"model":"chat","messages":[]}', b'{"model":"none","messages":[ ]}']
        await wire.send(b"".join(map(post, bodies)))
        sizes = [len((await wire.reply()).body) for _ in bodies]
        found = await lines(path, 2)
    assert [line["status"] for line in found] == [200, 404]
    assert [line["bytes_in"] for line in found] == [len(body) for body in bodies]
    assert [line["bytes_out"] for line in found] == sizes


async def test_a_key_is_told_by_its_name(world: Any, running_proxy: Any, path: Path) -> None:
    """Never the key, nor any other header; who has none has no name."""
    await chat(world)
    key = fresh_key()
    async with running_proxy(**logged(path, keys={"ann": hashed(key)})) as caller:
        await caller.chat(headers={"authorization": f"Bearer {key}", "x-note": "private"}, user="somebody")
        await caller.chat(headers={"x-api-key": "sk-another"})
        known, stranger = await lines(path, 2)
        text = await anyio.Path(path).read_text()
    assert (known["key"], known["status"]) == ("ann", 200)
    assert ("key" in stranger, stranger["status"]) == (False, 401)
    assert not any(secret in text for secret in (key, hashed(key), "sk-another", "private", "somebody"))


async def test_there_is_none_unless_asked_for(
    world: Any, running_proxy: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """And to standard error where no file is named."""
    await chat(world)
    async with running_proxy() as caller:
        await caller.chat()
    assert '"latency_ms"' not in capfd.readouterr().err
    async with running_proxy(access_log=True) as caller:
        await caller.chat()
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["path"] for line in told if line["path"] != "/-/ready"] == ["/v1/chat/completions"]


async def test_a_log_that_was_moved_away_goes_on(path: Path) -> None:
    """Reopened, it is written under its name again, and nothing that came before is lost."""
    log = AccessLog(str(path))
    log.start()
    log.write(LINE)
    moved = Path(await anyio.Path(path).rename(path.with_suffix(".1")))
    log.reopen()
    written = 1

    def goes_on() -> bool:
        nonlocal written
        log.write(LINE)
        written += 1
        return bool(lines_of(path))

    await eventually(goes_on)
    log.close()
    assert len(lines_of(moved)) >= 1
    assert len(lines_of(moved)) + len(lines_of(path)) == written


def test_a_file_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    """With its path, the key and the cure, before anybody is served."""
    with pytest.raises(
        ConfigError, match=r"none/access\.log: proxy\.access_log_file: the file cannot be"
    ) as caught:
        AccessLog(str(tmp_path / "none/access.log"))
    assert "Cure: make its folder" in str(caught.value)


def _what_is_there(reading: int) -> bytes:
    """All that waits in the pipe now."""
    read = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reading, 1 << 16):
            read += part
    return read


def test_a_place_that_takes_nothing_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full pipe: what does not fit in the queue is dropped at once, and how much is told once it can be."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe))
    log.start()
    began = time.monotonic()
    count = 2 * LINES_MAX
    for _ in range(count):
        log.write(LINE)
    assert time.monotonic() - began < 5.0  # it never waited for the reader, who has not read
    with caplog.at_level(logging.WARNING, "pointsman"):
        log._ending = True
        read = b""
        while log._thread.is_alive():
            read += _what_is_there(reading)
        log.close()
        read += _what_is_there(reading)
    os.close(reading)
    [told] = [record for record in caplog.records if "were dropped" in record.message]
    dropped = int(vars(told)["fields"]["lines"])
    assert dropped > 0
    assert read.count(b"\n") + dropped == count
    assert all(json.loads(line) for line in read.splitlines())
