"""Mistral. It refuses fields that it does not know."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter()
