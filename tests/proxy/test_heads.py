"""Heads as they are written, and those that could be read in two ways."""

import http

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy.asked import Asked
from pointsman.proxy.headers import Pairs
from pointsman.proxy.http1 import (
    TARGET_BYTES_MAX,
    HttpError,
    bodiless,
    check_head,
    chunk,
    request_head,
    status_line,
)

HOST = (b"Host", b"proxy.example:8080")


def refusal(
    target: bytes = b"/v1/messages", headers: Pairs | None = None, version: str = "1.1", method: str = "POST"
) -> int:
    """The status that a head is refused with, 0 if it is not."""
    asked = Asked(method, target, [HOST] if headers is None else headers, http10=version == "1.0")
    try:
        check_head(asked, version)
    except HttpError as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    "host",
    [
        b"proxy",
        b"proxy:80",
        b"proxy:",
        b"127.0.0.1",
        b"[::1]:80",
        b"[2001:db8::7]",
        b"",
        b"a_b.example",
        b"%41",
    ],
)
def test_a_host_is_taken(host: bytes) -> None:
    """Names, addresses of both kinds, with a port or without, and nothing at all."""
    assert refusal(headers=[(b"Host", host)]) == 0


@pytest.mark.parametrize(
    "host",
    [b"a b", b"a, b", b"a/b", b"u@a", b"a:b", b"a:123456", b"::1", b"[::1", b"[x]", b"a?b", b"a\\b", b"\xe4"],
)
def test_what_is_no_host_is_refused(host: bytes) -> None:
    """One that somebody else could read as another host."""
    assert refusal(headers=[(b"Host", host)]) == 400


def test_there_is_one_host() -> None:
    """HTTP/1.1 has to name it, once; HTTP/1.0 need not."""
    assert refusal(headers=[]) == 400
    assert refusal(headers=[HOST, HOST]) == 400
    assert refusal(headers=[], version="1.0") == 0


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/", 0),
        (b"/v1/messages?beta=true&x=http://other", 0),
        (b"http://proxy.example:8080/v1/messages", 0),
        (b"HTTPS://PROXY.example:8080?beta=true", 0),
        (b"http://proxy.example/v1/messages", 400),
        (b"http://other.example:8080/v1/messages", 400),
        (b"http://proxy.example:8080@other/v1", 400),
        (b"ftp://proxy.example:8080/v1", 400),
        (b"//proxy.example:8080/v1", 0),
        (b"*", 400),
        (b"v1/messages", 400),
        (b"/v1/messages#part", 400),
        (b"/" + b"a" * TARGET_BYTES_MAX, 414),
    ],
)
def test_a_target_is_a_path_of_this_host(target: bytes, status: int) -> None:
    """Or a whole URL of it; to forward to others is not this proxy's business."""
    assert refusal(target) == status


@pytest.mark.parametrize(
    ("name", "value", "version", "status"),
    [
        (b"Transfer-Encoding", b"Chunked", "1.1", 0),
        (b"Transfer-Encoding", b"chunked", "1.0", 400),
        (b"Transfer-Encoding", b"gzip, chunked", "1.1", 501),
        (b"Transfer-Encoding", b"", "1.1", 501),
        (b"Expect", b"100-Continue", "1.1", 0),
        (b"Expect", b"200-ok", "1.1", 417),
        (b"X-Mark", b"mark", "2.0", 505),
        (b"X-Mark", b"mark", "0.9", 505),
    ],
)
def test_what_is_not_spoken_is_refused(name: bytes, value: bytes, version: str, status: int) -> None:
    """Other codings, other expectations, other versions, each with its own status."""
    assert refusal(headers=[HOST, (name, value)], version=version) == status


def test_there_is_no_connect() -> None:
    """A tunnel would lead past everything."""
    assert refusal(b"/", method="CONNECT") == 501


def test_codings_in_two_lines_are_read_as_one_list() -> None:
    """chunked twice, or something before it, is not chunked."""
    assert refusal(headers=[HOST, (b"Transfer-Encoding", b"x"), (b"Transfer-Encoding", b"chunked")]) == 501


@pytest.mark.parametrize(
    ("length", "framing"),
    [(None, b"\r\n"), (0, b"Content-Length: 0\r\n\r\n"), (12, b"Content-Length: 12\r\n\r\n")],
)
def test_a_request_says_how_long_its_body_is(length: int | None, framing: bytes) -> None:
    """The provider's own lines come first, and a request without a body has no framing."""
    head = request_head("GET", b"/v1/files?a=b", b"X-Mark: mark\r\n", b"Host: a\r\n", length)
    assert head == b"GET /v1/files?a=b HTTP/1.1\r\nHost: a\r\nX-Mark: mark\r\n" + framing


def test_a_status_line_keeps_another_reason() -> None:
    """The usual one stands there by itself; what the provider said instead is kept, also for a strange status."""
    assert status_line(200) == status_line(200, b"OK") == b"HTTP/1.1 200 OK\r\n"
    assert status_line(200, b"Fine") == b"HTTP/1.1 200 Fine\r\n"
    assert status_line(404, b"Found") == b"HTTP/1.1 404 Found\r\n"
    assert status_line(529, b"Overloaded") == b"HTTP/1.1 529 Overloaded\r\n"
    assert status_line(529) == b"HTTP/1.1 529 \r\n"


@pytest.mark.parametrize("status", [status.value for status in http.HTTPStatus])
def test_which_answers_have_no_body(status: int) -> None:
    """Those to HEAD, 1xx, 204 and 304 end with their head."""
    assert bodiless(status, is_head=True)
    assert bodiless(status, is_head=False) is (status < 200 or status in {204, 304})


@given(st.binary(min_size=1, max_size=300))
def test_a_chunk_says_how_long_it_is(data: bytes) -> None:
    """In hexadecimal, and its bytes are as they were."""
    size, _, rest = chunk(data).partition(b"\r\n")
    assert (int(size, 16), rest) == (len(data), data + b"\r\n")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/messages?beta=true", "/v1/messages", "beta=true"),
        (b"/v1/messages", "/v1/messages", ""),
        (b"http://proxy/v1/messages?a=://b/c", "/v1/messages", "a=://b/c"),
        (b"http://proxy", "/", ""),
        (b"http://proxy?a=b", "/", "a=b"),
        (b"//v1/messages", "//v1/messages", ""),
    ],
)
def test_a_target_is_read_as_path_and_query(target: bytes, path: str, query: str) -> None:
    """With the host of a whole URL left out."""
    asked = Asked("POST", target, [HOST])
    assert (asked.path, asked.query) == (path, query)
