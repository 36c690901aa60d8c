"""Requests are read the same however they arrive, and no more is read than may be."""

import itertools
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.proxy.http1 import HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX
from pointsman.proxy.reader import Inbound, Known, RequestReader

BODY_BYTES_MAX: Final = 200_000
HOST: Final = b"Host: proxy.example\r\n"
HEAD: Final = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Length: %b\r\nX-Mark: mark\r\n\r\n"
GET: Final = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"
# From one byte to more than a head may have: what is counted for a head must not be what belongs to a body.
SIZES: Final = st.sampled_from((0, 1, 9, 10, 99, 1_000, 70_000))


class Seen(NamedTuple):
    """A request as the rest of the proxy gets it; its length is that of its body, whatever a known head says."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    http10: bool
    keep: bool


class Verdict(NamedTuple):
    """What a reader made of all that it was fed."""

    seen: list[Seen]
    refused: int
    reading: bytes | None
    in_head: bool


def seen(request: Inbound) -> Seen:
    asked = request.asked
    headers = tuple((name, value) for name, value in asked.headers if name != b"Content-Length")
    return Seen(asked.method, asked.target, headers, request.body, asked.http10, asked.keep)


def verdict(reader: RequestReader) -> Verdict:
    objection, reading = reader.objection, reader.reading
    return Verdict(
        [seen(request) for request in reader.waiting],
        0 if objection is None else objection.status,
        None if reading is None or objection is not None else reading.body,
        reader.in_head and objection is None,
    )


def read(*pieces: bytes) -> Verdict:
    reader = RequestReader(BODY_BYTES_MAX)
    for piece in pieces:
        reader.feed(piece)
    return verdict(reader)


def refusal(*pieces: bytes) -> int:
    """The status that the pieces are refused with, 0 if they are not."""
    return read(*pieces).refused


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in (b"Content-Length: %d" % len(body), *headers))
    return b"POST /v1/messages HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body


def chunked(*chunks: bytes, extension: bytes = b"", trailers: bytes = b"", offer: bytes = b"") -> bytes:
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + offer + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + coded + b"0\r\n" + trailers + b"\r\n"


def of_length(size: int) -> bytes:
    return HEAD % str(size).encode() + b"x" * size


chunks = st.lists(st.binary(min_size=1, max_size=30), max_size=4)
requests = st.one_of(
    SIZES.map(of_length),  # mostly this one: its head is known from the first on
    SIZES.map(of_length),
    st.binary(max_size=40).map(post),
    st.builds(
        lambda parts, extension, trailers: chunked(*parts, extension=extension, trailers=trailers),
        chunks,
        st.sampled_from((b"", b";name=value", b';name="a;b"')),
        st.sampled_from((b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-More: 2\r\n")),
    ),
    st.just(GET),
    st.just(b"HEAD /?" + b"q" * 300 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    st.just(b"\r\n" + GET),  # an empty line before a request is skipped
    st.just(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    st.just(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"),
    st.just(post(b"hello", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA")),
    st.just(chunked(b"hello", offer=b"Connection: Upgrade\r\nUpgrade: h2c\r\n")),
    st.just(post(b"hello", b"Expect: 100-continue")),
)


# Between two requests, or anywhere in one.
places = st.one_of(st.just(0), st.integers(0, 1 << 17))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces that end at `places`, as far as those lie in it."""
    ends = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


Sent = list[tuple[bytes, list[int]]]


@given(st.lists(st.tuples(requests, st.lists(places, max_size=2)), min_size=1, max_size=8))
@example([(of_length(70_000), []), (of_length(9), [20])])
@example([(of_length(70_000), []), (of_length(9), [len(HEAD) + 2])])
@example([(GET, [0]), (b"\r\n" + GET, [0, 2])])
def test_what_is_read_does_not_depend_on_how_it_is_cut(sent: Sent) -> None:
    """The same requests in the same order as when each has a connection of its own, where no head is known.

    Each is cut at some places; 0 cuts before it, so that its head may be taken for a known one.
    """
    data = b"".join(request for request, _ in sent)
    starts = itertools.accumulate((len(request) for request, _ in sent), initial=0)
    places = [
        start + place % len(of) for start, (of, cuts) in zip(starts, sent, strict=False) for place in cuts
    ]
    alone = [read(request).seen for request, _ in sent]
    assert all(len(one) == 1 for one in alone)
    assert read(*cut(data, places)) == Verdict([one[0] for one in alone], 0, None, False)


@given(st.lists(requests, min_size=1, max_size=3))
def test_byte_by_byte_is_no_different(sent: list[bytes]) -> None:
    """Every place to cut at, at once; long bodies are left out."""
    data = b"".join(request for request in sent if len(request) < 2_000)
    alone = [read(request).seen[0] for request in sent if len(request) < 2_000]
    assert read(*(data[place : place + 1] for place in range(len(data)))).seen == alone


