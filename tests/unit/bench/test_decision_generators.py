from __future__ import annotations

import json

import numpy as np
import pytest

from tests.bench.decisions.families import Family, registry
from tests.bench.decisions.lines import Dirt, Layout, soil, write
from tests.bench.decisions.reading import record
from tests.bench.decisions.running import GENERATORS
from tests.bench.decisions.truth import SIGNALS, UNKNOWN, Labels, Run, Shown, judge

# The long families are left to the bench: what is asked here holds of a family's builder, however long it makes its runs.
EVERY = [
    pytest.param(generator, family, id=f"{generator}-{family.name}")
    for generator, families in GENERATORS.items()
    for family in families.values()
    if "long" not in family.name
]


def flat(n: int = 200, workers: int = 4, seconds: float = 1.0) -> Run:
    ones = np.ones(n)
    return Run(
        step=np.arange(n, dtype=np.int64),
        at=np.cumsum(ones * seconds),
        seconds=ones * seconds,
        loss=ones * 2.0,
        curve=ones * 2.0,
        throughput=ones * 100.0 / seconds,
        workers=np.full((n, workers), 0.9 * seconds),
        comm=ones * 0.1 * seconds,
        util=ones * 80.0,
        memory=ones * 60.0,
    )


def slowed(run: Run, where: slice | np.ndarray, by: float) -> Run:
    factor = np.ones(len(run.step))
    factor[where] = by
    run.seconds = run.seconds * factor
    run.workers = run.workers * factor[:, None]
    run.throughput = run.throughput / factor
    return run


@pytest.mark.parametrize(("generator", "family"), EVERY)
def test_traces_are_whole_and_labels_agree_with_each_other(generator: str, family: Family) -> None:
    trace = family.make(generator, 3, 1)
    labels = trace.labels
    assert len(trace.lines) >= min(trace.steps, 2)
    for line in trace.lines[:40]:
        if not line.startswith(b"\xff") and line.endswith(b"}") and b'"event"' not in line:
            assert record(line) is not None or b"\x00" in line
    assert set(SIGNALS) <= labels.as_dict().keys()
    json.dumps(labels.as_dict())
    assert all(0 <= culprit < trace.workers for culprit in labels.culprits)
    assert not labels.culprits or labels.straggler
    flags = [getattr(labels, name) for name in SIGNALS]
    if labels.insufficient:
        assert labels == UNKNOWN
        return
    assert labels.incident is (True if True in flags else None if None in flags else False)
    assert labels.drift is (True if labels.drift_loss or labels.drift_step else labels.drift)
    assert (labels.severity is not None) == (labels.incident is True)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_seed_makes_the_same_traces_and_another_makes_others(generator: str) -> None:
    for family in list(GENERATORS[generator].values())[::12]:
        one, again, other = (family.make(generator, seed, 0) for seed in (5, 5, 6))
        assert one == again
        assert one.lines != other.lines


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_families_are_many_and_of_all_kinds(generator: str) -> None:
    families = GENERATORS[generator].values()
    assert len(families) >= 60
    wanted = [name for family in families for name, flag in family.want.items() if flag is True]
    assert {"drift_loss", "drift_step", "burst", "straggler", "gpu_saturated", "insufficient"} <= set(wanted)
    assert sum(family.want == {"incident": False} for family in families) >= 20


def test_two_families_of_one_name_are_refused() -> None:
    family = next(iter(GENERATORS["mechanics"].values()))
    with pytest.raises(ValueError, match="share a name"):
        registry(family, family)


def test_nothing_done_is_nothing_found() -> None:
    labels = judge(flat(), flat(), Shown())
    assert labels == Labels()


@pytest.mark.parametrize(("by", "flag"), [(1.2, True), (1.08, None), (1.03, False)])
def test_a_lasting_slow_down_is_drift_from_ten_percent_on(by: float, flag: bool | None) -> None:
    labels = judge(slowed(flat(), slice(100, None), by), flat(), Shown(), 100)
    assert (labels.drift_step, labels.drift, labels.burst) == (flag, flag, False)


def test_a_slow_down_that_throughput_does_not_show_cannot_be_asked_for() -> None:
    labels = judge(slowed(flat(), slice(100, None), 1.3), flat(), Shown(throughput=False), 100)
    assert labels.drift_step is None


def test_a_slow_down_by_plan_is_none() -> None:
    planned = slowed(flat(), slice(100, None), 1.3)
    assert judge(planned, planned, Shown(throughput=False)).drift_step is None
    planned.throughput = np.full(200, 100.0)
    assert judge(planned, planned, Shown()) == Labels()


