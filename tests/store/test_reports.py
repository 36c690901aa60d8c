"""The proxies' reports: the last one of each, however often it was delivered."""

from contextlib import aclosing

import pytest

from pointsman.core.evidence import Report, TargetReport
from pointsman.store.client import Store
from pointsman.store.keys import Keys

pytestmark = pytest.mark.anyio


def _report(proxy: str = "proxy-1", seq: int = 1, ok: int = 5) -> Report:
    targets = {"haiku": TargetReport(counts={"ok": ok}, latency_ms={3: ok}, cost_usd=0.25)}
    return Report(
        proxy=proxy, boot="b1", seq=seq, environment="development", fleet="default", targets=targets
    )


async def test_round_trip(store: Store) -> None:
    """A report comes back as it was put."""
    await store.put_report(_report(), wake=False)
    assert await store.reports() == [_report()]


async def test_double_delivery_is_one_value(store: Store) -> None:
    """A report that is delivered twice counts once, and a newer one replaces it."""
    await store.put_report(_report(), wake=False)
    await store.put_report(_report(), wake=False)
    assert await store.reports() == [_report()]
    await store.put_report(_report(seq=2, ok=9), wake=False)
    assert await store.reports() == [_report(seq=2, ok=9)]


async def test_every_proxy_has_its_own(store: Store) -> None:
    """Reports of several proxies stand side by side."""
    assert await store.reports() == []
    for name in ("proxy-1", "proxy-2"):
        await store.put_report(_report(name), wake=False)
    assert {report.proxy for report in await store.reports()} == {"proxy-1", "proxy-2"}


async def test_silent_proxy_is_forgotten(store: Store, keys: Keys) -> None:
    """A proxy whose report has expired is no longer known; the others stay."""
    for name in ("proxy-1", "proxy-2"):
        await store.put_report(_report(name), wake=False)
    assert 0 < await store._wire.read("PTTL", keys.report("proxy-1")) <= 60_000
    await store._wire.write("PEXPIRE", keys.report("proxy-1"), 0)
    assert [report.proxy for report in await store.reports()] == ["proxy-2"]
    assert await store._wire.read("HKEYS", keys.proxies) == [b"proxy-2"]


@pytest.mark.parametrize("blob", [b'{"format": 99, "proxy": "x"}', b'{"format": 1}', b"not json"])
async def test_strange_report_is_counted_and_left_out(store: Store, keys: Keys, blob: bytes) -> None:
    """A report of another format, or none at all, does not hide those of the others."""
    for name in ("proxy-1", "proxy-2"):
        await store.put_report(_report(name), wake=False)
    await store._wire.write("SET", keys.report("proxy-1"), blob)
    assert [report.proxy for report in await store.reports()] == ["proxy-2"]
    assert store.unreadable_reports == 1
    await store.put_report(_report("proxy-1"), wake=False)
    assert len(await store.reports()) == 2
    assert store.unreadable_reports == 0


async def test_wakes_only_when_asked(store: Store) -> None:
    """A report wakes the leader when it says so."""
    async with aclosing(store.wakes()) as wakes:
        assert await anext(wakes) == ""
        await store.put_report(_report("quiet"), wake=False)
        await store.put_report(_report("loud"), wake=True)
        assert await anext(wakes) == "loud"
        await store.wake()
        assert await anext(wakes) == "wake"
