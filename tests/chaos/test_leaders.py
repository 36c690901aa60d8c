"""Two daemons: one that is paused in the middle of a publication finds that it has been replaced."""

import re
import signal
import time
from pathlib import Path

import anyio
import pytest
from installation import Process
from relay import Relay
from storm import LEASE, Measured, Storm, storm

from pointsman.core.evidence import Verb
from pointsman.store import client
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

TTL_S = LEASE["lease_ttl_s"]
# A standby looks again when the lease runs out; the machine may be busy.
MARGIN_S = 1.0


async def led_through(run: Storm, relay: Path) -> Process:
    """A second daemon, which reaches the store through the relay, leads; the first one stands by."""
    env = {
        **run.here.env,
        "POINTSMAN_CONTROL__LISTEN": "127.0.0.1:0",
        "POINTSMAN_STATE_DIR": str(run.here.folder / "state-paused"),
        "POINTSMAN_STORE__URL": f"unix://{relay}",
        # It does not give up what it was doing when it was paused.
        "POINTSMAN_STORE__TIMEOUT_S": "20",
    }
    log = run.here.folder / "paused.log"
    paused = Process("paused", ["control", "--config", str(run.here.config)], env, log)
    run.here.daemons["paused"] = paused
    first = run.here.daemons["daemon-1"]
    epoch = await run.led()
    first.end()
    paused.start()
    epoch = await run.led(above=epoch)
    first.start()
    await eventually(lambda: f"leads with epoch {epoch}" in first.told(), 10.0)
    return paused


async def test_a_paused_leader_cannot_publish(folder: Path, measured: Measured) -> None:
    """SIGSTOP of the leader in a publication: the other leads within the ttl, and the old one's table is refused."""
    relay_socket = folder / "relay.sock"
    async with (
        storm(folder, control=LEASE) as run,
        Relay.running(relay_socket, run.here.valkey.socket) as relay,
    ):
        paused = await led_through(run, relay_socket)
        epoch = await run.led()
        relay.hold(client._PUBLISH.sha.encode())
        shares = {"bedrock": 2_000, "google": 4_000, "meta": 4_000}
        await run.here.store.say(Verb.SET_WEIGHTS, "ann", "a trial", {"route": "chat", "shares_bp": shares})
        with anyio.fail_after(5):
            await relay.held.wait()
        paused.signal(signal.SIGSTOP)
        began = time.monotonic()
        await eventually(lambda: leads_above(run, epoch), 15.0)
        took_s = time.monotonic() - began
        newer = (await run.served(lambda table: table.version.epoch > epoch)).version.epoch
        serving_s = time.monotonic() - began
        relay.release()
        with anyio.fail_after(5):
            await relay.answered.wait()
        paused.signal(signal.SIGCONT)
        gone = rf"no longer leading with epoch {epoch}: (.*)"
        why = await eventually(lambda: re.search(gone, paused.told()), 10.0)
        await run.callers.more(80)
        table = await run.here.table()
        leader = await run.here.store.leader()
    measured("takeover_s", took_s)
    measured("serving_s", serving_s)

    assert run.failed == []
    assert run.went_back == []
    assert took_s <= TTL_S + MARGIN_S
    assert relay.reply.startswith(b"*3\r\n$6\r\nFENCED"), relay.reply
    assert "publication refused" in why[1]
    assert leader is not None
    assert (table.version.epoch, leader.epoch) == (newer, newer)
    assert table.routes["chat"].shares_bp == shares


async def leads_above(run: Storm, epoch: int) -> bool:
    leader = await run.here.store.leader()
    return leader is not None and leader.epoch > epoch
