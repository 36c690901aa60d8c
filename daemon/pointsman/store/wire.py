"""Calls to the server: each has one deadline, and every failure is told as a StoreError.

What changes something is sent once: whoever does not hear of its fate must look, not repeat. What only reads is
sent again when the connection was lost. Durations are in seconds.
"""

import asyncio
import hashlib
import importlib.resources
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pointsman.store.errors import StoreDown, StoreError

Command = Sequence[Any]

SCHEMES: Final = ("redis", "rediss", "unix")
_BAD_URL: Final = (
    "store.url is not usable: write redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/to/socket"
)
_HIDDEN: Final = "[secret]"
# First words of answers of a server that lives, but does not do it now. It may later.
_NOT_NOW: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"}
)


class Script(Struct, frozen=True):
    """A Lua script, and the name that the server knows it by."""

    text: str
    sha: str


def load_script(name: str, *, fenced: bool = True) -> Script:
    """The script `name`, behind the fence if only the leader may run it."""
    folder = importlib.resources.files("pointsman.store") / "scripts"
    parts = ["fence", name] if fenced else [name]
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Wire:
    """The connections to one server; none is made before the first call. Raises StoreError for a bad URL."""

    def __init__(self, url: str, *, password: str | None, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        try:
            self.place, in_url = _taken_apart(url)
            self._secrets = [secret for secret in (password, in_url) if secret]
            self._reading = _client(url, password, retries=1)
            self._writing = _client(url, password, retries=0)
        except ValueError:
            # Without its cause, which may quote the URL, and a URL may hold a password.
            raise StoreError(_BAD_URL) from None

    def __repr__(self) -> str:
        return f"Wire({self.place!r})"

    async def aclose(self) -> None:
        """Close every connection."""
        await self._reading.aclose()
        await self._writing.aclose()

    async def read(self, *command: Any) -> Any:
        """The reply to a command that changes nothing."""
        async with self.told():
            return await self._reading.execute_command(*command)

    async def read_all(self, *commands: Command) -> list[Any]:
        """The replies to commands that change nothing, as of one moment and in one round trip."""
        async with self.told():
            return await _transaction(self._reading, commands)

    async def wait(self, *command: Any, block_s: float) -> Any:
        """The reply to a command that waits in the server for at most `block_s`."""
        async with self.told(block_s):
            return await self._reading.execute_command(*command)

    async def write(self, *command: Any) -> Any:
        """The reply to a command that changes something."""
        async with self.told():
            return await self._writing.execute_command(*command)

    async def write_all(self, *commands: Command) -> list[Any]:
        """The replies to commands that change something: all or none, in one round trip."""
        async with self.told():
            return await _transaction(self._writing, commands)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The reply of a script. A server that forgot the script (restart, flush) is told it again."""
        async with self.told():
            try:
                return await self._writing.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
            except redis_errors.NoScriptError:
                return await self._writing.execute_command("EVAL", script.text, len(keys), *keys, *args)

    def pubsub(self) -> Any:
        """A redis-py PubSub, on a connection of its own; to be used inside `told`."""
        return self._writing.pubsub()

    @asynccontextmanager
    async def told(self, longer_s: float = 0.0) -> AsyncIterator[None]:
        """The deadline of what is done inside, and its failures as StoreError."""
        allowed_s = self.timeout_s + longer_s
        try:
            # Not a scope of anyio, which would cancel redis-py again while it puts its connection away.
            async with asyncio.timeout(allowed_s):
                yield
        except TimeoutError:
            raise StoreDown(
                f"the store at {self.place} did not answer within {allowed_s:g} s: "
                "look whether it is frozen or overloaded (or raise store.timeout_s)"
            ) from None
        except (redis_errors.RedisError, OSError) as error:
            # Without its cause: a server may quote what it does not understand, even a password.
            raise self._translated(error) from None

    def _translated(self, error: BaseException) -> StoreError:
        # What the server said while a connection was made comes inside of a ConnectionError.
        if isinstance(error, redis_errors.ConnectionError) and isinstance(
            error.__cause__, redis_errors.RedisError
        ):
            error = error.__cause__
        text = str(error).strip().rstrip(".")  # more comes after it
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        match error:
            case redis_errors.AuthenticationError() | redis_errors.NoPermissionError():
                return StoreDown(
                    f"the store at {self.place} refuses us: {text}: look at store.password and store.url"
                )
            case redis_errors.AskError():
                return StoreError(
                    f"the store at {self.place} is a node of a cluster that does not hold our keys ({text}): "
                    "name the node that does in store.url"
                )
            case redis_errors.BusyLoadingError() | redis_errors.ResponseError() if _not_now(error):
                return StoreDown(f"the store at {self.place} cannot do it now: {text}")
            case redis_errors.ConnectionError() | OSError():
                return StoreDown(
                    f"the store at {self.place} cannot be reached: {text}: look whether it runs, and at store.url"
                )
        return StoreError(
            f"the store at {self.place} refused a command: {text}: is it Redis 7.0 or newer, or Valkey?"
        )


def _not_now(error: BaseException) -> bool:
    if isinstance(error, redis_errors.ExecAbortError | redis_errors.OutOfMemoryError):
        return True
    known = redis_errors.BusyLoadingError | redis_errors.ReadOnlyError | redis_errors.ClusterDownError
    return isinstance(error, known) or str(error).partition(" ")[0] in _NOT_NOW


async def _transaction(client: Any, commands: Sequence[Command]) -> list[Any]:
    async with client.pipeline(transaction=True) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute())


def _client(url: str, password: str | None, *, retries: int) -> Any:
    """A client of redis-py, whose types say little: what its calls give is known to whoever makes them."""
    options: dict[str, Any] = {} if password is None else {"password": password}
    retry = Retry(NoBackoff(), retries, supported_errors=(redis_errors.ConnectionError,))
    return Redis.from_url(
        url,
        socket_timeout=None,  # the one deadline is that of `told`
        socket_connect_timeout=None,
        retry=retry,
        protocol=2,
        driver_info=None,
        **options,
    )


def _taken_apart(url: str) -> tuple[str, str | None]:
    """Where `url` points to, fit for everybody's eyes, and the password in it. ValueError if it is none."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("unknown scheme")
    in_query = urllib.parse.parse_qs(parts.query).get("password", [None])[0]
    password = in_query or (urllib.parse.unquote(parts.password) if parts.password else None)
    if parts.scheme == "unix":
        return f"unix://{parts.path}", password
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or 'localhost'}{port}{parts.path}", password
