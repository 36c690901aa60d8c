"""The whole difference that a proxy makes to clients and providers. What is not listed here has to be the same."""

from tap import Exchange, Message

from pointsman.fake import Seen

# What an answer has on top of the provider's: who served it, and why.
ADDED_TO_ANSWERS = {
    "x-pointsman-request-id",
    "x-pointsman-table",
    "x-pointsman-target",
    "x-pointsman-attempt",
    "x-pointsman-reason",
}
# And this where the provider does not say it.
ADDED_IF_MISSING = {"server"}
# How long a body is, and whether the connection stays, is said anew on every hop.
FRAMING = {"content-length", "transfer-encoding", "connection", "keep-alive"}
# What a provider gets in another form than the caller sent it.
REPLACED_IN_REQUESTS = {
    "host",  # the provider's
    "authorization",  # the provider's credential, in whichever header its family has it
    "x-api-key",
    "accept-encoding",  # identity: an error has to be read
    "expect",  # answered here
} | FRAMING


def compared(
    direct: list[Exchange], proxied: list[Exchange], seen_direct: list[Seen], seen_proxied: list[Seen]
) -> int:
    """Check what was said directly against what was said through a proxy; how many exchanges there were."""
    assert [one.request.first for one in direct] == [one.request.first for one in proxied]
    for one, other in zip(direct, proxied, strict=True):
        _same_answer(one.request.first, one.answer, other.answer)
    assert len(seen_direct) == len(seen_proxied)
    for first, second in zip(seen_direct, seen_proxied, strict=True):
        _same_request(first, second)
    return len(direct)


def _same_answer(asked: str, direct: Message, proxied: Message) -> None:
    assert direct.first == proxied.first, asked
    assert direct.body == proxied.body, asked
    assert {name for name in proxied.names() if name.startswith("x-pointsman-")} == ADDED_TO_ANSWERS, asked
    added = ADDED_TO_ANSWERS | (ADDED_IF_MISSING - direct.names())
    told, heard = direct.headers_without(FRAMING), proxied.headers_without(added | FRAMING)
    assert told == heard, f"{asked}: {set(told) ^ set(heard)}"


def _same_request(direct: Seen, proxied: Seen) -> None:
    told = f"{direct.method} {direct.target}"
    assert (proxied.method, proxied.target) == (direct.method, direct.target)
    assert proxied.body_bytes == direct.body_bytes, told
    assert proxied.body_sha256 == direct.body_sha256, told
    sent, came = _passed(direct), _passed(proxied)
    assert sent == came, f"{told}: {set(sent) ^ set(came)}"
    assert proxied.credential_sha256 != direct.credential_sha256, told


def _passed(seen: Seen) -> list[tuple[str, str]]:
    return [(name, value) for name, value in seen.headers if name not in REPLACED_IN_REQUESTS]
