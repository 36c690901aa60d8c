"""Whose trouble it is: a provider's, a proxy's, or the leader's own way out."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.evidence import STREAM, UNARY, Lane, ProbeKind, Report, TargetReport
from pointsman.core.health import Gathered
from pointsman.core.model import Path, State, Vantage
from reports import ANSWERING, remembering, report, run_of, sorted_out
from world import CHAT, NOON_S, World, plan_of

SILENT = {name: Path(answered_s=NOON_S - 1, silent_s=NOON_S) for name in ANSWERING}
NAMES = ("bedrock", "google", "meta")


def refused(*targets: str, seq: int = 1, **fields: Any) -> Report:
    run = run_of(3, detail="connection refused", refuses=True, **fields)
    entries = {name: TargetReport(counts={"outage": 3 * seq}, lanes={UNARY: run}) for name in targets}
    return report(seq=seq, targets=entries)


def test_a_proxy_in_trouble() -> None:
    """A proxy that is refused by all while one of them answers the leader is the one in trouble: nothing counts."""
    gathered = sorted_out(refused("bedrock", "google"), state=State(paths=ANSWERING))

    assert gathered.vantages["p1"].troubled
    assert gathered.vantages["p1"].troubled_s == NOON_S
    assert gathered.seen == {}


@pytest.mark.parametrize(
    ("told", "paths"),
    [
        (refused("bedrock"), ANSWERING),
        (refused("bedrock", "nobody"), ANSWERING),
        (refused("bedrock", "google"), {}),
        (refused("bedrock", "google"), {"bedrock": Path(answered_s=NOON_S - 30.1)}),
        (refused("bedrock", "google"), {"bedrock": Path(answered_s=NOON_S - 1, silent_s=NOON_S - 1)}),
        (refused("bedrock", "google"), {"meta": Path(answered_s=NOON_S)}),
        (
            report(
                targets={
                    **refused("bedrock", "google").targets,
                    "meta": TargetReport(lanes={UNARY: Lane(last_ok_s=NOON_S)}),
                }
            ),
            ANSWERING,
        ),
        (
            report(
                targets={
                    **refused("bedrock", "google").targets,
                    "meta": TargetReport(lanes={UNARY: run_of(9)}),
                }
            ),
            ANSWERING,
        ),
    ],
    ids=[
        "one",
        "one known",
        "no answer",
        "old answer",
        "silent since",
        "another's",
        "a success",
        "no refusal",
    ],
)
def test_not_the_proxys_trouble(told: Report, paths: dict[str, Path]) -> None:
    """One provider, nobody who answers the leader, or any success or answer: then it is not the proxy."""
    assert not sorted_out(told, state=State(paths=paths)).vantages["p1"].troubled


def test_barely_the_proxys_trouble() -> None:
    """An answer to the leader counts for 30 s, and targets without a lane do not speak for the proxy."""
    told = report(targets={**refused("bedrock", "google").targets, "meta": TargetReport()})
    paths = {"bedrock": Path(answered_s=NOON_S - 30, silent_s=NOON_S - 31)}

    assert sorted_out(told, state=State(paths=paths)).vantages["p1"].troubled


def test_trouble_leaves_nothing_behind() -> None:
    """Well again, what failed in its trouble is neither counted nor a run; what fails now is."""
    first = sorted_out(refused("bedrock", "google"), state=State(paths=ANSWERING))
    well = refused("bedrock", "google", seq=2)
    well.targets["meta"] = TargetReport(lanes={UNARY: Lane(last_ok_s=NOON_S + 1)})
    second = sorted_out(well, state=remembering(first), now_s=NOON_S + 1)
    after = refused("bedrock", seq=3, since_s=NOON_S + 2)
    third = sorted_out(after, state=remembering(second), now_s=NOON_S + 2)

    assert not second.vantages["p1"].troubled
    assert second.seen["bedrock"].streak is None
    assert second.seen["bedrock"].counts == {"outage": 3}
    assert third.seen["bedrock"].streak == 3


# --- not only refusals


def failing(*targets: str, proxy: str = "p2", seq: int = 1, **fields: Any) -> Report:
    run = run_of(3, **{"detail": "connection reset", "silent": True, **fields})
    return report(proxy, seq, {name: TargetReport(lanes={UNARY: run}) for name in targets})


def succeeding(*targets: str, at_s: float, proxy: str = "p1") -> Report:
    return report(
        proxy, targets={name: TargetReport(lanes={STREAM: Lane(last_ok_s=at_s)}) for name in targets}
    )


def troubled(gathered: Gathered, proxy: str = "p2") -> bool:
    return gathered.vantages[proxy].troubled


@pytest.mark.parametrize("fault", ["reset", "first_byte_timeout", "stall"])
def test_a_proxy_that_gets_nothing(fault: str) -> None:
    """Resets, timeouts and stalls everywhere are the proxy's trouble as refusals are: nobody is ejected for them."""
    world = World(plan_of(CHAT))
    for name in NAMES:
        world.probe(name, "ok", ProbeKind.REACH)
    for _ in range(10):
        for name in NAMES:
            world.live("p1", name, "ok", 20)
            world.live("p2", name, fault, 20)
        world.tick(1.0)

    assert world.told("target.tripped") == []
    assert world.told("proxy.trouble") == [
        "p2 fails at every provider while they answer others: it is the one in trouble"
    ]


