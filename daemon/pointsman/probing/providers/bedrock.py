"""AWS Bedrock with a bearer token, on its Messages and OpenAI-compatible paths.

Its list of models lives on another host, so reaching is only the edge of this one: name, TLS, an HTTP answer.
"""

from typing import Final

from pointsman.probing.adapter import Adapter

ADAPTER: Final = Adapter(reach_path="", reach_shows_credential=False)
