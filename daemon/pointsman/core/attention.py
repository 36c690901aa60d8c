"""How closely each target is to be looked at, from how it stands. The cadence (core/cadence.py) makes times of it.

The rules for the pace of generate probes, the first that applies; without one it is the phase's:

    throttled                                      off: it asked to be left alone until then
    barred for its quota, before its time          off: until then the answer is known, and asking may cost
    barred for its quota, after its time           close: the answer decides
    barred for its credential                      steady, whatever the phase: it may be mended at any time
    its reach probe was refused for the first time close: whose trouble that is, a generation tells

A target with a run of failed probes is doubted whatever its phase, so that one which dies again in its slow start
is found as soon as any other. Where requests succeed, a generate probe would buy nothing: the target is fresh.
"""

from collections.abc import Mapping
from typing import Final

from pointsman.core.cadence import Attention, Mode
from pointsman.core.errors import Fault
from pointsman.core.evidence import ProbeKind
from pointsman.core.model import Health, Phase, Plan, State

_STRANGER: Final = Health()


def attention(state: State, plan: Plan, vouches_s: Mapping[str, float], now_s: float) -> Attention:
    """What to probe at `now_s`, and how closely.

    `vouches_s`: provider → for so many seconds a live success spares its targets their generate probe.
    """
    phases: dict[str, Phase] = {}
    paces: dict[str, Mode] = {}
    doubted: set[str] = set()
    fresh: set[str] = set()
    for name, target in plan.targets.items():
        health = state.health.get(name, _STRANGER)
        if health.phase is not Phase.HEALTHY:
            phases[name] = health.phase
        elif now_s - health.last_live_success_s < vouches_s.get(target.provider, 0.0):
            fresh.add(name)
        mode = pace(health, now_s)
        if mode is not None:
            paces[name] = mode
        if health.reach_streak or (health.generate_streak and mode is None):
            doubted.add(name)
    return Attention(
        plan=plan, phases=phases, paces=paces, doubted=frozenset(doubted), fresh=frozenset(fresh)
    )


def pace(health: Health, now_s: float) -> Mode | None:
    """The pace of a target's generate probes by the rules above; None where its phase says it."""
    if now_s < health.throttled_until_s:
        return Mode.OFF
    if health.barred and health.barred_for == Fault.QUOTA:
        return Mode.OFF if now_s < health.barred_until_s else Mode.CLOSE
    if health.barred:
        return Mode.STEADY
    first_refusal = health.barred_by == ProbeKind.REACH and health.bar_streak == 1
    return Mode.CLOSE if first_refusal else None
