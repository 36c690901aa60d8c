"""Go and no-go: what each criterion says of what was seen, and that nothing passes on no evidence."""

from typing import Any

import pytest
from msgspec.structs import replace
from rollouts import LIMIT, STRICT, stage

from pointsman.core.criteria import CRITERIA, judged
from pointsman.core.latency import latency_cell
from pointsman.core.ramp_model import CANARY_STEPS, Arm, Finding, RampPolicy, Verdict
from pointsman.core.rollout_model import Bounds, Rollout, RolloutPhase, Seen
from world import NOON_S

POLICY = RampPolicy(steps=CANARY_STEPS)
MANY = (1 << 63) - 1
EMPTY = Seen(since_s=NOON_S)


def arm(ok: int = 0, failed: int = 0, at_ms: float | None = None, **fields: Any) -> Arm:
    """Requests of many callers; `at_ms` is how long the answers took."""
    cells = {latency_cell(at_ms): ok} if at_ms is not None else {}
    return Arm(
        **{
            "ok": ok, "failed": failed, "latency_ms": cells, "callers": MANY,
            "callers_failing": MANY if failed else 0, **fields,
        }
    )  # fmt: skip


def one(
    new: Arm | None = None, before: Arm | None = None, lately: Arm | None = None, **fields: Any
) -> Rollout:
    """A rollout that soaks; `fields` are of its stage."""
    new = new or Arm()
    seen = replace(EMPTY, new=new)
    rules = stage("development", **{"go": STRICT, "no_go": LIMIT, **fields})
    return Rollout(
        name="gateway", route="chat", source="bedrock", goal="google", stage=rules, report_hour=9, owner="ann",
        reason="a test", created_s=NOON_S, phase=RolloutPhase.SOAKING, since_s=NOON_S, looked_s=NOON_S, total=seen,
        week=seen, day=seen, hour=replace(EMPTY, new=new if lately is None else lately), before=before or Arm(),
    )  # fmt: skip


def says(criterion: str, rollout: Rollout) -> tuple[str, str]:
    """(verdict, why)."""
    found = next(f for f in judged(rollout, POLICY) if f.gate == criterion)
    return found.verdict.value, found.why


def test_nothing_passes_on_no_evidence() -> None:
    """Whatever is asked, nothing seen is neither go nor no-go."""
    asked = Bounds(error_ratio=0.02, latency_factor=1.5, cost_factor=1.0, cache_hit_ratio=0.4)
    found = judged(one(go=asked, no_go=asked, min_requests=1), POLICY)

    assert [finding.gate for finding in found] == list(CRITERIA)
    assert {finding.verdict for finding in found} == {Verdict.HOLD}
    assert all("no evidence" in finding.why for finding in found[1:])


def test_what_is_not_asked_is_not_judged() -> None:
    """Only the number of requests always is."""
    found = judged(one(go=Bounds(), no_go=Bounds()), POLICY)

    assert [finding.gate for finding in found] == ["requests"]


@pytest.mark.parametrize("bound", ["go", "no_go"])
@pytest.mark.parametrize(
    ("field", "criterion"),
    [
        ("error_ratio", "errors"),
        ("latency_factor", "latency"),
        ("cost_factor", "cost"),
        ("cache_hit_ratio", "cache_hits"),
    ],
)
def test_one_bound_is_enough_to_be_judged(bound: str, field: str, criterion: str) -> None:
    """Go alone, or no-go alone."""
    bounds = {"go": Bounds(), "no_go": Bounds(), bound: Bounds(**{field: 0.5})}

    assert [f.gate for f in judged(one(**bounds), POLICY)] == ["requests", criterion]


@pytest.mark.parametrize("field", ["error_ratio", "latency_factor", "cost_factor", "cache_hit_ratio"])
def test_no_evidence_of_what_only_a_no_go_looks_for(field: str) -> None:
    """Is none to wait for: it abstains, and does not pass."""
    only = Bounds(**{field: 0.5})
    found = judged(one(go=Bounds(), no_go=only), POLICY)[1]
    assert (found.verdict, found.why[:12]) == (Verdict.ABSENT, "no evidence:")
    seen = judged(one(arm(30, at_ms=500), no_go=only, go=Bounds()), POLICY)[1]
    assert seen.verdict is (Verdict.PASS if field == "error_ratio" else Verdict.ABSENT)


