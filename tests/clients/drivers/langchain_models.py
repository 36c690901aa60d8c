"""Asks both families with LangChain's chat models, and prints what they made of it, a line each."""

import json
import os
from typing import Any

os.environ |= {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

ASKED = "Why do trains need points? Übergänge, 渡り線 🚂"
OPTIONS: Any = {"api_key": os.environ["CALLERS_KEY"], "max_retries": 0}
MODELS: dict[str, Any] = {
    "openai": ChatOpenAI(model=os.environ["OPENAI_MODEL"], base_url=os.environ["OPENAI_URL"], **OPTIONS),
    "anthropic": ChatAnthropic(
        model=os.environ["ANTHROPIC_MODEL"], base_url=os.environ["ANTHROPIC_URL"], max_tokens=64, **OPTIONS
    ),
}
# Made up by the library itself, anew for every run.
OWN = {"id"}


def told(call: str, messages: list[Any]) -> None:
    """Print them."""
    got = [message.model_dump(mode="json", exclude=OWN) for message in messages]
    print(json.dumps({"call": call, "got": got}))  # noqa: T201


if __name__ == "__main__":
    for name, model in MODELS.items():
        told(name, [model.invoke(ASKED)])
        told(f"{name}, streamed", list(model.stream(ASKED)))
        told(
            f"{name}, tools",
            [
                model.bind_tools(
                    [{"title": "departures", "description": "Trains", "type": "object", "properties": {}}]
                ).invoke(ASKED)
            ],
        )
