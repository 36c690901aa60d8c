"""A fake LLM provider: faithful on the wire until it is told not to be."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self

import anyio

from pointsman.core.model import Family
from pointsman.fake.anthropic import Anthropic
from pointsman.fake.control import Control
from pointsman.fake.dialect import Allowance, Answer, Call, Dialect, Event, Persona
from pointsman.fake.door import Door
from pointsman.fake.faults import DOOR_KINDS, STREAM_KINDS, Fault, FaultError, Kind, Misfortune, Verdict
from pointsman.fake.ledger import Ledger, Seen
from pointsman.fake.openai import OpenAI
from pointsman.fake.wire import Connection, HungUp, Request

_DIALECTS: Final[dict[Family, type[Dialect]]] = {Family.ANTHROPIC: Anthropic, Family.OPENAI: OpenAI}
DEATHS: Final = DOOR_KINDS | {Kind.RESET, Kind.HANG}
_PAGE: Final = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>\n"
# A reset may overtake what was written just before it: give the caller the time to have read that.
_BEFORE_RESET_S: Final = 0.05
_TIMER_SLACK_S: Final = 0.001


class FakeProvider:
    """One provider on one port, with its controls on another.

    It lives in `async with provider.running()` (or `async with provider`). `family` is "anthropic" or "openai";
    `prefix` is what stands before /v1 in every path ("/api" for OpenRouter's, whose `kind` is "openrouter").
    `models` empty: any model is served; `api_keys` empty: no credential is asked for; `rpm` > 0: that many
    requests a minute, then 429. Latency: `latency_ms` to the first byte, times a lognormal factor of sigma
    `latency_spread`; `token_delay_ms` before each token. Callers may set the headers x-fake-tokens and
    x-fake-token-delay-ms. The same `seed` and the same requests meet the same fates; with `still`, time stands still
    in the answers, and the same requests in the same order get the same bytes. With `echo` it says what it was asked.
    Tools are called where a request forces it (`pointsman.fake.tools`), and never by its own choice.
    """

    def __init__(
        self,
        name: str = "fake",
        family: str = "openai",
        *,
        kind: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        control_host: str = "127.0.0.1",
        control_port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        prefix: str = "",
        models: tuple[str, ...] = (),
        api_keys: tuple[str, ...] = (),
        seed: int = 0,
        latency_ms: float = 0.0,
        latency_spread: float = 0.0,
        token_delay_ms: float = 0.0,
        tokens: int = 20,
        rpm: int = 0,
        still: bool = False,
        echo: bool = False,
    ) -> None:
        self.name = name
        self.family = Family(family)
        self.requests = Ledger()
        self._prefix = prefix.rstrip("/").removesuffix("/v1")
        self._latency_ms = latency_ms
        self._latency_spread = latency_spread
        self._token_delay_ms = token_delay_ms
        persona = Persona(
            name=name, kind=kind, models=models, api_keys=api_keys, tokens=tokens, still=still, echo=echo
        )
        self._allowance = Allowance(rpm, still=still)
        self._dialect = _DIALECTS[self.family](persona, self._allowance)
        self._misfortune = Misfortune(seed)
        self._door = Door(host, port, self._handle, tls=ssl_context)
        self._control_door = Door(control_host, control_port, Control(self).handle)
        self._timer: asyncio.TimerHandle | None = None
        self._door_kind: Kind | None = None
        self._up = False
        self._life: AbstractAsyncContextManager[Self] | None = None

    # --- where it is

    @property
    def origin(self) -> str:
        """http://127.0.0.1:9101"""
        return self._door.origin

    @property
    def base_url(self) -> str:
        """What a client of the family is pointed at: the openai family's ends in /v1, the anthropic one's does not."""
        return f"{self.origin}{self._prefix}{'/v1' if self.family is Family.OPENAI else ''}"

    @property
    def control_url(self) -> str:
        """Where GET, PUT and DELETE /faults, GET /stats, POST /die and POST /revive are."""
        return self._control_door.origin

    @property
    def port(self) -> int:
        return self._door.port

    @property
    def connections(self) -> int:
        """How many connections are open at present."""
        return self._door.connections

    @property
    def connections_accepted(self) -> int:
        """How many connections were ever accepted."""
        return self._door.accepted

    @property
    def tls_failures(self) -> int:
        """How many TLS handshakes did not come about."""
        return self._door.tls_failures

    # --- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve for as long as the block lasts. Raises OSError when an address cannot be had."""
        with self._door.bound(), self._control_door.bound():
            async with anyio.create_task_group() as tasks:
                self._door.open(tasks)
                self._control_door.open(tasks)
                self._up, self._door_kind = True, None
                self._settle()
                try:
                    yield self
                finally:
                    self._up = False
                    self._forget_timer()
                    tasks.cancel_scope.cancel()

    async def __aenter__(self) -> Self:
        self._life = self.running()
        return await self._life.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._life is not None  # noqa: S101 - entered before it is left
        return await self._life.__aexit__(kind, error, trace)

    # --- misbehaviour; all of it is in force when the call returns

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults as they were set."""
        return self._misfortune.faults

    def set_faults(self, *faults: Fault) -> None:
        """Put these faults in place of those that were. Raises FaultError."""
        self._misfortune.replace(faults, self._now_s())
        self._settle()

    def clear(self) -> None:
        """No faults; the dead stay dead until `revive`."""
        self.set_faults()

    def die(self, mode: str = "refuse", for_s: float = 0.0) -> None:
        """Be dead: "refuse", "reset", "hang" or "blackhole", for so long or until `revive`. Raises FaultError.

        What is under way dies too: reset by refuse and reset, silent under hang and blackhole.
        """
        if mode not in DEATHS:
            raise FaultError("mode", f"known are {', '.join(sorted(DEATHS))}")
        if not 0 <= for_s <= 31_536_000:
            raise FaultError("for_s", "must be seconds from 0 to a year")
        self._misfortune.die(Kind(mode), for_s, self._now_s())
        if mode == Kind.RESET:
            self._door.reset_all()
        self._settle()

    def revive(self) -> None:
        """End being dead. Faults that were set are in force again."""
        self._misfortune.revive()
        self._settle()

    @property
    def dead(self) -> str:
        """As what it is dead at present, "" if it is not."""
        return self._misfortune.death(self._now_s()) or ""

    def _settle(self) -> None:
        """Bring the listening socket to the state that the faults ask for, now and at their next change."""
        if not self._up:
            return
        kind = self._misfortune.door(self._now_s())
        if kind is not self._door_kind:
            self._door_kind = kind
            match kind:
                case Kind.REFUSE:
                    self._door.refuse()
                case Kind.BLACKHOLE:
                    self._door.blackhole()
                case _:
                    self._door.reopen()
        self._forget_timer()
        wait_s = self._misfortune.next_change_s(self._now_s())
        if wait_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s + _TIMER_SLACK_S, self._settle)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    # --- answering

    async def _handle(self, connection: Connection, request: Request) -> None:
        call = self._dialect.call(request, self._bare(request.path))
        seen = self.requests.begin(request, call.path, call.model, stream=call.stream)
        self.requests.open_streams += call.stream
        try:
            await self._answer(connection, call, seen)
        except HungUp:
            self.requests.settle(seen, self._door_kind or self.dead or "abandoned")
            raise
        finally:
            self.requests.open_streams -= call.stream
            self.requests.end(seen)

    def _bare(self, path: str) -> str:
        """The path without the prefix; "" for one that is not under it."""
        return path.removeprefix(self._prefix) if path.startswith(f"{self._prefix}/") else ""

    async def _answer(self, connection: Connection, call: Call, seen: Seen) -> None:
        verdict = self._misfortune.draw(
            call.path, call.model, stream=call.stream, makes_tokens=call.makes_tokens, now_s=self._now_s()
        )
        await connection.sleep(self._first_byte_s(call, verdict))
        fault = verdict.fault
        if fault is not None and fault.kind not in STREAM_KINDS:
            await self._misbehave(connection, call, seen, fault)
            return
        if call.makes_tokens and not self._allowance.spend(Allowance.TOKENS_PER_REQUEST):
            answer = self._dialect.error(429)
            answer.headers.append(("retry-after", str(max(1, round(self._allowance.reset_s)))))
        else:
            answer = self._dialect.answer(call)
        seen.status = answer.status
        token_s = self._token_s(call, verdict)
        if answer.status == 200 and (answer.events is not None or fault is not None):
            await self._stream(connection, call, seen, answer, fault, token_s)
            return
        await connection.sleep(token_s * answer.tokens_out)
        await connection.respond(call.request, answer.status, answer.headers, answer.body)
        seen.tokens_out = answer.tokens_out
        self.requests.settle(seen, "ok" if answer.status < 300 else f"http {answer.status}")

    def _first_byte_s(self, call: Call, verdict: Verdict) -> float:
        usual_ms = 0.0
        if call.makes_tokens:
            usual_ms = self._latency_ms * self._misfortune.spread(self._latency_spread)
        return (usual_ms * verdict.multiply + verdict.delay_ms) / 1000

    def _token_s(self, call: Call, verdict: Verdict) -> float:
        asked = call.request.header("x-fake-token-delay-ms")
        delay_ms = min(float(asked), 600_000.0) if asked.isdecimal() else self._token_delay_ms
        return delay_ms * verdict.multiply / 1000

    async def _misbehave(self, connection: Connection, call: Call, seen: Seen, fault: Fault) -> None:
        """The faults that come in place of an answer."""
        if fault.kind is Kind.RESET:
            self.requests.settle(seen, fault.kind)
            connection.reset()
        elif fault.kind is Kind.GARBAGE:
            seen.status = 200
            await connection.respond(call.request, 200, [("content-type", "text/html")], _PAGE)
            self.requests.settle(seen, fault.kind)
        elif fault.status is not None:
            answer = self._dialect.error(fault.status, code=fault.code)
            if fault.retry_after_s is not None:
                answer.headers.append(("retry-after", f"{fault.retry_after_s:g}"))
            answer.headers += fault.headers.items()
            seen.status = fault.status
            await connection.respond(call.request, fault.status, answer.headers, answer.body)
            self.requests.settle(seen, f"http {fault.status}")
        else:
            self.requests.settle(seen, fault.kind)
            await connection.hang()

    # --- streams, and whole answers that a fault tears

    async def _stream(
        self,
        connection: Connection,
        call: Call,
        seen: Seen,
        answer: Answer,
        fault: Fault | None,
        token_s: float,
    ) -> None:
        after = fault.after_events if fault is not None else -1
        if fault is not None and fault.kind is Kind.ERROR_EVENT and answer.events is None:
            await self._error_body(connection, call, seen, fault)
            return
        # A whole answer is torn in the middle: its first half is what goes out before the fault.
        events = answer.events
        if events is None:
            events, after = iter([Event(answer.body[: len(answer.body) // 2]), Event(answer.body)]), 1
        if fault is not None and fault.framing == "length" and fault.kind is Kind.TRUNCATE:
            body = b"".join(event.data for _, event in zip(range(after), events, strict=False))
            await connection.respond(call.request, 200, answer.headers, body)
            self.requests.settle(seen, fault.kind)
            return
        await connection.begin(call.request, 200, answer.headers)
        for event in events:
            if fault is not None and seen.events == after:
                await self._break_off(connection, call, seen, fault, event)
                return
            if event.token:
                await connection.sleep(token_s)
                seen.tokens_out += 1
            if self._door_kind is not None or self.dead:
                self.requests.settle(seen, Kind.HANG)
                await connection.hang()
            seen.events += 1
            await connection.send(event.data)
        await connection.end()
        self.requests.settle(seen, "ok")

    async def _error_body(self, connection: Connection, call: Call, seen: Seen, fault: Fault) -> None:
        """200 with an error as its body, as OpenRouter does it."""
        answer = self._dialect.error(fault.status or self._dialect.overloaded, code=fault.code)
        await connection.respond(call.request, 200, answer.headers, answer.body)
        self.requests.settle(seen, fault.kind)

    async def _break_off(
        self, connection: Connection, call: Call, seen: Seen, fault: Fault, event: Event
    ) -> None:
        """How a stream ends under a fault, in place of `event`."""
        self.requests.settle(seen, fault.kind)
        match fault.kind:
            case Kind.STALL:
                await connection.hang()
            case Kind.BREAK:
                await connection.sleep(_BEFORE_RESET_S)
                connection.reset()
            case Kind.ABORT:
                await connection.send_cut(event.data)
                await connection.sleep(_BEFORE_RESET_S)
                connection.close()
            case Kind.ERROR_EVENT:
                status = fault.status or self._dialect.overloaded
                await connection.send(self._dialect.error_event(call, status, fault.code, seen.events))
                await connection.end()
            case _:
                await connection.end()
