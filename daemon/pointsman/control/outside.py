"""Gates outside of pointsman: asked for as long as a ramp that names them runs; what they say is evidence.

A webhook is POSTed the ramp as JSON and answers {"verdict": "pass" | "hold" | "abort", "reason": "…"}. A Prometheus
query is asked at /api/v1/query; its highest value is compared with the gate's bounds. No answer, an answer that
cannot be read, an empty result: HOLD, with the reason. It is never a pass.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp
import anyio
import msgspec
from msgspec import Struct
from opentelemetry.trace import Tracer

from pointsman import logs, telemetry
from pointsman.config.models import Settings
from pointsman.config.ramps import RampKindSettings
from pointsman.config.secrets import SecretError, resolve
from pointsman.core.ramp_model import ExternalGate, ExternalKind, GateAnswer, Ramp, Verdict
from pointsman.core.strangers import UNREADABLE

_log = logs.get("control.gates")

ANSWER_BYTES_MAX: Final = 1_000_000
REASON_LENGTH_MAX: Final = 300


class _Said(Struct):
    verdict: Verdict
    reason: str = ""


class UnclearError(Exception):
    """The gate gave no answer that could be read; the message says why, for people."""


class Outside:
    """Asks the gates of the ramps that were last named to `watch`; `wake` is called when one has answered."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], wake: Callable[[], None], tracer: Tracer
    ) -> None:
        self._refs = _refs(settings)
        self._clock = clock
        self._wake = wake
        self._tracer = tracer
        self._ramps: dict[str, Ramp] = {}
        self._answers: dict[tuple[str, str], GateAnswer] = {}
        self._asked_s: dict[tuple[str, str], float] = {}
        self._news = anyio.Event()

    def reconfigure(self, settings: Settings) -> None:
        """Take the credentials of a new configuration."""
        self._refs = _refs(settings)

    def watch(self, ramps: Iterable[Ramp]) -> None:
        """These ramps run; gates of others are not asked any more."""
        self._ramps = {ramp.id: ramp for ramp in ramps if ramp.policy.external}
        self._asked_s = {key: at for key, at in self._asked_s.items() if key[0] in self._ramps}
        if self._ramps:
            self._news.set()

    def drain(self) -> tuple[GateAnswer, ...]:
        """What was answered since the last call, the latest of each gate."""
        answers = tuple(self._answers.values())
        self._answers.clear()
        return answers

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session, anyio.create_task_group() as group:
            while True:
                if not self._ramps:
                    self._news = anyio.Event()
                    await self._news.wait()
                for ramp, gate in self._due():
                    self._asked_s[ramp.id, gate.name] = time.monotonic()
                    group.start_soon(self._ask, session, ramp, gate, name=f"gate.{gate.name}")
                await anyio.sleep(0.2)

    def _due(self) -> list[tuple[Ramp, ExternalGate]]:
        now_s = time.monotonic()
        return [
            (ramp, gate)
            for ramp in self._ramps.values()
            for gate in ramp.policy.external
            if now_s - self._asked_s.get((ramp.id, gate.name), -1e9) >= gate.interval_s
        ]

    async def _ask(self, session: aiohttp.ClientSession, ramp: Ramp, gate: ExternalGate) -> None:
        with self._tracer.start_as_current_span(telemetry.GATE_ASKED) as span:
            verdict, why = Verdict.HOLD, ""
            try:
                with anyio.fail_after(gate.timeout_s):
                    ask = _webhook if gate.kind is ExternalKind.WEBHOOK else _prometheus
                    verdict, why = await ask(session, ramp, gate, self._headers(gate))
            except TimeoutError:
                why = f"no answer within {gate.timeout_s:g} s"
            except (aiohttp.ClientError, OSError) as error:
                why = f"cannot be asked: {type(error).__name__}"
            except (UnclearError, SecretError) as error:
                why = str(error)
            # It goes into the state, events and records: whoever answers may repeat what it was sent.
            why = logs.redact(why)
            span.set_attribute(telemetry.REASON, f"{verdict.value}: {why}")
        self._answers[ramp.id, gate.name] = GateAnswer(
            ramp=ramp.id, gate=gate.name, verdict=verdict, why=why[:REASON_LENGTH_MAX], at_s=self._clock()
        )
        if verdict is Verdict.ABORT:
            _log.warning("gate {gate} aborts {ramp}: {why}", gate=gate.name, ramp=ramp.id, why=why)
        self._wake()

    def _headers(self, gate: ExternalGate) -> dict[str, str]:
        ref = self._refs.get(gate.name)
        if ref is None:
            return {}
        secret = resolve(ref).reveal()
        logs.register_secret(secret)
        return {"authorization": f"Bearer {secret}"}


