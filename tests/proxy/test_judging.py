"""What a whole answer amounts to, and what is remembered of who made it."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transiting import EVENTS, JSON, Ride, Road, answered

from pointsman.core.errors import Fault
from pointsman.proxy import lenient
from pointsman.proxy.api import Api
from pointsman.proxy.body import zstd
from pointsman.proxy.forward import REMEMBERED_RESPONSES, Homes
from pointsman.proxy.judging import Whole, judged
from pointsman.proxy.tokens import Tokens

MADE = {"id": "resp_1", "object": "response", "usage": {"input_tokens": 7, "output_tokens": 5}}
UNKNOWN = {"error": {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "no"}}


def verdict(
    body: bytes, status: int = 200, *headers: tuple[bytes, bytes], of_model: bool = False
) -> tuple[Fault, str, int, int]:
    """(fault, id, tokens in, tokens out)."""
    tokens = Tokens()
    outcome, made = judged(answered(status, *(headers or (JSON,))), body, tokens, of_model=of_model)
    return outcome.fault, lenient.text(made), tokens.into, tokens.out


def test_an_answer_tells_its_id_and_its_tokens() -> None:
    """A success, read but not changed."""
    assert verdict(json.dumps(MADE).encode()) == (Fault.OK, "resp_1", 7, 5)


@pytest.mark.parametrize(
    ("coding", "encode"),
    [(b"gzip", gzip.compress), (b"zstd", zstd.compress), (b"identity", bytes), (b"GZIP", gzip.compress)],
)
def test_a_coded_answer_is_read_all_the_same(coding: bytes, encode: Any) -> None:
    """Errors as well as successes: what is coded is never taken for garbage."""
    coded = (JSON, (b"Content-Encoding", coding))
    assert verdict(encode(json.dumps(MADE).encode()), 200, *coded) == (Fault.OK, "resp_1", 7, 5)
    error = {"error": {"code": "insufficient_quota"}}
    assert verdict(encode(json.dumps(error).encode()), 429, *coded)[0] is Fault.QUOTA


@pytest.mark.parametrize("coding", [b"br", b"gzip"])
def test_what_cannot_be_decoded_is_judged_by_its_status(coding: bytes) -> None:
    """A coding that is not known here, or bytes that are none of it: its caller may well read them."""
    coded = (JSON, (b"Content-Encoding", coding))
    assert verdict(b"\x8b\x02", 200, *coded)[0] is Fault.OK
    assert verdict(b"\x8b\x02", 503, *coded)[0] is Fault.OVERLOAD


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"id": "resp_1", "usage": {}', Fault.OUTAGE),
        (b"", Fault.OUTAGE),
        (b"\xff", Fault.OUTAGE),
        (b"[1, 2", Fault.OUTAGE),
        (b"[]", Fault.OK),
        (b"3", Fault.OK),
        (b'{"usage": 5, "id": {}, "error": null}', Fault.OK),
        (b'{"error": {"type": "overloaded_error"}}', Fault.OVERLOAD),
        (b'{"error": {"type": "invalid_request_error"}}', Fault.CALLER),
        (b'{"error": "no"}', Fault.OUTAGE),
        (b'[{"error": {"code": 503}}]', Fault.OVERLOAD),
    ],
)
def test_what_calls_itself_json_has_to_be(body: bytes, fault: Fault) -> None:
    """A broken body has been broken on its way; an error in a success is an error; other JSON is the API's business."""
    assert verdict(body)[0] is fault


def test_a_page_is_no_answer_and_other_kinds_are() -> None:
    """HTML comes from something in between; audio, text and files are read by their callers."""
    assert verdict(b"<html>", 200, (b"Content-Type", b"text/html; charset=utf-8"))[0] is Fault.OUTAGE
    assert verdict(b"\xff", 200, (b"Content-Type", b"audio/mpeg"))[0] is Fault.OK
    assert verdict(b"", 204, (b"X-Mark", b"mark"))[0] is Fault.OK


