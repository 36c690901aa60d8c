"""Azure OpenAI, on its /openai/v1 paths. Its list shows base models and no deployments: only generating does."""

from typing import Final

from pointsman.probing.adapter import Adapter
from pointsman.probing.providers.openai import OUT_OF_TOKENS

# A deployment's name tells nothing about its model, so nothing is set about reasoning.
ADAPTER: Final = Adapter(
    token_field="max_completion_tokens",  # noqa: S106  the name of a field
    fields={"stream_options": {"include_usage": True}},
    ran_into_limit=OUT_OF_TOKENS,
)
