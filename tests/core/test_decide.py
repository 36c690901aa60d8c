"""The whole policy: what is decided, published and told."""

from typing import Any

import pytest
from msgspec.structs import replace

from pointsman.core.decide import decide
from pointsman.core.evidence import Evidence, ProbeKind, Verb
from pointsman.core.model import Health, OnExpiry, Overlay, OverlayKind, Phase, Policy, State
from pointsman.core.standing import standing
from pointsman.core.table import Version, validate
from world import CHAT, NOON_S, World, plan_of

REACH = ProbeKind.REACH


@pytest.fixture
def world() -> World:
    return World(plan_of(CHAT))


def test_without_a_configuration() -> None:
    """Before the first configuration there is no table; words are answered all the same."""
    world = World()
    world.say(Verb.DRAIN, target="meta")
    decision = world.tick()

    assert (decision.table, decision.reasons, decision.notes) == (None, {}, ())
    assert [answer.ok for answer in decision.answers] == [False]
    assert world.state == State(words_cursor="1-0")


def test_the_first_table(world: World) -> None:
    """The first configuration is published at once, as the first revision of the leader's epoch."""
    table = world.table
    assert table is not None

    assert (table.version, table.issued_s) == (Version(7, 1), NOON_S)
    assert (table.environment, table.fleet) == ("production", "default")
    assert validate(table) == []
    entry = table.targets["meta"]
    assert (entry.provider, entry.model, entry.family, entry.base_url, entry.generation, entry.headers) == (
        "meta", "meta-1", "openai", "https://meta.test/v1", int(NOON_S), {},
    )  # fmt: skip
    route = table.routes["chat"]
    assert (route.family, route.sticky_by, route.max_attempts, route.last_resort) == (
        "openai",
        ("session",),
        0,
        3,
    )
    assert world.told("table.published") == [
        "table 7.1: route chat: bedrock 0 % → 50 %, google 0 % → 30 %, meta 0 % → 20 %"
    ]


def test_what_a_route_says_is_passed_on() -> None:
    """Stickiness, attempts and a provider's headers stand in the table as in the plan."""
    plan = plan_of(CHAT)
    route = replace(plan.routes["chat"], sticky_by=("user",), max_attempts=2)
    provider = replace(plan.providers["meta"], headers={"x-a": "b"})
    world = World(replace(plan, routes={"chat": route}, providers={**plan.providers, "meta": provider}))

    assert world.table is not None
    assert (world.table.routes["chat"].sticky_by, world.table.routes["chat"].max_attempts) == (("user",), 2)
    assert world.table.targets["meta"].headers == {"x-a": "b"}


# --- when it is published


def test_nothing_new(world: World) -> None:
    """What routes the same is not published again."""
    world.probe("meta", "ok")

    assert world.tick(100.0).table is None


def test_versions_go_on(world: World) -> None:
    """The revision goes on from what is published, and the epoch is the leader's, whatever it was."""
    world.epoch = 9
    world.say(Verb.DRAIN, target="meta")

    assert str(world.tick().table.version) == "9.2"  # type: ignore[union-attr]


def test_published_first(world: World) -> None:
    """Where nothing is published any more, the table is, at once."""
    world.table, world.published_s = None, world.now_s

    assert world.tick().table is not None


def test_a_trip_goes_at_once(world: World) -> None:
    """Five failures in a row: out in that decision, however young the table is."""
    world.live("p1", "bedrock", "refused", 5)
    decision = world.tick(0.0)

    assert decision.urgent
    assert world.shares() == {"google": 60, "meta": 40}
    assert "marked bedrock failed" in world.told("target.tripped")[0]


@pytest.mark.parametrize("text", ["429", "401"])
def test_throttles_and_bars_go_at_once(world: World, text: str) -> None:
    """So do a rate limit and a bar."""
    world.live("p1", "bedrock", text, 5)

    assert world.tick(0.0).urgent
    assert world.shares() == {"google": 60, "meta": 40}


