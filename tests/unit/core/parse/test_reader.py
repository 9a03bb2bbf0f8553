"""Lines to columns: names and units, what is counted where, and that the cut of the bytes makes no difference."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.parse import reader as reader_module
from gitops_mk.core.parse.columns import EMPTY, NAMES, Columns, concat
from gitops_mk.core.parse.reader import MAX_LINE, Reader, detect_format, is_table
from gitops_mk.core.parse.rows import MAX_KEYS, MAX_WORKERS
from gitops_mk.errors import InputError

T0 = 1_760_000_000_000


def lines(*records: Any) -> bytes:
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records)


def read(data: bytes, format_: str | None = None, cuts: list[int] | None = None) -> tuple[Columns, Reader]:
    reader = Reader(format_)
    out: list[Columns] = []
    edges = [0, *sorted(cuts or []), len(data)]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out += reader.feed(data[a:b])
    out += reader.finish()
    return concat(out), reader


def one(**record: Any) -> Columns:
    columns, _ = read(lines({"ts": T0, "step": 1, "step_time_ms": 100.0} | record))
    return columns


def test_every_field_arrives() -> None:
    columns, reader = read(
        lines(
            {
                "ts": "2026-01-01T00:00:00Z",
                "step": 7,
                "step_time_ms": 410,
                "loss": 2.5,
                "throughput": 1000,
                "worker_latencies_ms": [400, 405.5],
                "gpu_util_pct": 91.5,
                "gpu_mem_util_pct": 70,
                "comm_ms": 5,
                "data_time": 0.007,
                "memory/num_alloc_retries": 2,
                "gpu_sm_clock_mhz": 1980,
                "node": "node-a",
                "gpu_model": "H100",
                "worker_ids": ["a", 3],
                "extra": {"deep": [1]},
            }
        )
    )
    got = {name: getattr(columns, name).tolist() for name in NAMES}
    assert got == {
        "ts": [1_767_225_600_000.0],
        "step": [7.0],
        "step_ms": [410.0],
        "loss": [2.5],
        "throughput": [1000.0],
        "util": [91.5],
        "mem": [70.0],
        "comm_ms": [5.0],
        "wait_ms": [7.0],
        "retries": [2.0],
        "clock_mhz": [1980.0],
        "segment": [0.0],
        "workers": [[400.0, 405.5]],
    }
    assert list(reader.tally.nodes) == ["node-a"]
    assert list(reader.tally.gpu_models) == ["H100"]
    assert reader.tally.worker_ids == ("a", "3")
    assert reader.format == "jsonl"


@pytest.mark.parametrize(
    ("name", "value", "ms"),
    [
        ("step_time_ms", 250, 250.0),
        ("latency_ms", 250, 250.0),
        ("duration_ms", 250, 250.0),
        ("step_time_s", 0.25, 250.0),
        ("step_time", 0.25, 250.0),
        ("iter_time", 0.25, 250.0),
        ("time_this_iter_s", 0.25, 250.0),
        ("time_metrics/end_to_end(s)", 0.25, 250.0),
    ],
)
def test_the_unit_of_a_step_time_follows_from_its_name(name: str, value: float, ms: float) -> None:
    columns, _ = read(lines({"ts": T0, name: value}))
    assert columns.step_ms.tolist() == [ms]


def test_the_better_name_wins_and_the_other_fills_in() -> None:
    columns, _ = read(
        lines(
            {"step_time": 0.5, "step_time_ms": 400},
            {"step_time": 0.5},
            {"step_time_ms": None, "latency_ms": 300, "iteration": 4, "timestamp": T0, "time": T0 + 9, "train_loss": 1},
            {"step_time_ms": 1, "loss": None, "train_loss": "inf"},
        )
    )
    assert columns.step_ms.tolist() == [400.0, 500.0, 300.0, 1.0]
    assert columns.step[2] == 4.0
    assert columns.ts[2] == T0
    assert columns.loss[2:].tolist() == [1.0, np.inf]


@pytest.mark.parametrize(
    "stamp",
    [
        T0 / 1000,
        T0,
        T0 * 1000,
        T0 * 10**6,
        "2025-10-09T08:53:20Z",
        "2025-10-09T08:53:20",
        "2025-10-09T10:53:20.000+02:00",
    ],
)
def test_time_stamps_of_all_kinds_mean_the_same(stamp: float | str) -> None:
    columns, _ = read(lines({"ts": stamp, "step_time_ms": 1}))
    assert columns.ts.tolist() == [float(T0)]


@pytest.mark.parametrize(
    "stamp", ["yesterday", "2025-99-09T08:53:20Z", -5, 1e25, True, [1], "20251009T085320Z", "0001-01-01T00:00:00+23:59"]
)
def test_a_time_stamp_that_is_none_drops_the_line(stamp: Any) -> None:
    columns, reader = read(lines({"ts": stamp, "step_time_ms": 1}, {"ts": T0, "step_time_ms": 1}))
    assert len(columns) == 1
    assert reader.tally.invalid_shape == 1


def test_what_is_dropped_is_counted_by_kind() -> None:
    columns, reader = read(
        lines(
            {"ts": T0, "step_time_ms": 100},
            b"Traceback (most recent call last):",
            b'{"ts": 1, "step_ti',
            b"[" * 5000,
            b"[1, 2]",
            b"null",
            {"ts": T0, "step_time_ms": "100"},
            {"ts": T0, "step_time_ms": -5},
            {"ts": T0, "step_time_ms": 0},
            b'{"ts": 1760000000000, "step_time_ms": NaN}',
            {"ts": T0, "step_time_ms": 1e12},
            {"ts": T0, "step_time_ms": True},
            {"ts": T0, "loss": 2.0},
            {"step": 3, "step_time_ms": None},
            b"",
            b"  \t",
            {"event": "party", "step": 3},
        )
    )
    tally = reader.tally
    assert len(columns) == 1
    assert (tally.lines, tally.invalid_json, tally.invalid_shape, tally.missing_fields) == (15, 3, 8, 3)


def test_a_line_with_time_and_step_only_is_kept_for_deriving() -> None:
    columns, _ = read(lines({"ts": T0, "step": 3}))
    assert np.isnan(columns.step_ms).tolist() == [True]


def test_losses_that_are_no_number_stay_visible() -> None:
    data = lines(
        b'{"step_time_ms": 1, "loss": NaN}',
        b'{"step_time_ms": 1, "loss": -Infinity}',
        {"step_time_ms": 1, "loss": "nan"},
        {"step_time_ms": 1, "loss": "n/a"},
        {"step_time_ms": 1, "loss": None},
        {"step_time_ms": 1, "loss": [1]},
        {"step_time_ms": 1, "loss": 10**400},
        b'{"step_time_ms": 1, "loss": NaN, "node": NaN}',
    )
    columns, reader = read(data)
    want = [np.inf, np.inf, np.inf, np.nan, np.nan, np.nan, np.inf, np.inf]
    assert np.array_equal(columns.loss, want, equal_nan=True)
    assert not reader.tally.nodes


def test_bare_nan_is_read_in_bulk_as_well() -> None:
    good = {"step_time_ms": 1, "loss": 2.0, "note": "x"}
    data = lines(good, *[b'{"step_time_ms": 1, "loss": NaN, "note": "x"}'] * 3)
    whole, reader = read(lines(good) + data, cuts=[len(lines(good))])
    assert np.isinf(whole.loss).tolist() == [False, False, True, True, True]
    # A NaN inside a string does not survive the shortcut; the line is read by itself.
    odd, _ = read(
        lines(good)
        + lines(b'{"step_time_ms": 1, "loss": 1.0, "note": "a: NaN, b"}', b'{"step_time_ms": 1, "loss": NaN}')
    )
    assert odd.loss.tolist() == [2.0, 1.0, np.inf]
    assert reader.tally.lines == 5


def test_values_out_of_range_are_left_out_not_the_line() -> None:
    columns = one(
        throughput=-1, gpu_util_pct=140, gpu_mem_util_pct=-2, comm_ms=-1, step=-4, worker_latencies_ms=[1, -1, 0, 5]
    )
    assert np.isnan([columns.throughput[0], columns.util[0], columns.mem[0], columns.comm_ms[0], columns.step[0]]).all()
    assert np.isnan(columns.workers[0]).tolist() == [False, True, True, False]


def test_values_of_a_wrong_type_are_left_out_not_the_line() -> None:
    columns = one(
        step="one",
        throughput="fast",
        gpu_util_pct=True,
        node=["a"],
        gpu_model=1.5,
        event=3,
        worker_ids="a,b",
        worker_latencies_ms=3,
    )
    assert np.isnan([columns.step[0], columns.throughput[0], columns.util[0]]).all()
    assert columns.workers.shape == (1, 0)
    columns = one(worker_latencies_ms=[1, None, "x", True, float("nan"), 4])
    assert np.isnan(columns.workers[0]).tolist() == [False, True, True, True, True, False]


def test_memory_from_used_and_total_or_free() -> None:
    assert one(gpu_mem_used_mb=20, gpu_mem_total_mb=80).mem.tolist() == [25.0]
    assert one(DCGM_FI_DEV_FB_USED=20, DCGM_FI_DEV_FB_FREE=20).mem.tolist() == [50.0]
    assert np.isnan(one(gpu_mem_used_mb=20, gpu_mem_total_mb=0).mem[0])


def test_planned_events_are_no_drops() -> None:
    columns, reader = read(
        lines(
            {"event": "checkpoint", "step": 100},
            {"event": "eval"},
            {"event": "resume", "step": 7, "step_time_ms": 50},
            {"ts": "never", "event": "eval", "step": 9},
        )
    )
    assert [(e.kind, e.step) for e in reader.events] == [("checkpoint", 100.0), ("eval", None), ("resume", 7.0)]
    assert len(columns) == 1
    assert (reader.tally.events, reader.tally.invalid_shape) == (2, 1)


def test_workers_may_come_and_go() -> None:
    columns, reader = read(
        lines(
            {"step_time_ms": 1, "worker_latencies_ms": [1, 2]},
            {"step_time_ms": 1, "worker_latencies_ms": []},
            {"step_time_ms": 1},
            {"step_time_ms": 1, "worker_latencies_ms": [1, 2, 3]},
            {"step_time_ms": 1, "worker_latencies_ms": [1.0] * (MAX_WORKERS + 5)},
        )
    )
    assert columns.workers.shape == (5, MAX_WORKERS)
    assert (~np.isnan(columns.workers)).sum(axis=1).tolist() == [2, 0, 0, 3, MAX_WORKERS]
    assert reader.tally.workers_cut


def test_a_change_of_keys_on_the_way_is_followed() -> None:
    first = [{"step_time_ms": 1, "step": i} for i in range(5)]
    then = [{"latency_ms": 2, "iteration": i, "lm loss": 1.5} for i in range(5, 10)]
    columns, _ = read(lines(*first, *then))
    assert columns.step.tolist() == list(range(10))
    assert columns.step_ms.tolist() == [1.0] * 5 + [2.0] * 5
    assert np.isnan(columns.loss).sum() == 5


def test_more_keys_than_can_be_learnt_are_read_all_the_same() -> None:
    many = [{f"k{i}": i, "step_time_ms": 5, "x" * 300: 1} for i in range(MAX_KEYS + 20)]
    columns, reader = read(lines({"step_time_ms": 5}, *many))
    assert len(columns) == reader.tally.lines == len(many) + 1


def test_lines_are_told_apart_whatever_stands_in_them() -> None:
    good = {"step_time_ms": 1, "step": 1}
    two_in_one = lines(good)[:-1] * 2 + b"\n"
    columns, reader = read(lines(good) + two_in_one + lines(b'{"step_time_ms":', b"1}") + lines(good))
    assert len(columns) == 2
    assert (reader.tally.lines, reader.tally.invalid_json) == (5, 3)


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    columns, _ = read(b"\n\xef\xbb\xbf" + lines({"step_time_ms": 1}, {"step_time_ms": 2}).replace(b"\n", b"\r\n"))
    assert columns.step_ms.tolist() == [1.0, 2.0]


def test_invalid_utf8_in_a_name_is_no_reason_to_drop() -> None:
    _, reader = read(lines(b'{"step_time_ms": 1, "node": "n\xff"}'))
    assert list(reader.tally.nodes) == ["n\ufffd"]


def test_a_truncated_last_line_is_counted() -> None:
    _, reader = read(lines({"step_time_ms": 1}) + b'{"step_time_ms": ')
    assert (reader.tally.lines, reader.tally.invalid_json) == (2, 1)


@pytest.mark.parametrize("cuts", [[], [100], [MAX_LINE + 50], list(range(0, 3 * MAX_LINE, 200_000))])
def test_a_monstrous_line_is_counted_and_never_held(cuts: list[int]) -> None:
    good = lines({"step_time_ms": 1})
    data = good + b'{"x": "' + b"a" * (2 * MAX_LINE) + b'"}\n' + good
    reader = Reader()
    out: list[Columns] = []
    edges = [0, *[c for c in cuts if 0 < c < len(data)], len(data)]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out += reader.feed(data[a:b])
        assert len(reader._rest) <= MAX_LINE
    out += reader.finish()
    assert len(concat(out)) == 2
    assert (reader.tally.lines, reader.tally.invalid_shape) == (3, 1)


def test_large_chunks_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_BLOCK", 200)
    columns, _ = read(lines(*[{"step": i, "step_time_ms": 1} for i in range(100)]))
    assert columns.step.tolist() == list(range(100))


CSV = b"""ts,step,step_time_ms,loss,worker_latencies_ms,node,junk
1760000000000,1,100,2.5,10;11;12,node-a,x

