"""A small configuration that is valid, and a way to write variations of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

VALID = """\
providers:
  bedrock:
    family: openai
    base_url: https://bedrock.example/v1
    credentials: ["env:BEDROCK_KEY"]
  google:
    family: openai
    base_url: https://google.example/v1
targets:
  bedrock-chat: {provider: bedrock, model: large}
  google-chat: {provider: google, model: large}
routes:
  chat:
    weights:
      bedrock-chat: 60
      google-chat: 40
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write()` makes the valid file, `write(("old", "new"), …, append="…")` a variation, and gives its path."""

    def write_file(*edits: tuple[str, str], append: str = "") -> Path:
        text = VALID + append
        for old, new in edits:
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the file"
            text = text.replace(old, new)
        path = tmp_path / "pointsman.yaml"
        path.write_text(text)
        return path

    return write_file
