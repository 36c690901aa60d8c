"""The composition root: what each process is made of, its one task group, its signals, the order of its end.

    start   logs → telemetry → store (embedded when no URL is set) → parts, one after the other → ready
    end     a signal → every part ends (the lease is released, the proxy drains) → store → telemetry

SIGTERM and SIGINT stop the process, a second one at once. SIGHUP reads the file again: the whole of it is checked
first, and a bad one changes nothing. Of several daemons only the leader makes a reloaded file the active
configuration (control/process.py), and may refuse it. Credentials, certificates and timings that are new or changed
count at once in every process; what the file no longer has stays while the active plan or the served table has it.

Fail fast in the daemon, fail static in the proxy: a bug ends the process, the service manager starts it again,
and proxies keep routing by their last table meanwhile.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from pointsman import logs, systemd, telemetry
from pointsman.config import reload as reloading
from pointsman.config import secrets
from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.config.sources import state_dir
from pointsman.store.client import Store
from pointsman.store.embedded import EmbeddedStore, socket_url
from pointsman.store.errors import StoreError
from pointsman.store.keys import Keys

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from pointsman.proxy.listening import Place

_log = logs.get("app")

# A new leader's first look at every provider may take a little longer than its slowest answer.
FIRST_ROUND_GRACE_S: Final = 0.5
# So many signs of life fit into the watchdog's patience.
WATCHDOG_SIGNS: Final = 3


class Run(Protocol):
    """A part's task: calls `task_status.started` once it works, and runs until it is cancelled."""

    async def __call__(self, *, task_status: TaskStatus[Any]) -> None: ...


Reload = Callable[[Settings], Awaitable[None]]


