"""Messages: the blocks of an answer, whole and as they grow."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from pointsman.fake.dialect import Event, Said, Use, sse


class Block(Struct, frozen=True):
    """A content block: as it begins, its deltas with whether they are tokens, and as it is in the end."""

    start: dict[str, Any]
    deltas: list[tuple[dict[str, Any], bool]]
    whole: dict[str, Any]


def blocks(said: Said) -> list[Block]:
    """A text, or the uses of tools."""
    return [_tool_use(use) for use in said.uses] or [_text(said)]


def stop_reason(said: Said) -> str:
    """Why it ends."""
    if said.cut:
        return "max_tokens"
    return "tool_use" if said.uses else "end_turn"


def message_events(message: dict[str, Any], said: Said) -> Iterator[Event]:
    """Every event from message_start to message_stop. `message` is one that has just begun."""
    yield Event(sse({"type": "message_start", "message": message}, "message_start"))
    for index, block in enumerate(blocks(said)):
        start = {"type": "content_block_start", "index": index, "content_block": block.start}
        yield Event(sse(start, "content_block_start"))
        if index == 0:
            yield Event(sse({"type": "ping"}, "ping"))
        for delta, token in block.deltas:
            piece = {"type": "content_block_delta", "index": index, "delta": delta}
            yield Event(sse(piece, "content_block_delta"), token)
        yield Event(sse({"type": "content_block_stop", "index": index}, "content_block_stop"))
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(said), "stop_sequence": None},
        "usage": {"output_tokens": said.count},
    }
    yield Event(sse(end, "message_delta"))
    yield Event(sse({"type": "message_stop"}, "message_stop"))


def _text(said: Said) -> Block:
    deltas = [({"type": "text_delta", "text": token}, True) for token in said.tokens]
    return Block({"type": "text", "text": ""}, deltas, {"type": "text", "text": said.text})


def _tool_use(use: Use) -> Block:
    """The input comes as the pieces of its JSON, after an empty one. Of one that is cut nothing is left when whole."""
    start = {"type": "tool_use", "id": use.id, "name": use.name, "input": {}}
    pieces = [("", False), *((piece, True) for piece in use.pieces)]
    deltas = [({"type": "input_json_delta", "partial_json": piece}, token) for piece, token in pieces]
    made = msgspec.json.decode(use.arguments) if use.whole else {}
    return Block(start, deltas, {**start, "input": made})
