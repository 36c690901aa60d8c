"""Secrets by reference: `env:NAME`, `file:/path`, `credential:name` (a systemd credential).

A secret exists in the memory of the process that sends it, and nowhere else: it cannot be printed, formatted,
pickled or turned into JSON by accident.
"""

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

SECRET_BYTES_MAX: Final = 65_536


class SecretError(Exception):
    """A reference that leads to no usable secret: the reference, why, and what to do. Never the secret."""

    def __init__(self, ref: str, why: str, cure: str) -> None:
        self.ref = ref
        self.why = why
        self.cure = cure
        super().__init__(f"{ref}: {why}. Cure: {cure}.")


class Secret:
    """A secret in memory. `reveal()` is the only way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for a header of an outgoing request, and for nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def resolve(ref: str, env: Mapping[str, str] | None = None) -> Secret:
    """The secret that `ref` leads to. Raises SecretError.

    One line break at the end is taken off, as editors and `echo` put one there. `env` stands in for this
    process's environment.
    """
    env = os.environ if env is None else env
    kind, _, name = ref.partition(":")
    if kind == "env":
        if name not in env:
            raise SecretError(
                ref, "the variable is not set", f"set {name} in the environment of this process"
            )
        text = env[name]
    elif kind == "file":
        text = _read(ref, Path(name))
    elif kind == "credential":
        folder = env.get("CREDENTIALS_DIRECTORY")
        if not folder:
            cure = f"add LoadCredential={name}:/path to the unit, or use env: or file:"
            raise SecretError(ref, "$CREDENTIALS_DIRECTORY is not set", cure)
        text = _read(ref, Path(folder) / name)
    else:
        raise SecretError("(hidden)", "this is no reference to a secret", "write env:, file: or credential:")
    return _checked(ref, text)


def _read(ref: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        cure = "create the file, and let this process read it and nobody else"
        raise SecretError(ref, f"the file cannot be read: {error.strerror}", cure) from None
    if len(body) > SECRET_BYTES_MAX:
        raise SecretError(ref, "the file is larger than any secret", "check the path")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise SecretError(ref, "the file is not text", "check the path") from None


def _checked(ref: str, text: str) -> Secret:
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretError(ref, "the secret is empty", "put the secret there")
    if "\n" in text or "\r" in text:
        raise SecretError(ref, "the secret has a line break inside", "keep one secret to a file, on one line")
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        why = "the secret has a space at an end, a control character or a letter outside ASCII"
        raise SecretError(ref, why, "copy it again without what surrounds it")
    return Secret(text)
