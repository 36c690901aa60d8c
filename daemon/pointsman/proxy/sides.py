"""What a request on its way has on its two sides: who asked, and who is asked.

The connections of `caller.py` and `provider.py` are these; a script of what happens may take their place in a test.
"""

from typing import Protocol

from pointsman.core.errors import Wire
from pointsman.proxy.api import Reply
from pointsman.proxy.body import Pieces
from pointsman.proxy.judging import Head
from pointsman.proxy.routing import Origin


class Caller(Protocol):
    """The caller's side. Exactly one of `reply`, `whole` … `done` and `begin` … (`finish` or `cut`) is said."""

    @property
    def paused(self) -> bool:
        """The caller reads more slowly than it is written to."""

    def reply(self, reply: Reply) -> None:
        """An answer of the proxy's own."""

    def whole(self, head: Head, lines: bytes, body: bytes) -> None:
        """A provider's answer that is complete leaves; `lines` are its headers but for the framing."""

    def done(self) -> None:
        """All is said and done about it: the next request may be taken."""

    def begin(self, head: Head, lines: bytes, *, length: int | None) -> None:
        """An answer begins; `length` in bytes of its body, None: not known beforehand."""

    def send(self, data: bytes) -> None:
        """More of its body."""

    def finish(self) -> None:
        """Its end."""

    def cut(self) -> None:
        """It ends, and must not be taken for whole."""

    def fail(self, reply: Reply) -> None:
        """`reply` if no answer has begun, else a cut: the proxy itself has failed."""

    def alarm(self, due_s: float) -> None:
        """Ring at `due_s` (monotonic seconds); only the latest word counts."""


class Recipient(Protocol):
    """Who hears what comes of an attempt; time in monotonic seconds."""

    def heard(self, head: Head | None, data: bytes, now_s: float, *, ended: bool) -> None:
        """The provider's answer goes on: its head if this is its beginning, more of its body, and its end."""

    def failed(self, wire: Wire, now_s: float, *, stale: bool = False) -> None:
        """The attempt broke. `stale`: its connection had been idle, and said nothing: that is nobody's failure."""


class Line(Protocol):
    """An attempt on its way to a provider."""

    def drop(self, recipient: Recipient) -> None:
        """Break it off, if it is still this recipient's; nothing more is heard of it."""

    def hold(self, recipient: Recipient, *, held: bool) -> None:
        """Read no more from the provider while `held`."""


class Providers(Protocol):
    """The providers' side."""

    def send(
        self, recipient: Recipient, origin: Origin, head: bytes, body: Pieces, *, is_head: bool, fresh: bool
    ) -> Line:
        """Send a request, on a fresh connection if asked; the recipient hears what comes of it."""

    def has_room(self, origin: Origin, most: int, *, fresh: bool) -> bool:
        """May a request be sent there now, with `most` connections at most? `send` itself refuses nothing."""
