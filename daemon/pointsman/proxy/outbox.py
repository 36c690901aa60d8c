"""What is written waits until everything that has come in was looked at.

A write wakes whoever waits for it, and the machine pays for that in the writer's time. When many connections have
something at once, their answers and requests leave together, one write for each connection, and the reader is awake
from the first of them on. When only one has, nothing waits longer than a turn of the loop.
"""

import asyncio
from typing import Protocol


class Outgoing(Protocol):
    """A connection that holds something back."""

    def flush(self) -> None:
        """Write it now."""


class Outbox:
    """The connections that hold something back, until the end of this turn of the loop."""

    def __init__(self) -> None:
        self._connections: list[Outgoing] = []

    def add(self, connection: Outgoing) -> None:
        """`connection` has begun to hold something back."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()
