"""What a probe makes of a stream's events. Sans-I/O."""

import re
from typing import Any, Final

import msgspec

from pointsman.core import errors
from pointsman.core.errors import Fault, Outcome, Wire
from pointsman.core.model import Family
from pointsman.core.strangers import UNREADABLE

_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LENGTH: Final = frozenset({"length", "max_tokens"})
_OPENAI_TEXT: Final = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")
_ANTHROPIC_TEXT: Final = ("text", "thinking", "partial_json")


class Reading:
    """One stream, event by event.

    `begun`: a token has come; `ended`: the family's terminal event has; `cut`: the answer was ended by the
    probe's few tokens, which is an answer too; `error`: the error that the stream itself told.
    """

    def __init__(self, family: Family) -> None:
        self._see = self._anthropic if family is Family.ANTHROPIC else self._openai
        self._held = b""
        self.begun = False
        self.ended = False
        self.cut = False
        self.unreadable = False
        self.error: Any = None
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None

    def feed(self, chunk: bytes) -> bool:
        """Take bytes as they came; True when there is nothing more to learn."""
        *whole, self._held = _BOUNDARY.split(self._held + chunk)
        for block in whole:
            self._block(block)
        return self.ended or self.unreadable or self.error is not None

    def finish(self) -> None:
        """The stream is over; a last event may lack its blank line."""
        held, self._held = self._held, b""
        if held.strip() and not self.ended:
            self._block(held)

    def outcome(self) -> Outcome:
        """The verdict on a stream that is over."""
        if self.error is not None:
            return errors.of_stream_error(self.error)
        if self.unreadable:
            return errors.of_wire(Wire.BAD_BODY)
        if not self.ended:
            return errors.of_wire(Wire.TRUNCATED)
        if not (self.begun or self.cut):
            return Outcome(Fault.OUTAGE, "answered without a single token", status=200)
        return errors.SUCCESS

    def _block(self, block: bytes) -> None:
        lines = [line.partition(b":") for line in block.splitlines()]
        data = b"\n".join(value.removeprefix(b" ") for field, _, value in lines if field == b"data")
        if not data:
            return
        if data == b"[DONE]":
            self.ended = True
            return
        try:
            decoded = msgspec.json.decode(data)
        except UNREADABLE:
            self.unreadable = True
            return
        if not isinstance(decoded, dict):
            self.unreadable = True
        elif decoded.get("error"):
            self.error = decoded
        else:
            self._see(decoded)

    def _anthropic(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        delta = _dict(event.get("delta"))
        if kind == "content_block_delta":
            self.begun = self.begun or any(delta.get(name) for name in _ANTHROPIC_TEXT)
        elif kind == "message_start":
            self._usage(_dict(event.get("message")).get("usage"), "input_tokens", "output_tokens")
        elif kind == "message_delta":
            self.cut = self.cut or delta.get("stop_reason") in _LENGTH
            self._usage(event.get("usage"), "input_tokens", "output_tokens")
        elif kind == "message_stop":
            self.ended = True

    def _openai(self, chunk: dict[str, Any]) -> None:
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            told = _dict(choice)
            delta = _dict(told.get("delta"))
            self.begun = self.begun or any(delta.get(name) for name in _OPENAI_TEXT)
            self.cut = self.cut or told.get("finish_reason") in _LENGTH
        self._usage(chunk.get("usage"), "prompt_tokens", "completion_tokens")

    def _usage(self, usage: object, name_in: str, name_out: str) -> None:
        told = _dict(usage)
        if isinstance(told.get(name_in), int):
            self.tokens_in = told[name_in]
        if isinstance(told.get(name_out), int):
            self.tokens_out = told[name_out]


def _dict(value: object) -> dict[str, Any]:
    """A stranger's JSON is a dict where one is expected, or it is empty."""
    return value if isinstance(value, dict) else {}
