"""The official openai client has tools called, in both of the APIs that know them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from pointsman.fake import FakeProvider

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello there"}]
SCHEMA = {"type": "object", "properties": {"station": {"type": "string"}}, "required": ["station"]}
# What Chat Completions and Responses are offered: two functions.
FUNCTIONS = [
    {"type": "function", "function": {"name": "departures", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "delays"}},
]
FLAT = [{"type": "function", "parameters": None, **entry["function"]} for entry in FUNCTIONS]
NAMED = {"type": "function", "function": {"name": "departures"}}
ARGUMENTS = '{"station":"bedrock"}'
ALLOWED = {"mode": "required", "tools": [{"type": "function", "function": {"name": "delays"}}]}


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client of a fake, without retries."""
    async with (
        FakeProvider("bedrock", "openai", tokens=5).running() as fake,
        openai.AsyncOpenAI(base_url=fake.base_url, api_key="x", max_retries=0) as client,
    ):
        yield client


async def chat(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """A completion with tools."""
    return await client.chat.completions.create(
        **{"model": "m", "messages": HELLO, "tools": FUNCTIONS} | more
    )


async def respond(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """A response with tools."""
    return await client.responses.create(**{"model": "m", "input": "hello there", "tools": FLAT} | more)


# --- Chat Completions


async def test_chat(client: openai.AsyncOpenAI) -> None:
    """A function that is named is called in place of a text, with arguments that fit."""
    answer = await chat(client, tool_choice=NAMED)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.id.startswith("call_")
    assert (call.type, call.function.name, call.function.arguments) == ("function", "departures", ARGUMENTS)


async def test_chat_counts_pieces_as_tokens(client: openai.AsyncOpenAI) -> None:
    """The pieces of the arguments are the tokens of the answer."""
    assert (await chat(client, tool_choice=NAMED)).usage.completion_tokens == 5


async def test_chat_required(client: openai.AsyncOpenAI) -> None:
    """Where any function will do, each is called once, with an identifier of its own."""
    calls = (await chat(client, tool_choice="required")).choices[0].message.tool_calls
    called = [(call.function.name, call.function.arguments) for call in calls]
    assert called == [("departures", ARGUMENTS), ("delays", "{}")]
    assert calls[0].id != calls[1].id


async def test_chat_one_at_a_time(client: openai.AsyncOpenAI) -> None:
    """Without calls in parallel the first function alone is called."""
    answer = await chat(client, tool_choice="required", parallel_tool_calls=False)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["departures"]


async def test_chat_allowed(client: openai.AsyncOpenAI) -> None:
    """Of the functions that are allowed, and no others, some has to be called."""
    choice = {"type": "allowed_tools", "allowed_tools": ALLOWED}
    answer = await chat(client, tool_choice=choice)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["delays"]


async def test_chat_stream(client: openai.AsyncOpenAI) -> None:
    """Each call begins with its index, id and name; then come pieces of its arguments, and the reason at the end."""
    stream = await chat(client, tool_choice="required", stream=True)
    choices = [chunk.choices[0] async for chunk in stream]
    deltas = [call for choice in choices for call in choice.delta.tool_calls or ()]
    told = [(d.index, bool(d.id), d.type, d.function.name, d.function.arguments) for d in deltas]
    pieces = ['{"', "station", '":"', "bedrock", '"}']
    assert told == [
        (0, True, "function", "departures", ""),
        *[(0, False, None, None, piece) for piece in pieces],
        (1, True, "function", "delays", ""),
        (1, False, None, None, "{}"),
    ]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    assert (choices[0].delta.role, choices[0].delta.content) == ("assistant", None)


async def test_chat_stream_usage(client: openai.AsyncOpenAI) -> None:
    """A stream counts the tokens that the whole answer does."""
    whole = await chat(client, tool_choice="required")
    stream = await chat(client, tool_choice="required", stream=True, stream_options={"include_usage": True})
    *_, last = [chunk async for chunk in stream]
    assert last.usage == whole.usage


async def test_chat_cut_at_its_limit(client: openai.AsyncOpenAI) -> None:
    """A limit cuts the arguments in the middle, and the call after them does not come."""
    answer = await chat(client, tool_choice="required", max_tokens=3)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.arguments == '{"station":"'
    assert answer.choices[0].finish_reason == "length"


async def test_chat_cut_between_calls(client: openai.AsyncOpenAI) -> None:
    """A limit that leaves the first call whole and nothing for the second still cuts."""
    answer = await chat(client, tool_choice="required", max_tokens=5)
    assert [call.function.arguments for call in answer.choices[0].message.tool_calls] == [ARGUMENTS]
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "choice",
    [None, "auto", "none", {"type": "allowed_tools", "allowed_tools": ALLOWED | {"mode": "auto"}}],
    ids=["missing", "auto", "none", "allowed"],
)
async def test_chat_speaks_where_it_may(client: openai.AsyncOpenAI, choice: Any) -> None:
    """Where no call is forced there is a text, as without tools."""
    answer = await chat(client, **({"tool_choice": choice} if choice else {}))
    assert answer.choices[0].message.content.startswith("bedrock says:")
    assert (answer.choices[0].message.tool_calls, answer.choices[0].finish_reason) == (None, "stop")


async def test_chat_speaks_after_a_result(client: openai.AsyncOpenAI) -> None:
    """Told what the function gave, it has a text to say."""
    asked = (await chat(client, tool_choice=NAMED)).choices[0].message
    result = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "none today"}
    answer = await chat(client, messages=[*HELLO, asked, result])
    assert answer.choices[0].message.content.startswith("bedrock says:")


