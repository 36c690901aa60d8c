"""Keys of callers: how they are made, and what of them stands in the configuration, which is a hash."""

import hashlib
import secrets
from typing import Final

PREFIX: Final = "pm-"
SCHEME: Final = "sha256:"
_RANDOM_BYTES: Final = 32


def fresh_key() -> str:
    """A key that nobody has guessed: 32 random bytes, so that a plain hash hides it as well as a slow one would."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(key: str) -> bytes:
    """What is compared; of a key as a header carries it."""
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def hashed(key: str) -> str:
    """What stands in the configuration: "sha256:" and 64 hexadecimal digits."""
    return SCHEME + digest_of(key).hex()
