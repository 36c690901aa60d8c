"""Plays a scenario script against the core and writes its full transcript.

A script is what an operator could tell: lines at the left edge happen, indented lines are what came of it.

    routes chat: bedrock 50, google 30, meta 20
    +10s                                   time passes (a decision is made)
    probe bedrock generate refused         a probe's result: ok, a status, or a wire failure
    probe bedrock 429 retry-after 30
    p1 bedrock 5 x refused                 a proxy reports requests; `stream` after the outcome for streams
    ann says failover from=bedrock to=google
    show                                   the routes with the reason for every share

    capacity google 10                     before `routes`: what a target can take, in requests per second
    free meta                              before `routes`: generation probes are not allowed for it
    beats p1 p2                            from now on these proxies report in every second that passes
    p1 bedrock trial refused               the trial that the table grants to p1 ends so
    p1 repeats                             its last report but one is read again
    p1 reboots                             it starts again, and counts from zero
    leader changes                         another daemon takes over, with a later epoch
    ann says rollback version=7.1
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import msgspec

from pointsman.core.axes import clock
from pointsman.core.errors import of_response
from pointsman.core.evidence import STREAM, UNARY, ProbeKind, Verb
from pointsman.core.table import percent
from world import World, outcome, plan_of


@dataclass
class Stage:
    """The world that a script plays in, and what the script has said about it beforehand."""

    world: World = field(default_factory=World)
    capacities: dict[str, float] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    beating: tuple[str, ...] = ()


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
    world, words = stage.world, line.split()
    if words[0] == "show":
        return _show(world)
    if words[0] in {"capacity", "free", "beats"}:
        _arrange(stage, words)
        return []
    if words[0] == "routes":
        _routes(stage, line.removeprefix("routes"))
    elif words[0] == "probe":
        _probe(world, words[1:])
    elif words[0].startswith("+"):
        return _pass(stage, words[0])
    elif words == ["leader", "changes"]:
        world.succeed()
    elif words[1:2] == ["says"]:
        _say(world, words)
    else:
        _live(world, words)
    return _tick(world, 0.0)


def _arrange(stage: Stage, words: list[str]) -> None:
    match words:
        case ["capacity", target, rps]:
            stage.capacities[target] = float(rps)
        case ["free", *targets]:
            stage.free = tuple(targets)
        case ["beats", *proxies]:
            stage.beating = tuple(proxies)


def _tick(world: World, after_s: float) -> list[str]:
    decision = world.tick(after_s)
    told = [f"{clock(world.now_s)} {note.text}" for note in decision.notes]
    told += [f"{clock(world.now_s)} refused: {a.text}" for a in decision.answers if not a.ok]
    return told + (["this daemon yields: traffic succeeds where its probes fail"] if decision.yields else [])


def _pass(stage: Stage, text: str) -> list[str]:
    """`+30s` decides every second; `+500ms` once."""
    if text.endswith("ms"):
        return _tick(stage.world, float(text[1:-2]) / 1000)
    told: list[str] = []
    for _ in range(int(text[1:-1])):
        for proxy in stage.beating:
            stage.world.beat(proxy)
        told += _tick(stage.world, 1.0)
    return told


def _routes(stage: Stage, text: str) -> None:
    routes = {}
    for part in text.split(";"):
        name, _, weights = part.partition(":")
        routes[name.strip()] = {
            target: float(share) for target, share in (entry.split() for entry in weights.split(","))
        }
    plan = plan_of(routes, capacities=stage.capacities, free=stage.free, digest=text)
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
    proxy, target, times, _, what, *rest = words
    lane = STREAM if "stream" in rest else UNARY
    result = outcome(what)
    if "retry-after" in rest:
        result = of_response(int(what), {"retry-after": rest[rest.index("retry-after") + 1]})
    world.live(proxy, target, result, int(times), lane)


def _say(world: World, words: list[str]) -> None:
    author, _, verb, *pairs = words
    args: dict[str, object] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key == "shares":
            args["shares_bp"] = {
                name: round(float(share) * 100) for name, share in re.findall(r"(\w+):([\d.]+)", value)
            }
        elif key == "for":
            args["for_s"] = float(value.removesuffix("s"))
        else:
            args[key] = True if value == "yes" else value
    if verb == "rollback":
        old = next(table for table in world.tables if str(table.version) == args["version"])
        args["routes"] = {name: dict(route.shares_bp) for name, route in old.routes.items()}
    world.say(Verb(verb), author=author, reason="scenario", **args)


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
