"""Callers whose question holds a word that nobody else says, and who look for it in the answer."""

import asyncio
import itertools
import json
import secrets
import time
from typing import Any

import aiohttp
from msgspec import Struct, field

from bench.soak_parts import until

PATHS = {"chat": "/v1/chat/completions", "claude": "/v1/messages"}
WORDS = 8
# Faults that befall no provider: a stream that lives in one of them has to come to its end.
HARMLESS = ("republished", "storeless")


class Tally(Struct):
    """How requests ended. `failed` and `wrong` are told; `cut` are those that a dying provider or worker took along."""

    ok: int = 0
    cut: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Callers:
    """So many at once, each asking one thing after the other. `fault` is what is going wrong at present, if anything.

    A provider that dies takes a stream along that it had begun, and a worker what it was at: those may be cut, as
    long as the caller is told. Whatever had not begun has to be served.
    """

    def __init__(self, urls: list[str], count: int) -> None:
        self.tally = Tally()
        self.fault = ""
        self.killing = False
        self._urls = urls
        self.count = count
        self._going = asyncio.Event()
        self._busy = 0
        self._going.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            await asyncio.gather(*(self._go_on(session, number) for number in range(self.count)))

    async def pause(self) -> None:
        """Ask nothing more; return when everything is answered."""
        self._going.clear()
        await until(self._all_answered, "the last answers")

    async def _all_answered(self) -> bool:
        return not self._busy

    def go_on(self) -> None:
        self._going.set()

    async def _go_on(self, session: aiohttp.ClientSession, number: int) -> None:
        for turn in itertools.count(number):
            await self._going.wait()
            self._busy += 1
            try:
                await self._ask(session, turn)
            finally:
                self._busy -= 1
            await asyncio.sleep(0.02)

    async def _ask(self, session: aiohttp.ClientSession, turn: int) -> None:
        nonce = " ".join(secrets.token_hex(4) for _ in range(WORDS))
        route = ("chat", "claude")[turn // 2 % 2]
        stream = bool(turn % 2)
        asked = {"model": route, "max_tokens": 64, "stream": stream}
        asked["messages"] = [{"role": "user", "content": nonce}]
        url = self._urls[turn % len(self._urls)] + PATHS[route]
        began_s = time.monotonic()
        what = f"{self.fault or 'no fault'}, {route} {stream=} at {url}"
        status, body = 0, b""
        try:
            async with session.post(url, json=asked, headers={"anthropic-version": "2023-06-01"}) as answer:
                status = answer.status
                async for piece in answer.content.iter_any():
                    body += piece
        except aiohttp.ClientPayloadError as error:
            # A stream that broke off says so in an event, and leaves its framing open.
            if stream and heard(body)[2]:
                self._judge(what, nonce, status, body, stream=True)
            elif self.killing:
                self.tally.cut += 1
            else:
                took_s = time.monotonic() - began_s
                self.tally.failed.append(f"{what}: {error!r} after {took_s:.2f} s: {body[-300:]!r}")
            return
        except aiohttp.ClientError as error:
            # Only a worker that is killed may take its connections along.
            if self.killing:
                self.tally.cut += 1
            else:
                self.tally.failed.append(f"{what}: {error!r}")
            return
        self._judge(what, nonce, status, body, stream=stream)

    def _judge(self, what: str, nonce: str, status: int, body: bytes, *, stream: bool) -> None:
        if status != 200:
            self.tally.failed.append(f"{what}: {status} {body[:300]!r}")
            return
        said, ended, failed = heard(body) if stream else (text_of(json.loads(body)), True, False)
        words = said.partition(" says: ")[2]
        if failed and any(what.startswith(fault) and self.fault == fault for fault in HARMLESS):
            self.tally.failed.append(f"{what}: cut, with every provider well: {body[-200:]!r}")
        elif (ended and words == nonce) or (failed and nonce.startswith(words)):
            self.tally.ok += ended
            self.tally.cut += not ended
        else:
            self.tally.wrong.append(f"{what}: {said[:100]!r} for {nonce!r}, {ended=} {failed=}")


def heard(body: bytes) -> tuple[str, bool, bool]:
    """(what a stream said, did it come to its end, did it tell that it failed)."""
    said, ended, failed = "", False, False
    for one in body.split(b"\n\n"):
        _, _, data = one.partition(b"data: ")
        if data == b"[DONE]":
            ended = True
        elif data:
            event = json.loads(data)
            failed = failed or "error" in event
            ended = ended or event.get("type") == "message_stop"
            said += text_of(event)
    return said, ended and not failed, failed


def text_of(answer: Any) -> str:
    """The text of an answer or of an event, of either family."""
    if "choices" in answer:
        choice = (answer["choices"] or [{}])[0]
        return str(choice.get("message", choice.get("delta", {})).get("content") or "")
    if "delta" in answer:
        return str(answer["delta"].get("text", ""))
    content = answer.get("content")
    return "".join(part.get("text", "") for part in content) if isinstance(content, list) else ""
