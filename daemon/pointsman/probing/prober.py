"""The prober: starts what is due, each probe in its own task with its own deadline, and tells what it saw."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from opentelemetry.trace import Span, Tracer, set_span_in_context

from pointsman import logs, telemetry
from pointsman.config.models import PriceSettings
from pointsman.core.cadence import CONCURRENT_MAX, Attention, Cadence, Probe
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.model import Plan
from pointsman.probing.access import Access
from pointsman.probing.alarm import RING_S, alarm
from pointsman.probing.asking import ask_once, attributes, result
from pointsman.probing.budget import Budget, cost_usd, most_usd
from pointsman.probing.client import Client
from pointsman.probing.kinds import Ask, Seen
from pointsman.probing.providers import adapter_of

_log = logs.get("probing")

# The longest sleep when the alarm is silent (the wall clock was set back).
SILENCE_S: Final = 1.0
_FREE: Final = PriceSettings()


class Prober:
    """Probes what `attend` says. `emit` gets every result and must not wait.

    `access` by provider's name; `clock` gives seconds since 1970 for results and for the budget's day.
    """

    def __init__(
        self,
        access: Mapping[str, Access],
        emit: Callable[[ProbeResult], None],
        *,
        vantage: str,
        tracer: Tracer,
        clock: Callable[[], float] = time.time,
        alarm_every_s: float = RING_S,
    ) -> None:
        self._access = access
        self._emit = emit
        self._vantage = vantage
        self._tracer = tracer
        self._clock = clock
        self._alarm_every_s = alarm_every_s
        self._cadence = Cadence({name: one.timing for name, one in access.items()}, seed=vantage)
        self._plan: Plan | None = None
        self._active = False
        self._obstacles: dict[str, str] = {}
        self._budgets: dict[str, Budget] = {}
        self._good: dict[str, int] = {}  # provider → place of the credential that worked last
        self._limits: dict[str, anyio.CapacityLimiter] = {}
        self._running: dict[Probe, anyio.Event] = {}
        self._bell: MemoryObjectSendStream[None] | None = None  # None while `run` does not run
        self._open = anyio.Event()
        self._client: Client
        self._group: TaskGroup

    @property
    def spent_usd(self) -> dict[str, float]:
        """Provider → what its generate probes have cost today."""
        return {name: budget.spent_usd for name, budget in self._budgets.items()}

    def attend(self, attention: Attention) -> None:
        """Take the last decision's word, and act on it at once. Coming to lead begins with a complete round."""
        begins = attention.active and not self._active
        if attention.plan is not self._plan:
            self._plan = attention.plan
            self._look_for_obstacles()
        self._active = attention.active
        now_s = time.monotonic()
        self._cadence.attend(attention, now_s)
        if begins and self._bell is not None:
            self._start(self._cadence.begin_round(now_s))
        self._ring()

    def reconfigure(self, access: Mapping[str, Access]) -> None:
        """Take other credentials, prices and timings, after a reload."""
        self._access = access
        self._good.clear()
        self._look_for_obstacles()
        self._cadence.retime({name: one.timing for name, one in access.items()}, time.monotonic())
        self._ring()

    async def full_round(self) -> None:
        """Probe everything once and wait for it: at most as long as the slowest probe's deadline, per 64 of one
        provider. Nothing is probed on standby."""
        await self._open.wait()
        self._start(self._cadence.begin_round(time.monotonic()))
        for over in list(self._running.values()):
            await over.wait()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Probe until cancelled."""
        bell, heard = anyio.create_memory_object_stream[None](1)
        with bell, heard:
            async with (
                Client() as self._client,
                alarm(self._ring, every_s=self._alarm_every_s),
                anyio.create_task_group() as self._group,
            ):
                self._bell = bell
                try:
                    if self._active:
                        self._start(self._cadence.begin_round(time.monotonic()))
                    self._open.set()
                    task_status.started()
                    await self._keep_time(heard)
                finally:
                    self._bell = None

    # --- when

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(anyio.WouldBlock):  # it rings already
                self._bell.send_nowait(None)

    async def _keep_time(self, heard: MemoryObjectReceiveStream[None]) -> None:
        while True:
            next_s = self._cadence.next_due_s
            sleep_s = SILENCE_S if next_s is None else min(SILENCE_S, max(0.0, next_s - time.monotonic()))
            with anyio.move_on_after(sleep_s):
                await heard.receive()
            self._start(self._cadence.due(time.monotonic()))

    def _start(self, probes: list[Probe]) -> None:
        worth: list[Probe] = []
        for probe in probes:
            if probe in self._running:
                continue  # it left the plan and came back while it ran: its end frees it
            if self._worth(probe):
                worth.append(probe)
            else:
                self._cadence.done(probe, time.monotonic())
        if not worth:
            return
        span = self._tracer.start_span(telemetry.PROBE_ROUND)
        span.set_attributes({telemetry.PROBE_COUNT: len(worth), telemetry.VANTAGE: self._vantage})
        left = set(worth)
        for probe in worth:
            self._running[probe] = anyio.Event()
            self._group.start_soon(
                self._one, probe, span, left, name=f"probe {probe.provider} {probe.target}"
            )

    def _worth(self, probe: Probe) -> bool:
        """Can it be probed from here, and may it cost what it costs?"""
        if probe.provider in self._obstacles:
            return False
        if probe.kind is ProbeKind.REACH:
            return True
        access = self._access[probe.provider]
        limit_usd = access.timing.budget_usd_per_day
        budget = self._budgets.setdefault(probe.provider, Budget())
        most = most_usd(access.prices.get(probe.target, _FREE), access.timing.generate_max_tokens)
        if budget.allows(most, limit_usd, self._clock()):
            return True
        if budget.tell_once():
            _log.warning(
                "budget of {provider} for generate probes is spent; only reach probes until midnight UTC",
                provider=probe.provider,
                spent_usd=round(budget.spent_usd, 6),
                budget_usd_per_day=limit_usd,
            )
        return False

    def _look_for_obstacles(self) -> None:
        """Which providers of the plan cannot be probed from here, told once each time that it changes."""
        before, self._obstacles = self._obstacles, {}
        for name, provider in (self._plan.providers if self._plan else {}).items():
            access = self._access.get(name)
            why = access.obstacle(provider) if access else "this daemon's own configuration does not have it"
            if why:
                self._obstacles[name] = why
                if before.get(name) != why:
                    _log.warning("cannot probe {provider}: {why}", provider=name, why=why)

    # --- what

    async def _one(self, probe: Probe, round_span: Span, left: set[Probe]) -> None:
        """One probe from its place in line to its result; it can fail in no way that is not a result."""
        try:
            async with self._line(probe):
                await self._probe(probe, round_span)
        finally:
            self._cadence.done(probe, time.monotonic())
            self._running.pop(probe).set()
            left.discard(probe)
            if not left:
                round_span.end()
            self._ring()

    def _line(self, probe: Probe) -> contextlib.AbstractAsyncContextManager[object]:
        """Where the probe waits for its turn. There is one reach probe to a provider, and its verdict is urgent."""
        if probe.kind is ProbeKind.REACH:
            return contextlib.nullcontext()
        return self._limits.setdefault(probe.provider, anyio.CapacityLimiter(CONCURRENT_MAX))

    async def _probe(self, probe: Probe, round_span: Span) -> None:
        plan, access = self._plan, self._access.get(probe.provider)
        if plan is None or access is None or not self._wanted(probe):
            return
        provider, target = plan.providers[probe.provider], plan.targets.get(probe.target)
        good = self._good.get(probe.provider, 0) % max(1, len(access.secrets))
        ask = Ask(provider, target, adapter_of(provider.adapter), access, good)
        context = set_span_in_context(round_span)
        with self._tracer.start_as_current_span(telemetry.PROBE, context=context) as span:
            seen, place = await ask_once(self._client, probe.kind, ask)
            self._good[probe.provider] = place
            cost = self._count_cost(probe, access, seen)
            if span.is_recording():
                span.set_attributes(attributes(probe.kind, ask, seen, cost))
        if self._wanted(probe):
            self._emit(result(probe, seen, at_s=self._clock(), vantage=self._vantage))

    def _count_cost(self, probe: Probe, access: Access, seen: Seen) -> float:
        if probe.kind is ProbeKind.REACH:
            return 0.0
        price = access.prices.get(probe.target, _FREE)
        cost = cost_usd(price, seen, access.timing.generate_max_tokens)
        self._budgets.setdefault(probe.provider, Budget()).spend(cost)
        return cost

    def _wanted(self, probe: Probe) -> bool:
        """Is it still asked for? A plan or the lead may have changed while it waited or ran."""
        plan = self._plan
        known = plan is not None and probe.provider in plan.providers
        if plan is not None and probe.target:
            known = known and probe.target in plan.targets
        return self._active and known and probe.provider not in self._obstacles
