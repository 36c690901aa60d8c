"""The commands that run until they are stopped: up, control, proxy."""

from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.common import UNREACHABLE, USAGE, CommandError, ConfigOption, config_path, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


def proxy(config: ConfigOption = None, name: NameOption = None) -> None:
    """Run a proxy: route by the last good table.

    It goes on without the daemon and without the store.
    """
    from pointsman import app  # noqa: PLC0415

    settings, path = load_settings(config), config_path(config)
    _serve(lambda: app.run_proxy(settings, path, name))


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
