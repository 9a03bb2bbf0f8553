"""What came of a change: one word, by what was seen before and what is seen now."""

from __future__ import annotations

import pytest

from gitops_mk.core.outcome import WORSE, judge_outcome
from gitops_mk.model.signal import Observation, SignalName
from tests.support.make import observation, signal


def seen(**effects: float | None) -> Observation:
    """An observation with these signals, each with its effect."""
    found = {SignalName(name): effect for name, effect in effects.items()}
    signals = tuple(signal(name, name in found, effect=found.get(name)) for name in SignalName)
    return observation(*found).model_copy(update={"signals": signals})


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (seen(straggler=0.4), seen(), "kept"),
        (seen(straggler=0.4), seen(straggler=0.4), "no_effect"),
        (seen(straggler=0.4), seen(straggler=0.4 * WORSE), "no_effect"),
        (seen(straggler=0.4), seen(straggler=0.4 * WORSE + 0.01), "regressed"),
        (seen(straggler=0.4), seen(burst=0.1), "regressed"),
        (seen(straggler=0.4), seen(straggler=0.1, burst=0.1), "regressed"),
        (seen(straggler=None), seen(straggler=9.0), "no_effect"),
        (seen(straggler=0.4), seen(straggler=None), "no_effect"),
        (seen(straggler=0.0), seen(straggler=9.0), "no_effect"),
        (seen(), seen(), "kept"),
    ],
)  # fmt: skip
def test_the_verdict(before: Observation, after: Observation, verdict: str) -> None:
    outcome = judge_outcome(before, after)
    assert outcome is not None
    assert outcome.verdict == verdict


def test_each_signal_gets_a_line() -> None:
    outcome = judge_outcome(seen(straggler=0.412), seen(burst=None))
    assert outcome is not None
    assert outcome.lines == ("burst: not seen before, seen now", "straggler: 41 % before, not seen now")


def test_too_little_telemetry_says_nothing() -> None:
    assert judge_outcome(seen(straggler=0.4), observation(insufficient=True)) is None
