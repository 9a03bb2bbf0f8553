"""Samples to records of steps: one a step, nothing made up, and what was missing is told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.prometheus.answers import Answer, Series
from gitops_mk.core.prometheus.grid import Grid
from gitops_mk.core.prometheus.records import MAX_NAMES, MAX_NOTES, Recorder
from gitops_mk.errors import TelemetryError

START = 1_767_225_600_000
STEP = 15_000
Values = Sequence[float | str | None]


def series(values: Values, first: int = 0, **labels: str) -> Series:
    """A series of the grid from its `first` sample on; None is no sample."""
    at = [((START + (first + i) * STEP) / 1000, str(v)) for i, v in enumerate(values) if v is not None]
    return Series(labels, at)


class Feed:
    """A recorder of queries that are called like their roles."""

    def __init__(self, size: int, *roles: str, **options: Any) -> None:
        self.recorder = Recorder(Grid(START, STEP, size), {role: f"q({role})" for role in roles}, **options)
        self.at = 0
        self.out: list[dict[str, Any]] = []

    def span(self, count: int, answers: Mapping[str, Sequence[Series]], *, remarks: Sequence[str] = ()) -> None:
        for role, found in answers.items():
            self.recorder.take(role, self.at, count, Answer(list(found), list(remarks)))
        self.out += map(json.loads, self.recorder.lines(self.at, count))
        self.at += count

    def finish(self) -> list[dict[str, Any]]:
        self.out += map(json.loads, self.recorder.finish())
        return self.out


def read(size: int, answers: Mapping[str, Values], **options: Any) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The records and notes of one series a role."""
    feed = Feed(size, *answers, **options)
    feed.span(size, {role: [series(values)] for role, values in answers.items()})
    return feed.finish(), feed.recorder.notes


def test_samples_of_one_step_are_one_record() -> None:
    records, notes = read(
        5,
        {
            "step": [10, 10, 10, 11, 11.9],
            "step_time_s": [0.5, 0.6, 0.7, 0.8, 0.9],
            "loss": [None, 2.5, 2.6, 2.4, 2.3],
            "gpu_util_pct": [90, 80, None, 70, 60],
        },
    )
    assert records == [
        {"ts": START, "step": 10, "step_time_s": 0.5, "loss": 2.5, "gpu_util_pct": 85},
        {"ts": START + 3 * STEP, "step": 11, "step_time_s": 0.8, "loss": 2.4, "gpu_util_pct": 65},
    ]
    assert notes == (
        "gap: loss: 4 samples where there are 5 of others",
        "gap: gpu_util_pct: 4 samples where there are 5 of others",
    )


def test_a_step_goes_on_over_spans() -> None:
    feed = Feed(4, "step")
    for values in ([7, 8], [8, 9]):
        feed.span(2, {"step": [series(values, feed.at)]})
    assert [(r["ts"], r["step"]) for r in feed.finish()] == [(START, 7), (START + STEP, 8), (START + 3 * STEP, 9)]


def test_without_a_counter_every_sample_is_a_step() -> None:
    records, notes = read(3, {"step_time_ms": [400, 400, 410]})
    assert [(r["step"], r["step_time_ms"]) for r in records] == [(0, 400), (1, 400), (2, 410)]
    assert notes == ("no query gives the step: each sample counts as one",)


def test_a_counter_that_went_back_is_a_restart() -> None:
    records, notes = read(4, {"step": [100, 101, 40, 41]})
    assert records[2] == {"ts": START + 2 * STEP, "event": "resume", "step": 40}
    assert [r["step"] for r in records] == [100, 101, 40, 40, 41]
    assert notes == ("the step counter went back from 101 to 40 at 2026-01-01T00:00:30Z: a restart",)


def test_what_is_no_step_time_makes_no_record() -> None:
    records, notes = read(
        7,
        {
            "step": [1, 2, 3, 4, None, -1, 7],
            "step_time_s": [1, "NaN", "+Inf", 0, 1, 1, 1],
            "wait_s": [0, 0, "NaN", 0, 0, 0, 0],
        },
    )
    assert [r["step"] for r in records] == [1, 7]
    assert "step_time_s: 2 samples are no finite number" in notes
    assert "wait_s: 1 samples are no finite number" in notes
    assert "step_time_s: 1 samples are no time of a step" in notes
    assert "step: 1 samples are no step" in read(3, {"step": [1, -1, 3]})[1]
    assert "gap: there is nothing between 2026-01-01T00:00:00Z and 2026-01-01T00:01:30Z" in notes


