"""Pass an answer on to the caller. From the first byte on there is no falling over, only ending honestly.

A stream that breaks gets its family's own error event and then a connection that ends in the middle of its
framing: no client can take it for a whole answer.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import aiohttp
import anyio
from aiohttp import web
from multidict import CIMultiDict

from pointsman import logs
from pointsman.core.errors import SUCCESS, Fault, Outcome, Wire, of_response, of_stream_error, of_wire
from pointsman.proxy.api import ping, stream_error
from pointsman.proxy.books import Account
from pointsman.proxy.exchange import Begun, Whole
from pointsman.proxy.headers import Pairs, to_caller
from pointsman.proxy.job import Job
from pointsman.proxy.sse import Watch
from pointsman.proxy.upstream import sendable, wire_of

log = logs.get("proxy")

# After its terminal event a stream has nothing more to say: a provider that forgets to end it is not waited for.
AFTER_END_S: Final = 2.0
_CUT_OFF: Final = Outcome(Fault.ABANDONED, "this proxy is going down")


def whole(answer: Whole, extra: Mapping[str, str]) -> web.Response:
    """A complete answer as the provider gave it, and where it came from."""
    headers = _headers(answer.headers, extra, keep_length=False)
    return web.Response(status=answer.status, reason=answer.reason or None, headers=headers, body=answer.body)


def _headers(answered: Pairs, extra: Mapping[str, str], *, keep_length: bool) -> CIMultiDict[str]:
    headers = sendable(to_caller(answered, keep_length=keep_length))
    headers.update(extra)
    headers.setdefault("Server", "pointsman")
    return headers


class Relay:
    """Passes begun answers on. `ping_after_s` of silence a ping; `idle_s` of silence is the end of a stream."""

    def __init__(self, *, ping_after_s: float, idle_s: float) -> None:
        self._ping_after_s = ping_after_s
        self._idle_s = idle_s
        self._under_way: set[anyio.CancelScope] = set()

    def cut_off(self) -> None:
        """Break off every answer that is under way."""
        for scope in self._under_way:
            scope.cancel()

    @contextlib.contextmanager
    def _until_cut_off(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                yield
            finally:
                self._under_way.discard(scope)

    async def begun(
        self, request: web.BaseRequest, job: Job, answer: Begun, account: Account, extra: Mapping[str, str]
    ) -> web.StreamResponse:
        """Pass `answer` on to its end, and close `account` with how it ended."""
        headers = _headers(answer.headers, extra, keep_length=answer.watch is None)
        reply = web.StreamResponse(
            status=answer.response.status, reason=answer.response.reason or None, headers=headers
        )
        try:
            await reply.prepare(request)
            broken, outcome = True, _CUT_OFF
            with self._until_cut_off():
                broken, outcome = await self._outcome(job, reply, answer)
            account.close(outcome)
            if not broken:
                await reply.write_eof()
                return reply
            if answer.watch is not None:
                await reply.write(_last_words(job, answer.watch, account, outcome))
        finally:
            answer.response.close()
        if request.transport is not None:
            request.transport.close()  # what was written still goes out; the end of the framing never does
        return reply

    async def _outcome(self, job: Job, reply: web.StreamResponse, answer: Begun) -> tuple[bool, Outcome]:
        """Pass everything on; (did it break off, how it ended). The reply has begun: there can be no other."""
        try:
            await reply.write(answer.held)
            broken = await self._pass_on(job, reply, answer)
            return broken is not None, broken or _verdict(answer)
        except ConnectionError:  # the caller is gone
            raise
        except (
            Exception
        ):  # the border of a begun answer: whatever it is, the caller must not take it for whole
            log.exception("an answer broke off for a reason of our own", request=job.id)
            return True, of_wire(Wire.BAD_BODY)

    async def _pass_on(self, job: Job, reply: web.StreamResponse, answer: Begun) -> Outcome | None:
        """Pass everything on; the outcome that broke it, or None if the answer came to its end."""
        loop = asyncio.get_running_loop()
        content, watch = answer.response.content, answer.watch
        silent_since_s = loop.time()
        while True:
            ended = watch is not None and watch.ended
            idle_s = AFTER_END_S if ended else self._idle_s
            left_s = silent_since_s + idle_s - loop.time()
            may_ping = not (watch is None or ended or watch.mid_event)
            wait_s = min(left_s, self._ping_after_s) if may_ping else left_s
            try:
                async with asyncio.timeout(wait_s):
                    chunk = await content.readany()
            except TimeoutError:
                if loop.time() < silent_since_s + idle_s:
                    await reply.write(ping(job.api))
                    continue
                return None if ended else of_wire(Wire.STALL)
            except (aiohttp.ClientError, OSError) as error:
                return None if ended else of_wire(wire_of(error))
            if not chunk:
                return await _at_end(reply, watch)
            whole_events = chunk if watch is None else watch.feed(chunk)
            if whole_events:
                await reply.write(whole_events)
            silent_since_s = loop.time()  # after the write: a slow caller is not a silent provider


async def _at_end(reply: web.StreamResponse, watch: Watch | None) -> Outcome | None:
    if watch is None:
        return None
    rest = watch.finish()
    if rest:
        await reply.write(rest)
    whole_at_last = (watch.ended or watch.error is not None) and not watch.mid_event
    return None if whole_at_last else of_wire(Wire.TRUNCATED)


def _verdict(answer: Begun) -> Outcome:
    """How an answer that came to its end ended: an error that it told itself is a failure all the same."""
    if answer.watch is None:
        return of_response(answer.response.status, {})
    return SUCCESS if answer.watch.error is None else of_stream_error(answer.watch.error)


def _last_words(job: Job, watch: Watch, account: Account, broken: Outcome) -> bytes:
    message = f"the answer of {account.endpoint.target} broke off: {broken.detail}"
    return stream_error(job.api, message, events=watch.events, response_id=watch.response_id)
