"""Each gate: what passes, what holds, what aborts, and what it says without evidence."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core import gates
from pointsman.core.gates.approval import approval
from pointsman.core.gates.baseline import baseline
from pointsman.core.gates.cost import cost
from pointsman.core.gates.dwell import dwell
from pointsman.core.gates.errors import errors
from pointsman.core.gates.external import external
from pointsman.core.gates.latency import latency
from pointsman.core.gates.quality import accuracy, cache_hits
from pointsman.core.gates.serving import serving
from pointsman.core.latency import latency_cell
from pointsman.core.ramp_model import (
    ExternalGate,
    ExternalKind,
    Finding,
    GateAnswer,
    Ramp,
    RampKind,
    RampPhase,
    Verdict,
)
from ramps import CANARY, OUT, STEPS, a_ramp, begun, seen, sight
from world import NOON_S

PASS, HOLD, ABORT, ABSENT = Verdict.PASS, Verdict.HOLD, Verdict.ABORT, Verdict.ABSENT


def told(finding: Finding) -> tuple[Verdict, str]:
    return finding.verdict, finding.why


def test_names() -> None:
    """Every gate says its own name, and all are asked."""
    found = gates.findings(sight(begun()))

    assert tuple(f.gate for f in found) == gates.NAMES
    assert [f.gate for f in gates.findings(sight(CANARY), gates.BEFOREHAND)] == [
        "approval",
        "calendar",
        "external",
    ]
    assert set(gates.NAMES) >= gates.REQUIRABLE | gates.FIRM


# --- serving, dwell


def test_serving() -> None:
    """The share must be published, and served by every proxy that lives, of which there must be one."""
    assert told(serving(sight(begun(), proxies=1))) == (PASS, "serving on 1 live proxy")
    assert told(serving(sight(begun(), proxies=2))) == (PASS, "serving on 2 live proxies")
    assert serving(sight(begun(), proxies=0)).verdict is HOLD
    assert serving(sight(begun(), published=False)).verdict is HOLD
    lagging = serving(sight(begun(), proxies=2, lagging=("p2",)))
    assert told(lagging) == (HOLD, "not serving yet on p2")
    assert lagging.data == {"lagging": 1.0}


def test_dwell() -> None:
    """A step is over once it was watched for its time."""
    assert told(dwell(sight(begun(watched_s=59.9)))) == (HOLD, "watched for 60 of 60 s")
    assert told(dwell(sight(begun(watched_s=60.0)))) == (PASS, "watched for 60 s")
    assert dwell(sight(begun(watched_s=20.0))).data == {"watched_s": 20.0, "needed_s": 60.0}


def test_the_dwell_of_a_bake() -> None:
    """A bake has its own time."""
    baking = begun(a_ramp(bake_s=700.0), 2, phase=RampPhase.BAKING, watched_s=699.0)

    assert dwell(sight(baking)).verdict is HOLD
    assert dwell(sight(replace(baking, watched_s=700.0))).verdict is PASS


# --- baseline


def test_baseline_well() -> None:
    """A control that does not fail is there to compare with."""
    assert told(baseline(sight(seen(begun(), control=(95, 5))))) == (PASS, "the control is well")


def test_baseline_in_trouble() -> None:
    """One that fails above the limit freezes the ramp, from twenty requests on."""
    assert told(baseline(sight(seen(begun(), control=(94, 6))))) == (
        HOLD,
        "6.0 % of 100 requests of the control fail too: frozen, nobody is blamed",
    )
    assert baseline(sight(seen(begun(), control=(18, 2)))).verdict is HOLD
    assert baseline(sight(seen(begun(), control=(17, 2)))).verdict is PASS


def test_baseline_out() -> None:
    """One that is out altogether does too; one of two targets of it does not."""
    two = begun(a_ramp(from_bp={"bedrock": 5_000, "meta": 5_000}))

    assert baseline(sight(begun(), out=OUT)).verdict is HOLD
    assert baseline(sight(two, out=OUT)).verdict is PASS
    assert baseline(sight(two, out={**OUT, "meta": "x"})).why == (
        "the control is out itself (bedrock cooldown until 12:10:00; meta x): frozen, nobody is blamed"
    )


@pytest.mark.parametrize(
    "ramp", [a_ramp(RampKind.FAILOVER), a_ramp(from_bp={}, to_bp={"google": 10_000}, source="")]
)
def test_no_baseline(ramp: Ramp) -> None:
    """A failover leaves a side because it is in trouble; where nobody loses there is none."""
    moving = seen(begun(ramp), control=(0, 99)) if ramp.source else begun(ramp)

    assert told(baseline(sight(moving, out=OUT))) == (PASS, "not asked: the ramp leaves it")


# --- errors


@pytest.mark.parametrize(
    ("moved", "verdict", "why"),
    [
        ((98, 2), PASS, "2.0 % of 100 requests failed"),
        ((97, 3), HOLD, "3.0 % of 100 requests failed in this step, 2.0 % pass"),
        ((0, 0), ABSENT, "no evidence: no request was seen in this step"),
        (
            (60, 40),
            ABORT,
            "40.0 % of 100 requests failed, 0.0 % of 100 of the control: worse with an evidence of",
        ),
    ],
)
def test_errors(moved: tuple[int, int], verdict: Verdict, why: str) -> None:
    """Up to 2 % pass, above it holds, evidence that it is worse aborts, and nothing says nothing."""
    finding = errors(sight(seen(begun(), moved, (100, 0))))

    assert (finding.verdict, finding.why[: len(why)]) == (verdict, why)


def test_a_rough_beginning() -> None:
    """What holds is the present step's rate alone; the steps before it count for the abort only."""
    second = seen(begun(seen(begun(), (90, 10), (90, 10)), 1), (100, 0), (100, 0))
    finding = errors(sight(second))

    assert told(finding) == (PASS, "0.0 % of 100 requests failed")
    assert (finding.data["moved_rate"], finding.data["control_rate"]) == (0.05, 0.05)
    assert (finding.data["moved_requests"], finding.data["control_requests"]) == (200, 200)
    assert finding.data["step_rate"] == 0