def test_a_loss_that_is_none_is_told_as_it_is() -> None:
    records, _ = read(4, {"step": [1, 2, 3, 4], "loss": [2.0, "NaN", "+Inf", None]})
    assert records[0]["loss"] == 2.0
    assert math.isnan(records[1]["loss"])
    assert math.isnan(records[2]["loss"])
    assert "loss" not in records[3]
    feed = Feed(1, "step", "loss")
    feed.span(1, {"step": [series([1])], "loss": [series([2.0], rank="0"), series(["NaN"], rank="1")]})
    # One rank's loss is none: theirs together is none, as a mean would be.
    assert math.isnan(feed.finish()[0]["loss"])


def test_several_series_are_put_together_as_ranks_are() -> None:
    feed = Feed(2, "step", "step_time_s", "loss", "gpu_sm_clock_mhz", "throughput")
    feed.span(
        2,
        {
            "step": [series([5, 6], rank="0"), series([4, None], rank="1")],
            "step_time_s": [series([1.0, 1.0]), series([2.0, None])],
            "loss": [series([2.0, 3.0]), series([4.0, None])],
            "gpu_sm_clock_mhz": [series([1900, 1900]), series([1200, None])],
            "throughput": [],
        },
    )
    assert feed.finish() == [
        {"ts": START, "step": 5, "step_time_s": 2.0, "loss": 3.0, "gpu_sm_clock_mhz": 1200},
        {"ts": START + STEP, "step": 6, "step_time_s": 1.0, "loss": 3.0, "gpu_sm_clock_mhz": 1900},
    ]
    assert feed.recorder.most_series == 2
    assert feed.recorder.notes == (
        "step: up to 2 series, of which the highest counts",
        "step_time_s: up to 2 series, of which the highest counts",
        "loss: up to 2 series, of which the mean counts",
        "gpu_sm_clock_mhz: up to 2 series, of which the lowest counts",
        "throughput: no series has a sample: q(throughput)",
    )


class TestMemory:
    def shares(self, used: Sequence[Series], other: Sequence[Series], role: str = "gpu_mem_free") -> Feed:
        feed = Feed(2, "step", role, "gpu_mem_used")
        feed.span(2, {"step": [series([1, 2])], role: other, "gpu_mem_used": used})
        feed.finish()
        return feed

    def test_the_fullest_gpu_counts(self) -> None:
        used = [series([60, 10], gpu="0", __name__="used"), series([20, None], gpu="1"), series([99, 99], gpu="2")]
        free = [series([20, 30], gpu="0", __name__="free"), series([60, 60], gpu="1")]
        feed = self.shares(used, free)
        assert [r["gpu_mem_util_pct"] for r in feed.out] == [75, 25]

    def test_one_series_each_meet_whatever_their_labels(self) -> None:
        feed = self.shares([series([30, 0], a="1")], [series([40, 0], b="2")], "gpu_mem_total")
        assert feed.out[0]["gpu_mem_util_pct"] == 75
        assert "gpu_mem_util_pct" not in feed.out[1]

    def test_series_that_do_not_meet_are_told(self) -> None:
        feed = self.shares([series([1, 1], a="1"), series([1, 1], a="2")], [series([1, 1], a="3")])
        assert "gpu_mem_util_pct" not in feed.out[0]
        assert "no series of gpu_mem_used has the labels of one of gpu_mem_free" in feed.recorder.notes
        assert not any("labels" in note for note in self.shares([], [series([1, 1])]).recorder.notes)


