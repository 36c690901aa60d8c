"""A proxy's own socket on this machine: pinning and asking it works without a daemon and without a store."""

import re
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
    """GET (or POST `body` to) `path` of the proxy `name` on this machine, or of each of its workers (`name`.1 …).

    The last one's answer; a CommandError if one is not there or refuses.
    """
    from pointsman.config.sources import state_dir  # noqa: PLC0415

    folder = state_dir(settings)
    workers = re.compile(rf"proxy-{re.escape(name)}\.[0-9]+\.sock")
    sockets = [folder / f"proxy-{name}.sock"]
    if not await anyio.Path(sockets[0]).exists():
        found = [Path(one) async for one in anyio.Path(folder).iterdir() if workers.fullmatch(one.name)]
        sockets = sorted(found) or sockets
    for socket_path in sockets:
        answer = await _ask(socket_path, path, body)
    return answer


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
