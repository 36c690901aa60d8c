"""Evidence, sorted out by target, and counted once."""

import pytest
from msgspec.structs import replace

from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import (
    Evidence,
    ProbeKind,
    TargetReport,
)
from pointsman.core.health import (
    gather,
)
from pointsman.core.model import Path, State, Target, Vantage
from reports import PLAN, counts, probe, remembering, report, seen_counts, sorted_out
from world import NOON_S


def test_a_young_proxy_counts() -> None:
    """The first report of a proxy that is as young as 30 s counts from zero."""
    assert seen_counts(sorted_out(counts(ok=5, outage=2), now_s=NOON_S + 30)) == {"ok": 5, "outage": 2}


def test_an_old_proxy_is_history() -> None:
    """Of an older proxy that nobody knows only the differences count."""
    first = sorted_out(counts(ok=5), now_s=NOON_S + 30.1)
    second = sorted_out(counts(2, ok=8, outage=1), state=remembering(first), now_s=NOON_S + 31)

    assert seen_counts(first) == {}
    assert seen_counts(second) == {"ok": 3, "outage": 1}


def test_read_twice() -> None:
    """The same report again counts nothing and says nothing."""
    first = sorted_out(counts(ok=5))
    second = sorted_out(counts(ok=5), state=remembering(first), now_s=NOON_S + 1)

    assert second.seen == {}
    assert second.vantages == first.vantages


def test_an_older_one() -> None:
    """A report older than the last, out of a store that went back, counts nothing, nor does what follows it twice."""
    first = sorted_out(counts(5, ok=50))
    second = sorted_out(counts(4, ok=40), state=remembering(first))
    third = sorted_out(counts(6, ok=51), state=remembering(second))

    assert second.seen == {}
    assert seen_counts(third) == {"ok": 1}


def test_a_new_boot_counts_from_zero() -> None:
    """A proxy that started again has counted everything anew, however low the sequence."""
    first = sorted_out(counts(9, ok=50))
    second = sorted_out(counts(1, boot="b2", ok=3), state=remembering(first))

    assert seen_counts(second) == {"ok": 3}


@pytest.mark.parametrize(("gap_s", "counted"), [(60.0, {"ok": 1, "outage": 40}), (60.1, {})])
def test_a_long_difference_is_history(gap_s: float, counted: dict[str, int]) -> None:
    """What came in over more time than the ratio looks back on may all be long over: it counts nothing."""
    first = sorted_out(counts(ok=5))
    second = sorted_out(counts(2, ok=6, outage=40), state=remembering(first), now_s=NOON_S + gap_s)

    assert seen_counts(second) == counted
    third = sorted_out(counts(3, ok=9, outage=41), state=remembering(second), now_s=NOON_S + gap_s + 1)
    assert seen_counts(third) == {"ok": 3, "outage": 1}


@pytest.mark.parametrize(("age_s", "counted"), [(60.0, {"ok": 3}), (60.1, {})])
def test_a_new_boot_after_a_gap(age_s: float, counted: dict[str, int]) -> None:
    """Of a proxy that started again while nobody looked, all counts if that was lately, and nothing otherwise."""
    first = sorted_out(counts(9, ok=50))
    now_s = NOON_S + 300
    again = counts(1, boot="b2", started_s=now_s - age_s, ok=3)

    assert seen_counts(sorted_out(again, state=remembering(first), now_s=now_s)) == counted


def test_what_shrinks_does_not_count() -> None:
    """Totals that are smaller than before count nothing, and nothing is taken away."""
    first = sorted_out(counts(1, ok=5, outage=4))

    assert seen_counts(sorted_out(counts(2, ok=3, outage=5), state=remembering(first))) == {"outage": 1}


def test_two_proxies_add_up() -> None:
    """What two proxies saw is added."""
    both = sorted_out(counts(proxy="p1", ok=1, outage=2), counts(proxy="p2", ok=3))

    assert seen_counts(both) == {"ok": 4, "outage": 2}


