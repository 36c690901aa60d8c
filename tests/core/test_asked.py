"""A decision that fails on operators' words is made without them."""

from typing import Any

import msgspec
import pytest
from recorded import asked_by

from pointsman.core.asked import Asked
from pointsman.core.decide import decide
from pointsman.core.deciding import decided
from pointsman.core.evidence import Evidence, Verb, Word
from pointsman.core.model import Decision, State
from world import CHAT, World, plan_of


def word(word_id: str, verb: Verb = Verb.RESET, **args: Any) -> Word:
    return Word(id=word_id, verb=verb, author="ann", reason="a test", args=args)


def breaks_on_words(state: State, evidence: Evidence, **rest: Any) -> Decision:
    if any(one.id for one in evidence.words):
        raise ArithmeticError("planted")
    return decide(state, evidence, **rest)


@pytest.fixture
def asked() -> Asked:
    return asked_by(World(plan_of(CHAT)), Evidence(words=(word("5-0", target="meta"), word("6-0"))))


def test_the_rules_get_what_was_asked(asked: Asked) -> None:
    """Nothing is lost on the way to the rules, and they decide."""
    seen: dict[str, Any] = {}

    def rules(state: State, evidence: Evidence, **rest: Any) -> Decision:
        seen.update(state=state, evidence=evidence, **rest)
        return decide(state, evidence, **rest)

    decision, failure = decided(asked, rules)

    named = {
        name: getattr(asked, name) for name in ("epoch", "published", "published_s", "state", "evidence")
    }
    assert seen == named | {"now_s": asked.at_s}
    assert (decision, failure) == (decide(**seen), None)


def test_words_that_break_the_decision_are_refused(asked: Asked) -> None:
    """Each is answered, the cursor is behind the last, and everything else is decided."""
    decision, failure = decided(asked, breaks_on_words)

    assert isinstance(failure, ArithmeticError)
    assert [(answer.word, answer.ok) for answer in decision.answers] == [("5-0", False), ("6-0", False)]
    assert decision.answers[0].text == (
        "not obeyed, the decision failed on it (ArithmeticError): look at the daemon's log"
    )
    assert decision.state.words_cursor == "6-0"
    assert decision.reasons.keys() == {"chat"}


def test_our_own_word_is_obeyed_all_the_same() -> None:
    """The file's configuration has no place in the stream of words, and is not thrown away with them."""
    plan = word("", Verb.APPLY_PLAN, plan=msgspec.to_builtins(plan_of(CHAT)))
    asked = asked_by(World(), Evidence(words=(plan, word("5-0"))))
    decision, _ = decided(asked, breaks_on_words)

    assert decision.state.plan is not None
    assert [(answer.word, answer.ok) for answer in decision.answers] == [("", True), ("5-0", False)]


def test_without_words_to_blame_it_fails() -> None:
    """A bug in the rules themselves is not hidden."""
    with pytest.raises(ArithmeticError, match="planted"):
        decided(asked_by(World(), Evidence()), broken)


def test_our_own_word_is_not_blamed() -> None:
    """Nor is one that fails on our own configuration: there is nothing to go on with."""
    with pytest.raises(ArithmeticError, match="planted"):
        decided(asked_by(World(), Evidence(words=(word(""),))), broken)


def broken(*_: Any, **__: Any) -> Decision:
    raise ArithmeticError("planted")
