"""Gates outside are asked over real HTTP; whatever is no clear answer holds, and a credential goes nowhere else."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from aiohttp import web
from msgspec.structs import replace
from opentelemetry import trace

from pointsman.config.ramps import ramp_plan
from pointsman.config.sources import load
from pointsman.control.outside import Outside
from pointsman.control.process import serving
from pointsman.core.ramp_model import GateAnswer, Ramp, RampKind, Verdict
from support import eventually

pytestmark = pytest.mark.anyio
Reply = Callable[[web.Request], web.StreamResponse]


@dataclass
class Board:
    """A gate that answers as it is told, and remembers who asked."""

    reply: Reply = lambda _request: web.json_response({"verdict": "pass", "reason": "well"})
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers), await request.read()))
        return self.reply(request)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with serving("127.0.0.1:0", [web.route("*", "/{path:.*}", self.answer)]) as address:
            self.url = f"http://{address}"
            yield


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    board = Board()
    async with board.running():
        yield board


def document(gate: dict[str, Any]) -> dict[str, Any]:
    return {
        "providers": {"a": {"family": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "targets": {"a": {"provider": "a", "model": "m"}},
        "routes": {"chat": {"weights": {"a": 100}}},
        "ramp": {"canary": {"gates": [{"interval_s": 0.2, "timeout_s": 2, **gate}]}},
    }


async def answered(tmp_path: Path, gate: dict[str, Any]) -> GateAnswer:
    """What the gate's first answer is, as evidence."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(document(gate)))
    settings = load(path, {})
    policy = ramp_plan(settings.ramp).canary
    ramp = Ramp(
        id="canary:chat:1", kind=RampKind.CANARY, route="chat", source="a", goal="b", from_bp={"a": 10_000},
        to_bp={"b": 10_000}, policy=policy, owner="ann", reason="a try", created_s=0.0,
    )  # fmt: skip
    outside = Outside(settings, time.time, lambda: None, trace.get_tracer("test"))
    found: list[GateAnswer] = []
    async with anyio.create_task_group() as group:
        group.start_soon(outside.run)
        outside.watch([ramp, replace(ramp, id="other", policy=replace(policy, external=()))])
        await eventually(lambda: found.extend(outside.drain()) or found)
        group.cancel_scope.cancel()
    return found[0]