def test_a_word_goes_at_once(world: World) -> None:
    """So does an operator's word, if only for one basis point; a refused one does not count."""
    world.say(Verb.SET_WEIGHTS, route="chat", shares_bp={"bedrock": 5001, "google": 2999, "meta": 2000})
    world.say(Verb.DRAIN, target="nobody")
    decision = world.tick(0.0)

    assert decision.urgent
    assert world.shares() == {"bedrock": 50.01, "google": 29.99, "meta": 20}
    world.say(Verb.DRAIN, target="nobody")
    assert not world.tick(0.0).urgent


def test_an_expiry_goes_at_once(world: World) -> None:
    """So does the end of a pin; the note says whose it was."""
    world.say(Verb.PIN, route="chat", shares_bp={"meta": 10_000}, for_s=0.1)
    world.tick()

    assert world.tick(0.1).urgent
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}
    assert world.told("overlay.expired") == ["manual on chat by ann is over: a test"]


def test_what_is_not_urgent_waits(world: World) -> None:
    """Anything else waits half a second after the last table."""
    world.live("p1", "bedrock", "slow_down")
    quiet = world.tick(0.4)

    assert (quiet.urgent, quiet.table) == (False, None)
    assert world.tick(0.1).table is not None
    assert world.shares() == {"bedrock": 25, "google": 45, "meta": 30}


def test_a_small_change_waits() -> None:
    """A change under 50 basis points waits for a minute, and is published then."""
    world = World(plan_of({"chat": {"bedrock": 99.2, "google": 0.8}}))
    world.live("p1", "google", "slow_down", softened_until_s=NOON_S + 300)
    assert world.tick(59.9).table is None
    assert world.tick(0.1).table is not None
    assert world.shares() == {"bedrock": 99.6, "google": 0.4}


def test_fifty_basis_points_are_enough() -> None:
    """50 basis points need not wait."""
    world = World(plan_of({"chat": {"bedrock": 99, "google": 1}}))
    world.live("p1", "google", "slow_down")

    assert world.tick(0.5).table is not None


def test_a_route_more_goes_at_once(world: World) -> None:
    """Another set of routes is published at once, even if nobody's word is behind it."""
    plan = world.state.plan
    assert plan is not None
    more = replace(plan, routes={**plan.routes, "small": replace(plan.routes["chat"], name="small")})
    baselines = {**world.state.baselines, "small": world.state.baselines["chat"]}
    world.state = replace(world.state, plan=more, baselines=baselines)

    assert world.tick(0.0).table is not None


def test_a_slow_start_ends_at_the_baseline() -> None:
    """Even a target of half a percent is back at exactly its share."""
    world = World(plan_of({"chat": {"bedrock": 99.6, "google": 0.4}}))
    world.trip("google")
    world.tick_for(61)
    world.probe("google", "ok")
    world.probe("google", "ok")
    world.tick_for(125)

    assert world.shares() == {"bedrock": 99.6, "google": 0.4}
    assert world.phase("google") == "healthy"


def test_new_form(world: World) -> None:
    """A table that routes the same shares in another form says so."""
    health = world.state.health["meta"]
    world.state = replace(world.state, health={**world.state.health, "meta": replace(health, generation=1)})
    world.tick(1.0)

    assert world.told("table.published")[-1] == "table 7.2: the same routes, a new form"


# --- deadlines


def canary(not_after_s: float, on_expiry: OnExpiry = OnExpiry.DROP) -> Overlay:
    return Overlay(
        id="c", kind=OverlayKind.CANARY, route="chat", shares_bp={"google": 10_000}, owner="ann", reason="r",
        created_s=NOON_S, not_after_s=not_after_s, on_expiry=on_expiry,
    )  # fmt: skip


