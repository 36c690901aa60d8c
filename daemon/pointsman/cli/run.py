"""The commands that run until they are stopped: up, control, proxy."""

import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.common import UNREACHABLE, USAGE, CommandError, ConfigOption, config_path, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pointsman.config.models import Settings
    from pointsman.proxy.listening import Place

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="The proxy's name; else proxy.name, else this host's.", show_default=False),
]


def up(config: ConfigOption = None, name: NameOption = None) -> None:
    """Run daemon and proxy in one process.

    With no store.url in the configuration it brings its own store.
    """
    from pointsman import app  # noqa: PLC0415

    settings, path = load_settings(config), config_path(config)
    _serve(lambda: app.run_up(settings, path, name))


def control(config: ConfigOption = None) -> None:
    """Run the daemon: probe, decide, publish.

    Of several daemons one leads, and the others stand by.
    """
    from pointsman import app  # noqa: PLC0415

    settings, path = load_settings(config), config_path(config)
    _serve(lambda: app.run_control(settings, path))


def proxy(
    config: ConfigOption = None,
    name: NameOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=256, help="How many processes; else proxy.workers.", show_default=False
        ),
    ] = None,
) -> None:
    """Run a proxy: route by the last good table.

    It goes on without the daemon and without the store. Several workers share one address; each is a proxy of its
    own, called NAME.1 and so on.
    """
    from pointsman import app  # noqa: PLC0415

    settings, path = load_settings(config), config_path(config)
    count = workers or settings.proxy.workers
    if count > 1:
        raise typer.Exit(_crew(settings, path, name or settings.proxy.name or socket.gethostname(), count))
    _serve(lambda: app.run_proxy(settings, path, name))


def _crew(settings: "Settings", path: "Path", name: str, count: int) -> int:
    """Several proxies on one address; the exit code."""
    from pointsman import app, logs  # noqa: PLC0415
    from pointsman.config.errors import ConfigError  # noqa: PLC0415
    from pointsman.proxy import process  # noqa: F401, PLC0415  what is loaded before the fork is shared
    from pointsman.proxy.listening import Door, claimed, warn_if_open  # noqa: PLC0415
    from pointsman.workers import Crew  # noqa: PLC0415

    logs.setup(settings.telemetry.log_format, settings.telemetry.log_level)

    def serve(now: "Settings", worker: str, place: "Place") -> int:
        try:
            _serve(lambda: app.run_proxy(now, path, worker, place))
        except CommandError as error:
            sys.stderr.write(f"pointsman: {error}\n")
            return error.code
        return 0

    try:
        Door(settings.proxy)  # a certificate that is none is told once, not by every worker
        with claimed(settings.proxy) as place:
            warn_if_open(settings.proxy, keys=bool(settings.proxy.keys))
            return Crew(settings, path, name, count, place, serve).run()
    except ConfigError as error:
        raise CommandError(str(error), USAGE) from error
    except OSError as error:
        raise CommandError(error.strerror or str(error)) from error


def _serve(process: "Callable[[], Awaitable[None]]") -> None:
    """Run a process to its end; what keeps it from starting is said in one line."""
    import anyio  # noqa: PLC0415

    from pointsman.config.errors import ConfigError  # noqa: PLC0415
    from pointsman.config.secrets import SecretError  # noqa: PLC0415
    from pointsman.store.errors import StoreDown, StoreError  # noqa: PLC0415

    try:
        anyio.run(process, backend_options={"use_uvloop": True})
    except (ConfigError, SecretError) as error:
        raise CommandError(str(error), USAGE) from error
    except StoreDown as error:
        raise CommandError(str(error), UNREACHABLE) from error
    except StoreError as error:
        raise CommandError(str(error)) from error
    except BaseExceptionGroup as group:
        if group.split(OSError)[1] is not None:
            raise  # a bug: the traceback is what helps
        raise CommandError(f"cannot go on: {_first(group)}") from group


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
