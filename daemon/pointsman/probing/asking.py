"""One probe from question to evidence: which credential it takes, and what is told of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from pointsman import telemetry
from pointsman.core.cadence import Probe
from pointsman.core.errors import Fault
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.probing.client import Client
from pointsman.probing.embed import embed
from pointsman.probing.generate import generate
from pointsman.probing.kinds import Ask, ProbeFn, Seen
from pointsman.probing.reach import reach

KINDS: Final[Mapping[ProbeKind, ProbeFn]] = {ProbeKind.REACH: reach, ProbeKind.GENERATE: generate}


def _embeds(ask: Ask) -> bool:
    return ask.target is not None and ask.target.embeds


async def ask_once(client: Client, kind: ProbeKind, ask: Ask) -> tuple[Seen, int]:
    """What was seen, and the place of the credential that was used last.

    During a rotation two credentials are configured, and one of them may be refused: the provider's verdict is
    that of the other. With both refused it is the refusal of the preferred one.
    """
    probe = embed if _embeds(ask) else KINDS[kind]
    seen = await probe(client, ask)
    if seen.outcome.fault is Fault.CREDENTIAL:
        for place in range(len(ask.access.secrets)):
            if place != ask.credential:
                other = await probe(client, replace(ask, credential=place))
                if other.outcome.fault is not Fault.CREDENTIAL:
                    return other, place
    return seen, ask.credential


def result(probe: Probe, seen: Seen, *, at_s: float, vantage: str) -> ProbeResult:
    """What a probe saw, as evidence."""
    return ProbeResult(
        provider=probe.provider,
        target=probe.target,
        kind=probe.kind,
        outcome=seen.outcome,
        at_s=at_s,
        vantage=vantage,
        latency_ms=seen.latency_ms,
        first_token_ms=seen.first_token_ms,
    )


def attributes(kind: ProbeKind, ask: Ask, seen: Seen, cost_usd: float) -> dict[str, str | int | float]:
    """What a probe's span says. The host and no URL; the class of an error and no body."""
    said: dict[str, str | int | float | None] = {
        telemetry.PROBE_KIND: kind.value,
        telemetry.PROVIDER: ask.provider.name,
        telemetry.GEN_AI_PROVIDER_NAME: ask.provider.family.value,
        telemetry.SERVER_ADDRESS: urlsplit(ask.provider.base_url).hostname,
        telemetry.FAULT: seen.outcome.fault.value,
        telemetry.DETAIL: seen.outcome.detail or None,
        telemetry.HTTP_STATUS: seen.outcome.status or None,
        telemetry.ERROR_TYPE: None if seen.outcome.ok else seen.outcome.fault.value,
        telemetry.FIRST_TOKEN_MS: seen.first_token_ms,
        telemetry.GEN_AI_USAGE_INPUT_TOKENS: seen.tokens_in,
        telemetry.GEN_AI_USAGE_OUTPUT_TOKENS: seen.tokens_out,
    }
    if ask.target is not None:
        said |= {
            telemetry.TARGET: ask.target.name,
            telemetry.GEN_AI_OPERATION_NAME: "embeddings" if _embeds(ask) else "chat",
            telemetry.GEN_AI_REQUEST_MODEL: ask.target.model,
            telemetry.PROBE_COST_USD: cost_usd,
        }
    return {name: value for name, value in said.items() if value is not None}
