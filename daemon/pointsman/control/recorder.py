"""Records decisions beside the loop: nothing waits for it, and a lost record costs no decision.

What a record costs is bounded: at most `CAPACITY` decisions wait, and after each record the recorder rests four times
as long as the making of it took, so that it takes a fifth of one core at most. What comes faster is left out, and that
is told. Compressing, which is most of the work, happens in a thread.
"""

import math
import time
from collections import deque
from typing import Final

import anyio

from pointsman import logs
from pointsman.core import record as records
from pointsman.core.asked import Asked
from pointsman.core.model import Decision
from pointsman.store.errors import Fenced, StoreError
from pointsman.store.recording import Records
from pointsman.store.records import Lease

_log = logs.get("control.records")

CAPACITY: Final = 16
RESTS: Final = 4.0


class Recorder:
    """`by` names this daemon and its version in every record."""

    def __init__(self, kept: Records, by: str, *, capacity: int = CAPACITY) -> None:
        self._records = kept
        self._by = by
        self._capacity = capacity
        self._waiting: deque[tuple[Lease, Asked, Decision]] = deque()
        self._arrived = anyio.Event()
        self._quiet_s = -math.inf
        self._failing = False
        self._left_out = 0

    def take(self, lease: Lease, asked: Asked, decision: Decision) -> None:
        """A decision that was acted on; never waits, never fails."""
        if not self._records.cap_bytes or not records.worth_keeping(decision, asked.at_s, self._quiet_s):
            return
        if not records.came_to_something(decision):
            self._quiet_s = asked.at_s
        if len(self._waiting) >= self._capacity:
            if not self._left_out:
                _log.warning("decisions come faster than they can be recorded: some are left out")
            self._left_out += 1
            return
        self._waiting.append((lease, asked, decision))
        self._arrived.set()

    async def run(self) -> None:
        """Write down what was taken, for ever."""
        while True:
            if not self._waiting:
                self._tell_left_out()
                await self._arrived.wait()
            self._arrived = anyio.Event()
            took_s = await self._write(*self._waiting.popleft())
            await anyio.sleep(RESTS * took_s)

    def _tell_left_out(self) -> None:
        if self._left_out:
            _log.warning("{left_out} decisions were left out of the records", left_out=self._left_out)
        self._left_out = 0

    async def _write(self, lease: Lease, asked: Asked, decision: Decision) -> float:
        """Record one decision; the seconds of work that it took to make the record."""
        try:
            body, took_s = await anyio.to_thread.run_sync(_encoded, asked, decision, self._by)
            await self._records.put(lease, asked.at_s, body)
        except Fenced:
            return 0.0  # whoever leads now records
        except StoreError as error:
            if not self._failing:
                _log.warning("decisions are made, but not recorded: {why}", why=str(error))
            self._failing = True
            return 0.0
        except Exception:  # noqa: BLE001  a bug of ours, but no record is worth a daemon
            if not self._failing:
                _log.exception("decisions are made, but not recorded")
            self._failing = True
            return 0.0
        self._failing = False
        return took_s


def _encoded(asked: Asked, decision: Decision, by: str) -> tuple[bytes, float]:
    began = time.thread_time()
    body = records.encode(records.record_of(asked, decision, by))
    return body, time.thread_time() - began