def test_errors_without_a_control() -> None:
    """Without requests of the control there is nothing to compare with, and no abort."""
    finding = errors(sight(seen(begun(), (50, 50))))

    assert told(finding) == (HOLD, "50.0 % of 100 requests failed in this step, 2.0 % pass")


def baking(moved: tuple[int, int], control: tuple[int, int], control_bp: int = 500, **fields: Any) -> Ramp:
    promoted = begun(a_ramp(bake_s=600.0, control_bp=control_bp), 2, phase=RampPhase.BAKING)
    return seen(replace(promoted, before={"bedrock": 10_000}), moved, control, **fields)


def test_the_cutover_rule() -> None:
    """After promotion more than 2 % of failures, once certain, is an abort while the small control is well."""
    finding = errors(sight(baking((2_850, 150), (100, 0))))

    assert told(finding) == (
        ABORT,
        (
            "5.0 % of 3000 requests failed, 0.0 % of 100 of the control: over 2.0 % since the cutover, "
            "and the control is well"
        ),
    )


@pytest.mark.parametrize(
    ("moved", "control", "fields"),
    [
        ((2_850, 150), (79, 0), {}),
        ((2_850, 150), (149, 3), {}),
        ((2_850, 150), (97, 3), {}),
        ((2_950, 50), (100, 0), {}),
        ((95, 5), (100, 0), {}),
        ((2_850, 150), (100, 0), {"callers_failing": 3}),
    ],
    ids=[
        "a control of a few",
        "a control that may fail as much",
        "a control that fails too",
        "under 2 %",
        "few requests",
        "two callers",
    ],
)
def test_no_cutover_rule(moved: tuple[int, int], control: tuple[int, int], fields: dict[str, int]) -> None:
    """Not where the control is not known to be well, it is not certain, or hardly anybody's requests fail."""
    assert errors(sight(baking(moved, control, **fields))).verdict in {PASS, HOLD}