@pytest.mark.parametrize(("seen", "verdict"), [(9, "hold"), (10, "pass")])
def test_requests(seen: int, verdict: str) -> None:
    """So many must be seen, failed ones too."""
    rollout = one(arm(seen - 1, 1), min_requests=10)
    assert says("requests", rollout) == (verdict, "9 of 10 requests seen" if seen == 9 else "10 requests")
    assert judged(rollout, POLICY)[0].data == {"seen": float(seen), "needed": 10.0}


# --- errors


@pytest.mark.parametrize(
    ("ok", "failed", "said"),
    [
        (98, 2, ("pass", "2.0 % of 100 requests failed")),
        (970, 30, ("hold", "3.0 % of 1000 requests failed within the last hour, 2 % is go")),
        (950, 50, ("hold", "5.0 % of 1000 requests failed within the last hour, 2 % is go")),
        (800, 200, ("abort", "20.0 % of 1000 requests failed within the last hour, over 5 %")),
    ],
)
def test_errors(ok: int, failed: int, said: tuple[str, str]) -> None:
    """Up to the one bound it is go, with evidence of more than the other no-go, between them it holds."""
    assert says("errors", one(arm(ok, failed))) == said


def test_errors_in_numbers() -> None:
    """The counts stand beside the words, whatever they say."""
    for ok, failed in ((99, 1), (950, 50), (800, 200)):
        found = judged(one(arm(ok, failed)), POLICY)[1]
        assert found.data == {"requests": float(ok + failed), "failed": float(failed)}


def test_trouble_of_now_is_not_hidden_by_days_of_calm() -> None:
    """The last hour is judged by itself."""
    calm = arm(100_000, 100)

    assert says("errors", one(calm, lately=arm(30, 10)))[0] == "abort"
    assert says("errors", one(calm, lately=arm(40, 2))) == (
        "hold",
        "4.8 % of 42 requests failed within the last hour, 2 % is go",
    )
    assert says("errors", one(calm, lately=arm(18, 1)))[0] == "pass"
    assert says("errors", one(calm, lately=arm(19, 1)))[0] == "hold"


def test_trouble_of_before_is_not_forgotten() -> None:
    """An hour of calm does not make the stage go."""
    assert says("errors", one(arm(900, 27), lately=arm(100))) == (
        "hold",
        "2.9 % of 927 requests failed, 2 % is go",
    )
    assert says("errors", one(arm(800, 200), lately=arm(100))) == (
        "abort",
        "20.0 % of 1000 requests failed, over 5 %",
    )


def test_one_bad_caller_is_no_no_go() -> None:
    """Several must see it fail; where there are fewer, all of them."""
    assert says("errors", one(arm(800, 200, callers_failing=0b11)))[0] == "hold"
    assert says("errors", one(arm(800, 200, callers_failing=0b111)))[0] == "abort"
    assert says("errors", one(arm(800, 200, callers=0b1, callers_failing=0b1)))[0] == "abort"


def test_errors_by_one_bound() -> None:
    """Without the other."""
    assert says("errors", one(arm(500, 500), no_go=Bounds()))[0] == "hold"
    assert says("errors", one(arm(500, 500), go=Bounds()))[0] == "abort"
    assert says("errors", one(arm(970, 30), go=Bounds()))[0] == "pass"


# --- latency


@pytest.mark.parametrize(
    ("now_ms", "said"),
    [
        (500, ("pass", "p95 answer 500 ms against 500 ms")),
        (630, ("pass", "p95 answer 630 ms against 500 ms")),
        (800, ("hold", "p95 answer 800 ms against 500 ms: up to 1.5 × is go")),
        (1_500, ("abort", "p95 answer 1500 ms against 500 ms: over 2 ×")),
    ],
)
def test_latency(now_ms: float, said: tuple[str, str]) -> None:
    """As a multiple of what the old side's was."""
    rollout = one(arm(100, at_ms=now_ms), arm(100, at_ms=500))
    assert says("latency", rollout) == said
    assert judged(rollout, POLICY)[2].data == {
        "latency_ms_p95": float(now_ms),
        "latency_ms_p95_before": 500.0,
    }


def streamed(count: int, at_ms: float) -> Arm:
    return arm(count, first_token_ms={latency_cell(at_ms): count})


