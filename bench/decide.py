"""What one decision costs: `core.decide.decide` alone, without store or network.

Ticks, each decided from the state that the one before left:
  idle      no probe, the reports of 50 proxies read again (nothing new in them)
  busy      one second of a fleet at work: probes of every target each 30 s and of every provider each 10 s (with
            1,000 targets 33 and 10), and new reports of 50 proxies on 200 targets each
  trip      the same, and one target of the first route fails five times in a row on one proxy: a table is published
  ramps     one second with a canary on every tenth route (with 1,000 targets 20 of them): every proxy serves, beats,
            and tells what it has newly seen of both sides of each; of targets it has nothing new to tell

Sizes are 100 to 10,000 targets, 10 to a provider, with one route of five targets for every five. `growth` is the
exponent of the time between this size and the one before: 1 is linear. CPU milliseconds on one core, with Python's
garbage collection as it is in the daemon. The decoding of reports and the writing of the state are not in it
(see the bench `reports`).
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from bench import machine, world
from bench.machine import percentile
from bench.sheet import Sheet, Value
from pointsman.config.plan import to_plan
from pointsman.core.decide import decide
from pointsman.core.evidence import UNARY, ArmReport, Evidence, Lane, ProbeResult, Report, Verb, Word
from pointsman.core.model import Plan, State
from pointsman.core.ramp_model import ENDED
from pointsman.core.table import Table, encode

PROXIES = 50
TARGETS_REPORTED = 200
EPOCH = 7
# A target that tripped takes a minute and a half to be healthy again, and there must be one to trip.
TRIPS_MAX = 60


class World:
    """State, table and time of one size; each tick goes on from the last."""

    def __init__(self, targets: int, proxies: int = PROXIES) -> None:
        self.plan: Plan = to_plan(world.settings_of(world.sized(targets, max(1, targets // 5))))
        self.now_s = world.NOON_S
        first = world.first_decision(self.plan, epoch=EPOCH, now_s=self.now_s)
        self.state: State = first.state
        self.table: Table | None = first.table
        self.published_s = self.now_s
        self._beat = 0
        self._reports: tuple[Report, ...] = ()
        names = list(self.plan.targets)
        width = min(TARGETS_REPORTED, targets)
        starts = range(0, proxies * width, width)
        self._seen_by = [[names[(start + place) % targets] for place in range(width)] for start in starts]
        self._arms: dict[str, dict[str, ArmReport]] = {}
        self._generate = itertools.cycle(self.plan.targets.values())
        self._reach = itertools.cycle(self.plan.providers)
        everything = [
            world.probe(target.provider, name, at_s=self.now_s) for name, target in self.plan.targets.items()
        ]
        self.tick(Evidence(probes=tuple(everything)))

    def tick(self, evidence: Evidence) -> float:
        """One decision a second later; the milliseconds that it took."""
        self.now_s += 1.0
        began = time.process_time()
        decision = decide(
            self.state,
            evidence,
            now_s=self.now_s,
            epoch=EPOCH,
            published=self.table,
            published_s=self.published_s,
        )
        took_ms = (time.process_time() - began) * 1000
        self.state = decision.state
        if decision.table is not None:
            self.table, self.published_s = decision.table, self.now_s
        return took_ms

    def idle(self) -> Evidence:
        return Evidence(reports=self._reports)

    def busy(self) -> Evidence:
        return Evidence(probes=tuple(self._probes()), reports=self._next_reports())

    def trip(self) -> Evidence:
        """The first proxy sees the first target that still serves fail five times."""
        probes, reports = tuple(self._probes()), self._next_reports()
        name = next(n for n in self._seen_by[0] if self.state.health[n].phase == "healthy")
        seen = reports[0].targets[name]
        failing = Lane(streak=5, since_s=self.now_s + 0.5, last_ok_s=self.now_s, detail="http 503")
        targets = reports[0].targets | {name: replace(seen, lanes={UNARY: failing})}
        # Nobody else has a success to set against it.
        others = tuple(
            replace(r, targets={n: t for n, t in r.targets.items() if n != name}) for r in reports[1:]
        )
        return Evidence(probes=probes, reports=(replace(reports[0], targets=targets), *others))

    def start_ramps(self) -> None:
        """A canary on every tenth route, from its first target to its second."""
        chains = [(name, route.chain) for name, route in self.plan.routes.items()]
        words = tuple(
            Word(
                id=f"{2 + number}-0",
                verb=Verb.CANARY,
                author="bench",
                reason="a bench",
                args={"route": name, "from": chain[0], "to": chain[1]},
            )
            for number, (name, chain) in enumerate(chains[::10])
        )
        self.tick(Evidence(words=words))

    def ramps(self) -> Evidence:
        """Every proxy serves the present table, and has seen some more of every ramp."""
        assert self.table is not None
        self._beat += 1
        seen = 20 * self._beat
        arms = {
            ramp.stamp: {
                target: ArmReport(
                    counts={"ok": seen, "outage": self._beat // 20},
                    latency_ms=dict.fromkeys(range(20, 32), seen // 12),
                    cost_usd=0.002 * seen,
                    priced=seen,
                    callers=0x5A5A_A5A5_1234_8765,
                )
                for target in (ramp.source, ramp.goal)
            }
            for ramp in self.state.ramps.values()
            if ramp.phase not in ENDED
        }
        assert len(arms) == -(-len(self.plan.routes) // 10), "a ramp ended"
        self._reports = tuple(
            replace(
                world.report(number, (), beat=self._beat, at_s=self.now_s, table=self.table),
                ramps=arms,
                serving=self.table.version,
            )
            for number in range(PROXIES)
        )
        return Evidence(probes=tuple(self._probes()), reports=self._reports)

    def _probes(self) -> Iterator[ProbeResult]:
        for target in itertools.islice(self._generate, max(1, len(self.plan.targets) // 30)):
            yield world.probe(target.provider, target.name, at_s=self.now_s)
        for provider in itertools.islice(self._reach, max(1, len(self.plan.providers) // 10)):
            yield world.probe(provider, at_s=self.now_s)

    def _next_reports(self) -> tuple[Report, ...]:
        self._beat += 1
        self._reports = tuple(
            world.report(number, names, beat=self._beat, at_s=self.now_s, table=self.table)
            for number, names in enumerate(self._seen_by)
        )
        return self._reports


def measure(targets: int, times: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of tick; "table" is the published table's size in bytes instead."""
    made = World(targets)
    kinds: dict[str, Callable[[], Evidence]] = {
        "idle": made.idle,
        "busy": made.busy,
        "ramps": made.ramps,
        "trip": made.trip,
    }
    made.tick(made.busy())
    took: dict[str, list[float]] = {}
    for kind, evidence in kinds.items():
        took[kind] = []
        if kind == "ramps":
            made.start_ramps()
        for _ in range(min(times, TRIPS_MAX) if kind == "trip" else times):
            before = made.table
            took[kind].append(made.tick(evidence()))
            assert kind != "trip" or made.table is not before, "a trip must be published"
    assert made.table is not None
    took["table"] = [float(len(encode(made.table)))]
    return took