class TestWorkers:
    def test_a_label_tells_them_apart_and_columns_stay(self) -> None:
        feed = Feed(4, "step", "worker_step_time_s")
        step = [series([1, 2, 3, 4])]
        first = [series([0.5, 0.6], rank=str(r), pod="same") for r in (10, 2)]
        feed.span(2, {"step": step, "worker_step_time_s": first})
        second = [series([0.7, None], 2, rank="2"), series([None, 0.8], 2, rank="3")]
        feed.span(2, {"step": step, "worker_step_time_s": second})
        assert [(r.get("worker_latencies_ms"), r.get("worker_ids")) for r in feed.finish()] == [
            ([500, 500], ["2", "10"]),
            ([600, 600], None),
            ([700, None, None], ["2", "10", "3"]),
            ([None, None, 800], None),
        ]

    def test_milliseconds_and_a_label_of_ones_own(self) -> None:
        feed = Feed(2, "step", "worker_step_time_ms", worker_label="host")
        found = [
            series([5, 6], host="b1"),
            series([7, 4], host="b1"),
            series([1, 1], pod="x"),
            series([3, 3], host="a"),
        ]
        feed.span(2, {"step": [series([1, 2])], "worker_step_time_ms": found})
        assert [r["worker_latencies_ms"] for r in feed.finish()] == [[3, 7], [3, 6]]
        assert "1 series of workers have no label host, and are left out" in feed.recorder.notes

    def test_a_step_without_any_worker_has_no_list(self) -> None:
        feed = Feed(2, "step", "worker_step_time_s")
        feed.span(2, {"step": [series([1, 2])], "worker_step_time_s": [series([None, 1], pod="a")]})
        assert ["worker_ids" in r for r in feed.finish()] == [False, True]
        none = Feed(1, "step", "worker_step_time_s")
        none.span(1, {"step": [series([1])], "worker_step_time_s": []})
        assert "worker_ids" not in none.finish()[0]

    def test_names_are_told_now_and_then(self) -> None:
        feed = Feed(100, "step", "worker_step_time_s")
        feed.span(100, {"step": [series(range(100))], "worker_step_time_s": [series([1] * 100, pod="a")]})
        assert [i for i, r in enumerate(feed.finish()) if "worker_ids" in r] == [0, 30, 60, 90]

    def test_one_worker_says_nothing_of_what_tells_others_apart(self) -> None:
        feed = Feed(2, "step", "worker_step_time_s")
        feed.span(1, {"step": [series([1])], "worker_step_time_s": [series([1], pod="a", rank="0")]})
        both = [series([1], 1, pod="a", rank="0"), series([2], 1, pod="a", rank="1")]
        feed.span(1, {"step": [series([2], 1)], "worker_step_time_s": both})
        assert feed.finish()[1]["worker_ids"] == ["a", "0", "1"]
        assert feed.out[1]["worker_latencies_ms"] == [None, 1000, 2000]

    def test_workers_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gitops_mk.core.prometheus.workers.MAX_SERIES", 2)
        feed = Feed(1, "step", "worker_step_time_s")
        feed.span(1, {"step": [series([1])], "worker_step_time_s": [series([r], rank=str(r)) for r in (1, 2, 3)]})
        assert feed.finish()[0]["worker_ids"] == ["1", "2"]
        assert "only the first 2 workers are told of" in feed.recorder.notes

    def test_a_worker_that_was_started_again_is_one(self) -> None:
        feed = Feed(6, "step", "worker_step_time_s")
        found = [
            series([0.1, 0.1], pod="w-0", instance="x"),
            series([0.2], 3, pod="w-0", instance="y"),
            series([0.3, 0.3], 4, pod="w-0", instance="x"),
            series([0.5] * 6, pod="w-1", instance="y"),
        ]
        feed.span(6, {"step": [series(range(1, 7))], "worker_step_time_s": found})
        out = feed.finish()
        assert out[0]["worker_ids"] == ["w-0", "w-1"]
        assert [r["worker_latencies_ms"][0] for r in out] == [100, 100, None, 200, 300, 300]
        assert [r["worker_latencies_ms"][1] for r in out] == [500] * 6

    def test_a_label_whose_series_overlap_is_passed_over(self) -> None:
        feed = Feed(2, "step", "worker_step_time_s")
        found = [
            series([0.1, 0.1], pod="p", rank="0"),
            series([0.2, None], pod="p", rank="1"),
            series([None, 0.3], pod="p", rank="1"),
        ]
        feed.span(2, {"step": [series([1, 2])], "worker_step_time_s": found})
        out = feed.finish()
        assert out[0]["worker_ids"] == ["0", "1"]
        assert [r["worker_latencies_ms"] for r in out] == [[100, 200], [100, 300]]

    def test_workers_that_nothing_tells_apart(self) -> None:
        feed = Feed(1, "step", "worker_step_time_s")
        with pytest.raises(TelemetryError, match="no label tells the 2 workers apart"):
            feed.span(1, {"worker_step_time_s": [series([1], pod="a"), series([1], pod="a")]})


def test_gaps_ends_and_standing_counters_are_told() -> None:
    size = 60
    values: list[float | None] = [*range(10), *[None] * 5, *range(10, 20)]
    feed = Feed(size, "step")
    feed.span(size, {"step": [series([*values, *[19] * 10])]})
    feed.finish()
    assert feed.recorder.notes == (
        "gap: there is nothing between 2026-01-01T00:02:15Z and 2026-01-01T00:03:45Z",
        "gap: there is nothing after 2026-01-01T00:08:30Z, 6 min to the end",
        "the step counter has stood at 19 since 2026-01-01T00:06:00Z",
    )