def test_stages(world: World) -> None:
    """What drops by itself leaves the shares of afterwards in the table, and its deadline beside it."""
    world.state = replace(world.state, overlays=(canary(NOON_S + 60),))
    decision = world.tick(1.0)

    assert world.table is not None
    assert [(s.overlay, s.shares_bp) for s in world.table.routes["chat"].later] == [
        ("c", {"bedrock": 5000, "google": 3000, "meta": 2000})
    ]
    assert decision.deadlines == {"c": NOON_S + 60}


def test_a_renewed_deadline_is_no_new_table(world: World) -> None:
    """A renewed deadline is told beside the table, not by another."""
    world.state = replace(world.state, overlays=(canary(NOON_S + 60),))
    world.tick(1.0)
    world.state = replace(world.state, overlays=(canary(NOON_S + 90),))
    decision = world.tick(1.0)

    assert decision.table is None
    assert decision.deadlines == {"c": NOON_S + 90}


def test_no_deadline(world: World) -> None:
    """What has no end has no deadline."""
    world.say(Verb.FAILOVER, **{"from": "bedrock"})

    assert world.tick().deadlines == {}


def test_stages_mind_health(world: World) -> None:
    """The shares of afterwards leave out who is out now."""
    world.state = replace(world.state, overlays=(canary(NOON_S + 60),))
    world.trip("bedrock")

    assert world.table is not None
    assert world.table.routes["chat"].later[0].shares_bp == {"google": 6000, "meta": 4000}


# --- standings


def standing_of(world: World, target: str = "bedrock", **health: Any) -> Any:
    given = Health(**{"phase": Phase.HEALTHY, **health})
    state = replace(world.state, health={**world.state.health, target: given})
    assert state.plan is not None
    return standing(target, state, state.plan, NOON_S)


STANDINGS: list[tuple[dict[str, Any], float, float, str]] = [
    ({}, 1.0, 0.0, ""),
    ({"phase": Phase.SUSPECT}, 1.0, 0.0, ""),
    (
        {"phase": Phase.COOLDOWN, "cooldown_until_s": NOON_S + 60, "reason": "5 × HTTP 500"},
        0.0, NOON_S + 60, "cooldown until 12:01:00 after 5 × HTTP 500",
    ),
    (
        {"phase": Phase.COOLDOWN, "cooldown_until_s": NOON_S + 60, "throttled_until_s": NOON_S + 90, "reason": "x"},
        0.0, NOON_S + 90, "cooldown until 12:01:00 after x",
    ),
    (
        {"phase": Phase.HALF_OPEN, "cooldown_until_s": NOON_S - 1, "since_s": NOON_S, "trials_ok": 1, "reason": "x"},
        0.0, NOON_S, "half-open since 12:00:00, 1 good trials; x",
    ),
    (
        {"throttled_until_s": NOON_S + 9, "throttled": "HTTP 429", "softened_until_s": NOON_S + 9},
        0.0, NOON_S + 9, "rate limited until 12:00:09 (HTTP 429)",
    ),
    (
        {"softened_until_s": NOON_S + 9},
        0.5, 0.0, "half weight until 12:00:09: the provider asks to go slower",
    ),
    ({"back_s": NOON_S - 12}, 0.3, NOON_S - 999, "slow start at 30 % since 11:59:48"),
    ({"throttled_until_s": NOON_S, "throttled": "x"}, 1.0, NOON_S, ""),
    ({"softened_until_s": NOON_S}, 1.0, 0.0, ""),
]  # fmt: skip


@pytest.mark.parametrize(("health", "factor", "returns_s", "why"), STANDINGS)
def test_standings(world: World, health: dict[str, Any], factor: float, returns_s: float, why: str) -> None:
    """A target's standing, with the sentence that explains it."""
    found = standing_of(world, **health)

    assert found.eligible
    assert found.factor == pytest.approx(factor)
    assert found.why == why
    assert returns_s in {found.returns_s, NOON_S - 999}


