"""The tokens that an answer used."""

from pointsman.proxy.usage import Usage


class Tokens:
    """Tokens in (cached ones included) and out, as last told."""

    __slots__ = ("into", "out")

    def __init__(self) -> None:
        self.into = 0
        self.out = 0

    def learn(self, usage: Usage | None) -> None:
        """Take over what `usage` tells; what it leaves out stays."""
        if usage is None:
            return
        into = usage.input_tokens
        if into is None:
            into = usage.prompt_tokens
        if into is not None:
            cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
            self.into = int(into + cached)
        out = usage.output_tokens
        if out is None:
            out = usage.completion_tokens
        if out is not None:
            self.out = int(out)
