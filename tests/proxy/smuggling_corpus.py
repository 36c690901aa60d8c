"""Requests whose end or meaning two servers could see differently, as data. RFC sections are of 9112 unless named.

Each entry is one honest request with one flaw. Behind each comes a second request, as an attacker would have it:
nobody may ever answer that.
"""

from msgspec import Struct

BODY = b'{"model":"chat","messages":[]}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /v1/models?smuggled HTTP/1.1\r\nHost: proxy\r\n\r\n"
START = "POST /v1/chat/completions HTTP/1.1"
HOST = "Host: proxy"
BAD = frozenset({400})
# 6.1: a transfer coding that is not understood may be answered with 501, what does not end in chunked has to be 400.
CODING = frozenset({400, 501})
VERSION = frozenset({400, 505})
HEAD_TOO_LARGE = frozenset({400, 431})
TARGET_TOO_LONG = frozenset({400, 414})
# RFC 9110 15.5.20: a request for another authority may be told that it is misdirected.
AUTHORITY = frozenset({400, 421})
# RFC 9110 9.1: a method that is not served may be told so.
TUNNEL = frozenset({400, 405, 501})
TOO_LARGE = frozenset({400, 413})


class Flaw(Struct, frozen=True):
    """One request; `statuses` are the answers that the RFC allows."""

    name: str
    request: bytes
    statuses: frozenset[int] = BAD


