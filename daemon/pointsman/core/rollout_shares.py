"""The shares that a rollout took, and how they are given back."""

from collections.abc import Mapping

from msgspec.structs import replace

from pointsman.core.checks import RefusedError, checked_shares, tell
from pointsman.core.model import Plan, State
from pointsman.core.rollout_model import Rollout


def nonzero(shares: Mapping[str, int]) -> dict[str, int]:
    """Shares as a ramp leaves them: a file may name targets that get nothing."""
    return {target: share for target, share in shares.items() if share}


def restored(state: State, one: Rollout, plan: Plan, why: str, now_s: float) -> tuple[State, str]:
    """The state with the baseline of before, and what that is, in words.

    Weights that somebody has set meanwhile stay, and so does what no longer fits.
    """
    baseline = state.baselines[one.route]
    if nonzero(baseline.shares_bp) != one.after_bp:
        return state, f"; the weights of {baseline.author} stay: {tell(baseline.shares_bp)}"
    shares = dict(one.before_bp)
    if not shares:
        shares = dict(one.after_bp)
        shares[one.source] = shares.get(one.source, 0) + shares.pop(one.goal)
    try:
        shares = checked_shares(plan, one.route, shares)
    except RefusedError as error:
        return state, f"; the shares of before do not fit any more ({error}): {tell(baseline.shares_bp)} stay"
    new = replace(
        baseline,
        shares_bp=shares,
        author=one.owner,
        reason=f"rollout {one.name} rolled back: {why}",
        at_s=now_s,
        revision=baseline.revision + 1,
    )
    return replace(
        state, baselines={**state.baselines, one.route: new}
    ), f"; {one.route}: {tell(shares)} again"
