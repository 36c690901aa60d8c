"""A target for embeddings is probed with one, not with a completion that it cannot make."""

import pytest
from servers import raw_server, server_saying, settings_of

from pointsman.config.models import Settings
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.fake import FakeProvider, Kind
from pointsman.fake import Fault as Misbehave
from pointsman.probing.once import try_one

pytestmark = pytest.mark.anyio
JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n%s"


def embedding(base_url: str) -> Settings:
    """Settings with one provider "p" and its one target "t", which makes embeddings."""
    return settings_of(
        {"p": {"family": "openai", "base_url": base_url}},
        {"t": {"provider": "p", "model": "m", "serves": "embeddings"}},
    )


async def probed(base_url: str) -> ProbeResult:
    """The probe of the target."""
    _, result = await try_one(embedding(base_url), "p")
    assert result.kind is ProbeKind.GENERATE
    return result


async def test_it_is_asked_for_an_embedding() -> None:
    """At /v1/embeddings, by its model, and no completion is asked for."""
    async with FakeProvider() as fake:
        result = await probed(fake.base_url)
        asked = {seen.path: seen.model for seen in fake.requests.seen}
    assert result.outcome.ok
    assert asked["/v1/embeddings"] == "m"
    assert "/v1/chat/completions" not in asked


async def test_a_server_that_has_only_embeddings_is_healthy() -> None:
    """What such a server says to a completion does not matter: nobody asks it."""

    async def only_embeddings(stream: object, request: bytes) -> None:
        found = request.startswith(b"POST /v1/embeddings ")
        answer = (
            b'{"data": [{"embedding": [0.1]}]}' if found else b'{"error": {"message": "not a chat model"}}'
        )
        await stream.send(JSON % (b"200 OK" if found else b"404 Not Found", answer))  # type: ignore[attr-defined]

    async with raw_server(only_embeddings) as origin:
        assert (await probed(origin + "/v1")).outcome.ok


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (JSON % (b"200 OK", b'{"data": []}'), "answered without an embedding"),
        (JSON % (b"200 OK", b'{"data": [{"embedding": []}]}'), "answered without an embedding"),
        (JSON % (b"200 OK", b"[1]"), "answered without an embedding"),
        (JSON % (b"200 OK", b"not json"), "unreadable answer"),
        (JSON % (b"404 Not Found", b'{"error": {"message": "no such model"}}'), "known-good probe got"),
    ],
)
async def test_what_is_no_embedding(answer: bytes, detail: str) -> None:
    """A status of success is not enough, and our own request is not to blame."""
    async with server_saying(answer) as origin:
        outcome = (await probed(origin + "/v1")).outcome
    assert not outcome.ok
    assert detail in outcome.detail


async def test_a_broken_target_is_found() -> None:
    """As with completions."""
    async with FakeProvider() as fake:
        fake.set_faults(Misbehave(kind=Kind.STATUS, status=500))
        assert not (await probed(fake.base_url)).outcome.ok