def test_standing_of_who_refuses(world: World) -> None:
    """Refusal and capacity are passed on."""
    assert standing_of(world, refuses=True).refuses
    small = World(plan_of(CHAT, capacities={"bedrock": 7.0}))
    assert standing_of(small).capacity_rps == 7.0
    assert standing_of(small, barred="x").capacity_rps == 7.0
    assert standing_of(small, "meta").capacity_rps is None


def test_unfit(world: World) -> None:
    """A barred or drained target is not eligible; drained is said first."""
    barred = standing_of(world, barred="HTTP 401")
    world.say(Verb.DRAIN, target="bedrock")
    world.tick()
    drained = standing_of(world, barred="HTTP 401")

    assert (barred.eligible, barred.factor, barred.why) == (False, 0, "barred: HTTP 401")
    assert (drained.eligible, drained.factor, drained.why) == (False, 0, "drained by ann: a test")


def test_rejected_by_every_proxy(world: World) -> None:
    """A target that no live proxy can serve has no share; one that any can has."""
    world.beat("p1", missing={"bedrock": "no secret"})
    world.beat("p2")
    world.tick(1.0)
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}

    world.beat("p2", missing={"bedrock": "no secret either"})
    world.tick(1.0)
    assert world.shares() == {"google": 60, "meta": 40}
    assert world.why("bedrock") == "50 % by baseline; rejected by every proxy: no secret"

    world.beat("p2", missing={})
    world.tick(1.0)
    assert world.shares()["bedrock"] == 50


def test_a_lost_proxy_rejects_nothing(world: World) -> None:
    """What a lost proxy cannot serve does not matter; it is lost after five seconds."""
    world.beat("p1", missing={"bedrock": "no secret"})
    world.tick()
    world.tick(0.5)
    world.tick(4.5)
    assert world.shares() == {"google": 60, "meta": 40}

    world.tick(0.1)
    assert world.shares() == {"bedrock": 50, "google": 30, "meta": 20}


# --- determinism and thrift


def test_the_same_again(world: World) -> None:
    """The same state, evidence and time are the same decision; nothing that is passed in is changed."""
    world.live("p1", "bedrock", "500", 5)
    evidence = Evidence(reports=tuple(world.reports.values()))
    before = repr(world.state)
    given: dict[str, Any] = {"now_s": NOON_S + 1, "epoch": 7, "published": world.table, "published_s": NOON_S}
    first, second = decide(world.state, evidence, **given), decide(world.state, evidence, **given)

    assert first == second
    assert repr(world.state) == before


def test_what_did_not_change_is_the_same(world: World) -> None:
    """A quiet tick leaves the very objects, so that saving is cheap."""
    before = world.state
    world.tick(1.0)

    assert world.state.health is before.health
    assert world.state == before


def test_only_what_changed_changes(world: World) -> None:
    """Evidence about one target leaves the others' objects alone."""
    before = world.state.health
    world.probe("meta", "ok")
    world.tick(1.0)

    assert world.state.health["bedrock"] is before["bedrock"]
    assert world.phase("meta") == "healthy"


def test_strangers_begin_now(world: World) -> None:
    """A target of which nothing is known is unknown since now; its counters begin above what proxies remember."""
    assert world.state.health["meta"] == Health(since_s=NOON_S, generation=int(NOON_S), grant=int(NOON_S))


def test_defaults() -> None:
    """The thresholds without a setting are the runbooks'."""
    assert Policy() == Policy(
        probe_failures=3, live_failures=5, error_ratio=0.05, error_ratio_window_s=60, error_ratio_min_samples=20,
        window_s=300, cooldown_max_s=300, half_open_trials=2, slow_start_s=60, slow_start_floor=0.10,
        quota_recheck_s=300, throttle_default_s=10, soften_s=10, proxy_lost_s=5, publish_min_change_bp=50,
        publish_min_gap_s=0.5,
    )  # fmt: skip
