"""`rollout`: staged rollouts over environments; each daemon moves the stage of its own."""

import functools
from enum import StrEnum
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
    print_json,
    run,
    state_of,
    tell,
)
from pointsman.core.evidence import Verb

if TYPE_CHECKING:
    from pointsman.core.model import State

app = typer.Typer(
    help="Staged rollouts: environment after environment, with criteria, approvals and reports.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="A rollout of the configuration.")]
OptionalName = Annotated[str, typer.Argument(help="A rollout; left out: all.", show_default=False)]


class ReportOutput(StrEnum):
    """How a report is printed."""

    MARKDOWN = "markdown"
    JSON = "json"


def _say(
    verb: Verb,
    args: dict[str, Any],
    *,
    reason: str,
    dry_run: bool,
    config: ConfigOption,
    output: Output,
) -> None:
    run(functools.partial(change, config, verb, args, reason=reason, dry_run=dry_run, output=output))


@app.command()
def start(
    name: NameArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Begin this environment's stage.

    It waits until the environment before is go, moves the traffic by a canary, and watches it for the stage's time.
    """
    _say(Verb.ROLLOUT_START, {"name": name}, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def go(
    name: NameArgument,
    stage: Annotated[
        str, typer.Option("--stage", help="The environment before, whose store is another one.")
    ] = ...,  # type: ignore[assignment]
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say that the environment before is go.

    Needed only where this daemon's store does not hold the other environment's.
    """
    args = {"name": name, "stage": stage}
    _say(Verb.ROLLOUT_GO, args, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def approve(
    name: NameArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say yes to a stage whose criteria are all go."""
    _say(Verb.ROLLOUT_APPROVE, {"name": name}, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def again(
    name: NameArgument,
    root_cause: Annotated[
        str, typer.Option("--root-cause", help="What went wrong, and what was done about it.")
    ] = "",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Try again after a rollback, with the longer times.

    The root cause is the gate: without it nothing begins. The environments before must be go again.
    """
    args = {"name": name, "root_cause": root_cause}
    _say(Verb.ROLLOUT_AGAIN, args, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def stop(
    name: NameArgument,
    keep: Annotated[bool, typer.Option("--keep", help="What was moved stays, unwatched.")] = False,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a rollout back, at once.

    Its canary is aborted, or the old baseline restored; also when the stage is go already.
    """
    args = {"name": name, "keep": keep}
    _say(Verb.ROLLOUT_STOP, args, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def overrule(
    name: NameArgument,
    criterion: Annotated[
        str,
        typer.Option(
            "--criterion",
            help="requests, errors, latency, cost, cache_hits or soak; left out: all that hold, save soak.",
            show_default=False,
        ),
    ] = "",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Pass what is not go.

    A no-go still rolls back.
    """
    args = {"name": name, "criterion": criterion}
    _say(Verb.ROLLOUT_OVERRULE, args, reason=reason, dry_run=dry_run, config=config, output=output)


@app.command()
def status(
    name: OptionalName = "",
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show rollouts: how far, what each criterion says, and what was seen."""
    settings = load_settings(config)

    async def show() -> None:
        from pointsman.cli.rollouts import pictures, rendered  # noqa: PLC0415

        async with opened(settings) as store:
            state, now_s = await state_of(store), await store.now_s()
            _known(state, name)
            seen = pictures(state, now_s, name)
            if output is Output.JSON:
                print_json(seen)
            else:
                console().print(rendered(seen))

    run(show)


@app.command()
def report(
    name: NameArgument,
    last: Annotated[int, typer.Option("--last", help="How many, the newest last.", min=1)] = 1,
    config: ConfigOption = None,
    output: Annotated[
        ReportOutput, typer.Option("--output", "-o", help="markdown for people, json for scripts.")
    ] = ReportOutput.MARKDOWN,
) -> None:
    """Print the last report.

    Reports write themselves: at the end of a stage, daily and weekly.
    """
    settings = load_settings(config)

    async def show() -> None:
        from pointsman.cli.rollouts import markdown, report_picture  # noqa: PLC0415

        async with opened(settings) as store:
            state = await state_of(store)
            _known(state, name)
            reports = state.reports.get(name, ())[-last:]
            if output is ReportOutput.JSON:
                print_json([report_picture(one) for one in reports])
            elif not reports:
                raise CommandError(
                    f"no report of {name} has been written yet: pointsman rollout status {name}"
                )
            else:
                tell("\n".join(map(markdown, reports)).rstrip("\n"))

    run(show)


def _known(state: "State", name: str) -> None:
    names = {*(state.plan.rollouts if state.plan else ()), *state.rollouts}
    if name and name not in names:
        there = ", ".join(sorted(names)) or "none, write one under rollouts: in the file"
        raise CommandError(f"there is no rollout {name!r}; there are: {there}")
