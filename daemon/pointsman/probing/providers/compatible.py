"""Any server that speaks one of the families: vLLM, Ollama, llama.cpp, a gateway."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter()