def test_a_target_that_appears_later() -> None:
    """A target that a known proxy had not named before counts from zero, though the proxy is old."""
    first = sorted_out(report(started_s=0))
    second = sorted_out(counts(2, started_s=0, ok=7), state=remembering(first))

    assert seen_counts(second) == {"ok": 7}


@pytest.mark.parametrize("fields", [{"environment": "staging"}, {"fleet": "other"}])
def test_another_fleet(fields: dict[str, str]) -> None:
    """Another fleet's or environment's report is none of ours."""
    gathered = sorted_out(report(targets={"bedrock": TargetReport(counts={"ok": 1})}, **fields))

    assert (gathered.seen, gathered.vantages) == ({}, {})


def test_what_is_remembered_of_a_proxy() -> None:
    """The last report is remembered as far as the next decision needs it."""
    told = replace(
        counts(3, ok=5),
        missing={"meta": "no secret"},
        table_formats=(1, 2),
    )

    assert sorted_out(told).vantages["p1"] == Vantage(
        boot="b1",
        seq=3,
        seen_s=NOON_S,
        counts={"bedrock": {"ok": 5}},
        started_s=NOON_S,
        missing={"meta": "no secret"},
        formats=(1, 2),
    )


@pytest.mark.parametrize(("silent_s", "known"), [(600, True), (600.1, False)])
def test_a_lost_proxy_is_forgotten(silent_s: float, known: bool) -> None:
    """A proxy without a report is remembered for ten minutes."""
    first = sorted_out(counts(ok=5))
    later = sorted_out(state=remembering(first), now_s=NOON_S + silent_s)

    assert ("p1" in later.vantages) is known


def test_a_report_that_stays_is_remembered() -> None:
    """As long as its last report is read, even a silent proxy's totals stay known: it would count anew else."""
    first = sorted_out(counts(ok=5))

    assert "p1" in sorted_out(counts(ok=5), state=remembering(first), now_s=NOON_S + 999).vantages


# --- the axes' words


def test_a_rate_limit_is_taken_in_once() -> None:
    """A deadline that stands in every report is taken in only with a new rate limit."""
    entry = TargetReport(counts={"rate_limit": 1}, throttled="HTTP 429", throttled_until_s=NOON_S + 60)
    first = sorted_out(report(targets={"bedrock": entry}))
    again = sorted_out(report(seq=2, targets={"bedrock": entry}), state=remembering(first))
    longer = replace(entry, counts={"rate_limit": 2}, throttled_until_s=NOON_S + 90)
    third = sorted_out(report(seq=3, targets={"bedrock": longer}), state=remembering(again))

    assert (first.seen["bedrock"].throttled_until_s, first.seen["bedrock"].throttled) == (
        NOON_S + 60,
        "HTTP 429",
    )
    assert again.seen["bedrock"].throttled_until_s == 0
    assert third.seen["bedrock"].throttled_until_s == NOON_S + 90


def test_a_ramp_limit_is_taken_in_once() -> None:
    """So is the word to go slower."""
    entry = TargetReport(counts={"capacity": 1}, softened_until_s=NOON_S + 10)
    first = sorted_out(report(targets={"bedrock": entry}))
    again = sorted_out(report(seq=2, targets={"bedrock": entry}), state=remembering(first))

    assert first.seen["bedrock"].softened_until_s == NOON_S + 10
    assert again.seen["bedrock"].softened_until_s == 0


def test_deadlines_of_an_unknown_old_proxy() -> None:
    """The deadlines in the first report of an old proxy hold, though its counts are history."""
    entry = TargetReport(
        counts={"rate_limit": 1}, throttled="x", throttled_until_s=NOON_S + 60, softened_until_s=NOON_S + 10
    )
    seen = sorted_out(report(targets={"bedrock": entry}, started_s=0)).seen["bedrock"]

    assert (seen.counts, seen.throttled_until_s, seen.softened_until_s) == ({}, NOON_S + 60, NOON_S + 10)


