"""Synthetic traffic: the smallest honest requests, through the proxies, for ramps that asked for it and lack samples.

**It costs money**: every one is a real request at a provider, a few tokens each. core/synthetic.py says for which
ramps any are made, and how fast. They carry `x-pointsman-synthetic: 1` and the target that they are for, so that
proxies count them apart and mark their spans; what came of one is known from the proxies' reports only. None is made
again: a failure is a sample.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import aiohttp
import anyio
from msgspec import Struct
from opentelemetry.propagate import inject
from opentelemetry.trace import Tracer

from pointsman import logs, telemetry
from pointsman.config.models import Settings
from pointsman.control.dialing import Dialer, UnreachableError, unreachable
from pointsman.core import health
from pointsman.core.evidence import Report
from pointsman.core.model import Decision, Family, Plan, Provider, Target
from pointsman.core.synthetic import Pace, Wanted, unended, wanted
from pointsman.core.table import Table

_log = logs.get("control.synthetic")

PATHS: Final[Mapping[Family, str]] = {
    Family.ANTHROPIC: "/v1/messages",
    Family.OPENAI: "/v1/chat/completions",
}
ANTHROPIC_VERSION: Final = "2023-06-01"
ANSWER_BYTES_MAX: Final = 1_000_000
LOOK_S: Final = 0.2
# Longer than a proxy waits for its provider: a caller that hangs up first leaves no failure behind.
PATIENCE_S: Final = 5.0

# (provider, target, route) → the body of the smallest request that the provider's kind understands.
Smallest = Callable[[Provider, Target, str], bytes]


class Reply(Struct, frozen=True, kw_only=True):
    """What a synthetic request led to, as its caller saw it. `target` served it, after `attempts`."""

    ok: bool
    why: str = ""
    target: str = ""
    attempts: int = 1
    latency_ms: float = 0.0


def deadline_s(settings: Settings) -> float:
    """How long one request may take."""
    timeouts = settings.proxy.timeouts
    return timeouts.connect_s + timeouts.first_byte_s + timeouts.idle_s + PATIENCE_S


async def send(
    dialer: Dialer, address: str, family: Family, body: bytes, target: str, limit_s: float
) -> Reply:
    """One request through the proxy at `address` to `target` first. Raises UnreachableError if nobody is there."""
    headers = {
        "content-type": "application/json",
        "x-pointsman-synthetic": "1",
        "x-pointsman-arm": target,
    }
    if family is Family.ANTHROPIC:
        headers["anthropic-version"] = ANTHROPIC_VERSION
    inject(headers)
    began = time.monotonic()
    try:
        with anyio.fail_after(limit_s):
            async with dialer.post(address, PATHS[family], body, headers) as response:
                answer = await _read(response)
    except aiohttp.ClientConnectorError as error:
        raise unreachable(address, error) from error
    except TimeoutError:
        return Reply(ok=False, why=f"no whole answer within {limit_s:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Reply(ok=False, why=f"the connection broke: {type(error).__name__}")
    if response.status == 401 and "x-pointsman-table" not in response.headers:
        raise UnreachableError(
            f"the proxy at {address} refuses synthetic requests: make a key (`pointsman keys new synthetic`), put its "
            "hash into the proxies' proxy.keys, and itself where proxy.synthetic_key says here"
        )
    attempts = response.headers.get("x-pointsman-attempt", "")
    why = f"HTTP {response.status}" if response.status != 200 else ""
    # The proxy ends a broken stream with the family's error event, and passes on those of providers.
    if not why and (b"event: error" in answer or b'data: {"error"' in answer):
        why = "the stream broke"
    return Reply(
        ok=not why,
        why=why,
        target=response.headers.get("x-pointsman-target", ""),
        attempts=int(attempts) if attempts.isdecimal() else 1,
        latency_ms=(time.monotonic() - began) * 1000,
    )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    answer = b""
    async for chunk in response.content.iter_any():
        if len(answer) < ANSWER_BYTES_MAX:
            answer += chunk
    return answer


class Synthetic:
    """Makes what `watch` was last told is missing."""

    def __init__(
        self, settings: Settings, smallest: Smallest, clock: Callable[[], float], tracer: Tracer
    ) -> None:
        self._limit_s = deadline_s(settings)
        self._dialer = Dialer(settings.proxy)
        self._smallest = smallest
        self._clock = clock
        self._tracer = tracer
        self._pace = Pace()
        self._plan: Plan | None = None
        self._wanted: list[Wanted] = []
        self._addresses: list[str] = []
        self._turn = 0
        self._told: set[str] = set()
        self._news = anyio.Event()

    def reconfigure(self, settings: Settings) -> None:
        """Take the deadlines of a new configuration, and how proxies are asked."""
        self._limit_s = deadline_s(settings)
        self._dialer.reconfigure(settings.proxy)

    def watch(self, decision: Decision | None, published: Table | None, reports: Iterable[Report]) -> None:
        """The last look of a leader; None: there was none, so nothing may be spent."""
        if decision is None or decision.state.plan is None:
            self._wanted = []
            return
        state, plan = decision.state, decision.state.plan
        assert plan is not None  # noqa: S101  said above; for the type checker
        live = health.live_proxies(state.vantages, plan.policy, self._clock())
        self._plan = plan
        self._addresses = [report.address for report in reports if report.proxy in live and report.address]
        self._wanted = wanted(state, published) if self._addresses else []
        self._pace.keep(unended(state))
        for one in self._pace.exhausted(self._wanted):
            _log.warning(
                "no more synthetic requests are made for {ramp}: the last ones were not counted",
                ramp=one.ramp,
                missing=one.missing,
                floor=one.floor,
            )
        if self._wanted:
            self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with self._dialer, anyio.create_task_group() as group:
            while True:
                if not self._wanted:
                    self._news = anyio.Event()
                    await self._news.wait()
                for one in self._pace.due(self._wanted, time.monotonic()):
                    group.start_soon(self._make, one, name=f"synthetic.{one.ramp}")
                await anyio.sleep(LOOK_S)

    async def _make(self, one: Wanted) -> None:
        if one.stamp not in self._told:
            self._told.add(one.stamp)
            _log.info(
                "{ramp} lacks {missing} of {floor} samples: they are made, and cost money at {target}",
                ramp=one.ramp,
                missing=one.missing,
                floor=one.floor,
                target=one.target,
            )
        with self._tracer.start_as_current_span(telemetry.SYNTHETIC_ASKED) as span:
            span.set_attribute(telemetry.SYNTHETIC, True)
            span.set_attribute(telemetry.ROUTE, one.route)
            span.set_attribute(telemetry.TARGET, one.target)
            try:
                await self._send(one)
            except UnreachableError as error:
                span.set_attribute(telemetry.DETAIL, str(error))
                if str(error) not in self._told:
                    self._told.add(str(error))
                    _log.warning(
                        "{why}; proxies must listen (proxy.listen) where the daemon reaches them",
                        why=str(error),
                    )
            finally:
                self._pace.ended(one, time.monotonic())

    async def _send(self, one: Wanted) -> None:
        plan, addresses = self._plan, self._addresses
        target = plan.targets.get(one.target) if plan else None
        if plan is None or target is None or not addresses:
            return
        provider = plan.providers[target.provider]
        self._turn += 1
        address = addresses[self._turn % len(addresses)]
        body = self._smallest(provider, target, one.route)
        await send(self._dialer, address, provider.family, body, one.target, self._limit_s)