def run(*, quick: bool) -> list[Sheet]:
    """One sheet: a row for each size and kind of tick."""
    machine.move_to(machine.MEASURED)
    sizes = {100: 10, 1000: 2} if quick else {100: 200, 1000: 60, 10_000: 12}
    sheet = Sheet(f"decide: one tick, {PROXIES} proxies reporting {TARGETS_REPORTED} targets each")
    before: tuple[int, dict[str, float]] | None = None
    for targets, times in sizes.items():
        took = measure(targets, times)
        size_bytes = int(took.pop("table")[0])
        medians = {kind: percentile(values, 50) for kind, values in took.items()}
        for kind, values in took.items():
            row: dict[str, Value] = {
                "tick": kind,
                "targets (number)": targets,
                "routes (number)": max(1, targets // 5),
                "p50 (CPU ms)": medians[kind],
                "p99 (CPU ms)": percentile(values, 99),
                "growth (exponent)": None,
                "table (bytes)": size_bytes,
                "ticks (number)": len(values),
            }
            if before is not None:
                row["growth (exponent)"] = math.log(medians[kind] / before[1][kind], targets / before[0])
            sheet.rows.append(row)
        before = (targets, medians)
    sheet.remarks.append("with fewer than 50 ticks the p99 is the slowest of them")
    return [sheet]