def test_a_slow_worker_is_named_and_explains_the_drift() -> None:
    run = flat()
    run.workers[50:, 2] *= 1.4
    run.seconds[50:] = 0.1 + 0.9 * 1.4
    run.throughput = 100.0 / run.seconds
    labels = judge(run, flat(), Shown(), 50)
    assert (labels.straggler, labels.culprits, labels.drift_step, labels.onset) == (True, (2,), None, 50)
    assert judge(run, flat(), Shown(workers=False), 50).straggler is None


@pytest.mark.parametrize(("share", "flag"), [(0.3, True), (0.12, None), (0.04, False)])
def test_a_worker_slow_now_and_then_counts_by_share(share: float, flag: bool | None) -> None:
    run = flat()
    run.workers[: int(share * 200) : 1, 1] *= 1.5
    assert judge(run, flat(), Shown()).straggler is flag


def test_bursts_are_several_long_and_costly() -> None:
    where = np.zeros(200, dtype=bool)
    for start in (20, 71, 96, 160):
        where[start : start + 4] = True
    assert judge(slowed(flat(), where, 2.0), flat(), Shown()).burst is True
    where[60:] = False
    assert judge(slowed(flat(), where, 2.0), flat(), Shown()).burst is None
    assert judge(slowed(flat(), slice(30, 31), 3.0), flat(), Shown()).burst is False


@pytest.mark.parametrize(("rise", "flag"), [(0.12, True), (0.06, None), (0.02, False)])
def test_loss_over_its_best_is_drift_from_eight_percent_on(rise: float, flag: bool | None) -> None:
    run = flat()
    run.curve[120:] *= 1.0 + rise
    assert judge(run, flat(), Shown(), 120).drift_loss is flag


def test_loss_that_recovers_is_none_and_broken_to_the_end_is_one() -> None:
    run = flat()
    run.curve[80:120] *= 2.0
    assert judge(run, flat(), Shown()) == Labels()
    run.loss[190:] = np.nan
    assert judge(run, flat(), Shown()).drift_loss is True
    run.loss[190:198] = 2.0
    assert judge(run, flat(), Shown()).drift_loss is None


def test_pinned_devices_count_when_steps_got_slower() -> None:
    run = slowed(flat(), slice(100, None), 1.3)
    run.util[100:] = 100.0
    assert judge(run, flat(), Shown(), 100).gpu_saturated is True
    run = flat()
    run.util[100:] = 100.0
    assert judge(run, flat(), Shown(), 100) == Labels()


def test_a_hang_is_one_step_of_sixty() -> None:
    for times, flag in ((100.0, True), (30.0, None), (5.0, False)):
        run = flat()
        run.seconds[77] = times
        assert judge(run, flat(), Shown(), 77).near_hang is flag


def test_congestion_is_time_between_workers_and_step() -> None:
    run = flat()
    run.comm[100:] += 0.3
    run.seconds[100:] += 0.3
    run.throughput = 100.0 / run.seconds
    labels = judge(run, flat(), Shown(), 100)
    assert (labels.comm_congestion, labels.drift_step, labels.drift) == (True, None, None)


def test_a_layout_names_its_units() -> None:
    run = flat(3, 2, 0.5)
    rng = np.random.default_rng(0)
    shape = Layout(time="s", seconds_name="step_time", comm_name="comm_ms", memory="used_total")
    first = json.loads(write(run, shape, Dirt(), rng)[0])
    assert first["step_time"] == 0.5
    assert first["comm_ms"] == 50.0
    assert first["worker_latencies_ms"] == [450.0, 450.0]
    assert first["gpu_mem_used_mb"] / first["gpu_mem_total_mb"] == pytest.approx(0.6, abs=1e-3)


def test_a_broken_loss_is_written_as_trainers_do() -> None:
    run = flat(3)
    run.loss[2] = np.nan
    rng = np.random.default_rng(0)
    assert b'"loss": NaN' in write(run, Layout(), Dirt(), rng)[2]
    assert b'"loss": "nan"' in write(run, Layout(quoted_nan=True), Dirt(), rng)[2]


def test_dirt_comes_in_the_share_that_was_asked_for() -> None:
    lines = [b'{"step": %d, "step_time_ms": 1.0}' % i for i in range(4000)]
    rng = np.random.default_rng(0)
    out = soil(lines, Dirt(doubled=0.1, cut=0.1, missing=0.1), rng, "step_time_ms")
    whole = [found for found in map(record, out) if found is not None]
    assert 4300 < len(out) < 4500
    assert 0.05 < sum(found["step_time_ms"] is None for found in whole) / len(whole) < 0.15
    assert 0.05 < 1 - len(whole) / len(out) < 0.15
