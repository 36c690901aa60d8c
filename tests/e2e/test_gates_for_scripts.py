"""`monitor` and `validate` against a whole installation, as scripts use them; synthetic traffic for a ramp."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from callers import Callers
from installation import Installation

from pointsman.core.evidence import TargetReport
from pointsman.core.ramp_model import Ramp, RampPhase
from pointsman.fake.faults import Fault, Kind
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

# Nobody takes a failing target out of service here.
PATIENT = {"live_failures": 1000, "error_ratio": 0.9}
CHAT = "/v1/chat/completions"
FREE = {"generate": False}


class Said:
    """What a command answered; `checks` of a validation by name."""

    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def checks(self) -> dict[str, str]:
        return {check["check"]: check["result"] for check in json.loads(self.out)["checks"]}


async def say(here: Installation, *arguments: str) -> Said:
    command = [sys.executable, "-m", "pointsman", *arguments]
    env = {**os.environ, "POINTSMAN_CONFIG": str(here.config), **here.env}
    env.pop("COLUMNS", None)
    return Said(await anyio.run_process(command, env=env, check=False))


async def totals(here: Installation) -> dict[str, TargetReport]:
    """What the proxies count in all, by target."""
    found: dict[str, TargetReport] = {}
    for report in await here.reports():
        for name, entry in report.targets.items():
            whole = found.setdefault(name, TargetReport(counts={}, synthetic={}))
            for mine, theirs in ((whole.counts, entry.counts), (whole.synthetic, entry.synthetic)):
                for fault, count in theirs.items():
                    mine[fault] = mine.get(fault, 0) + count
    return found


async def test_gates_on_real_traffic(folder: Path) -> None:
    """Good traffic passes both; with a target that fails often, both fail, and say what."""
    # Slow enough that what a busy machine adds is little beside it.
    async with (
        Installation.running(
            folder, policy=PATIENT, proxy={"local_failures": 1000}, fake={"latency_ms": 400}
        ) as here,
        Callers.of(list(here.urls.values())) as callers,
        callers.steady(40),
    ):
        watched = await say(here, "monitor", "chat", "--for", "3s", "--every", "1s", "-o", "json")
        shown = await say(here, "monitor", "--for", "2s", "--every", "1s", "--success-threshold", "100%")
        valid = await say(here, "validate", "chat", "--samples", "40", "-o", "json")
        here.fakes["google"].set_faults(Fault(kind=Kind.STATUS, status=500, rate=0.5))
        failing = await say(here, "monitor", "chat", "--target", "google", "--for", "2s", "--every", "1s")
        invalid = await say(
            here, "validate", "chat", "--samples", "60", "--success-threshold", "99%", "-o", "json"
        )

    *parts, last = watched.lines
    assert watched.code == 0, watched
    assert (last["final"], last["pass"], last["success"]) == (True, True, 1.0)
    assert len(parts) >= 2
    assert sum(part["requests"] for part in parts) == last["requests"] > 20
    assert set(last["targets"]) == {"bedrock", "google", "meta"}
    assert last["first_token_ms_p95"] < 5_000
    assert shown.code == 0, shown
    assert max(map(len, shown.out.splitlines()[:-1])) <= 80
    assert "passed: 100 % of" in shown.out
    assert valid.code == 0, valid
    assert {name for name, result in valid.checks.items() if result == "pass"} >= {
        "samples", "success", "targets", "impact", "serving"
    }  # fmt: skip
    assert valid.checks["latency"] in {"pass", "no evidence"}
    assert (failing.code, "failed: " in failing.out) == (1, True), failing
    assert invalid.code == 1, invalid
    assert invalid.checks["success"] == "fail"


async def test_gates_on_no_traffic(folder: Path) -> None:
    """No data passes no gate; what is made on request is marked, and is no callers' traffic."""
    async with Installation.running(folder, probe=FREE) as here:
        watched = await say(here, "monitor", "chat", "--for", "1s")
        valid = await say(here, "validate", "chat", "--samples", "5", "--timeout", "1s")
        made = await say(here, "validate", "--synthetic", "--samples", "20", "-o", "json")
        counted = await eventually(lambda: _synthetic(here, 20), 10.0)
        here.fakes["google"].set_faults(Fault(kind=Kind.STATUS, status=500, paths=(CHAT,)))
        over = await say(here, "validate", "chat", "--synthetic", "--samples", "10", "--timeout", "20s")
        for process in here.daemons.values():
            process.end()
        unled = await say(here, "validate", "claude", "--synthetic", "--samples", "5", "-o", "json")

    assert (watched.code, "no traffic seen in" in watched.out) == (1, True), watched
    assert "validate --synthetic" in watched.out
    assert (valid.code, "0 of 5 requests" in valid.out) == (1, True), valid
    assert made.code == 0, made
    assert (made.checks["success"], made.checks["impact"]) == ("pass", "no evidence")
    assert {name: entry.counts for name, entry in counted.items() if entry.counts} == {}
    assert {name for name, entry in counted.items() if entry.synthetic} == {
        "bedrock", "google", "meta", "anthropic", "openrouter"
    }  # fmt: skip
    assert "100 % of 10 answered well" in over.out, over
    assert "fell over" in over.out
    assert (unled.code, unled.checks["targets"]) == (1, "fail"), unled


