"""What can be made to go wrong, and when.

    kind         what a caller sees
    refuse       connects are refused; open connections are reset
    blackhole    connects are never answered; what is open falls silent
    reset        the request is read, then the connection is reset (RST)
    hang         the request is read, and nothing ever comes back
    zombie       as hang, but only where tokens are made: the model list and the token count go on answering
    slow         latency × `multiply` + `delay_ms`; over `over_s` they grow to `multiply_to` and `delay_to_ms`
    status       the family's own error, with `status` (201–599), `code`, `retry_after_s` and `headers`
    garbage      200 with a page of HTML
    error_event  an error event after `after_events` events (0: the first event); the stream then ends properly
    stall        silence after `after_events` events
    truncate     a proper end after `after_events` events, without the terminal event
    abort        the connection is closed in the middle of a chunk after `after_events` events
    break        200 and headers, then a reset after `after_events` events

The last five concern streams; with `stream: false` they befall whole answers in the middle of the body
(error_event: 200 with an error as the body). Faults are tried in order: the first that applies is done, and
every `slow` that applies slows. `rate` is drawn from a seeded generator: the same requests, the same fates.
"""

import random
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct


class Kind(StrEnum):
    """The kinds of fault; see the head of this file."""

    REFUSE = "refuse"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    HANG = "hang"
    ZOMBIE = "zombie"
    SLOW = "slow"
    STATUS = "status"
    GARBAGE = "garbage"
    ERROR_EVENT = "error_event"
    STALL = "stall"
    TRUNCATE = "truncate"
    ABORT = "abort"
    BREAK = "break"


DOOR_KINDS: Final = frozenset({Kind.REFUSE, Kind.BLACKHOLE})
STREAM_KINDS: Final = frozenset({Kind.ERROR_EVENT, Kind.STALL, Kind.TRUNCATE, Kind.ABORT, Kind.BREAK})

_Duration = Annotated[float, Meta(ge=0, le=31_536_000)]
_Delay = Annotated[float, Meta(ge=0, le=86_400_000)]
_Factor = Annotated[float, Meta(ge=0, le=1_000_000)]
_HeaderText = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*$", max_length=8192)]
_HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$", max_length=128)]


class FaultError(Exception):
    """A fault that makes no sense; `field` is where ("[0].rate")."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong, and for which requests.

    Which: `rate` (share, 0–1), `models` and `paths` (as in "/v1/messages"; empty: all), `stream` (only streamed,
    only whole, or both). When, in seconds since it was set: from `start_s` on, for `for_s` (0: until it is
    replaced), flapping `on_s` on and `off_s` off. How: see the head of the file. `spread` is the sigma of a
    lognormal factor over the latency; `framing` "length" truncates under a Content-Length that fits.
    """

    kind: Kind
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    models: tuple[str, ...] = ()
    paths: tuple[Annotated[str, Meta(pattern="^/")], ...] = ()
    stream: bool | None = None
    start_s: _Duration = 0.0
    for_s: _Duration = 0.0
    on_s: _Duration = 0.0
    off_s: _Duration = 0.0
    status: Annotated[int, Meta(ge=201, le=599)] | None = None
    code: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]*$", max_length=100)] = ""
    retry_after_s: _Duration | None = None
    headers: dict[_HeaderName, _HeaderText] = {}
    after_events: Annotated[int, Meta(ge=0)] = 0
    framing: Literal["chunked", "length"] = "chunked"
    delay_ms: _Delay = 0.0
    delay_to_ms: _Delay | None = None
    multiply: _Factor = 1.0
    multiply_to: _Factor | None = None
    over_s: _Duration = 0.0
    spread: Annotated[float, Meta(ge=0, le=3)] = 0.0

    def __post_init__(self) -> None:
        if self.kind is Kind.STATUS and self.status is None:
            raise ValueError("`status` is needed by the kind status")
        if self.status is not None and self.kind not in {Kind.STATUS, Kind.ERROR_EVENT}:
            raise ValueError(f"`status` means nothing to the kind {self.kind}")
        if self.kind in DOOR_KINDS and (
            self.rate < 1 or self.models or self.paths or self.stream is not None
        ):
            raise ValueError(f"`kind` {self.kind} befalls every connection: no rate, models, paths or stream")
        if bool(self.on_s) != bool(self.off_s):
            raise ValueError("`on_s` and `off_s` go together")
        if (self.multiply_to is None and self.delay_to_ms is None) != (self.over_s == 0):
            raise ValueError("`over_s` and multiply_to or delay_to_ms go together")

    def active(self, age_s: float) -> bool:
        """Whether it is on, `age_s` seconds after it was set."""
        age_s -= self.start_s
        if age_s < 0 or (self.for_s and age_s >= self.for_s):
            return False
        return not self.on_s or age_s % (self.on_s + self.off_s) < self.on_s

    def next_change_s(self, age_s: float) -> float | None:
        """Seconds until it may go on or off by itself, None if it never does."""
        if age_s < self.start_s:
            return self.start_s - age_s
        age_s -= self.start_s
        edges = [self.for_s - age_s] if self.for_s > age_s else []
        if self.on_s and (edges or not self.for_s):
            phase_s = age_s % (self.on_s + self.off_s)
            edges.append((self.on_s if phase_s < self.on_s else self.on_s + self.off_s) - phase_s)
        return min(edges, default=None)

    def factor(self, age_s: float) -> float:
        """By how much latency is multiplied, `age_s` seconds after it was set."""
        return self._grown(self.multiply, self.multiply_to, age_s)

    def delayed_ms(self, age_s: float) -> float:
        """What is added to latency, `age_s` seconds after it was set."""
        return self._grown(self.delay_ms, self.delay_to_ms, age_s)

    def _grown(self, first: float, last: float | None, age_s: float) -> float:
        if last is None:
            return first
        return first + (last - first) * min(1.0, max(0.0, age_s - self.start_s) / self.over_s)

    def concerns(self, path: str, model: str, *, stream: bool, makes_tokens: bool) -> bool:
        """Whether a request is one of those that it is for."""
        if (self.models and model not in self.models) or (self.paths and path not in self.paths):
            return False
        if self.kind is Kind.ZOMBIE and not makes_tokens:
            return False
        if self.stream is None:
            return stream or self.kind not in STREAM_KINDS
        return stream is self.stream