def test_a_cutover_without_a_control() -> None:
    """Where no control was kept, the rule is all there is."""
    assert errors(sight(baking((2_850, 150), (0, 0), control_bp=0))).verdict is ABORT


def test_few_callers_after_a_cutover() -> None:
    """Where there are only two callers, both of them are enough."""
    assert errors(sight(baking((2_850, 150), (100, 0), callers=3, callers_failing=3))).verdict is ABORT


def test_the_limits_of_a_bake() -> None:
    """After promotion the comparison takes over 2 % for much, before it over 5 %."""
    moved, control = (9_600, 400), (10_000, 0)

    assert errors(sight(seen(begun(), moved, control))).verdict is HOLD
    assert "worse with an evidence" in errors(sight(baking(moved, control))).why


# --- latency


def answers(
    moved_ms: float, control_ms: float, count: int = 100, kind: str = "latency_ms", **rules: Any
) -> Finding:
    ramp = begun(a_ramp(**rules))
    arms = seen(ramp, (count, 0), (100, 0)).tallies[ramp.stamp]
    given = {"google": (moved_ms, count), "bedrock": (control_ms, 100)}
    timed = {
        target: replace(arm, **{kind: {latency_cell(given[target][0]): given[target][1]}})
        for target, arm in arms.arms.items()
        if given[target][0]
    }
    return latency(sight(replace(ramp, tallies={ramp.stamp: replace(arms, arms=timed)})))


@pytest.mark.parametrize(
    ("moved_ms", "control_ms", "verdict", "why"),
    [
        (1_500, 1_000, PASS, "p95 answer 1500 ms against 1000 ms"),
        (2_000, 1_000, HOLD, "p95 answer 2000 ms against 1000 ms: over 1.5 ×"),
        (2_500, 1_000, ABORT, "p95 answer 2500 ms against 1000 ms: it has doubled"),
        (30_000, 0, PASS, "p95 answer 30000 ms"),
        (40_000, 0, HOLD, "p95 answer 40000 ms: over 30000 ms"),
        (40_000, 30_000, HOLD, "p95 answer 40000 ms against 30000 ms: over 30000 ms"),
        (60_000, 30_000, HOLD, "p95 answer 60000 ms against 30000 ms: over 1.5 ×"),
    ],
)
def test_latency(moved_ms: float, control_ms: float, verdict: Verdict, why: str) -> None:
    """p95 up to 1.5 × the control's and 30 s passes, above either it holds, surely doubled it aborts."""
    assert told(answers(moved_ms, control_ms)) == (verdict, why)


def test_few_answers() -> None:
    """Fewer than twenty answers say nothing; fewer of the control only leave the absolute limit."""
    assert told(answers(9_000, 1_000, 19)) == (ABSENT, "no evidence: fewer than 20 answers of one kind")
    assert answers(9_000, 1_000, 20).verdict is ABORT
    assert answers(1_000, 1_000, 19, require=("latency",)).verdict is HOLD


def test_first_tokens() -> None:
    """Streams are compared by their first token."""
    finding = answers(500, 200, 100, "first_token_ms")

    assert told(finding) == (ABORT, "p95 first token 500 ms against 200 ms: it has doubled")
    assert finding.data == {"moved_first_token_ms_p95": 500, "control_first_token_ms_p95": 200}


def test_both_kinds() -> None:
    """Each kind is compared with its own, and the first that holds is the reason."""
    cells = {"latency_ms": {latency_cell(4_000): 50}, "first_token_ms": {latency_cell(400): 50}}
    both = seen(begun(), (100, 0), (100, 0), **cells)
    slow = seen(begun(a_ramp(latency_limit_ms=300.0)), (100, 0), (100, 0), **cells)

    assert (
        latency(sight(both)).why
        == "p95 first token 400 ms against 400 ms; p95 answer 4000 ms against 4000 ms"
    )
    assert latency(sight(slow)).why == "p95 first token 400 ms against 400 ms: over 300 ms"


