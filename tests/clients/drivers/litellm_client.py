"""Asks both families with litellm as a client library, and prints what it made of it, a line each."""

import json
import os
from collections.abc import Callable
from typing import Any

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}

import litellm

# It advertises itself on standard output.
litellm.suppress_debug_info = True
MESSAGES = [{"role": "user", "content": "Why do trains need points? Übergänge, 渡り線 🚂"}]
KEY = os.environ["CALLERS_KEY"]
GPT = {"model": f"openai/{os.environ['OPENAI_MODEL']}", "api_base": os.environ["OPENAI_URL"], "api_key": KEY}
CLAUDE = {
    "model": f"anthropic/{os.environ['ANTHROPIC_MODEL']}",
    "api_base": os.environ["ANTHROPIC_URL"],
    "api_key": KEY,
}

chat: Callable[..., Any] = litellm.completion
CALLS: dict[str, Callable[[], Any]] = {
    "chat": lambda: [chat(messages=MESSAGES, num_retries=0, **GPT)],
    "chat, streamed": lambda: chat(messages=MESSAGES, num_retries=0, stream=True, **GPT),
    "embeddings": lambda: [litellm.embedding(input=["one", "two"], **GPT)],
    "messages": lambda: [chat(messages=MESSAGES, num_retries=0, max_tokens=64, **CLAUDE)],
    "messages, streamed": lambda: chat(
        messages=MESSAGES, num_retries=0, max_tokens=64, stream=True, **CLAUDE
    ),
}
# Made up by the library itself, anew for every answer.
OWN = {"id", "created"}


def without_own(value: Any) -> Any:
    """What the provider said."""
    return {name: one for name, one in value.model_dump(mode="json").items() if name not in OWN}


if __name__ == "__main__":
    for call, ask in CALLS.items():
        print(json.dumps({"call": call, "got": [without_own(one) for one in ask()]}))  # noqa: T201
