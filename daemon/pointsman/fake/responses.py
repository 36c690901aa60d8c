"""The Responses API: the response object, and the events by which it grows."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from msgspec import Struct

from pointsman.fake.dialect import Event, Said, Use, sse

# OpenAI refuses a smaller `max_output_tokens` with 400 ("Expected a value >= 16").
OUTPUT_TOKENS_MIN: Final = 16
# What an event says, and whether it carries a token.
_Event = tuple[dict[str, Any], bool]


class Step(Struct, frozen=True):
    """One event, and what is in it."""

    payload: dict[str, Any]
    event: Event


def response(
    response_id: str, model: str, created_s: int, body: dict[str, Any], *, limit: int | None
) -> dict[str, Any]:
    """A response to `body` that has just begun."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": limit,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def response_events(
    base: dict[str, Any], new_id: Callable[[str], str], said: Said, count_in: int
) -> Iterator[Step]:
    """Every event from response.created to response.completed (response.incomplete when cut short)."""
    for number, (payload, token) in enumerate(_steps(base, new_id, said, count_in)):
        numbered = {**payload, "sequence_number": number}
        yield Step(numbered, Event(sse(numbered, payload["type"]), token))


def _steps(base: dict[str, Any], new_id: Callable[[str], str], said: Said, count_in: int) -> Iterator[_Event]:
    yield {"type": "response.created", "response": base}, False
    yield {"type": "response.in_progress", "response": base}, False
    output = []
    for index, use in enumerate(said.uses):
        output.append((yield from _call_steps(new_id("fc_"), index, use)))
    if not said.uses:
        output.append((yield from _message_steps(new_id("msg_"), said)))
    status = _status(cut=said.cut)
    ended = {
        **base,
        "status": status,
        "output": output,
        "incomplete_details": {"reason": "max_output_tokens"} if said.cut else None,
        "usage": _usage(count_in, said.count),
    }
    yield {"type": f"response.{status}", "response": ended}, False


def _message_steps(item_id: str, said: Said) -> Generator[_Event, None, dict[str, Any]]:
    """How a text grows; returns its item."""
    item: dict[str, Any] = {
        "id": item_id,
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    here = {"item_id": item_id, "output_index": 0, "content_index": 0}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}, False
    yield {"type": "response.content_part.added", **here, "part": _part("")}, False
    for token in said.tokens:
        yield {"type": "response.output_text.delta", **here, "delta": token, "logprobs": []}, True
    yield {"type": "response.output_text.done", **here, "text": said.text, "logprobs": []}, False
    yield {"type": "response.content_part.done", **here, "part": _part(said.text)}, False
    item = {**item, "status": _status(cut=said.cut), "content": [_part(said.text)]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}, False
    return item


def _call_steps(item_id: str, index: int, use: Use) -> Generator[_Event, None, dict[str, Any]]:
    """How a call of a function grows; returns its item."""
    item: dict[str, Any] = {
        "id": item_id,
        "type": "function_call",
        "status": "in_progress",
        "arguments": "",
        "call_id": use.id,
        "name": use.name,
    }
    here = {"item_id": item_id, "output_index": index}
    yield {"type": "response.output_item.added", "output_index": index, "item": item}, False
    for piece in use.pieces:
        yield {"type": "response.function_call_arguments.delta", **here, "delta": piece}, True
    yield {"type": "response.function_call_arguments.done", **here, "arguments": use.arguments}, False
    item = {**item, "status": _status(cut=not use.whole), "arguments": use.arguments}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}, False
    return item


def _status(*, cut: bool) -> str:
    return "incomplete" if cut else "completed"


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