@pytest.mark.parametrize(
    ("status", "kind", "body", "fault"),
    [
        (204, b"", b"", Fault.OUTAGE),
        (200, b"", b"", Fault.OUTAGE),
        (200, b"text/plain", b"ok", Fault.OUTAGE),
        (200, b"audio/mpeg", b"\xff", Fault.OUTAGE),
        (200, b"", b"{}", Fault.OK),
        (200, b"application/problem+json", b"{}", Fault.OK),
        (200, b"text/event-stream", b"data: {}\n\n", Fault.OK),
    ],
)
def test_a_model_answers_in_json_or_events(status: int, kind: bytes, body: bytes, fault: Fault) -> None:
    """Nothing at all, or something else, comes from somebody else: another target may do better."""
    headers = ((b"Content-Type", kind),) if kind else ((b"X-Mark", b"mark"),)
    assert verdict(body, status, *headers, of_model=True)[0] is fault


@given(st.binary(max_size=60), st.sampled_from((200, 400, 429, 500)), st.booleans())
def test_no_body_is_too_strange_to_be_judged(body: bytes, status: int, in_object: bool) -> None:
    """Whatever stands there, there is a verdict."""
    data = b'{"error": ' + body + b', "usage": ' + body + b"}" if in_object else body
    assert isinstance(verdict(data, status)[0], Fault)


@pytest.mark.parametrize(
    ("status", "code", "unknown"), [(404, "", True), (400, "x", False), (500, "", False)]
)
def test_who_does_not_know_a_response_says_so(status: int, code: str, unknown: bool) -> None:
    """404, or 400 with its own code."""
    tokens = Tokens()
    head = answered(status)
    outcome, made = judged(head, json.dumps({"error": {"code": code}}).encode(), tokens, of_model=True)
    assert Whole(outcome, head, b"", made).unknown_here is unknown
    told, made = judged(answered(400), json.dumps(UNKNOWN).encode(), tokens, of_model=True)
    assert Whole(told, answered(400), b"", made).unknown_here


def responses(road: Road, **more: Any) -> Ride:
    return Ride(road, api=Api.RESPONSES, **more).begin()


@pytest.mark.parametrize("stream", [False, True])
def test_who_made_a_response_is_asked_for_it(stream: bool) -> None:
    """A request that goes on from what b made goes to b, and to nobody else."""
    road = Road()
    ride = responses(road, stream=stream)
    ride.breaks()
    if stream:
        event = json.dumps({"type": "response.completed", "response": MADE}).encode()
        data = b"event: response.completed\ndata: " + event + b"\n\n"
        ride.hears(answered(200, EVENTS), data, ended=True)
    else:
        ride.hears(answered(), json.dumps(MADE).encode(), ended=True)
    later = responses(road, previous_response_id="resp_1")
    assert later.asked == "b"
    later.breaks()
    assert (later.asked, later.caller.status) == ("b", 502)


def test_who_made_it_is_sought_where_nobody_here_knows() -> None:
    """Along the chain until an account knows it; that one is remembered."""
    road = Road()
    ride = responses(road, previous_response_id="resp_0")
    ride.hears(answered(400), json.dumps(UNKNOWN).encode(), ended=True)
    assert ride.asked == "a b"
    ride.hears(answered(), json.dumps(MADE).encode(), ended=True)
    assert ride.caller.status == 200
    assert responses(road, previous_response_id="resp_0").asked == "b"


def test_what_nobody_knows_is_refused_as_the_first_did() -> None:
    """With every account asked, the caller hears that there is no such response."""
    ride = responses(Road("a b"), previous_response_id="resp_0")
    for status in (400, 404):
        ride.hears(answered(status), json.dumps(UNKNOWN).encode(), ended=True)
    assert (ride.caller.end, ride.caller.status) == ("whole", 400)
    assert ride.caller.header("x-pointsman-target") == "a"


def test_with_an_account_out_of_reach_nobody_says_that_it_is_unknown() -> None:
    """It may be there: that it does not exist would be a lie."""
    ride = responses(Road("a b"), previous_response_id="resp_0")
    ride.hears(answered(404), json.dumps(UNKNOWN).encode(), ended=True)
    ride.breaks()
    assert (ride.caller.end, ride.caller.status) == ("reply", 502)


def test_the_oldest_homes_are_forgotten() -> None:
    """So many are remembered; what is used again stays."""
    homes = Homes()
    for number in range(REMEMBERED_RESPONSES):
        homes.remember(f"resp_{number}", "a")
    homes.remember("resp_0", "b")
    homes.remember("resp_new", "c")
    homes.remember("", "d")
    assert [homes.of(name) for name in ("resp_0", "resp_1", "resp_new", "")] == ["b", "", "c", ""]
