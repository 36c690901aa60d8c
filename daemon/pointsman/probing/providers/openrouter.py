"""OpenRouter. Its list of models is public; GET /key is free and shows the credential."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter(reach_path="/v1/key")
