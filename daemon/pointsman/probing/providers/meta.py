"""The Meta Model API. All its models reason, so that a probe often ends for length, which is an answer."""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter()