async def test_chat_without_tools(client: openai.AsyncOpenAI) -> None:
    """A call cannot be forced where nothing is offered."""
    with pytest.raises(openai.BadRequestError, match="only allowed when 'tools' are specified") as caught:
        await chat(client, tool_choice="required", tools=[])
    assert caught.value.param == "tool_choice"


async def test_chat_unknown_function(client: openai.AsyncOpenAI) -> None:
    """A function that is not offered cannot be called."""
    with pytest.raises(openai.BadRequestError, match="'signals' not found") as caught:
        await chat(client, tool_choice={"type": "function", "function": {"name": "signals"}})
    assert caught.value.param == "tool_choice"


async def test_nonsense(client: openai.AsyncOpenAI) -> None:
    """Tools and choices of no known shape are passed over."""
    tools = [3, {"type": "function", "function": 3}, {"type": "function", "function": {"name": ["x"]}}]
    answer = await chat(client, tools=[*tools, *FUNCTIONS], tool_choice="required")
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["departures", "delays"]


# --- Responses


async def test_response(client: openai.AsyncOpenAI) -> None:
    """A function that is named is called in place of a text, with arguments that fit."""
    answer = await respond(client, tool_choice={"type": "function", "name": "departures"})
    (item,) = answer.output
    assert (item.type, item.status, item.name, item.arguments) == (
        "function_call",
        "completed",
        "departures",
        ARGUMENTS,
    )
    assert (item.id[:3], item.call_id[:5]) == ("fc_", "call_")
    assert (answer.status, answer.output_text, answer.usage.output_tokens) == ("completed", "", 5)


async def test_response_required(client: openai.AsyncOpenAI) -> None:
    """Where any function will do, each is called once, with identifiers of its own."""
    answer = await respond(client, tool_choice="required")
    assert [(item.name, item.arguments) for item in answer.output] == [
        ("departures", ARGUMENTS),
        ("delays", "{}"),
    ]
    assert len({name for item in answer.output for name in (item.id, item.call_id)}) == 4


async def test_response_one_at_a_time(client: openai.AsyncOpenAI) -> None:
    """Without calls in parallel the first function alone is called."""
    answer = await respond(client, tool_choice="required", parallel_tool_calls=False)
    assert [item.name for item in answer.output] == ["departures"]


