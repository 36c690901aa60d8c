"""What is written waits until everything that has come in was looked at, when much comes in.

A write wakes whoever waits for it, and the machine pays for that in the writer's time. When many connections have
something at once, their answers and requests leave together, one write for each connection, and the reader is awake
from the first of them on. The first of a turn of the loop is written at once if it was the only one of the last turn:
where little comes, nothing waits.
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
        self._at_once: Outgoing | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # to ask for it each time is a system call
        self._ends = False  # the end of this turn is put down with the loop
        self._in_turn = 0
        self._in_last_turn = 0

    def holds(self, connection: Outgoing) -> bool:
        """Does `connection` keep what it has until `flush`; if not, it writes it now and says so by `wrote`."""
        if connection is self._at_once:
            return False
        self._in_turn += 1
        if self._in_turn == 1 and self._in_last_turn <= 1:
            self._at_once = connection
            return False
        self._connections.append(connection)
        self.wrote()
        return True

    def wrote(self) -> None:
        """See to it that this turn is known to end; that can wait until what is urgent has left."""
        if not self._ends:
            self._ends = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._ends = False
        connections, self._connections = self._connections, []
        self._in_last_turn, self._in_turn, self._at_once = self._in_turn, 0, None
        for connection in connections:
            connection.flush()
