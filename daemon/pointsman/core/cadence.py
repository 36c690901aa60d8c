"""Which probes are due. Pure: the caller passes monotonic seconds in, and says when a probe is over.

The rules, each probe for itself:

    mode     who                                                     next start
    steady   everything else                                         its next slot on the grid
    close    a suspect, half-open or doubted target, the provider    suspect_gap_s after the last start: at
             of a suspect or doubted one                             once when the last start is longer ago
    off      generate: target cooling down, or the provider
             allows no generate probe                                never

Generate probes go at another pace where `Attention.paces` says so (core/attention.py): a target that asked to be
left alone is off, one whose key is refused steady whatever its phase.

A slot is `k × interval + phase`, moved by up to ±5 %, so that two slots lie 0.9 to 1.1 intervals apart. Phase
and movement come from a hash, so the grid is spread evenly, stays what it is over a new plan, does not drift,
and owes nothing after a stall: a late probe starts once, and slots that passed are gone. A probe never starts
while its last one runs, nor within half an interval of it unless close. A generate probe is spared while live
traffic vouches for its target; one that was spared starts as soon as traffic no longer does.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final

from msgspec import Struct

from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Phase, Plan

JITTER: Final = 0.1
# More generate probes at once for one provider would be a load; the others wait in line. Reach probes never wait.
CONCURRENT_MAX: Final = 64


class ProbeTiming(Struct, frozen=True, kw_only=True):
    """How one provider is probed; the settings under `probe`. Seconds and US dollars."""

    reach_interval_s: float = 10.0
    generate_interval_s: float = 30.0
    reach_timeout_s: float = 4.0
    generate_timeout_s: float = 10.0
    suspect_gap_s: float = 2.0
    generate: bool = True
    generate_max_tokens: int = 16
    budget_usd_per_day: float = 1.0

    def interval_s(self, kind: ProbeKind) -> float:
        return self.reach_interval_s if kind is ProbeKind.REACH else self.generate_interval_s

    def timeout_s(self, kind: ProbeKind) -> float:
        return self.reach_timeout_s if kind is ProbeKind.REACH else self.generate_timeout_s


class Mode(Enum):
    STEADY = "steady"
    CLOSE = "close"
    OFF = "off"


class Attention(Struct, frozen=True, kw_only=True):
    """What to probe and how closely, after each decision.

    `phases` of the targets that are not healthy; `paces` of generate probes where they are not those of the phase;
    `doubted`: targets with a run of failed probes, whatever their phase; `fresh`: targets that live traffic has
    shown to work within the last generate interval, so that a probe would buy nothing. Not `active`: probe nothing.
    """

    plan: Plan
    phases: dict[str, Phase] = {}
    paces: dict[str, Mode] = {}
    doubted: frozenset[str] = frozenset()
    active: bool = True
    fresh: frozenset[str] = frozenset()


class Probe(Struct, frozen=True, order=True):
    """One thing to ask: a provider (reach, `target` empty) or a target (generate)."""

    kind: ProbeKind
    provider: str
    target: str = ""


class _Entry:
    """The standing of one probe. `due_s` is None while it runs or is off; `spared`: since its last start."""

    __slots__ = ("due_s", "mode", "phase", "running", "spared", "started_s")

    def __init__(self, phase: float) -> None:
        self.phase = phase
        self.mode = Mode.OFF
        self.running = False
        self.spared = False
        self.started_s = -float("inf")
        self.due_s: float | None = None


class Cadence:
    """The due times of all probes. `now_s` is monotonic seconds and never falls."""

    def __init__(self, timings: Mapping[str, ProbeTiming], *, seed: str = "") -> None:
        self._timings = timings
        self._seed = seed
        self._attention = Attention(plan=_NOTHING, active=False)
        self._close: frozenset[str] = frozenset()
        self._entries: dict[Probe, _Entry] = {}
        self._heap: list[tuple[float, Probe]] = []

    @property
    def next_due_s(self) -> float | None:
        """When to ask again; None if nothing will ever be due."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def timing(self, provider: str) -> ProbeTiming:
        return self._timings.get(provider, _DEFAULT)

    def retime(self, timings: Mapping[str, ProbeTiming], now_s: float) -> None:
        """Take other timings; probes whose interval stays keep their grid."""
        self._timings = timings
        for entry in self._entries.values():
            entry.due_s = None
        self._replan(self._entries, now_s)

    def attend(self, attention: Attention, now_s: float) -> None:
        """Take the last decision's word: cheap when only a few phases changed."""
        before, self._attention = self._attention, attention
        close_before, self._close = self._close, _close(attention)
        if before.plan is not attention.plan and before.plan != attention.plan:
            self._keep_only(_probes(attention.plan))
            self._replan(self._entries, now_s)
        elif before.active != attention.active:
            self._replan(self._entries, now_s)
        else:
            changed = {name for name, _ in before.phases.items() ^ attention.phases.items()}
            changed |= {name for name, _ in before.paces.items() ^ attention.paces.items()}
            changed |= before.doubted ^ attention.doubted
            reach = {Probe(ProbeKind.REACH, provider) for provider in close_before ^ self._close}
            self._replan(_concerned(changed, attention.plan) | reach, now_s)
        self._make_good(before.fresh - attention.fresh, now_s)

    def due(self, now_s: float) -> list[Probe]:
        """The probes to start now, the longest overdue first. Each counts as running until `done`."""
        found: list[Probe] = []
        while self._heap and self._heap[0][0] <= now_s:
            due_s, probe = heapq.heappop(self._heap)
            entry = self._entries.get(probe)
            if entry is None or entry.due_s != due_s:
                continue
            if self._spared(probe, entry):
                entry.spared = True
                self._plan(probe, entry, self._slot(probe, entry, now_s, later_than_s=due_s))
                continue
            self._start(entry, now_s)
            found.append(probe)
        return found

    def begin_round(self, now_s: float) -> list[Probe]:
        """Start everything that is not off and does not run, whatever is due: one complete round."""
        found = [
            probe
            for probe, entry in self._entries.items()
            if entry.mode is not Mode.OFF and not entry.running
        ]
        for probe in found:
            self._start(self._entries[probe], now_s)
        return found

    def done(self, probe: Probe, now_s: float) -> None:
        """A probe that `due` gave out is over, however it ended."""
        entry = self._entries.get(probe)
        if entry is not None:
            entry.running = False
            self._schedule(probe, entry, now_s)

    # --- inside

    def _start(self, entry: _Entry, now_s: float) -> None:
        entry.running, entry.spared, entry.started_s, entry.due_s = True, False, now_s, None

    def _spared(self, probe: Probe, entry: _Entry) -> bool:
        """A generate probe of a healthy target that live traffic vouches for is not worth its tokens."""
        return (
            entry.mode is Mode.STEADY
            and probe.target in self._attention.fresh
            and probe.target not in self._attention.phases
        )

    def _make_good(self, targets: frozenset[str], now_s: float) -> None:
        """Nobody vouches for these any more: those that were spared meanwhile are asked at once."""
        known = self._attention.plan.targets
        for name in targets & known.keys():
            probe = Probe(ProbeKind.GENERATE, known[name].provider, name)
            entry = self._entries[probe]
            if entry.spared and entry.mode is Mode.STEADY and not entry.running:
                half_s = self.timing(probe.provider).generate_interval_s / 2
                self._plan(probe, entry, max(now_s, entry.started_s + half_s))

    def _keep_only(self, wanted: Iterable[Probe]) -> None:
        self._entries = {
            probe: self._entries.get(probe) or _Entry(_fraction(self._seed, *_key(probe))) for probe in wanted
        }
        self._heap = []
        for probe, entry in self._entries.items():
            if entry.due_s is not None:
                self._plan(probe, entry, entry.due_s)

    def _replan(self, probes: Iterable[Probe], now_s: float) -> None:
        for probe in probes:
            entry = self._entries[probe]
            before, entry.mode = entry.mode, self._mode(probe)
            if entry.running or (entry.mode is before and entry.due_s is not None):
                continue
            self._schedule(probe, entry, now_s)

    def _mode(self, probe: Probe) -> Mode:
        attention = self._attention
        if not attention.active:
            return Mode.OFF
        if probe.kind is ProbeKind.REACH:
            return Mode.CLOSE if probe.provider in self._close else Mode.STEADY
        allowed = self.timing(probe.provider).generate and attention.plan.providers[probe.provider].generate
        phase = attention.phases.get(probe.target)
        if not allowed or phase is Phase.COOLDOWN:
            return Mode.OFF
        close = phase in {Phase.SUSPECT, Phase.HALF_OPEN} or probe.target in attention.doubted
        return attention.paces.get(probe.target, Mode.CLOSE if close else Mode.STEADY)

    def _schedule(self, probe: Probe, entry: _Entry, now_s: float) -> None:
        if entry.mode is Mode.OFF:
            entry.due_s = None
        elif entry.mode is Mode.CLOSE:
            gap_s = self.timing(probe.provider).suspect_gap_s
            self._plan(probe, entry, max(now_s, entry.started_s + gap_s))
        else:
            self._plan(probe, entry, self._slot(probe, entry, now_s, later_than_s=entry.started_s))

    def _plan(self, probe: Probe, entry: _Entry, due_s: float) -> None:
        entry.due_s = due_s
        heapq.heappush(self._heap, (due_s, probe))

    def _slot(self, probe: Probe, entry: _Entry, now_s: float, *, later_than_s: float) -> float:
        """The first slot that is not over and at least half an interval after the last start."""
        interval_s = self.timing(probe.provider).interval_s(probe.kind)
        earliest_s = max(now_s, later_than_s + interval_s / 2)
        number = int(earliest_s / interval_s - entry.phase) - 1
        while True:
            moved = (_fraction(self._seed, *_key(probe), str(number)) - 0.5) * JITTER
            slot_s = (number + entry.phase + moved) * interval_s
            if slot_s >= earliest_s:
                return slot_s
            number += 1

    def _drop_stale(self) -> None:
        while self._heap:
            due_s, probe = self._heap[0]
            entry = self._entries.get(probe)
            if entry is not None and entry.due_s == due_s:
                return
            heapq.heappop(self._heap)


