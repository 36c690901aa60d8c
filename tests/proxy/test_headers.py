"""Which headers travel, in which order, and what several of one name amount to."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy.asked import Asked
from pointsman.proxy.headers import Pairs, Taken

NAMES = (
    b"X-Mark", b"x-mark", b"X-Other", b"Accept", b"Content-Type", b"Content-Encoding", b"Host", b"Content-Length",
    b"Authorization", b"x-api-key", b"OpenAI-Organization", b"X-Pointsman-Arm", b"Set-Cookie", b"Cookie", b"TE",
    b"Expect", b"Trailer", b"Accept-Encoding", b"X-RateLimit-Limit-Requests", b"Upgrade", b"Keep-Alive",
)  # fmt: skip
CONNECTION = st.sampled_from((b"close", b"keep-alive", b"X-Mark", b"close, x-OTHER", b" X-Mark ,accept"))
pairs = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from((b"", b"a", b"b, c"))),
    st.tuples(st.sampled_from((b"Connection", b"connection")), CONNECTION),
)
headers = st.lists(pairs, max_size=12)
NEVER_TO_PROVIDERS = {
    b"host", b"content-length", b"authorization", b"x-api-key", b"openai-organization", b"x-pointsman-arm", b"cookie",
    b"te", b"expect", b"trailer", b"accept-encoding", b"upgrade", b"keep-alive", b"connection",
}  # fmt: skip
NEVER_TO_CALLERS = {b"content-length", b"x-pointsman-arm", b"set-cookie", b"te", b"trailer", b"upgrade", b"keep-alive",
                    b"connection"}  # fmt: skip


def named(sent: Pairs) -> set[bytes]:
    """What the sender declared to be of this hop only."""
    values = [value for name, value in sent if name.lower() == b"connection"]
    return {part.strip().lower() for value in values for part in value.split(b",")}


def taken(sent: Pairs, *, to_caller: bool) -> Taken:
    """All of `sent`, taken in their order."""
    found = Taken(to_caller=to_caller)
    for name, value in sent:
        found.take(name, value)
    return found


def lines(sent: Pairs, never: set[bytes]) -> bytes:
    """Those that travel, as they came."""
    kept = [pair for pair in sent if pair[0].lower() not in never | named(sent)]
    return b"".join(name + b": " + value + b"\r\n" for name, value in kept)


@given(headers)
def test_a_provider_gets_what_is_its_business(sent: Pairs) -> None:
    """In order and case; nothing of the hop, of the framing, of the proxy, of the caller's account."""
    assert taken(sent, to_caller=False).lines() == lines(sent, NEVER_TO_PROVIDERS)


@given(headers, st.frozensets(st.sampled_from(("x-mark", "accept", "content-encoding"))), st.booleans())
def test_a_head_remembers_its_lines_by_what_was_asked_of_it(
    sent: Pairs, overridden: frozenset[str], keep: bool
) -> None:
    """Providers that override other headers, and bodies sent decoded, do not get each other's lines."""
    asked = Asked("POST", b"/v1/messages", sent)
    ways = [(overridden, keep), (frozenset[str](), True), (overridden, not keep), (overridden, keep)]
    for names, keep_encoding in ways:
        never = NEVER_TO_PROVIDERS | {name.encode() for name in names}
        never |= set() if keep_encoding else {b"content-encoding"}
        assert asked.lines_for(names, keep_encoding=keep_encoding) == lines(sent, never)


@given(headers)
def test_a_caller_gets_what_is_its_business(sent: Pairs) -> None:
    """Likewise in the other direction, where credentials of the provider's are no concern."""
    found = taken(sent, to_caller=True)
    assert found.lines() == lines(sent, NEVER_TO_CALLERS)
    assert found.tells_limit is any(b"ratelimit" in name.lower() for name, _ in sent)


@given(headers)
def test_values_of_one_name_are_one_list(sent: Pairs) -> None:
    """In their order, with commas between, whatever the case of the names."""
    found = taken(sent, to_caller=False).low
    for name in {name.lower() for name, _ in sent}:
        values = [value for written, value in sent if written.lower() == name]
        assert found[name.decode()] == b", ".join(values)
    assert len(found) == len({name.lower() for name, _ in sent})


def test_codings_in_two_lines_are_not_taken_for_the_last_one() -> None:
    """gzip and then chunked is not chunked: the body would be read as what it is not."""
    coded = [(b"Transfer-Encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")]
    assert taken(coded, to_caller=True).low["transfer-encoding"] == b"gzip, chunked"


def test_more_names_than_are_remembered_change_nothing() -> None:
    """A stranger who makes up names gets them passed on, and the known ones are still what they were."""
    for number in range(3_000):
        sent = [(b"X-Made-Up-%d" % number, b"1"), (b"TE", b"trailers")]
        for to_caller in (False, True):
            assert taken(sent, to_caller=to_caller).lines() == b"X-Made-Up-%d: 1\r\n" % number
