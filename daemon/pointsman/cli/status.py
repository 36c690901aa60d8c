"""`status` and `explain`: what is, and why."""

import functools
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from pointsman.cli.common import (
    CommandError,
    ConfigOption,
    Output,
    OutputOption,
    age,
    console,
    load_settings,
    opened,
    print_json,
    run,
    shown_anew,
    state_of,
    table_of,
    tell,
    usage,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from pointsman.config.models import Settings
    from pointsman.store.client import Store

BAR_CELLS: Final = 20
_COLOURS: Final = {
    "healthy": "green",
    "unknown": "dim",
    "suspect": "yellow",
    "cooldown": "red",
    "half_open": "yellow",
    "recovering": "cyan",
}


def status(
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every second until Ctrl-C.")
    ] = False,
) -> None:
    """Show routes, health, proxies and warnings."""
    settings = load_settings(config)

    async def show() -> None:
        async with opened(settings) as store:
            seen = await _look(settings, store)
            if output is Output.JSON:
                print_json(seen)
            else:
                console().print(_rendered(seen))

    async def show_live() -> None:
        import anyio  # noqa: PLC0415

        async with opened(settings) as store:
            with shown_anew() as draw:
                while True:
                    draw(_rendered(await _look(settings, store)))
                    await anyio.sleep(1)

    run(show_live if watch and output is Output.TEXT else show)


