"""A world around `decide`: providers that are probed, proxies that report, time that is passed in."""

from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from pointsman.core.decide import decide
from pointsman.core.errors import SUCCESS, Fault, Outcome, Wire, of_response, of_wire
from pointsman.core.evidence import (
    STREAM,
    UNARY,
    ArmReport,
    Evidence,
    Lane,
    ProbeKind,
    ProbeResult,
    Report,
    TargetReport,
    Verb,
    Word,
)
from pointsman.core.health import silent
from pointsman.core.model import Decision, Family, Note, Plan, Policy, Provider, Route, State, Target
from pointsman.core.ramp_model import GateAnswer, Ramp, Verdict
from pointsman.core.table import FULL_BP, Table, decode, encode

NOON_S = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
POLICY = Policy()


def plan_of(
    routes: Mapping[str, Mapping[str, int]],
    *,
    policy: Policy = POLICY,
    families: Mapping[str, str] | None = None,
    fates: Mapping[str, str] | None = None,
    capacities: Mapping[str, float] | None = None,
    free: tuple[str, ...] = (),
    digest: str = "first",
) -> Plan:
    """A plan with one provider per target, weights in percent, chains in the order given."""
    names = list(dict.fromkeys(name for weights in routes.values() for name in weights))
    family = {name: Family((families or {}).get(name, "openai")) for name in names}
    return Plan(
        environment="production",
        fleet="default",
        providers={
            name: Provider(
                name=name,
                family=family[name],
                base_url=f"https://{name}.test/v1",
                shared_fate=(fates or {}).get(name, ""),
                generate=name not in free,
            )
            for name in names
        },
        targets={
            name: Target(
                name=name, provider=name, model=f"{name}-1", capacity_rps=(capacities or {}).get(name)
            )
            for name in names
        },
        routes={
            route: Route(
                name=route,
                family=family[next(iter(weights))],
                weights_bp={name: round(percent * 100) for name, percent in weights.items()},
                chain=tuple(weights),
            )
            for route, weights in routes.items()
        },
        policy=policy,
        digest=digest,
    )


CHAT = {"chat": {"bedrock": 50, "google": 30, "meta": 20}}


def outcome(text: str) -> Outcome:
    """An outcome by its short name: `ok`, a status, `slow_down`, or a wire failure (`refused`, `stall`)."""
    if text == "ok":
        return SUCCESS
    if text == "slow_down":
        return of_response(429, {}, {"error": {"type": "rate_limit_error", "code": "slow_down"}})
    if text.isdigit():
        return of_response(int(text), {})
    return of_wire(Wire[text.upper()])


def _many(requests: int) -> int:
    """The map of callers where every request is of another one."""
    return (1 << min(requests, 63)) - 1


