"""Records of several ranks become one a step, in whatever order they come and however the bytes are cut."""

from __future__ import annotations

import json
import random
from dataclasses import astuple
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.parse import ranks as module
from gitops_mk.core.parse.columns import NAMES, Columns, concat
from gitops_mk.core.parse.ranks import RECORDS, WAIT
from gitops_mk.core.parse.reader import Reader
from gitops_mk.core.parse.sequence import Sequencer

T0 = 1_767_225_600_000


def record(rank: Any, step: int, ms: float = 100.0, **more: Any) -> dict[str, Any]:
    return {"rank": rank, "step": step, "step_time_ms": ms, "ts": T0 + 100 * step, **more}


def read(records: list[dict[str, Any]], cuts: list[int] | None = None) -> tuple[Columns, Reader]:
    data = "".join(json.dumps(r) + "\n" for r in records).encode()
    reader = Reader()
    out: list[Columns] = []
    edges = [0, *sorted(c for c in cuts or [] if c <= len(data)), len(data)]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out += reader.feed(data[a:b])
    return concat(out + reader.finish()), reader


def job(ranks: int, steps: int, start: int = 0) -> list[dict[str, Any]]:
    return [record(r, s, 100.0 + r + s) for s in range(start, start + steps) for r in range(ranks)]


def test_one_record_a_step_with_a_column_a_rank() -> None:
    columns, reader = read(
        [
            record(
                1,
                5,
                300,
                loss=3.0,
                gpu_util_pct=80,
                gpu_mem_pct=50,
                data_time=0.1,
                gpu_sm_clock_mhz=1400,
                alloc_retries=2,
            ),
            record(0, 5, 200, loss=2.0, gpu_util_pct=90, gpu_mem_pct=60, data_time=0.2, gpu_sm_clock_mhz=1900, tps=10),
            record(0, 6, 210),
            record(1, 6, 290),
        ]
    )
    assert columns.step.tolist() == [5, 6]
    assert columns.step_ms.tolist() == [300, 290]
    assert columns.workers.tolist() == [[200, 300], [210, 290]]
    assert (columns.loss[0], columns.util[0], columns.mem[0]) == (2.5, 85, 60)
    assert (columns.wait_ms[0], columns.clock_mhz[0], columns.retries[0], columns.throughput[0]) == (200, 1400, 2, 10)
    assert np.isnan(columns.loss[1])
    assert (reader.tally.lines, reader.tally.merged) == (4, 2)
    assert reader.tally.worker_ranks == reader.tally.worker_ids == ("0", "1")


def test_a_rank_that_is_silent_leaves_a_hole_and_one_that_comes_late_a_new_column() -> None:
    steps = [r for r in job(3, 200) if not (r["rank"] == 2 and 20 <= r["step"] < 30)]
    late = [record("extra", s) for s in range(150, 200)]
    both = sorted(steps + late, key=lambda r: int(r["step"]))
    columns, reader = read(both)
    assert columns.step.tolist() == list(range(200))
    holes = np.isnan(columns.workers)
    assert np.flatnonzero(holes[:, 2]).tolist() == list(range(20, 30))
    assert np.flatnonzero(~holes[:, 3]).tolist() == list(range(150, 200))
    assert reader.tally.worker_ranks == ("0", "1", "2", "extra")


def test_interleaved_with_a_lag() -> None:
    shuffled = job(4, 300)
    noise = random.Random(1)
    shuffled.sort(key=lambda r: r["step"] + noise.uniform(0, 12) + 3 * r["rank"])
    columns, reader = read(shuffled)
    straight, _ = read(job(4, 300))
    for name in NAMES:
        assert np.array_equal(getattr(columns, name), getattr(straight, name), equal_nan=True)
    assert reader.tally.merged == 900


def test_the_name_of_a_rank_and_what_is_its_own_time() -> None:
    lines = [
        {"worker_id": "b", "step": 1, "step_time_ms": 100, "compute_ms": 60, "node": "n1", "pp_stage": 1},
        {"worker": "a", "step": 1, "step_time_ms": 100, "worker_latency_ms": 90, "node": "n0", "pp_stage": 0},
        {"node_rank": 7, "step": 1, "step_time_ms": 100, "compute_ms": -1, "node": "n1", "pp_stage": 1},
    ]
    columns, reader = read(lines)
    assert columns.workers.tolist() == [[90, 60, 100]]
    tally = reader.tally
    assert (tally.worker_ranks, tally.worker_nodes, tally.worker_stages) == (
        ("a", "b", "7"),
        ("n0", "n1", "n1"),
        ("0", "1", "1"),
    )
    assert tally.worker_ids == ("a", "b", "7")
    lines[2]["node"] = "n2"
    assert read(lines)[1].tally.worker_ids == ("n0", "n1", "n2")


def test_names_of_workers_by_what_was_said_last() -> None:
    base = {"step_time_ms": 1, "worker_latencies_ms": [1, 2]}
    _, reader = read([base | {"worker_nodes": ["x", "x"], "worker_ranks": [4, 5], "pp_stage": [0, 1]}])
    assert reader.tally.worker_ids == ("4", "5")
    assert reader.tally.worker_stages == ("0", "1")
    _, reader = read([base | {"worker_nodes": ["x", "y"], "worker_ranks": [4, 5], "pp_stages": [0, "one"]}])
    assert reader.tally.worker_ids == ("x", "y")
    assert reader.tally.worker_stages == ()
    _, reader = read([base | {"worker_nodes": ["x", "y"], "worker_ids": ["p", "q"], "worker_stages": "01"}])
    assert reader.tally.worker_ids == ("p", "q")


