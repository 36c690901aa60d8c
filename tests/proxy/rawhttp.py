"""HTTP/1.1 from the caller's end in raw bytes: what is sent is exactly what is written, what comes is read strictly."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
from msgspec import Struct

DEADLINE_S = 10.0
_STATUS = re.compile(r"(HTTP/1\.[01]) ([1-5][0-9]{2}) [\x20-\x7e]*")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")


class Reply(Struct):
    """An answer. `interim` are the statuses of the 1xx before it; `chunked` is how its body came."""

    version: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int]
    chunked: bool

    def all(self, name: str) -> list[str]:
        """Every value of a header; `name` in lower case."""
        return [value for known, value in self.headers if known.lower() == name]

    def header(self, name: str) -> str:
        """The one value of a header, "" if it is absent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def says_close(self) -> bool:
        """Does it announce the end of the connection."""
        said = self.header("connection").lower()
        return "close" in said or (self.version == "HTTP/1.0" and "keep-alive" not in said)


class Wire:
    """One connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send, and wait until the system has taken it. A peer that is gone is found out by reading."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
            await self.writer.drain()

    async def reply(self, method: str = "POST") -> Reply:
        """The next answer; AssertionError for what HTTP/1.1 does not allow, IncompleteReadError at its early end."""
        interim: list[int] = []
        with anyio.fail_after(DEADLINE_S):
            while True:
                version, status, headers = await self._head()
                if status >= 200 or status == 101:
                    break
                interim.append(status)
            made = Reply(version, status, headers, b"", interim, chunked=False)
            await self._body(made, method)
            return made

    async def _head(self) -> tuple[str, int, list[tuple[str, str]]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n")
        first, *lines = head.split("\r\n")
        status = _STATUS.fullmatch(first)
        fields = [_FIELD.fullmatch(line) for line in lines]
        assert status, f"this is no status line: {first!r}"
        assert all(fields), f"these are no headers: {lines!r}"
        return status[1], int(status[2]), [(field[1], field[2].rstrip(" \t")) for field in fields if field]

    async def _body(self, reply: Reply, method: str) -> None:
        lengths, coding = reply.all("content-length"), reply.header("transfer-encoding").lower()
        assert not (lengths and coding), "both framings at once"
        if method == "HEAD" or reply.status in {101, 204, 304}:
            return
        if coding:
            assert coding == "chunked"
            reply.chunked = True
            reply.body = await self._chunks()
        elif lengths:
            reply.body = await self.reader.readexactly(int(reply.header("content-length")))
        else:
            reply.body = await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            assert re.fullmatch(rb"[0-9a-fA-F]{1,8}\r\n", line), f"this is no chunk size: {line!r}"
            size = int(line, 16)
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
            if not size:
                return body

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, however it ends. TimeoutError if it does not."""
        got = b""
        with anyio.fail_after(DEADLINE_S), contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(1 << 16):
                got += piece
        return got

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.writer.write_eof()

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


@contextlib.asynccontextmanager
async def connected(url: str, *, limit: int = 1 << 20) -> AsyncIterator[Wire]:
    """A connection to the "http://host:port" of a proxy."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


CHAT = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode()


def post(
    body: bytes = CHAT,
    *headers: str,
    path: str = "/v1/chat/completions",
    version: str = "1.1",
    length: bool = True,
) -> bytes:
    """A POST as an honest client writes it, with `headers` added; without `length` the framing is theirs."""
    lines = [f"POST {path} HTTP/{version}", "Host: proxy", "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunks(body: bytes, size: int = 7, extension: str = "") -> bytes:
    """`body` in HTTP chunks of `size` bytes, with its end."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return (
        b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces)
        + b"0\r\n\r\n"
    )
