"""The requests that the proxy's callers send in its bench, as bytes, and the answer of their providers. Pure.

Bodies are chat completions with the model after the messages, where the OpenAI client writes it. Every request is of
one of some sessions, so that a sticky caller stays at its target and all of them together are spread by the weights.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

MODEL: Final = "bench-chat"
SESSIONS: Final = 64
SMALL_BYTES: Final = 200
LARGE_BYTES: Final = 32 * 1024
# A short chat completion, 522 bytes as the OpenAI API answers them.
REPLY: Final = json.dumps(
    {
        "id": "chatcmpl-BqX2b7Yw3Kc8VdT1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "model-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ("word " * 32)[:159], "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 19, "completion_tokens": 28, "total_tokens": 47},
        "system_fingerprint": "fp_bench",
        "service_tier": "default",
    }
)
_PLAIN: Final = {"Accept": "application/json", "User-Agent": "bench/1.0"}
_CLIENT: Final = {
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Accept": "application/json",
    "User-Agent": "OpenAI/Python 3.52.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "3.52.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.7",
    "X-Stainless-Async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
_TURN: Final = 'The "night train" to Basel leaves at 23:04,\nand nobody has asked yet whether it will. ' * 24


@dataclass(frozen=True)
class Kind:
    """What is sent: `bytes_` of body; `varied` heads and bodies differ from each request to the next."""

    name: str
    bytes_: int = SMALL_BYTES
    varied: bool = False
    client: bool = False  # the head that the OpenAI client sends

    @property
    def count(self) -> int:
        """Of so many different requests it consists; after them it begins anew."""
        if self.varied:
            return 4096
        return SESSIONS if self.bytes_ <= SMALL_BYTES else SESSIONS // 4


SMALL: Final = Kind("small bodies")
VARIED: Final = Kind("small bodies, every request different", varied=True)
CLIENT: Final = Kind("small bodies, heads as of the OpenAI client", varied=True, client=True)
LARGE: Final = Kind("32 KB request bodies", bytes_=LARGE_BYTES)


def body_of(length: int, **more: Any) -> bytes:
    """A chat completion of exactly so many bytes, in messages of about 2 KB."""

    def made(turns: int, rest: int) -> bytes:
        said = [{"role": ("user", "assistant")[place % 2], "content": _TURN} for place in range(turns)]
        said.append({"role": "user", "content": ("hi " * rest)[:rest]})
        whole = {"messages": said, "model": MODEL, "stream": False, **more}
        return json.dumps(whole, separators=(",", ":")).encode()

    a_turn = len(made(1, 0)) - len(made(0, 0))
    turns = max(0, length - len(made(0, 0))) // (a_turn + 5)  # "assistant" is five letters longer than "user"
    rest = length - len(made(turns, 0))
    if rest < 0:
        raise ValueError(f"no chat completion has {length} bytes")
    return made(turns, rest)


def request(body: bytes, session: int, **more: str) -> bytes:
    """A request with this body; `more` are headers, with _ for -."""
    head = {
        "Host": "bench.localhost",
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-caller",
        "X-Session-Id": f"session-{session:04}",
    }
    head |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def requests(kind: Kind) -> list[bytes]:
    """All different requests of a kind, in the order in which they are sent."""
    head = _CLIENT if kind.client else _PLAIN
    found = []
    for number in range(kind.count):
        length = kind.bytes_ + (number * 37) % 128 if kind.varied else kind.bytes_
        own = {"X-Request-Id": f"req-{number * 2_654_435_761 % 2**32:08x}"} if kind.varied else {}
        found.append(request(body_of(length), number % SESSIONS, **head, **own))
    return found


def stream(events: int, *, gap_ms: float = 10.0, session: int = 0, hold: bool = False) -> bytes:
    """A request for a stream of `bench.upstream`: paced, or with `hold` silent and open after its first event."""
    more = {"x-bench-hold": "1"} if hold else {"x-bench-pace": f"{events} {gap_ms}"}
    return request(body_of(SMALL_BYTES, stream=True), session, **more)
