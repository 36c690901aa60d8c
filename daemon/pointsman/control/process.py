"""The daemon's control side as one object: lease, loop, health endpoint. It ends only by cancellation or a bug."""

import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from opentelemetry.trace import Tracer

from pointsman import __version__, logs
from pointsman.config.addresses import parse_listen
from pointsman.config.models import Settings
from pointsman.control.clock import Clock
from pointsman.control.drift import differences
from pointsman.control.inbox import Inbox
from pointsman.control.leader import Leadership
from pointsman.control.loop import Loop, plan_args
from pointsman.control.memory import Memory
from pointsman.control.outside import Outside
from pointsman.control.recorder import Recorder
from pointsman.control.synthetic import Smallest, Synthetic
from pointsman.core.cadence import Attention
from pointsman.core.evidence import Verb
from pointsman.core.model import Plan
from pointsman.core.ramping import running
from pointsman.store.client import LONE, Store
from pointsman.store.errors import StoreDown, StoreError

_log = logs.get("control")

STALE_TICKS: Final = 10
# Failures that stand alone, each at another proxy, are looked at together.
LONE_S: Final = 0.25
# On the way out the store and the disk get so many seconds each.
LAST_WORDS_S: Final = 2.0
# The word goes to our own loop: its answer takes milliseconds.
RELOAD_ANSWER_S: Final = 3.0


