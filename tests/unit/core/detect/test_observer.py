"""The observer over long streams and odd bytes, and what must not change its mind."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mk.core.detect import history as history_module
from gitops_mk.core.detect.history import History, View, comm_of, lag_of
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.detect.stats import (
    best_split,
    block_quantile,
    mann_kendall,
    mean_rows,
    median,
    quantile_rows,
    series,
    spread,
    theil_sen,
)
from gitops_mk.core.parse.columns import EMPTY, Columns, concat
from gitops_mk.core.parse.reader import Reader
from gitops_mk.model.signal import Observation, SignalName

N_LONG = 9000


def feed(data: bytes, size: int | None = None, **options: Any) -> Observation:
    observer = Observer("file", **options)
    for start in range(0, len(data), size or max(1, len(data))):
        observer.feed(data[start : start + (size or len(data))])
    return observer.finish()


def encode(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


def names(seen: Observation) -> list[str]:
    return [str(name) for name in seen.found]


# Longer than what is remembered step by step.


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps remembered, so that a long run need not be that long."""
    monkeypatch.setattr(history_module, "RECENT", 4096)


@pytest.mark.usefixtures("short_memory")
def test_a_slow_drift_over_a_long_run(job: Any) -> None:
    j = job(n=N_LONG)
    j.workers *= (1 + 0.3 * np.clip((np.arange(j.n) - 3000) / 6000, 0, 1))[:, None]
    seen = j.observe()
    assert names(seen) == ["drift_step"]
    found = seen.signals[1].evidence
    assert 2000 < found.onset_step < 8000
    assert found.duration_steps > 1000


@pytest.mark.usefixtures("short_memory")
def test_a_long_quiet_run_is_stable(job: Any) -> None:
    j = job(n=N_LONG)
    j.workers[:10] *= 20
    j.pause[::250] = 5 * 400
    seen = j.observe()
    assert seen.stable
    assert (seen.window.first_step, seen.window.last_step, seen.window.steps) == (0, N_LONG - 1, N_LONG)


@pytest.mark.usefixtures("short_memory")
@pytest.mark.parametrize("cause", ["straggler", "comm_congestion", "gpu_saturated"])
def test_a_cause_explains_the_drift_of_a_long_run(job: Any, cause: str) -> None:
    j = job(n=N_LONG)
    late = slice(7000, None)
    if cause == "straggler":
        j.workers[5500:, 1] *= 2
    elif cause == "comm_congestion":
        j.comm[late] *= 8
    else:
        j.util[late] = 99.8
        j.workers[late] *= 1.5
    assert names(j.observe()) == [cause]


@pytest.mark.usefixtures("short_memory")
def test_a_loss_that_diverged_long_ago_is_still_seen(job: Any) -> None:
    j = job(n=N_LONG)
    j.loss[3000:] = np.nan
    assert names(j.observe()) == ["drift_loss"]


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch, job: Any) -> None:
    monkeypatch.setattr(history_module, "MOST_CELLS", 15)
    reader = Reader()
    rows = concat(reader.feed(encode(job(n=3000).records())))
    history = History()
    for start in range(0, 3000, 70):
        history.append(rows.take(slice(start, start + 70)))
        assert len(history._cells) <= 15
        assert history._n_recent < history_module.RECENT + 70
    history.append(EMPTY)
    view = history.view()
    assert view.cells is not None
    assert view.per_cell == 256
    assert view.cells.step[:3].tolist() == [0, 256, 512]
    quiet = np.quantile(rows.step_ms[:2816].reshape(-1, 256), 0.35, axis=1)
    assert np.allclose(view.cells.quiet[: len(quiet)], quiet, rtol=0.02)
    assert view.total == 3000


def test_a_history_shorter_than_a_cell_has_none(job: Any) -> None:
    history = History()
    history.append(concat(Reader().feed(encode(job(n=5).records()))))
    cells = history.view().cells
    assert cells is not None
    assert len(cells.step) == 0


# What reports say of the input.


