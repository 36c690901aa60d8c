"""Chat Completions: the whole answer and its chunks."""

from collections.abc import Iterator
from typing import Any, Final

from pointsman.fake.dialect import Event, Said, Use, sse

DONE: Final = b"data: [DONE]\n\n"


def usage_of(count_in: int, count_out: int) -> dict[str, Any]:
    """The usage of one completion."""
    return {
        "prompt_tokens": count_in,
        "completion_tokens": count_out,
        "total_tokens": count_in + count_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def completion(base: dict[str, Any], said: Said, count_in: int) -> dict[str, Any]:
    """A whole chat.completion. `base` has its id, created and model."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if said.uses else said.text,
        "refusal": None,
        "annotations": [],
    }
    if said.uses:
        message["tool_calls"] = [_tool_call(use, use.arguments) for use in said.uses]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(said)}
    return {
        **base,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage_of(count_in, said.count),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def chunks(
    base: dict[str, Any], said: Said, count_in: int, *, usage: bool, preamble: bytes
) -> Iterator[Event]:
    """The chunks of a stream and [DONE]; with `usage`, a last chunk without choices that holds it."""
    chunk = {**base, "object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": None}
    if usage:
        chunk["usage"] = None

    def piece(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**chunk, "choices": [choice]})

    yield Event(preamble + piece({"role": "assistant", "content": None if said.uses else ""}))
    for token in said.tokens:
        yield Event(piece({"content": token}), token=True)
    for index, use in enumerate(said.uses):
        yield Event(piece({"tool_calls": [{"index": index, **_tool_call(use, "")}]}))
        for part in use.pieces:
            call = {"index": index, "function": {"arguments": part}}
            yield Event(piece({"tool_calls": [call]}), token=True)
    yield Event(piece({}, _finish(said)))
    if usage:
        yield Event(sse({**chunk, "choices": [], "usage": usage_of(count_in, said.count)}))
    yield Event(DONE)


def _tool_call(use: Use, arguments: str) -> dict[str, Any]:
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": arguments}}


def _finish(said: Said) -> str:
    if said.cut:
        return "length"
    return "tool_calls" if said.uses else "stop"
