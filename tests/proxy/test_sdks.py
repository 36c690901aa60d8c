"""The official clients work unchanged with another base URL."""

from typing import Any

import anthropic
import openai
import pytest

from pointsman.fake import Fault, Kind

pytestmark = pytest.mark.anyio


async def claude(world: Any) -> tuple[Any, Any]:
    """Two Anthropic providers on the route "claude"."""
    first, second = await world.provider("a", "anthropic"), await world.provider("b", "anthropic")
    world.route("claude", "anthropic", chain="a b")
    await world.publish()
    return first, second


async def gpt(world: Any) -> tuple[Any, Any]:
    """Two OpenAI providers on the route "gpt"."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("gpt", chain="a b")
    await world.publish()
    return first, second


HI: Any = [{"role": "user", "content": "hi"}]


async def test_anthropics_client(world: Any, running_proxy: Any) -> None:
    """Whole, streamed and counted, also while the first provider is down."""
    first, _ = await claude(world)
    async with (
        running_proxy() as caller,
        anthropic.AsyncAnthropic(base_url=caller.url, api_key="mine", max_retries=0) as client,
    ):
        message = await client.messages.create(model="claude", max_tokens=50, messages=HI)
        assert message.content
        first.die()
        async with client.messages.stream(model="claude", max_tokens=50, messages=HI) as stream:
            final = await stream.get_final_message()
        assert final.stop_reason
        count = await client.messages.count_tokens(model="claude", messages=HI)
        assert count.input_tokens > 0
        models = await client.models.list()
        assert [model.id for model in models.data] == ["claude"]


async def test_openais_client(world: Any, running_proxy: Any) -> None:
    """Chat, responses, embeddings and models, also while the first provider is down."""
    first, _ = await gpt(world)
    world.models["b"] = "a-model"
    async with (
        running_proxy() as caller,
        openai.AsyncOpenAI(base_url=caller.url + "/v1", api_key="mine", max_retries=0) as client,
    ):
        first.die()
        chat = await client.chat.completions.create(model="gpt", messages=HI)
        assert chat.choices[0].message.content
        chunks = [
            c async for c in await client.chat.completions.create(model="gpt", messages=HI, stream=True)
        ]
        assert chunks[-1].choices[0].finish_reason == "stop"
        response = await client.responses.create(model="gpt", input="hi")
        assert response.output_text
        events = [
            event async for event in await client.responses.create(model="gpt", input="hi", stream=True)
        ]
        assert events[-1].type == "response.completed"
        assert [model.id async for model in client.models.list()] == ["gpt"]
        first.revive()
        assert (await client.embeddings.create(model="gpt", input="x")).data[0].embedding


@pytest.mark.parametrize("kind", [Kind.TRUNCATE, Kind.ABORT, Kind.STALL])
async def test_anthropics_client_raises_on_a_broken_stream(
    world: Any, running_proxy: Any, kind: Kind
) -> None:
    """A clean early end would be a success to it; through the proxy it is an error."""
    first, _ = await claude(world)
    first.set_faults(Fault(kind=kind, after_events=4))
    async with (
        running_proxy(timeouts={"idle_s": 0.5}) as caller,
        anthropic.AsyncAnthropic(base_url=caller.url, api_key="mine", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIStatusError) as raised:
            async with client.messages.stream(model="claude", max_tokens=50, messages=HI) as stream:
                await stream.get_final_message()
    assert "broke off" in str(raised.value)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openais_client_raises_on_a_broken_stream(world: Any, running_proxy: Any, api: str) -> None:
    """The error event reaches it as an error of the API."""
    first, _ = await gpt(world)
    first.set_faults(Fault(kind=Kind.TRUNCATE, after_events=4))
    async with (
        running_proxy() as caller,
        openai.AsyncOpenAI(base_url=caller.url + "/v1", api_key="mine", max_retries=0) as client,
    ):
        stream: Any
        if api == "chat":
            stream = await client.chat.completions.create(model="gpt", messages=HI, stream=True)
        else:
            stream = await client.responses.create(model="gpt", input="hi", stream=True)
        with pytest.raises(openai.APIError) as raised:
            [event async for event in stream]
    assert "broke off" in str(raised.value)


async def test_an_exhausted_chain_is_not_retried_by_clients(world: Any, running_proxy: Any) -> None:
    """x-should-retry: false keeps the client's own retries from multiplying ours."""
    first, second = await gpt(world)
    first.set_faults(Fault(kind=Kind.STATUS, status=503))
    second.set_faults(Fault(kind=Kind.STATUS, status=503))
    async with (
        running_proxy() as caller,
        openai.AsyncOpenAI(base_url=caller.url + "/v1", api_key="mine", max_retries=2) as client,
    ):
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(model="gpt", messages=HI)
    assert "fallback_exhausted" in str(raised.value.body)
    assert (first.requests.total, second.requests.total) == (1, 1)