1760000000100,2,101,nan,10;11;x,node-a,
1760000000200,3,,,,,
"quoted, cell",4,1,1,1,n,
1760000000300,5,1_0,1,1,n,
1760000000400,6
1760000000500,7,103,,,,
"""


def test_csv_by_its_header() -> None:
    columns, reader = read(CSV)
    assert reader.format == "csv"
    assert columns.step.tolist() == [1.0, 2.0, 3.0, 7.0]
    assert np.isnan(columns.step_ms[2])
    assert np.isinf(columns.loss[1])
    assert columns.workers[0].tolist() == [10.0, 11.0, 12.0]
    assert (reader.tally.lines, reader.tally.invalid_shape) == (7, 3)


def test_csv_with_worker_names_and_a_cell_beyond_all_bounds() -> None:
    data = b"step_time_ms,worker_ids,event\n5,a;b,\n" + b"6," + b"x" * 200_000 + b",\n"
    columns, reader = read(data, "csv")
    assert reader.tally.worker_ids == ("a", "b")
    assert len(columns) == 1
    assert reader.tally.invalid_shape == 1


def test_csv_without_a_name_we_know() -> None:
    columns, reader = read(b"a,b\n1,2\n", "csv")
    assert len(columns) == 0
    assert reader.tally.missing_fields == 1


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (b"step,step_time_ms", "csv"),
        (b'"ts";"step"', "unknown"),
        (b'{"step": 1}', "jsonl"),
        (b"hello, world", "unknown"),
        (b'"ts","x"', "csv"),
        (b"hello, time\nwell, step, loss\n", "csv"),
        (b"hello, you\nwell, step, 5 loss\n", "unknown"),
        (b'{"a": 1}\n' * 999, "unknown"),
        (b'{"a": 1}\n' * 1000, "jsonl"),
    ],
)
def test_the_first_line_that_can_be_of_one_format_only_tells_it(data: bytes, format_: str) -> None:
    _, reader = read(data)
    assert reader.format == format_


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="'xml', expected one of jsonl, csv"):
        Reader("xml")


def test_nothing_in_nothing_out() -> None:
    for data in (b"", b"\n \n"):
        columns, reader = read(data)
        assert len(columns) == 0
        assert reader.format == "unknown"
    assert len(concat([])) == len(EMPTY) == 0


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10**20),
    st.floats(),
    st.text("aNé1.", max_size=5),
    st.lists(st.floats(0, 100), max_size=3),
)
KEYS = st.sampled_from(
    [
        "ts",
        "time",
        "step",
        "step_time_ms",
        "step_time",
        "loss",
        "worker_latencies_ms",
        "event",
        "node",
        "x",
        "worker_ids",
        "gpu_util_pct",
    ]
)
RECORDS = st.dictionaries(KEYS, VALUES, max_size=6).map(lambda d: json.dumps(d).encode())
DIRT = st.one_of(st.binary(max_size=30), RECORDS.map(lambda b: b[: len(b) // 2]), st.just(b'{"event":"eval","step":3}'))
GOOD = st.integers(0, 50).map(
    lambda i: json.dumps({"ts": T0 + i, "step": i, "step_time_ms": 100 + i, "loss": 1.0}).encode()
)


def fingerprint(columns: Columns, reader: Reader) -> tuple[Any, ...]:
    # A dropped line may have widened the table by columns that nothing fills; whether it did depends on the cuts.
    filled = columns.workers[:, ~np.isnan(columns.workers).all(axis=0)] if len(columns) else columns.workers[:, :0]
    return (
        *(getattr(columns, n).tobytes() for n in NAMES[:-1]),
        filled.shape,
        filled.tobytes(),
        astuple(reader.tally),
        reader.events,
        reader.format,
    )


@given(st.lists(st.one_of(GOOD, RECORDS, DIRT), max_size=25), st.lists(st.integers(0, 2000), max_size=4))
def test_any_bytes_are_counted_once_and_cuts_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(parts)
    whole, reader = read(data)
    tally = reader.tally
    assert tally.lines == len(whole) + tally.invalid_json + tally.invalid_shape + tally.missing_fields + tally.events
    again = read(data, cuts=[c for c in cuts if c <= len(data)])
    assert fingerprint(*again) == fingerprint(whole, reader)


@given(st.lists(st.binary(max_size=60), max_size=10), st.lists(st.integers(0, 500), max_size=3))
def test_any_bytes_as_csv(parts: list[bytes], cuts: list[int]) -> None:
    data = b"step,step_time_ms,worker_latencies_ms\n" + b"\n".join(parts)
    whole, reader = read(data, "csv")
    tally = reader.tally
    assert tally.lines == len(whole) + tally.invalid_json + tally.invalid_shape + tally.missing_fields + tally.events
    assert fingerprint(*read(data, "csv", cuts=[c for c in cuts if c <= len(data)])) == fingerprint(whole, reader)


def test_seconds_too_many_for_milliseconds_are_no_step_time() -> None:
    columns, _ = read(lines({"ts": T0, "step": 1, "step_time": 1.797e305}, {"ts": T0, "step": 2, "step_time": 0.5}))
    assert [value for value in columns.step_ms.tolist() if value == value] == [500.0]


@pytest.mark.parametrize(
    ("line", "format_"),
    [
        (b"step,step_time_ms", "csv"),
        (b"epoch,step,val_loss", "lightning-csv"),
        (b'{"step": 1}', "jsonl"),
        (b"step=1 step_time_ms=5", "logfmt"),
        (b"hello, world", None),
    ],
)
def test_what_one_line_tells_of_the_format(line: bytes, format_: str | None) -> None:
    assert detect_format(line) == format_
    assert is_table(format_) is (format_ in ("csv", "lightning-csv"))
