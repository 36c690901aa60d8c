"""A world that records every decision as a daemon does, on its way through the store and back."""

import random
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from pointsman.core.asked import Asked
from pointsman.core.evidence import Evidence, RateLimit, Report, TargetReport
from pointsman.core.model import Decision
from pointsman.core.record import Record, decode, encode, record_of
from world import CHAT, World, plan_of

SCENARIOS = Path(__file__).parent.parent / "scenarios"
SCRIPTS = sorted(SCENARIOS.glob("*.txt"))
sys.path.insert(0, str(SCENARIOS))

Made = list[tuple[Asked, Decision]]


def asked_by(world: World, evidence: Evidence) -> Asked:
    """What `world` decides from just now."""
    return Asked(
        at_s=world.now_s,
        epoch=world.epoch,
        published=world.table,
        published_s=world.published_s,
        state=world.state,
        evidence=evidence,
    )


def remember(monkeypatch: pytest.MonkeyPatch) -> Made:
    """From now on every decision of every world is kept here, with what it was made from."""
    made: Made = []
    ask = World.decide

    def decide(world: World, evidence: Evidence) -> Decision:
        decision = ask(world, evidence)
        made.append((asked_by(world, evidence), decision))
        return decision

    monkeypatch.setattr(World, "decide", decide)
    return made


def played(script: Path) -> Made:
    """Every decision of a scenario."""
    from runner import play

    with pytest.MonkeyPatch.context() as monkeypatch:
        made = remember(monkeypatch)
        play(script.read_text())
        return made


def tripped() -> tuple[Asked, Decision]:
    """The decision on five refused requests, with what it was made from."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = World(plan_of(CHAT))
        made = remember(monkeypatch)
        world.trip("bedrock")
        return made[-1]


def stored(asked: Asked, decision: Decision) -> Record:
    """The record of a decision as it comes back from the store."""
    return decode(encode(record_of(asked, decision, "pointsman 0.0, a test")))


def busy(evidence: Evidence) -> Evidence:
    """The evidence with something in everything that proxies tell for people."""
    rng = random.Random(len(evidence.reports))

    def fill(entry: TargetReport) -> TargetReport:
        return replace(
            entry,
            latency_ms={cell: rng.randrange(1000) for cell in range(20, 30)},
            first_token_ms={cell: rng.randrange(1000) for cell in range(10, 20)},
            tokens_in=rng.randrange(10**6),
            tokens_out=rng.randrange(10**6),
            cost_usd=rng.random(),
            callers=rng.getrandbits(64),
            callers_failing=rng.getrandbits(64),
            synthetic={"ok": rng.randrange(1000), "outage": rng.randrange(1000)},
            rate_limit=RateLimit(remaining_ratio=rng.random()),
            ejected=True,
        )

    def filled(report: Report) -> Report:
        return replace(report, targets={name: fill(entry) for name, entry in report.targets.items()})

    return replace(evidence, reports=tuple(map(filled, evidence.reports)))
