"""Synthetic requests go through proxies over real HTTP, marked, and only while they are wanted."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from aiohttp import web
from control_daemons import settings_of
from msgspec.structs import replace
from opentelemetry.trace import NoOpTracer

from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.control.dialing import Dialer, UnreachableError, url_of
from pointsman.control.process import serving
from pointsman.control.synthetic import Reply, Synthetic, deadline_s, send
from pointsman.core.evidence import Report
from pointsman.core.model import Decision, Family, State, Vantage
from pointsman.core.ramp_model import Ramp, RampKind, RampPhase, RampPolicy, Step, Tally
from pointsman.core.table import RouteEntry, Table, Version
from pointsman.probing.smallest import TOKENS, smallest
from support import eventually, free_port

pytestmark = pytest.mark.anyio
NOW_S = 1_800_000_000.0
Answer = Callable[[web.Request], web.StreamResponse]


@dataclass
class Door:
    """Stands where a proxy listens, and remembers what came."""

    answer: Answer = lambda _request: web.Response(text="data: [DONE]\n\n")
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    address: str = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.path, headers, json.loads(await request.read())))
        return self.answer(request)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with serving("127.0.0.1:0", [web.post("/{path:.*}", self.take)]) as address:
            self.address = address
            yield


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    async with door.open():
        yield door


SETTINGS = settings_of()
RAMP = Ramp(
    id="canary:chat:1", kind=RampKind.CANARY, route="chat", source="bedrock", goal="google",
    from_bp={"bedrock": 10_000}, to_bp={"google": 10_000},
    policy=RampPolicy(steps=(Step(progress_bp=500, hold_s=1.0, samples=9),), synthetic=True),
    owner="ann", reason="a try", created_s=NOW_S, phase=RampPhase.OBSERVING, step=0, entry=1,
    tallies={"canary:chat:1#1": Tally(step=0)},
)  # fmt: skip
TABLE = Table(
    environment="development", fleet="default", version=Version(7, 3), hash="", issued_s=NOW_S, targets={},
    routes={
        "chat": RouteEntry(
            family="openai", shares_bp={"google": 10_000}, chain=("google",), last_resort=1, ramp=RAMP.stamp
        )
    },
)  # fmt: skip

OTHER = replace(
    RAMP, id="canary:chat:2", goal="meta", to_bp={"meta": 10_000}, tallies={"canary:chat:2#1": Tally(step=0)}
)
OTHER_TABLE = replace(
    TABLE,
    routes={
        "chat": RouteEntry(
            family="openai", shares_bp={"meta": 10_000}, chain=("meta",), last_resort=1, ramp=OTHER.stamp
        )
    },
)


def decision(ramp: Ramp = RAMP, heard_s: float = NOW_S) -> Decision:
    vantages = {name: Vantage(boot="b", seq=1, seen_s=heard_s) for name in ("p1", "p2")}
    state = State(plan=to_plan(SETTINGS), ramps={"chat": ramp}, vantages=vantages)
    return Decision(state=state, table=None, reasons={})


def reports(*addresses: str) -> list[Report]:
    return [
        Report(
            proxy=f"p{number}", boot="b", seq=1, environment="development", fleet="default", address=address
        )
        for number, address in enumerate(addresses, 1)
    ]


@asynccontextmanager
async def running(settings: Settings = SETTINGS) -> AsyncIterator[Synthetic]:
    synthetic = Synthetic(settings, smallest, lambda: NOW_S, NoOpTracer())
    async with anyio.create_task_group() as group:
        group.start_soon(synthetic.run)
        yield synthetic
        group.cancel_scope.cancel()


async def test_what_is_missing_is_asked_for_through_a_proxy(door: Door) -> None:
    """The smallest completion of the route, marked as synthetic, for the gaining target, without a credential."""
    async with running() as synthetic:
        synthetic.watch(decision(), TABLE, reports(door.address))
        await eventually(lambda: door.asked)
    path, headers, body = door.asked[0]

    assert path == "/v1/chat/completions"
    assert (headers["x-pointsman-synthetic"], headers["x-pointsman-arm"]) == ("1", "google")
    assert (body["model"], body["max_tokens"], body["stream"]) == ("chat", TOKENS, True)
    assert not {"authorization", "x-api-key", "cookie"} & set(headers)


async def test_it_goes_on_at_its_pace_and_round_the_proxies(door: Door) -> None:
    """Another proxy each time; a failure is not made good at once."""
    other = Door(answer=lambda _request: web.Response(status=502))
    async with other.open(), running() as synthetic:
        synthetic.watch(decision(), TABLE, reports(door.address, other.address))
        await eventually(lambda: len(door.asked) + len(other.asked) >= 2)
        assert (len(door.asked), len(other.asked)) == (1, 1)


@pytest.mark.parametrize(
    "nothing",
    [
        (None, TABLE, True),
        (decision(replace(RAMP, paused="ann")), TABLE, True),
        (decision(), None, True),
        (decision(heard_s=NOW_S - 60), TABLE, True),
        (decision(), TABLE, False),
    ],
    ids=["no leader", "paused", "no table", "proxies lost", "no address"],
)
async def test_it_stops_at_once(door: Door, nothing: Any) -> None:
    """When nobody decides, nothing is wanted, or no live proxy is known, what was wanted before is not made."""
    last, table, addressed = nothing
    async with running() as synthetic:
        synthetic.watch(decision(), TABLE, reports(door.address))
        synthetic.watch(last, table, reports(door.address if addressed else ""))
        await anyio.wait_all_tasks_blocked()
        synthetic.watch(decision(OTHER), OTHER_TABLE, reports(door.address))
        await eventually(lambda: door.asked)
    assert [headers["x-pointsman-arm"] for _, headers, _ in door.asked] == ["meta"]


async def test_nobody_at_the_address_ends_nothing(door: Door) -> None:
    """It is told, and the next one goes to another proxy."""
    nowhere = f"127.0.0.1:{free_port()}"
    async with running() as synthetic:
        synthetic.watch(decision(), TABLE, reports(door.address, nowhere))
        await eventually(lambda: len(door.asked) == 1)


# --- one request


async def sent(door: Door, family: Family = Family.OPENAI, limit_s: float = 5.0) -> Reply:
    async with Dialer(SETTINGS.proxy) as dialer:
        return await send(dialer, door.address, family, b"{}", "google", limit_s)


async def test_a_reply_says_who_served_it(door: Door) -> None:
    """And after how many attempts."""
    told = {"x-pointsman-target": "meta", "x-pointsman-attempt": "2"}
    door.answer = lambda _request: web.Response(text="data: {}\n\ndata: [DONE]\n\n", headers=told)
    reply = await sent(door)

    assert (reply.ok, reply.target, reply.attempts) == (True, "meta", 2)
    assert reply.latency_ms > 0


async def test_messages_go_where_messages_go(door: Door) -> None:
    """With the version that the family's servers ask for."""
    await sent(door, Family.ANTHROPIC)

    assert door.asked[0][0] == "/v1/messages"
    assert door.asked[0][1]["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (web.Response(status=502), "HTTP 502"),
        (web.Response(status=302, headers={"location": "http://127.0.0.1:1/"}), "HTTP 302"),
        (
            web.Response(text='data: {"x":1}\n\ndata: {"error":{"code":"stream_broken"}}\n\n'),
            "the stream broke",
        ),
        (web.Response(text='event: error\ndata: {"type":"error"}\n\n'), "the stream broke"),
    ],
    ids=["status", "redirect", "chat broke", "messages broke"],
)
async def test_what_is_no_whole_answer_is_a_failure(door: Door, answer: web.Response, why: str) -> None:
    """A stream that broke is one, though it began with 200."""
    door.answer = lambda _request: answer
    reply = await sent(door)

    assert (reply.ok, reply.why) == (False, why)