async def test_response_allowed(client: openai.AsyncOpenAI) -> None:
    """Of the functions that are allowed, and no others, some has to be called."""
    allowed = [{"type": "function", "name": "delays"}, {"type": "image_generation"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    assert [item.name for item in (await respond(client, tool_choice=choice)).output] == ["delays"]


async def test_response_stream(client: openai.AsyncOpenAI) -> None:
    """Each call is an item: added without arguments, which come in pieces and then as a whole, and done."""
    stream = await respond(client, tool_choice="required", stream=True)
    events = [event async for event in stream]
    delta, done = "response.function_call_arguments.delta", "response.function_call_arguments.done"
    assert [(event.type, getattr(event, "output_index", None)) for event in events] == [
        ("response.created", None),
        ("response.in_progress", None),
        ("response.output_item.added", 0),
        *[(delta, 0)] * 5,
        (done, 0),
        ("response.output_item.done", 0),
        ("response.output_item.added", 1),
        (delta, 1),
        (done, 1),
        ("response.output_item.done", 1),
        ("response.completed", None),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_response_stream_grows(client: openai.AsyncOpenAI) -> None:
    """What the events of a stream say adds up to the response at its end."""
    stream = await respond(client, tool_choice="required", stream=True)
    events = [event async for event in stream]
    of_type: dict[str, list[Any]] = {}
    for event in events:
        of_type.setdefault(event.type.removeprefix("response."), []).append(event)
    output = events[-1].response.output
    first = [event for event in of_type["function_call_arguments.delta"] if event.output_index == 0]
    assert "".join(event.delta for event in first) == output[0].arguments == ARGUMENTS
    assert [event.arguments for event in of_type["function_call_arguments.done"]] == [ARGUMENTS, "{}"]
    assert [event.item for event in of_type["output_item.done"]] == output
    begun = [event.item for event in of_type["output_item.added"]]
    assert [(item.status, item.arguments) for item in begun] == [("in_progress", "")] * 2
    assert [(item.id, item.call_id) for item in begun] == [(item.id, item.call_id) for item in output]


async def test_response_cut_at_its_limit(client: openai.AsyncOpenAI) -> None:
    """A limit cuts the arguments in the middle; call and response are incomplete."""
    names = [f"platform_{number}" for number in range(9)]
    schema = {"type": "object", "required": names}
    tools = [{"type": "function", "name": "departures", "parameters": schema}]
    answer = await respond(client, tool_choice="required", tools=tools, max_output_tokens=16)
    assert (answer.status, answer.output[0].status, answer.usage.output_tokens) == (
        "incomplete",
        "incomplete",
        16,
    )
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.output[0].arguments)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
async def test_response_speaks_where_it_may(client: openai.AsyncOpenAI, choice: str | None) -> None:
    """Where no call is forced there is a text, as without tools."""
    answer = await respond(client, **({"tool_choice": choice} if choice else {}))
    assert answer.output_text.startswith("bedrock says:")
    assert [item.type for item in answer.output] == ["message"]


async def test_response_with_tools_of_the_providers(client: openai.AsyncOpenAI) -> None:
    """Tools that run at the provider are not called: there is a text."""
    answer = await respond(client, tool_choice="required", tools=[{"type": "web_search"}])
    assert answer.output_text.startswith("bedrock says:")


async def test_response_speaks_after_a_result(client: openai.AsyncOpenAI) -> None:
    """Told what the function gave, it has a text to say."""
    asked = await respond(client, tool_choice="required", parallel_tool_calls=False)
    result = {"type": "function_call_output", "call_id": asked.output[0].call_id, "output": "none today"}
    answer = await respond(client, input=[result], previous_response_id=asked.id)
    assert answer.output_text.startswith("bedrock says:")


async def test_response_tells_what_it_was_offered(client: openai.AsyncOpenAI) -> None:
    """The response has the tools, the choice and whether calls may be parallel, as they were asked for."""
    answer = await respond(client, tool_choice="required", parallel_tool_calls=False)
    assert [tool.name for tool in answer.tools] == ["departures", "delays"]
    assert (answer.tool_choice, answer.parallel_tool_calls) == ("required", False)