def test_the_leaders_answer_speaks_for_the_way() -> None:
    """Nothing comes back to the proxy, and the leader got an answer: the providers are there."""
    assert troubled(sorted_out(failing("bedrock", "google"), state=State(paths=ANSWERING)))


def test_the_leaders_answer_does_not_speak_for_the_model() -> None:
    """A provider that answers with errors may well answer the leader too: that is no trouble of the proxy."""
    told = failing("bedrock", "google", detail="HTTP 500", silent=False)

    assert not troubled(sorted_out(told, state=State(paths=ANSWERING)))


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize(
    ("target", "after_s", "whose"), [("google", 0.1, True), ("google", 0.0, False), ("meta", 0.1, False)]
)
def test_another_proxys_success(target: str, after_s: float, whose: bool, silent: bool) -> None:
    """Another proxy has succeeded at one of these providers since: whatever fails here, it is this proxy."""
    other = succeeding(target, "nobody", at_s=NOON_S + after_s)
    told = failing("bedrock", "google", silent=silent)

    assert troubled(sorted_out(other, told)) is whose
    assert troubled(sorted_out(told, other)) is whose


def test_its_own_success_elsewhere() -> None:
    """A proxy that succeeds at one provider has a way out: two others that fail are down."""
    told = failing("bedrock", "google")
    told.targets["meta"] = TargetReport(lanes={STREAM: Lane(last_ok_s=NOON_S + 1)})

    assert not troubled(sorted_out(told, state=State(paths=ANSWERING)))


@pytest.mark.parametrize(("streaks", "whose"), [((3, 2), True), ((3, 1), False)])
def test_a_few_failures_are_noise(streaks: tuple[int, int], whose: bool) -> None:
    """It takes as many failures, over all providers, as trip a target."""
    told = report(
        "p2",
        targets={
            name: TargetReport(lanes={UNARY: run_of(streak, silent=True)})
            for name, streak in zip(("bedrock", "google"), streaks, strict=True)
        },
    )

    assert troubled(sorted_out(told, state=State(paths=ANSWERING))) is whose


# --- nobody reaches anybody


@pytest.mark.parametrize(("silent", "whose"), [(True, True), (False, False)])
def test_the_machine_lost_its_network(silent: bool, whose: bool) -> None:
    """The proxy gets nothing and the leader neither: that counts for nothing; errors that came back do."""
    gathered = sorted_out(failing("bedrock", "google", silent=silent), state=State(paths=SILENT))

    assert gathered.egress_suspect
    assert troubled(gathered) is whose


def test_a_machine_without_network_ejects_nobody() -> None:
    """Leader and proxy lose their network: told as what it is, no target is ejected, and all goes on with it."""
    world = World(plan_of(CHAT))
    for _ in range(30):
        for name in NAMES:
            world.probe(name, "unreachable", ProbeKind.REACH)
        world.tick(1.0)
        for name in NAMES:
            world.live("p1", name, "refused", 5)
    assert world.told("proxy.trouble") == [
        "p1 gets no answer from any provider, nor does this daemon: what it sees counts for nothing"
    ]
    assert world.told("target.tripped") == []
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}

    for name in NAMES:
        world.probe(name, "ok", ProbeKind.REACH)
        world.live("p1", name, "ok")
    world.tick(1.0)
    assert world.told("proxy.trouble")[1:] == ["p1 is out of trouble: what it sees counts again"]


def test_who_reaches_them_is_believed() -> None:
    """The leader is cut off and one proxy too; the other sees bedrock fail and google well: bedrock is out."""
    world = World(plan_of(CHAT))
    for name in NAMES:
        world.probe(name, "unreachable", ProbeKind.REACH)
        world.live("p1", name, "refused", 9)
    world.live("p2", "bedrock", "reset", 5)
    world.now_s += 0.1
    world.live("p2", "google", "ok")
    world.tick(1.0)

    assert [note.subject for note in world.notes if note.kind == "target.tripped"] == ["bedrock"]


# --- how trouble ends

IN_TROUBLE = Vantage(boot="b1", seq=1, seen_s=NOON_S, started_s=NOON_S, troubled=True, troubled_s=NOON_S)


@pytest.mark.parametrize(
    ("told", "whose"),
    [
        (failing("bedrock", seq=2), True),
        (report("p2", 2), False),
        (report("p2", 2, succeeding("google", at_s=NOON_S + 1).targets), False),
        (
            report(
                "p2",
                2,
                {
                    **failing("bedrock", times=(NOON_S, NOON_S + 1.5)).targets,
                    **succeeding("google", at_s=NOON_S + 1).targets,
                },
            ),
            False,
        ),
        (
            report("p2", 2, {**failing("bedrock").targets, **succeeding("google", at_s=NOON_S - 1).targets}),
            True,
        ),
        (replace(failing("bedrock"), boot="b2"), False),
    ],
    ids=["still failing", "nothing fails", "a success", "and a failure", "an old success", "another boot"],
)
def test_trouble_ends(told: Report, whose: bool) -> None:
    """With a success since, or no failures to report, or another boot; not because nobody answers the leader now."""
    state = State(vantages={"p2": IN_TROUBLE}, paths={})

    assert troubled(sorted_out(told, state=state, now_s=NOON_S + 2)) is whose
