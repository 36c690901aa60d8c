"""Synthetic traffic costs money: for whom it is made, how fast, and when not."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.gates.errors import errors
from pointsman.core.model import Freeze, Plan, State
from pointsman.core.ramp_model import Arm, Ramp, RampPhase, Tally, Verdict
from pointsman.core.synthetic import GAP_S, SENT_MAX, SETTLE_S, UNDER_WAY_MAX, Pace, Wanted, unended, wanted
from pointsman.core.table import RouteEntry, Table, Version
from ramps import a_ramp, begun, seen, sight
from world import NOON_S, plan_of

PLAN = plan_of({"chat": {"bedrock": 50, "google": 50}})
RAMP = begun(a_ramp(synthetic=True))
FLOOR = RAMP.policy.steps[0].samples


def state_of(ramp: Ramp, plan: Plan | None = PLAN, **fields: Any) -> State:
    return State(plan=plan, ramps={ramp.route: ramp}, **fields)


def table_of(stamp: str = RAMP.stamp, **fields: Any) -> Table:
    entry = {
        "family": "openai",
        "shares_bp": {},
        "chain": ("bedrock", "google"),
        "last_resort": 2,
        "ramp": stamp,
    }
    return Table(
        environment="production", fleet="default", version=Version(7, 3), hash="", issued_s=NOON_S, targets={},
        routes={"chat": RouteEntry(**{**entry, **fields})},
    )  # fmt: skip


def test_a_step_short_of_its_floor_wants_the_rest_at_the_gaining_target() -> None:
    """What callers did counts, and what was made already, failures as well."""
    ramp = seen(RAMP, (10, 2), (90, 0), synthetic_ok=5, synthetic_failed=1)
    assert wanted(state_of(ramp), table_of()) == [
        Wanted(ramp="r", stamp="r#1", route="chat", target="google", missing=FLOOR - 18, floor=FLOOR)
    ]


@pytest.mark.parametrize(
    "ramp",
    [
        seen(RAMP, (FLOOR, 0)),
        begun(a_ramp()),
        replace(RAMP, paused="ann: a test"),
        replace(RAMP, aborting="a gate said so"),
        replace(RAMP, phase=RampPhase.SPREADING),
        replace(RAMP, phase=RampPhase.BAKING),
        replace(RAMP, phase=RampPhase.ABORTED),
        a_ramp(synthetic=True),
    ],
    ids=["enough", "not asked for", "paused", "aborting", "spreading", "baking", "ended", "not begun"],
)
def test_nothing_is_made_for(ramp: Ramp) -> None:
    """A ramp that does not need it, or could not count it."""
    assert wanted(state_of(ramp), table_of(ramp.stamp)) == []


@pytest.mark.parametrize(
    "table",
    [None, table_of(""), table_of("r#9"), table_of(last_resort=1), table_of(chain=("bedrock",))],
    ids=["no table", "overlaid", "of another step", "cooling down", "barred"],
)
def test_nothing_is_made_that_proxies_would_not_count(table: Table | None) -> None:
    """Only under the step's own stamp, and to a target in service."""
    assert wanted(state_of(RAMP), table) == []


def test_nothing_is_made_under_a_freeze_or_without_a_plan() -> None:
    """Samples of a ramp that may not move are no use."""
    frozen = Freeze(owner="ann", reason="a test", until_s=NOON_S + 9)
    assert wanted(state_of(RAMP, freeze=frozen), table_of()) == []
    assert wanted(state_of(RAMP, None), table_of()) == []
    assert wanted(state_of(replace(RAMP, route="gone")), table_of()) == []


def test_embeddings_are_left_out() -> None:
    """And targets that the plan does not know any more."""
    embeds = {**PLAN.targets, "google": replace(PLAN.targets["google"], embeds=True)}
    assert wanted(state_of(RAMP, replace(PLAN, targets=embeds)), table_of()) == []
    assert wanted(state_of(RAMP, replace(PLAN, targets={})), table_of()) == []


@pytest.mark.parametrize(("google", "meta", "target"), [(3, 0, "meta"), (3, 2, "google"), (0, 0, "google")])
def test_several_gaining_targets_share_in_proportion(google: int, meta: int, target: str) -> None:
    """To the one that has had least of what it gains, 7,500 and 2,500 here."""
    plan = plan_of({"chat": {"bedrock": 50, "google": 30, "meta": 20}})
    ramp = replace(RAMP, to_bp={"google": 7_500, "meta": 2_500})
    arms = {"google": Arm(ok=google), "meta": Arm(synthetic_ok=meta)}
    ramp = replace(ramp, tallies={ramp.stamp: Tally(step=0, arms=arms)})
    table = table_of(chain=("bedrock", "google", "meta"), last_resort=3)
    assert wanted(state_of(ramp, plan), table)[0].target == target


