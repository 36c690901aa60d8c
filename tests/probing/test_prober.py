"""The prober: on time, one for all and none in another's way, for as long as it leads."""

import contextlib
import io
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Tracer
from servers import one, raw_server, settings_of

from pointsman import logs, telemetry
from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.core.cadence import Attention
from pointsman.core.errors import Fault
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.core.model import Phase
from pointsman.fake import FakeProvider, Kind
from pointsman.fake import Fault as Misbehave
from pointsman.probing import prober as module
from pointsman.probing.access import access_of
from pointsman.probing.alarm import alarm
from pointsman.probing.prober import Prober
from support import eventually, free_port

pytestmark = pytest.mark.anyio
REACH, GENERATE = ProbeKind.REACH, ProbeKind.GENERATE
# Slow enough that nothing but the first round happens unless a test asks for it.
CALM = {"reach_interval_s": 3600.0, "generate_interval_s": 3600.0}
BRISK = {"reach_interval_s": 0.2, "generate_interval_s": 0.2, "suspect_gap_s": 0.05}
PLANTED = "pl4nted-credential"


class Heard(list[ProbeResult]):
    """The results as they were emitted."""

    def of(self, kind: ProbeKind, name: str = "") -> list[ProbeResult]:
        return [
            result for result in self if result.kind is kind and name in {"", result.target, result.provider}
        ]


@contextlib.asynccontextmanager
async def probing(
    settings: Settings, *, active: bool = True, tracer: Tracer | None = None, **options: Any
) -> AsyncIterator[tuple[Prober, Heard]]:
    """A prober that runs, has its plan, and tells what it saw."""
    heard = Heard()
    prober = Prober(access_of(settings), heard.append, vantage="d1", tracer=tracer or NoOpTracer(), **options)
    prober.attend(Attention(plan=to_plan(settings), active=active))
    async with anyio.create_task_group() as group:
        await group.start(prober.run)
        yield prober, heard
        group.cancel_scope.cancel()


async def test_leading_begins_with_a_round_of_everything() -> None:
    """A new leader asks every provider and target at once, and `full_round` waits until all have answered."""
    async with FakeProvider(latency_ms=50) as fake:
        settings = one(fake.base_url, probe=CALM)
        async with probing(settings, active=False) as (prober, heard):
            assert not heard
            prober.attend(Attention(plan=to_plan(settings)))
            await prober.full_round()
            assert {(result.kind, result.target, result.outcome.ok) for result in heard} == {
                (REACH, "", True),
                (GENERATE, "t", True),
            }
            assert {result.vantage for result in heard} == {"d1"}
            assert abs(heard[0].at_s - time.time()) < 5
            await prober.full_round()
            assert len(heard) == 4


async def test_probes_recur() -> None:
    """Both kinds come again and again at their own pace, over kept connections."""
    async with FakeProvider() as fake:
        async with probing(one(fake.base_url, probe=BRISK)) as (_, heard):
            await eventually(lambda: len(heard.of(REACH)) >= 5 and len(heard.of(GENERATE)) >= 5)
        assert fake.connections_accepted <= 4


async def test_a_silent_alarm_does_not_stop_probing() -> None:
    """When the wall clock is set back the alarm is silent for hours; the monotonic clock goes on."""
    async with FakeProvider() as fake:
        settings = one(fake.base_url, probe=BRISK)
        async with probing(settings, alarm_every_s=86_400.0) as (_, heard):
            await eventually(lambda: len(heard.of(REACH)) >= 5)


async def test_the_alarm_rings() -> None:
    """The alarm rings again and again, and is silent once its context is left."""
    rung: list[float] = []
    async with alarm(lambda: rung.append(time.monotonic()), every_s=0.02):
        await eventually(lambda: len(rung) >= 3)
    count = len(rung)
    await anyio.sleep(0.1)
    assert len(rung) == count


async def test_suspect_is_probed_closely_and_at_once() -> None:
    """Attention to a suspect target wakes the prober: it does not wait for the next slot."""
    async with FakeProvider() as fake:
        settings = one(fake.base_url, probe=CALM | {"suspect_gap_s": 0.05})
        async with probing(settings) as (prober, heard):
            await prober.full_round()
            prober.attend(Attention(plan=to_plan(settings), phases={"t": Phase.SUSPECT}))
            await eventually(lambda: len(heard.of(GENERATE)) >= 5 and len(heard.of(REACH)) >= 5)
            prober.attend(Attention(plan=to_plan(settings), phases={"t": Phase.COOLDOWN}))
            await prober.full_round()
            generated = len(heard.of(GENERATE))
            prober.attend(Attention(plan=to_plan(settings), phases={"t": Phase.HALF_OPEN}))
            await eventually(lambda: len(heard.of(GENERATE)) == generated + 1)


