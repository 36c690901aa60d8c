"""What `monitor` and `validate` share: what is watched, thresholds, and a look that outlives a store that is away."""

import re
import sys
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pointsman.cli.common import CommandError, state_of, usage
from pointsman.core import traffic
from pointsman.core.traffic import Seen, Watch

if TYPE_CHECKING:
    from pointsman.core.evidence import Report
    from pointsman.core.model import Plan
    from pointsman.store.client import Store

# Proxies report about once a second: what a proxy counted after its last report goes with it when it dies.
LOOK_S: Final = 0.5
HOW_TO = "send some to a proxy, or let `pointsman validate --synthetic` make some"


class Scope(Struct, frozen=True):
    """What is watched: these targets of these routes, under one name for people."""

    plan: "Plan"
    name: str
    routes: tuple[str, ...]
    targets: tuple[str, ...]
    remarks: tuple[str, ...]


async def scope_of(store: "Store", route: str, target: str = "") -> Scope:
    """The route, or all of them; a CommandError names those that there are."""
    plan = (await state_of(store)).plan
    assert plan is not None, "state_of gives none without"  # noqa: S101
    if route and route not in plan.routes:
        raise CommandError(f"there is no route {route!r}; there are: {', '.join(sorted(plan.routes))}")
    routes = (route,) if route else tuple(sorted(plan.routes))
    targets = traffic.targets_of(plan, routes)
    if target and target not in targets:
        raise CommandError(f"there is no target {target!r} here; there are: {', '.join(targets)}")
    targets = [target] if target else targets
    others = traffic.shared(plan, routes, targets) if route else {}
    remarks = tuple(
        f"{name} also serves {', '.join(served)}: what came over that is in its numbers too"
        for name, served in others.items()
    )
    name = target or ", ".join(routes)
    return Scope(plan, name, routes, tuple(targets), remarks)


class Watcher:
    """Looks at the proxies' reports; `reports` are the last that were read."""

    def __init__(self, store: "Store", targets: tuple[str, ...]) -> None:
        self._store = store
        self._targets = set(targets)
        self._away = False
        self.reports: dict[str, Report] = {}
        self.watch = Watch(since_s=0.0)

    async def begin(self) -> None:
        """From now on."""
        now_s, reports = await self._store.now_s(), await self._store.reports()
        self.reports = {report.proxy: report for report in reports}
        self.watch = traffic.begun(reports, now_s)

    async def look(self, *, last: bool = False) -> dict[str, Seen]:
        """What is new. A store that is away costs nothing, since reports are cumulative, unless it is the last look."""
        from pointsman.store.errors import StoreDown  # noqa: PLC0415

        try:
            now_s, reports = await self._store.now_s(), await self._store.reports()
        except StoreDown as error:
            if last:
                raise
            if not self._away:
                sys.stderr.write(f"pointsman: {error}; what is counted meanwhile is read later\n")
            self._away = True
            return {}
        self._away = False
        self.reports = {report.proxy: report for report in reports}
        self.watch, seen = traffic.looked(self.watch, reports, now_s)
        return {target: one for target, one in seen.items() if target in self._targets}


def ratio_of(flag: str, text: str) -> float:
    """0.98 of "98%" or "98". Less than 1 without a sign is no percentage that anybody means."""
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*(%?)", text.strip())
    value = float(found.group(1)) if found else -1.0
    if found is None or not 0 < value <= 100 or (value <= 1 and not found.group(2)):
        usage(f"{flag} {text!r}: write a percentage above 0 and up to 100, as 98%")
    return value / 100


def shown_ms(value: float | None) -> str:
    """ "400 ms", or "-" where there was nothing to measure."""
    return "-" if value is None else f"{value:.0f} ms"
