"""What proxies report of a rollout's two sides, kept small: one pair of arms since each of four moments.

While the canary runs its stamps are counted, and what the old side did then is what the new one is compared with
afterwards. After its promotion the rollout has a stamp of its own, so that only this route's requests count, and each
of them once.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from pointsman.core.axes import clock
from pointsman.core.ramp_model import Arm
from pointsman.core.rollout_model import Rollout, RolloutPhase, Seen
from pointsman.core.stats import merged

HOUR_S: Final = 3600.0
ISSUES_KEPT: Final = 20
_NOTHING: Final = Arm()


def begun(one: Rollout, now_s: float) -> Rollout:
    """The rollout when its traffic begins to move: nothing is seen yet."""
    new = Seen(since_s=now_s)
    return replace(one, total=new, week=new, day=new, hour=new)


def counted(one: Rollout, seen: Mapping[str, Mapping[str, Arm]], now_s: float) -> Rollout:
    """The rollout with what is new (stamp → target → its arm) on both sides."""
    if now_s < one.day.since_s:  # the clock went back: what is to be reported began by no other clock
        one = replace(one, **{name: _since(getattr(one, name), now_s) for name in ("total", "week", "day")})
    if not 0 <= now_s - one.hour.since_s < HOUR_S:
        one = replace(one, hour=Seen(since_s=now_s))
    own = [arms for stamp, arms in seen.items() if _is_own(one, stamp)]
    new = merged(arms.get(one.goal, _NOTHING) for arms in own)
    old = merged(arms.get(one.source, _NOTHING) for arms in own)
    if not (_counts(new) or _counts(old)):
        return one
    one = replace(
        one, **{name: _with(getattr(one, name), new, old) for name in ("total", "week", "day", "hour")}
    )
    return replace(one, before=merged((one.before, old))) if one.phase is RolloutPhase.RAMPING else one


def _since(seen: Seen, now_s: float) -> Seen:
    return replace(seen, since_s=min(seen.since_s, now_s))


def _is_own(one: Rollout, stamp: str) -> bool:
    return stamp == one.stamp or (bool(one.ramp) and stamp.startswith(f"{one.ramp}#"))


def _counts(arm: Arm) -> bool:
    return bool(arm.requests or arm.latency_ms or arm.first_token_ms)


def _with(seen: Seen, new: Arm, old: Arm) -> Seen:
    return replace(seen, new=merged((seen.new, new)), old=merged((seen.old, old)))


def noted(one: Rollout, what: str, now_s: float) -> Rollout:
    """The rollout with something for its reports to tell."""
    line = f"{clock(now_s)} {what}"
    kept = {name: _noted(getattr(one, name), line) for name in ("total", "week", "day")}
    return replace(one, **kept)


def _noted(seen: Seen, line: str) -> Seen:
    return replace(seen, issues=(*seen.issues, line)[-ISSUES_KEPT:])


def coarse(one: Rollout) -> Rollout:
    """The rollout without what a minute changes: what is left differs when it has moved on, and once an hour."""
    none = Seen(since_s=0.0)
    return replace(
        one,
        watched_s=one.watched_s // HOUR_S,
        looked_s=0.0,
        out_s=0.0,
        before=_NOTHING,
        total=none,
        week=none,
        day=none,
        hour=replace(none, since_s=one.hour.since_s),
        findings=(),
        hold="",
        held_by=(),
    )


def span(seconds: float) -> str:
    """A time in words, in the largest unit that tells it: "90 s", "24 h", "7 days"."""
    for unit_s, name, least in ((86_400.0, "days", 3), (3600.0, "h", 2), (60.0, "min", 2)):
        if seconds >= least * unit_s:
            return f"{seconds / unit_s:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:g} s" if seconds < 10 else f"{seconds:.0f} s"
