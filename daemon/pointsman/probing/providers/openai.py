"""OpenAI. Reasoning models think away a small budget unless told to keep it short; others refuse to be told."""

from typing import Final

from pointsman.probing.adapter import Adapter, Quirk

# Only the models that are known to take the setting: the others answer 400 to it.
MINIMAL_REASONING: Final = Quirk(r"gpt-5(-mini|-nano)?(-\d{4}-\d\d-\d\d)?", {"reasoning_effort": "minimal"})
OUT_OF_TOKENS: Final = "Could not finish the message because max_tokens"

ADAPTER: Final = Adapter(
    token_field="max_completion_tokens",  # noqa: S106  the name of a field
    fields={"stream_options": {"include_usage": True}},
    quirks=(MINIMAL_REASONING,),
    ran_into_limit=OUT_OF_TOKENS,
)
