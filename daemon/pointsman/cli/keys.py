"""`pointsman keys`: keys for callers of the proxies."""

import re
from typing import Annotated, Final

import typer

from pointsman.cli.common import Output, OutputOption, print_json, tell, usage

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

app: Final = typer.Typer(help="Make keys for callers of the proxies.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Make keys for callers of the proxies."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: a name for the file and the access log.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a fresh key, once, and the line for the configuration.

    Only its hash stands in the file, so it cannot be shown again. Nothing is written and nobody is asked.
    """
    from pointsman.config.caller_keys import fresh_key, hashed  # noqa: PLC0415

    if not _NAME.fullmatch(name):
        usage(
            "that is no name: use 1 to 63 lower-case letters, digits, '.', '_' and '-', beginning with a letter or a "
            "digit"
        )
    key = fresh_key()
    if output is Output.JSON:
        print_json({"name": name, "key": key, "hash": hashed(key), "line": f"{name}: {hashed(key)}"})
        return
    tell(key)
    tell("")
    tell(
        "It is not shown again. Give it to its caller, as the key of the client; the configuration gets its hash:"
    )
    tell("")
    tell(f"proxy:\n  keys:\n    {name}: {hashed(key)}")
    tell("")
    tell("A SIGHUP to the proxies lets it in. Once any key is configured, nobody is served without one.")
