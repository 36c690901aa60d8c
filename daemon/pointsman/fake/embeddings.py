"""Embeddings: vectors of unit length that depend on the model and the input and on nothing else."""

import base64
import hashlib
import math
import struct
from typing import Any, Final

from pointsman.fake.dialect import Refusal, limit_of, tokens_in

DIMENSIONS: Final = 1536
DIMENSIONS_MAX: Final = 8192


def embed(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to an embeddings request. Raises Refusal."""
    inputs = _inputs(body.get("input"))
    dimensions = limit_of(body, "dimensions") or DIMENSIONS
    if dimensions > DIMENSIONS_MAX:
        raise Refusal(400, f"Invalid 'dimensions': at most {DIMENSIONS_MAX}.", "invalid_value", "dimensions")
    packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(inputs):
        vector = _vector(f"{body['model']}\0{text}", dimensions)
        embedding = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    count = sum(tokens_in(text) if isinstance(text, str) else len(text) for text in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _inputs(value: object) -> list[str] | list[list[int]]:
    """What is to be embedded: a text, texts, tokens or lists of tokens."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(entry, str) for entry in value):
            return value
        if all(isinstance(entry, int) for entry in value):
            return [value]
        if all(isinstance(entry, list) for entry in value):
            return value
    raise Refusal(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")


def _vector(seed: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(seed.encode()).digest(2 * dimensions)
    numbers = struct.unpack(f"<{dimensions}h", raw)
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]