def test_ranks_in_front_of_the_lines() -> None:
    data = "".join(f"[rank{r}]: step={s} step_time_ms={100 + r}\n" for s in range(5) for r in (1, 0)).encode()
    reader = Reader()
    columns = concat(reader.feed(data) + reader.finish())
    assert columns.workers.tolist() == [[100.0, 101.0]] * 5
    data = "".join(
        f'[rank{r}]: {{"step": {s}, "step_time_ms": {100 + r}}}\n' for s in range(5) for r in (1, 0)
    ).encode()
    reader = Reader()
    columns = concat(reader.feed(data) + reader.finish())
    assert columns.workers.tolist() == [[100.0, 101.0]] * 5


def test_a_single_rank_is_a_job_without_workers() -> None:
    columns, reader = read([record(0, s) for s in range(100)])
    assert columns.step.tolist() == list(range(100))
    assert columns.workers.shape == (100, 0)
    assert reader.tally.worker_ranks == ()


def test_a_list_of_all_workers_goes_before_ranks() -> None:
    columns, _ = read([record(0, 1, worker_latencies_ms=[5, 6, 7]), record(1, 1), record(0, 2), record(1, 2, 9)])
    assert np.array_equal(columns.workers, np.array([[5.0, 6.0, 7.0], [100.0, 9.0, np.nan]]), equal_nan=True)


def test_records_before_the_first_rank_pass_and_those_without_a_rank_join_in() -> None:
    plain: list[dict[str, Any]] = [{"step": s, "step_time_ms": 50} for s in range(3)]
    columns, reader = read([*plain, record(0, 3), {"step": 3, "step_time_ms": 120, "loss": 2.0}, record(1, 3)])
    assert columns.step.tolist() == [0, 1, 2, 3]
    assert columns.step_ms[3] == 120
    assert columns.loss[3] == 2.0
    assert columns.workers[3].tolist() == [100, 100]
    assert reader.tally.merged == 2


def test_without_a_step_nobody_knows_what_a_record_belongs_to() -> None:
    columns, reader = read([record(0, 1), {"rank": 1, "step_time_ms": 5}, {"step_time_ms": 5}])
    assert len(columns) == 1
    assert reader.tally.missing_fields == 2


def test_the_same_step_again_and_again() -> None:
    columns, reader = read([record(0, 1, loss=1.0 + i) for i in range(5000)] + [record(1, 1)])
    assert len(columns) == 1
    assert columns.loss[0] == 1.0 + (RECORDS - 1) / 2
    assert reader.tally.merged == 5000


def test_a_job_that_resumes() -> None:
    for back in (5, 40, 300):
        again = [r | {"ts": r["ts"] + 10**8} for r in job(2, 500, 400 - back)]
        columns, _ = read(job(2, 400) + again)
        assert columns.step.tolist() == [*range(400), *range(400 - back, 900 - back)]
        sequencer = Sequencer()
        sequencer.feed(columns)
        sequencer.finish()
        assert sequencer.resumes == 1


def test_more_ranks_than_there_is_room_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_WORKERS", 3)
    columns, reader = read(job(5, 4))
    assert columns.workers.shape == (4, 3)
    assert columns.step_ms.tolist() == [104, 105, 106, 107]
    assert reader.tally.workers_cut


def test_memory_is_bounded() -> None:
    reader = Reader()
    for s in range(2000):
        reader.feed("".join(json.dumps(record(r, s)) + "\n" for r in range(4)).encode())
        merger = reader._ranks
        assert sum(map(len, merger._waiting)) == len(merger._who) <= 4 * (WAIT + 1)
        assert len(merger._heard) <= WAIT + 1


RANKS = st.sampled_from([0, 1, 2, "a", None])
RECORD = st.builds(
    lambda rank, step, ms, ts: {
        k: v for k, v in {"rank": rank, "step": step, "step_time_ms": ms, "ts": T0 + ts}.items() if v is not None
    },
    RANKS,
    st.one_of(st.none(), st.integers(0, 200)),
    st.one_of(st.none(), st.integers(1, 50)),
    st.integers(0, 5),
)


@given(st.lists(RECORD, max_size=60), st.lists(st.integers(0, 4000), max_size=5))
def test_every_record_is_counted_once_and_cuts_make_no_difference(
    records: list[dict[str, Any]], cuts: list[int]
) -> None:
    whole, reader = read(records)
    tally = reader.tally
    assert tally.lines == len(whole) + tally.missing_fields + tally.merged
    again, other = read(records, cuts)
    filled = [c.workers[:, ~np.isnan(c.workers).all(axis=0)] if len(c) else c.workers[:, :0] for c in (whole, again)]
    assert np.array_equal(filled[0], filled[1], equal_nan=True)
    assert all(np.array_equal(getattr(whole, n), getattr(again, n), equal_nan=True) for n in NAMES[:-1])
    assert astuple(tally) == astuple(other.tally)
