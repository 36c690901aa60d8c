"""The reach probe: free, and shows name, TLS, edge and credential. That a model works, it does not show."""

import time

from pointsman.core import errors
from pointsman.core.errors import Effect, Fault, Outcome
from pointsman.probing.client import Client
from pointsman.probing.kinds import Ask, Seen

# What says something of the provider as a whole. A rate limit of the list is the list's own, and a list that
# is not there says nothing about completions: in both cases the edge has answered.
_TELLING = frozenset({Effect.BREAKER, Effect.BAR})


async def reach(client: Client, ask: Ask) -> Seen:
    """Ask the provider's free question."""
    answer = await client.ask(
        "GET",
        ask.adapter.reach_url(ask.provider),
        headers=ask.headers(),
        timeout_s=ask.access.timing.reach_timeout_s,
        tls=ask.access.tls,
    )
    if answer.wire is not None:
        return Seen(errors.of_wire(answer.wire), answer.latency_ms)
    outcome = errors.of_response(answer.status, answer.headers, answer.json(), now_s=time.time())
    blind = outcome.fault is Fault.CREDENTIAL and not ask.adapter.reach_shows_credential
    if blind or (not outcome.ok and outcome.effect not in _TELLING):
        outcome = Outcome(Fault.OK, f"reached ({outcome.detail})", answer.status)
    return Seen(outcome, answer.latency_ms)
