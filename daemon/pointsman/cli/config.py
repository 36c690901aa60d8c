"""`pointsman config`: validate, show, schema, export. (`config apply` is a word to the daemon: weights.py.)"""

import itertools
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pointsman.cli.common import (
    USAGE,
    CommandError,
    ConfigOption,
    Output,
    OutputOption,
    config_path,
    console,
    load_settings,
    opened,
    print_json,
    run,
)

if TYPE_CHECKING:
    from pointsman.config.errors import ConfigError, KeyPath
    from pointsman.config.models import Settings
    from pointsman.config.sources import Loaded

app: Final = typer.Typer(help="Check, show, export and apply the configuration.", no_args_is_help=True)


@app.command()
def validate(config: ConfigOption = None, output: OutputOption = Output.TEXT) -> None:
    """Check the configuration: each problem with line and cure.

    Exit codes: 0 valid, 2 not valid.
    """
    path = config_path(config)
    settings = _read(path, output).settings
    bounds = _detection_bounds(settings)
    if output is Output.JSON:
        print_json({"valid": True, "file": str(path), "problems": [], "detection_s": bounds})
        return
    out = console()
    sections = ((settings.providers, "provider"), (settings.targets, "target"), (settings.routes, "route"))
    counts = ", ".join(_count(len(entries), noun) for entries, noun in sections)
    out.print(f"{path} is valid: {counts}.", markup=False)
    out.print("Without traffic, failures are found within:", markup=False)
    for provider, bound in bounds.items():
        hanging = "" if bound["hanging"] is None else f", {bound['hanging']:g} s if only completions hang"
        out.print(f"  {provider}: {bound['dead']:g} s{hanging}", markup=False)


@app.command()
def show(config: ConfigOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show each value as it holds, and where it comes from.

    Secrets appear as their references.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from pointsman.config.errors import dotted  # noqa: PLC0415

    loaded = _read(config_path(config), output)
    if output is Output.JSON:
        print_json(
            [
                {"key": dotted(path), "value": value, "source": source}
                for path, value, source in _entries(loaded)
            ]
        )
        return
    out = console()
    out.print(f"{loaded.path}, then the environment, then defaults", markup=False)
    for group, entries in itertools.groupby(_entries(loaded), key=lambda entry: entry[0][:-1]):
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for width in (26, None, None):
            table.add_column(min_width=width, overflow="fold")
        for path, value, source in entries:
            style = "dim" if source == "default" else ""
            here = source.replace(f"{loaded.path}:", "line ")
            table.add_row(*(Text(text, style) for text in (f"  {dotted(path[-1:])}", _scalar(value), here)))
        if group:
            out.print(Text(dotted(group), "bold"))
        out.print(table)


@app.command()
def schema(output: OutputOption = Output.JSON) -> None:
    """Print the JSON Schema of the file, for editors: JSON, whatever the output.

    The YAML language server and check-jsonschema read it.
    """
    from pointsman.config.models import Settings  # noqa: PLC0415

    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@app.command()
def export(config: ConfigOption = None, output: OutputOption = Output.TEXT) -> None:
    """Print the file that would reproduce today.

    These settings, with the weights that hold in the store. When it cannot be reached, the weights are the
    file's, and a line on standard error says so; another does if this file is not the active configuration.
    """
    settings = load_settings(config)
    run(lambda: _export(settings, output))


async def _export(settings: "Settings", output: Output) -> None:
    from pointsman.config.export import export as to_yaml  # noqa: PLC0415

    baselines, differs, why = await _baselines(settings)
    text = to_yaml(settings, baselines)
    if output is Output.JSON:
        source = "file" if why else "store"
        print_json({"weights_from": source, "why": why, "file_differs": differs, "yaml": text})
        return
    if why:
        sys.stderr.write(f"The weights are the file's, not the store's: {why}\n")
    if differs:
        sys.stderr.write(
            "The file differs from the active configuration (pointsman config apply --dry-run): "
            "what is not a weight is the file's.\n"
        )
    sys.stdout.write(text)


async def _baselines(settings: "Settings") -> tuple[dict[str, dict[str, int]], bool, str]:
    """(route → target → basis points as they hold, is another configuration active?, why neither is known)."""
    from pointsman.config.plan import to_plan  # noqa: PLC0415

    try:
        async with opened(settings) as store:
            state = await store.load_state()
    except CommandError as error:
        return {}, False, str(error)
    if state is None:
        return {}, False, "no daemon has led here yet"
    differs = state.plan is not None and state.plan.digest != to_plan(settings).digest
    return {route: dict(baseline.shares_bp) for route, baseline in state.baselines.items()}, differs, ""


def _read(path: Path, output: Output) -> "Loaded":
    """The configuration with its origins; its problems are printed, and end the command."""
    from pointsman.config.errors import ConfigError  # noqa: PLC0415
    from pointsman.config.sources import read  # noqa: PLC0415

    try:
        return read(path)
    except ConfigError as error:
        _print_problems(path, error, output)
        raise typer.Exit(USAGE) from None


def _print_problems(path: Path, error: "ConfigError", output: Output) -> None:
    if output is Output.JSON:
        problems = [
            {
                "file": problem.file,
                "line": problem.line,
                "variable": problem.variable or None,
                "key": problem.key,
                "text": problem.text,
                "cure": problem.cure,
            }
            for problem in error.problems
        ]
        print_json({"valid": False, "file": str(path), "problems": problems})
        return
    for problem in error.problems:
        sys.stderr.write(f"{problem.place}: {problem.key}".rstrip(": ") + "\n")
        for sentence in (f"{problem.text}.", problem.remedy):
            sys.stderr.write(
                textwrap.fill(sentence, 78, initial_indent="    ", subsequent_indent="    ") + "\n"
            )
    sys.stderr.write(f"{_count(len(error.problems), 'problem')}; nothing was changed.\n")


def _detection_bounds(settings: "Settings") -> dict[str, dict[str, float | None]]:
    """Provider → the longest seconds until a dead and a hanging target are found without traffic."""
    from pointsman.config.rules import detection_s, zombie_detection_s  # noqa: PLC0415

    models = Counter(target.provider for target in settings.targets.values())
    return {
        name: {
            "dead": round(detection_s(provider.probe, settings.policy), 1),
            "hanging": None if hanging_s is None else round(hanging_s, 1),
        }
        for name, provider in settings.providers.items()
        for hanging_s in [zombie_detection_s(provider.probe, settings.policy, models[name])]
    }


def _entries(loaded: "Loaded") -> "Iterator[tuple[KeyPath, Any, str]]":
    """(path, value, source) of every value that is no mapping; what stands in one mapping comes together."""

    def walk(path: "KeyPath", value: dict[str, Any]) -> "Iterator[tuple[KeyPath, Any, str]]":
        inner = {key: entry for key, entry in value.items() if isinstance(entry, dict) and entry}
        for key, entry in value.items():
            if key not in inner:
                yield (*path, key), entry, loaded.origins.describe((*path, key))
        for key, entry in inner.items():
            yield from walk((*path, key), entry)

    yield from walk((), loaded.settings.model_dump(mode="json"))


def _scalar(value: Any) -> str:
    if value is None:
        return "–"
    from pointsman.config.errors import plain  # noqa: PLC0415

    if isinstance(value, float):
        return plain(value)
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
