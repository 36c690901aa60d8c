"""The loop against a real store: what is saved, published, renewed, thrown away."""

import time
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from control_daemons import REFUSED, SLOW, report_of, settings_of, shares_in, table_in
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pointsman.config.plan import to_plan
from pointsman.core.cadence import Mode
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import ProbeKind, Verb
from pointsman.core.model import Decision, Drain, Phase
from pointsman.core.table import Version
from pointsman.store.client import Store
from pointsman.store.errors import StoreDown
from support import eventually

pytestmark = pytest.mark.anyio


async def test_a_fresh_store_gets_the_files_weights_at_once(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """With nothing published, baselines go out before any probe has answered."""
    async with daemons():
        shares = await eventually(lambda: shares_in(store))

    assert shares == {"bedrock": 5000, "google": 3000, "meta": 2000}


async def test_failed_probes_move_the_traffic(store: Store, daemons: Callable[..., Any]) -> None:
    """Probe results from the inbox trip the target, and the table without it is published."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        daemon.kill_target("bedrock")

        async def moved() -> bool:
            return "bedrock" not in await shares_in(store)

        assert await eventually(moved)


async def test_the_prober_is_told_whom_to_leave_alone(store: Store, daemons: Callable[..., Any]) -> None:
    """A probe that hears a rate limit has its target left alone, and those of others go on."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        daemon.probe("bedrock", Outcome(Fault.RATE_LIMIT, "HTTP 429", 429, 600.0), ProbeKind.GENERATE)

        await eventually(lambda: daemon.attentions[-1].paces == {"bedrock": Mode.OFF})


async def test_a_failing_probe_wakes_the_loop(store: Store, daemons: Callable[..., Any]) -> None:
    """With an hour between ticks, a failure is acted on within the debounce."""
    async with daemons(settings=settings_of(control=SLOW)) as daemon:
        await eventually(lambda: shares_in(store))
        ticks = daemon.ticks
        daemon.kill_target("bedrock")
        await eventually(lambda: daemon.ticks > ticks)


async def test_lone_failures_of_many_proxies_are_looked_at_together(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """A hundred of them within a second are no more than five decisions, and none waits for the next tick."""
    async with daemons(settings=settings_of(control=SLOW)) as daemon:
        await eventually(lambda: shares_in(store))
        ticks, began = daemon.ticks, time.monotonic()
        for number in range(100):
            await store.put_report(report_of(f"p{number % 50}", accepted=None), wake=True, lone=True)
            await anyio.sleep(max(0.0, began + number / 100 - time.monotonic()))
        lasted_s = time.monotonic() - began
        assert daemon.ticks - ticks <= 1 + lasted_s / 0.25
        await eventually(lambda: "p49" in daemon.control.loop.state.vantages)


async def test_a_word_wakes_the_loop_and_is_answered(store: Store, daemons: Callable[..., Any]) -> None:
    """With an hour between ticks, an operator's word is obeyed and answered at once."""
    async with daemons(settings=settings_of(control=SLOW)):
        await eventually(lambda: shares_in(store))
        shares = {"bedrock": 10_000}
        word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", {"route": "chat", "shares_bp": shares})
        answer = await store.answer(word, 5.0)

        assert answer is not None
        assert answer.ok
        assert await shares_in(store) == shares


async def test_a_word_acts_exactly_once(store: Store, daemons: Callable[..., Any]) -> None:
    """A daemon that takes over does not obey again what was obeyed: the cursor is part of the state."""
    async with daemons("a"):
        await eventually(lambda: shares_in(store))
        args = {"route": "chat", "shares_bp": {"meta": 10_000}}
        word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args)
        await store.answer(word, 5.0)
    async with daemons("b") as second:
        await eventually(lambda: second.leads and second.control.loop.state)
        ticks = second.ticks
        await eventually(lambda: second.ticks > ticks + 2)
    state = await store.load_state()

    assert state is not None
    assert state.baselines["chat"].revision == 2
    told = [note for _, note in await store.events() if note.kind == "word.set_weights"]
    assert len(told) == 1


async def test_two_words_that_say_the_same_are_both_answered(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """An impatient operator who asks twice gets two answers and one table."""
    async with daemons():
        await eventually(lambda: shares_in(store))
        before = await table_in(store)
        args = {"route": "chat", "from": "bedrock", "to": "meta", "for_s": None, "emergency": False}
        words = [await store.say(Verb.FAILOVER, "ann@host", "test", args) for _ in range(2)]
        answers = [await store.answer(word, 5.0) for word in words]
        after = await table_in(store)

    assert before is not None
    assert after is not None
    assert answers[0] is not None
    assert answers[0].ok
    assert answers[1] is not None
    assert not answers[1].ok, "bedrock has no share any more"
    assert after.version.revision == before.version.revision + 1


async def test_a_crash_between_save_and_publish_heals(store: Store, daemons: Callable[..., Any]) -> None:
    """State that says one thing and a table that says another are made one by the next leader."""
    async with daemons("a") as first:
        await eventually(lambda: shares_in(store))
        first.probe_all()
        await eventually(lambda: store_has_health(store))
    stored = await store.load_state()
    lease = await store.acquire("crasher", 5.0, 0)
    assert stored is not None
    assert lease is not None
    baseline = msgspec.structs.replace(stored.baselines["chat"], shares_bp={"meta": 10_000})
    changed = msgspec.structs.replace(stored, baselines={"chat": baseline})
    await store.save(lease, stored, decision_of(changed))
    await store.release(lease)
    async with daemons("b") as second:

        async def healed() -> bool:
            second.probe_all()
            return await shares_in(store) == {"meta": 10_000}

        assert await eventually(healed)


async def test_a_decision_on_a_state_that_moved_is_made_again(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """Somebody else's save under the same lease is not overwritten, and the probes still count."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        lease = daemon.control.leadership.lease
        stored = await store.load_state()
        assert stored is not None
        drains = {"meta": Drain(owner="x", reason="y", at_s=1.0)}
        await store.save(lease, stored, decision_of(msgspec.structs.replace(stored, drains=drains)))
        daemon.kill_target("bedrock")

        async def both() -> bool:
            shares = await shares_in(store)
            return shares == {"google": 10_000}

        assert await eventually(both)


async def test_reasons_travel_without_a_new_table(store: Store, daemons: Callable[..., Any]) -> None:
    """A reason that changes beside equal shares is renewed under the same version."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        daemon.probe_all()
        before = await table_in(store)
        word = await store.say(
            Verb.PIN, "ann@host", "look here", {
                "route": "chat",
                "shares_bp": {"bedrock": 5000, "google": 3000, "meta": 2000},
                "for_s": 600,
                "force": False,
            },
        )  # fmt: skip
        assert (await store.answer(word, 5.0)).ok

        async def renewed() -> bool:
            published = await store.table()
            return "look here" in str(published.reasons) and bool(published.deadlines)

        assert await eventually(renewed)
        after = await table_in(store)

    assert before is not None
    assert after is not None
    assert after.version == before.version


async def test_a_daemon_with_another_file_does_not_apply_it(
    store: Store, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Taking over with another file changes nothing and says once how it differs."""
    async with daemons("a"):
        await eventually(lambda: shares_in(store))
    other = settings_of(routes={"chat": {"weights": {"bedrock": 10, "google": 70, "meta": 20}}})
    with caplog.at_level("WARNING", "pointsman"):
        async with daemons("b", settings=other) as second:
            await eventually(lambda: second.leads)
            ticks = second.ticks
            await eventually(lambda: second.ticks > ticks + 3)

    assert (await shares_in(store))["google"] == 3000
    warnings = [record for record in caplog.records if "not the active configuration" in record.message]
    assert len(warnings) == 1
    assert "weights_bp" in warnings[0].fields["differences"]


async def test_a_new_leader_waits_for_a_round_of_probes(store: Store, daemons: Callable[..., Any]) -> None:
    """With a table out, nothing that is not urgent is published before every provider was heard."""
    async with daemons("a") as first:
        await eventually(lambda: shares_in(store))
        first.kill_target("bedrock")
        await eventually(lambda: not_in(store, "bedrock"))
        first.probe_all()
    # A state without health, as after a loss: a hasty leader would feed bedrock again.
    stored = await store.load_state()
    lease = await store.acquire("editor", 5.0, 0)
    await store.save(lease, stored, decision_of(msgspec.structs.replace(stored, health={})))
    await store.release(lease)
    async with daemons("b") as second:
        await eventually(lambda: second.leads and second.control.loop.state)
        ticks = second.ticks
        await eventually(lambda: second.ticks > ticks + 8)
        assert "bedrock" not in await shares_in(store)
        second.probe_all()
        assert await eventually(lambda: is_in(store, "bedrock"))


async def test_a_table_that_proxies_know_better_is_published_above_theirs(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """A leader that sees a newer accepted version takes a higher epoch, or proxies would refuse for ever."""
    ahead = Version(4_000_000_000, 7)
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        await store.put_report(report_of("p1", accepted=ahead), wake=True)

        async def above() -> bool:
            table = await table_in(store)
            return table is not None and table.version > ahead

        assert await eventually(above)
        assert daemon.epoch > ahead.epoch


async def test_a_version_that_nobody_can_be_above_is_not_believed(
    store: Store, daemons: Callable[..., Any]
) -> None:
    """A report with one takes no epoch away from anybody."""
    async with daemons() as daemon:
        await eventually(lambda: shares_in(store))
        epoch, ticks = daemon.epoch, daemon.ticks
        await store.put_report(report_of("p1", accepted=Version(2**53 + 1, 7)), wake=True)
        await eventually(lambda: daemon.ticks > ticks + 3)
        assert daemon.epoch == epoch


@pytest.mark.parametrize("applied", [True, False])
async def test_a_probe_counts_once_when_the_saves_reply_is_lost(
    store: Store, daemons: Callable[..., Any], applied: bool
) -> None:
    """Whether a save that timed out was applied or not: what it had heard is neither lost nor counted twice."""
    async with daemons(settings=settings_of(control=SLOW)) as daemon:
        await eventually(lambda: shares_in(store))
        daemon.probe_all()
        await store.wake()
        await eventually(lambda: all_are_healthy(store))
        save, lost = daemon.store.save, []

        async def save_without_reply(*arguments: Any) -> Any:
            if lost:
                return await save(*arguments)
            lost.append(await save(*arguments) if applied else None)
            raise StoreDown("the reply is lost")

        daemon.store.save = save_without_reply
        daemon.probe("bedrock", REFUSED)
        await eventually(lambda: not daemon.control.health()["ready"])
        await store.wake()
        await eventually(lambda: daemon.control.health()["ready"])

        async def counted() -> int:
            return (await store.load_state()).health["bedrock"].reach_streak

        assert await eventually(counted) == 1


async def test_a_word_that_breaks_the_decision_is_refused(
    store: Store, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nonsense that only a stranger can have written is answered, and the next word is heard."""
    async with daemons():
        await eventually(lambda: shares_in(store))
        plan = msgspec.to_builtins(to_plan(settings_of()))
        plan |= {"targets": {}, "digest": "a plan whose routes have no targets"}
        word = await store.say(Verb.APPLY_PLAN, "x", "y", {"plan": plan})
        refused = await store.answer(word, 5.0)
        args = {"route": "chat", "shares_bp": {"meta": 10_000}}
        word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args)
        obeyed = await store.answer(word, 5.0)

    assert refused is not None
    assert not refused.ok
    assert obeyed is not None
    assert obeyed.ok


async def test_decisions_and_publications_are_spans(store: Store, daemons: Callable[..., Any]) -> None:
    """control.decide for every tick, control.publish for every table, with its version."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with daemons() as daemon:
        daemon.control.loop._tracer = provider.get_tracer("test")
        daemon.probe_all()
        args = {"route": "chat", "shares_bp": {"meta": 10_000}}
        word = await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args)
        await store.answer(word, 5.0)
        version = await eventually(lambda: published_version(store, {"meta": 10_000}))
        spans = await eventually(
            lambda: [span for span in exporter.get_finished_spans() if span.name == "control.publish"]
        )

    assert spans[-1].attributes["pointsman.table.version"] == version
    assert "control.decide" in {span.name for span in exporter.get_finished_spans()}
    provider.shutdown()


async def published_version(store: Store, shares: dict[str, int]) -> str:
    table = await table_in(store)
    return str(table.version) if table and table.routes["chat"].shares_bp == shares else ""


async def all_are_healthy(store: Store) -> bool:
    state = await store.load_state()
    return all(health.phase is Phase.HEALTHY for health in state.health.values())


async def test_nothing_is_written_behind_our_own_fence(
    store: Store, daemons: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The store would still take it: whoever was held up on the way to a write does not even try."""
    async with daemons(settings=settings_of(control=SLOW)) as daemon:
        await eventually(lambda: shares_in(store))
        words_after, held_up = daemon.store.words_after, []

        async def words_at_last(cursor: str) -> Any:
            words = await words_after(cursor)
            if words and not held_up:
                held_up.append(words)
                daemon.control.leadership._fence = 0.0
            return words

        daemon.store.words_after = words_at_last
        before = (await store.load_state()).revision
        with caplog.at_level("INFO", "pointsman"):
            args = {"route": "chat", "shares_bp": {"meta": 10_000}}
            await store.say(Verb.SET_WEIGHTS, "ann@host", "test", args)
            await eventually(lambda: "thrown away" in caplog.text)

        assert (await store.load_state()).revision == before


async def store_has_health(store: Store) -> bool:
    state = await store.load_state()
    return state is not None and len(state.health) == 3


async def not_in(store: Store, target: str) -> bool:
    return target not in await shares_in(store)


async def is_in(store: Store, target: str) -> bool:
    return target in await shares_in(store)


def decision_of(state: Any) -> Decision:
    return Decision(state=state, table=None, reasons={})
