"""A request whose connection is only being made."""

import asyncio
import errno
import socket
import ssl
from time import monotonic
from typing import TYPE_CHECKING, Final

from pointsman import logs
from pointsman.core.errors import Wire
from pointsman.proxy.body import Pieces
from pointsman.proxy.sides import Recipient

if TYPE_CHECKING:
    from pointsman.proxy.provider import Pool, ProviderConnection

log = logs.get("proxy")

_BY_ERRNO: Final = {
    errno.ECONNREFUSED: Wire.REFUSED,
    errno.ENETUNREACH: Wire.UNREACHABLE,
    errno.EHOSTUNREACH: Wire.UNREACHABLE,
    errno.ETIMEDOUT: Wire.CONNECT_TIMEOUT,
}


def wire_of(error: OSError) -> Wire:
    """What the failure to connect says about the wire."""
    if isinstance(error, socket.gaierror):
        return Wire.DNS
    if isinstance(error, ssl.SSLError):
        return Wire.TLS
    return _BY_ERRNO.get(error.errno or 0, Wire.RESET)


class Dial:
    """A connection that is being made for a request, and then that connection: a `Line` all along."""

    def __init__(
        self,
        pool: "Pool",
        connection: "ProviderConnection",
        recipient: Recipient,
        head: bytes,
        body: Pieces,
        *,
        is_head: bool,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._connected = False
        self._task = asyncio.ensure_future(self._run(recipient, head, body, is_head=is_head))

    async def _run(self, recipient: Recipient, head: bytes, body: Pieces, *, is_head: bool) -> None:
        try:
            await self._pool.connect(self._connection)
        except TimeoutError:
            recipient.failed(Wire.CONNECT_TIMEOUT, monotonic())
        except OSError as error:
            recipient.failed(wire_of(error), monotonic())
        except (
            Exception
        ):  # the border of an attempt: a host that cannot even be encoded must not end anything
            log.exception("no connection, for a reason of our own", host=self._connection.origin.host)
            recipient.failed(Wire.DNS, monotonic())
        else:
            self._connected = True
            self._connection.send(recipient, head, body, is_head=is_head)

    def drop(self, recipient: Recipient) -> None:
        """Give up, whether connected or not."""
        if self._connected:
            self._connection.drop(recipient)
        else:
            self._task.cancel()
            self._pool.forget(self._connection)  # a task that has not even begun does not do so itself

    def hold(self, recipient: Recipient, *, held: bool) -> None:
        """There is nothing to hold before it is connected."""
        if self._connected:
            self._connection.hold(recipient, held=held)