def test_the_latest_deadline_wins() -> None:
    """Of two proxies' words the later deadline counts, with its own detail."""
    late = TargetReport(
        counts={"rate_limit": 1, "capacity": 1}, throttled="late", throttled_until_s=9.0, softened_until_s=9.0
    )
    early = replace(late, throttled="early", throttled_until_s=8.0, softened_until_s=8.0)
    for first, second in ((late, early), (early, late)):
        seen = sorted_out(report("p1", targets={"bedrock": first}), report("p2", targets={"bedrock": second}))
        seen_one = seen.seen["bedrock"]
        assert (seen_one.throttled_until_s, seen_one.throttled, seen_one.softened_until_s) == (
            9.0,
            "late",
            9.0,
        )


def test_bars_and_trials() -> None:
    """What barred it, and how a trial ended, are passed on as they are."""
    entry = TargetReport(barred="HTTP 401", grant=3, grant_outcome="ok")
    seen = sorted_out(
        report(targets={"bedrock": entry}), report("p2", targets={"bedrock": TargetReport(grant=2)})
    ).seen

    assert (seen["bedrock"].barred, seen["bedrock"].trials) == ("HTTP 401", [(3, "ok")])


# --- probes


def test_a_generate_probe_is_about_its_target() -> None:
    """A generate probe concerns its own target only, and one that the plan knows."""
    result = probe("google", "500", ProbeKind.GENERATE)
    stranger = probe("google", "500", ProbeKind.GENERATE, target="nobody")

    assert {name: seen.probes for name, seen in sorted_out(probes=(result, stranger)).seen.items()} == {
        "google": [result]
    }


def test_a_reach_probe_is_about_its_provider() -> None:
    """A reach probe concerns every target of its provider, and of no other."""
    two = replace(
        PLAN, targets={**PLAN.targets, "mini": Target(name="mini", provider="google", model="mini")}
    )
    result = probe("google", "ok")

    assert set(gather(State(), Evidence(probes=(result,)), two, NOON_S).seen) == {"google", "mini"}


def test_paths() -> None:
    """An answer, even an error, shows the way; only silence does not."""
    gathered = sorted_out(
        probes=(
            probe("bedrock", "refused", at_s=1.0),
            probe("google", "500", at_s=2.0),
            probe("meta", "ok", at_s=3.0),
        ),
        state=State(
            paths={"bedrock": Path(answered_s=0.5), "google": Path(silent_s=0.7, detail="stream stalled")}
        ),
    )

    assert gathered.paths == {
        "bedrock": Path(answered_s=0.5, silent_s=1.0, detail="connection refused"),
        "google": Path(answered_s=2.0, silent_s=0.7),
        "meta": Path(answered_s=3.0),
    }


def test_a_missing_credential_is_no_silence() -> None:
    """Only an outage is silence: what was refused or never sent says nothing against the way."""
    result = replace(probe("bedrock", "ok"), outcome=Outcome(Fault.CREDENTIAL, "no secret"))

    assert sorted_out(probes=(result,)).paths["bedrock"].silent_s == 0


@pytest.mark.parametrize(
    ("paths", "suspect"),
    [
        ({}, False),
        ({"bedrock": Path(silent_s=5)}, False),
        ({"bedrock": Path(silent_s=5), "google": Path(silent_s=5)}, True),
        ({"bedrock": Path(silent_s=5), "google": Path(silent_s=5, answered_s=5)}, False),
        ({"bedrock": Path(silent_s=5), "google": Path(silent_s=5, answered_s=4)}, True),
        ({"bedrock": Path(silent_s=5), "google": Path(answered_s=6)}, False),
        ({"bedrock": Path(silent_s=5), "gone": Path(silent_s=5)}, False),
        ({"bedrock": Path(silent_s=5), "google": Path(silent_s=5), "gone": Path(answered_s=9)}, True),
    ],
)
def test_egress(paths: dict[str, Path], suspect: bool) -> None:
    """The leader's own way out is suspected if every provider asked, of two or more, has fallen silent."""
    assert sorted_out(state=State(paths=paths)).egress_suspect is suspect
