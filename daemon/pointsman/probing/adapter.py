"""How a kind of provider differs from the two protocol families it may speak. Data, and how to read it."""

import re
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pointsman.core.endpoints import join
from pointsman.core.model import Family, Provider, Target

# Stable since 2023 and accepted by everything that speaks Messages; a provider's own header can name a later one.
ANTHROPIC_VERSION: Final = "2023-06-01"
GENERATE_PATHS: Final = {Family.ANTHROPIC: "/v1/messages", Family.OPENAI: "/v1/chat/completions"}
EMBEDDINGS_PATH: Final = "/v1/embeddings"


class Quirk(Struct, frozen=True):
    """Fields that the generate probe of models matching `models` (a regular expression) needs."""

    models: str
    fields: dict[str, Any]


class Adapter(Struct, frozen=True, kw_only=True):
    """A kind of provider.

    `reach_path` is the free thing to ask, as a path that starts with /v1, or "" for the host's root;
    `reach_shows_credential`: do 401 and 403 there mean that the credential is refused? `token_field`,
    `fields` and `quirks` shape the generate probe of the openai family; `ran_into_limit` is how the provider's
    400 begins when a model did run and the probe's few tokens were not enough for it.
    """

    reach_path: str = "/v1/models"
    reach_shows_credential: bool = True
    token_field: str = "max_tokens"  # noqa: S105  the name of a field
    fields: dict[str, Any] = {}
    quirks: tuple[Quirk, ...] = ()
    ran_into_limit: str = ""

    def reach_url(self, provider: Provider) -> str:
        """Where a reach probe asks."""
        if not self.reach_path:
            base = urlsplit(provider.base_url)
            return f"{base.scheme}://{base.netloc}/"
        return join(provider.base_url, provider.family, self.reach_path)

    def generate_url(self, provider: Provider) -> str:
        """Where a generate probe asks."""
        return join(provider.base_url, provider.family, GENERATE_PATHS[provider.family])

    def embeddings_url(self, provider: Provider) -> str:
        """Where an embeddings probe asks."""
        return join(provider.base_url, provider.family, EMBEDDINGS_PATH)

    def generate_body(self, provider: Provider, target: Target, max_tokens: int) -> bytes:
        """The smallest honest completion: one word in, `max_tokens` out at most, streamed."""
        body: dict[str, Any] = {
            "model": target.model,
            "stream": True,
            "messages": [{"role": "user", "content": "hi"}],
        }
        if provider.family is Family.ANTHROPIC:
            return msgspec.json.encode(body | {"max_tokens": max_tokens})
        body |= {self.token_field: max_tokens} | self.fields
        for quirk in self.quirks:
            if re.fullmatch(quirk.models, target.model):
                body |= quirk.fields
        return msgspec.json.encode(body)
