"""A tap on a wire: what a client says to a server and hears from it, byte for byte, read as HTTP afterwards."""

import asyncio
import bisect
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Headers = list[tuple[str, str]]


@dataclass
class Message:
    """A request or an answer: its first line, its headers as written, and its body without framing."""

    first: str
    headers: Headers
    body: bytes
    at: int = 0

    def names(self) -> set[str]:
        """The names of its headers, in lower case."""
        return {name.lower() for name, _ in self.headers}

    def headers_without(self, names: set[str]) -> Headers:
        """Its headers but for those, in order and as written."""
        return [(name, value) for name, value in self.headers if name.lower() not in names]

    def values(self, name: str) -> list[str]:
        """All values of a header, in their order."""
        return [value for known, value in self.headers if known.lower() == name]


@dataclass
class Exchange:
    """A request, the interim answers to it (100 Continue) and the answer."""

    request: Message
    interim: list[Message]
    answer: Message


@dataclass
class Half:
    """What went one way on one connection; `marks` are (offset, when) of each piece."""

    data: bytearray = field(default_factory=bytearray)
    marks: list[tuple[int, int]] = field(default_factory=list)

    def when(self, offset: int) -> int:
        """When the byte came."""
        return self.marks[bisect.bisect_right(self.marks, (offset, 1 << 62)) - 1][1]


class Tap:
    """Listens in front of a server; `url` is the server's with its own address in place of it."""

    def __init__(self, behind: str) -> None:
        parts = urlsplit(behind)
        self._behind = (parts.hostname, parts.port)
        self._path = parts.path
        self._halves: list[tuple[Half, Half]] = []
        self._moments = itertools.count()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator["Tap"]:
        """Relay, and keep what is said, for as long as the block lasts."""
        tap = cls(url)
        server = await asyncio.start_server(tap._serve, "127.0.0.1", 0)
        tap.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{tap._path}"
        try:
            yield tap
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said, heard = Half(), Half()
        self._halves.append((said, heard))
        there, back = await asyncio.open_connection(*self._behind)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, back, said), self._pass(there, writer, heard))
        for one in (writer, back):
            one.close()

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, half: Half) -> None:
        while data := await source.read(1 << 20):
            half.marks.append((len(half.data), next(self._moments)))
            half.data += data
            to.write(data)
            await to.drain()
        if to.can_write_eof() and not to.is_closing():
            to.write_eof()

    def exchanges(self) -> list[Exchange]:
        """Every request and its answer, in the order of the requests. Raises ValueError for what is not whole."""
        found = [one for said, heard in self._halves if said.data for one in _exchanges(said, heard)]
        return sorted(found, key=lambda one: one.request.at)


def _exchanges(said: Half, heard: Half) -> list[Exchange]:
    found = []
    at = back = 0
    while at < len(said.data):
        request, end = _message(bytes(said.data), at)
        request.at = said.when(at)
        at = end
        interim = []
        headless = request.first.startswith("HEAD ")
        answer, back = _message(bytes(heard.data), back, answer=True, headless=headless)
        while answer.first.split()[1].startswith("1"):
            interim.append(answer)
            answer, back = _message(bytes(heard.data), back, answer=True, headless=headless)
        found.append(Exchange(request, interim, answer))
    return found


def _message(data: bytes, at: int, *, answer: bool = False, headless: bool = False) -> tuple[Message, int]:
    """The message that begins at `at`, and where the next one does."""
    end = data.index(b"\r\n\r\n", at)
    first, *lines = data[at:end].decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    message = Message(first, headers, b"")
    at = end + 4
    bodiless = headless or (answer and first.split()[1].startswith(("1", "204", "304")))
    if bodiless:
        return message, at
    if message.values("transfer-encoding"):
        message.body, at = _dechunked(data, at)
    elif lengths := message.values("content-length"):
        message.body = data[at : at + int(lengths[0])]
        if len(message.body) < int(lengths[0]):
            raise ValueError(f"{first}: {len(message.body)} of {lengths[0]} bytes")
        at += int(lengths[0])
    elif answer:
        message.body, at = data[at:], len(data)
    return message, at


def _dechunked(data: bytes, at: int) -> tuple[bytes, int]:
    pieces = []
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end].partition(b";")[0], 16)
        at = end + 2
        if not size:
            return b"".join(pieces), data.index(b"\r\n", at) + 2
        pieces.append(data[at : at + size])
        at += size + 2
