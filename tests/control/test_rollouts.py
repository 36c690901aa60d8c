"""Rollouts in a daemon: what survives a flushed store, and what is worth the disk."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from control_daemons import Daemon, settings_of
from msgspec.structs import replace

from pointsman.control.memory import NOTHING, Memory
from pointsman.core.evidence import Verb
from pointsman.core.model import State
from pointsman.core.rollout_model import RolloutPhase
from pointsman.core.table import Version
from pointsman.store.client import Store
from support import eventually

sys.path.insert(0, str(Path(__file__).parent.parent / "store"))

from test_elsewhere import ROLLOUT, STATE

pytestmark = pytest.mark.anyio

STAGES = [{"environment": "development"}, {"environment": "staging"}]
ROLLOUTS = {"gateway": {"route": "chat", "from": "meta", "to": "google", "stages": STAGES}}


def remembered(path: Path, state: State) -> State:
    """What comes back from the disk when the store has lost everything."""
    memory = Memory(path)
    memory.remember(state, Version(5, 3), 5, ours=True)
    memory.write()
    return Memory(path).restore(None, now_s=100.0)


def test_a_rollout_comes_back_from_the_disk(tmp_path: Path) -> None:
    """As it was, with its reports."""
    restored = remembered(tmp_path / "control.json", replace(STATE, revision=7))

    assert (restored.rollouts, restored.reports) == (STATE.rollouts, STATE.reports)


def test_a_soak_is_not_written_to_disk_every_second(tmp_path: Path) -> None:
    """Time and requests alone are worth it once an hour; a decision at once."""
    memory = Memory(tmp_path / "control.json")

    def worth(**fields: Any) -> bool:
        state = State(rollouts={"gateway": replace(ROLLOUT, phase=RolloutPhase.SOAKING, **fields)})
        return memory.remember(state, NOTHING, 5, ours=True)

    assert worth()
    assert not worth(watched_s=1_800.0, looked_s=99.0)
    assert worth(watched_s=3_600.0, looked_s=99.0)
    assert worth(watched_s=3_600.0, approved="ann: yes")


async def test_a_flushed_store_does_not_forget_a_rollout(store: Store, daemons: Callable[..., Any]) -> None:
    """The daemon goes on with it, attempt and all."""
    daemon: Daemon
    async with daemons(settings=settings_of(rollouts=ROLLOUTS)) as daemon:
        await eventually(lambda: daemon.leads)
        daemon.probe_all()
        await eventually(lambda: daemon.control.loop.shown.table is not None)
        word = await store.say(Verb.ROLLOUT_START, "ann", "cheaper", {"name": "gateway"})
        answer = await store.answer(word, 5.0)
        assert answer is not None
        assert answer.ok, answer.text
        await eventually(lambda: _phase(store), 5.0)
        await anyio.sleep(0.3)
        await store.clear()
        await eventually(lambda: _phase(store), 5.0)
        state = await store.load_state()

    assert state is not None
    assert state.rollouts["gateway"].reason == "cheaper"
    assert state.rollouts["gateway"].phase is RolloutPhase.RAMPING


async def _phase(store: Store) -> str:
    state = await store.load_state()
    one = state.rollouts.get("gateway") if state else None
    return one.phase.value if one is not None else ""
