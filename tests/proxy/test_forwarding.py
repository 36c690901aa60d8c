"""What passes through a proxy, and what does not."""

import gzip
import hashlib
import json
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from pointsman.fake import Fault, Kind, digest
from pointsman.proxy.body import zstd

pytestmark = pytest.mark.anyio

PACKED = pytest.mark.parametrize(("pack", "coding"), [(gzip.compress, "gzip"), (zstd.compress, "zstd")])

SECRET = "sk-provider-secret-a"


async def one_chat(world: Any, **options: Any) -> Any:
    """A provider a with the route "chat", published."""
    fake = await world.provider("a", **options)
    world.route("chat", chain="a")
    await world.publish()
    return fake


async def test_only_the_models_name_changes_on_the_way(world: Any, running_proxy: Any) -> None:
    """The provider gets the caller's bytes with its own model in them."""
    fake = await one_chat(world)
    body = b'{ "x":1.50e0, "model" : "chat","messages":[{"role":"user","content":"\\u00e9"}] }'
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/chat/completions", body)
    assert answer.status == 200
    assert fake.requests.last.body_sha256 == hashlib.sha256(body.replace(b'"chat"', b'"a-model"')).hexdigest()
    assert fake.requests.last.model == "a-model"


async def test_the_callers_credential_stays_and_the_providers_goes(world: Any, running_proxy: Any) -> None:
    """No header of the request holds what the caller sent."""
    fake = await one_chat(world)
    inbound = {
        "authorization": "Bearer sk-caller",
        "x-api-key": "sk-caller",
        "api-key": "sk-caller",
        "x-goog-api-key": "sk-caller",
        "cookie": "session=sk-caller",
        "x-custom": "passes",
    }
    async with running_proxy() as caller:
        answer = await caller.chat(headers=inbound)
    seen = fake.requests.last
    assert answer.status == 200
    assert seen.credential_sha256 == digest(SECRET)
    names = [name for name, _ in seen.headers]
    assert not {"x-api-key", "api-key", "x-goog-api-key", "cookie"} & set(names)
    assert names.count("authorization") == 1
    assert seen.header("x-custom") == "passes"
    assert seen.header("accept-encoding") == "identity"
    assert not [name for name in names if name.startswith("x-pointsman")]


async def test_beta_headers_and_the_query_pass_untouched(world: Any, running_proxy: Any) -> None:
    """As Claude Code sends them: the path is matched, not the URL."""
    fake = await world.provider("a", "anthropic")
    world.route("claude", "anthropic", chain="a")
    await world.publish()
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "one-2026,two-2026"}
    body = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/messages?beta=true", body, headers)
    seen = fake.requests.last
    assert answer.status == 200
    assert seen.target == "/v1/messages?beta=true"
    assert (seen.header("anthropic-version"), seen.header("anthropic-beta")) == (
        "2026-10-21",
        "one-2026,two-2026",
    )
    assert seen.credential_sha256 == digest(SECRET)


async def test_the_answer_tells_who_served_and_why(world: Any, running_proxy: Any) -> None:
    """The response headers of the proxy, beside the provider's own."""
    await one_chat(world)
    async with running_proxy() as caller:
        answer = await caller.chat()
        record = (await caller.admin("GET", f"/requests/{answer.headers['x-pointsman-request-id']}")).json
    assert answer.target == "a"
    assert answer.headers["x-pointsman-attempt"] == "1"
    assert answer.headers["x-pointsman-reason"] == "share 100 %"
    assert answer.headers["x-pointsman-table"] == record["table"]
    assert answer.headers["x-ratelimit-limit-requests"]
    assert (record["route"], record["status"], record["attempts"][0]["outcome"]) == ("chat", 200, "ok")


@PACKED
async def test_a_compressed_body_is_read_and_sent_on_decoded(
    world: Any, running_proxy: Any, pack: Any, coding: str
) -> None:
    """The model has to change, so the provider gets plain bytes and no content-encoding."""
    fake = await one_chat(world)
    body = json.dumps({"model": "chat", "messages": []}).encode()
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/chat/completions", pack(body), {"content-encoding": coding})
    assert answer.status == 200
    assert fake.requests.last.header("content-encoding") == ""
    assert fake.requests.last.body_sha256 == digest(body.replace(b'"chat"', b'"a-model"'))


async def test_a_body_that_cannot_be_read_is_routed_by_a_header(world: Any, running_proxy: Any) -> None:
    """In a coding that is not known here it travels as it came; without the header its caller is told of it."""
    fake = await one_chat(world)
    packed, headers = b"\x0b\x02\x80{}\x03", {"content-encoding": "br"}
    async with running_proxy() as caller:
        refused = await caller.ask("/v1/chat/completions", packed, headers)
        unknown = await caller.ask("/v1/chat/completions", packed, headers | {"x-pointsman-route": "no"})
        assert fake.requests.total == 0
        await caller.ask("/v1/chat/completions", packed, headers | {"x-pointsman-route": "chat"})
    assert (refused.status, unknown.status) == (400, 404)
    assert "x-pointsman-route" in refused.json["error"]["message"]
    assert fake.requests.last.header("content-encoding") == "br"
    assert fake.requests.last.header("x-pointsman-route") == ""
    assert fake.requests.last.body_sha256 == digest(packed)


