"""The official anthropic client meets a fake provider and notices nothing."""

from collections.abc import AsyncIterator

import aiohttp
import anthropic
import httpx2
import pytest

from pointsman.fake import FakeProvider, Fault, digest

pytestmark = pytest.mark.anyio

ASK = {
    "model": "claude-any",
    "max_tokens": 64,
    "system": "be brief",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}],
}


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """A fake of the anthropic family."""
    async with FakeProvider("vertex", "anthropic", tokens=30, api_keys=("sk-good",)).running() as fake:
        yield fake


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official client, without retries."""
    async with anthropic.AsyncAnthropic(
        base_url=provider.base_url, api_key="sk-good", max_retries=0
    ) as client:
        yield client


async def test_message(client: anthropic.AsyncAnthropic) -> None:
    """A message names its provider, echoes the model, and its input tokens are those that were counted."""
    message = await client.messages.create(**ASK)
    counted = await client.messages.count_tokens(**{k: v for k, v in ASK.items() if k != "max_tokens"})
    assert message.content[0].text.startswith("vertex says: the line is clear")
    assert (message.model, message.stop_reason) == ("claude-any", "end_turn")
    assert message.usage.output_tokens == 30
    assert message.usage.input_tokens == counted.input_tokens > 0


async def test_message_cut_at_its_limit(client: anthropic.AsyncAnthropic) -> None:
    """One token is enough to know who answered, and the answer says that it was cut."""
    message = await client.messages.create(**ASK | {"max_tokens": 1})
    assert message.content[0].text == "vertex says:"
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 1)


async def test_stream(client: anthropic.AsyncAnthropic) -> None:
    """A stream grows into the very message that comes unstreamed."""
    whole = await client.messages.create(**ASK)
    async with client.messages.stream(**ASK) as stream:
        grown = await stream.get_final_message()
    assert grown.content[0].text == whole.content[0].text
    assert grown.stop_reason == whole.stop_reason
    assert grown.usage.output_tokens == whole.usage.output_tokens == 30
    assert grown.usage.input_tokens == whole.usage.input_tokens


async def test_stream_events(client: anthropic.AsyncAnthropic) -> None:
    """Events come in Anthropic's order."""
    stream = await client.messages.create(**ASK, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[2:-3] == ["content_block_delta"] * 30
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_models(client: anthropic.AsyncAnthropic) -> None:
    """The model list is there, and so is each model of it."""
    assert [model.id async for model in client.models.list()] == ["claude-haiku-4-5"]
    assert (await client.models.retrieve("claude-haiku-4-5")).type == "model"


async def test_headers(client: anthropic.AsyncAnthropic) -> None:
    """Answers carry Anthropic's headers: the request's id, and every dimension of the limits."""
    answer = await client.messages.with_raw_response.create(**ASK)
    assert answer.headers["request-id"].startswith("req_")
    for dimension in ("requests", "tokens", "input-tokens", "output-tokens"):
        for what in ("limit", "remaining", "reset"):
            assert answer.headers[f"anthropic-ratelimit-{dimension}-{what}"]
    assert int(answer.headers["anthropic-ratelimit-tokens-remaining"]) % 1000 == 0


async def test_both_forms_of_a_key(provider: FakeProvider) -> None:
    """A key is accepted as x-api-key and as Bearer."""
    for arguments in ({"api_key": "sk-good"}, {"auth_token": "sk-good"}):
        async with anthropic.AsyncAnthropic(base_url=provider.base_url, max_retries=0, **arguments) as client:
            await client.messages.create(**ASK)
    async with anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="none", max_retries=0) as client:
        await client.messages.create(**ASK, extra_headers={"x-api-key": "sk-good", "authorization": ""})
    assert provider.requests.by_credential == {digest("sk-good"): 3}


async def test_wrong_key(client: anthropic.AsyncAnthropic) -> None:
    """A wrong key is an authentication_error with the request's id in body and header."""
    with pytest.raises(anthropic.AuthenticationError) as caught:
        await client.with_options(api_key="sk-wrong").messages.create(**ASK)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.body["request_id"] == caught.value.response.headers["request-id"]


async def test_max_tokens_is_needed(client: anthropic.AsyncAnthropic) -> None:
    """A message without max_tokens is the caller's fault."""
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
        await client.messages.create(**ASK, stream=True, extra_body={"max_tokens": None})


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (402, "billing_error", anthropic.APIStatusError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (409, "conflict_error", anthropic.ConflictError),
        (413, "request_too_large", anthropic.APIStatusError),
        (422, "invalid_request_error", anthropic.UnprocessableEntityError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (504, "timeout_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
async def test_statuses(
    provider: FakeProvider,
    client: anthropic.AsyncAnthropic,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    """Every status arrives as the client's own class of error, with the type that Anthropic documents."""
    provider.set_faults(Fault(kind="status", status=status))
    with pytest.raises(error) as caught:
        await client.messages.create(**ASK)
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == kind


async def test_spend_limit(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    """A code that is no type goes to the details: a 429 that is not a rate limit."""
    provider.set_faults(Fault(kind="status", status=429, code="enforced_spend_limit_reached"))
    with pytest.raises(anthropic.RateLimitError) as caught:
        await client.messages.create(**ASK)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert caught.value.body["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}


async def test_code_that_is_a_type(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    """A code that is one of the family's types takes the type's place."""
    provider.set_faults(Fault(kind="status", status=500, code="overloaded_error"))
    with pytest.raises(anthropic.InternalServerError) as caught:
        await client.messages.create(**ASK)
    assert caught.value.body["error"] == {"type": "overloaded_error", "message": "Internal server error"}


async def test_error_event(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    """An error as the first event raises in the client, as overloaded, under a 200."""
    provider.set_faults(Fault(kind="error_event"))
    stream = await client.messages.create(**ASK, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error") as caught:
        await anext(aiter(stream))
    assert caught.value.status_code == 200


async def test_aborted_stream(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    """A stream that is aborted in the middle of a chunk raises in the client."""
    provider.set_faults(Fault(kind="abort", after_events=5))
    stream = aiter(await client.messages.create(**ASK, stream=True))
    kinds = [(await anext(stream)).type for _ in range(4)]  # the ping is the fifth event, and not shown
    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        await anext(stream)
    assert kinds == ["message_start", "content_block_start", "content_block_delta", "content_block_delta"]


async def test_openrouter_tells_of_a_key_in_this_family_too() -> None:
    """Free, without a version, and only for a key that is known: what the reach probe asks."""
    async with (
        FakeProvider(
            "r", "anthropic", kind="openrouter", prefix="/api", api_keys=("good",)
        ).running() as fake,
        aiohttp.ClientSession() as session,
    ):
        for key, status in (("good", 200), ("bad", 401)):
            headers = {"authorization": f"Bearer {key}"}
            async with session.get(f"{fake.base_url}/v1/key", headers=headers) as answer:
                assert answer.status == status
    async with (
        FakeProvider("a", "anthropic").running() as fake,
        aiohttp.ClientSession(headers={"anthropic-version": "1"}) as session,
        session.get(f"{fake.base_url}/v1/key") as answer,
    ):
        assert answer.status == 404
