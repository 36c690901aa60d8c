"""`monitor`: watches real traffic for a while, and ends with an exit code that a script can use."""

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli.common import (
    REFUSED,
    ConfigOption,
    Output,
    OutputOption,
    age,
    duration_s,
    load_settings,
    opened,
    run,
    tell,
    usage,
)
from pointsman.cli.watching import HOW_TO, LOOK_S, Scope, Watcher, ratio_of, scope_of, shown_ms
from pointsman.core import traffic
from pointsman.core.traffic import Seen
from pointsman.core.validation import percent

if TYPE_CHECKING:
    from pointsman.config.models import Settings

_HEAD: Final = ("time", "target", "requests", "success", "p95 first", "p95 answer", "failing")
_ROW: Final = "{:<8}  {:<18.18} {:>8} {:>8} {:>9} {:>10} {:>11}"


def monitor(
    route: Annotated[str, typer.Argument(help="A route; left out: all.", show_default=False)] = "",
    lasting: Annotated[str, typer.Option("--for", help="How long: 5m.")] = "5m",
    threshold: Annotated[
        str, typer.Option("--success-threshold", help="The least success rate, in percent.")
    ] = "98%",
    every: Annotated[str, typer.Option("--every", help="A line each: 10s.")] = "10s",
    target: Annotated[str, typer.Option("--target", "-t", help="Only this target.", show_default=False)] = "",
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Watch real traffic, and say whether enough of it succeeds.

    Counts attempts at targets: a request that fell over is a failed one and a good one. Exit code 1 if less than the
    threshold succeeded over the whole time, and also if nothing was seen: no data is no success. With
    --output json one document a line, and a final one.
    """
    wanted, for_s = ratio_of("--success-threshold", threshold), duration_s(lasting)
    every_s = min(duration_s(every), for_s)
    if not every_s > 0:
        usage("--for and --every must be longer than nothing")
    settings = load_settings(config)

    async def watch() -> None:
        last = await _watched(settings, route, target, for_s, every_s, wanted, output)
        if output is Output.JSON:
            _print(last)
        else:
            _tell(f"{'passed' if last['pass'] else 'failed'}: {last['reason']}")
        if not last["pass"]:
            raise typer.Exit(REFUSED)

    run(watch)


async def _watched(
    settings: "Settings", route: str, target: str, for_s: float, every_s: float, wanted: float, output: Output
) -> dict[str, Any]:
    """Watch, and show each interval; gives the final document."""
    import anyio  # noqa: PLC0415

    async with opened(settings) as store:
        scope = await scope_of(store, route, target)
        watcher = Watcher(store, scope.targets)
        await watcher.begin()
        _begin(scope, output)
        began, due = time.monotonic(), time.monotonic() + every_s
        total: dict[str, Seen] = {}
        part: dict[str, Seen] = {}
        while True:
            end = began + for_s
            await anyio.sleep(max(0.0, min(LOOK_S, due - time.monotonic(), end - time.monotonic())))
            over = time.monotonic() >= end
            part = traffic.added(part, await watcher.look(last=over))
            if over or time.monotonic() >= due:
                now_s = await store.now_s()
                _show(scope, part, now_s, output)
                total, part, due = traffic.added(total, part), {}, due + every_s
            if over:
                silent = traffic.silent(watcher.watch, now_s)
                known = len(watcher.watch.proxies)
                return _final(scope, total, time.monotonic() - began, wanted, silent, known)


def _begin(scope: Scope, output: Output) -> None:
    if output is Output.JSON:
        return
    for remark in scope.remarks:
        _tell(remark)
    _tell(_ROW.format(*_HEAD).rstrip())


def _show(scope: Scope, part: dict[str, Seen], now_s: float, output: Output) -> None:
    if output is Output.JSON:
        _print({"at_s": now_s, "final": False, **_numbers(scope, part)})
        return
    clock = f"{datetime.fromtimestamp(now_s).astimezone():%H:%M:%S}"
    _tell(_row(clock, scope.name, traffic.together(part.values())))
    busy = [name for name in scope.targets if name in part and part[name].arm.requests]
    if len(busy) > 1 or (busy and scope.name != busy[0]):
        for name in busy:
            _tell(_row("", f"  {name}", part[name]))


def _row(clock: str, name: str, seen: Seen) -> str:
    first, answer = traffic.p95_ms(seen)
    success = "-" if seen.success is None else percent(seen.success)
    row = (clock, name, seen.arm.requests, success, shown_ms(first), shown_ms(answer), _failing(seen))
    return _ROW.format(*row).rstrip()


def _failing(seen: Seen) -> str:
    """How many callers had an attempt fail, of how many."""
    if not seen.arm.requests:
        return "-"
    found = traffic.callers(seen)
    return f"{found.failing_high:.0f} of {found.all_low:.0f}{'+' if found.all_high > found.all_low else ''}"


def _numbers(scope: Scope, seen: dict[str, Seen]) -> dict[str, Any]:
    each = {name: _of(seen[name]) for name in scope.targets if name in seen}
    return {"routes": list(scope.routes), **_of(traffic.together(seen.values())), "targets": each}


def _of(seen: Seen) -> dict[str, Any]:
    arm, found = seen.arm, traffic.callers(seen)
    first, answer = traffic.p95_ms(seen)
    return {
        "requests": arm.requests,
        "failed": arm.failed,
        "success": seen.success,
        "first_token_ms_p95": first,
        "latency_ms_p95": answer,
        "callers": round(found.all_low),
        "callers_failing": round(found.failing_high),
        "synthetic": arm.synthetic_ok + arm.synthetic_failed,
    }


def _final(
    scope: Scope, total: dict[str, Seen], took_s: float, wanted: float, silent: list[str], proxies: int
) -> dict[str, Any]:
    seen = traffic.together(total.values())
    success = seen.success
    if success is None:
        made = seen.arm.synthetic_ok + seen.arm.synthetic_failed
        only = f" but {made} synthetic requests, which are no callers'" if made else ""
        reason = (
            f"no traffic seen{only} in {age(took_s)}: {HOW_TO}"
            if proxies
            else "no traffic seen: no proxy reports"
        )
    else:
        reason = f"{percent(success)} of {seen.arm.requests} succeeded in {age(took_s)}, {percent(wanted)} asked for"
    if silent:
        reason += f"; silent, and so not seen: {', '.join(silent)}"
    return {
        "final": True,
        "pass": success is not None and success >= wanted,
        "reason": reason,
        "success_threshold": wanted,
        "over_s": round(took_s, 1),
        "silent_proxies": silent,
        "remarks": list(scope.remarks),
        **_numbers(scope, total),
    }


def _tell(line: str) -> None:
    tell(line)
    sys.stdout.flush()


def _print(document: dict[str, Any]) -> None:
    import msgspec  # noqa: PLC0415

    sys.stdout.write(msgspec.json.encode(document, order="sorted").decode() + "\n")
    sys.stdout.flush()