def test_streams_are_judged_by_their_first_token() -> None:
    """Each kind with its own: the worse of them decides."""
    both = replace(streamed(200, 100), latency_ms={latency_cell(500): 200})
    assert says("latency", one(both, both)) == (
        "pass",
        "p95 first token 100 ms against 100 ms; p95 answer 500 ms against 500 ms",
    )
    slow = replace(both, first_token_ms={latency_cell(160): 200})
    assert says("latency", one(slow, both)) == (
        "hold",
        "p95 first token 160 ms against 100 ms: up to 1.5 × is go",
    )
    assert says("latency", one(streamed(200, 1_000), streamed(200, 100)))[0] == "abort"


@pytest.mark.parametrize(("new", "old", "told"), [
    (19, 20, "no evidence: fewer than 20 answers of one kind"),
    (20, 19, "no evidence: p95 answer 500 ms, and nothing of the old side to compare with"),
])  # fmt: skip
def test_few_answers_have_no_percentile(new: int, old: int, told: str) -> None:
    """On neither side."""
    assert says("latency", one(arm(new, at_ms=500), arm(old, at_ms=500))) == ("hold", told)


def test_a_kind_that_the_old_side_never_answered() -> None:
    """One kind that compares well does not speak for the other."""
    new = replace(streamed(200, 100), latency_ms={latency_cell(500): 200})

    assert says("latency", one(new, arm(200, at_ms=500))) == (
        "hold",
        "no evidence: p95 first token 100 ms, and nothing of the old side to compare with",
    )


def test_a_slow_hour_is_seen() -> None:
    """Days of calm do not hide that it has doubled now."""
    calm = arm(100_000, at_ms=500)

    assert says("latency", one(calm, calm, lately=arm(100, at_ms=2_000)))[0] == "abort"


def test_latency_by_one_bound() -> None:
    """Without the other."""
    slow, fast = arm(100, at_ms=2_000), arm(100, at_ms=500)
    assert says("latency", one(slow, fast, no_go=Bounds()))[0] == "hold"
    assert says("latency", one(arm(100, at_ms=800), fast, go=Bounds()))[0] == "pass"


# --- cost


def priced(usd: float, count: int = 100) -> Arm:
    return arm(count, cost_usd=usd * count, priced=count)


@pytest.mark.parametrize(
    ("each", "said"),
    [
        (0.002, ("pass", "0.00200 USD a request against 0.00200 USD")),
        (0.0021, ("hold", "0.00210 USD a request against 0.00200 USD: up to 1 × is go")),
        (0.003, ("hold", "0.00300 USD a request against 0.00200 USD: up to 1 × is go")),
        (0.0031, ("abort", "0.00310 USD a request against 0.00200 USD: over 1.5 ×")),
    ],
)
def test_cost(each: float, said: tuple[str, str]) -> None:
    """Of a request, as a multiple of what it was."""
    rollout = one(priced(each), priced(0.002, 50))
    assert says("cost", rollout) == said
    assert judged(rollout, POLICY)[3].data == pytest.approx({"new_usd": each, "old_usd": 0.002})


def test_a_dear_beginning_is_no_no_go() -> None:
    """A rollback for money takes as many requests as a go does."""
    assert says("cost", one(priced(0.01, 9), priced(0.002), min_requests=10))[0] == "hold"
    assert says("cost", one(priced(0.01, 10), priced(0.002), min_requests=10))[0] == "abort"


@pytest.mark.parametrize(("new", "old", "side"), [(Arm(), priced(1.0), "new"), (priced(1.0), Arm(), "old")])
def test_no_prices_are_no_evidence(new: Arm, old: Arm, side: str) -> None:
    """Of either side."""
    assert says("cost", one(new, old)) == ("hold", f"no evidence: no request of the {side} side has a price")


def test_cost_by_one_bound() -> None:
    """Without the other."""
    assert says("cost", one(priced(9.0), priced(1.0), no_go=Bounds()))[0] == "hold"
    assert says("cost", one(priced(1.2), priced(1.0), go=Bounds()))[0] == "pass"


def test_cache_hits_wait_for_their_evidence() -> None:
    """The stage holds: nobody has counted a hit yet."""
    rollout = one(arm(1_000), go=Bounds(cache_hit_ratio=0.4))

    assert says("cache_hits", rollout) == ("hold", "no evidence: no response cache reports")


def test_a_finding_is_a_gates() -> None:
    """Criteria are shown as the gates of ramps are."""
    assert isinstance(judged(one(), POLICY)[0], Finding)
