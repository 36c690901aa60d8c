"""A proxy: its parts, put together, and the order in which they start and stop."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from opentelemetry.trace import Tracer

from pointsman import logs
from pointsman.config.errors import ConfigError
from pointsman.config.models import Settings
from pointsman.proxy import memory, transit
from pointsman.proxy.access_log import AccessLog
from pointsman.proxy.books import Books
from pointsman.proxy.callers import CallerKeys
from pointsman.proxy.clock import StoreClock
from pointsman.proxy.feed import Feed
from pointsman.proxy.forward import Forwarder
from pointsman.proxy.limits import Bounds, Limits
from pointsman.proxy.listening import Door, Place
from pointsman.proxy.local import LocalBreaker
from pointsman.proxy.local_admin import LocalAdmin
from pointsman.proxy.logged import LoggedFront
from pointsman.proxy.outcomes import Ledger
from pointsman.proxy.pins import Pins
from pointsman.proxy.provider import Pool
from pointsman.proxy.reporter import Reporter
from pointsman.proxy.requests import Ring
from pointsman.proxy.server import Front, FrontBounds
from pointsman.proxy.view import Trust
from pointsman.store.client import Store

log = logs.get("proxy")
breaker_log = logs.get("proxy.breaker")

# After the drain, whoever is still being answered is cut off: this long for the last words, and as long again for the
# connections to close.
_CLOSE_S: Final = 0.5
_SOCKET_PATH_MAX: Final = 107


class Proxy:
    """One proxy process. `run` serves until it is cancelled or `stop` is called, and then drains.

    While it drains it follows tables and reports as before: to the leader it is alive.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        boot: str,
        store: Store,
        state_dir: Path,
        tracer: Tracer,
        place: Place | None = None,
    ) -> None:
        """`place`: where others listen too. Raises ConfigError for a certificate that is none."""
        self._settings = settings
        self._name = name
        self._tracer = tracer
        self._stopping = anyio.Event()
        self._socket_path = state_dir / f"proxy-{name}.sock"
        own = settings.proxy
        clock = StoreClock()
        self._ring = Ring()
        self._pins = Pins()
        self._books = _books(settings, clock, tracer, self._wake)
        self._feed = Feed(
            store,
            Trust.of(settings),
            clock,
            proxy=name,
            environment=settings.environment,
            fleet=settings.fleet,
            path=state_dir / f"table-{name}.json",
            poll_interval_s=own.poll_interval_s,
            changed=lambda wake: self._nudge(wake=wake),
        )
        self._boot = boot
        self._reporter = self._made_reporter(store)
        self._door = Door(own, place)
        self._keys = CallerKeys(own.keys) if own.keys else None
        self._front: Front | None = None
        self._access_log = AccessLog(own.access_log_file) if own.access_log else None

    def _made_reporter(self, store: Store) -> Reporter:
        return Reporter(
            store,
            self._feed,
            self._books,
            self._pins,
            proxy=self._name,
            boot=self._boot,
            environment=self._settings.environment,
            fleet=self._settings.fleet,
            interval_s=self._settings.proxy.report_interval_s,
        )

    def _nudge(self, *, wake: bool) -> None:
        self._reporter.nudge(wake=wake)

    def _wake(self, within_s: float) -> None:
        self._reporter.wake(within_s)

    def stop(self) -> None:
        """Ask `run` to drain and return."""
        self._stopping.set()

    def reload(self, settings: Settings) -> list[str]:
        """Take over providers, credentials, certificates and prices; requests under way keep the old ones.

        What the served table still has and `settings` have no more stays until a table has it no more either. What
        cannot be read stays as it was, and is what is returned, in words.
        """
        failed: list[str] = []
        # An empty list of keys lets nobody in where there were some: to open a door takes a restart.
        if settings.proxy.keys or self._keys is not None:
            self._keys = CallerKeys(settings.proxy.keys)
        if self._front is not None:
            self._front.keys = self._keys
        if self._keys is not None and not settings.proxy.keys:
            failed.append(
                "nobody is let in: proxy.keys has none any more; add one, or restart to let everybody in"
            )
        try:
            if self._access_log is not None:
                self._access_log.reopen()
        except ConfigError as error:
            failed.append(f"the access log goes on where it was: {error}")
        try:
            self._door.take(settings.proxy)
        except ConfigError as error:
            failed.append(f"callers still get the old certificate: {error}")
        try:
            self._feed.rebind(Trust.of(settings))
        except OSError as error:
            failed.append(f"the proxy keeps its old providers: {error}")
        return failed

    @property
    def ready(self) -> bool:
        """Does it have a table to route by."""
        return self._feed.view is not None

    async def run(self, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve. `task_status.started` gets the address once callers can connect. Raises OSError if none can.

        The address is "host:port", "https://host:port" or "unix:/path".
        """
        own = self._settings.proxy
        self._feed.load()
        pool = Pool(own.timeouts.connect_s)
        forwarder = Forwarder(
            self._books, self._pins, lambda: self._feed.view, own.timeouts, ping_after_s=own.ping_after_s
        )
        front = self._front = self._made_front(forwarder, pool)
        async with anyio.create_task_group() as outer:
            outer.start_soon(self._stop_when_cancelled)
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._feed.run)
                    tasks.start_soon(self._reporter.run)
                    await self._serve(front, task_status)
                    pool.close()
                    tasks.cancel_scope.cancel()
            outer.cancel_scope.cancel()

    def _made_front(self, forwarder: Forwarder, pool: Pool) -> Front:
        parts = forwarder, pool, lambda: self._feed.view, lambda: self._feed.stale_s, self._ring, self._tracer
        own = self._settings.proxy
        bounds = FrontBounds(
            body_bytes_max=own.max_body_mb << 20,
            stale_after_s=own.stale_after_s,
            refuses_stale=own.when_stale == "refuse",
        )
        if self._access_log is None:
            front = Front(*parts, bounds)
        else:
            self._access_log.start()
            front = logged = LoggedFront(*parts, bounds)
            logged.write_to(self._access_log, self._name)
        front.keys = self._keys
        return front

    async def _stop_when_cancelled(self) -> None:
        """Whoever cancels `run` asks it to drain; everything else in it is shielded until that is done."""
        try:
            await anyio.sleep_forever()
        finally:
            self.stop()

    async def _serve(self, front: Front, task_status: TaskStatus[str]) -> None:
        admin = await self._admin(front)
        server: asyncio.Server | None = None
        try:
            server, address = await self._door.open(front.connection)
            self._reporter.started(self._settings.proxy.advertise or address)
            memory.settle()
            compiled = not str(transit.__file__).endswith(".py")
            log.info("the proxy listens", proxy=self._name, compiled=compiled, address=address)
            task_status.started(address)
            await self._stopping.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if server is not None:
                    await self._drain(server, front)
                await self._reporter.flush()
                if admin is not None:
                    await admin.cleanup()
                self._door.gone()
                if self._access_log is not None:
                    self._access_log.close()
                self._socket_path.unlink(missing_ok=True)

    async def _drain(self, server: asyncio.Server, front: Front) -> None:
        """Accept nobody new, let those who are being answered finish, and cut off the rest, streams with a word."""
        server.close()
        front.end()
        with anyio.move_on_after(self._settings.proxy.drain_s):
            await front.idle()
        if front.in_flight:
            log.warning("requests are cut off at the end of the drain", requests=front.in_flight)
            front.cut_off()
        with anyio.move_on_after(_CLOSE_S):
            await front.gone()
        front.abort()

    async def _admin(self, front: Front) -> web.ServerRunner | None:
        path = self._socket_path
        if len(str(path)) > _SOCKET_PATH_MAX:
            log.warning("no local admin socket: its path is too long", path=str(path))
            return None
        admin = LocalAdmin(
            self._feed,
            self._books,
            self._pins,
            self._ring,
            proxy=self._name,
            boot=self._boot,
            in_flight=lambda: front.in_flight,
            changed=lambda wake: self._nudge(wake=wake),
        )
        runner = web.ServerRunner(web.Server(admin.handle, access_log=None), shutdown_timeout=_CLOSE_S)
        await runner.setup()
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(path))
            path.chmod(0o600)  # before it listens: nobody can have connected
            await web.SockSite(runner, unix.dup()).start()
        return runner


def _books(settings: Settings, clock: StoreClock, tracer: Tracer, wake: Callable[[float], None]) -> Books:
    own, policy = settings.proxy, settings.policy
    return Books(
        LocalBreaker(own.local_failures, own.local_cooldown_s, _tell),
        Ledger(throttle_default_s=policy.throttle_default_s, soften_s=policy.soften_s),
        clock,
        tracer,
        wake=wake,
        limits=Limits(
            Bounds(
                retry_budget=own.retry_budget,
                replay_bytes=own.replay_mb << 20,
                replay_bytes_in_all=own.replay_total_mb << 20,
            )
        ),
    )


def _tell(target: str, streamed: bool, why: str, out_s: float) -> None:
    """What this proxy does by itself: while the control plane is away nothing else tells of it."""
    lane = "streams" if streamed else "whole answers"
    if out_s:
        breaker_log.warning(
            "marked {target} failed on this proxy: {why}",
            target=target, why=why, lane=lane, cooldown_s=round(out_s, 1),
        )  # fmt: skip
    else:
        breaker_log.info("reset failures of {target}: {why}", target=target, why=why, lane=lane)


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