def test_environment_window_and_counts(job: Any) -> None:
    records = job(n=100).records()
    for i, record in enumerate(records):
        record |= {"node": f"node-{i % 2}", "gpu_model": "H100"}
        record["ts"] -= 5e6 if 40 <= i < 50 else 0
    records.insert(10, records[9])
    data = encode(records) + b"junk\n"
    seen = feed(data)
    assert seen.environment.nodes_seen == ("node-0", "node-1")
    assert seen.environment.gpu_models_seen == ("H100",)
    assert seen.environment.unstable
    assert "the clock went backwards 1 times while steps went forward" in seen.environment.notes
    assert seen.ingest.lines == 102
    assert (seen.ingest.records, seen.ingest.duplicates, seen.ingest.dropped_total) == (100, 1, 1)
    assert seen.window.first_ts is not None
    assert seen.window.first_ts.startswith("2025-10-09T")
    assert (seen.source, seen.format) == ("file", "jsonl")


def test_only_so_many_workers_are_read() -> None:
    record = {"step_time_ms": 100, "worker_latencies_ms": [90.0] * 1030}
    seen = feed(encode([{**record, "step": i} for i in range(40)]))
    assert seen.environment.notes == ("only the first 1024 workers of a step were read",)


def test_nothing_at_all() -> None:
    seen = feed(b"")
    assert seen.insufficient
    assert seen.format == "unknown"
    assert seen.window.first_step is None


def test_times_are_left_out_where_there_are_none() -> None:
    seen = feed(encode([{"step": 1, "step_time_ms": 1}, {"step": 2, "step_time_ms": 1, "ts": 9.9e19}]), min_steps=1)
    assert seen.window.first_ts is None
    assert seen.window.last_ts == "5107-03-10T08:00:00.000Z"


def test_progress_and_the_list_of_events_are_bounded() -> None:
    observer = Observer("file")
    for i in range(5):
        observer.feed(encode([{"event": "eval", "step": i * 100 + k} for k in range(100)]))
    assert observer.progress == 500
    assert len(observer._reader.events) == history_module.EVENTS


# What must not change the answer.


INCIDENTS = ["quiet", "straggler", "burst", "drift", "gpu", "loss"]


def incident(job: Any, what: str) -> list[dict[str, Any]]:
    j = job(n=500, workers=6, seed=5)
    if what == "straggler":
        j.workers[:, 2] *= 1.5
    if what == "burst":
        for k in (80, 151, 237, 340, 452):
            j.workers[k : k + 8] *= 2.2
    if what == "drift":
        j.workers *= (1 + 0.4 * np.arange(j.n) / j.n)[:, None]
    if what == "gpu":
        j.util[250:] = 99.7
        j.workers[250:] *= 1.4
    if what == "loss":
        j.loss[250:] = j.loss[250] * (1 + np.arange(250) / 500)
    out: list[dict[str, Any]] = j.records()
    return out


@pytest.mark.parametrize("what", INCIDENTS)
def test_scale_of_time_does_not_matter(job: Any, what: str) -> None:
    records = incident(job, what)
    slow = [
        r | {"step_time_ms": r["step_time_ms"] * 7, "worker_latencies_ms": [7 * v for v in r["worker_latencies_ms"]]}
        for r in records
    ]
    assert names(feed(encode(slow))) == names(feed(encode(records)))


@pytest.mark.parametrize("what", INCIDENTS)
def test_shift_of_time_does_not_matter(job: Any, what: str) -> None:
    records = incident(job, what)
    later = [r | {"ts": r["ts"] + 86_400_000.0} for r in records]
    assert [s.plain() for s in feed(encode(later)).signals] == [s.plain() for s in feed(encode(records)).signals]


@pytest.mark.parametrize("what", INCIDENTS)
def test_order_of_workers_does_not_matter(job: Any, what: str) -> None:
    records = incident(job, what)
    turned = [r | {"worker_latencies_ms": r["worker_latencies_ms"][::-1]} for r in records]
    before, after = feed(encode(records)), feed(encode(turned))
    assert names(before) == names(after)
    culprits = [
        next(s for s in seen.signals if s.name is SignalName.STRAGGLER).evidence.culprits for seen in (before, after)
    ]
    assert culprits in ([(), ()], [("worker-2",), ("worker-3",)])


