"""A small fake provider, much cheaper than what is measured: python -m bench.upstream PORT [--exact] [HOST …]

GET answers with a list of models at once. POST streams sixteen tokens in the OpenAI shape: the first after 200 ms, the
rest in three writes 50 ms apart. With the header `x-bench-hold` the stream stays open after its first token. With
`x-bench-pace: EVENTS GAP_MS` the first token comes after 20 ms and every further one GAP_MS later, in a write of its
own. `--exact`: timers to some microseconds where they are to a millisecond otherwise; a thousand connections at most.
"""

import asyncio
import selectors
import sys
from typing import Final

_JSON: Final = b'{"object":"list","data":[{"id":"model-1","object":"model","created":1,"owned_by":"bench"}]}'
_LIST: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_JSON),
    _JSON,
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_TOKEN: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"model-1",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
_LAST: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"model-1",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
)
FIRST_S: Final = 0.2
GAP_S: Final = 0.05
PACED_FIRST_S: Final = 0.02


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_FIRST: Final = _HEAD + _chunk(_TOKEN)
_MORE: Final = _chunk(_TOKEN) * 5
_PACED: Final = _chunk(_TOKEN)
_PACED_END: Final = _chunk(_LAST) + b"0\r\n\r\n"
_END: Final = _MORE + _chunk(_LAST) + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    """One connection; requests come one after the other, never pipelined."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended or len(body) < _length(head):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._transport.write(_LIST)
        elif pace := _value(head, b"x-bench-pace"):
            events, gap_ms = pace.split()
            due_s = self._loop.time() + PACED_FIRST_S
            self._loop.call_at(due_s, self._paced, int(events), due_s, float(gap_ms) / 1000, _FIRST)
        elif _value(head, b"x-bench-hold"):
            self._loop.call_later(FIRST_S, self._write, _FIRST)
        else:
            for place, data_ in enumerate((_FIRST, _MORE, _MORE, _END)):
                self._loop.call_later(FIRST_S + place * GAP_S, self._write, data_)

    def _paced(self, left: int, due_s: float, gap_s: float, data: bytes) -> None:
        """Write what is due; each event's time counts from the first, so that lateness does not add up."""
        self._write(data)
        if left > 1:
            due_s += gap_s
            last = left == 2
            self._loop.call_at(due_s, self._paced, left - 1, due_s, gap_s, _PACED_END if last else _PACED)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _value(head: bytes, name: bytes) -> bytes:
    """What a header says, b"" if it is absent."""
    low = head.lower()
    start = low.find(b"\r\n%b:" % name)
    return b"" if start < 0 else low[start + len(name) + 3 :].partition(b"\r\n")[0].strip()


def _length(head: bytes) -> int:
    return int(_value(head, b"content-length") or 0)


async def main(port: int, hosts: list[str]) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, hosts or ["127.0.0.1"], port, backlog=4096)
    await server.serve_forever()


def exact_loop() -> asyncio.AbstractEventLoop:
    """A loop over `select`, whose timers are as exact as the kernel's."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    told = [word for word in sys.argv[2:] if word != "--exact"]
    with asyncio.Runner(loop_factory=exact_loop if "--exact" in sys.argv else None) as runner:
        runner.run(main(int(sys.argv[1]), told))