class Verdict(Struct, frozen=True, kw_only=True):
    """What happens to one request: the fault if any, and how its latency changes."""

    fault: Fault | None = None
    multiply: float = 1.0
    delay_ms: float = 0.0


class Misfortune:
    """The faults in force. `now_s` is any monotonic clock's, always the same one."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._latency_dice = random.Random(seed + 1)
        self._faults: tuple[Fault, ...] = ()
        self._since_s = 0.0
        self._death: Fault | None = None
        self._died_s = 0.0

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self._faults

    def replace(self, faults: Iterable[Fault], now_s: float) -> None:
        """Put these in place of those that were. The clock of each starts now. Raises FaultError."""
        try:
            # Constructing a Struct does not check the ranges of its fields; converting one does.
            self._faults = msgspec.convert(msgspec.to_builtins(list(faults)), tuple[Fault, ...])
        except msgspec.ValidationError as error:
            raise explained(error) from error
        self._since_s = now_s

    def die(self, kind: Kind, for_s: float, now_s: float) -> None:
        """Be dead as `kind` says, over all faults, for so long (0: until `revive`)."""
        self._death = Fault(kind=kind, for_s=for_s)
        self._died_s = now_s

    def revive(self) -> None:
        self._death = None

    def death(self, now_s: float) -> Kind | None:
        """As what it is dead at present, if it is."""
        if self._death is not None and self._death.active(now_s - self._died_s):
            return self._death.kind
        return None

    def door(self, now_s: float) -> Kind | None:
        """What befalls the listening socket at present: refuse, blackhole or nothing."""
        kind = self.death(now_s)
        if kind is not None:
            return kind if kind in DOOR_KINDS else None
        age_s = now_s - self._since_s
        return next((f.kind for f in self._faults if f.kind in DOOR_KINDS and f.active(age_s)), None)

    def next_change_s(self, now_s: float) -> float | None:
        """Seconds until `door` may say something else by itself."""
        age_s = now_s - self._since_s
        waits = [fault.next_change_s(age_s) for fault in self._faults if fault.kind in DOOR_KINDS]
        if self._death is not None:
            waits.append(self._death.next_change_s(now_s - self._died_s))
        return min((wait for wait in waits if wait is not None), default=None)

    def draw(self, path: str, model: str, *, stream: bool, makes_tokens: bool, now_s: float) -> Verdict:
        """The fate of one request."""
        kind = self.death(now_s) or self.door(now_s)
        if kind is not None:
            return Verdict(fault=Fault(kind=Kind.RESET if kind is Kind.RESET else Kind.HANG))
        age_s = now_s - self._since_s
        chosen: Fault | None = None
        multiply, delay_ms = 1.0, 0.0
        for fault in self._faults:
            if fault.kind in DOOR_KINDS or not fault.active(age_s):
                continue
            if not fault.concerns(path, model, stream=stream, makes_tokens=makes_tokens):
                continue
            if fault.rate < 1 and self._dice.random() >= fault.rate:
                continue
            if fault.kind is Kind.SLOW:
                spread = self.spread(fault.spread)
                multiply *= fault.factor(age_s) * spread
                delay_ms += fault.delayed_ms(age_s) * spread
            elif chosen is None:
                chosen = fault
        return Verdict(fault=chosen, multiply=multiply, delay_ms=delay_ms)

    def spread(self, sigma: float) -> float:
        """A lognormal factor with median 1; exactly 1 for no spread."""
        return self._latency_dice.lognormvariate(0.0, sigma) if sigma else 1.0


def parse(body: bytes) -> tuple[Fault, ...]:
    """The faults in a JSON list. Raises FaultError with the field that is wrong."""
    try:
        return msgspec.json.decode(body, type=tuple[Fault, ...])
    except msgspec.MsgspecError as error:
        raise explained(error) from error


def explained(error: msgspec.MsgspecError) -> FaultError:
    """What msgspec found, with the field apart: where it says so itself, else the first name that it quotes."""
    text, _, place = str(error).partition(" - at `$")
    field = place.rstrip("`")
    named = re.search(r"`(\w+)`", text)
    if named and ("field" in text or text.startswith("`")):
        field = f"{field}.{named[1]}"
    if field.endswith("kind") and "enum" in text:
        text += "; known are " + ", ".join(Kind)
    return FaultError(field.lstrip("."), text)
