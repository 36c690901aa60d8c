"""Those who listen for secrets: an OTLP receiver, everything in the store, every file, and a provider that repeats."""

import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio
from aiohttp import web
from msgspec import Struct


class Heard(Struct):
    """What came to a listening server: bodies (unzipped) and headers."""

    url: str = ""
    bodies: bytes = b""
    headers: str = ""
    requests: int = 0


@asynccontextmanager
async def serving(app: web.Application, heard: Heard) -> AsyncIterator[Heard]:
    """Serve `app`; `heard.url` is where."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        heard.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield heard
    finally:
        await runner.cleanup()


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[Heard]:
    """Takes spans over HTTP."""
    heard = Heard()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        heard.bodies += gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
        heard.headers += str(dict(request.headers))
        heard.requests += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with serving(app, heard):
        yield heard


@asynccontextmanager
async def parrot() -> AsyncIterator[Heard]:
    """A provider that refuses every key, and repeats it wherever a response has room for it."""
    heard = Heard()

    async def repeat(request: web.Request) -> web.Response:
        key = request.headers.get("authorization", "")
        heard.headers += f"{request.path_qs} {dict(request.headers)}"
        heard.requests += 1
        error = {
            "message": f"Incorrect API key provided: {key}. You sent {dict(request.headers)}.",
            "type": key,
            "param": key,
            "code": key.removeprefix("Bearer "),
        }
        headers = {"www-authenticate": key, "x-request-id": key, "set-cookie": f"key={key}"}
        return web.json_response({"error": error}, status=401, reason=f"No {key}", headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", repeat)
    async with serving(app, heard):
        yield heard


@asynccontextmanager
async def board() -> AsyncIterator[Heard]:
    """A gate that lets a ramp begin and then holds it, and repeats the credential that it was asked with."""
    heard = Heard()

    async def repeat(request: web.Request) -> web.Response:
        key = request.headers.get("authorization", "")
        heard.headers += str(dict(request.headers))
        told = await request.read()
        heard.bodies += told
        heard.requests += 1
        verdict = "pass" if b'"phase":"precheck"' in told else "hold"
        return web.json_response({"verdict": verdict, "reason": f"you are {key}"})

    app = web.Application()
    app.router.add_post("/ramps", repeat)
    async with serving(app, heard):
        yield heard


async def everything_stored(url: str, password: str) -> AsyncIterator[tuple[str, bytes]]:
    """(key, key and value as bytes) of every key of the store, whatever its type."""
    async with redis.asyncio.Redis.from_url(url, password=password) as client:
        async for key in client.scan_iter(count=1000):
            name, kind = key.decode(), (await client.type(key)).decode()
            value: object
            match kind:
                case "string":
                    value = await client.get(key)
                case "hash":
                    value = await client.hgetall(key)
                case "stream":
                    value = [_unpacked(fields) for _, fields in await client.xrange(key)]
                case "zset":
                    value = await client.zrange(key, 0, -1)
                case "list":
                    value = await client.lrange(key, 0, -1)
                case "set":
                    value = await client.smembers(key)
                case _:
                    raise TypeError(f"{name} is a {kind}")
            yield name, key + repr(value).encode()


def _unpacked(fields: dict[bytes, bytes]) -> list[bytes]:
    """The fields of an entry, records with what they unpack to."""
    return (
        [*fields.values(), zlib.decompress(fields[b"record"])] if b"record" in fields else [*fields.values()]
    )


def every_file(folder: Path, *, but: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every regular file below `folder`, except below `but`."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and but not in path.parents:
            yield str(path.relative_to(folder)), path.read_bytes()
