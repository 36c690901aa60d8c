"""Checks of a route: pass, fail, or no evidence, which is neither."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.evidence import Report
from pointsman.core.latency import latency_cell
from pointsman.core.model import Health, Path, Phase, State
from pointsman.core.ramp_model import Arm, RampPolicy
from pointsman.core.table import RouteEntry, Table, Version
from pointsman.core.traffic import Seen, begun, looked
from pointsman.core.validation import (
    Check,
    Made,
    Result,
    impact,
    latency,
    made_success,
    percent,
    samples,
    serving,
    spread,
    success,
    targets,
    valid,
)
from reports import report
from world import NOON_S, plan_of

PASS, FAIL, NONE = Result.PASS, Result.FAIL, Result.NO_EVIDENCE
PLAN = plan_of({"chat": {"bedrock": 50, "google": 50, "meta": 0}})
WELL = Health(phase=Phase.HEALTHY)
POLICY = RampPolicy(steps=())
STATE = State(
    plan=PLAN,
    health=dict.fromkeys(PLAN.targets, WELL),
    paths=dict.fromkeys(PLAN.providers, Path(answered_s=NOON_S)),
)


def a_table(**fields: Any) -> Table:
    entry = {
        "family": "openai",
        "shares_bp": {"bedrock": 0, "google": 10_000},
        "chain": ("google", "bedrock"),
    }
    return Table(
        environment="production", fleet="default", version=Version(7, 3), hash="", issued_s=NOON_S, targets={},
        routes={"chat": RouteEntry(**{**entry, **fields})},
    )  # fmt: skip


def checked(state: State = STATE, table: Table | None = None, *, led: bool = True) -> Check:
    return targets(PLAN, state, table or a_table(), ["chat", "unknown"], NOON_S, led=led)


def with_health(target: str, **fields: Any) -> State:
    return replace(STATE, health={**STATE.health, target: replace(WELL, **fields)})


# --- the whole


def test_a_gate_needs_the_samples() -> None:
    """No failure is not enough, and one failure is too much; no evidence decides nothing."""
    seen, unseen = samples(5, 5, 1.0, ""), samples(4, 5, 1.0, "wait")
    nothing = Check(check="latency", result=NONE, why="")
    assert valid([seen, nothing])
    assert not valid([unseen, nothing])
    assert not valid([nothing])
    assert not valid([success(1, 1, 0.95)])
    assert not valid([seen, success(1, 2, 0.95)])


def test_a_percentage_is_never_rounded_up() -> None:
    """97.996 % does not read as the 98 % that it misses; 57 % of floats is 57 %."""
    assert [percent(x) for x in (0.97996, 0.98, 0.57, 0.29, 1.0, 0.0)] == [
        "97.99 %", "98 %", "57 %", "29 %", "100 %", "0 %"
    ]  # fmt: skip


def test_samples_say_how_to_come_by_more() -> None:
    """The hint only where they are missing."""
    assert samples(4, 5, 60.4, "wait").why == "4 of 5 requests in 60 s: wait"
    assert samples(5, 5, 1.0, "wait").why == "5 of 5 requests in 1 s"


@pytest.mark.parametrize(("ok", "result"), [(95, PASS), (94, FAIL)])
def test_success_at_the_threshold_passes(ok: int, result: Result) -> None:
    """At or above it."""
    assert success(ok, 100, 0.95).result is result


def test_nothing_seen_is_no_success() -> None:
    """And no failure."""
    assert success(0, 0, 0.95).result is NONE
    assert made_success([], 0.95).result is NONE


def test_synthetic_requests_count_as_their_caller_saw_them() -> None:
    """One that fell over and was answered is a success, and told; failures say why, each reason once."""
    made = [Made(ok=True, attempts=1, latency_ms=1.0), Made(ok=True, attempts=2, latency_ms=1.0)]
    bad = Made(ok=False, attempts=3, latency_ms=1.0, why="HTTP 502")
    check = made_success([*made, bad, bad], 0.5)
    assert (check.result, check.why) == (
        PASS,
        "50 % of 4 answered well, 50 % asked for (1 fell over); failed: HTTP 502",
    )
    assert made_success([made[0], bad, bad], 0.5).result is FAIL


# --- targets


def test_targets_in_service_that_answer() -> None:
    """Only those with a share are asked about."""
    assert checked().why == "google in service"
    assert checked(with_health("meta", phase=Phase.COOLDOWN)).result is PASS


def test_what_was_failed_over_from_need_not_be_back() -> None:
    """But it is told."""
    check = checked(with_health("bedrock", reach_streak=3, last_failure="connection refused"))
    assert (check.result, check.why) == (
        PASS,
        "google in service (bedrock without a share, and not answering)",
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"phase": Phase.COOLDOWN, "cooldown_until_s": NOON_S + 60, "reason": "5 × stall"}, "5 × stall"),
        ({"barred": "HTTP 401"}, "barred: HTTP 401"),
        ({"throttled_until_s": NOON_S + 60, "throttled": "HTTP 429"}, "rate limited"),
        ({"reach_streak": 1, "last_failure": "HTTP 503"}, "its last probe failed: HTTP 503"),
        ({"generate_streak": 1, "last_failure": "HTTP 500"}, "its last probe failed: HTTP 500"),
    ],
)
def test_a_target_with_a_share_that_is_not_well_fails(fields: dict[str, Any], why: str) -> None:
    """Out of service, or with a bad last probe."""
    check = checked(with_health("google", **fields))
    assert check.result is FAIL
    assert why in check.why


def test_a_provider_that_fell_silent_fails() -> None:
    """Also where so many are silent that nobody is blamed."""
    silent = replace(
        STATE, paths={**STATE.paths, "google": Path(answered_s=1.0, silent_s=2.0, detail="reset")}
    )
    check = checked(silent)
    assert (check.result, check.why) == (FAIL, "google: google did not answer its last probe: reset")


def test_a_provider_that_was_never_asked_is_no_evidence() -> None:
    """A new leader begins with a round of probes."""
    check = checked(replace(STATE, paths={}))
    assert (check.result, check.why) == (NONE, "not probed yet: google")


def test_a_closed_route_fails() -> None:
    """Nobody serves it."""
    assert checked(table=a_table(shares_bp={}, closed="all barred")).why == "chat is closed: all barred"


def test_no_share_of_the_plan_is_no_evidence() -> None:
    """A table of another plan."""
    assert checked(table=a_table(shares_bp={"gone": 10_000})).result is NONE


def test_without_a_leader_or_a_table_nothing_is_validated() -> None:
    """What the state says is of the past then."""
    assert checked(led=False).result is FAIL
    assert targets(PLAN, STATE, None, ["chat"], NOON_S, led=True).result is FAIL


# --- latency


def cells(fast_ms: float, count: int = 100) -> dict[int, int]:
    return {latency_cell(fast_ms): count}


@pytest.mark.parametrize(("now_ms", "result"), [(400, PASS), (500, PASS), (630, NONE), (800, FAIL)])
def test_latency_against_the_time_before(now_ms: float, result: Result) -> None:
    """Up to 1.5 × of it; a cell of the histogram beyond its bound is surely over."""
    check = latency(Arm(latency_ms=cells(now_ms)), Arm(latency_ms=cells(400)), POLICY)
    assert check.result is result
    assert check.data["latency_ms_p95"] == now_ms
    assert check.data["before_latency_ms_p95"] == 400.0


def with_slow(count: int, slow: int) -> Arm:
    """So many answers within 10 ms, but for the `slow` ones."""
    return Arm(latency_ms={latency_cell(10): count - slow, latency_cell(200): slow})


@pytest.mark.parametrize(
    ("now", "result"),
    [
        (with_slow(41, 2), PASS),
        (with_slow(41, 3), NONE),
        (with_slow(41, 12), FAIL),
        (with_slow(800, 80), FAIL),
    ],
    ids=["two of 41", "three of 41", "twelve of 41", "a tenth of many"],
)
def test_a_p95_over_that_of_before_fails_when_it_is_no_chance(now: Arm, result: Result) -> None:
    """Three slow answers of 41 make a p95, and are luck; nobody is woken by them, and they are told."""
    check = latency(now, with_slow(1_000, 10), POLICY)
    assert check.result is result
    if result is NONE:
        assert check.why == (
            "p95 answer 200 ms, before 10 ms; answer over 1.5 × of before, which may be chance: more --samples tell"
        )


def test_few_answers_before_do_not_say_what_was_usual() -> None:
    """A p95 of thirty was luck as well, so nothing is held against the present."""
    check = latency(Arm(latency_ms=cells(1_000)), Arm(latency_ms=cells(400, 30)), POLICY)
    assert (check.result, "may be chance" in check.why) == (NONE, True)


def test_each_kind_is_compared_with_its_own() -> None:
    """Streams by their first token."""
    before = Arm(latency_ms=cells(8_000), first_token_ms=cells(100))
    check = latency(Arm(latency_ms=cells(8_000), first_token_ms=cells(400)), before, POLICY)
    assert check.result is FAIL
    assert check.why.endswith(": first token over 1.5 × of before")


def test_latency_without_a_time_before_is_no_evidence() -> None:
    """Neither pass nor fail, with the reason."""
    now = Arm(latency_ms=cells(400))
    check = latency(now, None, POLICY, "nothing is recorded")
    assert (check.result, check.why) == (NONE, "p95 answer 400 ms; nothing is recorded")
    few = latency(now, Arm(latency_ms=cells(400, 19)), POLICY)
    assert (few.result, few.why) == (NONE, "p95 answer 400 ms; too few answers in the time before")


def test_few_answers_are_no_evidence() -> None:
    """A p95 of 19 is none."""
    check = latency(Arm(latency_ms=cells(9_000, 19)), Arm(latency_ms=cells(400)), POLICY)
    assert (check.result, check.why) == (NONE, "fewer than 20 answers of callers")


def test_too_slow_fails_whatever_was_before() -> None:
    """Nobody waits for a minute, and no evidence is asked for."""
    assert latency(Arm(latency_ms=cells(60_000)), None, POLICY).result is FAIL
    doubtful = Arm(latency_ms={latency_cell(400): 38, latency_cell(60_000): 3})
    assert latency(doubtful, Arm(latency_ms=cells(400)), POLICY).result is FAIL


# --- impact


def seen(requests: int, failed: int, callers: int, failing: int, doubtful: int = 0) -> Seen:
    arm = Arm(
        ok=requests - failed, failed=failed, callers=(1 << callers) - 1, callers_failing=(1 << failing) - 1
    )
    return Seen(arm=arm, doubtful=((1 << doubtful) - 1) << failing)


@pytest.mark.parametrize(
    ("what", "result"),
    [
        (seen(1000, 0, 40, 0), PASS),
        (seen(1000, 30, 40, 3), FAIL),
        (seen(1000, 30, 20, 1), NONE),
        (seen(1000, 30, 40, 0, 3), NONE),
        (seen(1000, 30, 20, 1, 2), NONE),
        (seen(9000, 9, 63, 9), NONE),
        (seen(900, 400, 63, 50), FAIL),
        (seen(0, 0, 0, 0), NONE),
    ],
    ids=[
        "none",
        "several",
        "one alone",
        "of before",
        "one, and of before",
        "too many to tell",
        "crowded and bad",
        "nobody",
    ],
)
def test_impact(what: Seen, result: Result) -> None:
    """More than 2 % of callers, and more than one of them; what the maps cannot tell decides nothing."""
    assert impact(what).result is result


def test_impact_says_why_it_cannot_tell() -> None:
    """Each reason by its name."""
    assert impact(seen(1000, 30, 20, 1)).why.endswith("one alone says nothing of the others")
    assert impact(seen(1000, 30, 40, 0, 3)).why.endswith("some may have failed before only")
    assert impact(seen(9000, 9, 63, 9)).why.endswith("too many to tell apart")
    assert impact(seen(1000, 30, 40, 3)).why == "an attempt failed of 3 of about 63 callers, 2 % alert"


# --- serving


def served(*versions: tuple[int, int] | None, **fields: Any) -> Check:
    """Of as many proxies, all heard of; one more is silent."""
    names = [f"p{number}" for number in range(len(versions))]
    watch = begun([report("old"), *map(report, names)], NOON_S)
    reports: dict[str, Report] = {
        name: report(name, 2, serving=Version(*v) if v else None, **fields)
        for name, v in zip(names, versions, strict=True)
    }
    watch, _ = looked(watch, reports.values(), NOON_S)
    return serving(a_table(), watch, {"old": report("old"), **reports}, NOON_S)


def test_the_table_on_every_live_proxy() -> None:
    """A newer one will do; who is silent is not counted, and told."""
    check = served((7, 3), (7, 4))
    assert (check.result, check.why) == (
        PASS,
        "table 7.3 on 2 of 2 live proxies (silent, and not counted: old)",
    )


def test_a_proxy_that_lags_or_rejects_fails() -> None:
    """With what it serves instead."""
    assert "p1 serves 7.2" in served((7, 3), (7, 2)).why
    assert served((7, 3), (7, 2)).result is FAIL
    assert "p0 serves no table" in served(None).why
    check = served((7, 3), rejected="it is torn")
    assert (check.result, "(rejected: it is torn)" in check.why) == (FAIL, True)


def test_without_proxies_or_a_table_nothing_serves() -> None:
    """Nobody routes by anything."""
    assert served().why == "no proxy reports (silent, and not counted: old)"
    assert served().result is FAIL
    assert serving(None, begun([], NOON_S), {}, NOON_S).why == "no table is published"


# --- what is made


def test_samples_are_spread_by_share() -> None:
    """In proportion, evenly from the first one on, nothing to a target without a share."""
    found = spread({"a": 7_500, "b": 2_500, "c": 0}, 8)
    assert (found.count("a"), found.count("b")) == (6, 2)
    assert found[:4].count("b") == 1
    assert spread({"c": 0}, 8) == []