# --- cost, quality


def priced(moved_usd: float, control_usd: float, **rules: Any) -> Finding:
    ramp = seen(begun(a_ramp(**rules)), (10, 0), (10, 0), priced=10)
    tally = ramp.tallies[ramp.stamp]
    arms = {
        target: replace(arm, cost_usd=10 * usd, priced=10 if usd else 0)
        for (target, arm), usd in zip(tally.arms.items(), (moved_usd, control_usd), strict=True)
    }
    return cost(sight(replace(ramp, tallies={ramp.stamp: replace(tally, arms=arms)})))


def test_cost() -> None:
    """A request may cost 1.2 × what it did; above that it holds, and without prices it says nothing."""
    assert told(priced(0.012, 0.010)) == (PASS, "0.01200 USD a request against 0.01000 USD")
    assert told(priced(0.013, 0.010)) == (HOLD, "0.01300 USD a request against 0.01000 USD: over 1.2 ×")
    assert priced(0.0, 0.01).verdict is priced(0.01, 0.0).verdict is ABSENT
    assert priced(0.0, 0.01, require=("cost",)).verdict is HOLD


def test_a_budget() -> None:
    """Only what the moved side spent over its budget is an abort."""
    assert priced(0.010, 0.010, budget_usd=0.1).verdict is PASS
    assert told(priced(0.011, 0.010, budget_usd=0.1)) == (ABORT, "0.11 USD spent of a budget of 0.10 USD")


@pytest.mark.parametrize(("gate", "name"), [(accuracy, "accuracy"), (cache_hits, "cache_hits")])
def test_quality(gate: Any, name: str) -> None:
    """What nobody measures is absent, and holds a ramp that insists on it."""
    assert told(gate(sight(begun())))[0] is ABSENT
    assert gate(sight(begun(a_ramp(require=(name,))))).why.startswith(
        "no evidence, and this ramp insists on it: no "
    )


# --- approval, external


def test_approval() -> None:
    """A step that the policy names waits for a person, others do not."""
    asking = a_ramp(approvals=(5_000,))

    assert told(approval(sight(begun(asking)))) == (
        HOLD,
        "the step to 50 % waits for a person: pointsman canary approve chat",
    )
    assert told(approval(sight(begun(asking, approved=(5_000,))))) == (PASS, "the step to 50 % is approved")
    assert approval(sight(begun(asking, approved=(10_000,)))).verdict is HOLD
    assert told(approval(sight(begun(asking, 1)))) == (PASS, "nobody is to be asked")
    assert approval(sight(begun(a_ramp(approvals=(0, 10_000)), len(STEPS) - 1))).verdict is HOLD


def asked(*answers: GateAnswer, names: tuple[str, ...] = ("smoke", "rate")) -> Finding:
    every = tuple(ExternalGate(name=name, kind=ExternalKind.WEBHOOK, url="", fresh_s=60.0) for name in names)
    return external(sight(begun(a_ramp(external=every), answers={a.gate: a for a in answers})))


def answer(gate: str, verdict: Verdict, ago_s: float = 0.0) -> GateAnswer:
    return GateAnswer(ramp="r", gate=gate, verdict=verdict, why="because", at_s=NOON_S - ago_s)


def test_external() -> None:
    """All that are asked must pass, and lately; one abort is enough."""
    assert told(asked(names=())) == (PASS, "none is asked")
    assert told(asked(answer("smoke", PASS), answer("rate", PASS, 60))) == (PASS, "smoke passes, rate passes")
    assert told(asked(answer("smoke", PASS), answer("rate", PASS, 61))) == (HOLD, "rate is silent since long")
    assert told(asked(answer("smoke", HOLD))) == (HOLD, "smoke: because; rate has not answered")
    assert told(asked(answer("smoke", ABSENT), answer("rate", ABORT))) == (ABORT, "rate: because")
    assert asked(answer("smoke", ABORT, 61), answer("rate", PASS)).verdict is HOLD
