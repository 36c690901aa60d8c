"""The name of every key and channel. All keys of an installation share one hash tag, and so one cluster slot."""

from msgspec import Struct


class Keys(Struct, frozen=True):
    """`prefix` sets installations in one Redis apart; environments and fleets never share a key."""

    prefix: str
    environment: str
    fleet: str

    def _key(self, name: str) -> str:
        return f"{{{self.prefix}:{self.environment}}}:{self.fleet}:{name}"

    @property
    def lease(self) -> str:
        """Hash, expires: owner, epoch."""
        return self._key("lease")

    @property
    def epoch(self) -> str:
        """The last epoch that was given out; never expires."""
        return self._key("epoch")

    @property
    def state(self) -> str:
        """Hash: revision, format, and a field per part of the state (codec.py)."""
        return self._key("state")

    @property
    def table(self) -> str:
        """Hash: epoch, revision, hash, format, body, reasons, deadlines, published_s."""
        return self._key("table")

    @property
    def history(self) -> str:
        """Hash: revision → what was published under it."""
        return self._key("history")

    @property
    def revisions(self) -> str:
        """Sorted set of the revisions in the history, so that the oldest can be found."""
        return self._key("revisions")

    @property
    def proxies(self) -> str:
        """Hash: name → "" of the proxies that have reported."""
        return self._key("proxies")

    def report(self, proxy: str) -> str:
        """The last report of one proxy; expires."""
        return self._key(f"report:{proxy}")

    @property
    def words(self) -> str:
        """Stream of operators' words."""
        return self._key("words")

    def answer(self, word_id: str) -> str:
        """What a word led to; expires."""
        return self._key(f"answer:{word_id}")

    @property
    def events(self) -> str:
        """Stream of notes."""
        return self._key("events")

    @property
    def records(self) -> str:
        """Stream of recorded decisions (recording.py)."""
        return self._key("records")

    @property
    def hint_channel(self) -> str:
        """Carries "<epoch>.<revision>" of every new table."""
        return self._key("hint")

    @property
    def wake_channel(self) -> str:
        """Carries who or what wakes the leader."""
        return self._key("wake")

    @property
    def answer_channel(self) -> str:
        """Carries the id of every word that was answered."""
        return self._key("answers")

    @property
    def pattern(self) -> str:
        """A glob that all of these match, and nothing of another fleet."""
        return self._key("*")