@PACKED
async def test_a_compressed_body_whose_model_stays_is_sent_as_it_came(
    world: Any, running_proxy: Any, pack: Any, coding: str
) -> None:
    """The route is called what the provider's model is called: not one byte differs."""
    fake = await world.provider("a")
    world.route("a-model", chain="a")
    await world.publish()
    packed = pack(json.dumps({"model": "a-model", "messages": []}).encode())
    async with running_proxy() as caller:
        await caller.ask("/v1/chat/completions", packed, {"content-encoding": coding})
    assert fake.requests.last.header("content-encoding") == coding
    assert fake.requests.last.body_sha256 == digest(packed)


async def test_a_body_of_40_mb_passes(world: Any, running_proxy: Any) -> None:
    """Over the 32 MB that providers take, within the proxy's bound."""
    fake = await one_chat(world)
    async with running_proxy() as caller:
        answer = await caller.chat(padding="x" * 40_000_000)
    assert answer.status == 200
    assert fake.requests.last.body_bytes > 40_000_000


async def test_a_body_over_the_bound_is_refused_in_the_familys_shape(world: Any, running_proxy: Any) -> None:
    """413, and the provider sees nothing."""
    fake = await one_chat(world)
    async with running_proxy(max_body_mb=1) as caller:
        answer = await caller.chat(padding="x" * 1_100_000)
    assert answer.status == 413
    assert "max_body_mb" in answer.json["error"]["message"]
    assert fake.requests.total == 0


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}])
async def test_an_unknown_route_is_the_familys_404(
    world: Any, running_proxy: Any, headers: dict[str, str]
) -> None:
    """It lists the routes that there are."""
    await one_chat(world)
    await world.provider("b", "anthropic")
    world.route("claude", "anthropic", chain="b")
    await world.publish()
    path = "/v1/messages" if headers else "/v1/chat/completions"
    async with running_proxy() as caller:
        answer = await caller.ask(path, {"model": "nope", "messages": []}, headers)
    assert answer.status == 404
    if headers:
        assert answer.json["error"]["type"] == "not_found_error"
        assert "claude" in answer.json["error"]["message"]
        assert "chat" not in answer.json["error"]["message"]
    else:
        assert answer.json["error"]["code"] == "model_not_found"
        assert "chat" in answer.json["error"]["message"]


async def test_a_body_that_is_not_json_is_the_callers_fault(world: Any, running_proxy: Any) -> None:
    """400 from the proxy itself, nothing forwarded."""
    fake = await one_chat(world)
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/chat/completions", b"oh no")
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert fake.requests.total == 0


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_callers_fault_is_tried_once_and_relayed_as_it_is(
    world: Any, running_proxy: Any, status: int
) -> None:
    """Status, body and headers are the provider's; the second target is not bothered."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b")
    await world.publish()
    first.set_faults(Fault(kind=Kind.STATUS, status=status, headers={"x-from": "provider"}))
    async with running_proxy() as caller:
        answer = await caller.chat()
    assert answer.status == status
    assert answer.headers["x-from"] == "provider"
    assert "error" in answer.json
    assert (first.requests.total, second.requests.total) == (1, 0)


async def test_the_routes_are_the_models(world: Any, running_proxy: Any) -> None:
    """GET /v1/models lists the family's routes in the family's shape."""
    await one_chat(world)
    await world.provider("b", "anthropic")
    world.route("claude", "anthropic", chain="b")
    await world.publish()
    async with running_proxy() as caller:
        openai = await caller.get("/v1/models")
        anthropic = await caller.get("/v1/models", {"anthropic-version": "2023-06-01"})
        one = await caller.get("/v1/models/chat")
    assert [model["id"] for model in openai.json["data"]] == ["chat"]
    assert [(model["type"], model["id"]) for model in anthropic.json["data"]] == [("model", "claude")]
    assert one.json["id"] == "chat"


async def test_a_head_and_unknown_paths_are_answered(world: Any, running_proxy: Any) -> None:
    """Claude Code begins with HEAD /; what is not served is a 404 in the family's shape."""
    await one_chat(world)
    async with running_proxy() as caller:
        async with caller.session.head(caller.url + "/") as response:
            assert response.status == 200
        answer = await caller.get("/v2/whatever")
    assert answer.status == 404
    assert answer.json["error"]["type"] == "invalid_request_error"