async def test_standby_is_silent() -> None:
    """Without the lead nothing is asked, and the result of a probe under way is not told."""
    async with FakeProvider(latency_ms=100) as fake:
        settings = one(fake.base_url, probe=BRISK)
        async with probing(settings) as (prober, heard):
            await eventually(lambda: fake.requests.snapshot().open >= 1)
            prober.attend(Attention(plan=to_plan(settings), active=False))
            told = len(heard)
            await eventually(lambda: fake.requests.snapshot().open == 0)
            asked = fake.requests.snapshot().total
            await prober.full_round()
            await anyio.sleep(0.5)
            assert fake.requests.snapshot().total == asked
            assert len(heard) == told


async def test_a_slow_provider_delays_nobody() -> None:
    """A hundred targets that hang leave the other provider's pace alone, and are not asked all at once."""
    async with FakeProvider("slow") as slow, FakeProvider("fine") as fine:
        slow.set_faults(Misbehave(kind=Kind.HANG))
        providers = {
            "slow": {"family": "openai", "base_url": slow.base_url, "probe": CALM},
            "fine": {"family": "openai", "base_url": fine.base_url, "probe": BRISK},
        }
        targets = {f"s{number}": {"provider": "slow", "model": "m"} for number in range(100)}
        targets["f"] = {"provider": "fine", "model": "m"}
        async with probing(settings_of(providers, targets)) as (_, heard):
            await eventually(lambda: len(heard.of(GENERATE, "f")) >= 5)
            assert not heard.of(GENERATE, "slow")
            assert slow.requests.snapshot().total == module.CONCURRENT_MAX + 1  # and one to reach it


async def test_reach_does_not_wait_in_line() -> None:
    """A provider that swallows everything is reached at its pace while its targets' probes wait for each other."""
    probe = CALM | {"suspect_gap_s": 0.05, "reach_timeout_s": 0.2, "generate_timeout_s": 30.0}
    async with FakeProvider() as fake:
        fake.set_faults(Misbehave(kind=Kind.HANG))
        targets = {f"t{number}": {"provider": "p", "model": "m"} for number in range(200)}
        providers = {"p": {"family": "openai", "base_url": fake.base_url, "probe": probe}}
        settings = settings_of(providers, targets)
        async with probing(settings) as (prober, heard):
            prober.attend(Attention(plan=to_plan(settings), phases=dict.fromkeys(targets, Phase.SUSPECT)))
            await eventually(lambda: len(heard.of(REACH)) >= 4)
            assert not heard.of(GENERATE)


async def test_many_targets_keep_the_cadence() -> None:
    """Three hundred targets each come at their interval, none twice and none never."""
    async with FakeProvider() as fake:
        providers = {
            name: {
                "family": "openai",
                "base_url": fake.base_url,
                "probe": CALM | {"generate_interval_s": 2.0},
            }
            for name in ("a", "b", "c")
        }
        targets = {
            f"{name}{number}": {"provider": name, "model": "m"} for name in providers for number in range(100)
        }
        async with probing(settings_of(providers, targets)) as (prober, heard):
            await prober.full_round()
            heard.clear()
            await anyio.sleep(4.0)
            counts = [len(heard.of(GENERATE, name)) for name in targets]
    assert min(counts) >= 1
    assert max(counts) <= 3
    assert 450 <= sum(counts) <= 650


async def test_the_outage_of_one_is_told_and_the_other_is_fine() -> None:
    """Each result names its provider and target, and carries the outcome."""
    async with FakeProvider() as fake:
        providers = {
            "up": {"family": "openai", "base_url": fake.base_url, "probe": CALM},
            "down": {"family": "openai", "base_url": f"http://127.0.0.1:{free_port()}", "probe": CALM},
        }
        targets = {f"t-{name}": {"provider": name, "model": "m"} for name in providers}
        async with probing(settings_of(providers, targets)) as (prober, heard):
            await prober.full_round()
    assert {result.provider for result in heard if result.outcome.ok} == {"up"}
    assert {result.provider for result in heard if result.outcome.refuses} == {"down"}
    assert len(heard) == 4


def priced(base_url: str, budget_usd: float) -> Settings:
    """One provider whose completions cost 16 × 1 + 16 × 1 millionths of a dollar at most."""
    providers = {
        "p": {"family": "openai", "base_url": base_url, "probe": BRISK | {"budget_usd_per_day": budget_usd}}
    }
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
    return settings_of(providers, {"t": {"provider": "p", "model": "m", "prices": prices}})


