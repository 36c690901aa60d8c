"""What several fields of the `ramp` section say together."""

import re
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from pointsman.config import addresses
from pointsman.config.errors import Finding, KeyPath, plain
from pointsman.config.models import PolicySettings, ProviderSettings
from pointsman.config.ramps import CalendarSettings, ExternalGateSettings, RampKindSettings, RampSettings


def check_ramps(ramp: RampSettings) -> Iterator[Finding]:
    """Every finding about the kinds of ramps."""
    for kind in ("canary", "failover", "failback"):
        yield from _kind(("ramp", kind), getattr(ramp, kind))


def _kind(path: KeyPath, kind: RampKindSettings) -> Iterator[Finding]:
    steps = kind.steps
    if not steps or steps[-1] != 100 or any(one >= other for one, other in pairwise(steps)):
        text = "the steps do not grow to 100"
        yield Finding((*path, "steps"), text, "write percents that grow, as [5, 10, 25, 50, 75, 100]")
    for index, percent in enumerate(kind.approvals):
        if percent not in steps:
            text = f"there is no step at {plain(percent)} to approve"
            yield Finding((*path, "approvals", index), text, f"write one of {', '.join(map(plain, steps))}")
    if kind.pass_ratio > kind.abort_ratio:
        text = f"{plain(kind.pass_ratio)} would pass and {plain(kind.abort_ratio)} abort"
        yield Finding((*path, "pass_ratio"), text, "write less than abort_ratio")
    if kind.calendar is not None:
        yield from _calendar((*path, "calendar"), kind.calendar)
    names = [gate.name for gate in kind.gates]
    for index, gate in enumerate(kind.gates):
        yield from _gate((*path, "gates", index), gate)
        if gate.name in names[:index]:
            yield Finding((*path, "gates", index, "name"), "two gates have this name", "rename one")


def _calendar(path: KeyPath, calendar: CalendarSettings) -> Iterator[Finding]:
    try:
        ZoneInfo(calendar.zone)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError of its own
        yield _no_zone(path)
    except KeyError:
        yield _no_zone(path)
    wrong = [name for name in ("not_before", "not_after") if not _is_time(getattr(calendar, name))]
    for name in wrong:
        yield Finding((*path, name), "this is no time of day", 'write "HH:MM", as "10:00"')
    if not wrong and calendar.not_before >= calendar.not_after:
        text = f"no hour lies between {calendar.not_before} and {calendar.not_after}"
        yield Finding((*path, "not_after"), text, "write a later time than not_before")
    for index, day in enumerate(calendar.blackout):
        try:
            date.fromisoformat(day)
        except ValueError:
            yield Finding((*path, "blackout", index), "this is no date", 'write "YYYY-MM-DD"')


def _no_zone(path: KeyPath) -> Finding:
    return Finding((*path, "zone"), "there is no such time zone", "write a name as UTC or Europe/Berlin")


def _is_time(text: str) -> bool:
    hours, colon, minutes = text.partition(":")
    digits = len(text) == 5 and bool(colon) and hours.isdigit() and minutes.isdigit()
    return digits and (int(hours) < 24 or text == "24:00") and int(minutes) < 60


# Twenty and more letters and digits, large and small ones: nobody names a folder like that.
_KEY: Final = re.compile(
    r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9_~.=-]{20,}|(?:sk|rk|pk|xox[a-z])-[\w-]{8,}"
)


def _gate(path: KeyPath, gate: ExternalGateSettings) -> Iterator[Finding]:
    try:
        url = addresses.split_url(gate.url)
        if gate.credential and url.scheme == "http" and not addresses.is_loopback(url.hostname or ""):
            text = "plain http to another machine would send the credential in the clear"
            yield Finding((*path, "url"), text, "write https://")
        if any(_KEY.fullmatch(part) for part in url.path.split("/")):
            text = "a part of its path looks like a key, and the URL stands in the state and in every record"
            cure = "take it out, and write credential: env:NAME, which is sent as a bearer token"
            yield Finding((*path, "url"), text, cure)
    except ValueError as error:
        cure = "write https://HOST/PATH; a secret goes to credential: env:NAME"
        yield Finding((*path, "url"), f"this is no gate's URL: {error}", cure)
    if gate.kind == "prometheus" and not gate.query:
        yield Finding(path, "a prometheus gate without a query", "write query:")
    if gate.kind == "prometheus" and gate.hold_above is None and gate.abort_above is None:
        yield Finding(
            path, "nothing that the query gives would hold or abort", "write hold_above: or abort_above:"
        )


def check_failback(providers: dict[str, ProviderSettings], policy: PolicySettings) -> Iterator[Finding]:
    """A failback that waits for more probes than the window can hold would never begin."""
    if not policy.failback_auto:
        return
    for name, provider in providers.items():
        probe = provider.probe
        seen = policy.failback_window_s / probe.reach_interval_s
        seen += policy.failback_window_s / probe.generate_interval_s if probe.generate else 0
        if seen < policy.failback_min_samples:
            text = (
                f"about {seen:.0f} probes of {name} fit into failback_window_s, and a failback waits for "
                f"{policy.failback_min_samples}"
            )
            cure = "raise failback_window_s, lower failback_min_samples, or write failback_auto: false"
            yield Finding(("policy", "failback_min_samples"), text, cure, (("providers", name),))
            return
