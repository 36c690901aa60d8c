"""The verbs that move traffic: weights, failover, failback, pin, unpin, config apply."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from pointsman.cli.common import (
    CommandError,
    ConfigOption,
    DryRunOption,
    Output,
    OutputOption,
    ReasonOption,
    change,
    duration_s,
    load_settings,
    opened,
    optional_duration_s,
    print_json,
    run,
    shares_bp,
    state_of,
    tell,
    usage,
)
from pointsman.core.evidence import Verb

app = typer.Typer(help="Show or set the shares of routes.", invoke_without_command=True)

RouteArgument = Annotated[str, typer.Argument(help="A route: the model name that callers send.")]
OptionalRoute = Annotated[
    str, typer.Argument(help="A route; left out: every route concerned.", show_default=False)
]
SharesArgument = Annotated[
    str, typer.Argument(help="Percent per target, 100 in all: bedrock=50,google=30,meta=20")
]
ForOption = Annotated[
    str | None,
    typer.Option("--for", help="How long: 30s, 10m, 2h; left out: until ended.", show_default=False),
]


@app.callback()
def weights(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        context.invoke(show)


@app.command()
def show(config: ConfigOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show baselines and what lies over them."""
    settings = load_settings(config)

    async def show_weights() -> None:
        async with opened(settings) as store:
            state = await state_of(store)
        if output is Output.JSON:
            print_json({"baselines": state.baselines, "overlays": state.overlays})
            return
        for name, baseline in sorted(state.baselines.items()):
            tell(f"{name}: {_percents(baseline.shares_bp)}")
            tell(f"  revision {baseline.revision} by {baseline.author}: {baseline.reason}")
            if baseline.file_bp != baseline.shares_bp:
                tell(f"  the file says {_percents(baseline.file_bp)}")
            for overlay in state.overlays:
                if overlay.route == name:
                    shares = _percents(overlay.shares_bp)
                    tell(f"  {overlay.kind.value} by {overlay.owner}: {shares} ({overlay.reason})")

    run(show_weights)


@app.command(name="set")
def set_weights(
    route: RouteArgument,
    shares: SharesArgument,
    over: Annotated[
        str | None, typer.Option("--over", help="Step by step within this: 5m.", show_default=False)
    ] = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set the baseline of ROUTE, at once or --over a while.

    It lasts until it is set again, or until the file's own value changes.
    """
    args = {"route": route, "shares_bp": shares_bp(shares), "over_s": optional_duration_s(over)}
    run(lambda: change(config, Verb.SET_WEIGHTS, args, reason=reason, dry_run=dry_run, output=output))


class Mode(StrEnum):
    """How a failover moves."""

    IMMEDIATE = "immediate"
    GRADUAL = "gradual"
    CANARY = "canary"


def failover(
    route: OptionalRoute = "",
    source: Annotated[str, typer.Option("--from", help="The target to move away from.")] = ...,  # type: ignore[assignment]
    goal: Annotated[
        str, typer.Option("--to", help="The target to move to; left out: the first healthy one of the chain.")
    ] = "",
    mode: Annotated[
        Mode, typer.Option("--mode", help="At once, step by step (50, 25, 0 % left), or as a canary.")
    ] = Mode.IMMEDIATE,
    lasting: ForOption = None,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="Over everything else, manual pins too.")
    ] = False,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move traffic away from a target.

    It returns only by failback, or when --for is over. As a canary, it is one: see `pointsman canary`.
    """
    if mode is Mode.CANARY:
        if not (route and goal):
            usage("a canary needs its route, and --to")
        canary = {"route": route, "from": source, "to": goal}
        run(lambda: change(config, Verb.CANARY, canary, reason=reason, dry_run=dry_run, output=output))
        return
    args = {
        "mode": mode.value,
        "route": route,
        "from": source,
        "to": goal,
        "for_s": optional_duration_s(lasting),
        "emergency": emergency,
    }
    run(lambda: change(config, Verb.FAILOVER, args, reason=reason, dry_run=dry_run, output=output))


def failback(
    route: OptionalRoute = "",
    target: Annotated[str, typer.Option("--target", help="Only failovers away from this target.")] = "",
    now: Annotated[
        bool, typer.Option("--now", help="At once, by slow start, instead of step by step.")
    ] = False,
    auto: Annotated[
        bool, typer.Option("--auto", help="Not yet: by itself, once the target has earned it.")
    ] = False,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """End a failover step by step: 10, 25, 50, 75, 100 % with a look at each.

    `pointsman canary` shows and steers it, as every ramp.
    """
    if now and auto:
        usage("--now and --auto exclude each other")
    args = {"route": route, "target": target, "now": now, "auto": auto}
    run(lambda: change(config, Verb.FAILBACK, args, reason=reason, dry_run=dry_run, output=output))


ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        help="Only this proxy, through its socket on this machine; needs no daemon. Its restart ends such a pin.",
    ),
]


def pin(
    route: RouteArgument,
    shares: SharesArgument,
    lasting: Annotated[str, typer.Option("--for", help="How long: 30s, 10m, 2h.")] = "10m",
    force: Annotated[bool, typer.Option("--force", help="Feed these targets even if they are dead.")] = False,
    proxy: ProxyOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Hold a route at these shares for a while.

    Health still filters them, unless --force.
    """
    args: dict[str, Any] = {
        "route": route,
        "shares_bp": shares_bp(shares),
        "for_s": duration_s(lasting),
        "force": force,
    }
    if proxy is not None:
        run(lambda: _to_proxy(config, proxy, "/pin", args, dry_run, output))
    else:
        run(lambda: change(config, Verb.PIN, args, reason=reason, dry_run=dry_run, output=output))


def unpin(
    route: RouteArgument,
    proxy: ProxyOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """End a pin or a rollback of a route."""
    args: dict[str, Any] = {"route": route}
    if proxy is not None:
        run(lambda: _to_proxy(config, proxy, "/unpin", args, dry_run, output))
    else:
        run(lambda: change(config, Verb.UNPIN, args, reason=reason, dry_run=dry_run, output=output))


def apply(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the file the active configuration of the fleet."""
    from pointsman.config.plan import to_plan  # noqa: PLC0415
    from pointsman.control.loop import plan_args  # noqa: PLC0415

    args = plan_args(to_plan(load_settings(config)))
    run(lambda: change(config, Verb.APPLY_PLAN, args, reason=reason, dry_run=dry_run, output=output))


async def _to_proxy(
    config: ConfigOption, proxy: str, path: str, args: dict[str, Any], dry_run: bool, output: Output
) -> None:
    """A word to one proxy; it keeps no record of reasons, so none is asked for."""
    from pointsman.cli.local import ask_proxy  # noqa: PLC0415

    if dry_run:
        raise CommandError("a proxy that is pinned by hand decides nothing: there is no dry run of it")
    answer = await ask_proxy(load_settings(config), proxy, path, args)
    if output is Output.JSON:
        print_json(answer)
    else:
        done = "pinned" if path == "/pin" else "unpinned"
        tell(f"proxy {proxy}: {args['route']} {done}")


def _percents(shares: dict[str, int]) -> str:
    return ", ".join(f"{target} {share / 100:.2f} %" for target, share in shares.items())
