"""Whose trouble is it: the providers', one proxy's, or the leader's own way out?

    what is seen                                                            whose trouble, and what follows
    one proxy fails at all that it uses, without an answer from anybody,    the proxy's: nothing of it counts
      and the leader got an answer from one of them lately
    the same, and the leader's own way out is suspected                     nobody can tell: nothing of it counts
    one proxy fails at all that it uses, in any way, while another proxy    the proxy's: nothing of it counts
      has succeeded at one of them since
    every provider falls silent to the leader                               the leader's: nobody is ejected by probes

"All that it uses" is two providers at least, and as many failures as trip a target, since its last success anywhere:
fewer are noise, and a proxy that still succeeds at one provider has a way out. Trouble lasts until the proxy has
succeeded, or reports no failures any more: that the witnesses have gone quiet does not make it well.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pointsman.core.evidence import Lane, Report
from pointsman.core.model import Path, Plan, Vantage

# An answer that the leader got speaks for the way to a provider for so long.
ANSWER_KEPT_S: Final = 30.0


def egress_suspect(paths: Mapping[str, Path], plan: Plan) -> bool:
    """Every provider has fallen silent: it is likelier that the leader is cut off than that all are down."""
    of_plan = [paths[name] for name in plan.providers if name in paths]
    return len(of_plan) >= 2 and all(path.silent_s > path.answered_s for path in of_plan)


def failures_since(lane: Lane, last_ok_s: float) -> int:
    """How many failures of the lane's run came after a success at `last_ok_s`, wherever that was."""
    if not lane.streak or lane.since_s >= last_ok_s:
        return lane.streak
    return sum(at_s >= last_ok_s for at_s in lane.times)


def in_trouble(
    report: Report,
    before: Vantage | None,
    others: Iterable[Report],
    plan: Plan,
    paths: Mapping[str, Path],
    now_s: float,
) -> bool:
    """Is the proxy that reports the one in trouble? `before` is what is remembered of the same boot, if anything."""
    last_ok_s = max((lane.last_ok_s for _, lane in _lanes(report)), default=0.0)
    failing = [
        (plan.targets[target].provider, lane)
        for target, lane in _lanes(report)
        if target in plan.targets and failures_since(lane, last_ok_s)
    ]
    if before is not None and before.troubled and last_ok_s <= before.troubled_s:
        return bool(failing)
    providers = {provider for provider, _ in failing}
    if len(providers) < 2:
        return False
    began_s = max(lane.since_s for _, lane in failing)
    # A success of before, in a lane that nobody has used since, says nothing of now.
    if last_ok_s >= began_s:
        return False
    if sum(failures_since(lane, last_ok_s) for _, lane in failing) < plan.policy.live_failures:
        return False
    if all(lane.refuses or lane.silent for _, lane in failing) and (
        egress_suspect(paths, plan) or any(_answers(paths.get(name), now_s) for name in providers)
    ):
        return True
    return any(_succeeds(other, providers, plan, began_s) for other in others if other.proxy != report.proxy)


def _lanes(report: Report) -> list[tuple[str, Lane]]:
    return [(target, lane) for target, entry in report.targets.items() for lane in entry.lanes.values()]


def _answers(path: Path | None, now_s: float) -> bool:
    """Did the leader get an answer there lately, and has not been met with silence since?"""
    return path is not None and path.answered_s > path.silent_s and now_s - path.answered_s <= ANSWER_KEPT_S


def _succeeds(other: Report, providers: set[str], plan: Plan, since_s: float) -> bool:
    return any(
        lane.last_ok_s > since_s
        for target, lane in _lanes(other)
        if target in plan.targets and plan.targets[target].provider in providers
    )
