"""A proxy's own socket on this machine: pinning and asking it works without a daemon and without a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from pointsman.cli.common import UNREACHABLE, CommandError

if TYPE_CHECKING:
    from pointsman.config.models import Settings

TIMEOUT_S = 5.0


async def ask_proxy(
    settings: "Settings", name: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """GET (or POST `body` to) `path` of the proxy `name` on this machine; a CommandError if it is not there."""
    from pointsman.config.sources import state_dir  # noqa: PLC0415

    return await _ask(state_dir(settings) / f"proxy-{name}.sock", path, body)


async def ask_any_proxy(settings: "Settings", path: str) -> dict[str, Any]:
    """The first good answer of any proxy on this machine."""
    from pointsman.config.sources import state_dir  # noqa: PLC0415

    folder = anyio.Path(state_dir(settings))
    refusal = CommandError(f"no proxy runs on this machine (no proxy-*.sock in {folder})", UNREACHABLE)
    async for socket_path in folder.glob("proxy-*.sock"):
        try:
            return await _ask(Path(socket_path), path)
        except CommandError as error:
            refusal = error
    raise refusal


async def _ask(socket_path: Path, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    import aiohttp  # noqa: PLC0415

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    method = "GET" if body is None else "POST"
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(socket_path)), timeout=timeout
            ) as session,
            session.request(method, f"http://proxy{path}", json=body) as response,
        ):
            answer = await response.json()
    except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise CommandError(
            f"no proxy answers on {socket_path}: is it running on this machine?", UNREACHABLE
        ) from error
    if response.status >= 400:
        raise CommandError(f"{socket_path.stem}: {answer.get('error', answer)}")
    return dict(answer)
