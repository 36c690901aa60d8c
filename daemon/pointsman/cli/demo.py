"""`pointsman demo`: an outage on this machine, and traffic that survives it."""

from enum import StrEnum
from typing import Annotated

import anyio
import typer


class Form(StrEnum):
    """How the summary is printed."""

    TEXT = "text"
    JSON = "json"


def demo(
    duration: Annotated[
        float, typer.Option(min=30, max=3600, help="Length of the story in seconds; its acts need some 50.")
    ] = 60.0,
    output: Annotated[Form, typer.Option(help="json: the summary as one document on stdout.")] = Form.TEXT,
) -> None:
    """Play an outage against real processes and fake providers, and count what callers notice.

    Needs no server, no account and no root. Exits 0 only if no request failed.
    """
    from pointsman.demo.run import run  # noqa: PLC0415 - rich and the fakes are not for `pointsman --help`

    raise typer.Exit(anyio.run(lambda: run(duration, json=output is Form.JSON)))
