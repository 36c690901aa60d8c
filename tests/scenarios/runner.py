"""Plays a scenario script against the core and writes its full transcript.

A script is what an operator could tell: lines at the left edge happen, indented lines are what came of it.

    routes chat: bedrock 50, google 30, meta 20
    +10s                                   time passes, second by second (a decision is made at each)
    +10m, +2h                              the same in looks five seconds apart
    until chat google 25                   the same, until google has that share (%) of chat, or a day has passed
    probe bedrock generate refused         a probe's result: ok, a status, or a wire failure
    probe bedrock 429 retry-after 30
    p1 bedrock 5 x refused                 a proxy reports requests; `stream` after the outcome for streams
    p1 moved google 60 ok 2 failed         what it saw of first attempts at google under a ramp's share
    p1 moved google 9 ok at 800 ms         the same, with how long the answers took
    p1 moved google 1 failed by one caller the same, of one and the same caller each time
    p1 serves                              it routes by the present table
    ann says failover from=bedrock to=google
    gate smoke says hold: not yet          a gate outside of pointsman answers the ramp of chat
    each 10s probe bedrock ok              from now on this happens every ten seconds that pass
    no more probe bedrock                  what begins so does not happen any more
    show                                   the routes with the reason for every share
    ramps                                  the ramps, with what every gate says
    rollouts                               the staged rollouts, with what every criterion says

    capacity google 10                     before `routes`: what a target can take, in requests per second
    free meta                              before `routes`: generation probes are not allowed for it
    policy failover_after_s 0              before `routes`: a setting of the policy
    ramp canary bake_s 600                 before `routes`: a setting of a kind of ramp
    calendar Europe/Berlin 1,2,3 10:00 16:00   before `routes`: when canaries may go on (day 0 is Monday)
    asks smoke                             before `routes`: a webhook that every canary has to ask
    rollout gateway chat bedrock google 4h 8h   before `routes`: staging, then production watched for 4 h (after a
                                           rollback 8 h) with an approval: bedrock's share of chat to google
    beats p1 p2                            from now on these proxies report in every second that passes
    serves p1 p2                           the same, and they route by the newest table
    p1 bedrock trial refused               the trial that the table grants to p1 ends so
    p1 repeats                             its last report but one is read again
    p1 reboots                             it starts again, and counts from zero
    nobody looks for 90s                   no leader decides for so long
    leader changes                         another daemon takes over, with a later epoch
    ann says rollback version=7.1
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import msgspec
from msgspec.structs import replace

from pointsman.core.axes import clock
from pointsman.core.errors import of_response
from pointsman.core.evidence import STREAM, UNARY, ProbeKind, Verb
from pointsman.core.latency import latency_cell
from pointsman.core.model import Plan, Policy, RampPlan
from pointsman.core.ramp_model import Calendar, ExternalGate, ExternalKind, Verdict
from pointsman.core.rollout_model import Bounds, RolloutPlan, StagePlan
from pointsman.core.table import percent
from world import World, outcome, plan_of

DAY_S = 86_400.0


@dataclass
class Stage:
    """The world that a script plays in, and what the script has said about it beforehand."""

    world: World = field(default_factory=World)
    capacities: dict[str, float] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    ramps: RampPlan = field(default_factory=RampPlan)
    rollouts: dict[str, RolloutPlan] = field(default_factory=dict)
    beating: tuple[str, ...] = ()
    serving: tuple[str, ...] = ()
    each: list[tuple[float, str]] = field(default_factory=list)


def play(script: str) -> str:
    """The script with what came of every line below it."""
    stage = Stage()
    lines: list[str] = []
    for raw in script.splitlines():
        if raw.startswith(" "):
            continue  # a transcript of before
        lines.append(raw.rstrip())
        line = raw.split("#")[0].strip()
        if line:
            lines += [f"    {told}" for told in _do(stage, line)]
    return "\n".join(lines) + "\n"


def _do(stage: Stage, line: str) -> list[str]:
    words = line.split()
    match words:
        case ["show"]:
            return _show(stage.world)
        case ["ramps"]:
            return _ramps(stage.world)
        case ["rollouts"]:
            return _rollouts(stage.world)
        case ["until", route, target, share]:
            return _until(stage, route, target, float(share))
        case ["nobody", "looks", "for", span]:
            return _tick(stage.world, _seconds(span))
        case [span] if span.startswith("+"):
            return _pass(stage, span[1:])
    if _arrange(stage, words):
        return []
    _happen(stage, line)
    return _tick(stage.world, 0.0)


def _happen(stage: Stage, line: str) -> None:
    """What the line says is so from the next decision on."""
    world, words = stage.world, line.split()
    match words:
        case ["routes", *_]:
            _routes(stage, line.removeprefix("routes"))
        case ["probe", *rest]:
            _probe(world, rest)
        case ["leader", "changes"]:
            world.succeed()
        case ["gate", name, "says", verdict, *why]:
            world.gate(name, Verdict(verdict.removesuffix(":")), " ".join(why))
        case [_, "says", *_]:
            _say(world, words)
        case _:
            _live(world, words)


def _arrange(stage: Stage, words: list[str]) -> bool:
    """Was this something that is so from now on?"""
    match words:
        case ["capacity", target, rps]:
            stage.capacities[target] = float(rps)
        case ["free", *targets]:
            stage.free = tuple(targets)
        case ["policy", name, value]:
            stage.policy = replace(stage.policy, **{name: float(value)})
        case ["ramp", kind, name, value]:
            changed = replace(getattr(stage.ramps, kind), **{name: float(value)})
            stage.ramps = replace(stage.ramps, **{kind: changed})
        case ["calendar", zone, days, from_, until]:
            calendar = Calendar(zone=zone, days=tuple(map(int, days.split(","))), from_=from_, until=until)
            stage.ramps = replace(stage.ramps, canary=replace(stage.ramps.canary, calendar=calendar))
        case ["asks", name]:
            gate = ExternalGate(name=name, kind=ExternalKind.WEBHOOK, url="http://gate.test")
            stage.ramps = replace(stage.ramps, canary=replace(stage.ramps.canary, external=(gate,)))
        case ["rollout", name, *rest]:
            stage.rollouts[name] = _rollout(*rest)
        case ["beats", *proxies]:
            stage.beating = tuple(proxies)
        case ["serves", *proxies]:
            stage.serving = tuple(proxies)
        case ["each", span, *line]:
            stage.each.append((_seconds(span), " ".join(line)))
        case ["no", "more", *line]:
            stage.each = [(s, each) for s, each in stage.each if not each.startswith(" ".join(line))]
        case _:
            return False
    return True


def _seconds(span: str) -> float:
    """`500ms`, `30s`, `10m`, `2h`."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", span).groups()  # type: ignore[union-attr]
    return float(number) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]