@pytest.mark.parametrize("what", INCIDENTS)
def test_local_disorder_and_duplicates_do_not_matter(job: Any, what: str) -> None:
    records = incident(job, what)
    key = np.arange(len(records)) + np.random.default_rng(2).uniform(0, 12, len(records))
    jumbled = [records[i] for i in np.argsort(key, kind="stable").tolist()]
    jumbled += jumbled[-20:]
    assert [s.plain() for s in feed(encode(jumbled)).signals] == [s.plain() for s in feed(encode(records)).signals]


@pytest.mark.parametrize("size", [1000, 65_536])
def test_the_cut_of_the_bytes_does_not_matter(job: Any, size: int) -> None:
    data = encode(incident(job, "straggler"))
    assert feed(data, size).plain() == feed(data).plain()


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes_are_survived_and_counted(junk: bytes) -> None:
    data = junk + b"\n" + encode([{"step": i, "step_time_ms": 100.0 + i % 5, "loss": 1.0} for i in range(40)])
    seen = feed(data, min_steps=1)
    counts = seen.ingest
    assert (
        counts.dropped_total
        == counts.dropped_invalid_json + counts.dropped_invalid_shape + counts.dropped_missing_fields
    )
    assert counts.lines >= counts.records + counts.dropped_total + counts.duplicates


NUMBERS = st.one_of(st.none(), st.floats(0.001, 1e6), st.just(float("nan")))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"step_time_ms": st.floats(0.01, 1e6), "step": st.integers(0, 60)},
            optional={
                "loss": NUMBERS,
                "throughput": NUMBERS,
                "gpu_util_pct": st.floats(0, 100),
                "gpu_mem_util_pct": st.floats(0, 100),
                "worker_latencies_ms": st.lists(NUMBERS, max_size=3),
                "comm_ms": NUMBERS,
            },
        ),
        max_size=50,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_records_get_an_answer_of_every_detector(records: list[dict[str, Any]]) -> None:
    seen = feed(encode(records), min_steps=1)
    assert [s.name for s in seen.signals] == [name for name, _ in DETECTORS]
    json.dumps(seen.plain(), allow_nan=False)
    counts = seen.ingest
    assert counts.lines == counts.records + counts.dropped_total + counts.duplicates


# The small parts.


def test_statistics() -> None:
    nan = float("nan")
    assert quantile_rows(np.array([[3, nan, 1], [nan, nan, nan]]), 0.5).tolist()[0] == 1
    assert np.isnan(quantile_rows(np.array([[nan]]), 0.5)[0])
    assert mean_rows(np.array([[1, nan, 3]])).tolist() == [2]
    assert np.isnan(median(np.array([nan])))
    assert spread(np.array([nan])) == 0
    assert np.isnan(block_quantile(np.array([1.0, nan]), 2)[1])
    assert theil_sen(np.array([0.0, 2, 4, 100])) == pytest.approx(2, abs=16)
    assert mann_kendall(np.arange(3.0)) == 0
    assert mann_kendall(np.zeros(9)) == 0
    assert mann_kendall(np.arange(10.0)) == pytest.approx(3.935, abs=1e-3)
    assert best_split(np.array([1.0] * 5 + [3.0] * 5))[:3] == (5, 1.0, 3.0)
    assert best_split(np.array([1.0, 2.0]))[0] == 2
    assert len(series(np.arange(1000.0))) == 64


def columns(workers: list[list[float]], ms: float = 100.0) -> Columns:
    n = len(workers)
    blank = np.full(n, np.nan)
    return Columns(
        ts=blank, step=np.arange(float(n)), step_ms=np.full(n, ms), loss=blank, throughput=blank, util=blank, mem=blank,
        comm_ms=blank, segment=np.zeros(n), workers=np.array(workers),
    )  # fmt: skip


def test_lag_and_communication_of_a_step() -> None:
    nan = float("nan")
    assert np.array_equal(lag_of(columns([[10, 30, 11], [10, nan, nan], [10, 30, nan]])), [19, nan, 20], equal_nan=True)
    assert np.isnan(lag_of(columns([[10]]))).all()
    assert comm_of(columns([[10, 30]])).tolist() == [70]


def test_names_of_workers() -> None:
    view = View(recent=EMPTY, cells=History().view().cells, total=0, workers=("7", "gpu-b"))
    assert [view.worker_name(i) for i in range(3)] == ["worker-7", "gpu-b", "worker-2"]
