"""What is looked at in providers' JSON: the fields of an event and of an answer, and the tokens that one used."""

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


class Answer(Struct):
    """The parts of an unstreamed answer that are looked at, where they are as they should be."""

    id: Raw = Raw()
    usage: Usage | None = None
    error: Raw = Raw()


ANSWER: Final = msgspec.json.Decoder(Answer)