def detection_bound_s(timing: ProbeTiming, *, failures: int = 3) -> float:
    """The longest that a provider without traffic can be down until `failures` reach probes in a row failed.

    Seconds, and true also when every probe runs into its deadline: the slowest interval, then one probe after
    the other.
    """
    return _bound_s(timing, ProbeKind.REACH, failures)


def zombie_bound_s(timing: ProbeTiming, *, failures: int = 3, targets: int = 1) -> float:
    """The same for a target whose provider answers while completions hang; infinite without generate probes.

    True also when traffic ends at that moment, which spares a probe for one interval, and when all of the
    provider's `targets` hang and wait for each other.
    """
    waves = -(-targets // CONCURRENT_MAX)
    return _bound_s(timing, ProbeKind.GENERATE, failures, waves) if timing.generate else float("inf")


def _bound_s(timing: ProbeTiming, kind: ProbeKind, failures: int, waves: int = 1) -> float:
    over_s = waves * timing.timeout_s(kind)
    return (
        (1 + JITTER) * timing.interval_s(kind) + (failures - 1) * max(timing.suspect_gap_s, over_s) + over_s
    )


_DEFAULT: Final = ProbeTiming()
_NOTHING: Final = Plan(environment="", fleet="", providers={}, targets={}, routes={})


def _probes(plan: Plan) -> Iterator[Probe]:
    for name in plan.providers:
        yield Probe(ProbeKind.REACH, name)
    for target in plan.targets.values():
        yield Probe(ProbeKind.GENERATE, target.provider, target.name)


def _close(attention: Attention) -> frozenset[str]:
    """The providers to look at closely: those of suspect and doubted targets, and one more as a witness.

    A suspect whose own pace is another one is not hurried for: it has no share to lose.

    A provider's silence is its own only if another answers meanwhile (core/health.py): without a witness, the
    verdict would wait for the others' turn.
    """
    targets, providers = attention.plan.targets, attention.plan.providers
    suspect = {name for name, phase in attention.phases.items() if phase is Phase.SUSPECT}
    hurried = {name for name in suspect if attention.paces.get(name, Mode.CLOSE) is Mode.CLOSE}
    suspects = {targets[name].provider for name in hurried | attention.doubted if name in targets}
    if not suspects:
        return frozenset()
    first = min(suspects)
    others = sorted(providers.keys() - suspects, key=lambda name: (name < first, name))
    return frozenset({*suspects, *others[:1]})


def _concerned(targets: Iterable[str], plan: Plan) -> set[Probe]:
    """The probes whose mode can depend on the phases of `targets`."""
    found: set[Probe] = set()
    for name in targets:
        if name in plan.targets:
            provider = plan.targets[name].provider
            found |= {Probe(ProbeKind.GENERATE, provider, name), Probe(ProbeKind.REACH, provider)}
    return found


def _key(probe: Probe) -> tuple[str, str, str]:
    return (probe.kind.value, probe.provider, probe.target)


def _fraction(*parts: str) -> float:
    """A number in [0, 1) that is always the same for the same parts and looks drawn at random."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