def explain(
    route: Annotated[str, typer.Argument(help="A route of the table.", show_default=False)] = "",
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", help="One request, as the proxies of this machine remember it."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="As it was then: 14:03, 2026-11-27 14:03:20, 10m.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say why each target has its share.

    With --at: why it had it then, and what had just been decided. With --request-id: where one request went, and why.
    """
    if not route and not request_id:
        usage("name a route, or a request with --request-id")
    if at and request_id:
        usage("--at is about a route, not about a request")
    settings = load_settings(config)

    if request_id:
        run(functools.partial(_show_request, settings, request_id, output))
    elif at:
        run(functools.partial(_show_past, settings, route, at, output))
    else:
        run(functools.partial(_show_route, settings, route, output))


async def _show_route(settings: "Settings", route: str, output: Output) -> None:
    async with opened(settings) as store:
        seen = await _look(settings, store)
    if route not in seen["routes"]:
        raise CommandError(f"there is no route {route!r}; there are: {', '.join(seen['routes'])}")
    if output is Output.JSON:
        print_json({route: seen["routes"][route], "table": seen["table"]})
    else:
        console().print(_explained(route, seen))


async def _show_past(settings: "Settings", route: str, at: str, output: Output) -> None:
    from pointsman.cli.past import explained_at, rendered  # noqa: PLC0415

    async with opened(settings) as store:
        seen = await explained_at(store, route, at)
    if output is Output.JSON:
        print_json(seen)
    else:
        console().print(rendered(seen))


async def _show_request(settings: "Settings", request_id: str, output: Output) -> None:
    from pointsman.cli.local import ask_any_proxy  # noqa: PLC0415

    answer = await ask_any_proxy(settings, f"/requests/{quote(request_id, safe='')}")
    if output is Output.JSON:
        print_json(answer)
    else:
        _tell_request(answer)


def _tell_request(request: dict[str, Any]) -> None:
    tell(
        f"request {request['id']} to {request['route']}: status {request['status']}, table {request['table']}"
    )
    for place, attempt in enumerate(request["attempts"], 1):
        detail = f" ({attempt['detail']})" if attempt["detail"] else ""
        took = f"{attempt['latency_ms']:.0f} ms"
        tell(f"  {place}. {attempt['target']}, {attempt['reason']}: {attempt['outcome']}{detail} in {took}")


async def _look(settings: "Settings", store: "Store") -> dict[str, Any]:
    from pointsman.cli.picture import picture  # noqa: PLC0415
    from pointsman.config.plan import to_plan  # noqa: PLC0415
    from pointsman.store.errors import Unreadable  # noqa: PLC0415

    state, table, published, unusable = await state_of(store), None, None, ""
    try:
        published = await store.table()
        table = await table_of(store)
    except (CommandError, Unreadable) as error:  # then everything else is wanted all the more
        unusable = str(error)
    leader = await store.leader()
    return picture(
        state,
        table,
        published.reasons if published else {},
        await store.reports(),
        leader={"owner": leader.owner, "epoch": leader.epoch, "lease_left_s": leader.ttl_s}
        if leader
        else None,
        published_s=published.published_s if published else 0.0,
        now_s=await store.now_s(),
        own_plan=to_plan(settings),
        unusable=unusable,
    )


def _rendered(seen: dict[str, Any]) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    leader, table = seen["leader"], seen["table"]
    head = Text.assemble(
        (f"{seen['environment']}/{seen['fleet']}", "bold"),
        f"  table {table['version']}, {age(table['age_s'])} old" if table else "  no table",
        _converged(table),
    )
    led = f"leader {leader['owner']}, epoch {leader['epoch']}" if leader else "no leader"
    parts: list[RenderableType] = [head, led]
    if seen["frozen"]:
        frozen = seen["frozen"]
        left = f"frozen for {age(frozen['left_s'])} by {frozen['owner']}: {frozen['reason']}"
        parts.append(Text(left, style="magenta"))
    parts += [Text(f"! {warning}", style="yellow") for warning in seen["warnings"]]
    for name, route in seen["routes"].items():
        parts += ["", _route_head(name, route), *_moving(route), _targets(route)]
    if seen["proxies"]:
        parts += ["", _proxies(seen["proxies"])]
    return Group(*parts)


def _converged(table: dict[str, Any] | None) -> str:
    """How long it took until every proxy routed by it."""
    after_s = table["converged_s"] if table else None
    return "" if after_s is None else f", everywhere after {after_s:.2f} s"


def _moving(route: dict[str, Any]) -> "list[RenderableType]":
    """The ramp that moves a route, in a line or two."""
    from rich.text import Text  # noqa: PLC0415

    from pointsman.cli.ramps import headline  # noqa: PLC0415

    ramp = route["ramp"]
    if not ramp or ramp["ended"]:
        return []
    held = [Text(f"    holds: {ramp['why']}", style="yellow")] if ramp["why"] else []
    return [Text.assemble("  ", headline(ramp)), *held]


def _route_head(name: str, route: dict[str, Any]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    overlay = route["overlay"]
    text = Text(name, style="bold")
    if overlay:
        left = f", {age(overlay['left_s'])} left" if overlay["left_s"] is not None else ""
        text.append(f"  {overlay['kind']} by {overlay['owner']}: {overlay['reason']}{left}", style="magenta")
    elif not route["baseline_from_file"]:
        text.append("  weights set by hand (not the file's)", style="dim")
    return text


def _targets(route: dict[str, Any]) -> "RenderableType":
    from rich.table import Table as Grid  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Grid.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for target in route["targets"]:
        filled = round(target["share"] / 100 * BAR_CELLS)
        phase = target["phase"]
        grid.add_row(
            f"  {target['target']}",
            Text("█" * filled + "·" * (BAR_CELLS - filled), style=_COLOURS[phase]),
            f"{target['share']:6.2f} %",
            Text(phase.replace("_", "-"), style=_COLOURS[phase]),
            Text(_remark(target), style="dim"),
        )
    return grid


def _remark(target: dict[str, Any]) -> str:
    if target["drained"]:
        return f"drained by {target['drained']}"
    if target["barred"]:
        return f"barred: {target['barred']}"
    if target["cooldown_left_s"]:
        return f"{age(target['cooldown_left_s'])} left after {target['last_failure'] or 'failures'}"
    if target["throttled_left_s"]:
        return f"rate limited for {age(target['throttled_left_s'])}"
    return "" if target["phase"] == "healthy" else str(target["last_failure"])


def _proxies(proxies: list[dict[str, Any]]) -> "RenderableType":
    from rich.table import Table as Grid  # noqa: PLC0415

    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    for title in ("proxy", "accepted", "serving", "heard"):
        grid.add_column(title, no_wrap=True)
    grid.add_column("", overflow="fold")
    for proxy in proxies:
        remark = (
            "rejected: " + proxy["rejected"] if proxy["rejected"] else ("behind" if proxy["behind"] else "")
        )
        heard = f"{proxy['silent_s']:.1f} s ago" if proxy["silent_s"] is not None else "-"
        grid.add_row(f"  {proxy['proxy']}", proxy["accepted"] or "-", proxy["serving"] or "-", heard, remark)
    return grid


def _explained(name: str, seen: dict[str, Any]) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    route, table = seen["routes"][name], seen["table"]
    parts: list[RenderableType] = [_route_head(name, route)]
    if route["closed"]:
        parts.append(Text(f"closed: {route['closed']}", style="red"))
    for target in route["targets"]:
        line = Text(f"  {target['target']} {target['share']:.2f} %", style="bold")
        line.append(f": {target['reason'] or 'not in the published table'}", style="not bold")
        parts.append(line)
        if target["last_failure"]:
            ago = age(target["last_failure_age_s"] or 0)
            parts.append(Text(f"    last failure {ago} ago: {target['last_failure']}", style="dim"))
    parts.append(Text(f"  falls over along: {' > '.join(route['chain']) or 'nothing'}"))
    if table:
        parts.append(Text(f"  table {table['version']}, published {age(table['age_s'])} ago", style="dim"))
    return Group(*parts)