def changed(request: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """`request` with some of its bytes exchanged: at a place, so many, for others."""
    for place, length, new in changes:
        start = place % len(request)
        request = request[:start] + new + request[start + length :]
    return request


awkward = st.one_of(
    st.binary(max_size=2),
    st.sampled_from(
        (b"\r\n", b"\n", b"\0", b" ", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n")
    ),
)


def after_a_known_head(data: bytes) -> Verdict:
    """What is made of `data` on a connection that has read the same head before, twice."""
    reader = RequestReader(BODY_BYTES_MAX)
    reader.feed(of_length(9))
    reader.feed(of_length(10))
    assert len(reader.waiting) == 2
    reader.waiting.clear()
    reader.feed(data)
    return verdict(reader)


@given(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 2), awkward), min_size=1, max_size=3))
def test_a_known_head_lets_nothing_pass_that_is_refused_without(changes: list[Any]) -> None:
    """A request that differs a little from one with a known head gets the verdict of a fresh connection."""
    data = changed(of_length(9), changes)
    assert after_a_known_head(data) == read(data)


@given(st.text("0123456789 ,+-x\t;", max_size=15).map(str.encode))
@example(b"9" * 13)
@example(b"0" * 12 + b"3")
@example(b"")
@example(b"%d" % (BODY_BYTES_MAX + 1))
def test_nothing_passes_for_the_length_but_a_length(length: bytes) -> None:
    """Whatever stands where the digits of a known head were is read as a fresh connection reads it."""
    data = HEAD % length + b"abc"
    assert after_a_known_head(data) == read(data)


