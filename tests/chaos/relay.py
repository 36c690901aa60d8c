"""A way to the store that holds one command back, so that a process can be paused in the middle of it."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio


class Relay:
    """`hold(marker)`: the next bytes to the store with `marker` in them wait until `release`, with all after them.

    `held` is set then; `reply` is what the store answered to them, once `answered` is set.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._marker = b""
        self._released = anyio.Event()
        self._held_by: StreamReader | None = None
        self.held = anyio.Event()
        self.answered = anyio.Event()
        self.reply = b""

    @classmethod
    @asynccontextmanager
    async def running(cls, path: Path, store: Path) -> AsyncIterator["Relay"]:
        """A relay that listens at `path` for the store at `store`, both unix sockets."""
        here = cls(store)
        writers: set[StreamWriter] = set()

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            store_reader, store_writer = await asyncio.open_unix_connection(str(store))
            writers.update({writer, store_writer})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here._to_store, reader, store_writer, store_reader)
                tasks.start_soon(here._to_caller, store_reader, writer)

        server = await asyncio.start_unix_server(serve, str(path))
        try:
            yield here
        finally:
            server.close()
            for writer in writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def hold(self, marker: bytes) -> None:
        self._marker = marker

    def release(self) -> None:
        self._released.set()

    async def _to_store(self, reader: StreamReader, writer: StreamWriter, answers: StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self._marker and self._marker in data:
                    self._marker, self._held_by = b"", answers
                    self.held.set()
                    await self._released.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _to_caller(self, reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if reader is self._held_by and not self.answered.is_set():
                    self.reply = data
                    self.answered.set()
                writer.write(data)
                await writer.drain()
        writer.close()
