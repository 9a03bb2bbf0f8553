"""What came of a change, in one word."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.core.outcome import judge_outcome
from gitops_mk.model.signal import SignalName
from tests.support import make


def seen(effect: float | None = 0.5, *names: SignalName, **over: Any) -> Any:
    made = make.observation(*names, **over)
    signals = tuple(
        s.model_copy(update={"evidence": s.evidence.model_copy(update={"effect": effect})}) if s.found else s
        for s in made.signals
    )
    return made.model_copy(update={"signals": signals})


BEFORE = seen(0.5, SignalName.STRAGGLER)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (seen(), "kept"),
        (seen(0.4, SignalName.STRAGGLER), "no_effect"),
        (seen(0.7, SignalName.STRAGGLER), "no_effect"),
        (seen(0.8, SignalName.STRAGGLER), "regressed"),
        (seen(None, SignalName.STRAGGLER), "no_effect"),
        (seen(0.1, SignalName.BURST), "regressed"),
    ],
)
def test_one_word(after: Any, verdict: str) -> None:
    outcome = judge_outcome(BEFORE, after)
    assert outcome is not None
    assert outcome.verdict == verdict
    assert any(line.startswith("straggler: 50 % before") for line in outcome.lines)


def test_too_little_says_nothing() -> None:
    assert judge_outcome(BEFORE, make.observation(insufficient=True)) is None


def test_an_effect_that_was_not_measured_is_not_made_up() -> None:
    outcome = judge_outcome(seen(None, SignalName.STRAGGLER), seen(9.0, SignalName.STRAGGLER))
    assert outcome is not None
    assert outcome.verdict == "no_effect"
    assert outcome.lines == ("straggler: seen before, 900 % now",)
