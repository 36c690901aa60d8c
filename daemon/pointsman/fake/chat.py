"""Chat Completions: the whole answer and its chunks."""

from collections.abc import Iterator
from typing import Any, Final

from pointsman.fake.dialect import Event, sse

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


def completion(base: dict[str, Any], tokens: list[str], count_in: int, *, cut: bool) -> dict[str, Any]:
    """A whole chat.completion. `base` has its id, created and model."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(tokens),
        "refusal": None,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(cut=cut)}
    return {
        **base,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage_of(count_in, len(tokens)),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def chunks(
    base: dict[str, Any], tokens: list[str], count_in: int, *, cut: bool, usage: bool, preamble: bytes
) -> Iterator[Event]:
    """The chunks of a stream and [DONE]; with `usage`, a last chunk without choices that holds it."""
    chunk = {**base, "object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": None}
    if usage:
        chunk["usage"] = None

    def piece(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**chunk, "choices": [choice]})

    yield Event(preamble + piece({"role": "assistant", "content": ""}))
    for token in tokens:
        yield Event(piece({"content": token}), token=True)
    yield Event(piece({}, _finish(cut=cut)))
    if usage:
        yield Event(sse({**chunk, "choices": [], "usage": usage_of(count_in, len(tokens))}))
    yield Event(DONE)


def _finish(*, cut: bool) -> str:
    return "length" if cut else "stop"