class World:
    """State, table and time; every method adds evidence, `tick` decides on it."""

    def __init__(self, plan: Plan | None = None, *, epoch: int = 7) -> None:
        self.now_s = NOON_S
        self.epoch = epoch
        self.state = State()
        self.table: Table | None = None
        self.published_s = 0.0
        self.tables: list[Table] = []
        self.notes: list[Note] = []
        self.decision: Decision | None = None
        self.reports: dict[str, Report] = {}
        self.older: dict[str, Report] = {}
        self._probes: list[ProbeResult] = []
        self._words: list[Word] = []
        self._gates: list[GateAnswer] = []
        self._count = 0
        if plan is not None:
            self.say(Verb.APPLY_PLAN, author="file", reason="first start", plan=msgspec.to_builtins(plan))
            self.tick()

    # evidence

    def probe(self, provider: str, text: str | Outcome, kind: ProbeKind = ProbeKind.GENERATE) -> None:
        result = text if isinstance(text, Outcome) else outcome(text)
        target = "" if kind is ProbeKind.REACH else provider
        self._probes.append(
            ProbeResult(
                provider=provider,
                target=target,
                kind=kind,
                outcome=result,
                at_s=self.now_s,
                vantage="control",
            )
        )

    def live(
        self, proxy: str, target: str, text: str | Outcome, times: int = 1, lane: str = UNARY, **extra: object
    ) -> None:
        """`times` requests of `proxy` to `target` ended so, now."""
        result = text if isinstance(text, Outcome) else outcome(text)
        report = self._report(proxy)
        entry = report.targets.setdefault(target, TargetReport())
        generation = (
            self.table.targets[target].generation if self.table and target in self.table.targets else 0
        )
        if generation > entry.generation:
            entry.lanes = {}
        entry.generation = generation
        entry.counts = {**entry.counts, result.fault: entry.counts.get(result.fault, 0) + times}
        before = entry.lanes.get(lane, Lane())
        if result.ok:
            entry.lanes = {**entry.lanes, lane: Lane(last_ok_s=self.now_s)}
        elif result.fault in {Fault.OUTAGE, Fault.OVERLOAD}:
            entry.lanes = {
                **entry.lanes,
                lane: Lane(
                    streak=before.streak + times,
                    since_s=before.since_s if before.streak else self.now_s,
                    last_ok_s=before.last_ok_s,
                    detail=result.detail,
                    refuses=result.refuses,
                    silent=silent(result),
                    retry_at_s=self.now_s + result.retry_after_s if result.retry_after_s else 0.0,
                ),
            }
        elif result.fault in {Fault.CREDENTIAL, Fault.QUOTA}:
            entry.barred = result.detail
        elif result.fault is Fault.RATE_LIMIT:
            entry.throttled = result.detail
            entry.throttled_until_s = self.now_s + (result.retry_after_s or 10.0)
        elif result.fault is Fault.CAPACITY:
            entry.softened_until_s = self.now_s + 10.0
        for name, value in extra.items():
            setattr(entry, name, value)

    def moved(
        self,
        proxy: str,
        target: str,
        ok: int = 0,
        failed: int = 0,
        *,
        route: str = "chat",
        callers: int = 0,
        latency_ms: Mapping[int, int] | None = None,
        **extra: object,
    ) -> None:
        """First attempts of `route` at `target` under the stamp of the present table; failures are of many callers."""
        assert self.table is not None
        stamp = self.table.routes[route].ramp
        report = self._report(proxy)
        report.serving = report.accepted = self.table.version
        if not stamp:
            return
        ramps = {name: dict(arms) for name, arms in report.ramps.items()}
        old = ramps.setdefault(stamp, {}).get(target, ArmReport())
        counts = dict(old.counts)
        for fault, more in (("ok", ok), ("outage", failed)):
            if more:
                counts[fault] = counts.get(fault, 0) + more
        bits, failing = callers or _many(sum(counts.values())), callers or _many(counts.get("outage", 0))
        ramps[stamp][target] = replace(
            old,
            counts=counts,
            latency_ms=dict(Counter(old.latency_ms) + Counter(latency_ms or {})),
            callers=old.callers | bits,
            callers_failing=old.callers_failing | (failing if failed else 0),
            **extra,
        )
        report.ramps = ramps

    def gate(self, name: str, verdict: Verdict, why: str = "", route: str = "chat") -> None:
        """A gate outside answers the ramp of `route`."""
        answer = GateAnswer(
            ramp=self.state.ramps[route].id, gate=name, verdict=verdict, why=why, at_s=self.now_s
        )
        self._gates.append(answer)

    def serve(self, *proxies: str) -> None:
        """These proxies route by the present table."""
        assert self.table is not None
        for proxy in proxies:
            self.beat(proxy, serving=self.table.version, accepted=self.table.version)

    def beat(self, proxy: str, **fields: object) -> None:
        """A heartbeat of `proxy`."""
        report = self._report(proxy)
        for name, value in fields.items():
            setattr(report, name, value)

    def _report(self, proxy: str) -> Report:
        old = self.reports.get(proxy)
        if old is None:
            new = Report(
                proxy=proxy, boot="b1", seq=1, environment="production", fleet="default", started_s=self.now_s
            )
        else:
            targets = {name: replace(entry) for name, entry in old.targets.items()}
            new = replace(old, seq=old.seq + 1, targets=targets)
            self.older[proxy] = old
        self.reports[proxy] = new
        return new

    def reboot(self, proxy: str) -> None:
        """`proxy` starts again: another boot, and totals from zero."""
        self.older.pop(proxy, None)
        boot = f"b{int(self.reports[proxy].boot[1:]) + 1}"
        self.reports[proxy] = Report(
            proxy=proxy, boot=boot, seq=1, environment="production", fleet="default", started_s=self.now_s
        )

    def trial(self, proxy: str, target: str, text: str | Outcome) -> None:
        """The trial that the table grants to `proxy` ended so."""
        assert self.table is not None
        grant = next(t.grant for t in self.table.trials if (t.proxy, t.target) == (proxy, target))
        result = text if isinstance(text, Outcome) else outcome(text)
        self.live(proxy, target, result, grant=grant, grant_outcome=result.fault.value)

    def say(self, verb: Verb, *, author: str = "ann", reason: str = "a test", **args: object) -> str:
        self._count += 1
        word = Word(id=f"{self._count}-0", verb=verb, author=author, reason=reason, args=args)
        self._words.append(word)
        return word.id

    # time and decisions

    def tick(self, after_s: float = 0.0) -> Decision:
        """Let `after_s` seconds pass, decide on what has come in, publish."""
        self.now_s += after_s
        evidence = Evidence(
            probes=tuple(self._probes),
            reports=tuple(self.reports.values()),
            words=tuple(self._words),
            gates=tuple(self._gates),
        )
        self._probes, self._words, self._gates = [], [], []
        decision = self.decide(evidence)
        self.state, self.decision = decision.state, decision
        self.notes += decision.notes
        if decision.table is not None:
            self.table, self.published_s = decision.table, self.now_s
            self.tables.append(decision.table)
        return decision

    def decide(self, evidence: Evidence) -> Decision:
        """What follows from `evidence`, here and now; nothing is kept of it."""
        return decide(
            self.state,
            evidence,
            now_s=self.now_s,
            epoch=self.epoch,
            published=self.table,
            published_s=self.published_s,
        )

    def tick_for(self, duration_s: float, step_s: float = 1.0) -> None:
        """Tick every `step_s` seconds for `duration_s`."""
        for _ in range(round(duration_s / step_s)):
            self.tick(step_s)

    def succeed(self) -> None:
        """Another leader takes over: everything comes back from the store, and the epoch grows."""
        self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=State)
        self.table = decode(encode(self.table)) if self.table else None
        self.epoch += 1

    # what came of it

    def shares(self, route: str = "chat") -> dict[str, float]:
        """The published shares in percent."""
        assert self.table is not None
        shares = self.table.routes[route].shares_bp
        assert not shares or sum(shares.values()) == FULL_BP
        return {target: share / 100 for target, share in shares.items()}

    def ramp(self, route: str = "chat") -> Ramp:
        """The route's ramp, or the last one."""
        return self.state.ramps[route]

    def phase(self, target: str) -> str:
        return self.state.health[target].phase.value

    def told(self, kind: str) -> list[str]:
        return [note.text for note in self.notes if note.kind == kind]

    def why(self, target: str, route: str = "chat") -> str:
        """The sentence beside a target's share."""
        assert self.decision is not None
        return self.decision.reasons[route][target]

    def answer(self) -> str:
        """What the last word was answered with, in the last decision."""
        assert self.decision is not None
        return self.decision.answers[-1].text

    def trip(self, target: str, text: str = "refused") -> None:
        """Five failed live requests, and the decision on them."""
        self.live("p1", target, text, 5)
        self.tick(0.2)


__all__ = ["CHAT", "NOON_S", "POLICY", "STREAM", "UNARY", "World", "outcome", "plan_of"]
