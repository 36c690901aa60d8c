"""What do the gates outside of pointsman say?"""

from pointsman.core.gates.sight import Sight, aborts, holds, passes
from pointsman.core.ramp_model import Finding, Verdict


def external(sight: Sight) -> Finding:
    """The worst of all external answers; one that is missing or stale holds, for no answer is no consent."""
    gates, answers = sight.ramp.policy.external, sight.ramp.answers
    if not gates:
        return passes("external", "none is asked")
    waiting: list[str] = []
    for gate in gates:
        answer = answers.get(gate.name)
        if answer is None or sight.facts.now_s - answer.at_s > gate.fresh_s:
            waiting.append(
                f"{gate.name} has not answered" if answer is None else f"{gate.name} is silent since long"
            )
        elif answer.verdict is Verdict.ABORT:
            return aborts("external", f"{gate.name}: {answer.why}")
        elif answer.verdict is not Verdict.PASS:
            waiting.append(f"{gate.name}: {answer.why}")
    if waiting:
        return holds("external", "; ".join(waiting))
    return passes("external", ", ".join(f"{gate.name} passes" for gate in gates))