async def test_a_webhook_is_told_the_ramp_and_its_word_is_taken(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is POSTed what moves and how far, with its own credential as a bearer token; its answer is evidence."""
    monkeypatch.setenv("BOARD_TOKEN", "board-secret-1")
    board.reply = lambda _request: web.json_response(
        {"verdict": "abort", "reason": "the release is withdrawn"}
    )
    gate = {"name": "board", "kind": "webhook", "url": f"{board.url}/ramps", "credential": "env:BOARD_TOKEN"}
    answer = await answered(tmp_path, gate)
    path, headers, body = board.asked[0]

    assert (answer.ramp, answer.gate, answer.verdict) == ("canary:chat:1", "board", Verdict.ABORT)
    assert answer.why == "the release is withdrawn"
    assert path == "/ramps"
    assert headers["Authorization"] == "Bearer board-secret-1"
    assert b'"route":"chat"' in body
    assert b"board-secret-1" not in body


async def test_a_webhook_that_repeats_its_credential_is_not_quoted(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says becomes evidence, which is stored and shown: the credential in it does not."""
    monkeypatch.setenv("BOARD_TOKEN", "boardPlanted7Qv")
    board.reply = lambda request: web.json_response(
        {"verdict": "hold", "reason": f"you are {request.headers['authorization']}, and you wait"}
    )
    gate = {"name": "board", "kind": "webhook", "url": board.url, "credential": "env:BOARD_TOKEN"}
    answer = await answered(tmp_path, gate)

    assert answer.verdict is Verdict.HOLD
    assert "boardPlanted7Qv" in board.asked[0][1]["Authorization"]
    assert "boardPlanted7Qv" not in answer.why
    assert "and you wait" in answer.why


@pytest.mark.parametrize(
    ("value", "verdict"), [("0.01", Verdict.PASS), ("0.05", Verdict.HOLD), ("0.5", Verdict.ABORT)]
)
async def test_a_query_is_compared_with_its_bounds(
    board: Board, tmp_path: Path, value: str, verdict: Verdict
) -> None:
    """Up to the lower bound it passes, above it holds, above the upper one it aborts; the highest series counts."""
    result = [{"metric": {}, "value": [0, "0.001"]}, {"metric": {}, "value": [0, value]}]
    board.reply = lambda _request: web.json_response({"data": {"resultType": "vector", "result": result}})
    gate = {
        "name": "errors", "kind": "prometheus", "url": board.url, "query": "job:errors",
        "hold_above": 0.02, "abort_above": 0.1,
    }  # fmt: skip
    answer = await answered(tmp_path, gate)

    assert answer.verdict is verdict
    assert board.asked[0][0] == "/api/v1/query"
    assert board.asked[0][2] == b"query=job:errors" or b"query=job%3Aerrors" in board.asked[0][2]


def status(code: int) -> Reply:
    return lambda _request: web.Response(status=code, text="{}", headers={"location": "http://127.0.0.1:1/"})


UNCLEAR: dict[str, tuple[Reply, str]] = {
    "500": (status(500), "it answers 500"),
    "redirect": (status(302), "it answers 302"),
    "html": (lambda _r: web.Response(text="<p>well</p>"), "its answer is not"),
    "not utf-8": (lambda _r: web.Response(body=b'{"verdict": "pass\xff"}'), "its answer is not"),
    "nested": (lambda _r: web.Response(text="[" * 100_000), "its answer is not"),
    "absent": (lambda _r: web.json_response({"verdict": "absent"}), "none of pass, hold, abort"),
    "too long": (lambda _r: web.Response(text=" " * 1_100_000), "too long"),
}


@pytest.mark.parametrize("case", UNCLEAR)
async def test_no_clear_answer_holds(board: Board, tmp_path: Path, case: str) -> None:
    """An error, a redirect, something unreadable or endless is never a pass."""
    board.reply, why = UNCLEAR[case]
    answer = await answered(tmp_path, {"name": "board", "kind": "webhook", "url": board.url})

    assert answer.verdict is Verdict.HOLD
    assert why in answer.why
    assert len(board.asked) >= 1


@pytest.mark.parametrize(
    "body", ['{"data": {"resultType": "vector", "result": []}}', '{"status": "error"}', "[]", "1"]
)
async def test_a_query_without_a_value_holds(board: Board, tmp_path: Path, body: str) -> None:
    """No series is no evidence."""
    board.reply = lambda _request: web.Response(text=body)
    gate = {"name": "e", "kind": "prometheus", "url": board.url, "query": "q", "hold_above": 1.0}

    assert (await answered(tmp_path, gate)).verdict is Verdict.HOLD


async def test_a_gate_that_cannot_be_reached_holds(tmp_path: Path) -> None:
    """The reason names what happened, and no URL."""
    answer = await answered(tmp_path, {"name": "board", "kind": "webhook", "url": "http://127.0.0.1:1/x"})

    assert answer.verdict is Verdict.HOLD
    assert "cannot be asked" in answer.why


async def test_a_secret_that_is_missing_holds(board: Board, tmp_path: Path) -> None:
    """Nobody is asked without the credential that should go along."""
    gate = {"name": "board", "kind": "webhook", "url": board.url, "credential": "env:NO_SUCH_VARIABLE"}
    answer = await answered(tmp_path, gate)

    assert answer.verdict is Verdict.HOLD
    assert "NO_SUCH_VARIABLE" in answer.why
    assert board.asked == []
