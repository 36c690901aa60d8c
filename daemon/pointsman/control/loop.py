"""The loop of the leader: gather → decide → save (compare-and-set under the fence) → publish.

It is level-triggered: a tick derives the table from the state and compares it with what is really published, so a
crash between saving and publishing heals on the next tick. State is saved before anything is published. When
somebody else has written the state, the decision is thrown away and made again from what is there.

Every tick asks the store what is published and which table the proxies have. When that is older than what this
daemon or a proxy has seen, the store has gone back (flushed, or restored from a dump): a higher epoch is taken,
what people decided is restored from memory or from our own disk, and everything is published anew.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, to_builtins
from msgspec.structs import replace
from opentelemetry.trace import Tracer

from pointsman import logs, telemetry
from pointsman.control.drift import differences
from pointsman.control.inbox import Inbox
from pointsman.control.leader import Leadership
from pointsman.control.memory import NOTHING, Memory
from pointsman.core import table as tables
from pointsman.core.asked import Asked
from pointsman.core.attention import attention
from pointsman.core.cadence import Attention
from pointsman.core.deciding import decided
from pointsman.core.evidence import Evidence, ProbeResult, Report, Verb, Word
from pointsman.core.model import Decision, Plan, State
from pointsman.core.ramp_model import GateAnswer
from pointsman.core.table import Table, Version
from pointsman.store.client import Store
from pointsman.store.errors import Conflict, Fenced, StoreDown, Unreadable
from pointsman.store.records import Lease, Peek

_log = logs.get("control")

RENEW_BESIDE_GAP_S: Final = 1.0
# Notes that somebody should look at; the others tell that something is well again.
ALARMING: Final = frozenset(
    {
        "target.tripped",
        "target.barred",
        "route.valve",
        "route.closed",
        "route.panic",
        "egress",
        "proxy.trouble",
    }
)


class Beside(Struct, frozen=True):
    """What travels beside a table without being a new one."""

    reasons: dict[str, dict[str, str]]
    deadlines: dict[str, float]


class Shown(Struct, frozen=True):
    """The published table as this loop last read or wrote it."""

    version: Version = NOTHING
    hash: str = ""
    table: Table | None = None
    published_s: float = 0.0
    beside: Beside = Beside({}, {})


class Loop:
    """One tick at a time; `attend` tells the prober what to look at, `own_plan` is what this daemon's file says.

    `vouches_s`: for so many seconds a live success spares a provider's targets their paid probe. `record` is given
    every decision that was acted on; `answers` gives what gates outside have answered. `drift_told`: the digests of the
    active plan and our own whose difference was told last.
    """

    def __init__(
        self,
        store: Store,
        leadership: Leadership,
        inbox: Inbox,
        memory: Memory,
        *,
        own_plan: Plan,
        vouches_s: Mapping[str, float],
        attend: Callable[[Attention], None],
        record: Callable[[Lease, Asked, Decision], None],
        answers: Callable[[], tuple[GateAnswer, ...]],
        first_round_s: float,
        tracer: Tracer,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._inbox = inbox
        self._memory = memory
        self._attend = attend
        self._record = record
        self._answers = answers
        self._first_round_s = first_round_s
        self._tracer = tracer
        self.own_plan = own_plan
        self.vouches_s = vouches_s
        self.state: State | None = None
        self.clock_offset_s = time.time() - time.monotonic()
        self.shown = Shown()
        self.proxies_version = NOTHING
        self.reports: list[Report] = []
        self._stored: State | None = None
        self._under: Lease | None = None
        self._unsure: tuple[int, tuple[ProbeResult, ...]] | None = None
        self._unheard: set[str] | None = None
        self._round_over = 0.0
        self._beside_at = 0.0
        self.drift_told = ("", "")

    async def tick(self) -> Decision | None:
        """Decide once and act on it; None on standby. Raises StoreError when the store does not answer."""
        reports = self.reports = await self._store.reports()
        told = (report.accepted for report in reports)
        accepted = [version for version in told if version is not None and version.possible]
        self.proxies_version = max(accepted, default=NOTHING)
        try:
            peek = await self._store.peek()
        except Unreadable as error:
            _log.error("the published table is unusable and is replaced: {why}", why=str(error))
            peek = error.peek
        lease = self._leadership.lease
        if lease is None:
            await self._stand_by(peek)
            return None
        now_s = peek.now_s if peek else await self._store.now_s()
        try:
            return await self._lead(lease, peek, reports, now_s)
        except Fenced as error:
            self._forget()
            self._leadership.refused(error)
        except Conflict as error:
            self._forget()
            _log.info("the decision was thrown away and is made again: {why}", why=str(error))
        return None

    async def _stand_by(self, peek: Peek | None) -> None:
        """Keep reading, so that a takeover starts warm."""
        self._forget()
        self._under = None
        self.rest()
        state = await self._store.load_state()
        if state is not None:
            version = peek.version if peek else NOTHING
            self._memory.remember(state, version, version.epoch, ours=False)

    def rest(self) -> None:
        """Only the leader probes."""
        self._inbox.drain()
        self._attend(Attention(plan=self.own_plan, active=False))

    async def _lead(
        self, lease: Lease, peek: Peek | None, reports: list[Report], now_s: float
    ) -> Decision | None:
        version = peek.version if peek else NOTHING
        if lease != self._under:
            self._begin(lease)
        if version < self.shown.version:
            self._forget()
        await self._refresh_shown(peek, doubted=any(report.rejected for report in reports))
        state = self.state or await self._load(version, now_s)
        known = max(self._memory.version, self.proxies_version)
        anew = known > version or self.shown.table is None
        if anew and lease.epoch <= max(known, version).epoch:
            why = f"table {known} is known, but the store has {version}"
            await self._leadership.raise_epoch(max(known, version).epoch, why)
            raised = self._leadership.lease
            if raised is None:
                return None
            self._under = lease = raised
        published = self._nothing_routed(max(known, version)) if anew else self.shown.table
        evidence = await self._gather(state, reports)
        # Whoever has just begun to lead looks at every provider first: as if the table were too young to replace.
        published_s = now_s if self._first_round() else self.shown.published_s
        asked = Asked(
            at_s=now_s,
            epoch=lease.epoch,
            published=published,
            published_s=published_s,
            state=state,
            evidence=evidence,
        )
        self.clock_offset_s = now_s - time.monotonic()
        with self._tracer.start_as_current_span(telemetry.CONTROL_DECIDE) as span:
            decision, failure = decided(asked)
            span.set_attribute(telemetry.PROBE_COUNT, len(evidence.probes))
            span.set_attribute(telemetry.CHANGES, [note.text for note in decision.notes])
        if failure is not None:
            said = [word.id for word in evidence.words if word.id]
            _log.exception("the words {words} cannot be obeyed", failure, words=said)
        await self._save(lease, decision, evidence)
        await self._publish(lease, decision, now_s)
        self._record(lease, asked, decision)
        self._memory.remember(self.state or decision.state, self.shown.version, lease.epoch, ours=True)
        self._tell_prober(decision.state, now_s)
        if decision.yields:
            await self._leadership.yield_to_others("our probes fail while the proxies' traffic succeeds")
        return decision

    def _nothing_routed(self, version: Version) -> Table | None:
        """An empty table in place of one that proxies must not keep: whatever is decided differs from it."""
        if version == NOTHING:
            return None
        plan = self.own_plan
        return Table(
            environment=plan.environment,
            fleet=plan.fleet,
            version=version,
            hash="",
            issued_s=0.0,
            targets={},
            routes={},
        )

    def _begin(self, lease: Lease) -> None:
        """A new lease: reload everything, and look at every provider before the first publication."""
        self._forget()
        self._under = lease
        self._unheard = None
        self._round_over = time.monotonic() + self._first_round_s
        # A lease that was lost and won again between two ticks: the prober is to begin a round all the same.
        self._attend(Attention(plan=self.own_plan, active=False))

    def _forget(self) -> None:
        """What is in memory may not be what is stored: read it again."""
        self.state = self._stored = None
        self.shown = Shown()

    async def _refresh_shown(self, peek: Peek | None, *, doubted: bool) -> None:
        """Read the published table if it is not the one known, or if a proxy cannot read it."""
        if peek is None:
            self.shown = Shown()
            return
        if (peek.version, peek.hash) == (self.shown.version, self.shown.hash) and not doubted:
            return
        try:
            published = await self._store.table()
            table = tables.decode(published.body) if published else None
        except (Unreadable, tables.TableError) as error:
            _log.error(
                "the published table {version} is unusable and is replaced: {why}",
                version=str(peek.version),
                why=str(error),
            )
            self.shown = Shown(peek.version, peek.hash)
            return
        if published is None:
            self.shown = Shown()
            return
        self.shown = Shown(
            published.table_version,
            published.hash,
            table,
            published.published_s,
            Beside(published.reasons, published.deadlines),
        )

    async def _load(self, version: Version, now_s: float) -> State:
        loaded = await self._store.load_state()
        revision = loaded.revision if loaded else 0
        if self._unsure is not None:
            # A save whose fate we did not learn: if it was not applied, its probe results still count.
            saved_over, probes = self._unsure
            self._unsure = None
            if saved_over == revision:
                self._inbox.give_back(probes)
        state, self._stored = loaded or State(), loaded
        if self._memory.is_newer_than(version, revision):
            state = self._memory.restore(loaded, now_s=now_s)
            _log.warning(
                "the store has gone back to table {stored}, but {known} is known: "
                "plan, weights, overlays and drains are restored",
                stored=str(version),
                known=str(self._memory.version),
            )
        # What the last leader saw of its own way out says nothing of ours.
        self.state = state = replace(state, paths={}, egress_suspect=False)
        return state

    async def _gather(self, state: State, reports: list[Report]) -> Evidence:
        words = await self._store.words_after(state.words_cursor)
        stages = await self._store.elsewhere.awaited(state)
        if state.plan is None:
            words = [plan_word(self.own_plan), *words]
        else:
            self._tell_drift(state.plan)
        probes = self._inbox.drain()
        if self._unheard is None:
            self._unheard = set((state.plan or self.own_plan).providers)
        self._unheard.difference_update(probe.provider for probe in probes)
        heard = Evidence(probes=probes, reports=tuple(reports), words=tuple(words), gates=self._answers())
        return replace(heard, stages=stages)

    async def _save(self, lease: Lease, decision: Decision, evidence: Evidence) -> None:
        answers = tuple(answer for answer in decision.answers if answer.word)
        for answer in decision.answers:
            if not answer.word and not answer.ok:
                _log.error("the configuration of our own file is refused: {why}", why=answer.text)
        decision = replace(decision, answers=answers)
        if decision.state == self._stored and not decision.notes and not answers:
            return
        self._unsure = (self._stored.revision if self._stored else 0, evidence.probes)
        try:
            self._check_fence(lease)
            self.state = self._stored = await self._store.save(lease, self._stored, decision)
        except Conflict:  # nothing was written: what was heard still counts
            self._unsure = None
            self._inbox.give_back(evidence.probes)
            raise
        except StoreDown:
            self._forget()
            raise
        self._unsure = None
        for note in decision.notes:
            tell = _log.warning if note.kind in ALARMING else _log.info
            tell(note.text, kind=note.kind, subject=note.subject)

    def _check_fence(self, lease: Lease) -> None:
        """Our own fence, before every write: the store's comes second."""
        if self._leadership.lease != lease:
            raise Conflict("our lease has run out or changed meanwhile")

    async def _publish(self, lease: Lease, decision: Decision, now_s: float) -> None:
        beside = Beside(decision.reasons, decision.deadlines)
        table = decision.table
        if table is None:
            await self._renew_beside(lease, beside)
            return
        if problems := tables.validate(table):
            # A bug of ours: the last good table goes on being served.
            _log.error("table {version} is not published: {why}", version=str(table.version), why=problems[0])
            return
        with self._tracer.start_as_current_span(telemetry.CONTROL_PUBLISH) as span:
            span.set_attribute(telemetry.TABLE_VERSION, str(table.version))
            self._check_fence(lease)
            await self._store.publish(lease, table, beside.reasons, beside.deadlines)
        self.shown = Shown(table.version, table.hash, table, now_s, beside)
        self._beside_at = time.monotonic()

    def _first_round(self) -> bool:
        """Is the first look at every provider still under way? A new leader does not publish before."""
        return bool(self._unheard) and time.monotonic() < self._round_over

    async def _renew_beside(self, lease: Lease, beside: Beside) -> None:
        table, known = self.shown.table, self.shown.beside.deadlines
        if table is None or time.monotonic() < self._beside_at + RENEW_BESIDE_GAP_S:
            return
        # An overlay that is over may still stand in the table that proxies have. Without its deadline they would drop
        # it at once for what that table says comes then, which is out of date: the next table says what comes.
        named = {stage.overlay for route in table.routes.values() for stage in route.later}
        kept = {overlay: known[overlay] for overlay in named & known.keys()}
        beside = replace(beside, deadlines={**kept, **beside.deadlines})
        if beside == self.shown.beside:
            return
        self._check_fence(lease)
        await self._store.renew_beside(lease, beside.reasons, beside.deadlines)
        self.shown = replace(self.shown, beside=beside)
        self._beside_at = time.monotonic()

    def _tell_prober(self, state: State, now_s: float) -> None:
        told = attention(state, state.plan or self.own_plan, self.vouches_s, now_s)
        self._inbox.watch(told.phases)
        self._attend(told)

    def _tell_drift(self, active: Plan) -> None:
        """Say once how our own file differs from the active configuration."""
        both = (active.digest, self.own_plan.digest)
        if active.digest == self.own_plan.digest or both == self.drift_told:
            return
        self.drift_told = both
        lines = differences(active, self.own_plan)
        _log.warning(
            "the file is not the active configuration: run `pointsman config apply`, or reload with SIGHUP, "
            "to make it the active one. It differs: {differences}",
            differences="; ".join(lines) or "in parts that routing does not depend on",
        )


def plan_word(plan: Plan, *, reason: str = "first configuration") -> Word:
    """The word that makes our own file's plan the active one; it has no place in the stream of words."""
    return Word(id="", verb=Verb.APPLY_PLAN, author="file", reason=reason, args=plan_args(plan))


def plan_args(plan: Plan) -> dict[str, object]:
    """The arguments of APPLY_PLAN."""
    return {"plan": to_builtins(plan)}
