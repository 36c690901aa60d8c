"""What the commands share: options, the way to the store, saying a word, output, exit codes.

Exit codes: 0 done · 1 refused or failed · 2 wrong usage or configuration · 3 store or daemon unreachable.
"""

import getpass
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pointsman.config.models import Settings
    from pointsman.core.evidence import Verb
    from pointsman.core.model import State
    from pointsman.core.table import Table
    from pointsman.store.client import Store

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

ANSWER_TIMEOUT_S: Final = 5.0
CONFIG_PATHS: Final = ("pointsman.yaml", "/etc/pointsman/pointsman.yaml")


class Output(StrEnum):
    """How a command answers: for people or for scripts."""

    TEXT = "text"
    JSON = "json"


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="POINTSMAN_CONFIG",
        help="The configuration file; else ./pointsman.yaml, else /etc/pointsman/pointsman.yaml.",
        show_default=False,
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for scripts.")]
ReasonOption = Annotated[
    str,
    typer.Option(
        "--reason", "-r", help="Why: it stands in the events and beside the weights.", show_default=False
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


class CommandError(Exception):
    """A command ends here: `code` is the exit code, the message says what happened and what to do next."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(text)
        self.code = code


def console() -> "Console":
    """Where text for people goes: coloured on a terminal, plain in a pipe, 80 columns where nobody says."""
    from rich.console import Console  # noqa: PLC0415

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            _turn_away()
            raise typer.Exit

    columns = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 80
    return Pipe(highlight=False, soft_wrap=False, width=columns)


@contextmanager
def shown_anew() -> "Iterator[Callable[[RenderableType], None]]":
    """Shows one state of things after the other: each in the place of the last on a terminal, below it in a pipe."""
    from rich.live import Live  # noqa: PLC0415

    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        yield out.print
        return
    with Live(console=out, auto_refresh=False) as live:
        yield lambda picture: live.update(picture, refresh=True)


def tell(text: str) -> None:
    """A line for people. Not wrapped by us: a terminal does that, and a pipe wants whole lines."""
    console().print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    import msgspec  # noqa: PLC0415

    body = msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2)
    sys.stdout.write(body.decode() + "\n")


def run(command: Callable[[], Awaitable[None]]) -> None:
    """Run a command's coroutine. A pipe that is closed early (`| head`) is no error, and Ctrl-C a way to end."""
    import anyio  # noqa: PLC0415

    try:
        anyio.run(command)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _turn_away()


def _turn_away() -> None:
    """Nobody reads what we say any more: what is left of it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage(text: str) -> NoReturn:
    """The command was called wrongly."""
    raise CommandError(text, USAGE)


def config_path(given: Path | None) -> Path:
    """The configuration file to read; a CommandError says where it was looked for."""
    given = given or (Path(os.environ["POINTSMAN_CONFIG"]) if os.environ.get("POINTSMAN_CONFIG") else None)
    if given is not None:
        return given
    for candidate in map(Path, CONFIG_PATHS):
        if candidate.is_file():
            return candidate
    usage(f"no configuration: give --config FILE, set POINTSMAN_CONFIG, or write {' or '.join(CONFIG_PATHS)}")


def load_settings(given: Path | None) -> "Settings":
    """The validated configuration; every problem of it in the CommandError."""
    from pointsman.config.errors import ConfigError  # noqa: PLC0415
    from pointsman.config.sources import load  # noqa: PLC0415

    try:
        return load(config_path(given))
    except ConfigError as error:
        raise CommandError(str(error), USAGE) from error


@asynccontextmanager
async def opened(settings: "Settings") -> AsyncIterator["Store"]:
    """The daemon's store; never starts one. Store errors become CommandErrors that say what to do next."""
    from pointsman.app import connect  # noqa: PLC0415
    from pointsman.config.secrets import SecretError  # noqa: PLC0415
    from pointsman.config.sources import state_dir  # noqa: PLC0415
    from pointsman.store.embedded import socket_url  # noqa: PLC0415
    from pointsman.store.errors import StoreDown, StoreError  # noqa: PLC0415

    try:
        async with connect(settings, settings.store.url or socket_url(state_dir(settings))) as store:
            yield store
    except SecretError as error:
        raise CommandError(f"store.password: {error}", USAGE) from error
    except StoreDown as error:
        brought = "\nNo store.url is set, so the daemon brings the store: is one running? pointsman up"
        raise CommandError(f"{error}{'' if settings.store.url else brought}", UNREACHABLE) from error
    except StoreError as error:
        raise CommandError(str(error)) from error


def author() -> str:
    """Who speaks: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def change(
    config: Path | None, verb: "Verb", args: dict[str, Any], *, reason: str, dry_run: bool, output: Output
) -> None:
    """Say a word and wait for its answer, or, dry, show what it would change. Refused: exit code 1."""
    if not reason.strip() and not dry_run:
        usage('say why: --reason "…" (it stands in the events and beside the weights)')
    async with opened(load_settings(config)) as store:
        if dry_run:
            await _dry_run(store, verb, args, reason or "dry run", output)
        else:
            await _say(store, verb, args, reason, output)


async def _say(store: "Store", verb: "Verb", args: dict[str, Any], reason: str, output: Output) -> None:
    if await store.leader() is None:
        raise CommandError(
            "no daemon leads, so nothing was changed: is one running? pointsman status", UNREACHABLE
        )
    word = await store.say(verb, author(), reason, args)
    answer = await store.answer(word, ANSWER_TIMEOUT_S)
    if answer is None:
        raise CommandError(
            f"no daemon answered within {ANSWER_TIMEOUT_S:.0f} s: is one running? pointsman status\n"
            "The word stays in the store: the next daemon that leads will act on it.",
            UNREACHABLE,
        )
    if output is Output.JSON:
        print_json({"word": word, "ok": answer.ok, "text": answer.text})
        if not answer.ok:
            raise typer.Exit(REFUSED)
    elif not answer.ok:
        raise CommandError(f"refused: {answer.text}")
    else:
        tell(answer.text)


async def _dry_run(store: "Store", verb: "Verb", args: dict[str, Any], reason: str, output: Output) -> None:
    """Ask the same function that the daemon asks, with the word added, and throw its decision away."""
    from pointsman.core.decide import decide  # noqa: PLC0415
    from pointsman.core.evidence import Evidence, Word  # noqa: PLC0415
    from pointsman.core.table import diff  # noqa: PLC0415

    state, published = await state_of(store), await table_of(store)
    now_s = await store.now_s()
    word = Word(id=f"{int(now_s * 1000)}-0", verb=verb, author=author(), reason=reason, args=args)
    evidence = Evidence(reports=tuple(await store.reports()), words=(word,))
    epoch = published.version.epoch if published else 0
    decision = decide(state, evidence, now_s=now_s, epoch=epoch, published=published, published_s=0.0)
    answer = next(answer for answer in decision.answers if answer.word == word.id)
    lines = diff(published, decision.table) if decision.table else []
    reasons = {
        route: entry
        for route, entry in decision.reasons.items()
        if any(line.startswith(f"route {route}: ") for line in lines)
    }
    if output is Output.JSON:
        print_json({"ok": answer.ok, "text": answer.text, "changes": lines, "reasons": reasons})
        if not answer.ok:
            raise typer.Exit(REFUSED)
        return
    if not answer.ok:
        raise CommandError(f"would be refused: {answer.text}")
    tell(f"would: {answer.text}")
    tell("\n".join(lines) or "the table would stay as it is")
    for route, entry in reasons.items():
        for target, why in entry.items():
            tell(f"  {route}, {target}: {why}")
    tell("nothing was changed (dry run)")


async def state_of(store: "Store") -> "State":
    """The state, or a CommandError if no daemon has ever led here."""
    state = await store.load_state()
    if state is None or state.plan is None:
        raise CommandError("no daemon has led here yet: start one (pointsman up)", UNREACHABLE)
    return state


async def table_of(store: "Store") -> "Table | None":
    """The published table."""
    from pointsman.core.table import TableError, decode  # noqa: PLC0415

    published = await store.table()
    if published is None:
        return None
    try:
        return decode(published.body)
    except TableError as error:
        raise CommandError(f"the published table {published.table_version} is unusable: {error}") from error


# --- values as people write them


def duration_s(text: str) -> float:
    """Seconds of "90", "30s", "10m", "2h", "1h30m", "1d"."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or found is None:
        usage(f"{text!r} is not a duration: write 30s, 10m, 2h or 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def optional_duration_s(text: str | None) -> float | None:
    """As `duration_s`; None stays None."""
    return None if text is None else duration_s(text)


def shares_bp(text: str) -> dict[str, int]:
    """Basis points of "a=50,b=30,c=20" (percent, at most two decimals, 100 in all)."""
    shares: dict[str, int] = {}
    for part in text.split(","):
        target, equals, percent_text = part.strip().partition("=")
        try:
            points = Decimal(percent_text.strip().removesuffix("%")) * 100
        except InvalidOperation:
            points = Decimal("nan")
        if not equals or not target or not points.is_finite() or points != int(points) or points < 0:
            usage(
                f"{part.strip()!r} is not a share: write target=percent with at most two decimals, as bedrock=33.25"
            )
        if target in shares:
            usage(f"{target} is named twice")
        shares[target] = int(points)
    if sum(shares.values()) != 10_000:
        usage(f"the shares sum to {Decimal(sum(shares.values())) / 100} %, not to 100 %")
    return shares


def age(seconds: float) -> str:
    """A span of time in at most two units: "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
