"""Anthropic. The model list is free and shows the credential; GET /v1/models, header x-api-key."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter()
