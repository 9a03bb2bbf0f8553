"""Records in the order of training: what is a duplicate, disorder, a resume, a gap, and what is derived."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.parse import sequence as sequence_module
from gitops_mk.core.parse.columns import NAMES, Columns, concat
from gitops_mk.core.parse.sequence import Sequencer

T0 = 1.76e12
NAN = float("nan")


def batch(step: Any, ms: Any = 100.0, ts: Any = None, workers: int = 0) -> Columns:
    step = np.asarray(step, dtype=float)
    n = len(step)
    blank = np.full(n, np.nan)
    when = T0 + 100.0 * step if ts is None else np.asarray(ts, dtype=float)
    return Columns(
        ts=when,
        step=step,
        step_ms=np.broadcast_to(np.asarray(ms, dtype=float), n).copy(),
        loss=blank,
        throughput=blank,
        util=blank,
        mem=blank,
        comm_ms=blank,
        wait_ms=blank,
        retries=blank,
        clock_mhz=blank,
        segment=np.zeros(n),
        workers=np.full((n, workers), 1.0),
    )


def run(*batches: Columns) -> tuple[Columns, Sequencer]:
    sequencer = Sequencer()
    out = [rows for b in batches for rows in sequencer.feed(b)]
    return concat(out + sequencer.finish()), sequencer


def test_records_in_order_pass_through() -> None:
    out, sequencer = run(batch(range(10_000)))
    assert out.step.tolist() == list(range(10_000))
    assert (sequencer.duplicates, sequencer.out_of_order, sequencer.resumes, sequencer.gaps) == (0, 0, 0, 0)


def test_local_disorder_is_undone_also_across_blocks() -> None:
    step = np.arange(9000)
    jumbled = step[np.argsort(step + np.random.default_rng(1).uniform(0, 12, len(step)), kind="stable")]
    out, sequencer = run(batch(jumbled))
    assert np.array_equal(out.step, step)
    assert sequencer.out_of_order > 1000
    assert sequencer.resumes == 0


def test_duplicates_are_taken_out_near_and_far() -> None:
    step = [0, 1, 1, 2, 3, 3, 3, *range(4, 100), *range(100)]
    out, sequencer = run(batch(step))
    assert out.step.tolist() == list(range(100))
    assert sequencer.duplicates == 103
    assert sequencer.resumes == 0


def test_equal_values_without_a_step_are_no_duplicates() -> None:
    out, sequencer = run(batch([NAN] * 50, ts=[T0] * 50))
    assert out.step.tolist() == list(range(50))
    assert sequencer.duplicates == 0


def test_records_without_a_step_follow_the_one_before() -> None:
    out, _ = run(batch([5, NAN, NAN, 9, NAN], ts=[NAN] * 5))
    assert out.step.tolist() == [5, 6, 7, 9, 10]


@pytest.mark.parametrize("back", [5, 20, 300])
def test_a_resume_starts_a_segment(back: int) -> None:
    first = np.arange(400)
    second = np.arange(400 - back, 800)
    ts = T0 + 100.0 * np.arange(len(first) + len(second))
    out, sequencer = run(batch(np.concatenate([first, second]), ts=ts))
    assert sequencer.resumes == 1
    assert out.segment.tolist() == [0.0] * 400 + [1.0] * len(second)
    assert out.step.tolist() == [*first.tolist(), *second.tolist()]


def test_two_resumes_in_one_block_and_one_in_the_next() -> None:
    parts = [np.arange(1000), np.arange(500, 2000), np.arange(100, 2000), np.arange(900, 1500)]
    step = np.concatenate(parts)
    _, sequencer = run(batch(step, ts=T0 + 100.0 * np.arange(len(step))))
    assert sequencer.resumes == 3


def test_a_stray_step_seen_again_is_no_resume() -> None:
    _, sequencer = run(batch([*range(50), 45, *range(50, 60)], ts=T0 + np.arange(61)))
    assert (sequencer.resumes, sequencer.out_of_order) == (0, 1)


def test_clock_skew_and_gaps_are_counted() -> None:
    ts = T0 + 100.0 * np.arange(100)
    ts[50:70] -= 30_000
    ts[90:] += 600_000
    step = np.arange(100)
    step[30:] += 40
    _, sequencer = run(batch(step, ts=ts))
    assert sequencer.clock_skew == 1
    assert sequencer.gaps == 2


def test_step_times_are_derived_from_times_and_steps() -> None:
    step = np.arange(0, 500, 10)
    out, sequencer = run(batch(step, ms=NAN, ts=T0 + 250.0 * step))
    assert out.step_ms.tolist() == [250.0] * 49
    assert sequencer.underivable == 1


def test_lines_without_a_step_time_in_a_stream_that_has_them_are_no_steps() -> None:
    out, sequencer = run(batch(range(5), ms=[100, NAN, 100, NAN, 100]))
    assert out.step.tolist() == [0, 2, 4]
    assert sequencer.underivable == 2


def test_nothing_in_nothing_out() -> None:
    out, _ = run()
    assert len(out) == 0


def test_blocks_of_nothing_but_duplicates() -> None:
    out, sequencer = run(batch([1] * 3000), batch([1] * 3000))
    assert len(out) == 1
    assert sequencer.duplicates == 5999


STEPS = st.lists(st.one_of(st.integers(0, 300), st.just(-1)), max_size=80)


@given(STEPS, st.lists(st.integers(0, 80), max_size=3), st.integers(10, 40))
def test_counts_add_up_and_batches_make_no_difference(steps: list[int], cuts: list[int], block: int) -> None:
    step = np.array([NAN if s < 0 else s for s in steps])
    ms = np.array([100.0 + s % 3 for s in steps])
    whole = batch(step, ms, ts=T0 + 100.0 * np.arange(len(steps))) if steps else batch([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_module, "BLOCK", block)
        out, sequencer = run(whole)
        assert len(steps) == len(out) + sequencer.duplicates + sequencer.underivable
        edges = [0, *sorted(cuts), len(steps)]
        again, other = run(*(whole.take(slice(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)))
    assert all(np.array_equal(getattr(out, n), getattr(again, n), equal_nan=True) for n in NAMES)
    assert (other.duplicates, other.resumes, other.out_of_order) == (
        sequencer.duplicates,
        sequencer.resumes,
        sequencer.out_of_order,
    )


def test_batches_of_different_width_are_padded() -> None:
    joined = concat([batch([1], workers=2), batch([2], workers=0), batch([3], workers=3)])
    assert (~np.isnan(joined.workers)).sum(axis=1).tolist() == [2, 0, 3]