def _request(*headers: str, body: bytes = BODY, start: str = START, host: str = HOST) -> bytes:
    lines = [start, *([host] if host else []), "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _framed(name: str, *headers: str, body: bytes = BODY, statuses: frozenset[int] = BAD) -> Flaw:
    return Flaw(name, _request(*headers, body=body), statuses)


def _header(name: str, line: str, statuses: frozenset[int] = BAD) -> Flaw:
    """An honest length, and one header that is not one."""
    return Flaw(name, _request(line, LENGTH), statuses)


def _started(name: str, start: str, statuses: frozenset[int] = BAD, host: str = HOST) -> Flaw:
    return Flaw(name, _request(LENGTH, start=start, host=host), statuses)


def _chunked(name: str, body: bytes, statuses: frozenset[int] = BAD) -> Flaw:
    return Flaw(name, _request(CHUNKED, body=body), statuses)


def _raw(name: str, old: bytes, new: bytes) -> Flaw:
    """The honest request with `old` replaced."""
    honest = _request("X-Mark: mark", LENGTH)
    assert old in honest
    return Flaw(name, honest.replace(old, new, 1))


HONEST = {"a length": _request(LENGTH), "chunks": _request(CHUNKED, body=CHUNKS)}

FRAMING = [
    _framed("CL.TE", LENGTH, CHUNKED, body=CHUNKS),
    _framed("TE.CL", CHUNKED, f"Content-Length: {len(CHUNKS)}", body=CHUNKS),
    _framed("CL 0 and TE", "Content-Length: 0", CHUNKED, body=CHUNKS),
    _framed("chunked twice", CHUNKED, CHUNKED, body=CHUNKS, statuses=CODING),
    _framed("chunked twice in one", "Transfer-Encoding: chunked, chunked", body=CHUNKS, statuses=CODING),
    _framed("chunked, identity", "Transfer-Encoding: chunked, identity", body=CHUNKS, statuses=CODING),
    _framed("identity, chunked", "Transfer-Encoding: identity, chunked", body=CHUNKS, statuses=CODING),
    _framed("identity", "Transfer-Encoding: identity", LENGTH, statuses=CODING),
    _framed("identity alone", "Transfer-Encoding: identity", body=b"", statuses=CODING),
    _framed("chunked in a second line", "Transfer-Encoding: identity", CHUNKED, body=CHUNKS, statuses=CODING),
    _framed("gzip", "Transfer-Encoding: gzip", body=b"", statuses=CODING),
    _framed("gzip, chunked", "Transfer-Encoding: gzip, chunked", body=CHUNKS, statuses=CODING),
    _framed("xchunked", "Transfer-Encoding: xchunked", body=CHUNKS, statuses=CODING),
    _framed("xchunked and a length", "Transfer-Encoding: xchunked", LENGTH, statuses=CODING),
    _framed("quoted chunked", 'Transfer-Encoding: "chunked"', body=CHUNKS, statuses=CODING),
    _framed("chunked with a parameter", "Transfer-Encoding: chunked;q=1", body=CHUNKS, statuses=CODING),
    _framed("chunked before a vertical tab", "Transfer-Encoding: chunked\x0b", body=CHUNKS, statuses=CODING),
    _framed("chunked behind a vertical tab", "Transfer-Encoding: \x0bchunked", body=CHUNKS, statuses=CODING),
    _framed("chunked behind a form feed", "Transfer-Encoding: \x0cchunked", body=CHUNKS, statuses=CODING),
    _framed(
        "chunked behind a no-break space", "Transfer-Encoding: \xa0chunked", body=CHUNKS, statuses=CODING
    ),
    _framed("chunked behind a comma", "Transfer-Encoding: ,", CHUNKED, LENGTH, body=CHUNKS, statuses=CODING),
    _framed("an empty coding", "Transfer-Encoding:", LENGTH, statuses=CODING),
    _framed("a space before the colon of TE", "Transfer-Encoding : chunked", body=CHUNKS),
    _framed("a space before the colon of CL", f"Content-Length : {len(BODY)}"),
    _framed("a tab before the colon of TE", "Transfer-Encoding\t: chunked", body=CHUNKS),
    Flaw("TE in HTTP/1.0", _request(CHUNKED, body=CHUNKS, start=START[:-1] + "0")),
    Flaw("TE and CL in HTTP/1.0", _request(CHUNKED, LENGTH, body=CHUNKS, start=START[:-1] + "0")),
    Flaw(
        "TE in HTTP/1.0 with keep-alive",
        _request("Connection: keep-alive", CHUNKED, body=CHUNKS, start=START[:-1] + "0"),
    ),
    _framed("two equal lengths", LENGTH, LENGTH),
    _framed("two lengths", LENGTH, f"Content-Length: {len(BODY) + 5}"),
    _framed("two lengths, the first 0", "Content-Length: 0", LENGTH),
    *(
        _framed(f"a length of {written!r}", f"Content-Length: {written}")
        for written in (
            f"+{len(BODY)}",
            f"-{len(BODY)}",
            "-1",
            f"{len(BODY)},{len(BODY)}",
            f"{len(BODY)}, {len(BODY)}",
            f"0x{len(BODY):x}",
            "3 0",
            "30 bytes",
            "3_0",
            "30.0",
            "3e1",
            "\xb23",
            '"30"',
            "",
            ",",
            "30\x0b",
        )
    ),
    _framed("a length beyond 64 bits", "Content-Length: 18446744073709551646", statuses=TOO_LARGE),
    _framed("a length of 4,000 digits", f"Content-Length: {'9' * 4000}", statuses=TOO_LARGE),
]

HEADERS = [
    _header("a folded header", "X-Folded: a\r\n b"),
    _header("a folded length", "Content-Length:\r\n 30"),
    _framed("a folded coding", "Transfer-Encoding:\r\n chunked", body=CHUNKS),
    _framed("a coding folded by a tab", "Transfer-Encoding:\r\n\tchunked", body=CHUNKS),
    _raw("a bare LF behind a header", b"X-Mark: mark\r\n", b"X-Mark: mark\n"),
    _raw("a bare LF behind the request line", b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    _raw("a bare LF at the end of the head", b"\r\n\r\n", b"\r\n\n"),
    _raw("two bare LFs at the end of the head", b"\r\n\r\n", b"\n\n"),
    _raw("a bare CR behind a header", b"X-Mark: mark\r\n", b"X-Mark: mark\r"),
    _raw("a bare CR in a value", b"mark\r\n", b"ma\rrk\r\n"),
    _raw("a bare CR before CRLF", b"mark\r\n", b"mark\r\r\n"),
    _raw("a hidden header behind a bare CR", b"mark\r\n", b"mark\rTransfer-Encoding: chunked\r\n"),
    _raw("a hidden header behind a bare LF", b"mark\r\n", b"mark\nTransfer-Encoding: chunked\r\n"),
    _raw("NUL in a value", b"mark\r\n", b"ma\0rk\r\n"),
    _raw("NUL in a name", b"X-Mark", b"X-Ma\0rk"),
    _raw("NUL in the request line", b"/v1/chat", b"/v1\0/chat"),
    _raw("a control character in a value", b"mark\r\n", b"ma\x01rk\r\n"),
    _raw("DEL in a value", b"mark\r\n", b"ma\x7frk\r\n"),
    _raw("a header without a colon", b"X-Mark: mark", b"X-Mark mark"),
    _raw("a header without a name", b"X-Mark: mark", b": mark"),
    _raw("a space in a name", b"X-Mark", b"X Mark"),
    _raw("a space at the end of a name", b"X-Mark:", b"X-Mark :"),
    *(
        _raw(f"{character!r} in a name", b"X-Mark", b"X-Ma%brk" % character.encode("latin-1"))
        for character in '"(),/;<=>?@[\\]{}\xe9\x7f'
    ),
    _raw("a space before the first header", b"Host: proxy", b" Host: proxy"),
    _raw("a tab before the first header", b"Host: proxy", b"\tHost: proxy"),
    _raw("a line of a space before the first header", b"Host: proxy", b" \r\nHost: proxy"),
    _header("400 headers", "\r\n".join(f"X-{number}: {number}" for number in range(400)), HEAD_TOO_LARGE),
    _header("a header of 128 KiB", "X-Long: " + "x" * (128 << 10), HEAD_TOO_LARGE),
    _header("a name of 128 KiB", "X" * (128 << 10) + ": x", HEAD_TOO_LARGE),
    _header("a head of 1 MiB", "\r\n".join(f"X-{i}: {'x' * 16_384}" for i in range(64)), HEAD_TOO_LARGE),
]

_HALF = b"%x\r\n%s\r\n" % (10, BODY[:10])
CHUNK_FLAWS = [
    *(
        _chunked(f"a chunk size of {size!r}", size.encode() + b"\r\n" + BODY + b"\r\n0\r\n\r\n")
        for size in (
            "0x1e",
            "-1",
            "+1e",
            " 1e",
            "1e ",
            "1e ;",
            "1e\t",
            "1 e",
            "1_e",
            "",
            "g",
            ";a=b",
            "1e\0",
            "1E.0",
        )
    ),
    *(
        _chunked(f"a chunk size of {size}", size.encode() + b"\r\n" + BODY + b"\r\n0\r\n\r\n", TOO_LARGE)
        for size in ("ffffffffffffffffff", "1000000000000001e")
    ),
    _chunked("a chunk size behind which LF is bare", b"1e\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("a chunk size behind which CR is bare", b"1e\r" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("a chunk size behind which CR comes twice", b"1e\r\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("chunk data without CRLF", b"1e\r\n" + BODY + b"0\r\n\r\n"),
    _chunked("chunk data ended by LF", b"1e\r\n" + BODY + b"\n0\r\n\r\n"),
    _chunked("chunk data ended by CR", b"1e\r\n" + BODY + b"\r0\r\n\r\n"),
    _chunked("chunk data that is too long", b"1d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("two other bytes for CRLF", b"1e\r\n" + BODY + b"XX0\r\n\r\n"),
    _chunked("a last chunk ended by LF", _HALF + b"14\r\n" + BODY[10:] + b"\r\n0\n\n"),
    _chunked("an end that is LF", _HALF + b"14\r\n" + BODY[10:] + b"\r\n0\r\n\n"),
    _chunked("an extension with a bare LF", b"1e;a=b\n;c=d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("an extension ended by LF", b"1e;a=b\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("an extension with a bare CR", b"1e;a=\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked("an extension with NUL", b"1e;a=\0b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunked(
        "an extension of 128 KiB",
        b"1e;a=" + b"x" * (128 << 10) + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        TOO_LARGE,
    ),
    _chunked("a trailer without a colon", b"1e\r\n" + BODY + b"\r\n0\r\nX-Trailer\r\n\r\n"),
    _chunked("a trailer with a space in its name", b"1e\r\n" + BODY + b"\r\n0\r\nX Trailer: 1\r\n\r\n"),
    _chunked("a trailer with NUL", b"1e\r\n" + BODY + b"\r\n0\r\nX-Trailer: \0\r\n\r\n"),
    _chunked("a folded trailer", b"1e\r\n" + BODY + b"\r\n0\r\nX-Trailer: a\r\n b\r\n\r\n"),
    _chunked("a trailer ended by LF", b"1e\r\n" + BODY + b"\r\n0\r\nX-Trailer: a\n\r\n"),
    _chunked(
        "trailers of 1 MiB",
        b"1e\r\n" + BODY + b"\r\n0\r\n" + (b"X-T: " + b"x" * 16_384 + b"\r\n") * 64 + b"\r\n",
        HEAD_TOO_LARGE | TOO_LARGE,
    ),
]

_PATH = "/v1/chat/completions"
LINES = [
    _started("no Host", START, host=""),
    _started("two Hosts", START, host="Host: proxy\r\nHost: other"),
    _started("two equal Hosts", START, host="Host: proxy\r\nHost: proxy"),
    _started("a Host with a space", START, host="Host: proxy other"),
    _started("a Host with a path", START, host="Host: proxy/other"),
    _started("a Host with a user", START, host="Host: user@proxy"),
    _started("two Hosts in one", START, host="Host: proxy, other"),
    _started("http/1.1 in lower case", f"POST {_PATH} http/1.1", VERSION),
    _started("HTTP/2.0", f"POST {_PATH} HTTP/2.0", VERSION),
    _started("HTTP/0.9", f"POST {_PATH} HTTP/0.9", VERSION),
    _started("HTTP/1.10", f"POST {_PATH} HTTP/1.10", VERSION),
    _started("HTTP/01.1", f"POST {_PATH} HTTP/01.1", VERSION),
    _started("HTTP/1", f"POST {_PATH} HTTP/1", VERSION),
    _started("HTTP/1,1", f"POST {_PATH} HTTP/1,1", VERSION),
    _started("HTTP/1.1 and more", f"POST {_PATH} HTTP/1.1x", VERSION),
    _started("HTTPS/1.1", f"POST {_PATH} HTTPS/1.1", VERSION),
    _started("ICE/1.0", f"POST {_PATH} ICE/1.0", VERSION),
    _started("no version", f"POST {_PATH}", VERSION),
    _started("nothing but a method", "POST", VERSION),
    _started("no target", "POST  HTTP/1.1"),
    _started("two spaces before the target", f"POST  {_PATH} HTTP/1.1"),
    _started("two spaces behind the target", f"POST {_PATH}  HTTP/1.1"),
    _started("a space behind the version", f"POST {_PATH} HTTP/1.1 "),
    _started("a space before the method", f" POST {_PATH} HTTP/1.1"),
    _started("a tab for a space", f"POST\t{_PATH}\tHTTP/1.1"),
    _started("a space in the target", f"POST {_PATH} x HTTP/1.1"),
    _started("a tab in the target", f"POST {_PATH}?\tx HTTP/1.1"),
    _started("a control character in the target", f"POST {_PATH}?\x01 HTTP/1.1"),
    _started("DEL in the target", f"POST {_PATH}?\x7f HTTP/1.1"),
    _started("a bare CR in the target", f"POST {_PATH}?\rx HTTP/1.1"),
    _started("a fragment in the target", f"POST {_PATH}#x HTTP/1.1"),
    _started("a target without a slash", f"POST {_PATH[1:]} HTTP/1.1"),
    _started("an asterisk for a target", "POST * HTTP/1.1"),
    _started("another authority", f"POST http://other{_PATH} HTTP/1.1", AUTHORITY),
    _started("another scheme", f"POST ftp://proxy{_PATH} HTTP/1.1", AUTHORITY),
    _started("a user in the authority", f"POST http://user@proxy{_PATH} HTTP/1.1", AUTHORITY),
    _started("CONNECT", "CONNECT proxy:443 HTTP/1.1", TUNNEL),
    _started("CONNECT to a path", f"CONNECT {_PATH} HTTP/1.1", TUNNEL),
    _started("a method that is no token", f"PO(ST {_PATH} HTTP/1.1"),
    _started("the preface of HTTP/2", "PRI * HTTP/2.0", VERSION),
    _started("a target of 128 KiB", f"POST {_PATH}?{'x' * (128 << 10)} HTTP/1.1", TARGET_TOO_LONG),
]

CORPUS = [*FRAMING, *HEADERS, *CHUNK_FLAWS, *LINES]