@given(SIZES, SIZES, st.integers(0, 1 << 20))
def test_a_request_that_a_known_head_begins_is_no_other_than_the_first(
    one: int, two: int, place: int
) -> None:
    """Bodies of a known head that come in pieces are not mixed up with what follows."""
    data = of_length(one) + GET + of_length(two)
    pieces = cut(data, [place, place // 3])
    bodies = [request.body for request in read(of_length(9), *pieces).seen]
    assert bodies == [b"x" * 9, b"x" * one, b"", b"x" * two]


def test_a_body_is_counted_before_and_while_it_comes() -> None:
    """One byte more than allowed: refused for its length before any of it came, and chunked ones once it has come."""
    most = b"x" * BODY_BYTES_MAX
    assert refusal(post(most)) == refusal(chunked(most[:99], most[99:])) == 0
    assert refusal(HEAD % b"%d" % (BODY_BYTES_MAX + 1)) == 413
    assert refusal(chunked(most, b"x")) == 413


def test_a_refused_body_is_not_kept() -> None:
    """What came of a body that grew too large is let go, and no more of it is taken."""
    reader = RequestReader(BODY_BYTES_MAX)
    reader.feed(chunked(b"x" * BODY_BYTES_MAX, b"x")[:-7])
    reader.feed(b"y" * 100)
    assert reader.objection is not None
    assert reader.reading is not None
    assert reader.reading.body == b""


def test_a_head_that_never_ends_is_refused() -> None:
    """In headers 431, in the target 414; up to the limit nothing is said."""
    start = b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: "
    within = b"a" * (HEAD_BYTES_MAX - len(start))
    assert refusal(start, within) == 0
    assert refusal(start, within, b"a") == 431
    assert refusal(b"GET /", *[b"a" * 10_000] * 7) == 414


def test_a_large_head_is_refused_also_in_one_piece() -> None:
    """A read may bring more than a head may have."""
    line = b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: %b\r\n\r\n"
    assert refusal(line % (b"a" * (HEAD_BYTES_MAX - 100))) == 0
    assert refusal(line % (b"a" * HEAD_BYTES_MAX)) == 431


def test_a_long_target_is_refused_by_itself() -> None:
    """Up to the limit it passes, one byte more is 414."""
    line = b"GET /%b HTTP/1.1\r\n" + HOST + b"\r\n"
    assert refusal(line % (b"a" * (TARGET_BYTES_MAX - 1))) == 0
    assert refusal(line % (b"a" * TARGET_BYTES_MAX)) == 414


def test_too_many_headers_are_refused() -> None:
    """As many as allowed pass, one more is 431."""
    most = b"".join(b"X-%d: a\r\n" % number for number in range(HEADERS_MAX - 1))
    start = b"GET / HTTP/1.1\r\n" + HOST
    assert refusal(start + most + b"\r\n") == 0
    assert refusal(start + most + b"X-More: a\r\n\r\n") == 431


def test_what_stands_around_a_body_is_bounded_by_the_body() -> None:
    """Endless extensions, endless trailers: refused; very many tiny chunks are a body all the same."""
    endless = [b"a" * 10_000] * 7
    start = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert refusal(start, b"1;a=", *endless) == 413
    assert refusal(start, b"1\r\nx\r\n0\r\nX-Trailer: ", *endless) == 413
    assert refusal(*[start, *[b"1\r\nx\r\n" * 1_000] * 100, b"0\r\n\r\n"]) == 0


def test_an_offer_to_speak_another_protocol_is_read_without_it() -> None:
    """An h2c client's request keeps its body, what else it says, and loses the offer; the next request is whole."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA", b"X-Mark: mark")
    found = read(post(b"hello", *offer) + GET)
    first, second = found.seen
    assert (first.body, first.keep, second.method) == (b"hello", True, "GET")
    assert {name for name, _ in first.headers} == {b"Host", b"HTTP2-Settings", b"X-Mark"}


def test_an_offer_that_also_closes_still_closes() -> None:
    """The word that this request is the last is not lost with the offer beside it."""
    found = read(post(b"hello", b"Connection: close, Upgrade", b"Upgrade: h2c") + GET)
    assert [(one.body, one.keep) for one in found.seen] == [(b"hello", False)]


@pytest.mark.parametrize("more", [of_length(9), GET, b"garbage\r\n\r\n", b"\0"])
@pytest.mark.parametrize("together", [True, False])
def test_nothing_is_read_after_the_last_request(more: bytes, together: bool) -> None:
    """After Connection: close, whatever comes is neither a request nor refused, with it or later, known or not."""
    last = post(b"last", b"Connection: close")
    pieces = (last + more,) if together else (last, more)
    found = read(of_length(9), *pieces)
    assert ([one.body for one in found.seen], found.refused) == ([b"x" * 9, b"last"], 0)


def test_a_head_that_closes_is_not_known_to_the_next_connection() -> None:
    """The last request of one connection is the last one of another, too."""
    heads = Known()
    for _ in range(2):
        reader = RequestReader(BODY_BYTES_MAX, heads)
        reader.feed(post(b"last", b"Connection: close"))
        reader.feed(GET)
        assert [request.body for request in reader.waiting] == [b"last"]


def test_trailers_are_no_headers() -> None:
    """What stands behind a chunked body is not part of the head."""
    (request,) = read(chunked(b"hello", trailers=b"X-Forged: 1\r\n")).seen
    assert [name for name, _ in request.headers] == [b"Host", b"Transfer-Encoding"]


def test_what_was_counted_for_a_request_is_not_counted_for_the_next() -> None:
    """A connection that lives long sends more heads, extensions and trailers than a single request may have."""
    one = [chunked(b"x", extension=b";a=" + b"b" * 1_000, trailers=b"X-Sum: " + b"1" * 1_000 + b"\r\n")]
    pieces = [piece for request in one * 100 for piece in (request[:9], request[9:-1_005], request[-1_005:])]
    found = read(*pieces)
    assert (len(found.seen), found.refused) == (100, 0)
    long = b"GET /" + b"q" * 2_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    assert len(read(*[long[:1_500], long[1_500:]] * 100).seen) == 100


def test_an_http10_request_is_the_last_one_unless_it_says_otherwise() -> None:
    """Its connection is not kept; the word keep-alive keeps it."""
    old = b"GET / HTTP/1.0\r\n%b\r\n"
    assert len(read(old % b"", GET).seen) == 1
    assert len(read(old % b"Connection: keep-alive\r\n", GET).seen) == 2


def test_the_first_objection_stands() -> None:
    """What is wrong later, in the same request or in the next, does not change the answer."""
    expects = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: magic\r\nContent-Length: %d\r\n\r\n"
    assert refusal(expects % (BODY_BYTES_MAX + 1)) == 417
    assert refusal(expects % 3 + b"abc", b"garbage\r\n\r\n") == 417
    assert refusal(b"GET / HTTP/1.1\r\n\r\n", b"\0") == 400


def test_what_came_before_an_objection_is_answered() -> None:
    """Complete requests wait, the refused one is not among them, nor is any behind it."""
    found = read(of_length(3) + b"BAD\0\r\n\r\n" + of_length(4), of_length(5))
    assert ([len(one.body) for one in found.seen], found.refused) == ([3], 400)
    magic = b"GET / HTTP/1.1\r\n" + HOST + b"Expect: magic\r\n\r\n"
    found = read(of_length(3) + magic + of_length(4), of_length(5))
    assert ([len(one.body) for one in found.seen], found.refused) == ([3], 417)


def test_who_expects_to_be_told_to_go_on_is_seen_to() -> None:
    """`expects` from the head on until the body has come; HTTP/1.0 knows no such word."""
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    reader = RequestReader(BODY_BYTES_MAX)
    reader.feed(head + b"abc")  # which has not waited
    for _ in range(2):
        assert not reader.expects
        reader.feed(head)
        assert reader.expects
        reader.feed(b"abc")
    old = RequestReader(BODY_BYTES_MAX)
    old.feed(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert not old.expects


def test_a_reader_is_idle_between_requests_only() -> None:
    """From the first byte of a head to the last of the body it is not, with and without a known head."""
    reader = RequestReader(BODY_BYTES_MAX)
    for _ in range(2):
        for piece, idle in ((b"POST", False), (of_length(9)[4:-1], False), (b"x", True)):
            reader.feed(piece)
            assert reader.idle is idle
    reader.feed(of_length(9))
    reader.feed(of_length(9)[:-1])
    assert not reader.idle
