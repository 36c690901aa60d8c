"""Has tools called with the official Python SDKs and gives their results back; prints what came of it, a line each."""

import json
import os
from collections.abc import Callable
from typing import Any, ClassVar

import anthropic
import openai

GPT, CLAUDE = os.environ["OPENAI_MODEL"], os.environ["ANTHROPIC_MODEL"]
ASKED: Any = [{"role": "user", "content": "When do trains leave? Übergänge, 渡り線 🚂"}]
PROPERTIES = {"station": {"type": "string"}, "platform": {"type": "integer", "minimum": 1}}
SCHEMA: Any = {
    "type": "object",
    "properties": PROPERTIES,
    "required": list(PROPERTIES),
    "additionalProperties": False,
}
NAMES = ("departures", "delays")
FLAT: Any = [{"type": "function", "name": name, "strict": True, "parameters": SCHEMA} for name in NAMES]
FUNCTIONS: Any = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": SCHEMA}} for name in NAMES
]
TOOLS: Any = [{"name": name, "input_schema": SCHEMA} for name in NAMES]
RESULT = "none today"


class Chat:
    """Chat Completions."""

    name = "chat"
    any: ClassVar[Any] = "required"
    one: ClassVar[Any] = {"type": "function", "function": {"name": "delays"}}

    def __init__(self, gpt: openai.OpenAI) -> None:
        self._api = gpt.chat.completions
        self._options: Any = {"model": GPT, "tools": FUNCTIONS}

    def whole(self, choice: Any) -> Any:
        return self._api.create(messages=ASKED, tool_choice=choice, **self._options)

    def events(self, choice: Any) -> list[Any]:
        return list(self._api.create(messages=ASKED, tool_choice=choice, stream=True, **self._options))

    def grown(self, choice: Any) -> Any:
        with self._api.stream(messages=ASKED, tool_choice=choice, **self._options) as stream:
            return stream.get_final_completion()

    def after(self, answer: Any) -> Any:
        said = answer.choices[0].message
        results: Any = [{"role": "tool", "tool_call_id": c.id, "content": RESULT} for c in said.tool_calls]
        return self._api.create(messages=[*ASKED, said, *results], **self._options)

    def used(self, answer: Any) -> list[Any]:
        calls = answer.choices[0].message.tool_calls or []
        return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


class Responses:
    """Responses."""

    name = "responses"
    any: ClassVar[Any] = "required"
    one: ClassVar[Any] = {"type": "function", "name": "delays"}

    def __init__(self, gpt: openai.OpenAI) -> None:
        self._api = gpt.responses
        self._options: Any = {"model": GPT, "tools": FLAT}

    def whole(self, choice: Any) -> Any:
        return self._api.create(input=ASKED, tool_choice=choice, **self._options)

    def events(self, choice: Any) -> list[Any]:
        return list(self._api.create(input=ASKED, tool_choice=choice, stream=True, **self._options))

    def grown(self, choice: Any) -> Any:
        with self._api.stream(input=ASKED, tool_choice=choice, **self._options) as stream:
            return stream.get_final_response()

    def after(self, answer: Any) -> Any:
        results: Any = [
            {"type": "function_call_output", "call_id": item.call_id, "output": RESULT}
            for item in answer.output
        ]
        return self._api.create(input=results, previous_response_id=answer.id, **self._options)

    def used(self, answer: Any) -> list[Any]:
        items = [item for item in answer.output if item.type == "function_call"]
        return [[item.name, json.loads(item.arguments)] for item in items]


class Messages:
    """Messages."""

    name = "messages"
    any: ClassVar[Any] = {"type": "any"}
    one: ClassVar[Any] = {"type": "tool", "name": "delays"}

    def __init__(self, claude: anthropic.Anthropic) -> None:
        self._api = claude.messages
        self._options: Any = {"model": CLAUDE, "max_tokens": 64, "tools": TOOLS}

    def whole(self, choice: Any) -> Any:
        return self._api.create(messages=ASKED, tool_choice=choice, **self._options)

    def events(self, choice: Any) -> list[Any]:
        return list(self._api.create(messages=ASKED, tool_choice=choice, stream=True, **self._options))

    def grown(self, choice: Any) -> Any:
        with self._api.stream(messages=ASKED, tool_choice=choice, **self._options) as stream:
            return stream.get_final_message()

    def after(self, answer: Any) -> Any:
        results: Any = [
            {"type": "tool_result", "tool_use_id": block.id, "content": RESULT} for block in answer.content
        ]
        said: Any = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        return self._api.create(messages=[*ASKED, *said], **self._options)

    def used(self, answer: Any) -> list[Any]:
        return [[block.name, block.input] for block in answer.content if block.type == "tool_use"]


def told(call: str, got: list[Any], used: list[Any]) -> None:
    """Print what was got, and the calls in it."""
    dumped = [one.model_dump(mode="json", warnings=False) for one in got]
    print(json.dumps({"call": call, "got": dumped, "used": used}))  # noqa: T201


def ask(api: Chat | Responses | Messages) -> None:
    """Each way in which one API has tools called, and what it says of their results."""
    whole: Callable[[Any], Any] = api.whole
    for choice, forced in (("any", api.any), ("one", api.one)):
        answer = whole(forced)
        told(f"{api.name}, {choice}", [answer], api.used(answer))
        told(f"{api.name}, {choice}, streamed", api.events(forced), [])
        answer = api.grown(forced)
        told(f"{api.name}, {choice}, grown", [answer], api.used(answer))
        answer = api.after(answer)
        told(f"{api.name}, {choice}, after", [answer], api.used(answer))


if __name__ == "__main__":
    options: Any = {"api_key": os.environ["CALLERS_KEY"], "max_retries": 0}
    with (
        openai.OpenAI(base_url=os.environ["OPENAI_URL"], **options) as gpt,
        anthropic.Anthropic(base_url=os.environ["ANTHROPIC_URL"], **options) as claude,
    ):
        for api in (Chat(gpt), Responses(gpt), Messages(claude)):
            ask(api)
