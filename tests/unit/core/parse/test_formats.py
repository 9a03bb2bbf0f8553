"""Each format by lines as its writer prints them: what is a step, what is not, in which unit, and whatever stands in front."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.parse.columns import NAMES, Columns, concat
from gitops_mk.core.parse.formats.registry import TABLES, TEXTS
from gitops_mk.core.parse.names import FORMATS
from gitops_mk.core.parse.reader import Reader
from gitops_mk.core.parse.sequence import Sequencer
from gitops_mk.errors import InputError

CHATTER = """
Collecting torch==2.4.0
NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>
GET /healthz 200 12ms
saved checkpoint in 45.2s
100%|##########| 500/500 [03:20<00:00,  2.50it/s]
Traceback (most recent call last):
  File "train.py", line 3, in <module>
RuntimeError: CUDA out of memory
time to first batch: 3.2s
I0101 00:00:00.000000       1 train.py:55] warming up
{"config": {"lr": 0.0001}}
[1, 2]
""".strip()

TORCHTITAN = """
[rank0]:[titan] 2026-01-01 00:00:00,000 - root - INFO - Training starts at step 1, with local batch size 8
[rank0]:[titan] 2026-01-01 00:00:01,000 - root - INFO - \x1b[31mstep: 10 \x1b[32mloss:  8.1200 \x1b[38;2;180;60;0mgrad_norm:  1.2 \x1b[36mmemory: 40.10GiB(50.55%) \x1b[34mtps: 5,120 \x1b[35mtflops: 40.1 \x1b[35mmfu: 12.3%\x1b[39m
[rank0]:[titan] 2026-01-01 00:00:05,000 - root - INFO - step: 20  loss:  7.5000  grad_norm:  1.1  memory: 40.10GiB(51%)  tps: 5,000  tflops: 40.1  mfu: 12.3%
[rank0]:[titan] 2026-01-01 00:00:05,100 - root - INFO - validate step: 20  loss:  7.9000  memory: 40.10GiB(51%)  tps: 9,000
[rank0]:[titan] 2026-01-01 00:00:09,000 - root - INFO - step: 30  loss:  nan  grad_norm:  1.1  memory: ?  wps: 4,800  mfu: 12.3%
[rank0]:[titan] 2026-01-01 00:00:09,100 - root - INFO - Saving checkpoint at step 30
"""
MEGATRON = """
 [2026-01-01 00:00:00] iteration      100/  500000 | consumed samples:        25600 | elapsed time per iteration (ms): 6245.3 | throughput per GPU (TFLOP/s/GPU): 400.1 | learning rate: 1.000E-04 | global batch size:   256 | lm loss: 9.100000E+00 | loss scale: 1.0 | grad norm: 1.2 | number of skipped iterations:   0 | number of nan iterations:   0 |
 iteration      200/  500000 | consumed samples:        51200 | elapsed time per iteration (ms): 6100.0/6180.5 | samples per second: 41.97 | lm loss: 8.5/8.8 |
 time (ms) | forward-backward: 6000.0 | optimizer: 200.1
 validation loss at iteration 200 | lm loss value: 8.4E+00 | lm loss PPL: 4447.0 |
  successfully saved checkpoint from iteration     200 to /ckpt
 [iteration: 300 / 500000 | consumed_tokens: 131K | elapsed_time_per_iteration_ms: 6.2K | tokens_per_sec: 46.2K | lm_loss: 7.5]
 iteration      400/  500000 | elapsed time per iteration (s): 6.5 | lm loss: 7.0 |
"""
DEEPSPEED = """
[2026-01-01 00:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[0.001], mom=[(0.9, 0.999)]
steps: 10 loss: 2.1000 iter time (s): 0.512 samples/sec: 128.0
[2026-01-01 00:00:02,123] [INFO] [timer.py:260:stop] epoch=0/micro_step=10/global_step=10, RunningAvgSamplesPerSec=12.3, CurrSamplesPerSec=12.1, MemAllocated=1.0GB, MaxMemAllocated=2.0GB
steps: 20 loss: 2.0500 iter time (s): 0.500 samples/sec: 131.0
steps: 30 loss: 2.0000 iter time (ms): 490.0
"""
TIMER = "".join(
    f"[2026-01-01 00:00:{2 * i:02},000] [INFO] [timer.py:260:stop] epoch=0/micro_step={10 * i}/global_step={10 * i}, RunningAvgSamplesPerSec=12.3, CurrSamplesPerSec={12 + i}.5, MemAllocated=1.0GB\n"
    for i in range(1, 4)
)
HF = """
2026-01-01T00:00:00Z TrainingArguments(
2026-01-01T00:00:00Z logging_steps=10,
2026-01-01T00:00:10.000Z {'loss': 1.2, 'grad_norm': np.float64(0.8), 'learning_rate': 5e-05, 'epoch': 0.1}
2026-01-01T00:00:15.000Z {'loss': '1.1', 'grad_norm': '0.7', 'learning_rate': '4e-05', 'epoch': '0.2'}
2026-01-01T00:00:16.000Z {'eval_loss': 1.0, 'eval_runtime': 12.1, 'eval_samples_per_second': 10.0, 'epoch': 0.2}
2026-01-01T00:00:20.000Z {'loss': nan, 'grad_norm': nan, 'learning_rate': 3e-05, 'epoch': 0.3}
2026-01-01T00:00:21.000Z {'train_runtime': 21.0, 'train_samples_per_second': 100.0, 'train_loss': 1.15, 'epoch': 0.3}
"""
HF_BAR = b"""2026-01-01T00:00:00Z  10%|#  | 50/500 [00:10<01:30,  5.00it/s]\r      \r{'loss': 1.2, 'epoch': 0.1}
2026-01-01T00:00:10Z  20%|## | 100/500 [00:20<01:30,  5.00it/s]\r      \r{'loss': 1.1, 'epoch': 0.2}
2026-01-01T00:00:11Z {'loss': 1.1, 'epoch': 0.2}
"""
STATE = {
    "best_metric": None,
    "epoch": 0.3,
    "global_step": 30,
    "log_history": [
        {"epoch": 0.1, "loss": 1.2, "step": 10, "step_time": 0.5},
        {"epoch": 0.2, "loss": 1.1, "step": 20, "step_time": 0.6, "note": [1]},
        {"epoch": 0.2, "eval_loss": 1.0, "step": 20},
        "odd",
        {"epoch": 0.25, "loss": 1.1, "step": 25, "step_time": "quick"},
        {"epoch": 0.3, "step": 30, "train_loss": 1.0, "train_runtime": 21.0},
    ],
    "logging_steps": 10,
}
RAY = "".join(
    json.dumps(
        {
            "training_iteration": i,
            "time_this_iter_s": 0.5,
            "timestamp": 1_767_225_600 + i,
            "loss": 1.5,
            "config": {"lr": 1e-3, "loss": "mse"},
            "hostname": "node-a",
            "trial_id": "a",
        }
    )
    + "\n"
    for i in range(1, 4)
)
LOGFMT = """
ts=2026-01-01T00:00:00Z level=info msg="step done" step=10 step_time_ms=410 loss=2.31 gpu_util=95
ts=2026-01-01T00:00:01Z level=info msg="step done" step=11 step_time=410ms loss=2.31, gpu_util=95
ts=2026-01-01T00:00:02Z level=info msg="say \\"hi\\" a=1" step=12 step_time=0.41s tokens_per_sec=5,120 data_time=0.2
ts=2026-01-01T00:00:02Z level=info path=/healthz status=200 duration_ms=12
ts=2026-01-01T00:00:03Z level=info msg="saved checkpoint" step=12 took=45.2s
ts=1767225604 step=13 step_time=0.41 worker_latencies_ms=[400;405] worker_nodes=a;b rank=x
event=schedule step=14
"""
LIGHTNING = """epoch,step,train_loss_step,train_loss_epoch,val_loss,iter_time
0,9,2.5,,,0.4
0,19,2.4,,,0.41
0,19,,,2.6,
0,19,,2.45,,
epoch,step,train_loss_step,train_loss_epoch,val_loss,iter_time
1,29,nan,,,0.42
1,29
"""
COMPOSER = """step,time/train,loss/train/total,throughput/samples_per_sec,metrics/eval/Accuracy
1,0.001,2.5,10.0,
11,0.002,2.4,10.0,
11,,,,0.5
21,x,2.3,,
31,0.004,2.2,10.0,
"""


def read(data: str | bytes, format_: str | None = None, **options: Any) -> tuple[Columns, Reader]:
    reader = Reader(format_, **options)
    sequencer = Sequencer()
    raw = data.encode() if isinstance(data, str) else data
    batches = reader.feed(raw) + reader.finish()
    out = [rows for batch in batches for rows in sequencer.feed(batch)]
    return concat(out + sequencer.finish()), reader


def balanced(reader: Reader, records: int) -> bool:
    t = reader.tally
    return t.lines == records + t.invalid_json + t.invalid_shape + t.missing_fields + t.events + t.other + t.merged


SAMPLES: dict[str, str] = {
    "torchtitan": TORCHTITAN,
    "megatron": MEGATRON,
    "deepspeed": DEEPSPEED,
    "hf-trainer": HF,
    "ray": RAY,
    "logfmt": LOGFMT,
    "lightning-csv": LIGHTNING,
    "csv": "ts,step,step_time_ms\n1767225600000,1,100\n1767225600100,2,100\n",
    "jsonl": '{"ts": 1767225600000, "step": 1, "step_time_ms": 100}\n{"ts": 1767225600100, "step": 2, "step_time_ms": 90}\n',
}


def test_every_format_has_a_sample_and_a_reader() -> None:
    assert SAMPLES.keys() == set(FORMATS)
    assert {*TEXTS, *TABLES, "jsonl", "ray"} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_told_from_its_lines_and_read_the_same_by_name(name: str) -> None:
    told, reader = read(SAMPLES[name])
    assert reader.format == name
    named, other = read(SAMPLES[name], name)
    assert all(np.array_equal(getattr(told, n), getattr(named, n), equal_nan=True) for n in NAMES)
    assert astuple(reader.tally) == astuple(other.tally)


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in {"jsonl", "ray"}])
def test_what_else_a_job_prints_is_no_step_and_no_fault(name: str) -> None:
    plain, before = read(SAMPLES[name])
    mixed, reader = read(f"{CHATTER}\n" + SAMPLES[name] + ("" if name.endswith("csv") else CHATTER))
    assert reader.format == name
    assert mixed.step.tolist() == plain.step.tolist()
    assert mixed.step_ms.tolist() == plain.step_ms.tolist()
    tally = reader.tally
    assert tally.invalid_json == 0
    assert tally.invalid_shape == before.tally.invalid_shape
    assert tally.other - before.tally.other == len(CHATTER.splitlines()) * (1 if name.endswith("csv") else 2)


def test_json_lines_amid_chatter() -> None:
    plain, _ = read(SAMPLES["jsonl"])
    mixed, reader = read(CHATTER + "\n" + SAMPLES["jsonl"] + CHATTER)
    assert reader.format == "jsonl"
    assert mixed.step.tolist() == plain.step.tolist()
    assert (reader.tally.invalid_json, reader.tally.invalid_shape, reader.tally.missing_fields) == (20, 2, 2)


def test_torchtitan() -> None:
    columns, reader = read(TORCHTITAN)
    assert columns.step.tolist() == [20.0, 30.0]
    assert columns.step_ms.tolist() == [400.0, 400.0]
    assert columns.loss.tolist() == [7.5, np.inf]
    assert columns.throughput.tolist() == [5000.0, 4800.0]
    assert columns.mem[0] == 51.0
    assert np.isnan(columns.mem[1])
    assert [(e.kind, e.step) for e in reader.events] == [("eval", 20.0), ("checkpoint", 30.0)]
    assert (reader.tally.lines, reader.tally.events, reader.tally.other) == (6, 2, 1)


def test_megatron_and_its_forks() -> None:
    columns, reader = read(MEGATRON)
    assert columns.step.tolist() == [100, 200, 300, 400]
    assert columns.step_ms.tolist() == [6245.3, 6100.0, 6200.0, 6500.0]
    assert columns.loss.tolist() == [9.1, 8.5, 7.5, 7.0]
    assert columns.throughput[1:3].tolist() == [41.97, 46200.0]
    assert columns.ts[0] == 1_767_225_600_000.0
    assert [(e.kind, e.step) for e in reader.events] == [("eval", 200.0), ("checkpoint", 200.0)]


def test_deepspeed() -> None:
    columns, reader = read(DEEPSPEED)
    assert columns.step.tolist() == [10, 20, 30]
    assert columns.step_ms.tolist() == [512.0, 500.0, 490.0]
    assert columns.loss.tolist() == [2.1, 2.05, 2.0]
    assert columns.throughput[:2].tolist() == [128.0, 131.0]
    assert reader.tally.other == 2


def test_deepspeed_by_its_timer() -> None:
    columns, reader = read(TIMER)
    assert reader.format == "deepspeed"
    assert columns.step.tolist() == [20, 30]
    assert columns.step_ms.tolist() == [200.0, 200.0]
    assert columns.throughput.tolist() == [14.5, 15.5]


def test_hf_dicts_by_the_steps_between_two_lines() -> None:
    columns, reader = read(HF)
    assert columns.step.tolist() == [20, 30]
    assert columns.step_ms.tolist() == [500.0, 500.0]
    assert columns.loss.tolist() == [1.1, np.inf]
    assert reader.tally.other == 4


def test_hf_dicts_by_the_bar_on_their_line() -> None:
    columns, reader = read(HF_BAR)
    assert columns.step.tolist() == [100]
    assert columns.step_ms.tolist() == [200.0]
    assert reader.tally.missing_fields == 1


def test_hf_dicts_without_a_time_lack_fields() -> None:
    columns, reader = read("{'loss': 1.2, 'epoch': 0.1}\n{'loss': 1.1, 'epoch': 0.2}\n")
    assert len(columns) == 0
    assert (reader.format, reader.tally.missing_fields) == ("hf-trainer", 2)


def test_python_dicts_with_a_step_time_of_their_own() -> None:
    columns, _ = read("{'step': 7, 'loss': 1.2, 'step_time': 0.4, 'note': 'x', 'when': 1.2.3}\n{'iteration': 'ce'}\n")
    assert (columns.step.tolist(), columns.step_ms.tolist()) == ([7.0], [400.0])


@pytest.mark.parametrize("indent", [None, 2])
def test_the_state_of_a_trainer(indent: int | None) -> None:
    columns, reader = read(json.dumps(STATE, indent=indent) + "\n")
    assert reader.format == "hf-trainer"
    assert columns.step.tolist() == [10, 20]
    assert columns.step_ms.tolist() == [500.0, 600.0]
    assert reader.tally.invalid_shape == 1
    assert [(e.kind, e.step) for e in reader.events] == [("eval", 20.0)]


def test_a_state_that_is_cut_or_odd() -> None:
    whole = json.dumps(STATE, indent=2)
    columns, reader = read(whole[: whole.index('"step": 20')])
    assert columns.step.tolist() == [10]
    for odd in (
        '{"log_history": 3}',
        '{"log_history": [',
        '"log_history": [\n{\n"loss": ,\n}\n]',
        '"log_history": [\n{\n' + "1\n" * 600,
        '["log_history"]',
    ):
        columns, reader = read(odd, "hf-trainer")
        assert len(columns) == 0
        assert reader.tally.other == reader.tally.lines


def test_ray_results() -> None:
    columns, reader = read(RAY)
    assert columns.step.tolist() == [1, 2, 3]
    assert columns.step_ms.tolist() == [500.0] * 3
    assert columns.loss.tolist() == [1.5] * 3
    assert list(reader.tally.nodes) == ["node-a"]


def test_logfmt() -> None:
    columns, reader = read(LOGFMT)
    assert columns.step.tolist() == [10, 11, 12, 13]
    assert columns.step_ms.tolist() == [410.0] * 4
    assert columns.loss[:2].tolist() == [2.31, 2.31]
    assert columns.util[:2].tolist() == [95.0, 95.0]
    assert (columns.throughput[2], columns.wait_ms[2]) == (5120.0, 200.0)
    assert columns.ts[3] == 1_767_225_604_000.0
    assert [(e.kind, e.step) for e in reader.events] == [("checkpoint", 12.0), ("schedule", 14.0)]
    assert reader.tally.other == 1


def test_logfmt_with_a_request_that_took_its_time() -> None:
    columns, _ = read("step=1 step_time_ms=5\npath=/healthz duration_ms=12\npath=/train step=2 step_time_ms=6\n")
    assert columns.step_ms.tolist() == [5.0, 6.0]


def test_lightning() -> None:
    columns, reader = read(LIGHTNING)
    assert columns.step.tolist() == [9, 19, 29]
    assert columns.step_ms.tolist() == [400.0, 410.0, 420.0]
    assert columns.loss.tolist() == [2.5, 2.4, np.inf]
    assert (reader.tally.lines, reader.tally.other, reader.tally.invalid_shape) == (7, 3, 1)


def test_composer_by_the_time_trained_so_far() -> None:
    columns, reader = read(COMPOSER)
    assert reader.format == "lightning-csv"
    assert columns.step.tolist() == [11, 31]
    assert columns.step_ms.tolist() == pytest.approx([360.0, 360.0])
    assert reader.tally.other == 1
    assert reader.tally.missing_fields == 2


def test_a_table_behind_time_stamps() -> None:
    data = "2026-01-01T00:00:00Z step,step_time_ms,rank,worker_ids\n2026-01-01T00:00:01Z 1,100,3,a;b\n2026-01-01T00:00:02Z 2,x,b,\n"
    columns, reader = read(data)
    assert columns.ts.tolist() == [1_767_225_601_000.0]
    assert reader.tally.worker_ids == ("a", "b")
    assert reader.tally.invalid_shape == 1


PREFIXES = [
    "2026-01-01T00:00:00.123456789Z ",
    "2026-01-01T00:00:00.123Z stdout F ",
    "[2026-01-01 00:00:00,123] [INFO] ",
    "INFO 2026-01-01 00:00:00.123 ",
    "2026/01/01 00:00:00.123 UTC ",
    "\x1b[32m2026-01-01 00:00:00.123\x1b[0m | INFO     | train:main:42 - ",
    "2026-01-01 01:00:00.123 +0100 [rank0]: ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "line", ['{"step": 5, "step_time_ms": 100}', "step=5 step_time_ms=100", "{'step': 5, 'step_time': 0.1, 'loss': 1}"]
)
def test_the_time_in_front_of_a_line_is_the_records(prefix: str, line: str) -> None:
    columns, _ = read(f"{prefix}{line}\n")
    assert columns.step.tolist() == [5.0]
    assert columns.ts.tolist() == pytest.approx([1_767_225_600_123.0], abs=1)


def test_a_time_of_its_own_goes_before_the_one_in_front() -> None:
    data = '{"step": 4, "step_time_ms": 1, "ts": 1767225600000}\n2026-01-02T00:00:00Z {"step": 5, "step_time_ms": 1, "ts": 1767225601000}\n2026-01-02T00:00:00Z {"step": 6, "step_time_ms": 1, "new": 1}\n'
    columns, _ = read(data)
    assert columns.ts.tolist() == [1_767_225_600_000.0, 1_767_225_601_000.0, 1_767_312_000_000.0]


def test_a_front_that_no_key_is_left_for() -> None:
    many = {f"k{i}": i for i in range(200)} | {"step_time_ms": 5}
    columns, _ = read(
        json.dumps({"step_time_ms": 5} | many) + "\n2026-01-02T00:00:00Z " + json.dumps({"step_time_ms": 6}) + "\n"
    )
    assert columns.step_ms.tolist() == [5.0, 6.0]


def test_a_time_that_no_calendar_has_is_no_time() -> None:
    columns, reader = read("2026-99-01T00:00:00Z step=1 step_time_ms=5\n")
    assert len(columns) == 0
    assert reader.tally.invalid_shape == 1
    columns, reader = read("ts=[1] step=1 step_time_ms=5\nstep_time_ms=soon loss=1\n")
    assert reader.tally.invalid_shape == 1


def test_a_front_without_end() -> None:
    columns, _ = read("[a] " * 9 + "step=1 step_time_ms=5\n" + "[a] " * 99 + "step=2 step_time_ms=5\n")
    assert columns.step.tolist() == [1.0, 2.0]


def test_objects_are_looked_into_one_deep() -> None:
    lines = [
        {"step": 1, "metrics": {"loss": 2.5, "step_time_s": 0.4, "gpu_util": 90}},
        {"step": 2, "metrics": {"loss": 2.4, "step_time_s": 0.5}, "time_metrics": {"data_loading(s)": 0.1}},
        {"step": 3, "train.loss": 2.3, "time_metrics/end_to_end(s)": 0.6, "eval": {"loss": 9}},
        {"step": 4, "train": {"loss": 2.2, "step_time": 0.7}, "loss": 1.0, "deep": {"metrics": {"loss": 9}}},
        {"step": 5, "metrics": None, "step_time_ms": 800},
        {"step": 6, "metrics": {"loss": {"total": 5}, "step_time": 0.9}},
        {"step": 6, "eval": {"loss": 9, "step_time": 4}},
        {"step": 6, "metrics": {"x": 1}},
        {"step": 7, "loss": 7.5, "step_time": 1, "metrics": {"loss": 1}},
    ]
    columns, reader = read("".join(json.dumps(x) + "\n" for x in lines))
    assert columns.step.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert columns.step_ms.tolist() == [400, 500, 600, 700, 800, 900, 1000]
    assert columns.loss[6] == 7.5
    assert columns.loss[:4].tolist() == [2.5, 2.4, 2.3, 1.0]
    assert (columns.wait_ms[1], columns.util[0]) == (100.0, 90.0)
    assert (reader.tally.other, reader.tally.missing_fields) == (1, 1)


def test_rows_of_a_validation_and_requests_are_no_steps() -> None:
    lines = [
        {"ts": 1767225600, "step": 1, "step_time_ms": 100, "loss": 2, "val_loss": None},
        {"ts": 1767225601, "step": 1, "val_loss": 3.0},
        {"ts": 1767225601, "step": 1, "eval/acc": 0.5, "val_loss": None},
        {"ts": 1767225601, "path": "/healthz", "latency_ms": 3},
        {"ts": 1767225602, "step": 2, "step_time_ms": 100, "loss": 2, "validation_loss": 3.0, "path": "x"},
    ]
    columns, reader = read("".join(json.dumps(x) + "\n" for x in lines))
    assert columns.step.tolist() == [1, 2]
    assert reader.tally.other == 3


def test_nan_however_it_is_spelt() -> None:
    data = '{"step_time_ms": 1, "loss": nan}\n{"step_time_ms": 2, "loss": inf, "worker_latencies_ms": [1, nan]}\n{"step_time_ms": nan oh}\n{"step_time_ms": 3, "loss": -inf}\n{"step_time_ms": 4, "loss": null}\n{"step_time_ms": 5, "loss": nan, oh}\n'
    columns, reader = read(data)
    assert columns.loss[:3].tolist() == [np.inf] * 3
    assert np.isnan(columns.loss[3])
    assert reader.tally.invalid_json == 2


def test_a_jobs_own_names() -> None:
    fields = {"step_time_s": "t_iter", "loss": "model.objective", "throughput": "speed"}
    data = '{"step": 1, "t_iter": 0.4, "step_time_ms": 9, "model": {"objective": 3}, "speed": 5}\n'
    columns, _ = read(data, fields=fields)
    assert (columns.step_ms.tolist(), columns.loss.tolist(), columns.throughput.tolist()) == ([400.0], [3.0], [5.0])
    columns, _ = read("step=1 t_iter=0.4 speed=5\n", fields=fields)
    assert columns.step_ms.tolist() == [400.0]
    columns, _ = read("step,t_iter\n1,0.4\n", fields=fields)
    assert columns.step_ms.tolist() == [400.0]
    columns, _ = read(" iteration 1/ 5 | t_iter: 0.4 |\n", fields=fields)
    assert columns.step_ms.tolist() == [400.0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"speed": "x"}, "field 'speed'"), ({"loss": "x", "step": "x"}, "'x' can't stand for step"), ({"loss": ""}, "''")],
)
def test_names_that_can_not_be_are_refused(fields: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Reader(fields=fields)


def test_planned_events_from_the_configuration() -> None:
    _, reader = read(SAMPLES["jsonl"], planned=[(40, "schedule"), (50.0, "eval")])
    assert [(e.kind, e.step) for e in reader.events] == [("schedule", 40.0), ("eval", 50.0)]
    assert reader.finish() == []
    assert len(reader.events) == 2
    with pytest.raises(InputError, match="planned: 'party', expected one of checkpoint, eval"):
        Reader(planned=[(1, "party")])


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("Saving checkpoint at step 500", ("checkpoint", 500.0)),
        ("Saving model checkpoint to ./out/checkpoint-500", ("checkpoint", 500.0)),
        ("checkpoint at step 40 saved", ("checkpoint", 40.0)),
        ("Checkpoint was saved (step=41)", ("checkpoint", 41.0)),
        ("Resuming from step 1200", ("resume", 1200.0)),
        ("loaded checkpoint /x at iteration 1000", ("resume", 1000.0)),
        ("Running evaluation at step 60", ("eval", 60.0)),
        ("saved checkpoint in 45.2s", None),
        ("we continue", None),
    ],
)
def test_events_announced_in_words(text: str, event: tuple[str, float] | None) -> None:
    _, reader = read(f"step=1 step_time_ms=5\n2026-01-01T00:00:00Z INFO {text}\n")
    assert [(e.kind, e.step) for e in reader.events] == ([event] if event else [])
    assert (reader.tally.events, reader.tally.other) == ((1, 0) if event else (0, 1))


REAL = [line.encode() for sample in SAMPLES.values() for line in sample.splitlines()] + [
    line.encode() for line in (CHATTER + COMPOSER + TIMER + json.dumps(STATE, indent=2)).splitlines()
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real line with a piece cut out, doubled, or overwritten."""
    line = draw(st.sampled_from(REAL))
    a = draw(st.integers(0, len(line)))
    b = draw(st.integers(a, min(len(line), a + 12)))
    return (
        line[:a]
        + draw(st.sampled_from([b"", line[a:b] * 2, b"\r", b"nan", b"1e999", b"{", b'"', b"=", b",", b"\xff"]))
        + line[b:]
    )


LINE = st.one_of(st.sampled_from(REAL), mutated(), st.binary(max_size=40))
CUTS = st.lists(st.integers(0, 4000), max_size=4)


def fingerprint(data: bytes, format_: str | None, cuts: list[int]) -> tuple[Any, ...]:
    reader = Reader(format_)
    out: list[Columns] = []
    edges = [0, *sorted(c for c in cuts if c <= len(data)), len(data)]
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        out += reader.feed(data[a:b])
    columns = concat(out + reader.finish())
    assert balanced(reader, len(columns))
    filled = columns.workers[:, ~np.isnan(columns.workers).all(axis=0)] if len(columns) else columns.workers[:, :0]
    plain = (getattr(columns, n).tobytes() for n in NAMES[:-1])
    return (*plain, filled.shape, filled.tobytes(), astuple(reader.tally), reader.events, reader.format)


@given(st.one_of(st.none(), st.sampled_from(FORMATS)), st.lists(LINE, max_size=25), CUTS)
def test_any_lines_in_any_format_are_counted_once_and_cuts_make_no_difference(
    format_: str | None, lines: list[bytes], cuts: list[int]
) -> None:
    data = b"\n".join(lines)
    if format_ in TABLES:
        # The header is no line of its own; without one the first line would be it.
        data = b"step,step_time_ms,rank,loss\n" + data
    assert fingerprint(data, format_, cuts) == fingerprint(data, format_, [])