async def _synthetic(here: Installation, count: int) -> dict[str, TargetReport]:
    found = await totals(here)
    return found if sum(sum(entry.synthetic.values()) for entry in found.values()) == count else {}


async def test_a_proxy_that_is_stopped_or_starts_again(folder: Path) -> None:
    """What it counted in its new life is seen; while it is silent, that is said."""
    async with (
        Installation.running(folder) as here,
        Callers.of(list(here.urls.values())[:1]) as callers,
        anyio.create_task_group() as group,
    ):
        here.proxies["proxy-2"].signal(signal.SIGSTOP)
        answers: list[Said] = []

        async def watch() -> None:
            answers.append(await say(here, "monitor", "chat", "--for", "15s", "--every", "1s", "-o", "json"))

        group.start_soon(watch)
        await callers.send_many(20, per_s=20)
        here.proxies["proxy-1"].end()
        here.proxies["proxy-1"].start()
        await eventually(lambda: ready(here.urls["proxy-1"]), 30.0)
        sent = callers.tally.ok
        await callers.send_many(30, per_s=30)
        await eventually(lambda: answers, 60.0)
        last = answers[0].lines[-1]

    assert last["silent_proxies"] == ["proxy-2"]
    assert last["requests"] >= callers.tally.ok - sent >= 25


async def ready(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


RAMP = {
    "canary": {
        "steps": [50, 100], "samples": [4], "first_hold_s": 0.5, "hold_s": 0.5, "bake_s": 0, "synthetic": True
    }
}  # fmt: skip


async def test_a_canary_without_traffic_is_promoted_on_what_is_made(folder: Path) -> None:
    """The floor is reached by marked requests to the tried side; paused, none are made; at the end they stop."""
    async with Installation.running(folder, ramp=RAMP, probe=FREE) as here:
        asked = ("canary", "start", "chat", "--from", "bedrock", "--to", "google", "--reason", "a test")
        assert (await say(here, *asked)).code == 0
        await eventually(lambda: made(here, 1), 20.0)
        assert (await say(here, "canary", "pause", "chat", "--reason", "a test")).code == 0
        paused = len(made_at(here))
        assert (await say(here, "canary", "resume", "chat", "--reason", "a test")).code == 0
        await eventually(lambda: ended(here), 60.0)
        ramp = await ramp_of(here)
        status = await say(here, "canary", "status", "chat")
        counted = (await totals(here))["google"]

    assert paused <= 2
    assert ramp.phase is RampPhase.PROMOTED, ramp.ended
    assert "4 of them synthetic" in ramp.ended
    assert "0 requests, 0 failed, 4 synthetic" in status.out, status
    assert (counted.counts, counted.synthetic) == ({}, {"ok": 4})
    times = made_at(here)
    assert len(times) == 4
    assert all(later - before >= 1.8 for before, later in itertools.pairwise(times))


async def ramp_of(here: Installation) -> Ramp:
    state = await here.store.load_state()
    assert state is not None
    return state.ramps["chat"]


async def ended(here: Installation) -> bool:
    return bool((await ramp_of(here)).ended)


def made_at(here: Installation) -> list[float]:
    """When google was asked for a completion: no probe asks for one here."""
    return [one.at_s for one in here.fakes["google"].requests.seen if one.path == CHAT]


def made(here: Installation, count: int) -> bool:
    return len(made_at(here)) >= count
