"""The official openai client meets a fake provider and notices nothing."""

from collections.abc import AsyncIterator

import openai
import pytest

from pointsman.fake import FakeProvider, Fault, digest

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """A fake of the openai family."""
    async with FakeProvider("bedrock", "openai", tokens=30, api_keys=("sk-good",)).running() as fake:
        yield fake


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, without retries."""
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-good", max_retries=0) as client:
        yield client


async def test_chat(client: openai.AsyncOpenAI) -> None:
    """A completion names its provider, echoes the model and counts its tokens."""
    answer = await client.chat.completions.create(model="any-model", messages=HELLO)
    assert answer.choices[0].message.content.startswith("bedrock says: the line is clear")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "any-model"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        2,
        30,
        32,
    )


async def test_chat_is_cut_at_its_limit(client: openai.AsyncOpenAI) -> None:
    """A limit on tokens cuts the answer and says so."""
    answer = await client.chat.completions.create(model="m", messages=HELLO, max_completion_tokens=3)
    assert answer.choices[0].message.content == "bedrock says: the line"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


async def test_chat_stream(client: openai.AsyncOpenAI) -> None:
    """A stream carries the same text and tokens as the whole answer, and the usage when it is asked for."""
    whole = await client.chat.completions.create(model="m", messages=HELLO)
    stream = await client.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


async def test_chat_stream_without_usage(client: openai.AsyncOpenAI) -> None:
    """No usage chunk comes unless it was asked for."""
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in [chunk async for chunk in stream])


async def test_response(client: openai.AsyncOpenAI) -> None:
    """The Responses API answers with the text, and a response may follow on one of the same provider."""
    first = await client.responses.create(model="m", input="hello there")
    assert first.output_text.startswith("bedrock says:")
    assert (first.status, first.usage.output_tokens) == ("completed", 30)
    second = await client.responses.create(model="m", input="and?", previous_response_id=first.id)
    assert second.previous_response_id == first.id


async def test_response_of_another_account(client: openai.AsyncOpenAI) -> None:
    """A response cannot follow on one that another provider gave."""
    async with (
        FakeProvider("google").running() as other,
        openai.AsyncOpenAI(base_url=other.base_url, api_key="x", max_retries=0) as stranger,
    ):
        foreign = await stranger.responses.create(model="m", input="hello")
    with pytest.raises(openai.BadRequestError, match="Previous response with id"):
        await client.responses.create(model="m", input="and?", previous_response_id=foreign.id)


async def test_response_stream(client: openai.AsyncOpenAI) -> None:
    """A stream of the Responses API begins with created, ends with completed, and numbers its events."""
    stream = await client.responses.create(model="m", input="hello there", stream=True)
    events = [event async for event in stream]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == 30


async def test_response_cut_at_its_limit(client: openai.AsyncOpenAI) -> None:
    """Too small a limit ends a response as incomplete."""
    stream = await client.responses.create(model="m", input="hello", max_output_tokens=16, stream=True)
    *_, last = [event async for event in stream]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"


async def test_response_has_a_floor_of_16_tokens(client: openai.AsyncOpenAI) -> None:
    """A limit under 16 tokens is refused by the Responses API, in OpenAI's words."""
    with pytest.raises(openai.BadRequestError, match="Expected a value >= 16"):
        await client.responses.create(model="m", input="hello", max_output_tokens=1)


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    """Embeddings are unit vectors that depend on the text and on the model, in either encoding."""
    packed = await client.embeddings.create(model="m", input=["one", "two"], dimensions=64)
    plain = await client.embeddings.create(model="m", input="one", dimensions=64, encoding_format="float")
    other = await client.embeddings.create(model="n", input="one", dimensions=64, encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert plain.data[0].embedding != other.data[0].embedding
    assert sum(number**2 for number in plain.data[0].embedding) == pytest.approx(1.0)


async def test_models(client: openai.AsyncOpenAI) -> None:
    """The model list is there, and so is each model of it."""
    listed = [model.id async for model in client.models.list()]
    assert listed == ["gpt-5-nano"]
    assert (await client.models.retrieve("gpt-5-nano")).owned_by == "bedrock"


async def test_headers(client: openai.AsyncOpenAI) -> None:
    """Answers carry OpenAI's headers, and the requests left go down."""
    first = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
    second = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 1
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in (first, second)]
    assert left[1] == left[0] - 1
    assert first.headers["x-ratelimit-reset-tokens"].endswith("s")


async def test_wrong_key(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    """A wrong key is a 401 with OpenAI's code, and the ledger proves which key came without holding it."""
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.with_options(api_key="sk-wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    assert provider.requests.last.credential_sha256 == digest("sk-wrong")
    assert "sk-wrong" not in repr(provider.requests.seen)


async def test_unknown_model() -> None:
    """With a list of models, another is not found."""
    async with (
        FakeProvider(models=("a", "b")).running() as fake,
        openai.AsyncOpenAI(base_url=fake.base_url, api_key="x", max_retries=0) as client,
    ):
        assert [model.id async for model in client.models.list()] == ["a", "b"]
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="c", messages=HELLO)
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (402, openai.APIStatusError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (408, openai.APIStatusError),
        (409, openai.ConflictError),
        (413, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (502, openai.InternalServerError),
        (503, openai.InternalServerError),
        (504, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_statuses(
    provider: FakeProvider, client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """Every status arrives as the client's own class of error, with a type and a message."""
    provider.set_faults(Fault(kind="status", status=status))
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.status_code == status
    assert caught.value.type
    assert caught.value.body["message"]


async def test_quota(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    """A used-up quota is a 429 whose type and code say so, without Retry-After."""
    provider.set_faults(Fault(kind="status", status=429, code="insufficient_quota"))
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
    assert "retry-after" not in caught.value.response.headers


async def test_error_event(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    """An error in the middle of a stream raises in the client, after the tokens before it."""
    provider.set_faults(Fault(kind="error_event", after_events=3))
    stream = aiter(await client.chat.completions.create(model="m", messages=HELLO, stream=True))
    seen = [(await anext(stream)).choices[0].delta.content for _ in range(3)]
    with pytest.raises(openai.APIError, match="overloaded"):
        await anext(stream)
    assert seen == ["", "bedrock says:", " the"]


async def test_truncated_stream(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    """A stream that is truncated cleanly looks like success to the client: no finish_reason, no error."""
    provider.set_faults(Fault(kind="truncate", after_events=3))
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert len(chunks) == 3
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks)


async def test_openrouter() -> None:
    """OpenRouter's kind has its prefix, /key, comments in streams, and errors with numeric codes."""
    async with (
        FakeProvider("router", kind="openrouter", prefix="/api/v1").running() as fake,
        openai.AsyncOpenAI(base_url=fake.base_url, api_key="x", max_retries=0) as client,
    ):
        assert fake.base_url == f"{fake.origin}/api/v1"
        key = await client.get("/key", cast_to=dict[str, object])
        assert key["data"]["limit_remaining"] == 99.0
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
        fake.set_faults(Fault(kind="status", status=402))
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.body["code"] == 402
