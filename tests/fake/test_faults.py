"""When faults are in force, for whom, and how a bad one is explained."""

import pytest

from pointsman.fake.faults import Fault, FaultError, Kind, Misfortune, parse


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{}", "", "array"),
        (b"[{", "", "truncated"),
        (b"[{}]", "[0].kind", "missing"),
        (b'[{"kind": "explode"}]', "[0].kind", "known are refuse, blackhole"),
        (b'[{"kind": "hang", "rat": 0.5}]', "[0].rat", "unknown field"),
        (b'[{"kind": "hang"}, {"kind": "hang", "rate": 1.5}]', "[1].rate", "<= 1"),
        (b'[{"kind": "hang", "rate": "half"}]', "[0].rate", "got `str`"),
        (b'[{"kind": "hang", "paths": ["models"]}]', "[0].paths[0]", "^/"),
        (b'[{"kind": "status"}]', "[0].status", "is needed"),
        (b'[{"kind": "status", "status": 200}]', "[0].status", ">= 201"),
        (b'[{"kind": "hang", "status": 500}]', "[0].status", "means nothing"),
        (b'[{"kind": "refuse", "rate": 0.5}]', "[0].kind", "every connection"),
        (b'[{"kind": "hang", "on_s": 1}]', "[0].on_s", "go together"),
        (b'[{"kind": "slow", "multiply_to": 9}]', "[0].over_s", "go together"),
        (b'[{"kind": "status", "status": 500, "headers": {"x": "a\\r\\nb"}}]', "[0].headers[...]", "regex"),
    ],
)
def test_bad_faults_name_their_field(body: bytes, field: str, message: str) -> None:
    """What is wrong with a list of faults is said with the field that is wrong."""
    with pytest.raises(FaultError) as caught:
        parse(body)
    assert caught.value.field == field
    assert message in caught.value.message


def test_faults_in_process_are_checked_too() -> None:
    """A fault made in Python is held to the same ranges, and a refused list leaves the old one in force."""
    misfortune = Misfortune(0)
    misfortune.replace([Fault(kind=Kind.HANG)], 0)
    with pytest.raises(FaultError, match=r"\[0\]\.rate"):
        misfortune.replace([Fault(kind=Kind.HANG, rate=2)], 0)
    assert [fault.kind for fault in misfortune.faults] == ["hang"]


@pytest.mark.parametrize(
    ("fault", "on_at_s", "off_at_s"),
    [
        (Fault(kind=Kind.HANG), (0, 1e6), ()),
        (Fault(kind=Kind.HANG, start_s=5), (5, 100), (0, 4.9)),
        (Fault(kind=Kind.HANG, for_s=10), (0, 9.9), (10, 100)),
        (Fault(kind=Kind.HANG, start_s=5, for_s=10), (5, 14.9), (4.9, 15)),
        (Fault(kind=Kind.HANG, on_s=2, off_s=3), (0, 1.9, 5, 6.9), (2, 4.9, 7)),
        (Fault(kind=Kind.HANG, on_s=2, off_s=3, for_s=6), (0, 5.9), (2, 6, 10)),
    ],
)
def test_when_a_fault_is_on(fault: Fault, on_at_s: tuple[float, ...], off_at_s: tuple[float, ...]) -> None:
    """A fault is on from its start, for its time, in its rhythm."""
    assert all(fault.active(age_s) for age_s in on_at_s)
    assert not any(fault.active(age_s) for age_s in off_at_s)


@pytest.mark.parametrize(
    ("fault", "changes_s"),
    [
        (Fault(kind=Kind.REFUSE), []),
        (Fault(kind=Kind.REFUSE, start_s=5, for_s=10), [5, 15]),
        (Fault(kind=Kind.REFUSE, start_s=1, on_s=2, off_s=3, for_s=6), [1, 3, 6, 7]),
    ],
)
def test_next_change_walks_over_every_edge(fault: Fault, changes_s: list[float]) -> None:
    """Going from change to change meets every moment at which a fault goes on or off."""
    walked: list[float] = []
    age_s = 0.0
    while (wait_s := fault.next_change_s(age_s)) is not None:
        age_s += wait_s
        walked.append(age_s)
    assert walked == changes_s


def test_creeping_latency() -> None:
    """A factor creeps from one value to another and stays there."""
    fault = Fault(kind=Kind.SLOW, multiply=1, multiply_to=40, over_s=20, start_s=10)
    assert [fault.factor(age_s) for age_s in (0, 10, 20, 30, 100)] == [1, 1, 20.5, 40, 40]


def test_slow_faults_add_up_and_leave_the_first_other_fault() -> None:
    """Every slow fault slows; of the others the first one that applies is done."""
    misfortune = Misfortune(0)
    misfortune.replace(
        [
            Fault(kind=Kind.SLOW, multiply=2, delay_ms=5),
            Fault(kind=Kind.STATUS, status=503, models=("other",)),
            Fault(kind=Kind.STATUS, status=500),
            Fault(kind=Kind.HANG),
            Fault(kind=Kind.SLOW, multiply=3, delay_ms=7),
        ],
        now_s=100,
    )
    verdict = misfortune.draw("/v1/messages", "m", stream=False, makes_tokens=True, now_s=101)
    assert verdict.fault is not None
    assert (verdict.fault.status, verdict.multiply, verdict.delay_ms) == (500, 6, 12)


def test_death_outlasts_a_new_list_of_faults() -> None:
    """Death stands over the faults: it ends by its time or by a word, not by another list."""
    misfortune = Misfortune(0)
    misfortune.die(Kind.REFUSE, 10, now_s=0)
    misfortune.replace([], now_s=1)
    assert misfortune.door(now_s=9.9) == "refuse"
    assert misfortune.door(now_s=10) is None
    assert misfortune.next_change_s(now_s=4) == 6


def test_a_spread_has_its_median_at_one() -> None:
    """A spread of latency is lognormal about the usual, and the same for the same seed."""
    many, again = Misfortune(3), Misfortune(3)
    drawn = [many.spread(0.5) for _ in range(999)]
    assert drawn == [again.spread(0.5) for _ in range(999)]
    assert sorted(drawn)[499] == pytest.approx(1.0, abs=0.1)
    assert many.spread(0) == 1


def test_creeping_delay() -> None:
    """A delay creeps too, so that a provider that is not slow by itself degrades slowly."""
    misfortune = Misfortune(0)
    misfortune.replace([Fault(kind=Kind.SLOW, delay_ms=100, delay_to_ms=1_100, over_s=10)], now_s=0)
    drawn = [misfortune.draw("/", "m", stream=True, makes_tokens=True, now_s=at_s) for at_s in (0, 5, 10, 90)]
    assert [verdict.delay_ms for verdict in drawn] == [100, 600, 1_100, 1_100]
