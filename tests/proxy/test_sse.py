"""Event streams: relayed unchanged, and judged by what they say."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy.api import Api
from pointsman.proxy.sse import HELD_BYTES_MAX, Watch


def data(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


CHAT = (
    b": OPENROUTER PROCESSING\n\n"
    + data({"choices": [{"delta": {"content": "hi"}}], "usage": None})
    + data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
    + b"data: [DONE]\n\n"
)
MESSAGES = (
    data({"type": "ping"}, "ping")
    + data(
        {
            "type": "message_start",
            "message": {"id": "msg_1", "usage": {"input_tokens": 7, "output_tokens": 1}},
        },
        "message_start",
    )
    + data({"type": "content_block_delta", "delta": {"text": 'the "error" is: fine'}}, "content_block_delta")
    + data({"type": "message_delta", "usage": {"output_tokens": 12}}, "message_delta")
    + data({"type": "message_stop"}, "message_stop")
)
RESPONSES = (
    data({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}}, "response.created")
    + data({"type": "response.output_text.delta", "delta": "x"}, "response.output_text.delta")
    + data(
        {
            "type": "response.completed",
            "response": {"id": "resp_1", "usage": {"input_tokens": 4, "output_tokens": 5}},
        },
        "response.completed",
    )
)
STREAMS = {Api.CHAT: CHAT, Api.MESSAGES: MESSAGES, Api.RESPONSES: RESPONSES}


@given(
    api=st.sampled_from(list(STREAMS)),
    cuts=st.lists(st.integers(0, 700), max_size=12),
    eol=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_however_it_is_cut_it_passes_unchanged_and_means_the_same(
    api: Api, cuts: list[int], eol: bytes
) -> None:
    """Any chunking and any line end: the same bytes come out, and the same is seen."""
    stream = STREAMS[api].replace(b"\n", eol)
    watch = Watch(api)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    out = b"".join(watch.feed(stream[start:end]) for start, end in itertools.pairwise(edges))
    assert out + watch.finish() == stream
    assert (watch.begun, watch.ended, watch.error) == (True, True, None)
    assert (watch.tokens.into, watch.tokens.out) == {
        Api.CHAT: (9, 3),
        Api.MESSAGES: (7, 12),
        Api.RESPONSES: (4, 5),
    }[api]


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("api", STREAMS)
def test_byte_by_byte_is_no_different(api: Api, eol: bytes) -> None:
    """The smallest chunks there are."""
    stream = STREAMS[api].replace(b"\n", eol)
    watch = Watch(api)
    out = b"".join(watch.feed(stream[at : at + 1]) for at in range(len(stream)))
    assert out + watch.finish() == stream
    assert watch.ended


@pytest.mark.parametrize(("api", "stream"), STREAMS.items())
def test_a_stream_without_its_last_event_has_not_ended(api: Api, stream: bytes) -> None:
    """Cut before the terminal event: begun, not ended."""
    watch = Watch(api)
    last = stream.rstrip(b"\n").rfind(b"\n\n")
    watch.feed(stream[: last + 2])
    assert watch.finish() == b""
    assert (watch.begun, watch.ended) == (True, False)


def test_comments_and_pings_do_not_begin_a_stream() -> None:
    """Signs of life are no answer."""
    chat, messages = Watch(Api.CHAT), Watch(Api.MESSAGES)
    chat.feed(b": OPENROUTER PROCESSING\n\n")
    messages.feed(data({"type": "ping"}, "ping"))
    assert not chat.begun
    assert not messages.begun


@pytest.mark.parametrize(
    ("api", "event"),
    [
        (Api.CHAT, data({"error": {"code": 502, "message": "x"}})),
        (Api.MESSAGES, data({"type": "error", "error": {"type": "overloaded_error"}}, "error")),
        (Api.RESPONSES, data({"type": "error", "sequence_number": 0, "error": {"code": "x"}})),
        (Api.RESPONSES, data({"type": "error", "code": "server_error", "message": "x"}, "error")),
    ],
)
def test_an_error_first_is_seen_before_the_stream_has_begun(api: Api, event: bytes) -> None:
    """So that the request can fall over unseen."""
    watch = Watch(api)
    watch.feed(event)
    assert watch.error
    assert not watch.begun


def test_a_failed_response_ends_and_is_an_error() -> None:
    """response.failed is terminal, and no success."""
    watch = Watch(Api.RESPONSES)
    watch.feed(
        data({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, "response.failed")
    )
    assert watch.ended
    assert watch.error == {"code": "server_error"}


def test_the_word_error_in_a_text_is_no_error() -> None:
    """A chunk that talks of an "error" passes as an answer."""
    watch = Watch(Api.CHAT)
    watch.feed(data({"choices": [{"delta": {"content": '{"error": "x"}'}}]}))
    watch.feed(data({"choices": [], "error": None}))
    assert watch.error is None
    assert watch.begun


def test_half_an_event_is_held_until_it_is_whole() -> None:
    """A cut event never reaches the caller."""
    watch = Watch(Api.CHAT)
    assert watch.feed(b'data: {"choices"') == b""
    assert watch.finish() == b""


def test_a_missing_last_blank_line_is_forgiven() -> None:
    """[DONE] without its blank line still ends the stream."""
    watch = Watch(Api.CHAT)
    watch.feed(b'data: {"choices":[]}\n\ndata: [DONE]')
    assert watch.finish() == b"data: [DONE]"
    assert watch.ended


def test_a_monstrous_event_does_not_fill_the_memory() -> None:
    """Past a megabyte it passes in pieces."""
    watch = Watch(Api.CHAT)
    assert len(watch.feed(b"data: " + b"x" * (HELD_BYTES_MAX + 1))) > HELD_BYTES_MAX


def test_unreadable_data_is_passed_and_not_judged() -> None:
    """What cannot be decoded is not the proxy's to refuse."""
    watch = Watch(Api.CHAT)
    event = b'data: {"usage": oh no}\n\n'
    assert watch.feed(event) == event
    assert watch.begun
    assert watch.error is None
