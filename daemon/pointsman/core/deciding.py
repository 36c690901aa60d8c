"""The one place where a decision may fail."""

from typing import Protocol

from msgspec.structs import replace

from pointsman.core.asked import Asked
from pointsman.core.decide import decide
from pointsman.core.evidence import Evidence
from pointsman.core.model import Answer, Decision, State
from pointsman.core.table import Table


class Rules(Protocol):
    """A policy: `decide`, or another one to compare it with."""

    def __call__(
        self,
        state: State,
        evidence: Evidence,
        *,
        now_s: float,
        epoch: int,
        published: Table | None,
        published_s: float,
    ) -> Decision: ...


def decided(asked: Asked, rules: Rules = decide) -> tuple[Decision, Exception | None]:
    """The decision; without the operators' words if it fails on them, and then with what it failed on.

    A bug ends the daemon, and the next one begins anew. But words stay in the store: one that breaks the decision
    would break it for ever, with nobody left to hear the word that helps.
    """
    try:
        return _ask(asked, rules), None
    except Exception as error:  # the border between what strangers wrote and what we decide
        evidence = asked.evidence
        said = tuple(word for word in evidence.words if word.id)
        if not said:
            raise
        ours = tuple(word for word in evidence.words if not word.id)
        decision = _ask(replace(asked, evidence=replace(evidence, words=ours)), rules)
        why = f"not obeyed, the decision failed on it ({type(error).__name__}): look at the daemon's log"
        refusals = tuple(Answer(word=word.id, ok=False, text=why) for word in said)
        after = replace(decision.state, words_cursor=said[-1].id)
        return replace(decision, state=after, answers=(*decision.answers, *refusals)), error


def _ask(asked: Asked, rules: Rules) -> Decision:
    return rules(
        asked.state,
        asked.evidence,
        now_s=asked.at_s,
        epoch=asked.epoch,
        published=asked.published,
        published_s=asked.published_s,
    )