@contextlib.contextmanager
def captured_logs() -> Any:
    """The log as text, while the block lasts."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    logs.setup("text", "debug", stream=stream)
    try:
        yield stream
    finally:
        root.handlers[:], level = before
        root.setLevel(level)


async def test_the_budget_of_a_day() -> None:
    """Spent, it leaves the free probes and one line in the log; a new day has its own."""
    now = [86_400.0 * 20_000]
    with captured_logs() as log:
        async with FakeProvider(tokens=16) as fake:
            settings = priced(fake.base_url, 70e-6)
            async with probing(settings, clock=lambda: now[0]) as (prober, heard):
                await eventually(lambda: "budget of p for generate probes is spent" in log.getvalue())
                spent = len(heard.of(GENERATE))
                assert 1 <= spent <= 4
                assert 0 < prober.spent_usd["p"] <= 70e-6
                reached = len(heard.of(REACH))
                await eventually(lambda: len(heard.of(REACH)) >= reached + 5)
                assert len(heard.of(GENERATE)) == spent
                assert log.getvalue().count("is spent") == 1
                now[0] += 86_400.0
                await eventually(lambda: len(heard.of(GENERATE)) > spent)


async def test_a_credential_stays_with_its_host(tmp_path: Path) -> None:
    """A plan that points elsewhere gets no probe, hence no credential, and the log says why."""
    (tmp_path / "key").write_text(PLANTED)
    with captured_logs() as log:
        async with FakeProvider() as mine, FakeProvider() as thief:
            refs = (f"file:{tmp_path / 'key'}",)
            settings = one(mine.base_url, credentials=refs, probe=CALM)
            async with probing(settings) as (prober, heard):
                await prober.full_round()
                assert len(heard) == 2
                prober.attend(Attention(plan=to_plan(one(thief.base_url, credentials=refs, probe=CALM))))
                prober.attend(Attention(plan=to_plan(one(thief.base_url, credentials=refs, probe=CALM))))
                await prober.full_round()
                assert len(heard) == 2
                assert thief.requests.snapshot().total == 0
    assert log.getvalue().count("cannot probe p: its credential is not bound to the host") == 1
    assert PLANTED not in log.getvalue()


async def test_a_provider_that_is_not_ours_is_left_alone() -> None:
    """A plan with a provider that this daemon's file does not have is probed as far as it can be."""
    async with FakeProvider() as fake:
        plan = to_plan(
            settings_of(
                {name: {"family": "openai", "base_url": fake.base_url, "probe": CALM} for name in ("p", "q")},
                {name: {"provider": name[1:], "model": "m"} for name in ("tp", "tq")},
            )
        )
        async with probing(one(fake.base_url, probe=CALM)) as (prober, heard):
            await prober.full_round()
            prober.attend(Attention(plan=plan))
            await prober.full_round()
            assert {result.provider for result in heard} == {"p"}
            assert {result.target for result in heard} == {"", "t", "tp"}


async def test_reconfigure(tmp_path: Path) -> None:
    """After a reload the new credential is used, without a restart."""
    (tmp_path / "old").write_text("key-old")
    (tmp_path / "new").write_text("key-new")
    async with FakeProvider(api_keys=("key-new",)) as fake:
        old, new = (
            one(fake.base_url, credentials=(f"file:{tmp_path / name}",), probe=CALM)
            for name in ("old", "new")
        )
        async with probing(old) as (prober, heard):
            await prober.full_round()
            prober.reconfigure(access_of(new))
            await prober.full_round()
    assert [result.outcome.fault for result in heard] == [Fault.CREDENTIAL] * 2 + [Fault.OK] * 2


async def test_a_kept_connection_that_the_server_closed() -> None:
    """A server that closes an idle connection just as the next request arrives is not an outage."""
    connections = closed_under_post = 0
    stream_body = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'

    async def script(stream: SocketStream, request: bytes) -> None:
        nonlocal connections, closed_under_post
        connections += 1
        kind, body = (
            (b"text/event-stream", stream_body) if request[:4] == b"POST" else (b"application/json", b"{}")
        )
        length = str(len(body)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length + b"\r\n\r\n"
        await stream.send(head + body)
        closed_under_post += (await stream.receive())[:4] == b"POST"

    async with raw_server(script) as origin:
        settings = one(origin, probe=CALM)
        async with probing(settings) as (prober, heard):
            for _ in range(6):
                await prober.full_round()
            assert [result.outcome.ok for result in heard] == [True] * 12
    assert connections == 12
    assert closed_under_post


async def test_spans(tmp_path: Path) -> None:
    """A round is a span over its probes, which say what was asked and seen, and nothing secret."""
    (tmp_path / "key").write_text(PLANTED)
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with FakeProvider() as fake:
        fake.set_faults(Misbehave(kind=Kind.ERROR_EVENT, status=529))
        settings = one(fake.base_url, credentials=(f"file:{tmp_path / 'key'}",), probe=CALM)
        async with probing(settings, tracer=provider.get_tracer("t")) as (prober, _):
            await prober.full_round()
            await eventually(lambda: len(exporter.get_finished_spans()) == 3)
    spans = exporter.get_finished_spans()
    (whole,) = [span for span in spans if span.name == telemetry.PROBE_ROUND]
    probes = [span for span in spans if span.name == telemetry.PROBE]
    assert {span.parent and span.parent.span_id for span in probes} == {whole.context.span_id}
    (generated,) = [span for span in probes if telemetry.TARGET in (span.attributes or {})]
    said = dict(generated.attributes or {})
    assert said[telemetry.GEN_AI_REQUEST_MODEL] == "m"
    assert said[telemetry.SERVER_ADDRESS] == "127.0.0.1"
    assert said[telemetry.ERROR_TYPE] == "overload"
    everything = "".join(span.to_json() for span in spans)
    assert PLANTED not in everything
    assert "http://" not in everything
