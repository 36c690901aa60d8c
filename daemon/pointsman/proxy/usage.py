"""What is looked at in providers' JSON: the fields of an event, and the tokens that an answer used."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

_Count = Annotated[float, Meta(ge=0, le=1e12)]


class Usage(Struct):
    """Both families' words for tokens. Whole numbers by right, but not everybody keeps to it."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


USAGE: Final = msgspec.json.Decoder(Usage)


class Event(Struct):
    """The fields of an event's data that are looked at; each is decoded by itself."""

    id: Raw = Raw()
    type: Raw = Raw()
    code: Raw = Raw()
    error: Raw = Raw()
    usage: Raw = Raw()
    message: Raw = Raw()
    response: Raw = Raw()


RAW: Final = msgspec.json.Decoder(Event)


class Tokens(Struct):
    """Tokens in (cached ones included) and out, as last told."""

    into: int = 0
    out: int = 0

    def learn(self, usage: Usage | None) -> None:
        """Take over what `usage` tells; what it leaves out stays."""
        if usage is None:
            return
        into = usage.prompt_tokens if usage.input_tokens is None else usage.input_tokens
        if into is not None:
            cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
            self.into = int(into + cached)
        out = usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
        if out is not None:
            self.out = int(out)