async def test_embeddings_never_cross_to_another_model(world: Any, running_proxy: Any) -> None:
    """b has another model: it is not tried. c has the same: it is."""
    first, other, same = [await world.provider(name) for name in "abc"]
    world.models |= {"a": "embed-1", "b": "embed-2", "c": "embed-1"}
    world.route("embed", chain="a b c")
    await world.publish()
    first.die()
    async with running_proxy() as caller:
        answer = await caller.ask("/v1/embeddings", {"model": "embed", "input": "x"})
    assert (answer.status, answer.target) == (200, "c")
    assert (other.requests.total, same.requests.total) == (0, 1)


async def test_a_conversation_goes_on_where_it_began(world: Any, running_proxy: Any) -> None:
    """previous_response_id sticks to the target that made the response, and is tried there only."""
    await world.provider("a")
    second = await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    async with running_proxy() as caller:
        first = await caller.ask("/v1/responses", {"model": "chat", "input": "hi"})
        assert first.target == "b"
        world.route("chat", chain="a b", shares_bp={"a": 10_000})
        table = await world.publish()
        await caller.until_table(table)
        follow = {"model": "chat", "input": "go on", "previous_response_id": first.json["id"]}
        assert (await caller.ask("/v1/responses", follow)).target == "b"
        assert (await caller.ask("/v1/responses", {"model": "chat", "input": "new"})).target == "a"
        second.set_faults(Fault(kind=Kind.STATUS, status=503))
        assert (await caller.ask("/v1/responses", follow)).status == 503


async def test_an_unknown_conversation_goes_to_the_configured_first(world: Any, running_proxy: Any) -> None:
    """Whoever has the weight at the moment."""
    await world.provider("a")
    await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    await world.publish()
    async with running_proxy() as caller:
        answer = await caller.ask(
            "/v1/responses", {"model": "chat", "input": "x", "previous_response_id": "resp_unknown"}
        )
    assert answer.target == "a"


async def test_files_stay_at_one_account(world: Any, running_proxy: Any) -> None:
    """The header names the route; without it, and with several routes, the proxy asks for it."""
    first, second = await world.provider("a"), await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"b": 10_000})
    world.route("other", chain="b")
    await world.publish()
    async with running_proxy() as caller:
        await caller.get("/v1/files", {"x-pointsman-route": "chat"})
        unclear = await caller.get("/v1/files")
    assert first.requests.by_path["/v1/files"] + first.requests.total >= 1
    assert second.requests.total == 0
    assert unclear.status == 400
    assert "x-pointsman-route" in unclear.json["error"]["message"]


async def test_sticky_callers_stay_and_others_spread(world: Any, running_proxy: Any) -> None:
    """One session sees one target; many sessions see both."""
    await world.provider("a")
    await world.provider("b")
    world.route("chat", chain="a b", shares_bp={"a": 5_000, "b": 5_000}, sticky_by=("session",))
    await world.publish()
    async with running_proxy() as caller:
        one = {(await caller.chat(headers={"x-claude-code-session-id": "s1"})).target for _ in range(12)}
        many = {(await caller.chat(headers={"x-claude-code-session-id": f"s{n}"})).target for n in range(24)}
        why = (await caller.chat(headers={"x-claude-code-session-id": "s1"})).headers["x-pointsman-reason"]
    assert len(one) == 1
    assert many == {"a", "b"}
    assert why == "sticky"


async def test_without_a_table_the_proxy_says_so(world: Any, running_proxy: Any) -> None:
    """503 in the family's shape; alive, and not ready."""
    await world.provider("a")
    async with running_proxy(table=False) as caller:
        answer = await caller.ask("/v1/messages", {"model": "x"})
        ready, health = await caller.get("/-/ready"), await caller.get("/-/health")
    assert answer.status == 503
    assert answer.json["type"] == "error"
    assert (ready.status, health.status) == (503, 200)


async def test_a_provider_with_an_own_authority_is_trusted_only_by_its_file(
    world: Any, running_proxy: Any, tmp_path: Path
) -> None:
    """a's certificate is verified by its ca_file; b, without one, is refused in the handshake."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    await world.provider("a", ssl_context=context)
    second = await world.provider("b", ssl_context=context)
    world.overrides["a"] = {"ca_file": str(tmp_path / "ca.pem")}
    world.route("chat", chain="b a")
    await world.publish()
    async with running_proxy() as caller:
        answer = await caller.chat()
    assert (answer.status, answer.target) == (200, "a")
    assert answer.headers["x-pointsman-reason"] == "fell over: b TLS handshake failed"
    assert second.requests.total == 0


async def test_a_client_that_waits_to_be_asked_is_asked(world: Any, running_proxy: Any) -> None:
    """Expect: 100-continue, as curl sends it with large bodies."""
    await one_chat(world)
    body = b'{"model":"chat","messages":[]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    )
    async with running_proxy() as caller:
        host, _, port = caller.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(head % len(body))
            with anyio.fail_after(5):
                assert (await stream.receive()).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
                await stream.send(body)
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 OK")
