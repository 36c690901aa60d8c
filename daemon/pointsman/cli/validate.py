"""`validate`: is a route well? Checks that a script can go by, after a failover or at any time."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pointsman.cli.common import (
    REFUSED,
    CommandError,
    ConfigOption,
    Output,
    OutputOption,
    age,
    duration_s,
    load_settings,
    opened,
    print_json,
    run,
    state_of,
    table_of,
    tell,
    usage,
)
from pointsman.cli.watching import LOOK_S, Scope, Watcher, ratio_of, scope_of
from pointsman.core import traffic, validation
from pointsman.core.traffic import Seen
from pointsman.core.validation import Check, Made, Result

if TYPE_CHECKING:
    from pointsman.config.models import Settings
    from pointsman.control.dialing import Dialer
    from pointsman.core.evidence import Report
    from pointsman.core.ramp_model import Arm
    from pointsman.core.table import Table
    from pointsman.store.client import Store

BEFORE_S: Final = 3600.0
# How far back records are looked through for one with everything that proxies reported.
RECORDS_LOOKED: Final = 20
WORKERS: Final = 4
_MARKS: Final = {Result.PASS: "✓", Result.FAIL: "✗", Result.NO_EVIDENCE: "–"}


def validate(
    route: Annotated[str, typer.Argument(help="A route; left out: all.", show_default=False)] = "",
    samples: Annotated[int, typer.Option("--samples", min=1, help="How many requests to see.")] = 100,
    threshold: Annotated[
        str, typer.Option("--success-threshold", help="The least success rate, in percent.")
    ] = "95%",
    timeout: Annotated[str, typer.Option("--timeout", help="Wait no longer for them than: 5m.")] = "5m",
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Make the requests, a few tokens each: they cost money.")
    ] = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check that a route is well, as after a failover.

    Waits for requests, or makes them; then checks success, targets, latency against the hour before, callers
    concerned, and that every proxy serves the table. A check without evidence decides nothing. Exit code 0 only if
    the samples were seen and no check fails.
    """
    wanted, limit_s = ratio_of("--success-threshold", threshold), duration_s(timeout)
    if not limit_s > 0:
        usage("--timeout must be longer than nothing")
    settings = load_settings(config)

    async def check() -> None:
        async with opened(settings) as store:
            scope = await scope_of(store, route)
            if output is Output.TEXT:
                what = "making" if synthetic else "waiting for"
                for line in (
                    *scope.remarks,
                    f"{what} {samples} requests of {scope.name}, {age(limit_s)} at most",
                ):
                    tell(line)
            run_ = _Run(settings, store, scope, samples, limit_s)
            checks = await run_.checks(wanted, synthetic=synthetic)
        _tell(scope, checks, output)
        if not validation.valid(checks):
            raise typer.Exit(REFUSED)

    run(check)


def _tell(scope: Scope, checks: list[Check], output: Output) -> None:
    good = validation.valid(checks)
    if output is Output.JSON:
        import msgspec  # noqa: PLC0415

        print_json({"pass": good, "routes": list(scope.routes), "checks": msgspec.to_builtins(checks)})
        return
    for one in checks:
        none = "no evidence: " if one.result is Result.NO_EVIDENCE else ""
        tell(f"{_MARKS[one.result]} {one.check:<8} {none}{one.why}")
    failed = ", ".join(one.check for one in checks if one.result is Result.FAIL)
    tell("passed" if good else f"failed: {failed}")


