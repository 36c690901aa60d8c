"""Plans, reports and published tables of any size, for every bench the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.core.decide import decide
from pointsman.core.errors import SUCCESS
from pointsman.core.evidence import (
    STREAM,
    UNARY,
    Evidence,
    Lane,
    ProbeKind,
    ProbeResult,
    Report,
    TargetReport,
    Verb,
    Word,
)
from pointsman.core.latency import LATENCY_EDGES_MS
from pointsman.core.model import Decision, Plan, State
from pointsman.core.table import Table
from pointsman.store.client import Store
from pointsman.store.keys import Keys
from pointsman.store.records import Lease

ENVIRONMENT = "development"
KEYS = Keys(prefix="bench", environment=ENVIRONMENT, fleet="default")
NOON_S = 1_800_014_400.0


def sized(
    targets: int,
    routes: int,
    *,
    per_provider: int = 10,
    base_url: str = "http://127.0.{0}.{1}:9/v1",
    **more: Any,
) -> dict[str, Any]:
    """A configuration of so many targets, spread over providers; each route has five of them in its chain.

    `base_url` may use {0} and {1}, which together number the provider.
    """
    providers = {
        f"p{number}": {"family": "openai", "base_url": base_url.format(1 + number // 250, 1 + number % 250)}
        for number in range(-(-targets // per_provider))
    }
    # Neighbours in a chain are of different providers, as one would have it.
    names = {
        f"t{number}": {"provider": f"p{number % len(providers)}", "model": f"model-{number}"}
        for number in range(targets)
    }
    chains = [
        tuple(f"t{(5 * number + place) % targets}" for place in range(min(5, targets)))
        for number in range(routes)
    ]
    return {
        "environment": ENVIRONMENT,
        "store": {"key_prefix": KEYS.prefix},
        "providers": providers,
        "targets": names,
        "routes": {
            f"r{number}": {"weights": _weights(chain), "chain": chain} for number, chain in enumerate(chains)
        },
    } | more


def _weights(chain: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = dict(zip(chain, (50, 30, 20), strict=False))
    weights[chain[0]] += 100 - sum(weights.values())
    return weights


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Settings as from a file that says `config`, without the checks that take other sections into account."""
    return Settings.model_validate(config)


def first_decision(plan: Plan, *, epoch: int, now_s: float = NOON_S) -> Decision:
    """What a daemon decides when it starts with `plan` and knows nothing else."""
    word = Word(id="1-0", verb=Verb.APPLY_PLAN, author="bench", reason="", args={"plan": to_builtins(plan)})
    return decide(State(), Evidence(words=(word,)), now_s=now_s, epoch=epoch, published=None, published_s=0.0)


async def publish_first(store: Store, settings: Settings) -> tuple[Lease, Decision]:
    """Lead for ten minutes, and publish the first table of `settings`."""
    lease = await store.acquire("bench", 600.0, 0)
    assert lease is not None, "somebody else leads this store"
    decision = first_decision(to_plan(settings), epoch=lease.epoch, now_s=await store.now_s())
    assert decision.table is not None
    await store.publish(lease, decision.table, decision.reasons, decision.deadlines)
    return lease, decision


def probe(provider: str, target: str = "", *, at_s: float) -> ProbeResult:
    """A good probe: of a target, or the free one of a provider."""
    return ProbeResult(
        provider=provider,
        target=target,
        kind=ProbeKind.GENERATE if target else ProbeKind.REACH,
        outcome=SUCCESS,
        at_s=at_s,
        vantage="bench",
        latency_ms=420.0,
        first_token_ms=310.0 if target else None,
    )


def busy_target(requests: int, at_s: float, generation: int) -> TargetReport:
    """What a proxy knows of a target after so many requests, most of them good, some of them streams."""
    middle = len(LATENCY_EDGES_MS) // 2
    spread = dict.fromkeys(range(middle - 6, middle + 6), requests // 12)
    return TargetReport(
        counts={"ok": requests, "caller": requests // 50, "overload": requests // 1000},
        latency_ms=spread,
        first_token_ms={cell - 4: count for cell, count in spread.items()},
        tokens_in=900 * requests,
        tokens_out=200 * requests,
        cost_usd=0.002 * requests,
        generation=generation,
        lanes={UNARY: Lane(last_ok_s=at_s), STREAM: Lane(last_ok_s=at_s)},
        callers=0x5A5A_A5A5_1234_8765,
    )


def report(
    proxy: int, targets: Sequence[str], *, beat: int, at_s: float, table: Table | None = None
) -> Report:
    """The report of a proxy that has seen traffic to `targets` under `table`, its `beat`th."""
    generations = {name: entry.generation for name, entry in table.targets.items()} if table else {}
    return Report(
        proxy=f"proxy-{proxy}",
        boot="boot",
        seq=beat,
        environment=ENVIRONMENT,
        fleet="default",
        started_s=at_s - beat,
        address="127.0.0.1:8480",
        targets={
            name: busy_target(1000 + 50 * beat, at_s, generations.get(name, int(at_s))) for name in targets
        },
    )