async def test_a_connection_that_breaks_is_a_failure(door: Door) -> None:
    """The proxy was there, and then it was not."""

    def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    door.answer = cut
    reply = await sent(door)

    assert not reply.ok
    assert reply.why.startswith("the connection broke: ")


async def test_a_deadline_ends_it(door: Door) -> None:
    """Nobody is waited for without end."""
    door.answer = lambda _request: web.Response(text="late", headers={"content-length": "900"})
    reply = await sent(door, limit_s=0.2)

    assert (reply.ok, reply.why) == (False, "no whole answer within 0.2 s")


async def test_a_proxy_that_is_not_there_is_no_failure_of_a_target() -> None:
    """It is another error."""
    with pytest.raises(UnreachableError, match="no proxy answers at 127"):
        await sent(Door(address=f"127.0.0.1:{free_port()}"))


def test_where_a_proxy_is() -> None:
    """One that listens on every address is asked on this machine."""
    assert url_of("10.0.0.7:8480") == "http://10.0.0.7:8480"
    assert url_of("0.0.0.0:8480") == "http://127.0.0.1:8480"
    assert url_of("[::]:8480") == "http://[::1]:8480"
    assert url_of("[fd00::7]:8480") == "http://[fd00::7]:8480"


def test_the_deadline_is_longer_than_the_proxys_own() -> None:
    """A caller that hangs up first leaves no failure behind."""
    timeouts = SETTINGS.proxy.timeouts
    assert deadline_s(SETTINGS) > timeouts.connect_s + timeouts.first_byte_s + timeouts.idle_s