def test_a_stamp_without_a_tally_has_seen_nothing() -> None:
    """Of a state that another version wrote."""
    assert wanted(state_of(replace(RAMP, tallies={})), table_of())[0].missing == FLOOR


def test_what_is_over() -> None:
    """Ramps that ended need no memory."""
    assert unended(state_of(RAMP)) == {"r"}
    assert unended(state_of(replace(RAMP, phase=RampPhase.PROMOTED))) == set()


# --- how fast


def want(missing: int = 100, *, stamp: str = "r#1", floor: int = 100, ramp: str = "r") -> Wanted:
    return Wanted(ramp=ramp, stamp=stamp, route="chat", target="google", missing=missing, floor=floor)


def sent(pace: Pace, one: Wanted, times_s: list[float]) -> list[float]:
    """At which of these times one went out; each ends at once."""
    found: list[float] = []
    for now_s in times_s:
        for due in pace.due([one], now_s):
            pace.ended(due, now_s)
            found.append(now_s)
    return found


def test_at_most_one_in_two_seconds() -> None:
    """However often it is asked, and from one step to the next."""
    pace = Pace()
    assert sent(pace, want(), [n / 10 for n in range(45)]) == [0.0, GAP_S, 2 * GAP_S]
    assert sent(pace, want(stamp="r#2"), [4.5, 5.9, 6.0]) == [6.0]


def test_each_ramp_has_its_own_pace() -> None:
    """Two that lack samples do not wait for each other."""
    assert len(Pace().due([want(), want(ramp="s", stamp="s#1")], 0.0)) == 2


def test_what_is_still_to_come_is_not_made_again() -> None:
    """Under way, or ended and not yet in a report that was counted."""
    pace, one = Pace(), want(missing=1)
    due = pace.due([one], 0.0)
    assert pace.due([one], 100.0) == []
    pace.ended(due[0], 100.0)
    assert pace.due([one], 100.0 + SETTLE_S - 0.1) == []
    assert pace.due([one], 100.0 + SETTLE_S) == [one]


def test_a_target_that_hangs_gets_no_heap_of_them() -> None:
    """So many under way at most."""
    pace = Pace()
    assert len([n for n in range(0, 100, 2) if pace.due([want()], float(n))]) == UNDER_WAY_MAX


def test_what_is_never_counted_has_an_end() -> None:
    """Twice the floor under one stamp, and that is told once, when all have ended and had time to be counted."""
    pace, one = Pace(), want(missing=10, floor=3)
    assert pace.exhausted([one]) == []
    assert len(sent(pace, one, [n * GAP_S for n in range(20)])) == 3 * SENT_MAX
    assert pace.due([one], 500.0) == []
    assert pace.exhausted([want(stamp="r#2")]) == []
    assert pace.exhausted([one]) == [one]
    assert pace.exhausted([one]) == []
    assert sent(pace, want(floor=3, stamp="r#2"), [501.0]) == [501.0]


def test_it_is_not_told_before_the_last_could_be_counted() -> None:
    """One under way may still be."""
    pace, one = Pace(), want(missing=10, floor=1)
    due = [pace.due([one], float(n))[0] for n in (0, 2)]
    assert pace.exhausted([one]) == []
    for each in due:
        pace.ended(each, 3.0)
    assert pace.exhausted([one]) == []
    pace.due([one], 3.0 + SETTLE_S)
    assert pace.exhausted([one]) == [one]


def test_one_of_an_earlier_step_ends_for_itself() -> None:
    """It makes no room in the present step, nor when its ramp is forgotten."""
    pace = Pace()
    old = pace.due([want(missing=1)], 0.0)[0]
    new = want(missing=1, stamp="r#2")
    assert pace.due([new], 2.0) == [new]
    pace.ended(old, 3.0)
    assert pace.due([new], 100.0) == []
    pace.keep({"other"})
    pace.ended(new, 101.0)
    assert pace.due([new], 101.0) == [new]


# --- what its failures are


def test_synthetic_failures_hold() -> None:
    """A canary that fails what is made for it goes nowhere, also where callers' good answers outnumber them."""
    failing = {"synthetic_ok": 48, "synthetic_failed": 2}
    check = errors(sight(seen(RAMP, (0, 0), **failing)))
    assert (check.verdict, check.why) == (Verdict.HOLD, "2 of 50 synthetic requests failed in this step")
    assert errors(sight(seen(RAMP, (500, 0), **failing))).verdict is Verdict.HOLD
    assert errors(sight(seen(RAMP, (500, 0), synthetic_ok=98, synthetic_failed=2))).verdict is Verdict.PASS
    assert errors(sight(seen(begun(a_ramp()), (500, 0), **failing))).verdict is Verdict.PASS