class _Run:
    """One validation: what is seen, what is made, and what comes of it."""

    def __init__(
        self, settings: "Settings", store: "Store", scope: Scope, samples: int, limit_s: float
    ) -> None:
        self._settings = settings
        self._store = store
        self._scope = scope
        self._samples = samples
        self._limit_s = limit_s
        self._watcher = Watcher(store, scope.targets)
        self._seen: dict[str, Seen] = {}
        self._made: list[Made] = []
        self._unreachable: dict[str, str] = {}

    async def checks(self, threshold: float, *, synthetic: bool) -> list[Check]:
        await self._watcher.begin()
        before, why_none = await _before(self._store, self._watcher, self._scope.targets)
        began = time.monotonic()
        await self._collect(synthetic=synthetic)
        took_s = time.monotonic() - began
        table = await self._settle()
        state, now_s, led = await state_of(self._store), await self._store.now_s(), await self._store.leader()
        plan = state.plan or self._scope.plan
        seen = traffic.together(self._seen.values())
        count = len(self._made) if synthetic else seen.arm.requests
        hint = "; ".join(self._unreachable.values()) or "it took too long"
        hint = hint if synthetic else "`--synthetic` makes them, `--timeout` waits for longer"
        return [
            validation.samples(count, self._samples, took_s, hint),
            validation.made_success(self._made, threshold)
            if synthetic
            else validation.success(seen.arm.ok, seen.arm.requests, threshold),
            validation.targets(plan, state, table, self._scope.routes, now_s, led=led is not None),
            validation.latency(seen.arm, before, plan.ramp.canary, why_none),
            validation.impact(seen),
            validation.serving(table, self._watcher.watch, self._watcher.reports, now_s),
        ]

    async def _look(self, *, last: bool = False) -> None:
        self._seen = traffic.added(self._seen, await self._watcher.look(last=last))

    async def _collect(self, *, synthetic: bool) -> None:
        """Until there is enough, or the time is over."""
        import anyio  # noqa: PLC0415

        if synthetic:
            work, addresses = await self._work(), self._addresses()
            with anyio.move_on_after(self._limit_s):
                await self._make(work, addresses)
            return
        with anyio.move_on_after(self._limit_s):
            while traffic.together(self._seen.values()).arm.requests < self._samples:
                await anyio.sleep(LOOK_S)
                await self._look()

    async def _settle(self) -> "Table | None":
        """The published table, once every known proxy reported and serves it, or could have."""
        import anyio  # noqa: PLC0415

        patience_s = self._scope.plan.policy.proxy_lost_s
        end = time.monotonic() + patience_s
        while True:
            over = time.monotonic() >= end
            await self._look(last=over)
            table, reports = await table_of(self._store), self._watcher.reports
            heard = all(known.heard_s is not None for known in self._watcher.watch.proxies.values())
            if over or (
                heard and table is not None and all(validation.serves(one, table) for one in reports.values())
            ):
                return table
            await anyio.sleep(LOOK_S / 5)

    # --- synthetic requests

    def _addresses(self) -> list[str]:
        addresses = [report.address for report in self._watcher.reports.values() if report.address]
        if not addresses:
            raise CommandError("no proxy reports where it listens: is one running? pointsman status")
        return addresses

    async def _make(self, work: Iterator[tuple[str, str]], addresses: list[str]) -> None:
        """All the samples, through every proxy that can be reached; callers are watched meanwhile."""
        import anyio  # noqa: PLC0415

        from pointsman.control.dialing import Dialer  # noqa: PLC0415

        async with Dialer(self._settings.proxy) as dialer, anyio.create_task_group() as looking:
            looking.start_soon(self._look_on)
            async with anyio.create_task_group() as group:
                for _ in range(WORKERS):
                    group.start_soon(self._work_off, dialer, work, addresses)
            looking.cancel_scope.cancel()

    async def _look_on(self) -> None:
        import anyio  # noqa: PLC0415

        from pointsman.store.errors import StoreError  # noqa: PLC0415

        with contextlib.suppress(StoreError):  # the last look says what is wrong with it
            while True:
                await anyio.sleep(LOOK_S)
                await self._look()

    async def _work(self) -> Iterator[tuple[str, str]]:
        """(route, target) of each request: routes take turns, targets have their shares."""
        table, plan = await table_of(self._store), self._scope.plan
        each: list[list[tuple[str, str]]] = []
        for name in self._scope.routes:
            shares = table.routes[name].shares_bp if table is not None and name in table.routes else {}
            fit = {t: bp for t, bp in shares.items() if t in plan.targets and not plan.targets[t].embeds}
            if fit:
                each.append([(name, target) for target in validation.spread(fit, self._samples)])
        if not each:
            raise CommandError("no target has a share here that answers completions: there is nothing to ask")
        turns = [one for turn in zip(*each, strict=True) for one in turn]
        return iter(turns[: self._samples])

    async def _work_off(
        self, dialer: "Dialer", work: Iterator[tuple[str, str]], addresses: list[str]
    ) -> None:
        from pointsman.control.dialing import UnreachableError  # noqa: PLC0415
        from pointsman.control.synthetic import deadline_s, send  # noqa: PLC0415
        from pointsman.probing.smallest import smallest  # noqa: PLC0415

        plan, limit_s = self._scope.plan, deadline_s(self._settings)
        for route, target in work:
            provider = plan.providers[plan.targets[target].provider]
            body = smallest(provider, plan.targets[target], route)
            while addresses:
                address = addresses[len(self._made) % len(addresses)]
                try:
                    reply = await send(dialer, address, provider.family, body, target, limit_s)
                except UnreachableError as error:
                    self._unreachable[address] = str(error)
                    addresses[:] = [one for one in addresses if one != address]
                    continue
                self._made.append(
                    Made(ok=reply.ok, attempts=reply.attempts, latency_ms=reply.latency_ms, why=reply.why)
                )
                break


async def _before(store: "Store", watcher: Watcher, targets: tuple[str, ...]) -> "tuple[Arm | None, str]":
    """What was measured of these targets in the hour before, or why nothing is known of it."""
    now_s = watcher.watch.since_s
    found, why = await _reported(store, now_s - BEFORE_S, now_s)
    if found is None:
        return None, why
    at_s, reports = found
    _, seen = traffic.looked(traffic.begun(reports, at_s), watcher.reports.values(), now_s)
    return traffic.together(one for target, one in seen.items() if target in targets).arm, ""


async def _reported(
    store: "Store", from_s: float, now_s: float
) -> "tuple[tuple[float, tuple[Report, ...]] | None, str]":
    """What proxies had reported at `from_s`, or since the oldest record, by the records of decisions."""
    from pointsman.store.errors import Unreadable  # noqa: PLC0415

    span = await store.records.span()
    if span is None:
        return None, "no decision is recorded, so nothing is known of the hour before"
    at_s = max(from_s, span[0] + 0.001)
    entry = await store.records.at(at_s)
    looked = 0
    while entry is not None and looked < RECORDS_LOOKED and at_s <= now_s:
        looked += 1
        try:
            evidence = entry.record().evidence
        except Unreadable:
            evidence = None
        if evidence is not None and traffic.measured(evidence.reports):
            return (entry.time_s, evidence.reports), ""
        at_s += (now_s - from_s) / RECORDS_LOOKED
        entry = await store.records.at(at_s)
    return None, "the records of the hour before hold no latencies"