def _tick(world: World, after_s: float) -> list[str]:
    decision = world.tick(after_s)
    told = [f"{clock(world.now_s)} {note.text}" for note in decision.notes]
    told += [f"{clock(world.now_s)} refused: {a.text}" for a in decision.answers if not a.ok]
    return told + (["this daemon yields: traffic succeeds where its probes fail"] if decision.yields else [])


def _pass(stage: Stage, span: str) -> list[str]:
    """Seconds are decided one by one, milliseconds once, and longer spans every five seconds."""
    if span.endswith("ms"):
        return _tick(stage.world, _seconds(span))
    step_s = 1.0 if span.endswith("s") else 5.0
    told: list[str] = []
    for _ in range(round(_seconds(span) / step_s)):
        told += _second(stage, step_s)
    return told


def _until(stage: Stage, route: str, target: str, share: float) -> list[str]:
    told: list[str] = []
    for _ in range(round(DAY_S / 5)):
        if stage.world.shares(route).get(target, 0.0) == share:
            return told
        told += _second(stage, 5.0)
    return [*told, f"a day later it is {stage.world.shares(route).get(target, 0.0):g} %"]


def _second(stage: Stage, step_s: float) -> list[str]:
    for proxy in stage.beating:
        stage.world.beat(proxy)
    if stage.world.table is not None:
        stage.world.serve(*stage.serving)
    for every_s, line in stage.each:
        now_s = stage.world.now_s
        for _ in range(int((now_s + step_s) // every_s - now_s // every_s)):
            _happen(stage, line)
    return _tick(stage.world, step_s)


def _routes(stage: Stage, text: str) -> None:
    routes = {}
    for part in text.split(";"):
        name, _, weights = part.partition(":")
        routes[name.strip()] = {
            target: float(share) for target, share in (entry.split() for entry in weights.split(","))
        }
    plan: Plan = plan_of(
        routes, capacities=stage.capacities, free=stage.free, digest=text, policy=stage.policy
    )
    plan = replace(plan, ramp=stage.ramps, rollouts=stage.rollouts)
    stage.world.say(Verb.APPLY_PLAN, author="file", reason="configuration", plan=msgspec.to_builtins(plan))


def _probe(world: World, words: list[str]) -> None:
    kind = ProbeKind.GENERATE
    provider, *rest = words
    if rest[0] in {"reach", "generate"}:
        kind = ProbeKind(rest.pop(0))
    result = outcome(rest[0])
    if rest[1:2] == ["retry-after"]:
        result = of_response(int(rest[0]), {"retry-after": rest[2]})
    providers = list(world.state.plan.providers) if provider == "all" and world.state.plan else [provider]
    for name in providers:
        world.probe(name, result, kind)


def _live(world: World, words: list[str]) -> None:
    match words:
        case [proxy, target, "trial", what]:
            world.trial(proxy, target, what)
            return
        case [proxy, "repeats"]:
            world.reports[proxy] = world.older[proxy]
            return
        case [proxy, "reboots"]:
            world.reboot(proxy)
            return
        case [proxy, "serves"]:
            world.serve(proxy)
            return
        case [proxy, "moved", target, *rest]:
            _moved(world, proxy, target, " ".join(rest))
            return
    proxy, target, times, _, what, *rest = words
    lane = STREAM if "stream" in rest else UNARY
    result = outcome(what)
    if "retry-after" in rest:
        result = of_response(int(what), {"retry-after": rest[rest.index("retry-after") + 1]})
    world.live(proxy, target, result, int(times), lane)


def _moved(world: World, proxy: str, target: str, text: str) -> None:
    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found.group(1)) if found else 0

    latency_ms, ok = number(r"at (\d+) ms"), number(r"(\d+) ok")
    cells = {latency_cell(latency_ms): ok} if latency_ms else {}
    world.moved(proxy, target, ok, number(r"(\d+) failed"), latency_ms=cells, callers="by one caller" in text)


def _say(world: World, words: list[str]) -> None:
    author, _, verb, *pairs = words
    args: dict[str, object] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key == "shares":
            args["shares_bp"] = {
                name: round(float(share) * 100) for name, share in re.findall(r"(\w+):([\d.]+)", value)
            }
        elif key in {"for", "over"}:
            args[f"{key}_s"] = _seconds(value)
        elif key == "root_cause":
            args[key] = value.replace("_", " ")
        elif key in {"steps", "samples", "approve"}:
            args[key] = [float(number) for number in value.split(",")]
        elif key in {"percent", "bake_s", "hold_s", "max_hold_s"}:
            args[key] = float(value)
        else:
            args[key] = True if value == "yes" else value
    if verb == "rollback":
        old = next(table for table in world.tables if str(table.version) == args["version"])
        args["routes"] = {name: dict(route.shares_bp) for name, route in old.routes.items()}
    world.say(Verb(verb), author=author, reason="scenario", **args)


def _ramps(world: World) -> list[str]:
    lines: list[str] = []
    for ramp in world.state.ramps.values():
        lines.append(f"{ramp.id}: {ramp.phase.value} at {percent(ramp.progress_bp)} of its way")
        lines += [f"  {text}" for text in (ramp.hold and f"holds: {ramp.hold}", ramp.ended) if text]
        lines += [f"  {f.gate:<10} {f.verdict.value:<7} {f.why}" for f in ramp.findings]
    return lines


def _rollout(route: str, source: str, goal: str, soak: str, again: str) -> RolloutPlan:
    rules = StagePlan(
        environment="production",
        soak_s=_seconds(soak),
        again_soak_s=_seconds(again),
        min_requests=100,
        go=Bounds(error_ratio=0.02, latency_factor=1.5),
        no_go=Bounds(error_ratio=0.05, latency_factor=2.0),
        approval=True,
    )
    stages = (replace(rules, environment="staging"), rules)
    return RolloutPlan(route=route, source=source, goal=goal, stages=stages, report_hour=14)


def _rollouts(world: World) -> list[str]:
    lines: list[str] = []
    for one in world.state.rollouts.values():
        lines.append(f"{one.name} in {one.environment}, attempt {one.attempt}: {one.phase.value}")
        lines += [f"  {text}" for text in (one.hold and f"holds: {one.hold}", one.ended) if text]
        lines += [f"  {f.gate:<10} {f.verdict.value:<7} {f.why}" for f in one.findings]
    return lines


def _show(world: World) -> list[str]:
    assert world.table is not None
    assert world.decision is not None
    lines = [f"table {world.table.version}"]
    lines += [f"trial {t.grant} of {t.target} for {t.proxy}" for t in world.table.trials]
    for name, route in world.table.routes.items():
        chain = " > ".join(route.chain[: route.last_resort]) or "–"
        spare = " > ".join(route.chain[route.last_resort :])
        lines.append(f"{name}: chain {chain}" + (f", last resort {spare}" if spare else ""))
        for target, why in world.decision.reasons[name].items():
            lines.append(f"  {target:<10} {percent(route.shares_bp.get(target, 0)):>8}  {why}")
        for later in route.later:
            lines.append(f"  then {', '.join(f'{t} {percent(s)}' for t, s in later.shares_bp.items())}")
    return lines
