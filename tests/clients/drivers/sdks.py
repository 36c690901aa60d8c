"""Asks both families for everything with the official Python SDKs, and prints what they made of it, a line each."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai

GPT, CLAUDE = os.environ["OPENAI_MODEL"], os.environ["ANTHROPIC_MODEL"]
MESSAGES: Any = [{"role": "user", "content": "Why do trains need points? Übergänge, 渡り線 🚂"}]
SCHEMA: Any = {"type": "object", "properties": {"station": {"type": "string"}}}
TOOLS: Any = [{"name": "departures", "description": "When trains leave", "input_schema": SCHEMA}]
FUNCTIONS: Any = [{"type": "function", "function": {"name": "departures", "parameters": SCHEMA}}]
USED: Any = [
    *MESSAGES,
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "departures", "input": {}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "none today"}]},
]
BETAS = ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]


def calls(gpt: Any, claude: Any) -> dict[str, Callable[[], Any]]:
    """What to ask; the same for the clients that wait and for those that do not."""
    chat, responses, messages = gpt.chat.completions.create, gpt.responses.create, claude.messages.create
    beta = claude.beta.messages.create
    asked = {"max_tokens": 64, "model": CLAUDE}
    return {
        "chat": lambda: chat(model=GPT, messages=MESSAGES),
        "chat, streamed": lambda: chat(
            model=GPT, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ),
        "chat, tools": lambda: chat(model=GPT, messages=MESSAGES, tools=FUNCTIONS),
        "responses": lambda: responses(model=GPT, input="hi"),
        "responses, streamed": lambda: responses(model=GPT, input="hi", stream=True),
        "embeddings": lambda: gpt.embeddings.create(model=GPT, input=["one", "two"]),
        "an error": lambda: responses(model=GPT, input="hi", max_output_tokens=1),
        "messages": lambda: messages(messages=MESSAGES, **asked),
        "messages, streamed": lambda: messages(messages=MESSAGES, stream=True, **asked),
        "messages, tools": lambda: messages(messages=USED, tools=TOOLS, **asked),
        "messages, beta": lambda: beta(messages=MESSAGES, betas=BETAS, **asked),
        "count_tokens": lambda: claude.messages.count_tokens(model=CLAUDE, messages=MESSAGES),
        "another error": lambda: messages(messages=MESSAGES, model=CLAUDE, max_tokens=0),
    }


def told(call: str, got: Any) -> None:
    """Print it."""
    events = got if isinstance(got, list) else [got]
    print(json.dumps({"call": call, "got": [event.model_dump(mode="json") for event in events]}))  # noqa: T201


def failed(call: str, error: openai.APIError | anthropic.APIError) -> None:
    """Print that."""
    status = getattr(error, "status_code", None)
    print(json.dumps({"call": call, "failed": type(error).__name__, "status": status, "body": error.body}))  # noqa: T201


def options(family: str) -> Any:
    """Of a client."""
    return {
        "base_url": os.environ[f"{family}_URL"],
        "api_key": os.environ["CALLERS_KEY"],
        "max_retries": 0,
    }


def waiting() -> None:
    """The clients that wait."""
    with openai.OpenAI(**options("OPENAI")) as gpt, anthropic.Anthropic(**options("ANTHROPIC")) as claude:
        for call, ask in calls(gpt, claude).items():
            try:
                got = ask()
                told(call, got if hasattr(got, "model_dump") else list(got))
            except (openai.APIError, anthropic.APIError) as error:
                failed(call, error)


async def not_waiting() -> None:
    """The clients for asyncio."""
    async with (
        openai.AsyncOpenAI(**options("OPENAI")) as gpt,
        anthropic.AsyncAnthropic(**options("ANTHROPIC")) as claude,
    ):
        for call, ask in calls(gpt, claude).items():
            made: Callable[[], Awaitable[Any]] = ask
            try:
                got = await made()
                told(call, got if hasattr(got, "model_dump") else [event async for event in got])
            except (openai.APIError, anthropic.APIError) as error:
                failed(call, error)


if __name__ == "__main__":
    waiting() if sys.argv[1:] == ["sync"] else asyncio.run(not_waiting())