class Control:
    """Decides for one fleet, or stands by until it may.

    `attend` is the prober's ear and `emit` its mouth; `first_round_s` bounds a new leader's first look at every
    provider. `on_tick(status)` is called after every tick with a line for people, also when the store is away:
    the loop is alive.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        store: Store,
        *,
        state_dir: Path,
        attend: Callable[[Attention], None],
        first_round_s: float,
        smallest: Smallest,
        tracer: Tracer,
        on_tick: Callable[[str], None] = lambda _status: None,
    ) -> None:
        control = settings.control
        self._store = store
        self._listen = control.listen
        self._interval_s, self._ttl_s = control.tick_interval_s, control.lease_ttl_s
        self._on_tick = on_tick
        self._clock = Clock(control.tick_interval_s)
        self._inbox = Inbox(self._clock.wake)
        self._memory = Memory(state_dir / f"control-{settings.environment}-{settings.fleet}.json")
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._recorder = Recorder(store.records, f"pointsman {__version__}, {self.owner}")
        self._outside = Outside(settings, self.now_s, self._clock.wake, tracer)
        self._synthetic = Synthetic(settings, smallest, self.now_s, tracer)
        self._last_tick = time.monotonic()
        self.leadership = Leadership(
            store,
            self.owner,
            ttl_s=self._ttl_s,
            margin_s=_margin_s(settings),
            floor_epoch=lambda: max(self._memory.epoch, self.loop.proxies_version.epoch),
            decided_s=self._since_tick_s,
            changed=self._clock.wake,
        )
        self.loop = Loop(
            store,
            self.leadership,
            self._inbox,
            self._memory,
            own_plan=plan,
            vouches_s=_vouches_s(settings),
            attend=attend,
            record=self._recorder.take,
            answers=self._outside.drain,
            first_round_s=first_round_s,
            tracer=tracer,
        )
        self.emit = self._inbox.emit
        self._store_error, self._away_since = "the store has not answered yet", 0.0

    @property
    def active_plan(self) -> Plan | None:
        """The active configuration, as the last tick saw it in the store; None if nobody has ever applied one."""
        return self._memory.backup.plan

    def _since_tick_s(self) -> float:
        return time.monotonic() - self._last_tick

    def now_s(self) -> float:
        """The store's clock, as far as the last tick told it; never waits."""
        return time.monotonic() + self.loop.clock_offset_s

    async def run(self, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Lead or stand by until cancelled; the lease is released on the way out.

        `task_status.started` gets "host:port" of the health endpoint. Raises OSError if it cannot be had.
        """
        async with serving(self._listen, self._health_routes()) as address:
            _log.info("control listens on {address}", address=address, owner=self.owner)
            task_status.started(address)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self.leadership.keep, name="control.lease")
                    group.start_soon(self._listen_for_wakes, name="control.wakes")
                    group.start_soon(self._memory.keep, name="control.memory")
                    group.start_soon(self._tick_for_ever, name="control.loop")
                    group.start_soon(self._recorder.run, name="control.records")
                    group.start_soon(self._outside.run, name="control.gates")
                    group.start_soon(self._synthetic.run, name="control.synthetic")
            finally:
                with anyio.move_on_after(LAST_WORDS_S, shield=True):
                    await self.leadership.release()
                with anyio.move_on_after(LAST_WORDS_S, shield=True):
                    await self._memory.flush()

    async def reload(self, settings: Settings, plan: Plan) -> None:
        """Take the file's new plan as our own; the leader makes it the active configuration through a word.

        A standby only keeps it to compare with, or every daemon of a fleet would say the same word.
        """
        self.loop.own_plan, self.loop.vouches_s = plan, _vouches_s(settings)
        self._outside.reconfigure(settings)
        self._synthetic.reconfigure(settings)
        state = self.loop.state
        active = state.plan if state else None
        if self.leadership.lease is None:
            _log.info("reloaded: this daemon stands by, so the leader's file decides what is active")
            return
        if active is not None and active.digest == plan.digest:
            _log.info("reloaded: routing and probing stay as they are")
            return
        if active is not None:  # how they differ is the reload's to tell, and what comes of it
            self.loop.drift_told = (active.digest, plan.digest)
        try:
            word = await self._store.say(Verb.APPLY_PLAN, "file", "reload", plan_args(plan))
            answer = await self._store.answer(word, RELOAD_ANSWER_S)
        except StoreError as error:
            _log.error("reloaded, but the store could not be told: {why}; reload again later", why=str(error))
            return
        if answer is None:
            _log.warning(
                "reloaded, but not active yet: no decision was made in {limit_s} s", limit_s=RELOAD_ANSWER_S
            )
        elif not answer.ok:
            _log.error("the active configuration stays, the new one is refused: {why}", why=answer.text)
        else:
            _log.info("reloaded: {what}", what=answer.text, differences=differences(active, plan))

    async def _listen_for_wakes(self) -> None:
        async for message in self._store.wakes():
            if message.startswith(LONE):
                self._clock.wake(LONE_S)
                continue
            self._clock.wake()
            if self.leadership.lease is None:
                self.leadership.nudge()

    async def _tick_for_ever(self) -> None:
        while True:
            await self._clock.next()
            decision = None
            try:
                decision = await self.loop.tick()
                self._outside.watch(running(decision.state) if decision is not None else ())
            except StoreDown as error:
                self._store_is_away(error, "proxies keep routing by their last table")
                if self.leadership.lease is None:
                    self.loop.rest()
            except StoreError as error:
                self._store_is_away(error, "nothing is decided")
                await self.leadership.allow(fit=False)
            else:
                self._store_is_back()
                await self.leadership.allow(fit=True)
            self._synthetic.watch(decision, self.loop.shown.table, self.loop.reports)
            self._last_tick = time.monotonic()
            self._on_tick(self._status())

    def _store_is_away(self, error: StoreError, meanwhile: str) -> None:
        if not self._away_since:
            self._away_since = time.monotonic()
            _log.error("{why}; {meanwhile}", why=str(error), meanwhile=meanwhile)
        self._store_error = str(error)

    def _store_is_back(self) -> None:
        self._store_error = ""
        if self._away_since:
            away_s = time.monotonic() - self._away_since
            _log.warning("the store is back after {away_s} s", away_s=round(away_s, 1))
            self._away_since = 0.0

    def _status(self) -> str:
        lease = self.leadership.lease
        role = (
            f"leading with epoch {lease.epoch}"
            if lease
            else f"standing by for {self.leadership.leader_seen or '?'}"
        )
        return (
            f"{role}; {self._store_error}"
            if self._store_error
            else f"{role}; table {self.loop.shown.version}"
        )

    def health(self) -> dict[str, Any]:
        """The JSON of the health endpoint; `alive` is False when the loop has not ticked for long."""
        lease = self.leadership.lease
        age_s = self._since_tick_s()
        return {
            "alive": age_s < max(self._ttl_s, STALE_TICKS * self._interval_s),
            "ready": not self._store_error,
            "role": "leader" if lease else "standby",
            "epoch": lease.epoch if lease else None,
            "last_tick_age_s": round(age_s, 3),
            "store": self._store_error or "ok",
            "version": __version__,
        }

    def _health_routes(self) -> list[web.RouteDef]:
        async def answer(request: web.Request) -> web.Response:
            health = self.health()
            good = health["ready"] and health["alive"] if request.path == "/-/ready" else health["alive"]
            return web.json_response(health, status=200 if good else 503)

        return [web.get("/-/health", answer), web.get("/-/ready", answer)]


def _margin_s(settings: Settings) -> float:
    """A write begun at our own fence must have ended, one way or the other, when the lease runs out."""
    ttl_s = settings.control.lease_ttl_s
    return min(max(settings.store.timeout_s, ttl_s / 10), ttl_s / 3)


def _vouches_s(settings: Settings) -> dict[str, float]:
    return {name: provider.probe.generate_interval_s for name, provider in settings.providers.items()}


@asynccontextmanager
async def serving(listen: str, routes: list[web.RouteDef]) -> AsyncIterator[str]:
    """Serve `routes` on "host:port" (port 0: any) while the block runs; yields the address that is listened on."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        address = parse_listen(listen)
        await web.TCPSite(runner, address.host, address.port).start()
        host, port = runner.addresses[0][:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()
