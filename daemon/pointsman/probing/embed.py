"""The generate probe of a target for embeddings: the embedding of one word, judged by whether it is one."""

import time
from typing import Any

import msgspec

from pointsman.core import errors
from pointsman.core.errors import Fault, Outcome, Wire
from pointsman.probing.client import Answer, Client
from pointsman.probing.generate import known_good
from pointsman.probing.kinds import Ask, Seen


async def embed(client: Client, ask: Ask) -> Seen:
    """Ask the target for the embedding of a word."""
    assert ask.target is not None, "an embeddings probe is of a target"  # noqa: S101  a bug of ours, not of theirs
    answer = await client.ask(
        "POST",
        ask.adapter.embeddings_url(ask.provider),
        headers=ask.headers(),
        timeout_s=ask.access.timing.generate_timeout_s,
        body=msgspec.json.encode({"model": ask.target.model, "input": "hi"}),
        tls=ask.access.tls,
    )
    if answer.wire is not None:
        return Seen(errors.of_wire(answer.wire), answer.latency_ms)
    body = answer.json()
    told: dict[str, Any] = body if isinstance(body, dict) else {}
    usage = told.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    outcome = known_good(_judge(answer, body, told))
    return Seen(outcome, answer.latency_ms, tokens_in=tokens if isinstance(tokens, int) else None)


def _judge(answer: Answer, body: object, told: dict[str, Any]) -> Outcome:
    outcome = errors.of_response(answer.status, answer.headers, body, now_s=time.time())
    if not outcome.ok:
        return outcome
    if body is None:
        return errors.of_wire(Wire.BAD_BODY)
    data = told.get("data")
    first = data[0] if isinstance(data, list) and data else None
    if not (isinstance(first, dict) and first.get("embedding")):
        return Outcome(Fault.OUTAGE, "answered without an embedding", answer.status)
    return errors.SUCCESS