def test_what_was_not_asked_for_is_no_silence() -> None:
    feed = Feed(60, "step")
    feed.span(4, {"step": [series([1, 2, 3, 4])]})
    assert [json.loads(line)["step"] for line in feed.recorder.finish(4, why="no time")] == [4]
    assert feed.recorder.notes == (
        "gap: no time: 56 of 60 samples, those after 2026-01-01T00:00:45Z, were not asked for",
    )


def test_many_gaps_and_restarts_leave_room_for_the_rest() -> None:
    values: list[float | None] = []
    for i in range(50):
        values += [10 + i % 2 * -5, *[None] * 5]
    feed = Feed(len(values), "step", "loss")
    feed.span(len(values), {"step": [series(values)], "loss": []})
    feed.finish()
    notes = feed.recorder.notes
    assert sum(note.startswith("gap: there is nothing between") for note in notes) == 5
    assert sum(note.endswith("a restart") for note in notes) == 5
    assert {"49 gaps in all", "25 restarts in all", "loss: no series has a sample: q(loss)"} <= set(notes)


def test_nothing_at_all() -> None:
    feed = Feed(2, "step", "loss")
    feed.span(2, {"step": [], "loss": [series([])]})
    assert feed.finish() == []
    assert feed.recorder.empty
    assert feed.recorder.notes == (
        "step: no series has a sample: q(step)",
        "loss: no series has a sample: q(loss)",
    )
    assert Recorder(Grid(START, STEP, 1), {}).most_series == 0


def test_a_span_that_is_taken_again_counts_once() -> None:
    feed = Feed(2, "step", "loss")
    feed.recorder.take("step", 0, 2, Answer([series([1, 2])], []))
    feed.span(1, {"step": [series([1])], "loss": [series([2.0])]})
    feed.span(1, {"step": [series([2], 1)], "loss": [series([2.0], 1)]})
    feed.finish()
    assert feed.recorder.notes == ()


def test_remarks_and_odd_answers() -> None:
    feed = Feed(1, "step")
    histogram = Series({}, [], [msgspec.Raw(b"1")])
    feed.span(1, {"step": [histogram]}, remarks=["partial\nresponse", "partial response"])
    assert feed.recorder.notes == (
        "step: Prometheus remarks: partial response",
        "step: native histograms are no numbers, and left out",
    )
    with pytest.raises(TelemetryError, match="a sample that is no number"):
        feed.recorder.take("step", 0, 1, Answer([Series({}, [(START / 1000, "many")])], []))


def test_notes_and_names_are_bounded() -> None:
    feed = Feed(1, "step")
    for i in range(MAX_NOTES + 5):
        feed.recorder.note(f"note {i}")
        feed.recorder.note("note 0")
    assert len(feed.recorder.notes) == MAX_NOTES + 1
    assert feed.recorder.notes[-1] == "5 more notes like these"
    found = [series([1], Hostname=f"n{i}", GpuDeviceName="H100") for i in range(MAX_NAMES + 5)]
    feed.span(1, {"step": [*found, series([1], node="m", modelName="A100")]})
    assert len(feed.recorder.nodes) == MAX_NAMES
    assert feed.recorder.gpu_models == ("A100", "H100")


SAMPLE = st.none() | st.sampled_from([0.0, -1.0, 0.5, 3.0, "NaN", "+Inf"])


@given(
    rows=st.lists(st.tuples(st.none() | st.integers(0, 9), SAMPLE, SAMPLE, SAMPLE, SAMPLE), min_size=1, max_size=60),
    sizes=st.lists(st.integers(1, 20), min_size=60, max_size=60),
    with_step=st.booleans(),
)
def test_how_a_window_is_cut_into_spans_changes_nothing(
    rows: list[tuple[float | str | None, ...]], sizes: list[int], *, with_step: bool
) -> None:
    roles = ("step", "step_time_s", "loss", "gpu_util_pct", "worker_step_time_s")[0 if with_step else 1 :]
    columns = dict(
        zip(("step", "step_time_s", "loss", "gpu_util_pct", "worker_step_time_s"), zip(*rows, strict=True), strict=True)
    )

    def fed(cuts: list[int]) -> tuple[str, tuple[str, ...]]:
        feed = Feed(len(rows), *roles)
        for size in cuts:
            count = min(size, len(rows) - feed.at)
            if count > 0:
                part = slice(feed.at, feed.at + count)
                feed.span(count, {role: [series(columns[role][part], feed.at, pod="a", job="x")] for role in roles})
        return json.dumps(feed.finish()), feed.recorder.notes

    whole, notes = fed([len(rows)])
    assert fed(sizes) == (whole, notes)
    records = json.loads(whole)
    assert all(r["step_time_s"] > 0 for r in records if "event" not in r)
    assert [r["ts"] for r in records] == sorted(r["ts"] for r in records)
