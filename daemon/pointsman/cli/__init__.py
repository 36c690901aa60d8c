"""The command line: `pointsman VERB`. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 unreachable."""

import sys

import typer

from pointsman import __version__
from pointsman.cli import (
    canary,
    config,
    demo,
    events,
    fake_provider,
    keys,
    monitor,
    providers,
    replay,
    rollout,
    run,
    status,
    tables,
    validate,
    weights,
)
from pointsman.cli.common import CommandError

EPILOG = "Exit codes: 0 done · 1 refused or failed · 2 wrong usage or configuration · 3 store or daemon unreachable."

app = typer.Typer(
    help="The runbook that runs itself: keeps LLM traffic alive across providers.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def pointsman(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        sys.stdout.write(f"pointsman {__version__}\n")
        raise typer.Exit


for command in (run.up, run.control, run.proxy, status.status, status.explain):
    app.command(epilog=EPILOG)(command)
for verb in (weights.failover, weights.failback, weights.pin, weights.unpin, events.events, replay.replay):
    app.command(epilog=EPILOG)(verb)
app.command(epilog=EPILOG)(canary.freeze)
app.command(epilog=EPILOG)(canary.unfreeze)
for check in (monitor.monitor, validate.validate):
    app.command(epilog=EPILOG)(check)
app.command(name="fake-provider")(fake_provider.fake_provider)
app.command()(demo.demo)
config.app.command(name="apply")(weights.apply)
tables.app.command(name="explain")(status.explain)
for name, group in (
    ("canary", canary.app),
    ("rollout", rollout.app),
    ("weights", weights.app),
    ("table", tables.app),
    ("provider", providers.app),
    ("config", config.app),
    ("keys", keys.app),
):
    for registered in group.registered_commands:
        registered.epilog = EPILOG
    app.add_typer(group, name=name, epilog=EPILOG)


def main() -> None:
    """Run the command line; errors become one message on standard error and an exit code."""
    try:
        app()
    except CommandError as error:
        sys.stderr.write(f"pointsman: {error}\n")
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
