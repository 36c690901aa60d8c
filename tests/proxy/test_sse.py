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


def in_pieces(watch: Watch, stream: bytes, size: int = 65_536) -> bytes:
    """What has come out of `watch`, fed in pieces."""
    return b"".join(watch.feed(stream[at : at + size]) for at in range(0, len(stream), size))


@pytest.mark.parametrize(
    ("api", "name", "type_"),
    [
        (Api.RESPONSES, "response.completed", "response.completed"),
        (Api.RESPONSES, "", "response.completed"),
        (Api.MESSAGES, "message_stop", "message_stop"),
    ],
)
@pytest.mark.parametrize("size", [1021, 65_536])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_a_monstrous_last_event_is_known_by_its_beginning(
    api: Api, name: str, type_: str, size: int, eol: bytes
) -> None:
    """It ends the stream when it is whole, and not before; every byte passes."""
    event = data({"type": type_, "x": "A" * HELD_BYTES_MAX * 2}, name).replace(b"\n", eol)
    watch = Watch(api)
    out = in_pieces(watch, event[:-1] if eol == b"\n" else event[:-3], size)
    assert (watch.begun, watch.ended, watch.mid_event) == (True, False, True)
    out += watch.feed(event[len(event) - (1 if eol == b"\n" else 3) :])
    assert (watch.ended, watch.mid_event) == (True, False)
    assert out + watch.finish() == event


def test_a_monstrous_event_in_the_middle_ends_nothing() -> None:
    """What comes after it is read as ever."""
    watch = Watch(Api.CHAT)
    in_pieces(watch, data({"choices": [{"delta": {"content": "A" * HELD_BYTES_MAX * 2}}]}))
    assert (watch.begun, watch.ended, watch.mid_event, watch.events) == (True, False, False, 1)
    watch.feed(data({"choices": [], "usage": {"prompt_tokens": 9}}) + b"data: [DONE]\n\n")
    assert (watch.ended, watch.tokens.into) == (True, 9)


@pytest.mark.parametrize(
    ("api", "event"),
    [
        (Api.CHAT, data({"error": {"message": "A" * HELD_BYTES_MAX * 2}})),
        (Api.RESPONSES, data({"type": "error", "message": "A" * HELD_BYTES_MAX * 2})),
        (Api.MESSAGES, data({"type": "error", "error": {"message": "A" * HELD_BYTES_MAX * 2}}, "error")),
    ],
)
def test_a_monstrous_error_is_an_error(api: Api, event: bytes) -> None:
    """And it does not begin the stream."""
    watch = Watch(api)
    in_pieces(watch, event)
    assert watch.error
    assert not watch.begun


def test_a_monstrous_comment_begins_nothing() -> None:
    """A sign of life is no answer, however long."""
    watch = Watch(Api.CHAT)
    in_pieces(watch, b": " + b"A" * HELD_BYTES_MAX * 2)
    assert not watch.begun


def test_a_monstrous_failure_is_one() -> None:
    """response.failed, with all that it had made so far."""
    watch = Watch(Api.RESPONSES)
    in_pieces(watch, data({"type": "response.failed", "x": "A" * HELD_BYTES_MAX * 2}, "response.failed"))
    assert watch.ended
    assert watch.error


@pytest.mark.parametrize(
    ("api", "value"),
    [
        (Api.CHAT, {"type": None, "id": 5, "error": {"code": 502}}),
        (Api.CHAT, {"error": {"code": 502}, "usage": {"prompt_tokens": "many"}}),
        (Api.CHAT, {"error": {"code": 502}, "message": ["a"]}),
        (Api.CHAT, [{"error": {"code": 502}}]),
        (Api.RESPONSES, {"type": None, "error": {"code": 502}}),
        (Api.MESSAGES, {"error": {"code": 502}, "message": ["a"], "usage": 1.5}),
    ],
)
def test_an_error_among_odd_neighbours_is_seen(api: Api, value: Any) -> None:
    """One field of another type does not hide the others."""
    watch = Watch(api)
    watch.feed(data(value))
    assert watch.error == {"code": 502}
    assert not watch.begun


@pytest.mark.parametrize(
    ("usage", "into"), [({"prompt_tokens": 3.0}, 3), ({"prompt_tokens": 1.5}, 1), ({"prompt_tokens": -4}, 0)]
)
def test_odd_numbers_of_tokens(usage: dict[str, Any], into: int) -> None:
    """Floats are read, nonsense is not."""
    watch = Watch(Api.CHAT)
    watch.feed(data({"choices": [], "usage": usage}))
    assert watch.tokens.into == into


def test_an_error_in_another_encoding_is_read() -> None:
    """All of it but the characters concerned."""
    watch = Watch(Api.CHAT)
    watch.feed(b'data: {"error":{"code":"insufficient_quota","message":"caf\xe9"}}\n\n')
    assert watch.error["code"] == "insufficient_quota"


@pytest.mark.parametrize("nonsense", [b'{"id":"\xff","usage":"\xff"}', b'{"error":' + b"[" * 9999])
def test_bytes_that_cannot_be_read_break_nothing(nonsense: bytes) -> None:
    """They pass, and tell nothing."""
    for api in Api.CHAT, Api.RESPONSES:
        watch = Watch(api)
        assert watch.feed(b"data: " + nonsense + b"\n\n")
        assert watch.error is None


def test_a_last_event_that_is_cut_off_does_not_end_the_stream() -> None:
    """Its name alone is not enough."""
    watch = Watch(Api.MESSAGES)
    watch.feed(data({"type": "message_start"}, "message_start") + b'event: message_stop\ndata: {"type":"mess')
    assert watch.finish() == b""
    assert not watch.ended
