"""What each kind of provider needs to be probed, as data: one small file each."""

from collections.abc import Mapping
from typing import Final

from pointsman.probing.adapter import Adapter
from pointsman.probing.providers import (
    anthropic,
    azure,
    bedrock,
    compatible,
    gemini,
    meta,
    mistral,
    openai,
    openrouter,
)

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "anthropic": anthropic.ADAPTER,
    "azure": azure.ADAPTER,
    "bedrock": bedrock.ADAPTER,
    "compatible": compatible.ADAPTER,
    "gemini": gemini.ADAPTER,
    "meta": meta.ADAPTER,
    "mistral": mistral.ADAPTER,
    "openai": openai.ADAPTER,
    "openrouter": openrouter.ADAPTER,
}


def adapter_of(kind: str) -> Adapter:
    """The adapter of a kind; an unknown one is treated as merely compatible."""
    return ADAPTERS.get(kind, compatible.ADAPTER)
