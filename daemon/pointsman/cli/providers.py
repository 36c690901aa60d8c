"""`provider`: list, try, reset, drain."""

import textwrap
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli.common import (
    REFUSED,
    CommandError,
    ConfigOption,
    DryRunOption,
    Output,
    OutputOption,
    ReasonOption,
    age,
    change,
    duration_s,
    load_settings,
    opened,
    print_json,
    run,
    state_of,
    tell,
)
from pointsman.core.evidence import Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pointsman.core.evidence import ProbeResult

WIDTH: Final = 80

app = typer.Typer(help="Providers and their targets: list, try, reset, drain.", no_args_is_help=True)

TargetArgument = Annotated[str, typer.Argument(help="A target: a model at a provider.")]


@app.command(name="list")
def list_providers(config: ConfigOption = None, output: OutputOption = Output.TEXT) -> None:
    """List providers, and how targets stand."""
    settings = load_settings(config)

    async def show() -> None:
        from pointsman.cli.picture import target_picture  # noqa: PLC0415

        async with opened(settings) as store:
            state, now_s = await state_of(store), await store.now_s()
        plan = state.plan
        found: dict[str, Any] = {}
        for name, provider in sorted(plan.providers.items() if plan else ()):
            targets = [t for t in plan.targets.values() if t.provider == name] if plan else []
            found[name] = {
                "family": provider.family.value,
                "base_url": provider.base_url,
                "shared_fate": provider.shared_fate,
                "targets": [target_picture(t.name, state, now_s) | {"model": t.model} for t in targets],
            }
        if output is Output.JSON:
            print_json(found)
            return
        for name, entry in found.items():
            tell(f"{name}  {entry['family']}  {entry['base_url']}")
            for target in entry["targets"]:
                for line in lines_of(target):
                    tell(line)

    run(show)


def lines_of(target: dict[str, Any]) -> list[str]:
    """A target in lines of at most 80 columns: how it stands, and what was counted."""
    lines = textwrap.wrap(
        f"{target['target']}  {target['model']}: {_standing(target)}",
        WIDTH, initial_indent="  ", subsequent_indent="      ",
    )  # fmt: skip
    for fact in _facts(target):
        lines += textwrap.wrap(fact, WIDTH, initial_indent="    ", subsequent_indent="      ")
    return lines


def _standing(target: dict[str, Any]) -> str:
    text = str(target["phase"]).replace("_", "-")
    if target["cooldown_until"]:
        text += f" until {target['cooldown_until']}, {age(target['cooldown_left_s'])} left"
    if target["throttled_left_s"]:
        text += f", rate limited for {age(target['throttled_left_s'])}"
    if target["softened_left_s"]:
        text += f", half weight for {age(target['softened_left_s'])}"
    if target["barred"]:
        left = f" for {age(target['barred_left_s'])}" if target["barred_left_s"] else ""
        text += f", barred{left}: {target['barred']}"
    if target["drained"]:
        text += f", drained by {target['drained']}"
    return text


def _facts(target: dict[str, Any]) -> "Iterator[str]":
    """What was counted and when, each where there is something to say."""
    streaks = {
        "reach probe": target["streaks"]["reach"],
        "generate probe": target["streaks"]["generate"],
        "request": target["streaks"]["live"],
        "refusal": target["streaks"]["refused"],
    }
    told = [f"{count} {what}{'s' if count > 1 else ''}" for what, count in streaks.items() if count]
    if told:
        yield f"failed in a row: {', '.join(told)}"
    if target["failures"]:
        yield f"failures that pick the next cooldown: {target['failures']}"
    if target["last_failure"]:
        yield f"last failure {age(target['last_failure_age_s'] or 0)} ago: {target['last_failure']}"
    if target["last_success_age_s"] is not None:
        yield f"last success {age(target['last_success_age_s'])} ago"
    if target["outcomes"]:
        by_count = sorted(target["outcomes"].items(), key=lambda entry: -entry[1])
        counts = ", ".join(f"{count} {fault}" for fault, count in by_count)
        yield f"requests of the last {age(target['outcomes_s'])}: {counts}"


@app.command(name="test")
def try_provider(
    name: Annotated[str, typer.Argument(help="A provider of the file.")],
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Probe a provider once, from here.

    Needs no daemon. Exit code 1 if a probe fails.
    """
    settings = load_settings(config)

    async def try_it() -> None:
        from pointsman.probing.once import try_one  # noqa: PLC0415

        try:
            results = await try_one(settings, name)
        except LookupError as error:
            raise CommandError(str(error)) from error
        if output is Output.JSON:
            print_json(results)
        else:
            for result in results:
                tell(_result_line(result))
        if not all(result.outcome.ok for result in results):
            raise typer.Exit(REFUSED)

    run(try_it)


def _result_line(result: "ProbeResult") -> str:
    what = f"{result.kind.value} {result.target or result.provider}"
    outcome = "ok" if result.outcome.ok else f"{result.outcome.fault.value}: {result.outcome.detail}"
    first = f", first token {result.first_token_ms:.0f} ms" if result.first_token_ms is not None else ""
    return f"{what}: {outcome} ({result.latency_ms:.0f} ms{first})"


@app.command()
def reset(
    target: TargetArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a target's failures and cooldown.

    It comes back by slow start.
    """
    _change(Verb.RESET, target, reason, dry_run, config, output)


@app.command()
def drain(
    target: TargetArgument,
    over: Annotated[str, typer.Option("--over", help="Within this, down to nothing; 0s: at once.")] = "1m",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a target out of service, gently.

    Requests under way end in peace; `pointsman provider undrain` takes it back.
    """
    args = {"target": target, "over_s": duration_s(over) or None}
    run(lambda: change(config, Verb.DRAIN, args, reason=reason, dry_run=dry_run, output=output))


@app.command()
def undrain(
    target: TargetArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a target back, by slow start."""
    _change(Verb.UNDRAIN, target, reason, dry_run, config, output)


def _change(
    verb: Verb, target: str, reason: str, dry_run: bool, config: ConfigOption, output: Output
) -> None:
    run(lambda: change(config, verb, {"target": target}, reason=reason, dry_run=dry_run, output=output))
