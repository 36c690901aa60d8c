"""The Gemini API on its OpenAI-compatible path (/v1beta/openai)."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter()
