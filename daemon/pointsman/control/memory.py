"""What a daemon remembers in case the store forgets: a flushed, restored or replaced Redis.

The store has gone back when what it holds is older than what this daemon has seen there: first by the version of
the published table, then by the revision of the state. (A store that was cleared and has been led by
others since holds newer epochs, so an old backup never overrules it.) What people decided is restored then:
plan, baselines, overlays, drains and rollouts; of health only what is still in memory.
"""

import contextlib
import math
import os
import tempfile
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pointsman import logs
from pointsman.core.model import Baseline, Drain, Overlay, Plan, State
from pointsman.core.rollout_model import Rollout, RolloutReport
from pointsman.core.rollout_seen import coarse
from pointsman.core.strangers import UNREADABLE
from pointsman.core.table import Version

_log = logs.get("control.memory")

BACKUP_FORMAT: Final = 1
NOTHING: Final = Version(0, 0)


class Backup(Struct, frozen=True, kw_only=True):
    """The daemon's own disk: a file in its state folder for each environment and fleet."""

    format: int = BACKUP_FORMAT
    epoch: int = 0
    version: Version = NOTHING
    revision: int = 0
    plan: Plan | None = None
    baselines: dict[str, Baseline] = {}
    overlays: tuple[Overlay, ...] = ()
    drains: dict[str, Drain] = {}
    words_cursor: str = "0-0"
    rollouts: dict[str, Rollout] = {}
    reports: dict[str, tuple[RolloutReport, ...]] = {}


class Memory:
    """The newest that this daemon has seen in the store, in memory and (without health) on its disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: State | None = None
        self._unwritable = False
        self._due = anyio.Event()
        self.backup = _read(path)

    @property
    def epoch(self) -> int:
        """The highest epoch seen."""
        return max(self.backup.epoch, self.backup.version.epoch)

    @property
    def version(self) -> Version:
        """The newest published version seen."""
        return self.backup.version

    def is_newer_than(self, version: Version, revision: int) -> bool:
        """Has the store gone back: does it hold less than was seen there?"""
        return (version, revision) < (self.backup.version, self.backup.revision)

    def restore(self, loaded: State | None, *, now_s: float) -> State:
        """The state to go on with, at the store's revision, so that saving it replaces what is there."""
        known = self._state
        if known is None:
            kept = self.backup
            known = replace(
                loaded or State(),
                plan=kept.plan,
                baselines=kept.baselines,
                overlays=kept.overlays,
                drains=kept.drains,
                rollouts=kept.rollouts,
                reports=kept.reports,
                words_cursor=kept.words_cursor,
            )
        # A store whose clock is behind gives its words lower ids than the last one that acted.
        cursor = min(known.words_cursor, f"{int(now_s * 1000)}-0", key=_place)
        return replace(known, revision=loaded.revision if loaded else 0, words_cursor=cursor)

    def remember(self, state: State, version: Version, epoch: int, *, ours: bool) -> bool:
        """Take note of what the store holds; True if `keep` now writes it to the disk.

        What the leader has just saved (`ours`) is the newest by definition. What a standby reads is taken only
        where the store has not gone back.
        """
        if not ours and self.is_newer_than(version, state.revision):
            return False
        before, self._state = self.backup, state
        self.backup = Backup(
            epoch=max(epoch, before.epoch),
            version=max(version, before.version),
            revision=state.revision,
            plan=state.plan,
            baselines=state.baselines,
            overlays=state.overlays,
            drains=state.drains,
            words_cursor=state.words_cursor,
            rollouts=state.rollouts,
            reports=state.reports,
        )
        lasting = _lasting(self.backup) != _lasting(before)
        if lasting:
            self._due.set()
        return lasting

    async def keep(self) -> None:
        """Have the latest on disk until cancelled. A disk that hangs holds up nothing but this."""
        while True:
            await self._due.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write what is not yet on disk."""
        if self._due.is_set():
            self._due = anyio.Event()
            try:
                await anyio.to_thread.run_sync(self.write, abandon_on_cancel=True)
            except anyio.get_cancelled_exc_class():
                self._due.set()  # nobody knows whether it was
                raise

    def write(self) -> None:
        """Write the backup atomically, readable by its owner only. Blocks for the disk: run it in a thread."""
        body = msgspec.json.encode(self.backup)
        try:
            write_atomically(self._path, body)
        except OSError as error:
            if not self._unwritable:
                _log.warning(
                    "cannot write {path}: {why}; a flushed store could not be restored from it",
                    path=str(self._path),
                    why=str(error),
                )
            self._unwritable = True
        else:
            self._unwritable = False


def write_atomically(path: Path, body: bytes) -> None:
    """Replace `path` by `body` (mode 0600); a crash leaves the old or the new content, never a mixture."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _lasting(backup: Backup) -> Backup:
    """A backup without what moves at every tick. Of a rollout's evidence an hour may be lost with the store."""
    rollouts = {name: coarse(one) for name, one in backup.rollouts.items()}
    return replace(backup, revision=0, words_cursor="", rollouts=rollouts)


def _place(word_id: str) -> tuple[float, int]:
    """Where a word stands in its stream; what is no word's id stands behind all that are."""
    milliseconds, _, sequence = word_id.partition("-")
    try:
        return int(milliseconds), int(sequence or 0)
    except ValueError:
        return math.inf, 0


def _read(path: Path) -> Backup:
    try:
        backup = msgspec.json.decode(path.read_bytes(), type=Backup)
    except FileNotFoundError:
        return Backup()
    except (OSError, *UNREADABLE) as error:
        _log.warning("cannot read {path}: {why}; going on without it", path=str(path), why=str(error))
        return Backup()
    if backup.format != BACKUP_FORMAT:
        _log.warning(
            "{path} has format {format}, which this version does not read; going on without it",
            path=str(path),
            format=backup.format,
        )
        return Backup()
    return backup
