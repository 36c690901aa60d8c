"""The generate probe: the smallest honest completion, judged by how its stream ends."""

import time

from msgspec import structs

from pointsman.core import errors
from pointsman.core.errors import Effect, Fault, Outcome
from pointsman.probing.client import Answer, Client
from pointsman.probing.kinds import Ask, Seen
from pointsman.probing.reading import Reading


async def generate(client: Client, ask: Ask) -> Seen:
    """Ask the target for a few tokens."""
    assert ask.target is not None, "a generate probe is of a target"  # noqa: S101  a bug of ours, not of theirs
    started = time.monotonic()
    first_token_ms: float | None = None
    reading = Reading(ask.provider.family)

    def take(chunk: bytes) -> bool:
        nonlocal first_token_ms
        enough = reading.feed(chunk)
        if reading.begun and first_token_ms is None:
            first_token_ms = (time.monotonic() - started) * 1000
        return enough

    timing = ask.access.timing
    answer = await client.ask(
        "POST",
        ask.adapter.generate_url(ask.provider),
        headers=ask.headers(),
        timeout_s=timing.generate_timeout_s,
        body=ask.adapter.generate_body(ask.provider, ask.target, timing.generate_max_tokens),
        tls=ask.access.tls,
        sink=take,
    )
    outcome = known_good(_judge(answer, reading, ask))
    # Both clocks are read after the last bytes came, one after the other: the whole is never shorter than its part.
    latency_ms = max(answer.latency_ms, first_token_ms or 0.0)
    return Seen(outcome, latency_ms, first_token_ms, reading.tokens_in, reading.tokens_out)


def _judge(answer: Answer, reading: Reading, ask: Ask) -> Outcome:
    if answer.wire is not None:
        return errors.of_wire(answer.wire) if reading.error is None else reading.outcome()
    if answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream"):
        reading.finish()
        return reading.outcome()
    body = answer.json()
    outcome = errors.of_response(answer.status, answer.headers, body, now_s=time.time())
    if outcome.ok:
        return Outcome(Fault.OUTAGE, "answered without a stream", answer.status)
    marker = ask.adapter.ran_into_limit
    if answer.status == 400 and marker and marker in _message(body):
        return errors.SUCCESS
    return outcome


def known_good(outcome: Outcome) -> Outcome:
    """Our own request is right, so a provider that blames its caller for it has changed its contract or broken.

    Real outages have looked like this for hours: 400 and 429 from one model in seven regions, a safety filter
    gone wrong. Only a probe may conclude so; a live request with the same answer never counts.
    """
    if outcome.fault in {Fault.CALLER, Fault.CONTENT_FILTER} and outcome.effect is Effect.NONE:
        return structs.replace(outcome, fault=Fault.OUTAGE, detail=f"known-good probe got {outcome.detail}")
    return outcome


def _message(body: object) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""
