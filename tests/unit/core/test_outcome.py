"""What came of a change: one word, by how long steps took before and take now, and by what was seen and is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gitops_mk.core.effect import FEWEST_BLOCKS, saved_time
from gitops_mk.core.lessons import lesson
from gitops_mk.core.outcome import WORSE, is_from, judge_outcome, untold
from gitops_mk.core.weigh.weighing import weigh
from gitops_mk.model.change import OUTCOME_CHECK, Check, PrState
from gitops_mk.model.passport import Economics
from gitops_mk.model.plan import Plan
from gitops_mk.model.signal import Observation, SignalName
from gitops_mk.model.telemetry import Pace, Window
from tests.support import make
from tests.support.make import observation, signal


def pace(mean: float, *, noise: float = 0.02, blocks: int = 64, seed: int = 1, steps: int = 8) -> Pace:
    rng = np.random.default_rng(seed)
    ms = np.maximum(mean * (1 + noise * rng.standard_normal(blocks)), 1.0)
    return Pace(block_steps=steps, block_ms=tuple(ms.tolist()))


def seen(how: Pace | None = None, **effects: float | None) -> Observation:
    """An observation with these signals, each with its effect."""
    found = {SignalName(name): effect for name, effect in effects.items()}
    signals = tuple(signal(name, name in found, effect=found.get(name)) for name in SignalName)
    return observation(*found).model_copy(update={"signals": signals, "pace": how})


def plan(before: Observation, *, promise: bool = True) -> Plan:
    """One that promises a quarter of the time for a straggler of effect 1."""
    if not promise:
        return make.plan(observation=before)
    return make.plan(observation=before, weighing=weigh(make.action(), make.KNOBS, before, Economics()))


def verdict(before: Plan, after: Observation, **over: Any) -> str | None:
    outcome = judge_outcome(before, after, **over)
    return outcome.verdict if outcome is not None else None


@pytest.mark.parametrize(
    ("before", "after", "word"),
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
def test_by_signals_where_the_plan_tells_no_pace(before: Observation, after: Observation, word: str) -> None:
    assert verdict(plan(before, promise=False), after) == word


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (seen(pace(75.0)), "kept"),
        (seen(pace(60.0), straggler=0.1), "kept"),
        (seen(pace(75.0), burst=0.1), "kept"),
        (seen(pace(75.0), drift_loss=0.1), "regressed"),
        (seen(pace(95.0)), "no_effect"),
        (seen(pace(100.0)), "no_effect"),
        (seen(pace(101.0, noise=0.005)), "no_effect"),
        (seen(pace(110.0)), "regressed"),
        (seen(pace(101.0), burst=0.1), "regressed"),
        (seen(pace(100.0), straggler=2.0), "regressed"),
        (seen(pace(92.0, noise=0.6, seed=4)), "inconclusive"),
    ],
)  # fmt: skip
def test_by_the_time_that_was_promised(after: Observation, word: str) -> None:
    assert verdict(plan(seen(pace(100.0, seed=2), straggler=1.0)), after) == word


def test_what_promised_no_time() -> None:
    before = plan(seen(pace(100.0, seed=2), straggler=1.0), promise=False)
    assert verdict(before, seen(pace(100.0))) == "kept"
    assert verdict(before, seen(pace(100.0), straggler=1.0)) == "no_effect"
    outcome = judge_outcome(before, seen(pace(100.0)))
    assert outcome is not None
    assert outcome.lines[0].startswith("time saved: ")


def test_as_many_steps_are_waited_for() -> None:
    before = plan(seen(pace(100.0), straggler=1.0))
    short = seen(pace(75.0, blocks=40))
    assert verdict(before, short) is None
    assert verdict(before, short, last_call=True) == "kept"
    few = judge_outcome(before, seen(pace(75.0, blocks=FEWEST_BLOCKS - 1)), last_call=True)
    assert few is not None
    assert few.verdict == "inconclusive"
    assert "too few steps" in few.lines[0]
    assert verdict(plan(seen(pace(100.0, blocks=3), straggler=1.0)), seen(pace(75.0))) is None


def test_of_slower_steps_fewer_fit_into_a_window() -> None:
    before = plan(seen(pace(100.0, blocks=64, steps=4), straggler=1.0))
    assert verdict(before, seen(pace(140.0, blocks=48, steps=4))) == "regressed"
    assert verdict(before, seen(pace(100.0, blocks=40, steps=4))) is None


def test_what_is_new_counts_once_it_is_sure() -> None:
    before = plan(seen(pace(100.0, seed=2), straggler=1.0))
    worse = seen(pace(101.0), burst=0.1, drift_loss=0.2)
    assert verdict(before, worse) == "regressed"
    assert verdict(before, worse, sure=()) == "no_effect"
    assert verdict(before, worse, sure={SignalName.BURST}) == "regressed"
    untimed = plan(seen(straggler=0.4), promise=False)
    assert verdict(untimed, seen(burst=0.1), sure=()) == "no_effect"


def test_whose_telemetry_it_is() -> None:
    since = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    window = Window(first_step=0, last_step=9, steps=10, first_ts="2026-03-01T12:00:01Z")
    seen_since = observation(window=window, source="file")
    assert is_from(seen_since, since)
    assert not is_from(seen_since, since + timedelta(seconds=1))
    assert not is_from(observation(window=window.model_copy(update={"first_ts": None}), source="file"), since)
    assert not is_from(observation(window=window), since), "a scenario has no time of its own"


def test_another_change_came_first() -> None:
    outcome = untold(plan(seen(pace(100.0), straggler=1.0)), "another change was merged")
    assert outcome.lines == ("another change was merged",)
    assert (outcome.verdict, outcome.promised) == ("inconclusive", 0.25)


def test_too_little_telemetry_says_nothing() -> None:
    for before in (plan(seen(pace(100.0), straggler=0.4)), plan(seen(straggler=0.4))):
        assert verdict(before, observation(insufficient=True)) is None
        assert verdict(before, observation(insufficient=True), last_call=True) == "inconclusive"
    timed = plan(seen(pace(100.0), straggler=0.4))
    assert verdict(timed, seen()) is None
    assert verdict(timed, seen(), last_call=True) == "inconclusive"


def test_each_signal_gets_a_line_and_the_promise_is_read_back() -> None:
    before = plan(seen(pace(100.0), straggler=1.0))
    outcome = judge_outcome(before, seen(pace(75.0), burst=None))
    assert outcome is not None
    assert outcome.lines[1:] == ("burst: not seen before, seen now", "straggler: 100 % before, not seen now")
    assert "(512 steps each)" in outcome.lines[0]
    check = Check(
        name=OUTCOME_CHECK, commit=make.SHA_C, base=make.SHA_C, plan_digest=before.digest, conclusion="success",
        summary=f"{outcome.verdict}: {outcome.lines[0]}", at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    told = lesson(make.pull_request(state=PrState.MERGED, merge_sha=make.SHA_C, checks=(check,)))
    assert told is not None
    assert told.promised == 0.25
    assert told.came == pytest.approx(0.25, abs=0.02)


class TestInterval:
    def test_windows_of_the_same_length(self) -> None:
        effect = saved_time(pace(100.0, steps=8), pace(80.0, blocks=32, steps=4))
        assert effect is not None
        assert effect.steps == 128
        assert effect.saved == pytest.approx(0.2, abs=0.02)

    def test_the_same_data_the_same_interval(self) -> None:
        assert saved_time(pace(100.0), pace(80.0)) == saved_time(pace(100.0), pace(80.0))

    @pytest.mark.parametrize("kind", ["lognormal", "bursts", "autocorrelated"])
    def test_it_covers_the_truth_about_as_often_as_it_says(self, kind: str) -> None:
        """Far from normal: skewed, of two kinds of steps, and with noise that lasts."""

        def draw(rng: np.random.Generator, scale: float) -> Pace:
            if kind == "lognormal":
                values = rng.lognormal(0.0, 0.3, 64) / np.exp(0.045)
            elif kind == "bursts":
                values = 1.0 + (2.0 * (rng.random(64) < 0.15) - 0.3) / 1.0
            else:
                noise = np.empty(64)
                noise[0] = rng.standard_normal()
                for i in range(1, 64):
                    noise[i] = 0.4 * noise[i - 1] + np.sqrt(1 - 0.16) * rng.standard_normal()
                values = 1.0 + 0.1 * noise
            return Pace(block_steps=8, block_ms=tuple((100.0 * scale * values).tolist()))

        rng = np.random.default_rng(7)
        hits = 0
        for _ in range(200):
            effect = saved_time(draw(rng, 1.0), draw(rng, 0.8))
            assert effect is not None
            hits += effect.low <= 0.2 <= effect.high
        # Of 200 at 95 % a fair interval covers 190; one of blocks loses some where noise lasts.
        assert hits >= 180
