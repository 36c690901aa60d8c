"""How two plans differ, in lines for people: what a reload changes, and how far the file is from the active plan."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.core.model import Plan
from pointsman.core.table import percent


def differences(old: Plan | None, new: Plan) -> list[str]:
    """A line per provider, target, route or threshold that differs; empty if the two decide alike."""
    if old is None:
        return [f"everything is new: {len(new.routes)} routes over {len(new.targets)} targets"]
    lines: list[str] = []
    if (old.environment, old.fleet) != (new.environment, new.fleet):
        lines.append(f"installation: {old.environment}/{old.fleet} → {new.environment}/{new.fleet}")
    lines += _parts("provider", old.providers, new.providers)
    lines += _parts("target", old.targets, new.targets)
    lines += _parts("route", old.routes, new.routes)
    lines += _fields("policy", old.policy, new.policy)
    lines += _parts("rollout", old.rollouts, new.rollouts)
    return lines


def _parts(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name in sorted({*old, *new}):
        if name not in new:
            lines.append(f"{kind} {name}: removed")
        elif name not in old:
            lines.append(f"{kind} {name}: added")
        else:
            lines += _fields(f"{kind} {name}", old[name], new[name])
    return lines


def _fields(what: str, old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    lines: list[str] = []
    for field in old.__struct_fields__:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            lines.append(f"{what}: {field} {_shown(field, before)} → {_shown(field, after)}")
    return lines


def _shown(field: str, value: Any) -> str:
    if field == "weights_bp":
        return ", ".join(f"{target} {percent(share)}" for target, share in value.items())
    if isinstance(value, tuple):
        return " > ".join(map(str, value)) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items()) or "nothing"
    return str(value)
