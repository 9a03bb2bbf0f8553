"""A log read back for the baselines and the metamorphic checks: its own small reader, so that nothing of the product's is shared."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tests.bench.decisions.truth import Floats

SECONDS = {
    "step_time_ms": 1e-3,
    "latency_ms": 1e-3,
    "step_time_s": 1.0,
    "step_time": 1.0,
    "iter_time": 1.0,
    "time_this_iter_s": 1.0,
}
LOSS = ("loss", "train_loss", "train/loss", "lm loss", "reduced_train_loss")
RATES = ("throughput", "tokens_per_sec", "samples_per_sec", "tps", "train_samples_per_second", "samples/sec")
COMM = ("comm_ms", "comm_s")
UTIL = ("gpu_util_pct", "DCGM_FI_DEV_GPU_UTIL", "gpu_util", "gpu_utilization")
TIMES = ("ts", "timestamp", "@timestamp", "time", "t", "_timestamp")


def content(path: Path) -> bytes:
    """The bytes of a log, unpacked."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def record(line: bytes) -> dict[str, Any] | None:
    """A line's record; None for what is none. `NaN` and `Infinity` are read as trainers write them."""
    try:
        found = orjson.loads(line)
    except ValueError:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Table:
    """The columns that a baseline looks at; empty where the log has none."""

    seconds: Floats
    loss: Floats
    workers: Floats
    util: Floats


def table(data: bytes) -> Table:
    """The lines with a step time, in the order of the file."""
    seconds: list[float] = []
    loss: list[float] = []
    util: list[float] = []
    workers: list[list[float]] = []
    for line in data.splitlines():
        found = record(line)
        if found is None:
            continue
        name = next((n for n in SECONDS if isinstance(found.get(n), int | float)), None)
        if name is None or not found[name] > 0:
            continue
        seconds.append(found[name] * SECONDS[name])
        loss.append(_number(found, LOSS))
        util.append(_number(found, UTIL))
        row = found.get("worker_latencies_ms")
        if isinstance(row, list):
            workers.append(row)
    width = len(workers[0]) if workers else 0
    same = [row for row in workers if len(row) == width]
    return Table(
        np.array(seconds),
        np.array(loss),
        np.array(same, dtype=np.float64) if width else np.zeros((0, 0)),
        np.array(util),
    )


def _number(found: dict[str, Any], names: tuple[str, ...]) -> float:
    for name in names:
        value = found.get(name)
        if isinstance(value, int | float):
            return float(value)
    return float("nan")
