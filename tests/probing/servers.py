"""Providers to probe: a server that says exactly what it is told, and settings that point at it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from pointsman.config.models import Settings

Script = Callable[[SocketStream, bytes], Awaitable[None]]


def settings_of(providers: dict[str, dict[str, Any]], targets: dict[str, dict[str, Any]]) -> Settings:
    """Settings with one route over all targets."""
    names = list(targets)
    return Settings.model_validate(
        {
            "providers": providers,
            "targets": targets,
            "routes": {"r": {"weights": {name: 100 if name == names[0] else 0 for name in names}}},
        }
    )


def one(base_url: str, family: str = "openai", **provider: Any) -> Settings:
    """Settings with one provider "p" and its one target "t"."""
    return settings_of(
        {"p": {"family": family, "base_url": base_url} | provider}, {"t": {"provider": "p", "model": "m"}}
    )


@contextlib.asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[str]:
    """A server on loopback: `script` gets each connection and its first request; yields the origin."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await script(stream, await stream.receive())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610  no Django here
        yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


def server_saying(answer: bytes) -> contextlib.AbstractAsyncContextManager[str]:
    """A server that answers every request with these bytes and closes."""

    async def script(stream: SocketStream, _request: bytes) -> None:
        await stream.send(answer)

    return raw_server(script)


def events(*data: str, head: str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream") -> bytes:
    """An answer that streams these events and closes."""
    return (head + "\r\n\r\n" + "".join(f"data: {item}\n\n" for item in data)).encode()