class Process:
    """Named parts that run until a signal ends them all; each may say how it takes new settings."""

    def __init__(self, settings: Settings, config_path: Path, *, patient: bool = False) -> None:
        """`patient`: a second signal does not end it at once; whoever sends signals sees to that."""
        self._patient = patient
        self.settings = settings
        self._config_path = config_path
        self._parts: list[tuple[str, Run]] = []
        self._reloads: list[Reload] = []
        self._stopping = False
        self._told = False

    def add(self, name: str, run: Run, reload: Reload | None = None) -> None:
        """Run `run` for as long as the process lives; a part that ends by itself ends the process."""
        self._parts.append((name, run))
        if reload is not None:
            self._reloads.append(reload)

    def tell(self, status: str) -> None:
        """A part is alive: `status` is a line for people. After the first call silence is the watchdog's case."""
        self._told = True
        systemd.notify(f"WATCHDOG=1\nSTATUS={status}")

    async def run(self) -> None:
        """Everything in one task group, until SIGTERM or SIGINT."""
        async with anyio.create_task_group() as group:
            await group.start(self._obey_signals, group, name="signals")
            for name, run in self._parts:
                await group.start(self._guarded, name, run, name=name)
            systemd.notify("READY=1")
            group.start_soon(self._live, name="watchdog")

    async def _guarded(self, name: str, run: Run, *, task_status: TaskStatus[Any]) -> None:
        """A part must not end before the process does: then it is better to start everything anew."""
        await run(task_status=task_status)
        if not self._stopping:
            raise RuntimeError(f"{name} has ended by itself")

    async def _live(self) -> None:
        """Signs of life for a process none of whose parts gives them: its event loop turns."""
        patience_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        while patience_us and not self._told:
            systemd.notify("WATCHDOG=1")
            await anyio.sleep(patience_us / 1_000_000 / WATCHDOG_SIGNS)

    async def _obey_signals(self, group: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        """After the signal that stops everything the usual handlers are back: a second one ends it at once."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for received in signals:
                if received is signal.SIGHUP:
                    await self._reload()
                    continue
                self._stopping = True
                _log.info("{signal}: stopping", signal=received.name)
                systemd.notify("STOPPING=1")
                group.cancel_scope.cancel()
                break
        if self._patient:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)

    async def _reload(self) -> None:
        """Read the file again. Half a reload would be worse than none: it is checked as a whole first."""
        systemd.notify(systemd.reloading())
        reloaded = reloading.reload(self.settings, self._config_path)
        if reloaded.error is not None:
            for problem in reloaded.error.problems:
                _log.error("the old configuration stays, the new one is bad: {why}", why=str(problem))
        else:
            self.settings = reloaded.settings
            for line in reloaded.changes.live:
                _log.info("reloaded: {line}", line=line)
            for line in reloaded.changes.restart:
                _log.warning("reloaded, but this needs a restart: {line}", line=line)
            for reload in self._reloads:
                await reload(reloaded.settings)
        systemd.notify("READY=1")


# --- the processes


async def run_control(settings: Settings, config_path: Path) -> None:
    """The daemon: probes, decides, publishes; one of several leads. Returns after SIGTERM or SIGINT."""
    async with _equipped(settings, "control", socket.gethostname()) as (store, tracer):
        process = Process(settings, config_path)
        _add_control(process, store, tracer)
        await process.run()


async def run_proxy(
    settings: Settings, config_path: Path, name: str | None = None, place: "Place | None" = None
) -> None:
    """A proxy: routes by the last good table, with or without the rest. Returns after SIGTERM or SIGINT.

    At a `place` it is one of several, whose parent obeys the signals: it hears one of them twice then.
    """
    name = name or settings.proxy.name or socket.gethostname()
    async with _equipped(settings, "proxy", name) as (store, tracer):
        process = Process(settings, config_path, patient=place is not None)
        _add_proxy(process, store, tracer, name, place)
        await process.run()


async def run_up(settings: Settings, config_path: Path, name: str | None = None) -> None:
    """Daemon and proxy in one process: the quickest way to something that works."""
    name = name or settings.proxy.name or socket.gethostname()
    async with _equipped(settings, "up", name) as (store, tracer):
        process = Process(settings, config_path)
        _add_control(process, store, tracer)
        _add_proxy(process, store, tracer, name)
        if settings.proxy.workers > 1:
            _log.warning(
                "`pointsman up` runs one proxy, whatever proxy.workers says: it is for `pointsman proxy`"
            )
        await process.run()


# --- what they are made of


def connect(settings: Settings, url: str) -> Store:
    """A store at `url` for this installation's keys; no I/O yet. Raises SecretError for its password."""
    password = None
    if settings.store.password is not None:
        password = secrets.resolve(settings.store.password).reveal()
        logs.register_secret(password)
    return Store.connect(
        url,
        Keys(settings.store.key_prefix, settings.environment, settings.fleet),
        password=password,
        timeout_s=settings.store.timeout_s,
        history_length=settings.control.history_length,
        events_length=settings.control.events_length,
        records_bytes=settings.control.records_mb * 1024 * 1024,
    )


@asynccontextmanager
async def _equipped(settings: Settings, role: str, instance: str) -> AsyncIterator[tuple[Store, "Tracer"]]:
    """What every process has, in the order in which it begins; it ends the other way round."""
    logs.setup(settings.telemetry.log_format, settings.telemetry.log_level)
    async with AsyncExitStack() as stack:
        spans = telemetry.setup(settings.telemetry, service=f"pointsman-{role}", instance=instance)
        await stack.enter_async_context(spans)
        url = settings.store.url
        if url is None:
            url = await stack.enter_async_context(_embedded(settings, role))
        store = await stack.enter_async_context(connect(settings, url))
        yield store, spans.tracer


@asynccontextmanager
async def _embedded(settings: Settings, role: str) -> AsyncIterator[str]:
    """The URL of the embedded store; a proxy goes on without one, by its last table."""
    folder = state_dir(settings)
    async with AsyncExitStack() as stack:
        try:
            running = EmbeddedStore.running(folder, settings.store.embedded_binary)
            url = await stack.enter_async_context(running)
        except StoreError as error:
            if role != "proxy":
                raise
            _log.error("no store can be brought up here: {why}", why=str(error))
            url = socket_url(folder)
        yield url


def _add_control(process: Process, store: Store, tracer: "Tracer") -> None:
    from pointsman.control.process import Control  # noqa: PLC0415  a process loads what it is made of
    from pointsman.core.cadence import Attention  # noqa: PLC0415
    from pointsman.probing.access import Accesses, access_of  # noqa: PLC0415
    from pointsman.probing.prober import Prober  # noqa: PLC0415
    from pointsman.probing.smallest import smallest  # noqa: PLC0415

    settings = process.settings
    slowest_s = max((one.probe.reach_timeout_s for one in settings.providers.values()), default=0.0)

    access = Accesses(access_of(settings))

    def attend(attention: Attention) -> None:
        prober.attend(attention)
        if access.settle(control.active_plan):
            prober.reconfigure(access.now)

    async def reload(new: Settings) -> None:
        access.reload(access_of(new), control.active_plan)
        prober.reconfigure(access.now)
        await control.reload(new, to_plan(new))

    control = Control(
        settings,
        to_plan(settings),
        store,
        state_dir=state_dir(settings),
        attend=attend,
        first_round_s=slowest_s + FIRST_ROUND_GRACE_S,
        smallest=smallest,
        tracer=tracer,
        on_tick=process.tell,
    )
    prober = Prober(
        access.now, control.emit, vantage=socket.gethostname(), tracer=tracer, clock=control.now_s
    )
    process.add("probing", prober.run)
    process.add("control", control.run, reload)


def _add_proxy(
    process: Process, store: Store, tracer: "Tracer", name: str, place: "Place | None" = None
) -> None:
    from pointsman.proxy.listening import warn_if_open  # noqa: PLC0415
    from pointsman.proxy.process import Proxy  # noqa: PLC0415

    settings = process.settings
    proxy = Proxy(
        settings,
        name=name,
        boot=token_hex(8),
        store=store,
        state_dir=state_dir(settings),
        tracer=tracer,
        place=place,
    )

    async def reload(new: Settings) -> None:
        for why in proxy.reload(new):
            _log.error("reloaded, but {why}", why=why)

    if place is None:  # else the parent says it once
        warn_if_open(settings.proxy, keys=bool(settings.proxy.keys))
    process.add("proxy", proxy.run, reload)
