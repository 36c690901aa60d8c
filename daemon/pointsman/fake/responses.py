"""The Responses API: the response object, and the events by which it grows."""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from pointsman.fake.dialect import Event, sse

# OpenAI refuses a smaller `max_output_tokens` with 400 ("Expected a value >= 16").
OUTPUT_TOKENS_MIN: Final = 16


class Step(Struct, frozen=True):
    """One event, and what is in it."""

    payload: dict[str, Any]
    event: Event


def response(
    response_id: str, model: str, created_s: int, *, limit: int | None, previous: object, instructions: object
) -> dict[str, Any]:
    """A response that has just begun."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": instructions,
        "max_output_tokens": limit,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": previous,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def response_events(
    base: dict[str, Any], item_id: str, tokens: list[str], count_in: int, *, cut: bool
) -> Iterator[Step]:
    """Every event from response.created to response.completed (response.incomplete when cut short)."""
    steps = _steps(base, item_id, tokens, count_in, cut=cut)
    for number, (payload, token) in enumerate(steps):
        numbered = {**payload, "sequence_number": number}
        yield Step(numbered, Event(sse(numbered, payload["type"]), token))


def _steps(
    base: dict[str, Any], item_id: str, tokens: list[str], count_in: int, *, cut: bool
) -> Iterator[tuple[dict[str, Any], bool]]:
    status = "incomplete" if cut else "completed"
    item: dict[str, Any] = {
        "id": item_id,
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    here = {"item_id": item_id, "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": base}, False
    yield {"type": "response.in_progress", "response": base}, False
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}, False
    yield {"type": "response.content_part.added", **here, "part": _part("")}, False
    for token in tokens:
        yield {"type": "response.output_text.delta", **here, "delta": token, "logprobs": []}, True
    text = "".join(tokens)
    yield {"type": "response.output_text.done", **here, "text": text, "logprobs": []}, False
    yield {"type": "response.content_part.done", **here, "part": _part(text)}, False
    item = {**item, "status": status, "content": [_part(text)]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}, False
    ended = {
        **base,
        "status": status,
        "output": [item],
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": _usage(count_in, len(tokens)),
    }
    yield {"type": f"response.{status}", "response": ended}, False


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(count_in: int, count_out: int) -> dict[str, Any]:
    return {
        "input_tokens": count_in,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": count_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": count_in + count_out,
    }
