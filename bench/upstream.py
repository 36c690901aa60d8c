"""A small fake provider, much cheaper than what is measured: python -m bench.upstream PORT [HOST …]

GET answers with a list of models at once. POST streams sixteen tokens in the OpenAI shape: the first after 200 ms, the
rest in three writes 50 ms apart. With the header `x-bench-hold` the stream stays open after its first token.
"""

import asyncio
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


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_FIRST: Final = _HEAD + _chunk(_TOKEN)
_MORE: Final = _chunk(_TOKEN) * 5
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
        elif b"\r\nx-bench-hold:" in head.lower():
            self._loop.call_later(FIRST_S, self._write, _FIRST)
        else:
            for place, data_ in enumerate((_FIRST, _MORE, _MORE, _END)):
                self._loop.call_later(FIRST_S + place * GAP_S, self._write, data_)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _length(head: bytes) -> int:
    low = head.lower()
    start = low.find(b"\r\ncontent-length:")
    return 0 if start < 0 else int(low[start + 17 :].partition(b"\r\n")[0])


async def main(port: int, hosts: list[str]) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, hosts or ["127.0.0.1"], port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
