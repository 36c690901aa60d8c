"""The official anthropic client has tools called."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import pytest

from pointsman.fake import FakeProvider

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello there"}]
SCHEMA = {"type": "object", "properties": {"station": {"type": "string"}}, "required": ["station"]}
TOOLS = [
    {"name": "departures", "input_schema": SCHEMA},
    {"type": "custom", "name": "delays", "input_schema": {"type": "object"}},
]
ASK: dict[str, Any] = {"model": "claude-any", "max_tokens": 64, "messages": HELLO, "tools": TOOLS}
ANY = {"type": "any"}
NAMED = {"type": "tool", "name": "departures"}
CALLED = [("departures", {"station": "vertex"}), ("delays", {})]


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """A fake of the anthropic family."""
    async with FakeProvider("vertex", "anthropic", tokens=5).running() as fake:
        yield fake


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official client, without retries."""
    async with anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        yield client


async def test_message(client: anthropic.AsyncAnthropic) -> None:
    """A tool that is named is used in place of a text, with an input that fits."""
    message = await client.messages.create(**ASK, tool_choice=NAMED)
    (block,) = message.content
    assert (block.type, block.name, block.input) == ("tool_use", "departures", {"station": "vertex"})
    assert block.id.startswith("toolu_")
    assert message.stop_reason == "tool_use"


async def test_message_counts_pieces_as_tokens(client: anthropic.AsyncAnthropic) -> None:
    """The pieces of the input are the tokens of the answer."""
    assert (await client.messages.create(**ASK, tool_choice=NAMED)).usage.output_tokens == 5


async def test_any(client: anthropic.AsyncAnthropic) -> None:
    """Where any tool will do, each is used once, with an identifier of its own."""
    message = await client.messages.create(**ASK, tool_choice=ANY)
    assert [(block.name, block.input) for block in message.content] == CALLED
    assert message.content[0].id != message.content[1].id


async def test_one_at_a_time(client: anthropic.AsyncAnthropic) -> None:
    """Without parallel use the first tool alone is used."""
    message = await client.messages.create(**ASK, tool_choice=ANY | {"disable_parallel_tool_use": True})
    assert [block.name for block in message.content] == ["departures"]


async def test_stream(client: anthropic.AsyncAnthropic) -> None:
    """A stream grows into the blocks that come unstreamed."""
    whole = await client.messages.create(**ASK, tool_choice=ANY)
    async with client.messages.stream(**ASK, tool_choice=ANY) as stream:
        grown = await stream.get_final_message()
    assert [(block.name, block.input) for block in grown.content] == CALLED
    assert grown.stop_reason == whole.stop_reason == "tool_use"
    assert grown.usage.output_tokens == whole.usage.output_tokens == 6


async def test_stream_events(client: anthropic.AsyncAnthropic) -> None:
    """Each block begins without input; an empty piece and the pieces of its JSON come, and its stop."""
    stream = await client.messages.create(**ASK, tool_choice=ANY, stream=True)
    told = []
    async for event in stream:
        match event.type:
            case "content_block_start":
                told.append((event.index, event.content_block.name, event.content_block.input))
            case "content_block_delta":
                told.append((event.index, event.delta.type, event.delta.partial_json))
            case "content_block_stop":
                told.append((event.index, "stop", None))
            case kind:
                told.append((None, kind, None))
    pieces = ["", '{"', "station", '":"', "vertex", '"}']
    assert told == [
        (None, "message_start", None),
        (0, "departures", {}),
        *[(0, "input_json_delta", piece) for piece in pieces],
        (0, "stop", None),
        (1, "delays", {}),
        (1, "input_json_delta", ""),
        (1, "input_json_delta", "{}"),
        (1, "stop", None),
        (None, "message_delta", None),
        (None, "message_stop", None),
    ]


async def test_stream_tells_why_it_ends(client: anthropic.AsyncAnthropic) -> None:
    """The reason and the tokens are in the event before the last."""
    stream = await client.messages.create(**ASK, tool_choice=ANY, stream=True)
    *_, delta, _ = [event async for event in stream]
    assert (delta.delta.stop_reason, delta.usage.output_tokens) == ("tool_use", 6)


async def test_ping(provider: FakeProvider) -> None:
    """One ping comes, after the first block has begun, however many there are."""
    async with (
        aiohttp.ClientSession(headers={"anthropic-version": "2023-06-01"}) as session,
        session.post(
            f"{provider.origin}/v1/messages", json=ASK | {"tool_choice": ANY, "stream": True}
        ) as answer,
    ):
        names = [line[7:-1] for line in (await answer.read()).splitlines(keepends=True) if line[:1] == b"e"]
    assert names[:3] == [b"message_start", b"content_block_start", b"ping"]
    assert names.count(b"ping") == 1


async def test_cut_at_its_limit(client: anthropic.AsyncAnthropic) -> None:
    """Of a use that is cut no input is left, and the use after it does not come."""
    message = await client.messages.create(**ASK | {"max_tokens": 3}, tool_choice=ANY)
    assert [(block.name, block.input) for block in message.content] == [("departures", {})]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
async def test_speaks_where_it_may(client: anthropic.AsyncAnthropic, choice: str | None) -> None:
    """Where no use is forced there is a text, as without tools."""
    message = await client.messages.create(**ASK, **({"tool_choice": {"type": choice}} if choice else {}))
    assert [block.type for block in message.content] == ["text"]
    assert message.stop_reason == "end_turn"


async def test_speaks_after_a_result(client: anthropic.AsyncAnthropic) -> None:
    """Told what the tool gave, it has a text to say."""
    asked = await client.messages.create(**ASK, tool_choice=NAMED)
    result = {"type": "tool_result", "tool_use_id": asked.content[0].id, "content": "none today"}
    more = [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    message = await client.messages.create(**ASK | {"messages": [*HELLO, *more]})
    assert message.content[0].text.startswith("vertex says:")


async def test_tools_of_the_providers(client: anthropic.AsyncAnthropic) -> None:
    """Tools that run at the provider are not used: there is a text."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    choice = {"type": "tool", "name": "web_search"}
    message = await client.messages.create(**ASK | {"tools": tools}, tool_choice=choice)
    assert message.content[0].text.startswith("vertex says:")


async def test_without_tools(client: anthropic.AsyncAnthropic) -> None:
    """A use cannot be forced where nothing is offered."""
    with pytest.raises(anthropic.BadRequestError, match="may only be specified while providing tools"):
        await client.messages.create(**ASK | {"tools": []}, tool_choice=ANY)


async def test_unknown_tool(client: anthropic.AsyncAnthropic) -> None:
    """A tool that is not offered cannot be used."""
    with pytest.raises(anthropic.BadRequestError, match="Tool 'signals' not found"):
        await client.messages.create(**ASK, tool_choice={"type": "tool", "name": "signals"})
