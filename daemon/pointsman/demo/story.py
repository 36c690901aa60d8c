"""The story: bedrock dies hard, comes back step by step, is rate limited; a caller misbehaves; a good canary is
promoted and a bad one aborted; the store is killed.

Nothing is staged but the misfortunes: what is told and measured is what the daemon, the store and the proxies
themselves say.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from pointsman.core import table as tables
from pointsman.core.evidence import Verb
from pointsman.core.model import Note
from pointsman.core.ramp_model import RampPhase
from pointsman.core.table import Table, TableError, Version
from pointsman.demo.stage import SHORTENED, Stage
from pointsman.demo.summary import Event, Summary
from pointsman.demo.traffic import Traffic
from pointsman.fake.faults import Fault, Kind
from pointsman.store.errors import StoreError

STREAMS_AT_THE_KILL: Final = 20
BAD_REQUESTS: Final = 60
RETRY_AFTER_S: Final = 3.0
BAD_RATE: Final = 0.2
_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 20.0


class Story:
    """Plays its acts over `duration_s` seconds while traffic flows; `tell` is given each line as it happens."""

    def __init__(
        self, stage: Stage, traffic: Traffic, duration_s: float, tell: Callable[[str], None]
    ) -> None:
        self._stage = stage
        self._traffic = traffic
        self._tell = tell
        self._began = time.monotonic()
        self.duration_s = duration_s
        self.notes: list[Note] = []
        self.events: list[Event] = []
        self.ramps: list[RampPhase] = []
        self.table: Table | None = None
        self.store_away = False

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    async def play(self) -> None:
        """All acts, in order; the last one ends at `duration_s`."""
        await self._until(0.08)
        await self._kill()
        await self._until(0.22)
        await self._come_back()
        await self._until(0.48)
        await self._rate_limit()
        await self._until(0.56)
        await self._bad_caller()
        await self._until(0.60)
        await self._canary()
        await self._until(0.76)
        await self._bad_canary()
        await self._until(0.84)
        await self._kill_store()
        await self._until(1.0)

    async def _until(self, share: float) -> None:
        await anyio.sleep(max(0.0, share * self.duration_s - self.elapsed_s))

    # --- what is watched

    async def watch_table(self) -> None:
        """Keep `table` what is published; says so when the store is away and when it is back."""
        store = self._stage.store
        while True:
            try:
                peek = await store.peek()
                if peek is not None and (self.table is None or self.table.version != peek.version):
                    published = await store.table()
                    if published is not None:
                        self.table = tables.decode(published.body)
                self.store_away = False
            except (StoreError, TableError):
                self.store_away = True
            await anyio.sleep(_LOOK_S)

    async def watch_events(self) -> None:
        """Tell every event as the daemon writes it."""
        async for _, note in self._stage.store.follow_events("$"):
            self.notes.append(note)
            self._tell(note.text)

    def _share_bp(self, target: str) -> int:
        return self.table.routes["chat"].shares_bp.get(target, 0) if self.table else -1

    async def _wait(
        self, condition: Callable[[], bool | Awaitable[bool]], patience_s: float = _PATIENCE_S
    ) -> float:
        """Seconds until the condition held. Raises TimeoutError after a patience that nothing here should need."""
        began = time.monotonic()
        with anyio.fail_after(patience_s):
            while True:
                held = condition()
                if not isinstance(held, bool):
                    held = await held
                if held:
                    return time.monotonic() - began
                await anyio.sleep(_LOOK_S)

    async def _served_everywhere(self, version: Version) -> bool:
        try:
            reports = await self._stage.store.reports()
        except StoreError:
            return False
        serving = [report.serving for report in reports]
        return len(serving) == len(self._stage.proxies) and all(
            v is not None and v >= version for v in serving
        )

    async def _shifted(self, target: str, kind: str, since_note: int, died_s: float) -> tuple[float, float]:
        """(detection, shift) in seconds: the decision, and the last proxy routing by the table it led to."""

        def decided() -> Note | None:
            return next((n for n in self.notes[since_note:] if n.kind == kind and n.subject == target), None)

        await self._wait(lambda: decided() is not None and self._share_bp(target) == 0)
        note = decided()
        assert note is not None and self.table is not None  # noqa: S101, PT018 - just waited for
        version = self.table.version
        await self._wait(lambda: self._served_everywhere(version))
        return max(0.0, note.at_s - died_s), max(0.0, time.time() - note.at_s)

    # --- the acts

    async def _kill(self) -> None:
        await self._wait(lambda: self._traffic.tally.open_streams >= STREAMS_AT_THE_KILL)
        streams = self._traffic.tally.open_streams
        self._tell(f"— bedrock dies: its port refuses, its connections are reset; {streams} streams are open")
        since, died_s = len(self.notes), time.time()
        self._traffic.excuse("bedrock")
        self._stage.fakes["bedrock"].die("refuse")
        detection_s, shift_s = await self._shifted("bedrock", "target.tripped", since, died_s)
        self._tell(f"— detected after {detection_s:.2f} s, shifted everywhere {shift_s:.2f} s later")
        self.events.append(
            Event(name="bedrock dies", detection_s=detection_s, shift_s=shift_s, open_streams=streams)
        )

    async def _come_back(self) -> None:
        self._tell(
            "— bedrock is back: it must pass its trials and hold, then its traffic returns step by step"
        )
        since, began = len(self.notes), time.monotonic()
        self._stage.fakes["bedrock"].revive()
        await self._wait(lambda: self._share_bp("bedrock") >= 5_000, 60.0)
        recovery_s = time.monotonic() - began
        steps = sum(note.kind == "ramp.step" for note in self.notes[since:])
        self._tell(f"— bedrock has its share again after {recovery_s:.1f} s, by a failback of {steps} steps")
        told = f"failback of {steps} steps"
        self.events.append(Event(name="bedrock recovers", recovery_s=recovery_s, note=told))

    async def _rate_limit(self) -> None:
        self._tell(f"— bedrock answers 429 with Retry-After: {RETRY_AFTER_S:.0f}")
        since, began_s = len(self.notes), time.time()
        fault = Fault(kind=Kind.STATUS, status=429, retry_after_s=RETRY_AFTER_S)
        self._stage.fakes["bedrock"].set_faults(fault)
        detection_s, shift_s = await self._shifted("bedrock", "target.throttled", since, began_s)
        self._stage.fakes["bedrock"].clear()
        self.events.append(Event(name="bedrock is rate limited", detection_s=detection_s, shift_s=shift_s))
        await self._wait(lambda: self._share_bp("bedrock") > 0)

    async def _bad_caller(self) -> None:
        self._tell(f"— a caller sends {BAD_REQUESTS} bad requests")
        since = len(self.notes)
        statuses = await self._traffic.send_bad(BAD_REQUESTS)
        tripped = [note.text for note in self.notes[since:] if note.kind == "target.tripped"]
        answered = ", ".join(f"{count} × HTTP {status}" for status, count in sorted(statuses.items()))
        self._tell(f"— {answered}; targets ejected for it: {len(tripped)}")
        self.events.append(Event(name="a caller's bad requests", note=f"{answered}; ejected: {len(tripped)}"))

    async def _canary(self) -> None:
        self._tell("— a canary: google is to take bedrock's share, if it does as well")
        took_s = await self._ramp("bedrock", "google", "the good canary", RampPhase.PROMOTED)
        self.events.append(Event(name="a good canary", recovery_s=took_s, note="promoted by itself"))

    async def _bad_canary(self) -> None:
        self._tell(
            f"— a bad canary: meta is to take google's share, and {BAD_RATE:.0%} of its answers are 500s"
        )
        self._stage.fakes["meta"].set_faults(Fault(kind=Kind.STATUS, status=500, rate=BAD_RATE))
        took_s = await self._ramp("google", "meta", "the bad canary", RampPhase.ABORTED)
        self._stage.fakes["meta"].clear()
        self.events.append(Event(name="a bad canary", recovery_s=took_s, note="aborted by itself"))

    async def _ramp(self, source: str, goal: str, reason: str, expected: RampPhase) -> float:
        """Start a canary on chat; seconds until it was over. Raises TimeoutError if it does not end as expected."""
        since, began = len(self.notes), time.monotonic()
        await self._stage.store.say(
            Verb.CANARY, "demo", reason, {"route": "chat", "from": source, "to": goal}
        )
        kind = f"ramp.{expected.value}"
        await self._wait(lambda: any(note.kind == kind for note in self.notes[since:]), 60.0)
        self.ramps.append(expected)
        return time.monotonic() - began

    async def _kill_store(self) -> None:
        before = self.table.version if self.table else None
        self._tell("— the store is killed (kill -9); proxies go on with their last table")
        began = time.monotonic()
        self._stage.kill_store()
        await self._wait(lambda: self.store_away)
        await self._wait(lambda: not self.store_away and self.table is not None)
        recovery_s = time.monotonic() - began
        self._tell(
            f"— the store is back after {recovery_s:.1f} s; the table was {before}, and is {self._version()}"
        )
        self.events.append(Event(name="the store is killed", recovery_s=recovery_s))

    def _version(self) -> str:
        return str(self.table.version) if self.table else "–"

    def summary(self) -> Summary:
        """The figures of the whole story."""
        tally = self._traffic.tally
        death = next((event for event in self.events if event.name == "bedrock dies"), Event(name=""))
        return Summary(
            duration_s=round(self.elapsed_s, 1),
            requests=tally.requests,
            ok=tally.ok,
            failed=tally.failed,
            broken_streams=tally.broken_streams,
            bad_requests=tally.bad_requests,
            fell_over=tally.fell_over,
            detection_s=death.detection_s,
            shift_s=death.shift_s,
            canary_promoted=RampPhase.PROMOTED in self.ramps,
            canary_aborted=RampPhase.ABORTED in self.ramps,
            table_version=self._version(),
            tables=sum(note.kind == "table.published" for note in self.notes),
            events=self.events,
            served_by=dict(tally.served_by),
            failures=tally.failures,
            shortened=SHORTENED,
        )
