"""`canary`: start, watch and steer the ramp of a route; the same verbs steer a gradual failover and a failback."""

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli.common import (
    CommandError,
    ConfigOption,
    DryRunOption,
    Output,
    OutputOption,
    ReasonOption,
    change,
    console,
    load_settings,
    opened,
    optional_duration_s,
    print_json,
    run,
    shown_anew,
    state_of,
    usage,
)
from pointsman.core.evidence import Verb

if TYPE_CHECKING:
    from pointsman.store.client import Store

app = typer.Typer(
    help="Move a route's traffic step by step, on evidence: canaries, and every other ramp.",
    no_args_is_help=True,
)

RouteArgument = Annotated[str, typer.Argument(help="A route: the model name that callers send.")]
OptionalRoute = Annotated[str, typer.Argument(help="A route; left out: all.", show_default=False)]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Show it anew every second until it is over.")
]


def _option(flag: str, help_: str) -> Any:
    return typer.Option(flag, help=help_, show_default=False)


@app.command()
def start(
    route: RouteArgument,
    source: Annotated[str, typer.Option("--from", help="The target whose share moves.")] = ...,  # type: ignore[assignment]
    goal: Annotated[str, typer.Option("--to", help="The target that is tried.")] = ...,  # type: ignore[assignment]
    steps: Annotated[str | None, _option("--steps", "Percents that grow: 5,10,25,50,75,100")] = None,
    hold: Annotated[str | None, _option("--hold", "How long each step is watched: 2m")] = None,
    first_hold: Annotated[str | None, _option("--first-hold", "The same for the first step: 5m")] = None,
    samples: Annotated[str | None, _option("--samples", "Requests per step at least: 60,150,300")] = None,
    max_hold: Annotated[str | None, _option("--max-hold", "A step held for longer rolls back: 4h")] = None,
    bake: Annotated[str | None, _option("--bake", "Compared for so long after promotion: 30m")] = None,
    require: Annotated[str | None, _option("--require", "Hold without: latency,cost,cache_hits …")] = None,
    approve_at: Annotated[
        str | None, _option("--approve-at", "Steps for a person to approve: 50,100")
    ] = None,
    gates: Annotated[str | None, _option("--gates", "Only these of the configured external gates")] = None,
    budget: Annotated[float | None, _option("--budget-usd", "What the moved side may cost in all")] = None,
    synthetic: Annotated[
        bool | None,
        typer.Option("--synthetic/--no-synthetic", help="Make traffic, marked, where there is too little."),
    ] = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start a canary of ROUTE.

    It takes a step when every gate passes, holds with the reason when one does not, and aborts by itself on
    evidence that the new side is worse. What is not said here is as under `ramp.canary` in the file.
    """
    args: dict[str, Any] = {
        "route": route,
        "from": source,
        "to": goal,
        "steps": _numbers("--steps", steps),
        "samples": _numbers("--samples", samples),
        "approve": _numbers("--approve-at", approve_at),
        "hold_s": optional_duration_s(hold),
        "first_hold_s": optional_duration_s(first_hold),
        "max_hold_s": optional_duration_s(max_hold),
        "bake_s": optional_duration_s(bake),
        "require": _names(require),
        "gates": None if gates is None else _names(gates),
        "budget_usd": budget,
        "synthetic": synthetic,
    }
    run(lambda: change(config, Verb.CANARY, args, reason=reason, dry_run=dry_run, output=output))


def _numbers(flag: str, text: str | None) -> list[float]:
    try:
        return [float(part.strip().removesuffix("%")) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        usage(f"{flag} {text!r}: write numbers with commas between them, as 5,10,25")


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


@app.command()
def status(
    route: OptionalRoute = "",
    watch: WatchOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show ramps: how far, what each gate says, and what was seen."""
    settings = load_settings(config)

    async def show() -> None:
        from pointsman.cli.ramps import rendered  # noqa: PLC0415

        async with opened(settings) as store:
            look = functools.partial(_look, store, route)
            if watch and output is Output.TEXT:
                await _watched(look)
            elif output is Output.JSON:
                print_json(await look())
            else:
                console().print(rendered(await look()))

    run(show)


async def _look(store: "Store", route: str) -> list[dict[str, Any]]:
    from pointsman.cli.ramps import ramp_picture  # noqa: PLC0415

    state, now_s = await state_of(store), await store.now_s()
    known = sorted(state.plan.routes) if state.plan else []
    if route and route not in known:
        raise CommandError(f"there is no route {route!r}; there are: {', '.join(known)}")
    ramps = [ramp for name, ramp in sorted(state.ramps.items()) if not route or name == route]
    return [ramp_picture(ramp, now_s) for ramp in ramps]


async def _watched(look: Callable[[], Awaitable[list[dict[str, Any]]]]) -> None:
    import anyio  # noqa: PLC0415

    from pointsman.cli.ramps import rendered  # noqa: PLC0415

    with shown_anew() as draw:
        while True:
            seen = await look()
            draw(rendered(seen))
            if all(ramp["ended"] for ramp in seen):
                return
            await anyio.sleep(1)


def _steering(verb: Verb, text: str) -> Callable[..., None]:
    """A command that says `verb` of a route."""

    def say(
        route: RouteArgument,
        reason: ReasonOption = "",
        dry_run: DryRunOption = False,
        config: ConfigOption = None,
        output: OutputOption = Output.TEXT,
    ) -> None:
        asked = functools.partial(change, config, verb, {"route": route})
        run(lambda: asked(reason=reason, dry_run=dry_run, output=output))

    say.__doc__ = text
    return say


for _name, _verb, _text in (
    ("pause", Verb.RAMP_PAUSE, "Keep a ramp where it is.\n\nAn abort still acts."),
    ("resume", Verb.RAMP_RESUME, "Let a paused ramp go on."),
    (
        "promote",
        Verb.RAMP_PROMOTE,
        "Go all the way now, past the gates.\n\nA canary is still compared while it bakes.",
    ),
    (
        "abort",
        Verb.RAMP_ABORT,
        "Put the weight back, at once.\n\nAlso while it bakes: then the old baseline returns.",
    ),
    ("overrule", Verb.RAMP_OVERRULE, "Pass the holds of the present step.\n\nIts aborts still act."),
):
    app.command(name=_name)(_steering(_verb, _text))


PercentArgument = Annotated[str, typer.Argument(help="One of the ramp's steps, in percent.")]


@app.command(name="set")
def set_step(
    route: RouteArgument,
    percent: PercentArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send a ramp to one of its steps, up or down."""
    args = {"route": route, "percent": _numbers("PERCENT", percent)[0]}
    run(lambda: change(config, Verb.RAMP_SET, args, reason=reason, dry_run=dry_run, output=output))


@app.command()
def approve(
    route: RouteArgument,
    percent: Annotated[
        str, typer.Argument(help="The step; left out: the next one.", show_default=False)
    ] = "",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say yes to a step that waits for a person."""
    numbers = _numbers("PERCENT", percent)
    args = {"route": route, "percent": numbers[0] if numbers else None}
    run(lambda: change(config, Verb.RAMP_APPROVE, args, reason=reason, dry_run=dry_run, output=output))


# --- freezes


def freeze(
    lasting: Annotated[str, typer.Option("--for", help="How long: 30m, 2h.")] = "2h",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop every movement for a while.

    Aborts, emergencies and what health does to a dead target still act.
    """
    args = {"for_s": optional_duration_s(lasting)}
    run(lambda: change(config, Verb.FREEZE, args, reason=reason, dry_run=dry_run, output=output))


def unfreeze(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let things move again."""
    run(lambda: change(config, Verb.UNFREEZE, {}, reason=reason, dry_run=dry_run, output=output))
