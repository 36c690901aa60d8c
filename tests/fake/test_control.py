"""The controls over HTTP, and what the ledger tells."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from pointsman.fake import FakeProvider, Fault, Kind, digest

pytestmark = pytest.mark.anyio


class Controls:
    """A client of a fake's controls."""

    def __init__(self, fake: FakeProvider, session: aiohttp.ClientSession) -> None:
        self._fake = fake
        self._session = session

    async def __call__(self, method: str, path: str, data: Any = None) -> tuple[int, Any]:
        """(status, JSON) of one call."""
        async with self._session.request(method, self._fake.control_url + path, json=data) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def controls(fake: FakeProvider) -> AsyncIterator[Controls]:
    """The controls of `fake`."""
    async with aiohttp.ClientSession() as session:
        yield Controls(fake, session)


async def test_put_get_delete_faults(fake: FakeProvider, controls: Controls, caller: Any) -> None:
    """Faults are put, shown as they were put, in force at once, and taken away."""
    faults = [{"kind": "status", "status": 503, "models": ["x"]}, {"kind": "slow", "delay_ms": 1.0}]
    assert await controls("PUT", "/faults", faults) == (200, faults)
    assert await controls("GET", "/faults") == (200, faults)
    assert fake.faults[0] == Fault(kind="status", status=503, models=("x",))
    async with caller.post(model="x") as answer:
        assert answer.status == 503
    assert await controls("DELETE", "/faults") == (200, [])
    async with caller.post(model="x") as answer:
        assert answer.status == 200


async def test_bad_faults_change_nothing(fake: FakeProvider, controls: Controls) -> None:
    """A list with one bad fault is refused as a whole, naming the field."""
    await controls("PUT", "/faults", [{"kind": "hang"}])
    status, body = await controls("PUT", "/faults", [{"kind": "slow"}, {"kind": "hang", "rate": 7}])
    assert status == 400
    assert body["error"]["field"] == "[1].rate"
    assert [fault.kind for fault in fake.faults] == ["hang"]


async def test_die_and_revive(fake: FakeProvider, controls: Controls, caller: Any) -> None:
    """Death by a word to the controls, which outlive it; revival likewise."""
    status, stats = await controls("POST", "/die", {"mode": "refuse", "for_s": 60})
    assert (status, stats["dead"]) == (200, "refuse")
    with pytest.raises(aiohttp.ClientConnectorError):
        await caller.post()
    assert (await controls("POST", "/revive"))[1]["dead"] == ""
    async with caller.post() as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("die", "field"),
    [
        ({"mode": "sleep"}, "mode"),
        ({"for_s": -1}, "for_s"),
        ({"for_s": "long"}, "for_s"),
        ({"how": 1}, "how"),
    ],
)
async def test_bad_deaths(fake: FakeProvider, controls: Controls, die: dict[str, Any], field: str) -> None:
    """A death that makes no sense is refused, naming the field."""
    status, body = await controls("POST", "/die", die)
    assert (status, body["error"]["field"]) == (400, field)
    assert fake.dead == ""


async def test_stats(fake: FakeProvider, controls: Controls, caller: Any) -> None:
    """The counts say what was asked for and how it ended."""
    async with caller.post(model="one", stream=True, headers={"authorization": "Bearer k"}) as answer:
        await answer.read()
    fake.set_faults(Fault(kind="status", status=529))
    async with caller.post(model="two") as answer:
        await answer.read()
    _, stats = await controls("GET", "/stats")
    assert (stats["name"], stats["family"], stats["base_url"]) == ("bedrock", fake.family, fake.base_url)
    counts = stats["requests"]
    assert (counts["total"], counts["open"], counts["open_streams"], counts["tokens_out"]) == (2, 0, 0, 5)
    assert counts["by_path"] == {caller.path: 2}
    assert counts["by_model"] == {"one": 1, "two": 1}
    assert counts["by_outcome"] == {"ok": 1, "http 529": 1}
    assert counts["by_credential"] == {digest("k"): 1}


async def test_the_controls_explain_themselves(fake: FakeProvider) -> None:
    """Every control, every kind of fault and every field of one is named: there is no other place to find them."""
    async with aiohttp.ClientSession() as session, session.get(fake.control_url) as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        told = await answer.text()
    for kind in Kind:
        assert f"\n    {kind} " in told
    for field in msgspec.structs.fields(Fault):
        assert f"`{field.name}`" in told or field.name == "kind"
    for control in ("/faults", "/stats", "/die", "/revive"):
        assert control in told


async def test_unknown_controls(controls: Controls) -> None:
    """What is not there is 404, and a wrong method 405."""
    assert (await controls("GET", "/nothing"))[0] == 404
    assert (await controls("DELETE", "/stats"))[0] == 405


async def test_ledger_holds_no_secret(fake: FakeProvider, caller: Any) -> None:
    """The ledger proves which headers came, in order, and holds no credential and no cookie in the clear."""
    secrets = {"authorization": "Bearer sk-secret-1", "x-api-key": "sk-secret-2", "cookie": "sk-secret-3"}
    async with caller.post(headers=secrets | {"x-other": "plain"}) as answer:
        await answer.read()
    seen = fake.requests.last
    assert seen.header("x-other") == "plain"
    assert seen.header("x-api-key") == f"sha256:{digest('sk-secret-2')}"
    assert seen.credential_sha256 == digest("sk-secret-1")
    assert "sk-secret" not in repr(seen)


async def test_two_providers_in_one_process(fake: FakeProvider, caller: Any) -> None:
    """Providers have their own ports, counts and faults."""
    async with FakeProvider("google", fake.family) as other:
        other.set_faults(Fault(kind="hang"))
        async with caller.post() as answer:
            assert answer.status == 200
        assert (fake.requests.total, other.requests.total) == (1, 0)
        assert len({fake.port, other.port}) == 2