def _refs(settings: Settings) -> Mapping[str, str]:
    kinds: tuple[RampKindSettings, ...] = (
        settings.ramp.canary,
        settings.ramp.failover,
        settings.ramp.failback,
    )
    return {gate.name: gate.credential for kind in kinds for gate in kind.gates if gate.credential}


async def _webhook(
    session: aiohttp.ClientSession, ramp: Ramp, gate: ExternalGate, headers: dict[str, str]
) -> tuple[Verdict, str]:
    body = msgspec.json.encode(_told(ramp))
    sent = {"content-type": "application/json", **headers}
    # A gate is asked where the configuration says, and its credential goes nowhere else.
    async with session.post(gate.url, data=body, headers=sent, allow_redirects=False) as response:
        answer = await _body(response)
    try:
        said = msgspec.json.decode(answer, type=_Said)
    except UNREADABLE as error:
        raise UnclearError('its answer is not {"verdict": "pass" | "hold" | "abort", "reason": …}') from error
    if said.verdict is Verdict.ABSENT:
        raise UnclearError("its verdict is none of pass, hold, abort")
    return said.verdict, said.reason or said.verdict.value


def _told(ramp: Ramp) -> dict[str, Any]:
    """What a webhook is told of a ramp."""
    return {
        "id": ramp.id,
        "kind": ramp.kind.value,
        "route": ramp.route,
        "source": ramp.source,
        "goal": ramp.goal,
        "phase": ramp.phase.value,
        "step": ramp.step,
        "progress_percent": ramp.progress_bp / 100,
        "owner": ramp.owner,
        "reason": ramp.reason,
        "findings": [
            {"gate": f.gate, "verdict": f.verdict.value, "why": f.why, "data": f.data} for f in ramp.findings
        ],
    }


async def _prometheus(
    session: aiohttp.ClientSession, _ramp: Ramp, gate: ExternalGate, headers: dict[str, str]
) -> tuple[Verdict, str]:
    url = f"{gate.url.rstrip('/')}/api/v1/query"
    async with session.post(
        url, data={"query": gate.query}, headers=headers, allow_redirects=False
    ) as response:
        answer = await _body(response)
    value = _highest(answer)
    if gate.abort_above is not None and value > gate.abort_above:
        return Verdict.ABORT, f"{value:g} is above {gate.abort_above:g}"
    if gate.hold_above is not None and value > gate.hold_above:
        return Verdict.HOLD, f"{value:g} is above {gate.hold_above:g}"
    return Verdict.PASS, f"{value:g}"


def _highest(answer: bytes) -> float:
    """The highest value of an instant vector, or the scalar. Raises UnclearError when there is none."""
    try:
        data = msgspec.json.decode(answer)["data"]
        result = data["result"]
        found = [result] if data["resultType"] == "scalar" else [series["value"] for series in result]
        values = [float(value) for _, value in found]
    except (*UNREADABLE, KeyError, TypeError, ValueError) as error:
        raise UnclearError("its answer is no result of a Prometheus query") from error
    if not values or any(value != value for value in values):  # noqa: PLR0124 – not a number
        raise UnclearError("the query gives no value")
    return max(values)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise UnclearError(f"it answers {response.status}")
    body = await response.content.read(ANSWER_BYTES_MAX)
    if not response.content.at_eof():
        raise UnclearError("its answer is too long")
    return body
